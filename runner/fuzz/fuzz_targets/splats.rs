//! Any bytes are a console: reading them never panics, splats lie inside of them and in order, and
//! the size of the pieces they arrive in makes no difference.
#![no_main]

use bakeoff::observe::{Parser, diff, explain, fingerprint, parse, signature};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|console: &[u8]| {
    let whole = parse(console);
    let mut last = 0;
    for splat in &whole {
        assert!(splat.start <= splat.end && splat.end <= console.len() as u64);
        assert!(splat.start >= last);
        last = splat.start;
        assert!(!splat.title.is_empty());
        assert_eq!(fingerprint(splat).len(), 16);
        assert!(!signature(splat).is_empty());
        explain(splat);
    }
    // The first byte decides how the console is cut into pieces.
    let size = usize::from(console.first().copied().unwrap_or(0)) % 97 + 1;
    let mut parser = Parser::new();
    let mut pieces = Vec::new();
    for piece in console.chunks(size) {
        pieces.extend(parser.push(piece));
        assert!(parser.held() < 8 << 20);
    }
    pieces.extend(parser.finish());
    assert_eq!(whole, pieces);

    // Reports are paired with themselves, and nothing differs.
    let signatures: Vec<Vec<String>> = whole.iter().take(20).map(signature).collect();
    for (from, to) in diff::pair(&signatures, &signatures, |from, to| from == to) {
        assert_eq!(from, to);
        let edits = diff::edits(&signatures[from], &signatures[to]);
        assert!(edits.iter().all(|edit| matches!(edit, diff::Edit::Same(_))));
    }
});
