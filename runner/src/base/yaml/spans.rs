// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where each key, value and item of a YAML document stands.
//!
//! The deserializer drops the places of what it has read, so a check that is made later
//! could only search the text for the word it means. This reader keeps the places and
//! nothing else: it decides on no types, and whatever it cannot follow has no place.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser};

/// Containers in containers beyond this are not followed. The deserializer has the same
/// limit, so such a document is refused anyway.
const DEEPEST: usize = 128;

/// A place in a file. Both count from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl From<Marker> for Place {
    fn from(marker: Marker) -> Self {
        Place { line: marker.line(), column: marker.col() + 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// The way from the top of a document to one of its values: `probes[3].period-us`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Vec<Part>);

/// One step of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Into a mapping.
    Key(String),
    /// Into a list.
    Index(usize),
}

impl Path {
    /// The top.
    #[must_use]
    pub fn top() -> Self {
        Path::default()
    }

    /// From how it is displayed, where no key has a dot or a bracket.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let parts = text.split(['.', '[']).filter(|part| !part.is_empty());
        parts.fold(Path::top(), |path, part| {
            match part.strip_suffix(']').and_then(|number| number.parse().ok()) {
                Some(index) => path.index(index),
                None => path.key(part),
            }
        })
    }

    /// On through a key.
    #[must_use]
    pub fn key(&self, key: impl Into<String>) -> Self {
        self.with(Part::Key(key.into()))
    }

    /// On to an item of a list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Part::Index(index))
    }

    /// On along another way.
    #[must_use]
    pub fn join(&self, on: &Path) -> Self {
        Path([self.0.clone(), on.0.clone()].concat())
    }

    /// Whether its last step is this key.
    #[must_use]
    pub fn ends_with(&self, key: &str) -> bool {
        matches!(self.0.last(), Some(Part::Key(last)) if last == key)
    }

    fn with(&self, part: Part) -> Self {
        let mut parts = self.0.clone();
        parts.push(part);
        Path(parts)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, part) in self.0.iter().enumerate() {
            match part {
                Part::Key(key) if number == 0 => f.write_str(key)?,
                Part::Key(key) => write!(f, ".{key}")?,
                Part::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// The places of a document.
#[derive(Debug, Default)]
pub struct Spans {
    top: Option<Rc<Node>>,
    /// The first key that a mapping has twice, and its second place.
    repeated: Option<(String, Place)>,
}

#[derive(Debug)]
struct Node {
    at: Place,
    holds: Holds,
}

#[derive(Debug)]
enum Holds {
    Scalar(String),
    List(Vec<Rc<Node>>),
    Mapping(Vec<Entry>),
    /// What an alias stands for; never an alias itself.
    Alias(Rc<Node>),
}

#[derive(Debug)]
struct Entry {
    key: String,
    key_at: Place,
    value: Rc<Node>,
}

impl Spans {
    /// The places of the first document of a text. A text that is no YAML has none: the
    /// deserializer says so better.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Builder::default().build(text).unwrap_or_default()
    }

    /// Where a value stands. A block of keys begins at its first key. If the way leads
    /// further than the document, where it ends.
    #[must_use]
    pub fn at(&self, path: &Path) -> Option<Place> {
        let top = self.top.as_deref()?.at;
        Some(self.walk(path).last().map_or(top, |step| step.at))
    }

    /// Where the key of a value stands; of an item of a list, the item itself.
    #[must_use]
    pub fn key_at(&self, path: &Path) -> Option<Place> {
        let top = self.top.as_deref()?.at;
        Some(self.walk(path).last().map_or(top, |step| step.key_at))
    }

    /// Where, at or below `path`, the first key or value stands that is exactly this word.
    #[must_use]
    pub fn find(&self, path: &Path, word: &str) -> Option<Place> {
        let top = self.top.as_deref()?;
        match self.walk(path).last() {
            // What an alias stands for is written elsewhere.
            Some(step) if step.aliased => Some(step.at),
            Some(step) => find(step.value, word),
            None => find(top, word),
        }
    }

    /// A key that stands twice in one mapping, and its second place.
    #[must_use]
    pub fn repeated(&self) -> Option<(&str, Place)> {
        self.repeated.as_ref().map(|(key, at)| (key.as_str(), *at))
    }

    /// The steps of a way, as far as the document goes.
    fn walk<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = Step<'a>> {
        let mut node = self.top.as_deref();
        // Whatever is reached through an alias stands where the alias does.
        let mut alias = None;
        path.0.iter().map_while(move |part| {
            let (key_at, value) = match (part, &node?.holds) {
                (Part::Key(key), Holds::Mapping(entries)) => {
                    let exact = entries.iter().find(|entry| entry.key == *key);
                    // Some keys may be written either way.
                    let hyphens = |key: &str| key.replace('_', "-");
                    let like = |entry: &&Entry| hyphens(&entry.key) == hyphens(key);
                    let entry = exact.or_else(|| entries.iter().find(like))?;
                    (Some(entry.key_at), &entry.value)
                }
                (Part::Index(index), Holds::List(items)) => (None, items.get(*index)?),
                (Part::Key(_), Holds::List(_) | Holds::Scalar(_) | Holds::Alias(_))
                | (Part::Index(_), Holds::Mapping(_) | Holds::Scalar(_) | Holds::Alias(_)) => {
                    return None;
                }
            };
            let at = alias.unwrap_or(value.at);
            let key_at = alias.or(key_at).unwrap_or(at);
            let mut value: &Node = value;
            if let Holds::Alias(target) = &value.holds {
                alias = Some(at);
                value = target;
            }
            node = Some(value);
            Some(Step { key_at, at, value, aliased: alias.is_some() })
        })
    }
}

struct Step<'a> {
    key_at: Place,
    at: Place,
    value: &'a Node,
    aliased: bool,
}

fn find(node: &Node, word: &str) -> Option<Place> {
    match &node.holds {
        Holds::Scalar(text) => (text == word).then_some(node.at),
        Holds::List(items) => items.iter().find_map(|item| find(item, word)),
        Holds::Mapping(entries) => entries.iter().find_map(|entry| {
            let key = (entry.key == word).then_some(entry.key_at);
            key.or_else(|| find(&entry.value, word))
        }),
        // Else very many ways could lead to the same node.
        Holds::Alias(_) => None,
    }
}

/// A container that is not complete yet.
struct Open {
    at: Place,
    anchor: usize,
    mapping: bool,
    items: Vec<Rc<Node>>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    spans: Spans,
}

impl Builder {
    /// `None`: no YAML, or deeper than is followed.
    fn build(mut self, text: &str) -> Option<Spans> {
        for event in Parser::new_from_str(text) {
            let (event, span) = event.ok()?;
            let at = Place::from(span.start);
            match event {
                Event::Scalar(text, _, anchor, _) => {
                    self.add(Node { at, holds: Holds::Scalar(text.into_owned()) }, anchor);
                }
                Event::SequenceStart(anchor, _) => self.open(at, anchor, false)?,
                Event::MappingStart(anchor, _) => self.open(at, anchor, true)?,
                Event::SequenceEnd | Event::MappingEnd => self.close()?,
                Event::Alias(anchor) => {
                    let target = Rc::clone(self.anchors.get(&anchor)?);
                    self.add(Node { at, holds: Holds::Alias(target) }, 0);
                }
                Event::DocumentEnd => break,
                Event::Nothing
                | Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(_) => {}
            }
        }
        Some(self.spans)
    }

    fn open(&mut self, at: Place, anchor: usize, mapping: bool) -> Option<()> {
        self.open.push(Open { at, anchor, mapping, items: Vec::new() });
        (self.open.len() <= DEEPEST).then_some(())
    }

    fn close(&mut self) -> Option<()> {
        let Open { at, anchor, mapping, items } = self.open.pop()?;
        let holds = if mapping { self.mapping(items) } else { Holds::List(items) };
        self.add(Node { at, holds }, anchor);
        Some(())
    }

    /// Keys and values in turn.
    fn mapping(&mut self, items: Vec<Rc<Node>>) -> Holds {
        let mut entries: Vec<Entry> = Vec::new();
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            // Nothing that is read here has a container for a key.
            let Holds::Scalar(text) = &key.holds else { continue };
            if self.spans.repeated.is_none() && entries.iter().any(|entry| entry.key == *text) {
                self.spans.repeated = Some((text.clone(), key.at));
            }
            entries.push(Entry { key: text.clone(), key_at: key.at, value });
        }
        Holds::Mapping(entries)
    }

    fn add(&mut self, node: Node, anchor: usize) {
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.put(node);
    }

    fn put(&mut self, node: Rc<Node>) {
        match self.open.last_mut() {
            Some(open) => open.items.push(node),
            None => self.spans.top = Some(node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# a comment
version: 1
bases:
  \"6.12\": {directory: linux}
probes:
  - probe: command
    period-us: [1000,
      4000]
  - {probe: flip, été: x, period-us: 5}
  -
    probe: again
text: |
  version: 2
last: &a [1, 2]
same: *a
";

    /// A path is read as it is displayed.
    #[test]
    fn paths_are_read_as_displayed() {
        for text in ["", "version", "probes[3].period-us", "a[0][1].b"] {
            assert_eq!(Path::read(text).to_string(), text);
        }
        assert_eq!(Path::read("a[1]"), Path::top().key("a").index(1));
    }

    fn place(line: usize, column: usize) -> Option<Place> {
        Some(Place { line, column })
    }

    /// Keys, values and items stand where the file has them, however they are written.
    #[test]
    fn everything_has_its_place() {
        let spans = Spans::of(TEXT);
        let base = Path::top().key("bases").key("6.12");
        let of = |path: Path, key: (usize, usize), value: (usize, usize)| {
            assert_eq!(spans.key_at(&path), place(key.0, key.1), "key of {path}");
            assert_eq!(spans.at(&path), place(value.0, value.1), "value of {path}");
        };
        of(base.clone(), (4, 3), (4, 11));
        of(base.key("directory"), (4, 12), (4, 23));
        for (path, key, value) in [
            ("version", (2, 1), (2, 10)),
            ("probes", (5, 1), (6, 3)),
            ("probes[0]", (6, 5), (6, 5)),
            ("probes[0].period-us", (7, 5), (7, 16)),
            ("probes[0].period-us[1]", (8, 7), (8, 7)),
            ("probes[1]", (9, 5), (9, 5)),
            ("probes[1].period-us", (9, 27), (9, 38)),
            ("probes[2].probe", (11, 5), (11, 12)),
            ("text", (12, 1), (13, 3)),
            ("last[1]", (14, 14), (14, 14)),
            ("same", (15, 1), (15, 7)),
            ("same[1]", (15, 7), (15, 7)),
        ] {
            of(Path::read(path), key, value);
        }
    }

    /// A way that leads further than the document ends where the document does, so a key
    /// that is missing is placed at the mapping that should have it.
    #[test]
    fn what_is_not_there_is_where_it_should_be() {
        let spans = Spans::of(TEXT);
        assert_eq!(spans.at(&Path::read("probes[1].context")), place(9, 5));
        assert_eq!(spans.key_at(&Path::read("probes[1].context[3]")), place(9, 5));
        assert_eq!(spans.at(&Path::read("nothing")), place(2, 1));
    }

    /// A word is found only where it is a whole key or value, and only below the path.
    #[test]
    fn words_are_found_below_a_path() {
        let spans = Spans::of(TEXT);
        assert_eq!(spans.find(&Path::read("probes"), "period-us"), place(7, 5));
        assert_eq!(spans.find(&Path::read("probes[1]"), "period-us"), place(9, 27));
        assert_eq!(spans.find(&Path::read("probes[1]"), "period"), None);
        assert_eq!(spans.find(&Path::top(), "version"), place(2, 1));
    }

    /// A repeated key is told with its second place, also in a mapping inside.
    #[test]
    fn repeated_keys_are_told() {
        assert_eq!(Spans::of(TEXT).repeated(), None);
        let spans = Spans::of("a: 1\nb:\n  x: 1\n  y: 2\n  x: 3\n");
        assert_eq!(spans.repeated(), Some(("x", Place { line: 5, column: 3 })));
    }

    /// No text makes the reader fail or run for long: no YAML, nothing, nesting without
    /// end, aliases of aliases.
    #[test]
    fn hostile_texts_have_no_places() {
        for text in ["", "a: [", "a: *nobody", "\"", &"[".repeat(100_000)] {
            assert_eq!(Spans::of(text).at(&Path::read("a")), None, "{text:.20}");
        }
        let mut laughs = "a0: &a0 [lol, lol]\n".to_owned();
        for level in 1..60 {
            let below = level - 1;
            laughs.push_str(&format!("a{level}: &a{level} [*a{below}, *a{below}]\n"));
        }
        assert_eq!(Spans::of(&laughs).find(&Path::top(), "nothing like it"), None);
    }
}
