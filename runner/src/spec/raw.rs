// SPDX-License-Identifier: MIT OR Apache-2.0
//! The YAML key for key, before anybody asks what it means.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use bakeoff_fuzz::wire::Params;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::guest::{MachineSpec, Pack};
use super::{Gate, KnownSplat, Prediction, RawFuzz, Role, Thread};

/// A bake-off: one problem, kernels, candidates, and what is measured.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "bakeoff.yaml")]
pub struct RawSpec {
    /// Version of the format: 1.
    pub version: u32,
    /// Short name, the same as the folder's.
    pub name: String,
    /// One line on what is disputed.
    pub title: String,
    /// The mail thread.
    #[serde(default)]
    pub thread: Option<Thread>,
    /// Kernels that the candidates are tried on. The name of a base is also the name of the
    /// folder with its patches.
    pub bases: Ordered<RawBase>,
    /// What competes. The name of a candidate is also the name of the folder with its patches.
    pub candidates: Ordered<RawCandidate>,
    /// Architectures, each with a `qemu/<name>.yaml`.
    pub architectures: Vec<String>,
    /// Kernel configurations, each with a `kconfigs/<name>.config`.
    pub profiles: Vec<String>,
    /// More profiles, for runs with `--profile`.
    #[serde(default)]
    pub on_request: Vec<String>,
    /// What is measured.
    pub probes: Vec<RawProbe>,
    /// What the commands of the probe `command` need in the guest.
    #[serde(default)]
    pub pack: Pack,
    /// The virtual machine, where it is not the usual one.
    #[serde(default)]
    pub machine: MachineSpec,
    /// What candidates are judged by. Without it: every metric that a probe declares as
    /// judged, with the probe's own margin.
    #[serde(default)]
    pub claims: Vec<RawClaim>,
    /// Time that the boots may take, such as `20 min`. What is judged comes first, then more
    /// visits for claims that are open, then what is only shown. Claims that are open by then
    /// stay open.
    #[serde(default)]
    pub budget: Option<String>,
    /// The same for `--quick`; without it that of all.
    pub quick_budget: Option<String>,
    /// What was expected before anything was measured.
    #[serde(default)]
    pub predictions: Vec<Prediction>,
    /// What `--gate` insists on.
    #[serde(default)]
    pub gates: Vec<Gate>,
    /// Kernel reports that everybody knows of. They are shown with their reason and count
    /// against nobody.
    #[serde(default, rename = "known_splats", alias = "known-splats")]
    pub known_splats: Vec<KnownSplat>,
    /// Fuzzing, if there is to be any.
    #[serde(default)]
    pub fuzz: Option<RawFuzz>,
}

/// A kernel source. Exactly one of the keys.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "Base")]
pub struct RawBase {
    /// A source package of Debian.
    #[serde(default)]
    pub debian: Option<RawDebian>,
    /// A revision of a local git repository.
    #[serde(default)]
    pub git: Option<RawGit>,
    /// A folder with a kernel tree, relative to the spec.
    #[serde(default)]
    pub directory: Option<PathBuf>,
}

/// A source package of Debian, pinned by version and hash.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Debian")]
pub struct RawDebian {
    /// The package, such as `linux-source-6.12`.
    pub package: String,
    /// Its exact version.
    pub version: String,
    /// SHA-256 of the `.deb`, hexadecimal.
    pub sha256: String,
}

/// A git repository and a revision.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Git")]
pub struct RawGit {
    /// The repository's folder, relative to the spec.
    pub repository: PathBuf,
    /// A tag, branch or commit.
    pub revision: String,
}

/// A patch series, or the stock tree.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "Candidate")]
pub struct RawCandidate {
    /// What it is for.
    #[serde(default)]
    pub role: Role,
    /// One line on what it does.
    pub title: String,
    /// It is the tree as it is, without patches.
    #[serde(default)]
    pub stock: bool,
    /// It is somebody else's: it is built in a sandbox, as what `--add` adds is.
    #[serde(default)]
    pub foreign: bool,
    /// What this bake-off does not test of it. The report says so.
    #[serde(default)]
    pub untested: Option<String>,
    /// The probe that does test that, if it proves to be sensitive in the same run.
    #[serde(default)]
    pub tested_by: Option<String>,
    /// Bases it cannot be ported to, each with the reason.
    #[serde(default)]
    pub not_portable: BTreeMap<String, String>,
}

/// A measurement: a probe under one condition, or under several if a parameter is a list.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Probe")]
pub struct RawProbe {
    /// The probe.
    pub probe: String,
    /// Visits on each kernel. Without it: 4, and for conditions of claims as many as it
    /// takes to settle them.
    #[serde(default)]
    pub visits: Option<u32>,
    /// Blocks in a visit. Without it: the probe's own number.
    #[serde(default)]
    pub blocks: Option<u32>,
    /// Calls in a block. Without it: the probe's own number.
    #[serde(default)]
    pub calls_per_block: Option<u32>,
    /// Milliseconds after which a block ends with the calls it has. Without it: the probe's
    /// own number.
    #[serde(default)]
    pub block_ms: Option<u32>,
    /// Profiles in which it is measured. Without it: all.
    #[serde(default)]
    pub profiles: Vec<String>,
    /// It gets boots of its own, since what it leaves behind would spoil other measurements.
    #[serde(default)]
    pub own_boot: bool,
    /// `--quick` keeps it.
    #[serde(default)]
    pub quick: bool,
    /// The probe's own parameters; a list is a sweep where the probe allows it.
    #[serde(flatten)]
    pub params: Params,
}

/// Keys of a measurement that are no parameters, next to `probe`.
pub const PROBE_KEYS: &[&str] =
    &["visits", "blocks", "calls-per-block", "block-ms", "profiles", "own-boot", "quick"];

/// A question that candidates are judged by.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "Claim")]
pub struct RawClaim {
    /// Its name: one word of at most 24 letters.
    pub claim: String,
    /// What it asks, in words for the reader of the report.
    pub question: String,
    /// The metric that decides.
    pub metric: String,
    /// In which conditions, by their whole label or by a leading part of it.
    pub conditions: Vec<String>,
    /// Losses below it do not count: `2 points` of a share, or `5 %` of the reference's
    /// number. Without it: the metric's own.
    #[serde(default)]
    pub margin: Option<String>,
}

/// A YAML mapping in the order of the file; a repeated key is an error.
#[derive(Clone, Debug)]
pub struct Ordered<T>(pub Vec<(String, T)>);

impl<T: JsonSchema> JsonSchema for Ordered<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        BTreeMap::<String, T>::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<String, T>::json_schema(generator)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Vec<(String, T)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries: Vec<(String, T)> = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if entries.iter().any(|(name, _)| *name == key) {
                        return Err(A::Error::custom(format!("`{key}` is given twice")));
                    }
                    let value = map.next_value()?;
                    entries.push((key, value));
                }
                Ok(entries)
            }
        }
        from.deserialize_map(Entries(PhantomData)).map(Ordered)
    }
}
