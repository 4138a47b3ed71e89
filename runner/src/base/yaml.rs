// SPDX-License-Identifier: MIT OR Apache-2.0
//! YAML as people write it, read so that whatever is wrong has its line and column.
//!
//! `serde_yaml` reads the values; [`Spans`] reads the same text once more and keeps the
//! places. A check that is made later names the way to what it means, as a [`Path`], and
//! [`Document::error`] turns that into a place in the file. This module is the only user
//! of both libraries.

mod spans;

use serde::de::DeserializeOwned;

pub use spans::{Path, Place, Spans};

use crate::base::error::{Error, Result};
use crate::base::words::nearest;

/// A text that was read, with the places of what it holds.
#[derive(Debug)]
pub struct Document {
    /// The file's name, for people.
    name: String,
    spans: Spans,
}

/// What is wrong with a document, and where: a way to the key or value that is meant.
#[derive(Debug)]
pub struct Wrong {
    path: Path,
    points_at: PointsAt,
    error: Error,
}

#[derive(Debug)]
enum PointsAt {
    Key,
    Value,
}

impl Wrong {
    /// The value there is wrong.
    pub fn value(path: &Path, why: impl Into<String>) -> Self {
        Wrong { path: path.clone(), points_at: PointsAt::Value, error: Error::bad_input(why) }
    }

    /// The key there is wrong, or something about all that it holds.
    pub fn key(path: &Path, why: impl Into<String>) -> Self {
        Wrong { path: path.clone(), points_at: PointsAt::Key, error: Error::bad_input(why) }
    }

    /// An error that was met on behalf of a key.
    pub fn from_error(path: &Path, error: Error) -> Self {
        Wrong { path: path.clone(), points_at: PointsAt::Key, error }
    }

    /// Adds the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.error = self.error.hint(hint);
        self
    }

    /// The same, seen from further up: its path began at `path`.
    #[must_use]
    pub fn below(mut self, path: &Path) -> Self {
        self.path = path.join(&self.path);
        self
    }

    /// The message without a place.
    #[cfg(test)]
    pub fn message(&self) -> &str {
        self.error.message()
    }

    /// The way to what is meant.
    #[cfg(test)]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Document {
    /// Reads a text as `T`; `name` is the file's, for errors.
    ///
    /// # Errors
    /// No YAML, a key that stands twice, or what does not fit `T`, with file, line, column
    /// and the nearest valid word.
    pub fn read<T: DeserializeOwned>(text: &str, name: &str) -> Result<(T, Document)> {
        let document = Document { name: name.to_owned(), spans: Spans::of(text) };
        if let Some((key, at)) = document.spans.repeated() {
            return Err(document.placed(Some(at), format!("`{key}` is given twice")));
        }
        match serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(text)) {
            Ok(value) => Ok((value, document)),
            Err(error) => Err(document.misread(&error)),
        }
    }

    /// An error with its place in the file.
    #[must_use]
    pub fn error(&self, wrong: Wrong) -> Error {
        let Wrong { path, points_at, error } = wrong;
        let at = match points_at {
            PointsAt::Key => self.spans.key_at(&path),
            PointsAt::Value => self.spans.at(&path),
        };
        error.prefixed(self.place(at))
    }

    fn place(&self, at: Option<Place>) -> String {
        at.map_or_else(|| self.name.clone(), |at| format!("{}:{at}", self.name))
    }

    fn placed(&self, at: Option<Place>, message: String) -> Error {
        Error::bad_input(message).prefixed(self.place(at))
    }

    /// An error of the deserializer.
    fn misread(&self, error: &serde_path_to_error::Error<serde_yaml::Error>) -> Error {
        let inner = error.inner();
        let text = inner.to_string();
        // The library appends " at line L column C"; the place stands in front already.
        let message = text.split(" at line ").next().unwrap_or_default();
        let own = || {
            let at = inner.location()?;
            Some(Place { line: at.line(), column: at.column() })
        };
        let at = self.meant(&path_of(error.path()), message).or_else(own);
        self.placed(at, suggest_unknown(message))
    }

    /// Where the thing stands that a message of the deserializer is about. It reads some
    /// mappings as a whole before it looks at their entries, and then its path ends at
    /// the mapping; the word that it quotes is one of that mapping's keys or values.
    fn meant(&self, path: &Path, message: &str) -> Option<Place> {
        let at = self.spans.at(path)?;
        // What is missing stands nowhere.
        if message.contains("missing field") {
            return Some(at);
        }
        let quoted = ['`', '"'].into_iter().find_map(|quote| message.split(quote).nth(1));
        let Some(word) = quoted else { return Some(at) };
        if message.contains("unknown field") && path.ends_with(word) {
            return self.spans.key_at(path);
        }
        self.spans.find(path, word).or(Some(at))
    }
}

/// The path that was followed when an error came up.
fn path_of(path: &serde_path_to_error::Path) -> Path {
    use serde_path_to_error::Segment;
    path.iter().fold(Path::top(), |path, segment| match segment {
        Segment::Seq { index } => path.index(*index),
        Segment::Map { key } => path.key(key),
        // A variant that is written as a mapping with one key.
        Segment::Enum { variant } => path.key(variant),
        Segment::Unknown => path,
    })
}

/// "unknown field `x`, expected one of `a`, `b`" → the same with the nearest one.
pub fn suggest_unknown(message: &str) -> String {
    let words: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let unknown = message.contains("unknown field") || message.contains("unknown variant");
    match words.split_first() {
        Some((written, valid)) if unknown => match nearest(written, valid.iter().copied()) {
            Some(near) => format!("{message} (did you mean `{near}`?)"),
            None => message.to_owned(),
        },
        Some(_) | None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Top {
        #[allow(dead_code, reason = "only read")]
        name: String,
        #[serde(default)]
        #[allow(dead_code, reason = "only read")]
        list: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
    enum Item {
        Number {
            #[allow(dead_code, reason = "only read")]
            value: u8,
        },
        Word {
            #[allow(dead_code, reason = "only read")]
            text: String,
        },
    }

    fn refused(text: &str) -> String {
        Document::read::<Top>(text, "x.yaml").unwrap_err().message().to_owned()
    }

    /// Whatever the deserializer refuses has the place of the key or value that is meant,
    /// also inside of mappings that it reads as a whole.
    #[test]
    fn what_does_not_fit_has_its_place() {
        for (text, place, says) in [
            ("name: [1]\n", "1:7", "invalid type"),
            ("name: x\nnmae: y\n", "2:1", "did you mean `name`?"),
            ("list: []\n", "1:1", "missing field `name`"),
            ("name: x\nlist:\n  - {kind: nubmer, value: 1}\n", "3:12", "did you mean `number`?"),
            ("name: x\nlist:\n  - {kind: number, vlaue: 1}\n", "3:20", "did you mean `value`?"),
            ("name: x\nlist:\n  - kind: number\n    value: 300\n", "4:12", "300"),
            ("name: x\nlist:\n  - kind: number\n    value: often\n", "4:12", "often"),
            ("name: x\nlist:\n  - kind: number\n", "3:5", "missing field `value`"),
            ("name: x\nlist:\n  - kind: word\n    text: [1]\n", "3:5", "invalid type"),
            ("name: x\nname: y\n", "2:1", "`name` is given twice"),
            ("name: \"x\nlist: y\n", "3:1", "unexpected end"),
        ] {
            let said = refused(text);
            assert!(said.starts_with(&format!("x.yaml:{place}: ")), "{text}: {said}");
            assert!(said.contains(says), "{text}: {said}");
        }
    }

    /// A check that is made later has the place of the key or of the value, with its hint.
    #[test]
    fn later_checks_have_their_place() {
        let (_, document) = Document::read::<Top>("name: x\nlist: []\n", "x.yaml").unwrap();
        let name = Path::top().key("name");
        let error = document.error(Wrong::value(&name, "is short").hint("make it longer"));
        assert_eq!(error.message(), "x.yaml:1:7: is short");
        assert_eq!(error.next_step(), Some("make it longer"));
        let list = Wrong::key(&Path::top(), "is empty").below(&Path::top().key("list"));
        assert_eq!(document.error(list).message(), "x.yaml:2:1: is empty");
    }
}
