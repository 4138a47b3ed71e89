// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which (build id, offset) pairs a stack lookup may answer.
//!
//! The executor keeps a model of what each page of the arena is mapped to. A
//! forged frame in page `p` has the address `p * 4096 + 16 + p`, so an answer's
//! low bits say which frame it is about, and the model says what it must be. An
//! address that is in no mapping may be answered with the next mapping's build
//! id: `find_vma()` has always done so.

use crate::engine::files::SHORT;
use crate::op::{ARENA_PAGES, Backing};
use crate::sys::call::ARENA;

const PAGE: u64 = 4096;
const PAGES: usize = ARENA_PAGES as usize;
/// As far from a file's begin as no wrong offset of ours gets.
const NEAR: u64 = 1 << 20;

/// What a page is mapped to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mapped {
    /// Nothing.
    #[default]
    Nothing,
    /// A page of one of the ELF files, named by the byte its build id is made of.
    Elf {
        /// The byte.
        id: u8,
        /// The page of the file.
        page: u8,
    },
    /// Something without a build id.
    Other,
    /// It cannot be told.
    Unknown,
}

/// The byte that a file's build id is made of.
#[must_use]
pub fn id_of(what: Backing) -> Option<u8> {
    match what {
        Backing::ElfA => Some(0xaa),
        Backing::ElfB => Some(0xbb),
        Backing::ElfFresh => Some(0xdd),
        Backing::ElfShort => Some(0xee),
        // Its note is broken: no build id may be found.
        Backing::ElfBad | Backing::Anonymous | Backing::Text | Backing::Shared => None,
    }
}

/// The build id that a file of this byte has, as the kernel answers it.
fn whole_id(byte: u8) -> [u8; 20] {
    let mut id = [byte; 20];
    if Some(byte) == id_of(Backing::ElfShort) {
        id.iter_mut().skip(SHORT as usize).for_each(|rest| *rest = 0);
    }
    id
}

/// The model of the arena.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pages: [Mapped; PAGES],
    /// Pages of which another thread may change the mapping at any time.
    shared: [bool; PAGES],
}

/// A range of pages, cut at the arena's end.
fn range(page: u8, pages: u8) -> std::ops::Range<usize> {
    let from = usize::from(page).min(PAGES);
    from..(from + usize::from(pages)).min(PAGES)
}

impl Model {
    fn set(&mut self, page: u8, pages: u8, mut what: impl FnMut(u8) -> Mapped) {
        let range = range(page, pages);
        let shared = self.shared.get(range.clone()).unwrap_or_default();
        let slots = self.pages.get_mut(range).unwrap_or_default();
        for ((nth, slot), shared) in (0..).zip(slots).zip(shared) {
            *slot = if *shared { Mapped::Unknown } else { what(nth) };
        }
    }

    /// Another thread changes the mapping here, now or later: nobody knows any more.
    pub fn share(&mut self, page: u8, pages: u8) {
        self.shared.get_mut(range(page, pages)).unwrap_or_default().fill(true);
        self.unknown(page, pages);
    }

    /// Something was mapped, or not.
    pub fn mapped(&mut self, page: u8, pages: u8, what: Backing, offset: u8, worked: bool) {
        self.set(page, pages, |nth| match (worked, id_of(what)) {
            (false, _) => Mapped::Unknown,
            (true, Some(id)) => Mapped::Elf { id, page: offset + nth },
            (true, None) => Mapped::Other,
        });
    }

    /// Something was unmapped, or not.
    pub fn unmapped(&mut self, page: u8, pages: u8, worked: bool) {
        self.set(page, pages, |_| if worked { Mapped::Nothing } else { Mapped::Unknown });
    }

    /// Nobody knows any more.
    fn unknown(&mut self, page: u8, pages: u8) {
        self.set(page, pages, |_| Mapped::Unknown);
    }

    /// Something was moved, or not.
    pub fn moved(&mut self, page: u8, pages: u8, to: u8, then: u8, worked: bool) {
        let old: Vec<Mapped> = self.pages.get(range(page, pages)).unwrap_or_default().to_vec();
        // Growing and failing halfway have their own rules; the check does without.
        if !worked || usize::from(then) != old.len() || range(to, then).len() != old.len() {
            self.unknown(page, pages);
            self.unknown(to, then);
            return;
        }
        self.unmapped(page, pages, true);
        self.set(to, then, |nth| old.get(usize::from(nth)).copied().unwrap_or_default());
    }

    /// Whether an answer about one of these frames is legal; `None` if it cannot
    /// be told, or is about something else.
    #[must_use]
    pub fn is_legal(&self, frames: &[u8], id: [u8; 20], offset: u64) -> Option<bool> {
        let first = id[0];
        // No file has a build id of zeroes: where there is none the answer has to be
        // the address.
        let (known, rest) = match first {
            0xee => id.split_at(SHORT as usize),
            0 | 0xaa | 0xbb | 0xcc | 0xdd => (id.as_slice(), [].as_slice()),
            _ => return None,
        };
        if known.iter().any(|byte| *byte != first) {
            return None;
        }
        // Behind a short one comes nothing, and not what was there before.
        let whole = rest.iter().all(|byte| *byte == 0);
        let mut about = false;
        for frame in frames.iter().map(|frame| frame % ARENA_PAGES) {
            let low = 16 + u64::from(frame);
            if offset % PAGE != low {
                continue;
            }
            about = true;
            if let Some((byte, at)) = self.expected(usize::from(frame))?
                && byte == first
                && offset == at.wrapping_add(low)
            {
                return Some(whole);
            }
        }
        // Words that are no return addresses lie anywhere, and a walk that begins where no
        // stack was forged reads such out of anything: the low bits of some look like a
        // frame's, and find_vma() has the next mapping answer for them.
        let near = offset.wrapping_add(NEAR) < 2 * NEAR;
        (about && near).then_some(false)
    }

    /// What an address in a page may be answered with: a byte that a build id is made
    /// of and the page's offset in its file, or nothing. `None`: it cannot be told.
    fn expected(&self, page: usize) -> Option<Option<(u8, u64)>> {
        for (distance, mapped) in (0_u64..).zip(self.pages.get(page..).unwrap_or_default()) {
            match mapped {
                // The next mapping is asked, as find_vma() does.
                Mapped::Nothing => {}
                Mapped::Unknown => return None,
                Mapped::Other => break,
                Mapped::Elf { id, page } => {
                    let offset = u64::from(*page).wrapping_sub(distance).wrapping_mul(PAGE);
                    return Some(Some((*id, offset)));
                }
            }
        }
        Some(None)
    }

    /// Whether a build id and an offset may be the answer about this address; `None` if
    /// it cannot be told.
    #[must_use]
    pub fn is_legal_of(&self, address: u64, id: [u8; 20], offset: u64) -> Option<bool> {
        let page = usize::try_from(address.checked_sub(ARENA)? / PAGE).ok()?;
        if page >= PAGES {
            return None;
        }
        let expected = self.expected(page)?;
        Some(expected.is_some_and(|(byte, at)| {
            id == whole_id(byte) && offset == at.wrapping_add(address % PAGE)
        }))
    }

    /// Whether an address in the arena may be the answer: the frame that its low bits
    /// say has to be in its page. `None` if it is about something else.
    #[must_use]
    pub fn is_legal_address(frames: &[u8], address: u64) -> Option<bool> {
        let page = address.checked_sub(ARENA)? / PAGE;
        let frame = (address % PAGE).checked_sub(16)?;
        let mut frames = frames.iter().map(|frame| u64::from(frame % ARENA_PAGES));
        let about = page < u64::from(ARENA_PAGES) && frames.any(|known| known == frame);
        about.then_some(page == frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        let mut model = Model::default();
        model.mapped(3, 2, Backing::ElfA, 5, true);
        model.mapped(8, 1, Backing::ElfB, 0, true);
        model
    }

    /// The file and its page decide; low bits tell the frame.
    #[test]
    fn exact_answers_are_legal() {
        let model = model();
        assert_eq!(model.is_legal(&[4], [0xaa; 20], 6 * 4096 + 20), Some(true));
        // Without the file's offset, or with the other file's id.
        assert_eq!(model.is_legal(&[4], [0xaa; 20], 4096 + 20), Some(false));
        assert_eq!(model.is_legal(&[4], [0xbb; 20], 6 * 4096 + 20), Some(false));
        // About another frame, or another file altogether.
        assert_eq!(model.is_legal(&[4], [0xaa; 20], 6 * 4096 + 21), None);
        assert_eq!(model.is_legal(&[4], [7; 20], 6 * 4096 + 20), None);
    }

    /// A short build id ends with zeroes, and one of zeroes is none.
    #[test]
    fn short_build_ids_end() {
        let mut model = Model::default();
        model.mapped(3, 1, Backing::ElfShort, 5, true);
        model.mapped(4, 1, Backing::Anonymous, 0, true);
        let mut id = [0; 20];
        id[..8].fill(0xee);
        assert_eq!(model.is_legal(&[3], id, 5 * 4096 + 19), Some(true));
        assert_eq!(model.is_legal(&[3], id, 4096 + 19), Some(false));
        id[19] = 0xaa;
        assert_eq!(model.is_legal(&[3], id, 5 * 4096 + 19), Some(false));
        assert_eq!(model.is_legal(&[4], [0; 20], 20), Some(false));
    }

    /// Where the address is known all of the answer is judged, whatever it is.
    #[test]
    fn answers_about_an_address_are_exact() {
        let mut model = model();
        model.mapped(12, 1, Backing::ElfShort, 2, true);
        let at = |page: u64, low: u64| ARENA + page * PAGE + low;
        assert_eq!(model.is_legal_of(at(4, 7), [0xaa; 20], 6 * PAGE + 7), Some(true));
        assert_eq!(model.is_legal_of(at(4, 7), [0xaa; 20], 6 * PAGE), Some(false));
        assert_eq!(model.is_legal_of(at(4, 7), [0xab; 20], 6 * PAGE + 7), Some(false));
        assert_eq!(model.is_legal_of(at(12, 7), [0xee; 20], 2 * PAGE + 7), Some(false));
        assert_eq!(model.is_legal_of(at(12, 7), whole_id(0xee), 2 * PAGE + 7), Some(true));
        assert_eq!(model.is_legal_of(at(20, 0), [0xaa; 20], 0), Some(false));
        assert_eq!(model.is_legal_of(at(40, 0), [0xaa; 20], 0), None);
        model.share(4, 1);
        assert_eq!(model.is_legal_of(at(4, 7), [0xaa; 20], 0), None);
    }

    /// In the arena frames have their own pages.
    #[test]
    fn addresses_in_the_arena_are_frames() {
        assert_eq!(Model::is_legal_address(&[4, 40], ARENA + 4 * PAGE + 20), Some(true));
        assert_eq!(Model::is_legal_address(&[4, 40], ARENA + 8 * PAGE + 24), Some(true));
        assert_eq!(Model::is_legal_address(&[4], ARENA + 5 * PAGE + 20), Some(false));
        // Pointers of the process's own, in memory that is taken for a stack.
        assert_eq!(Model::is_legal_address(&[4], ARENA + 4 * PAGE), None);
        assert_eq!(Model::is_legal_address(&[4], ARENA + 5 * PAGE + 21), None);
        assert_eq!(Model::is_legal_address(&[4], ARENA - 1), None);
        assert_eq!(Model::is_legal_address(&[4], ARENA + 32 * PAGE + 48), None);
    }

    /// In a gap the next mapping may answer, as it always did.
    #[test]
    fn gaps_are_answered_by_the_next_mapping() {
        let model = model();
        let offset = (5_u64 * 4096).wrapping_sub(4096) + 18;
        assert_eq!(model.is_legal(&[2], [0xaa; 20], offset), Some(true));
        let before_start = 0_u64.wrapping_sub(4096) + 23;
        assert_eq!(model.is_legal(&[7], [0xbb; 20], before_start), Some(true));
        assert_eq!(model.is_legal(&[7], [0xaa; 20], before_start), Some(false));
    }

    /// Words that are no return addresses lie anywhere, and are answered by any mapping.
    #[test]
    fn addresses_far_away_are_not_judged() {
        let mut model = Model::default();
        model.mapped(19, 4, Backing::ElfFresh, 4, true);
        let about = |address: u64| address.wrapping_sub(ARENA + 19 * PAGE).wrapping_add(4 * PAGE);
        assert_eq!(model.is_legal(&[19], [0xdd; 20], about(0xd023)), None);
        assert_eq!(model.is_legal(&[19], [0xaa; 20], about(0xd023)), None);
        assert_eq!(model.is_legal(&[19], [0xdd; 20], about(ARENA + 0x13023)), Some(true));
        assert_eq!(model.is_legal(&[19], [0xdd; 20], about(ARENA + 0x13023) - PAGE), Some(false));
        assert_eq!(model.is_legal(&[19], [0xdd; 20], 0x23), Some(false));
    }

    /// What another thread has been told to map may come after what is mapped here.
    #[test]
    fn shared_pages_stay_unknown() {
        let mut model = Model::default();
        model.share(3, 2);
        model.mapped(2, 4, Backing::ElfB, 2, true);
        assert_eq!(model.is_legal(&[3], [0xaa; 20], 16 + 3), None);
        assert_eq!(model.is_legal(&[2], [0xaa; 20], 16 + 2), Some(false));
        model.unmapped(2, 4, true);
        assert_eq!(model.is_legal(&[1], [0xaa; 20], 16 + 1), None);
    }

    /// What cannot be told is not judged.
    #[test]
    fn unknown_is_not_judged() {
        let mut model = model();
        model.moved(3, 2, 20, 2, true);
        assert_eq!(model.is_legal(&[20], [0xaa; 20], 5 * 4096 + 36), Some(true));
        model.moved(20, 2, 10, 4, true);
        assert_eq!(model.is_legal(&[10], [0xaa; 20], 5 * 4096 + 26), None);
        model.unknown(8, 1);
        assert_eq!(model.is_legal(&[8], [0xaa; 20], 24), None);
    }
}
