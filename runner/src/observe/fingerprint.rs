//! Is it the same bug? Kind, lock classes and call chain say so; a title does not.

use crate::observe::blame;
use crate::observe::frame::Frame;
use crate::observe::{LockClass, Splat};

/// How many own frames tell two bugs of one kind apart; deeper ones say how the code was reached.
const DEPTH: usize = 3;

/// The identity of a splat: stable across boots, addresses, CPUs, tasks, compilers and
/// architectures; different for different bugs with one title.
pub fn fingerprint(splat: &Splat) -> String {
    let mut hash = Fnv::new();
    hash.word(&splat.row_family());
    match &splat.lockdep {
        Some(report) if !report.classes.is_empty() => {
            hash.word(&format!("{:?}", report.kind));
            if let Some(used) = &report.acquiring {
                hash.word("acquiring");
                hash.class(&used.class);
            }
            if let Some(used) = &report.holding {
                hash.word("holding");
                hash.class(&used.class);
            }
            for link in &report.chain {
                hash.word("edge");
                hash.class(&link.class);
                if let Some(at) = &link.at {
                    hash.word(&blame::title_name(&at.function));
                }
            }
            if report.acquiring.is_none() && report.chain.is_empty() {
                for held in &report.held {
                    hash.word("held");
                    hash.class(&held.class);
                }
                hash.frames(&splat.frames);
            }
            if let Some(function) = &splat.function {
                hash.word(function);
            }
        }
        _ => {
            if let Some(function) = &splat.function {
                hash.word(function);
                hash.frames(&splat.frames);
            } else {
                hash.word(&splat.title);
            }
        }
    }
    format!("{:016x}", hash.0)
}

impl Splat {
    /// Rows that are wordings of one kind count as one.
    fn row_family(&self) -> String {
        let row = self.row.as_str();
        row.trim_end_matches("-warning")
            .trim_end_matches("-bug")
            .trim_end_matches("-info")
            .trim_end_matches("-old")
            .to_owned()
    }
}

/// FNV-1a, 64 bits: stable across versions of Rust, which `DefaultHasher` is not.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn word(&mut self, word: &str) {
        for byte in word.bytes().chain([0]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn class(&mut self, class: &LockClass) {
        self.word(&class_name(&class.name));
    }

    /// The innermost frames that are nobody's helper.
    fn frames(&mut self, frames: &[Frame]) {
        let mut last = String::new();
        let mut taken = 0;
        for frame in frames {
            if frame.unreliable || frame.inlined || blame::is_machinery(&frame.function) {
                continue;
            }
            let name = blame::title_name(&frame.function);
            if name == last {
                continue;
            }
            if taken == DEPTH {
                break;
            }
            self.word(&name);
            last = name;
            taken += 1;
        }
    }
}

/// The name of a class without the number that lockdep appends to namesakes in the order they turn
/// up, which differs from boot to boot.
fn class_name(name: &str) -> String {
    match name.rfind('#') {
        Some(at) => {
            let digits = name[at + 1..]
                .bytes()
                .take_while(u8::is_ascii_digit)
                .count();
            format!("{}{}", &name[..at], &name[at + 1 + digits..])
        }
        None => name.to_owned(),
    }
}
