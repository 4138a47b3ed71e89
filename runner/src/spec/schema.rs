// SPDX-License-Identifier: MIT OR Apache-2.0
//! The JSON Schema of `bakeoff.yaml`, for editors: they complete keys, show what a key
//! means and mark what is wrong while it is typed.
//!
//! It is made from the types that read the file and from the tables of the probes, so it
//! cannot lag behind them. It knows words and shapes; what only the whole spec can tell,
//! such as a condition that no probe measures, is for `bakeoff check`.

use bakeoff_fuzz::probe::{self, PROBES, Param};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::arch::Arch;
use super::raw::RawSpec;
use super::resolve::profile_names;
use crate::base::data::DataDir;
use crate::base::error::{Error, Result};

/// Where a schema keeps its types.
pub(super) const TYPES: &str = "definitions";
/// The type of a measurement.
pub(super) const PROBE: &str = "Probe";

/// The schema, with the architectures and profiles of `data`.
///
/// # Errors
/// The data directory cannot be read.
pub fn schema(data: &DataDir) -> Result<Value> {
    // Draft 7 is what YAML editors know best.
    let root = SchemaSettings::draft07().into_generator().into_root_schema_for::<RawSpec>();
    let mut schema = root.to_value();
    tidy(&mut schema);
    let words = |names: Vec<String>| json!({"type": "array", "items": {"enum": names}});
    let archs = words(Arch::names(data)?);
    let profiles = words(profile_names(data)?);
    for (key, with) in
        [("architectures", &archs), ("profiles", &profiles), ("on-request", &profiles)]
    {
        extend(&mut schema, &format!("/properties/{key}"), with)?;
    }
    let names: Vec<&str> = PROBES.iter().map(|probe| probe.name).collect();
    extend(
        &mut schema,
        &format!("/{TYPES}/Candidate/properties/tested-by"),
        &json!({"enum": names}),
    )?;
    complete_metrics(&mut schema);
    let measurement = format!("/{TYPES}/{PROBE}");
    let common = schema
        .pointer(&format!("{measurement}/properties"))
        .and_then(Value::as_object)
        .cloned()
        .ok_or_else(|| missing(&measurement))?;
    let probes = probes(&common);
    extend(&mut schema, &measurement, &probes)?;
    extend(&mut schema, &format!("{measurement}/properties/probe"), &json!({"enum": names}))?;
    Ok(schema)
}

/// The same as text.
///
/// # Errors
/// As [`schema`].
pub fn text(data: &DataDir) -> Result<String> {
    Ok(format!("{:#}\n", schema(data)?))
}

fn missing(place: &str) -> Error {
    Error::failure(format!("the schema of the spec has no {place}"))
}

/// Adds keys to an object in the schema.
fn extend(schema: &mut Value, place: &str, with: &Value) -> Result<()> {
    let into = schema.pointer_mut(place).and_then(Value::as_object_mut);
    let into = into.ok_or_else(|| missing(place))?;
    into.extend(with.as_object().cloned().unwrap_or_default());
    Ok(())
}

/// A key that is left out is left out; nobody writes `null` for it. And formats are for
/// programs.
fn tidy(schema: &mut Value) {
    let null = json!({"type": "null"});
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|of| of != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(any)) = object.get("anyOf")
                && any.contains(&null)
            {
                let rest: Vec<Value> = any.iter().filter(|of| **of != null).cloned().collect();
                object.remove("anyOf");
                object.insert("allOf".into(), Value::Array(rest));
            }
            // A part that is left out has the defaults of its own keys.
            if object.get("default").is_some_and(|value| value.is_null() || value.is_object()) {
                object.remove("default");
            }
            if object.get("format").is_some_and(Value::is_string) {
                object.remove("format");
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Every key `metric` takes a declared name, or one that a declaration covers.
fn complete_metrics(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get_mut("properties")
                && let Some(Value::Object(metric)) = properties.get_mut("metric")
            {
                let declared = || PROBES.iter().flat_map(|probe| probe.metrics).map(|m| m.name);
                let whole: Vec<&str> = declared().filter(|name| !name.ends_with('/')).collect();
                let mut any = vec![json!({"enum": whole})];
                any.extend(
                    declared()
                        .filter(|name| name.ends_with('/'))
                        .map(|name| json!({"pattern": format!("^{}", name.replace('.', "\\."))})),
                );
                metric.insert("anyOf".into(), Value::Array(any));
            }
            object.values_mut().for_each(complete_metrics);
        }
        Value::Array(items) => items.iter_mut().for_each(complete_metrics),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Each probe has parameters of its own next to the keys that all have.
fn probes(common: &Map<String, Value>) -> Value {
    let of_one = |probe: &probe::Probe| {
        let mut keys: Map<String, Value> =
            common.keys().map(|key| (key.clone(), Value::Bool(true))).collect();
        keys.extend(probe.params.iter().map(|param| (param.name.to_owned(), parameter(param))));
        json!({
            "if": {"properties": {"probe": {"const": probe.name}}},
            "then": {"properties": keys, "additionalProperties": false},
        })
    };
    let each: Vec<Value> = PROBES.iter().map(of_one).collect();
    json!({"allOf": each, "additionalProperties": true})
}

fn parameter(param: &Param) -> Value {
    let mut means = format!("{} (takes: {})", param.means, param.takes);
    if param.sweeps {
        means.push_str("; a list makes one condition of each value");
    }
    json!({"description": means})
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::spec::raw::PROBE_KEYS;

    fn embedded() -> Value {
        schema(&DataDir::embedded()).unwrap()
    }

    /// The keys that all measurements have are those that an error offers.
    #[test]
    fn keys_of_a_measurement_are_listed() {
        let schema = embedded();
        let known = schema.pointer("/definitions/Probe/properties").unwrap();
        let mut keys: Vec<&str> = known.as_object().unwrap().keys().map(String::as_str).collect();
        keys.retain(|key| *key != "probe");
        keys.sort_unstable();
        let mut listed = PROBE_KEYS.to_vec();
        listed.sort_unstable();
        assert_eq!(keys, listed);
    }

    /// What an editor with this schema says of a text: nothing, or what is wrong.
    fn complaints(text: &str) -> Option<String> {
        let mut compiler = boon::Compiler::new();
        compiler.add_resource("spec.json", embedded()).unwrap();
        let mut schemas = boon::Schemas::new();
        let index = compiler.compile("spec.json", &mut schemas).unwrap();
        let written: Value = serde_yaml::from_str(text).unwrap();
        schemas.validate(&written, index).err().map(|error| error.to_string())
    }

    /// What the program takes, an editor takes: every valid fixture and every bake-off that
    /// is checked in.
    #[test]
    fn valid_specs_fit() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let in_folder = |folder: &str| {
            let entries = fs::read_dir(root.join(folder)).unwrap();
            entries.map(|entry| entry.unwrap().path()).collect::<Vec<PathBuf>>()
        };
        let mut files = in_folder("tests/fixtures/spec/valid");
        let bakeoffs = in_folder("../patches").into_iter().map(|dir| dir.join("bakeoff.yaml"));
        files.extend(bakeoffs.filter(|file| file.is_file()));
        assert!(files.len() >= 3, "{files:?}");
        for file in files {
            let wrong = complaints(&fs::read_to_string(&file).unwrap());
            assert_eq!(wrong, None, "{}", file.display());
        }
    }

    /// Unknown keys and words are marked while they are typed, in every part of a spec.
    #[test]
    fn misspelt_specs_do_not_fit() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/spec/invalid");
        for name in [
            "after-letters",
            "claim-of-no-metric",
            "claim-unknown-key",
            "fuzz-unknown-key",
            "gate-of-nothing",
            "gate-unknown",
            "gate-unknown-key",
            "gate-unknown-reading",
            "known-unknown-key",
            "known-without-expiry",
            "pack-unknown-key",
            "parameter-not-of-probe",
            "profiles-no-list",
            "tested-by-unknown-probe",
            "truncated",
            "unknown-architecture",
            "unknown-key",
            "unknown-probe",
            "unknown-profile",
            "unknown-top-key",
            "visits-no-number",
        ] {
            let text = fs::read_to_string(dir.join(format!("{name}.yaml"))).unwrap();
            assert!(complaints(&text).is_some(), "{name}");
        }
    }

    /// Whatever an editor shows has words: every key, everywhere.
    #[test]
    fn every_key_says_what_it_means() {
        fn walk(schema: &Value, at: &str, silent: &mut Vec<String>) {
            let Value::Object(object) = schema else { return };
            for (key, value) in object {
                let at = format!("{at}/{key}");
                if key == "properties" && !at.contains("/if/") && !at.contains("/then/") {
                    for (name, property) in value.as_object().unwrap() {
                        // The tag of a gate is told by its variant.
                        let tag = property.get("const").is_some();
                        if property.get("description").is_none() && !tag {
                            silent.push(format!("{at}/{name}"));
                        }
                    }
                }
                match value {
                    Value::Array(items) => {
                        items.iter().for_each(|item| walk(item, &at, silent));
                    }
                    other => walk(other, &at, silent),
                }
            }
        }
        let mut silent = Vec::new();
        walk(&embedded(), "", &mut silent);
        assert!(silent.is_empty(), "{silent:#?}");
    }
}
