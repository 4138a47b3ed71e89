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

/// `bakeoff.yaml`, key for key.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "bakeoff.yaml")]
pub struct RawSpec {
    /// Version of the format.
    pub version: u32,
    /// Short name.
    pub name: String,
    /// One line on what is disputed.
    pub title: String,
    /// The mail thread.
    #[serde(default)]
    pub thread: Option<Thread>,
    /// Base name → where it comes from.
    pub bases: Ordered<RawBase>,
    /// Candidate name → what it is.
    pub candidates: Ordered<RawCandidate>,
    /// Names of architectures.
    pub architectures: Vec<String>,
    /// Names of profiles.
    pub profiles: Vec<String>,
    /// Names of profiles that a run does only if it is asked for them.
    #[serde(default)]
    pub on_request: Vec<String>,
    /// What is measured.
    pub probes: Vec<RawProbe>,
    /// What commands need in the guest.
    #[serde(default)]
    pub pack: Pack,
    /// What the virtual machine is like, where it is not as usual.
    #[serde(default)]
    pub machine: MachineSpec,
    /// What candidates are judged by; left out: by what the probes declare.
    #[serde(default)]
    pub claims: Vec<RawClaim>,
    /// Time the measuring may take, as `20 min`; claims that are open by then stay so.
    #[serde(default)]
    pub budget: Option<String>,
    /// What was expected before anything was measured.
    #[serde(default)]
    pub predictions: Vec<Prediction>,
    /// What `--gate` insists on.
    #[serde(default)]
    pub gates: Vec<Gate>,
    /// Splats that blame nobody.
    #[serde(default, rename = "known_splats", alias = "known-splats")]
    pub known_splats: Vec<KnownSplat>,
    /// What is fuzzed.
    #[serde(default)]
    pub fuzz: Option<RawFuzz>,
}

/// Where a base comes from: exactly one of the keys.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "Base")]
pub struct RawBase {
    /// A package of Debian.
    #[serde(default)]
    pub debian: Option<RawDebian>,
    /// A git repository.
    #[serde(default)]
    pub git: Option<RawGit>,
    /// A directory, relative to the spec.
    #[serde(default)]
    pub directory: Option<PathBuf>,
}

/// A package of Debian.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Debian")]
pub struct RawDebian {
    /// Package name.
    pub package: String,
    /// Exact version.
    pub version: String,
    /// SHA-256 of the `.deb`, hexadecimal.
    pub sha256: String,
}

/// A git repository and a revision.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Git")]
pub struct RawGit {
    /// Path, relative to the spec.
    pub repository: PathBuf,
    /// Anything `git rev-parse` knows.
    pub revision: String,
}

/// A candidate.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "Candidate")]
pub struct RawCandidate {
    /// What it is for.
    #[serde(default)]
    pub role: Role,
    /// One line on what it does.
    pub title: String,
    /// It has no patches.
    #[serde(default)]
    pub stock: bool,
    /// What is known not to be tested.
    #[serde(default)]
    pub untested: Option<String>,
    /// The probe that tests it after all.
    #[serde(default)]
    pub tested_by: Option<String>,
    /// Base name → why it cannot exist there.
    #[serde(default)]
    pub not_portable: BTreeMap<String, String>,
}

/// A measurement. What is no key of this table is a parameter of the probe.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Probe")]
pub struct RawProbe {
    /// Name of a probe.
    pub probe: String,
    /// Visits on each kernel; left out: 4, and for conditions of claims as many as the
    /// looks say.
    #[serde(default)]
    pub visits: Option<u32>,
    /// Blocks of a visit; left out: as the probe has it.
    #[serde(default)]
    pub blocks: Option<u32>,
    /// Calls of a block; left out: as the probe has it.
    #[serde(default)]
    pub calls_per_block: Option<u32>,
    /// Milliseconds a block may take; left out: as the probe has it.
    #[serde(default)]
    pub block_ms: Option<u32>,
    /// Profiles it is done in; left out: all.
    #[serde(default)]
    pub profiles: Vec<String>,
    /// It gets boots of its own.
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
    /// Its name, short enough for the head of a column.
    pub claim: String,
    /// What it asks, in a reader's words.
    pub question: String,
    /// The metric.
    pub metric: String,
    /// Conditions by label, or by any leading part of it.
    pub conditions: Vec<String>,
    /// Losses below it do not count: `2 points` of a share, `5 %` of the reference's
    /// number; left out: the metric's own.
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
