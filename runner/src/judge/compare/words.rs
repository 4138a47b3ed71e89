// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers as a person reads them. Bounds are rounded outwards: a report never
//! claims more than was shown.

/// `20,000`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 call`, `20,000 calls`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// Which way a percentage is rounded.
#[derive(Clone, Copy)]
pub(crate) enum Round {
    Down,
    Nearest,
    Up,
}

/// `99.98`: two decimals, and more where two would hide how near 0 or 100 it is.
pub(crate) fn percent(rate: f64, round: Round) -> String {
    if rate <= 0.0 {
        return "0".into();
    }
    if rate >= 1.0 {
        return "100".into();
    }
    let from_end = 100.0 * rate.min(1.0 - rate);
    let mut decimals = 2;
    while decimals < 5 && from_end * 10f64.powi(decimals) < 1.0 {
        decimals += 1;
    }
    let scale = 10f64.powi(decimals);
    let scaled = rate * 100.0 * scale;
    let rounded = match round {
        Round::Down => (scaled + 1e-6).floor(),
        Round::Nearest => scaled.round(),
        Round::Up => (scaled - 1e-6).ceil(),
    };
    let decimals = usize::try_from(decimals).unwrap_or_default();
    let text = format!("{:.decimals$}", rounded / scale);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `part / whole`, 0 of nothing.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// `a`, `a and b`, `a, b and c`.
pub(crate) fn list<T: AsRef<str>>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

/// Text from elsewhere on one line of printable ASCII, at most `most` characters:
/// control characters cannot reach a terminal, a table or a mail.
pub(crate) fn plain(text: &str, most: usize) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let next = match c {
            '\n' | '\r' | '\t' => " ".to_owned(),
            ' '..='~' => c.to_string(),
            _ => format!("\\u{{{:x}}}", u32::from(c)),
        };
        if out.len() + next.len() > most {
            out.truncate(most.saturating_sub(3));
            out.push_str("...");
            break;
        }
        out.push_str(&next);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown is never more than what was measured.
    #[test]
    fn percentages_are_rounded_outwards() {
        assert_eq!(percent(0.999_815_6, Round::Down), "99.98");
        assert_eq!(percent(0.000_184_4, Round::Up), "0.02");
        assert_eq!(percent(0.999_990_2, Round::Down), "99.999");
        assert_eq!(percent(0.999_999_999, Round::Nearest), "100");
        assert_eq!(percent(0.999_999_999, Round::Down), "99.99999");
        assert_eq!(percent(0.5, Round::Up), "50");
        assert_eq!(percent(0.05, Round::Down), "5");
        assert_eq!(percent(0.0, Round::Up), "0");
    }

    /// Numbers read as in a mail.
    #[test]
    fn numbers_have_separators() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(299_572), "299,572");
        assert_eq!(count(1_000_000), "1,000,000");
        assert_eq!(counted(1, "boot"), "1 boot");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
    }

    /// A hostile title stays on its line and cannot drive a terminal.
    #[test]
    fn foreign_text_is_made_plain() {
        assert_eq!(plain("a\nb\tc", 80), "a b c");
        assert_eq!(plain("\u{1b}[31mred", 80), "\\u{1b}[31mred");
        assert_eq!(plain(&"x".repeat(500), 10), "xxxxxxx...");
        assert!(plain("\u{202e}\u{0}é", 80).is_ascii());
    }
}
