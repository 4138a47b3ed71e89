// SPDX-License-Identifier: MIT OR Apache-2.0
//! JUnit XML: a suite for each contender and architecture.

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::{Check, State, checks};
use crate::base::error::{Context, Result};
use crate::judge::report::Report;

pub(in super::super) fn render(report: &Report) -> Result<String> {
    let mut xml = quick_junit::Report::new(report.run.bakeoff.as_str());
    let mut suites: Vec<(String, TestSuite)> = Vec::new();
    for check in checks(report) {
        let place = check.place;
        let name = format!("{}.{}.{}", place.base, place.candidate, place.arch);
        let at = match suites.iter().position(|(known, _)| *known == name) {
            Some(at) => at,
            None => {
                suites.push((name.clone(), TestSuite::new(name.as_str())));
                suites.len() - 1
            }
        };
        let mut case = TestCase::new(check.title(), status(&check));
        case.set_classname(format!("{name}.{}", place.profile));
        if !place.evidence.is_empty() {
            case.set_system_out(place.evidence.join("\n"));
        }
        suites[at].1.add_test_case(case);
    }
    xml.add_test_suites(suites.into_iter().map(|(_, suite)| suite));
    let text = xml.to_string().context(|| "write the report as JUnit XML".into())?;
    Ok(as_jenkins_takes_it(&text))
}

/// Without the number of all skipped cases, which Jenkins' schema does not know: each
/// suite has its own.
fn as_jenkins_takes_it(text: &str) -> String {
    let Some(begin) = text.find("<testsuites ") else { return text.to_owned() };
    let end = text[begin..].find('>').map_or(text.len(), |end| begin + end);
    let tag = &text[begin..end];
    let without = match tag.find(" skipped=\"") {
        None => tag.to_owned(),
        Some(at) => {
            let value = at + " skipped=\"".len();
            let after = tag[value..].find('"').map_or(tag.len(), |quote| value + quote + 1);
            [&tag[..at], &tag[after..]].concat()
        }
    };
    [&text[..begin], &without, &text[end..]].concat()
}

fn status(check: &Check<'_>) -> TestCaseStatus {
    let mut status = match check.state {
        State::Pass => return TestCaseStatus::success(),
        State::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
        State::Error => TestCaseStatus::non_success(NonSuccessKind::Error),
        State::Skip | State::Miss => TestCaseStatus::skipped(),
    };
    status.set_message(check.message.as_str());
    if matches!(check.state, State::Fail | State::Error) {
        status.set_type(check.kind);
    }
    status
}
