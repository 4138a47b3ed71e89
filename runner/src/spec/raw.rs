// SPDX-License-Identifier: MIT OR Apache-2.0
//! The YAML key for key, before anybody asks what it means.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use bakeoff_fuzz::wire::{Context as ProbeContext, Interface, Stack, Stress};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::many::Many;
use super::{Gate, KnownSplat, Prediction, RawFuzz, Role, Thread, did_you_mean};

/// `bakeoff.yaml`, key for key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
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
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
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
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDebian {
    /// Package name.
    pub package: String,
    /// Exact version.
    pub version: String,
    /// SHA-256 of the `.deb`, hexadecimal.
    pub sha256: String,
}

/// A git repository and a revision.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawGit {
    /// Path, relative to the spec.
    pub repository: PathBuf,
    /// Anything `git rev-parse` knows.
    pub revision: String,
}

/// A candidate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
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

/// A measurement.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawProbe {
    /// Name of a probe.
    #[serde(deserialize_with = "probe_name")]
    pub probe: String,
    /// Where the samples come from.
    pub context: ProbeContext,
    /// What else goes on.
    #[serde(default = "idle")]
    pub stress: Stress,
    /// Asked distance between samples in microseconds; a list is a sweep.
    #[serde(default)]
    pub period_us: Many<u32>,
    /// Asked share of time in percent that the writer holds or waits for the lock;
    /// a list is a sweep.
    #[serde(default)]
    pub writer_duty: Many<u8>,
    /// Which helper is asked.
    #[serde(default)]
    pub interface: Interface,
    /// What the sampled stack looks like.
    #[serde(default)]
    pub stack: Stack,
    /// Blocks to take.
    pub blocks: u32,
    /// Eligible calls in a block.
    pub calls_per_block: u32,
    /// Milliseconds a block may take.
    pub block_ms: u32,
    /// Boots that the blocks are spread over.
    #[serde(default = "one")]
    pub boots: u32,
    /// Half the width of the interval at which a rate is known well enough: the step
    /// then ends before its last block.
    #[serde(default)]
    pub precise_to: Option<f64>,
    /// Rates that differ by less than this are the same; left out: than the margin of
    /// the comparison.
    #[serde(default)]
    pub margin: Option<f64>,
    /// Profiles it is done in; left out: all.
    #[serde(default)]
    pub profiles: Vec<String>,
    /// It gets boots of its own.
    #[serde(default)]
    pub own_boot: bool,
    /// `--quick` keeps it.
    #[serde(default)]
    pub quick: bool,
}

fn idle() -> Stress {
    Stress::Idle
}

/// Refuses an unknown probe where it stands, so that the error has its line.
fn probe_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    let known = crate::spec::plan::PROBES.iter().map(|probe| probe.name);
    if known.clone().any(|probe| probe == name) {
        return Ok(name);
    }
    Err(D::Error::custom(format!("there is no probe `{name}`; {}", did_you_mean(&name, known))))
}

/// A YAML mapping in the order of the file; a repeated key is an error.
#[derive(Clone, Debug)]
pub struct Ordered<T>(pub Vec<(String, T)>);

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
                        return Err(A::Error::custom(format!("`{key}` stands here twice")));
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

fn one() -> u32 {
    1
}
