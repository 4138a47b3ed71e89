// SPDX-License-Identifier: MIT OR Apache-2.0
//! Follows a live console for one thing: a report that comes over and over.
//!
//! A defect on a hot path reports itself with every call. After some hundreds
//! nothing new is learnt, while the console holds the guest up and fills the
//! disk; so the boot is ended and the flood counted. The limit is high enough
//! that at least one block of samples is complete by then, for its rate.

use std::collections::HashMap;

use crate::run::exercise::{ConsoleWatch, Flood};
use crate::see::observe::{Parser, Splat, fingerprint};

/// Reports with one fingerprint after which a boot is ended.
pub const FLOOD: u64 = 300;

/// Counts reports by their fingerprint while the console comes.
#[derive(Debug, Default)]
pub struct Watch {
    parser: Parser,
    counts: HashMap<String, u64>,
    flood: Option<Flood>,
}

impl Watch {
    fn count(&mut self, splat: &Splat) {
        let count = self.counts.entry(fingerprint(splat)).or_default();
        *count += 1;
        if *count >= FLOOD {
            self.flood = Some(Flood { title: splat.title.clone(), count: *count });
        }
    }
}

impl ConsoleWatch for Watch {
    fn begin(&mut self) {
        *self = Watch::default();
    }

    fn push(&mut self, bytes: &[u8]) {
        for splat in self.parser.push(bytes) {
            self.count(&splat);
        }
    }

    fn flood(&self) -> Option<Flood> {
        self.flood.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(pid: u64) -> String {
        format!(
            "[    1.0] ------------[ cut here ]------------\n\
             [    1.0] WARNING: CPU: 1 PID: {pid} at include/linux/rwsem.h:195 find_vma+0x47/0xa0\n\
             [    1.0] Call Trace:\n\
             [    1.0]  <TASK>\n\
             [    1.0]  stack_map_get_build_id_offset+0x1/0x2\n\
             [    1.0]  __bpf_get_stack+0x1/0x2\n\
             [    1.0]  </TASK>\n\
             [    1.0] ---[ end trace 0000000000000000 ]---\n"
        )
    }

    /// The same report from many tasks is one flood; a handful of it is none.
    #[test]
    fn one_report_over_and_over_is_a_flood() {
        let mut watch = Watch::default();
        for pid in 0..FLOOD / 2 {
            watch.push(warning(pid).as_bytes());
        }
        assert_eq!(watch.flood(), None);
        // The parser waits for what may follow a report before it gives it.
        for pid in 0..FLOOD * 2 {
            watch.push(warning(pid).as_bytes());
        }
        let flood = watch.flood().unwrap();
        assert!(flood.count >= FLOOD && flood.title.contains("find_vma"), "{flood:?}");
    }
}
