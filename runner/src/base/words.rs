// SPDX-License-Identifier: MIT OR Apache-2.0
//! Words that stand in files and on command lines, and the nearest one to a misspelt one.

use serde::Serialize;

/// Words that an error lists at most.
const MOST_WORDS: usize = 12;

/// The word serde uses for a unit variant, as it stands in files and reports.
pub fn word<T: Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// The valid word that is most like what was written, if one is like it.
#[must_use]
pub fn nearest<'a>(written: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    valid
        .into_iter()
        .map(|word| (strsim::normalized_damerau_levenshtein(written, word), word))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .map(|(_, word)| word)
}

/// "did you mean `x`?", or the list of what there is when nothing is near.
pub fn did_you_mean<'a>(written: &str, valid: impl IntoIterator<Item = &'a str>) -> String {
    let valid: Vec<&str> = valid.into_iter().collect();
    match nearest(written, valid.iter().copied()) {
        Some(word) => format!("did you mean `{word}`?"),
        _ if valid.is_empty() => "there are none".into(),
        _ => {
            let few = valid.iter().take(MOST_WORDS);
            let list: Vec<String> = few.map(|word| format!("`{word}`")).collect();
            let more = match valid.len().saturating_sub(MOST_WORDS) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("there are {}{more}", list.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A misspelt word gets the nearest one, and one like no other the list of all.
    #[test]
    fn near_words_are_offered() {
        let valid = ["hardirq", "softirq", "process"];
        assert_eq!(did_you_mean("hard-irq", valid), "did you mean `hardirq`?");
        assert_eq!(did_you_mean("xyz", valid), "there are `hardirq`, `softirq`, `process`");
        assert_eq!(did_you_mean("xyz", []), "there are none");
        let many: Vec<String> = (0..20).map(|number| format!("word-{number}")).collect();
        let said = did_you_mean("xyz", many.iter().map(String::as_str));
        assert!(said.ends_with("`word-11` and 8 more"), "{said}");
    }
}
