// SPDX-License-Identifier: MIT OR Apache-2.0
//! `docs/spec.md`: every key of `bakeoff.yaml` in tables.
//!
//! It is made from the same schema that editors get, so that a key without a row, or a
//! row without a key, cannot be. A test compares; `BAKEOFF_WRITE_DOCS=1` writes it anew.

use crate::base::data::DataDir;
use crate::base::error::Result;
use bakeoff_fuzz::probe::{self, MetricKind, MetricRole, PROBES};
use serde_json::{Map, Value};

use super::schema::{PROBE, TYPES};

const HEAD: &str = "\
<!-- SPDX-License-Identifier: MIT OR Apache-2.0 -->
<!-- Generated: `BAKEOFF_WRITE_DOCS=1 cargo test -p bakeoff reference` writes it anew. -->
# `bakeoff.yaml`

A bake-off is a folder with a `bakeoff.yaml`. The patches of a candidate lie next to it, in
`<base>/<candidate>/NNNN-subject.patch`; a candidate that is the stock tree has none.

`bakeoff new NAME` writes a bake-off that runs as it is. `bakeoff check FOLDER` says whether
one would run. `bakeoff schema --spec` prints the JSON Schema that this page is made from;
editors that know YAML schemas complete keys with it. `patches/hello` is a small bake-off to
read next to this page.

A key that is not marked *required* may be omitted. An unknown key or word is an error, with
its line and column.
";

/// The page.
///
/// # Errors
/// As the schema.
pub fn text(data: &DataDir) -> Result<String> {
    Ok(markdown(&super::schema::schema(data)?))
}

/// The page, from the schema.
#[must_use]
fn markdown(schema: &Value) -> String {
    let mut page = Page { text: HEAD.to_owned(), told: Vec::new(), next: Vec::new() };
    page.object("Top level", schema);
    while !page.next.is_empty() {
        let name = page.next.remove(0);
        let later = std::mem::take(&mut page.next);
        if let Some(of) = schema.pointer(&format!("/{TYPES}/{name}")) {
            page.section(&name, of);
        }
        // A type comes right after the one that it is a part of.
        page.next.extend(later);
    }
    page.text
}

struct Page {
    text: String,
    /// Types that have, or will have, a section.
    told: Vec<String>,
    next: Vec<String>,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// A type: an object, words, or one of several objects.
    fn section(&mut self, name: &str, of: &Value) {
        match of.get("oneOf").and_then(Value::as_array) {
            None if of.get("anyOf").is_some() => {
                self.heading(name, of);
                let takes = self.takes(of);
                self.line(&takes);
            }
            None => {
                self.object(name, of);
                if name == PROBE {
                    self.probes();
                }
            }
            Some(all) if all.iter().all(|one| one.get("properties").is_none()) => {
                self.heading(name, of);
                for one in all {
                    let word = one.get("const").map(told).unwrap_or_default();
                    self.line(&format!("- {word}: {}", description(one)));
                }
            }
            Some(all) => {
                self.heading(name, of);
                for one in all {
                    self.variant(one);
                }
            }
        }
    }

    fn heading(&mut self, name: &str, of: &Value) {
        let words = description(of);
        self.line(&format!("\n## {name}\n"));
        if !words.is_empty() {
            self.line(&format!("{words}\n"));
        }
    }

    fn object(&mut self, name: &str, of: &Value) {
        self.heading(name, of);
        self.keys(of, None);
    }

    /// One of several objects; its tag says which.
    fn variant(&mut self, of: &Value) {
        let tag = properties(of).iter().find_map(|(key, value)| Some((key, value.get("const")?)));
        let Some((tag, word)) = tag else { return };
        self.line(&format!("`{tag}: {}`: {}\n", bare(word), description(of)));
        if properties(of).len() > 1 {
            self.keys(of, Some(tag));
            self.line("");
        }
    }

    fn keys(&mut self, of: &Value, but: Option<&str>) {
        let required = of.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        self.line("| key | takes | |");
        self.line("|---|---|---|");
        let must = |key: &str| required.iter().any(|name| name == key);
        let mut keys: Vec<(&String, &Value)> = properties(of).iter().collect();
        keys.sort_by_key(|(key, _)| !must(key));
        for (key, value) in keys {
            if Some(key.as_str()) == but {
                continue;
            }
            let mut words = vec![description(value)];
            if must(key) {
                words.push("*Required.*".into());
            } else if let Some(default) = value.get("default").filter(|value| !is_nothing(value)) {
                words.push(format!("Default: {}.", told(default)));
            }
            let takes = self.takes(value);
            let words = words.join(" ").replace('|', "\\|");
            self.line(&format!("| `{key}` | {takes} | {} |", words.trim()));
        }
    }

    /// What a value may be, in a few words; types of their own get a section.
    fn takes(&mut self, value: &Value) -> String {
        if let Some(name) = reference(value) {
            if !self.told.contains(&name) {
                self.told.push(name.clone());
                self.next.push(name.clone());
            }
            return format!("[{name}](#{})", name.to_lowercase());
        }
        if let Some(words) = value.get("enum").and_then(Value::as_array) {
            return words.iter().map(told).collect::<Vec<_>>().join(", ");
        }
        match value.get("type").and_then(Value::as_str) {
            Some("array") => match value.get("items") {
                Some(items) => format!("list: {}", self.takes(items)),
                None => "list".into(),
            },
            Some("object") => match value.get("additionalProperties") {
                Some(each @ Value::Object(_)) => format!("name → {}", self.takes(each)),
                Some(_) | None => "mapping".into(),
            },
            Some("string") => "text".into(),
            Some("integer") => "number".into(),
            Some("number") => "number".into(),
            Some("boolean") => "`true` or `false`".into(),
            Some(other) => other.to_owned(),
            None => {
                let any = value.get("anyOf").and_then(Value::as_array);
                let ways = any.into_iter().flatten().map(|one| self.takes(one));
                ways.collect::<Vec<_>>().join(" or ")
            }
        }
    }

    /// What each probe has of its own.
    fn probes(&mut self) {
        self.line("\nA measurement also takes the parameters of its probe.");
        for probe in PROBES {
            self.probe(probe);
        }
    }

    fn probe(&mut self, probe: &probe::Probe) {
        self.line(&format!("\n### Probe `{}`\n\n{}\n", probe.name, sentence(probe.doc)));
        self.line("| parameter | takes | |");
        self.line("|---|---|---|");
        for param in probe.params {
            let list = if param.sweeps { " A list makes one condition of each value." } else { "" };
            let means = sentence(param.means);
            self.line(&format!("| `{}` | {} | {means}{list} |", param.name, param.takes));
        }
        self.line("\n| metric | unit | |");
        self.line("|---|---|---|");
        for metric in probe.metrics {
            let kind = match metric.kind {
                MetricKind::Share => format!("share of {}", metric.unit),
                MetricKind::Value => metric.unit.to_owned(),
            };
            let role = match metric.role {
                MetricRole::Claim => " Judged if the spec states no claims.",
                MetricRole::NeverWrong => " Whatever is not right is a wrong answer.",
                MetricRole::Shown | MetricRole::Condition => "",
            };
            let means = sentence(metric.means);
            self.line(&format!("| `{}` | {kind} | {means}{role} |", metric.name));
        }
    }
}

fn properties(of: &Value) -> &Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    of.get("properties").and_then(Value::as_object).unwrap_or(&NONE)
}

/// The words of the schema in one line.
fn description(of: &Value) -> String {
    let words = of.get("description").and_then(Value::as_str).unwrap_or_default();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `#/definitions/Base` → `Base`, also if it is wrapped to carry a description.
fn reference(value: &Value) -> Option<String> {
    let wrapped = value.get("allOf").and_then(|all| all.get(0));
    let link = value.get("$ref").or_else(|| wrapped?.get("$ref"))?.as_str()?;
    Some(link.rsplit('/').next()?.to_owned())
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn told(value: &Value) -> String {
    format!("`{}`", bare(value))
}

/// A default that says nothing: an empty list, no.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(keys) => keys.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => false,
    }
}

/// With a capital and a full stop.
fn sentence(words: &str) -> String {
    let words = words.replace('|', "\\|");
    let mut letters = words.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::spec::schema::schema;

    /// `docs/spec.md` says what the program reads.
    #[test]
    fn the_reference_is_up_to_date() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/spec.md");
        let is = markdown(&schema(&DataDir::embedded()).unwrap());
        if std::env::var_os("BAKEOFF_WRITE_DOCS").is_some() {
            std::fs::write(&file, &is).unwrap();
        }
        let stands = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            stands == is,
            "docs/spec.md is out of date: `BAKEOFF_WRITE_DOCS=1 cargo test -p bakeoff reference` \
             writes it anew"
        );
    }

    /// Every type of the schema has a section, and every link leads to one.
    #[test]
    fn every_type_has_a_section() {
        let schema = schema(&DataDir::embedded()).unwrap();
        let page = markdown(&schema);
        for name in schema[TYPES].as_object().unwrap().keys() {
            assert!(page.contains(&format!("\n## {name}\n")), "no section for {name}");
        }
    }
}
