// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads KTAP, the kernel's Test Anything Protocol, and the TAP it comes from
//! (Documentation/dev-tools/ktap.rst), line by line as a test prints it.
//!
//! A result line names a test and says `ok` or `not ok`; a directive behind `#` may
//! change what that means. Subtests are indented and come *before* the result line of
//! the test they belong to, so results wait until that line tells the path:
//! `parent/child`. Whatever is none of the four kinds of lines is somebody's message,
//! and is passed over, as the document asks.
//!
//! Two habits of the kernel's own tests are understood as well: kselftest's runner puts
//! `# ` in front of what a test prints (it is a level of nesting once a version line has
//! appeared behind it), and KUnit indents by four spaces where the document says two.

use std::collections::BTreeMap;

/// Tests of one run that are told apart; the rest are only counted.
const MOST_TESTS: usize = 2000;
/// Results that may wait for the line of their parent.
const MOST_WAITING: usize = 4000;
/// Characters of a test's path.
const LONGEST_NAME: usize = 160;

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It passed.
    Ok,
    /// It failed.
    NotOk,
    /// It was not run.
    Skip,
    /// It was not run, because there is no program of it.
    NotBuilt,
    /// It was expected to fail, and whether it did says nothing.
    Expected,
}

/// What became of the tests of one name in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    pub not_built: u64,
    pub expected: u64,
}

impl Tally {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Ok => self.passed += 1,
            Outcome::NotOk => self.failed += 1,
            Outcome::Skip => self.skipped += 1,
            Outcome::NotBuilt => self.not_built += 1,
            Outcome::Expected => self.expected += 1,
        }
    }
}

/// What a skipped test's reason begins with that does not compile: the words of the script
/// that runs kselftests.
pub const NOT_BUILT: &str = "does not build";

/// All tests of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tests {
    /// By path.
    pub by_name: BTreeMap<String, Tally>,
    /// Results that were one name too many.
    pub dropped: u64,
    /// Tests that a plan announced and no result line followed.
    pub missing: u64,
}

/// A plan and how much of it was done.
#[derive(Debug)]
struct Plan {
    indent: usize,
    planned: Option<u64>,
    seen: u64,
}

/// A result whose parent is not known yet.
#[derive(Debug)]
struct Waiting {
    indent: usize,
    path: String,
    outcome: Outcome,
}

/// Reads one run's output.
#[derive(Debug, Default)]
pub(super) struct Reader {
    tests: Tests,
    waiting: Vec<Waiting>,
    plans: Vec<Plan>,
    /// How many `# ` in front of a line are nesting.
    quoted: usize,
}

impl Reader {
    /// One line, without its end.
    pub(super) fn line(&mut self, line: &str) {
        let (quotes, bare) = unquoted(line);
        let spaces = bare.len() - bare.trim_start_matches(' ').len();
        let text = bare.trim();
        if is_version(text) {
            self.quoted = self.quoted.max(quotes);
            let indent = 2 * quotes + spaces;
            // Another document on this level, as programs print that run one by one.
            self.close_plans(indent);
            self.plans.push(Plan { indent, planned: None, seen: 0 });
            return;
        }
        if quotes > self.quoted {
            return;
        }
        let indent = 2 * quotes + spaces;
        if let Some(planned) = plan(text) {
            self.plan(indent, planned);
        } else if let Some((outcome, name)) = result(text) {
            self.result(indent, outcome, &name);
        }
    }

    fn plan(&mut self, indent: usize, planned: u64) {
        self.close_plans(indent + 1);
        match self.plans.last_mut() {
            // TAP 14 and 12 know plans at the end, and plans without a version line.
            Some(plan) if plan.indent == indent && plan.planned.is_none() => {
                plan.planned = Some(planned);
            }
            _ => {
                self.close_plans(indent);
                self.plans.push(Plan { indent, planned: Some(planned), seen: 0 });
            }
        }
    }

    fn result(&mut self, indent: usize, outcome: Outcome, name: &str) {
        self.close_plans(indent + 1);
        match self.plans.last_mut() {
            Some(plan) if plan.indent == indent => plan.seen += 1,
            _ => self.plans.push(Plan { indent, planned: None, seen: 1 }),
        }
        for child in self.waiting.iter_mut().rev().take_while(|child| child.indent > indent) {
            child.path = cut(&format!("{name}/{}", child.path));
            child.indent = indent;
        }
        let path = cut(name);
        self.waiting.push(Waiting { indent, path, outcome });
        if indent == 0 || self.waiting.len() > MOST_WAITING {
            self.settle();
        }
        // What is quoted belongs to the test whose result is not.
        if indent == 0 {
            self.quoted = 0;
        }
    }

    /// Closes the plans from this indentation on.
    fn close_plans(&mut self, indent: usize) {
        while self.plans.last().is_some_and(|plan| plan.indent >= indent) {
            if let Some(plan) = self.plans.pop() {
                let planned = plan.planned.unwrap_or(plan.seen);
                let missing = planned.saturating_sub(plan.seen);
                self.tests.missing = self.tests.missing.saturating_add(missing);
            }
        }
    }

    fn settle(&mut self) {
        for Waiting { path, outcome, .. } in self.waiting.drain(..) {
            let tests = &mut self.tests.by_name;
            if tests.len() < MOST_TESTS || tests.contains_key(&path) {
                tests.entry(path).or_default().count(outcome);
            } else {
                self.tests.dropped += 1;
            }
        }
    }

    /// What was read, once there is nothing more to read.
    pub(super) fn finish(mut self) -> Tests {
        self.close_plans(0);
        self.settle();
        self.tests
    }
}

/// How many `# ` stand in front of a line, and the line behind them.
fn unquoted(mut line: &str) -> (usize, &str) {
    let mut quotes = 0;
    while let Some(rest) = line.strip_prefix("# ") {
        line = rest;
        quotes += 1;
    }
    (quotes, line)
}

fn is_version(text: &str) -> bool {
    let version = text.strip_prefix("KTAP version ").or_else(|| text.strip_prefix("TAP version "));
    version.is_some_and(|version| version.trim().parse::<u32>().is_ok())
}

/// `1..5`, also with a reason for skipping all: `1..0 # SKIP no such device`.
fn plan(text: &str) -> Option<u64> {
    let number = text.strip_prefix("1..")?;
    number.split('#').next()?.trim().parse().ok()
}

/// A result line's outcome and the test's name.
fn result(text: &str) -> Option<(Outcome, String)> {
    let (ok, rest) = match text.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, text.strip_prefix("ok")?),
    };
    // `okay` is no result.
    if !(rest.is_empty() || rest.starts_with(' ')) {
        return None;
    }
    let rest = rest.trim_start();
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = rest.split_at(digits);
    // A number is required, and keeps "ok, let us begin" from being a test.
    if number.is_empty() || !(rest.is_empty() || rest.starts_with([' ', '\t'])) {
        return None;
    }
    let (name, behind) = match rest.split_once('#') {
        Some((name, behind)) => (name, behind.trim()),
        None => (rest, ""),
    };
    let (word, data) = behind.split_once(char::is_whitespace).unwrap_or((behind, ""));
    let (outcome, directive) = match word.trim_end_matches(':').to_ascii_uppercase().as_str() {
        "SKIP" | "SKIPPED" if data.starts_with(NOT_BUILT) => (Outcome::NotBuilt, true),
        "SKIP" | "SKIPPED" => (Outcome::Skip, true),
        "TODO" | "XFAIL" => (Outcome::Expected, true),
        "TIMEOUT" | "ERROR" => (Outcome::NotOk, true),
        "XPASS" => (Outcome::Ok, true),
        _ if ok => (Outcome::Ok, false),
        _ => (Outcome::NotOk, false),
    };
    // A hyphen between number and name is TAP's custom.
    let mut name = clean(name.trim().strip_prefix("- ").unwrap_or(name));
    // kselftest prints the name of a test that it skips behind the directive.
    if name.is_empty() && directive {
        name = clean(data);
    }
    if name.is_empty() {
        name = format!("test {number}");
    }
    Some((outcome, name))
}

/// A name fit for people: single spaces, nothing that moves a cursor.
fn clean(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cut(name: &str) -> String {
    name.chars().take(LONGEST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Tests {
        let mut reader = Reader::default();
        text.lines().for_each(|line| reader.line(line));
        reader.finish()
    }

    fn told(text: &str) -> Vec<String> {
        let word = |tally: &Tally| match (tally.passed, tally.failed, tally.skipped, tally.expected)
        {
            (1, 0, 0, 0) => "ok".to_owned(),
            (0, 1, 0, 0) => "not ok".to_owned(),
            (0, 0, 1, 0) => "skip".to_owned(),
            (0, 0, 0, 1) => "expected".to_owned(),
            _ => format!("{tally:?}"),
        };
        let tests = read(text);
        tests.by_name.iter().map(|(name, tally)| format!("{name}: {}", word(tally))).collect()
    }

    /// Every directive of the document changes a result as the document says.
    #[test]
    fn directives_decide() {
        let text = "KTAP version 1\n1..9\nok 1 passes\nnot ok 2 fails\n\
                    ok 3 left out # SKIP no device\nnot ok 4 left out too # SKIP\n\
                    not ok 5 known # TODO fix\nok 6 odd # XFAIL known to be broken\n\
                    not ok 7 slow # TIMEOUT 30 seconds\nnot ok 8 broke # ERROR no memory\n\
                    ok 9 check return code # rcode=0\n";
        assert_eq!(
            told(text),
            [
                "broke: not ok",
                "check return code: ok",
                "fails: not ok",
                "known: expected",
                "left out: skip",
                "left out too: skip",
                "odd: expected",
                "passes: ok",
                "slow: not ok"
            ]
        );
        assert_eq!(read(text).missing, 0);
    }

    /// A subtest is known by its path, so that equal names under two parents differ.
    #[test]
    fn subtests_have_a_path() {
        let text = "KTAP version 1\n1..2\n  KTAP version 1\n  1..2\n    KTAP version 1\n    1..2\n    \
                    not ok 1 a\n    ok 2 b\n  not ok 1 inner\n  ok 2 a\nnot ok 1 outer\nok 2 a\n";
        assert_eq!(
            told(text),
            [
                "a: ok",
                "outer: not ok",
                "outer/a: ok",
                "outer/inner: not ok",
                "outer/inner/a: not ok",
                "outer/inner/b: ok"
            ]
        );
    }

    /// Four spaces and a "Subtest" line, as KUnit prints them, nest as well.
    #[test]
    fn kunit_nests_by_four_spaces() {
        let text = "TAP version 14\n1..1\n    # Subtest: suite\n    1..2\n    ok 1 - one\n    \
                    ok 2 - two\nok 1 - suite\n";
        assert_eq!(told(text), ["suite: ok", "suite/one: ok", "suite/two: ok"]);
    }

    /// What kselftest's runner quotes is a level below the test that printed it; a
    /// diagnostic line that looks like a result is none.
    #[test]
    fn the_runners_quotes_are_nesting() {
        let text = "TAP version 13\n1..2\n# selftests: futex: run.sh\n# TAP version 13\n# 1..1\n\
                    # ok 1 futex-wait\n# # Totals: pass:1\nok 1 selftests: futex: run.sh\n\
                    # ok 2 not a result\nnot ok 2 selftests: futex: other # exit=1\n";
        assert_eq!(
            told(text),
            [
                "selftests: futex: other: not ok",
                "selftests: futex: run.sh: ok",
                "selftests: futex: run.sh/futex-wait: ok"
            ]
        );
    }

    /// Programs that run one after the other, each with its document, count together.
    #[test]
    fn documents_follow_each_other() {
        let tests = read("TAP version 13\n1..1\nok 1 wait\nTAP version 13\n1..1\nnot ok 1 wait\n");
        let tally = Tally { passed: 1, failed: 1, ..Tally::default() };
        assert_eq!(tests.by_name, BTreeMap::from([("wait".to_owned(), tally)]));
        assert_eq!(tests.missing, 0);
    }

    /// A test that died before its plan was done is missed, on every level.
    #[test]
    fn unfinished_plans_are_missed() {
        assert_eq!(read("TAP version 13\n1..5\nok 1 a\nok 2 b\n").missing, 3);
        assert_eq!(read("TAP version 13\n1..2\nTAP version 13\n1..1\nok 1 a\n").missing, 2);
        assert_eq!(read("1..1\n  1..3\n  ok 1 a\nok 1 b\n").missing, 2);
        assert_eq!(read("ok 1 a\n1..1\n").missing, 0);
        assert_eq!(read("1..0 # SKIP all\n").missing, 0);
    }

    /// Other people's messages, however like a result, change nothing.
    #[test]
    fn other_lines_are_passed_over() {
        for line in [
            "",
            "okay 1 is fine",
            "ok",
            "ok then",
            "not okay 2",
            "[    1.234567] ok 1 name",
            "1..many",
            "TAP version",
            "ok 1st of May",
            "\u{0}\u{1b}[2Jok 1 x",
        ] {
            assert_eq!(read(line), Tests::default(), "{line:?}");
        }
    }

    /// A name that is missing is the number or what the directive says, and names are fit
    /// to be shown.
    #[test]
    fn names_are_made_fit() {
        assert_eq!(told("ok 1\nok 2 # SKIP no huge pages"), ["no huge pages: skip", "test 1: ok"]);
        assert_eq!(told("ok 1 -   two\u{1b}   words"), ["two words: ok"]);
        let long = read(&format!("ok 1 {}", "ä".repeat(10_000)));
        assert_eq!(long.by_name.keys().next().unwrap().chars().count(), LONGEST_NAME);
    }

    /// Output without end, and nesting without a parent, take bounded memory.
    #[test]
    fn memory_is_bounded() {
        let mut reader = Reader::default();
        for n in 0..50_000 {
            reader.line(&format!("  ok {n} number {n}"));
            assert!(reader.waiting.len() <= MOST_WAITING + 1);
        }
        let tests = reader.finish();
        assert_eq!(tests.by_name.len(), MOST_TESTS);
        assert_eq!(tests.dropped, 50_000 - MOST_TESTS as u64);
        assert_eq!(read("1..18446744073709551615\n1..18446744073709551615\n").missing, u64::MAX);
    }
}
