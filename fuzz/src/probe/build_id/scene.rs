// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stack that is sampled: which functions of which files, and where each
//! frame may lie.
//!
//! | stack | frames, innermost first |
//! |---|---|
//! | short | leaf, middle, outer, base: all in the executable |
//! | one | the leaf; its frame pointer is hidden |
//! | deep | leaf, 16 relays taking turns in two objects, middle, outer, base |
//!
//! Where headers are to be missing, the leaf lies in an object of its own.

use std::fs::File;
use std::io::Read;
use std::ops::Range;

use super::method::Method;
use super::params::Asked;
use super::words::{Stack, Stress};
use crate::elf::{BUILD_ID_LENGTH, Elf};
use crate::failure::Failure;
use crate::object::{CODE_AT, Object};
use crate::sys;
use crate::sys::sampled::{self, RELAYS, Spot};

/// As much of the executable as is read: headers and build id come first.
const ELF_PREFIX: u64 = 64 << 10;
/// Where objects are written: a tmpfs, so that their pages are always resident.
const FOLDER: &str = "/tmp";
/// How often a deep stack goes through all relays of both objects.
const ROUNDS: usize = 2;

/// Where one frame may lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Legal {
    /// The file's build id.
    pub build_id: [u8; BUILD_ID_LENGTH],
    /// Offsets in the file.
    pub offsets: Range<u64>,
}

/// A file with a copy of the sampled code.
struct Place {
    build_id: [u8; BUILD_ID_LENGTH],
    /// Where the code begins in the file.
    file_at: u64,
    /// Where it begins in memory.
    at: u64,
}

impl Place {
    fn frame(&self, spot: Spot) -> Result<Legal, Failure> {
        let legal = sampled::legal(spot).ok_or_else(|| no_such(spot))?;
        let offsets = self.file_at + legal.start..self.file_at + legal.end;
        Ok(Legal { build_id: self.build_id, offsets })
    }

    fn function(&self, spot: Spot) -> Result<u64, Failure> {
        Ok(self.at + sampled::entry(spot).ok_or_else(|| no_such(spot))?)
    }
}

fn no_such(spot: Spot) -> Failure {
    Failure::new(format!("the sampled code has no {spot:?} to call"))
}

/// The stack, ready to be run.
pub struct Scene {
    /// Functions to call, outermost first; ends in the leaf.
    pub chain: Vec<u64>,
    /// Every frame of a whole walk, innermost first.
    pub frames: Vec<Legal>,
    /// Whether the leaf hides its callers.
    pub alone: bool,
    /// The file the leaf is in, and the place of its act there.
    pub leaf: (String, u64),
    objects: Vec<Object>,
}

impl Scene {
    /// Arranges what is asked for.
    pub fn set(asked: &Asked, method: &Method) -> Result<Self, Failure> {
        let executable = executable()?;
        let count = match (asked.stress, asked.stack) {
            (Stress::PageOut, _) => 1,
            (_, Stack::Deep) => 2,
            (_, Stack::Short | Stack::One) => 0,
        };
        let load = |number| Object::load(FOLDER, number, sampled::code());
        let objects: Vec<Object> = (0..count)
            .map(load)
            .collect::<Result<_, _>>()
            .map_err(|e| Failure::at("making a shared object", &e))?;
        let places: Vec<Place> = objects
            .iter()
            .map(|o| Place { build_id: o.build_id, file_at: CODE_AT, at: o.address() })
            .collect();
        let (leaf_in, path) = match (asked.stress, places.first(), objects.first()) {
            (Stress::PageOut, Some(place), Some(object)) => (place, object.path()),
            _ => (&executable, executable_path()?),
        };
        let mut calls = Vec::new();
        if asked.stack == Stack::Deep {
            for relay in (0..ROUNDS * RELAYS).map(|number| Spot::Relay(number % RELAYS)) {
                calls.extend(places.iter().map(|place| (place, relay)));
            }
        }
        calls.push((leaf_in, method.spot));
        let chain: Result<Vec<u64>, Failure> =
            calls.iter().map(|(place, spot)| place.function(*spot)).collect();
        let alone = asked.stack == Stack::One;
        let outer = [Spot::Middle, Spot::Outer, Spot::Base].map(|spot| (&executable, spot));
        let walk = calls.iter().rev().copied().chain(outer);
        let frames: Result<Vec<Legal>, Failure> = walk
            .take(if alone { 1 } else { usize::MAX })
            .map(|(place, spot)| place.frame(spot))
            .collect();
        let act = leaf_in.frame(Spot::Act(method.leaf))?.offsets.start;
        Ok(Self { chain: chain?, frames: frames?, alone, leaf: (path, act), objects })
    }

    /// Takes the pages with the build ids of all objects away.
    pub fn drop_headers(&self) -> Result<(), Failure> {
        for object in &self.objects {
            object
                .drop_headers()
                .map_err(|e| Failure::at("taking an object's headers away", &e))?;
        }
        Ok(())
    }
}

fn executable_path() -> Result<String, Failure> {
    let path =
        std::env::current_exe().map_err(|e| Failure::at("looking for the executable", &e))?;
    path.into_os_string().into_string().map_err(|_| Failure::new("the executable has an odd name"))
}

/// The sampled code in our own executable.
fn executable() -> Result<Place, Failure> {
    let mut file = Vec::new();
    File::open("/proc/self/exe")
        .and_then(|exe| exe.take(ELF_PREFIX).read_to_end(&mut file))
        .map_err(|e| Failure::at("reading /proc/self/exe", &e))?;
    let elf = Elf::parse(&file).map_err(Failure::new)?;
    let at = sampled::code_at();
    let code = at..at + sampled::code().len() as u64;
    let range = elf
        .file_range(&code, sys::program_headers_at())
        .ok_or_else(|| Failure::new("the sampled code lies outside the executable's segments"))?;
    Ok(Place { build_id: elf.build_id, file_at: range.start, at })
}

#[cfg(test)]
mod tests {
    use super::super::params::tests::asked;
    use super::super::words::Context;
    use super::*;

    fn scene(stack: Stack, stress: Stress) -> Scene {
        let asked = Asked { stack, stress, ..asked(Context::Process) };
        Scene::set(&asked, &Method::of(&asked)).unwrap()
    }

    /// Each stack has its number of frames; a deep one goes through three files,
    /// whose ids differ, and no two neighbours are in the same object.
    #[test]
    fn stacks_have_their_frames() {
        let short = scene(Stack::Short, Stress::Idle);
        assert_eq!((short.frames.len(), short.chain.len()), (4, 1));
        let one = scene(Stack::One, Stress::Idle);
        assert_eq!((one.frames.len(), one.chain.len(), one.alone), (1, 1, true));
        assert_eq!(one.frames[0], short.frames[0]);
        let deep = scene(Stack::Deep, Stress::Idle);
        assert_eq!((deep.frames.len(), deep.chain.len()), (20, 17));
        let ids: std::collections::BTreeSet<_> = deep.frames.iter().map(|f| f.build_id).collect();
        assert_eq!(ids.len(), 3);
        assert!(deep.frames[1..17].windows(2).all(|pair| pair[0].build_id != pair[1].build_id));
        assert_eq!(deep.frames[17..], short.frames[1..]);
    }

    /// Without headers the leaf is in the object that lost them, and nothing else is.
    #[test]
    fn page_out_moves_the_leaf() {
        let scene = scene(Stack::Short, Stress::PageOut);
        let short = super::tests::scene(Stack::Short, Stress::Idle);
        assert_ne!(scene.frames[0].build_id, short.frames[0].build_id);
        assert_eq!(scene.frames[1..], short.frames[1..]);
        scene.drop_headers().unwrap();
        let file = std::fs::read(&scene.leaf.0).unwrap();
        assert!(Elf::parse(&file).is_err() && file.len() as u64 > scene.leaf.1);
    }
}
