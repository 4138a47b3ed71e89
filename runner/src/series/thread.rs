// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the mails of a thread to the versions of a series.
//!
//! Which mail is patch 3 of version 2 is decided as b4 decides it, case by
//! case, because that is what maintainers apply: the newest version by date, a
//! version inferred from the cover letter, a reroll of single patches sent as
//! replies to the old ones, an unnumbered patch sent again.

use std::collections::{HashMap, HashSet};

use super::mail::Mail;
use super::trailers::{self, Trailer};

/// The mails that hang together with `id`, as b4 collects them, in its order.
/// With `alone`, what `id` replies to does not count.
pub(crate) fn strict(mails: Vec<Mail>, id: &str) -> Vec<Mail> {
    let (id, alone) = start(&mails, id);
    let mut want: HashSet<String> = HashSet::from([id.clone()]);
    let mut ignore: HashSet<String> = HashSet::new();
    let mut got: HashSet<usize> = HashSet::new();
    let known: HashMap<&str, usize> =
        mails.iter().enumerate().map(|(n, mail)| (mail.message_id.as_str(), n)).collect();
    let mut maybe: HashMap<String, Vec<String>> = HashMap::new();
    let mut order: Vec<usize> = Vec::new();
    loop {
        for (n, mail) in mails.iter().enumerate() {
            if ignore.contains(&mail.message_id) || got.contains(&n) {
                continue;
            }
            let mut raw: Vec<&String> = mail.references.iter().collect();
            if alone && mail.message_id == id {
                ignore = raw.drain(..).cloned().collect();
            }
            let mut refs: Vec<&String> = Vec::new();
            for reference in raw {
                if ignore.contains(reference) {
                    continue;
                }
                let have = known.get(reference.as_str()).is_some_and(|n| got.contains(n));
                if have || want.contains(reference) {
                    want.insert(mail.message_id.clone());
                } else {
                    refs.push(reference);
                    if !want.contains(&mail.message_id) {
                        maybe.entry(reference.clone()).or_default().push(mail.message_id.clone());
                    }
                }
            }
            if want.remove(&mail.message_id) {
                order.push(n);
                got.insert(n);
                want.extend(refs.iter().map(|reference| (*reference).clone()));
                want.extend(maybe.remove(&mail.message_id).unwrap_or_default());
                for reference in refs {
                    want.extend(maybe.remove(reference).unwrap_or_default());
                }
            }
        }
        want.retain(|id| known.get(id.as_str()).is_some_and(|n| !got.contains(n)));
        want.retain(|id| !ignore.contains(id));
        if want.is_empty() {
            break;
        }
    }
    let mut mails: Vec<Option<Mail>> = mails.into_iter().map(Some).collect();
    order.into_iter().filter_map(|n| mails[n].take()).collect()
}

/// A patch or series of version 1 that was posted in the middle of a discussion
/// begins where it begins.
fn start(mails: &[Mail], id: &str) -> (String, bool) {
    let find = |id: &str| mails.iter().find(|mail| mail.message_id == id);
    let Some(mine) = find(id) else { return (id.to_owned(), false) };
    if mine.subject.reply || mine.subject.version != 1 || mine.references.is_empty() {
        return (id.to_owned(), false);
    }
    if mine.subject.counter == 1 && mine.subject.expected == 1 {
        return (id.to_owned(), mine.has_diff || mine.has_diffstat);
    }
    match mine.in_reply_to.as_deref().and_then(find) {
        Some(cover) if cover.subject.counter == 0 => (cover.message_id.clone(), true),
        _ => (id.to_owned(), false),
    }
}

/// One version: its mails by number; 0 is the cover letter.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) number: u32,
    pub(crate) expected: usize,
    /// Places in [`Thread::mails`].
    pub(crate) slots: Vec<Option<usize>>,
    /// The version each slot was taken from, where it is an older one.
    pub(crate) older: HashMap<usize, u32>,
    /// Two mails claimed one number.
    pub(crate) doubles: Vec<(usize, usize)>,
}

impl Version {
    fn new(number: u32, expected: usize) -> Version {
        Version {
            number,
            expected,
            slots: vec![None; expected + 1],
            older: HashMap::new(),
            doubles: Vec::new(),
        }
    }

    /// The patches in order.
    pub(crate) fn patches(&self) -> impl Iterator<Item = (usize, Option<usize>)> + '_ {
        self.slots.iter().copied().enumerate().skip(1)
    }

    fn is_complete(&self) -> bool {
        self.patches().all(|(_, slot)| slot.is_some())
    }
}

/// A thread, sorted.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) mails: Vec<Mail>,
    ids: HashMap<String, usize>,
    /// In the order they were found.
    versions: Vec<Version>,
    covers: HashMap<u32, usize>,
    followups: Vec<usize>,
}

impl Thread {
    pub(crate) fn new(mails: Vec<Mail>) -> Thread {
        let mut thread = Thread {
            mails: Vec::with_capacity(mails.len()),
            ids: HashMap::new(),
            versions: Vec::new(),
            covers: HashMap::new(),
            followups: Vec::new(),
        };
        for mail in mails {
            thread.add(mail);
        }
        thread
    }

    fn place(&self, number: u32) -> Option<usize> {
        self.versions.iter().position(|version| version.number == number)
    }

    fn add(&mut self, mut mail: Mail) {
        let at = self.mails.len();
        // A reply that lost its `Re:`.
        if !mail.references.is_empty()
            && !mail.has_diff
            && !mail.subject.reply
            && !trailers::find(&mail.text(), true).is_empty()
        {
            mail.subject.reply = true;
        }
        let subject = &mail.subject;
        let cover = subject.counter == 0 && (!subject.counters_inferred || mail.has_diffstat);
        if subject.reply {
            self.followups.push(at);
        } else if cover {
            self.covers.insert(subject.version, at);
        } else if mail.has_diff {
            self.add_patch_mail(&mut mail, at);
        }
        self.ids.insert(mail.message_id.clone(), at);
        self.mails.push(mail);
    }

    fn add_patch_mail(&mut self, mail: &mut Mail, at: usize) {
        if self.place(mail.subject.version).is_none()
            && mail.subject.version_inferred
            && let Some(parent) = mail.in_reply_to.as_ref().and_then(|id| self.ids.get(id))
        {
            let parent = &self.mails[*parent];
            let cover = parent.has_diffstat && !parent.has_diff;
            let first = mail.subject.counter > 0 && parent.has_diff && parent.subject.counter == 1;
            if cover || first {
                mail.subject.version = parent.subject.version;
            }
        }
        let place = self.place_or_new(mail.subject.version, mail.subject.expected);
        // An author who sends `[PATCH] x` once more and numbers nothing.
        let subject = &mail.subject;
        let again = subject.counter == 1
            && subject.counters_inferred
            && subject.patch
            && !subject.resend
            && self.versions[place].slots.get(1).copied().flatten().is_some_and(|old| {
                let old = &self.mails[old];
                old.subject.counters_inferred
                    && old.from_email == mail.from_email
                    && old.at < mail.at
            });
        let place = if again {
            let next = u32::try_from(self.versions.len() + 1).unwrap_or(u32::MAX);
            mail.subject.version = next;
            let fresh = Version::new(next, mail.subject.expected);
            match self.place(next) {
                Some(place) => {
                    self.versions[place] = fresh;
                    place
                }
                None => {
                    self.versions.push(fresh);
                    self.versions.len() - 1
                }
            }
        } else {
            place
        };
        self.put(place, at, mail);
    }

    fn place_or_new(&mut self, number: u32, expected: usize) -> usize {
        self.place(number).unwrap_or_else(|| {
            self.versions.push(Version::new(number, expected));
            self.versions.len() - 1
        })
    }

    fn put(&mut self, place: usize, at: usize, mail: &Mail) {
        let (counter, expected) = (mail.subject.counter, mail.subject.expected);
        let inferred = mail.subject.counters_inferred;
        let version = &mut self.versions[place];
        if version.slots.len() < expected + 1 {
            version.slots.resize(expected + 1, None);
        }
        version.expected = expected;
        let Some(old) = version.slots[counter] else {
            version.slots[counter] = Some(at);
            return;
        };
        version.doubles.push((old, at));
        let subject = &self.mails[old].subject;
        if subject.reply || (subject.counters_inferred && !inferred) {
            version.slots[counter] = Some(at);
            return;
        }
        // One more patch than was announced.
        version.slots.push(None);
        version.expected += 1;
        version.slots[counter] = Some(at);
        version.slots[counter + 1] = Some(old);
    }

    /// The versions there are, by number.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = self.versions.iter().map(|version| version.number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The version that was sent last.
    pub(crate) fn newest(&self) -> Option<u32> {
        let sent = |version: &&Version| {
            let first = version.slots.iter().flatten().next();
            first.map_or(0, |&at| self.mails[at].at)
        };
        // The last of those sent at one time, as a stable sort has it.
        self.versions.iter().max_by_key(sent).map(|version| version.number)
    }

    /// One version with its cover letter, made whole from the one before where
    /// only some patches were sent again.
    pub(crate) fn version(&self, number: u32) -> Option<Version> {
        let mut version = self.versions[self.place(number)?].clone();
        version.slots.iter().flatten().next()?;
        if !version.is_complete() && number > 1 {
            self.fill_from_before(&mut version);
        }
        if let Some(&cover) = self.covers.get(&number) {
            let expected = self.mails[cover].subject.expected;
            if version.slots.len() < expected + 1 {
                version.slots.resize(expected + 1, None);
            }
            version.expected = expected;
            version.slots[0] = Some(cover);
        } else if let Some(cover) = self.likely_cover(&version) {
            version.slots[0] = Some(cover);
        }
        Some(version)
    }

    /// What a patch replies to, if it looks like a cover letter.
    fn likely_cover(&self, version: &Version) -> Option<usize> {
        version.slots.iter().flatten().find_map(|&at| {
            let member = &self.mails[at];
            let parent = *self.ids.get(member.in_reply_to.as_ref()?)?;
            let cover = &self.mails[parent];
            let root = cover.in_reply_to.is_none()
                && !cover.subject.reply
                && cover.from_email == member.from_email;
            (!cover.has_diff && (cover.has_diffstat || root)).then_some(parent)
        })
    }

    /// A partial reroll: each new patch answers the patch of its number.
    fn fill_from_before(&self, version: &mut Version) {
        let Some(before) = self.version(version.number - 1) else { return };
        let answers = |at: usize| {
            let patch = &self.mails[at].subject;
            let mut seen = HashSet::new();
            let mut child = at;
            while let Some(&parent) =
                self.mails[child].in_reply_to.as_ref().and_then(|id| self.ids.get(id))
            {
                let subject = &self.mails[parent].subject;
                if (subject.counter, subject.expected) == (patch.counter, patch.expected) {
                    return true;
                }
                if !seen.insert(parent) {
                    return false;
                }
                child = parent;
            }
            false
        };
        if !version.slots.iter().flatten().all(|&at| answers(at)) {
            return;
        }
        for (n, slot) in version.slots.iter_mut().enumerate() {
            let old = before.slots.get(n).copied().flatten();
            if slot.is_none() && old.is_some() {
                *slot = old;
                version.older.insert(n, before.older.get(&n).copied().unwrap_or(before.number));
            }
        }
    }

    /// What the replies give to each slot of a version, and what they would
    /// give in somebody else's name.
    pub(crate) fn reviews(
        &self,
        version: &Version,
    ) -> (HashMap<usize, Vec<Trailer>>, Vec<Trailer>) {
        let slots: HashMap<usize, usize> =
            version.slots.iter().enumerate().filter_map(|(n, at)| Some(((*at)?, n))).collect();
        let mut given: HashMap<usize, Vec<Trailer>> = HashMap::new();
        let mut refused = Vec::new();
        for &reply in &self.followups {
            let (good, bad) = trailers::of_reply(&self.mails[reply]);
            let Some(slot) = self.answered(reply, &slots) else { continue };
            given.entry(slot).or_default().extend(good);
            refused.extend(bad);
        }
        (given, refused)
    }

    /// The patch or cover letter that a reply is about.
    fn answered(&self, reply: usize, slots: &HashMap<usize, usize>) -> Option<usize> {
        let mut seen = HashSet::new();
        let mut child = reply;
        loop {
            let mail = &self.mails[child];
            let parent = match &mail.in_reply_to {
                Some(id) => self.ids.get(id),
                None => mail.references.iter().find_map(|id| self.ids.get(id)),
            };
            let &parent = parent?;
            if !self.mails[parent].subject.reply {
                return slots.get(&parent).copied();
            }
            if !seen.insert(parent) {
                return None;
            }
            child = parent;
        }
    }
}
