// SPDX-License-Identifier: MIT OR Apache-2.0
//! The step from what is written to what it means.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bakeoff_fuzz::probe as guest;
use bakeoff_fuzz::wire::{Params, Step};

use super::raw::{PROBE_KEYS, RawBase, RawCandidate, RawDebian, RawGit, RawProbe, RawSpec};
use super::{Base, BaseSource, Candidate, Gate, Prediction, Probe, Role, Series, Spec, VERSION};
use crate::base::data::DataDir;
use crate::base::error::{Context, Error, Result};
use crate::base::words::did_you_mean;
use crate::base::yaml::{Path as Way, Wrong, suggest_unknown};

/// What a check comes to: what is wrong names the key or value that it means.
type Checked<T> = std::result::Result<T, Wrong>;

/// What a written spec means on the day `today`.
pub(super) fn resolve(
    raw: RawSpec,
    file: &Path,
    data: &DataDir,
    today: jiff::civil::Date,
) -> Checked<Spec> {
    let RawSpec {
        version,
        name,
        title,
        thread,
        bases,
        candidates,
        architectures,
        profiles,
        on_request,
        probes,
        pack,
        machine,
        claims,
        budget,
        quick_budget,
        gates,
        predictions,
        known_splats,
        fuzz,
    } = raw;
    let top = |key: &str| Way::top().key(key);
    if version != VERSION {
        let message = format!("version {version} of the format is not known; this is {VERSION}");
        return Err(Wrong::value(&top("version"), message));
    }
    check_name("bake-off", &name).map_err(|why| Wrong::value(&top("name"), why))?;
    let dir = file.parent().unwrap_or(Path::new(".")).to_owned();

    let mut resolved_bases = Vec::new();
    for (base, raw) in bases.0 {
        let at = top("bases").key(&base);
        check_name("base", &base).map_err(|why| Wrong::key(&at, why))?;
        let source = base_source(raw, &dir).map_err(|wrong| wrong.below(&at))?;
        resolved_bases.push(Base { name: base, source });
    }
    if resolved_bases.is_empty() {
        return Err(Wrong::key(&top("bases"), "a bake-off needs at least one base"));
    }
    let base_names: Vec<&str> = resolved_bases.iter().map(|b| b.name.as_str()).collect();

    let mut resolved = Vec::new();
    for (candidate, raw) in candidates.0 {
        let at = top("candidates").key(&candidate);
        check_name("candidate", &candidate).map_err(|why| Wrong::key(&at, why))?;
        resolved.push(resolve_candidate(&candidate, raw, &dir, &base_names, &at)?);
    }
    check_roles(&resolved, &top("candidates"))?;

    let known = crate::spec::arch::Arch::names(data)
        .map_err(|error| Wrong::from_error(&top("architectures"), error))?;
    check_words("architecture", &architectures, &known, &top("architectures"))?;
    let known_profiles =
        profile_names(data).map_err(|error| Wrong::from_error(&top("profiles"), error))?;
    check_words("profile", &profiles, &known_profiles, &top("profiles"))?;
    if !on_request.is_empty() {
        check_words("profile", &on_request, &known_profiles, &top("on-request"))?;
        if let Some(again) = on_request.iter().position(|name| profiles.contains(name)) {
            let why = format!("profile `{}` is done in any case", on_request[again]);
            return Err(Wrong::value(&top("on-request").index(again), why));
        }
    }
    let all_profiles = [profiles.clone(), on_request.clone()].concat();

    pack.check(&dir).map_err(|wrong| wrong.below(&top("pack")))?;
    let kernels = [known.clone(), all_profiles.clone()].concat();
    machine.check(&dir, &kernels).map_err(|wrong| wrong.below(&top("machine")))?;

    let resolved_probes = resolve_probes(probes, &all_profiles, &top("probes"))?;
    let mut resolved_claims: Vec<super::Claim> = Vec::new();
    for (index, raw) in claims.into_iter().enumerate() {
        let at = top("claims").index(index);
        let claim =
            super::claims::resolve(raw, &resolved_probes).map_err(|wrong| wrong.below(&at))?;
        if resolved_claims.iter().any(|other| other.name == claim.name) {
            let why = format!("the claim `{}` is given twice", claim.name);
            return Err(Wrong::value(&at.key("claim"), why));
        }
        resolved_claims.push(claim);
    }
    if resolved_claims.is_empty() {
        resolved_claims = super::claims::by_default(&resolved_probes, &profiles);
    }
    let time = |key: &str, text: Option<&str>| {
        let time = text.map(super::claims::parse_budget).transpose();
        time.map_err(|why| Wrong::value(&top(key), why))
    };
    let budget = time("budget", budget.as_deref())?;
    let quick_budget = time("quick-budget", quick_budget.as_deref())?.or(budget);
    let nameable = Known { probes: &resolved_probes, claims: &resolved_claims };
    for (index, Prediction { candidate, holds_if, .. }) in predictions.iter().enumerate() {
        let at = top("predictions").index(index);
        let known = || resolved.iter().map(|c| c.name.as_str());
        if !known().any(|name| name == candidate) {
            let near = did_you_mean(candidate, known());
            let why = format!("predictions: there is no candidate `{candidate}`; {near}");
            return Err(Wrong::value(&at.key("candidate"), why));
        }
        check_gate(holds_if, &nameable).map_err(|wrong| wrong.below(&at.key("holds-if")))?;
    }
    for (index, gate) in gates.iter().enumerate() {
        check_gate(gate, &nameable).map_err(|wrong| wrong.below(&top("gates").index(index)))?;
    }
    for (index, known) in known_splats.iter().enumerate() {
        let at = |key: &str| top("known_splats").index(index).key(key);
        if let Some((key, why)) = known.complaint(today) {
            return Err(Wrong::value(&at(key), why));
        }
        if known_splats[..index].iter().any(|other| other.pattern == known.pattern) {
            let why = format!("the known splat `{}` is given twice", known.pattern);
            return Err(Wrong::value(&at("pattern"), why));
        }
    }
    let around = super::fuzz::Around {
        dir: &dir,
        candidates: &resolved,
        architectures: &architectures,
        profiles: &known_profiles,
    };
    let fuzz = fuzz.map(|raw| super::fuzz::resolve(raw, &around)).transpose();
    let fuzz = fuzz.map_err(|wrong| wrong.below(&top("fuzz")))?;
    Ok(Spec {
        file: file.to_owned(),
        dir,
        name,
        title,
        thread,
        bases: resolved_bases,
        candidates: resolved,
        predictions,
        architectures,
        profiles,
        on_request,
        probes: resolved_probes,
        pack,
        machine,
        claims: resolved_claims,
        budget,
        quick_budget,
        gates,
        known_splats,
        fuzz,
    })
}

/// One reference, and one of what there may only be one of.
fn check_roles(candidates: &[Candidate], at: &Way) -> Checked<()> {
    if candidates.is_empty() {
        return Err(Wrong::key(at, "a bake-off needs at least one candidate"));
    }
    for (role, what) in [
        (Role::Reference, "reference"),
        (Role::Control, "control"),
        (Role::NegativeControl, "negative-control"),
    ] {
        let with: Vec<&Candidate> = candidates.iter().filter(|c| c.role == role).collect();
        if let [first, second, ..] = with.as_slice() {
            let why = format!("`{}` and `{}` both have the role {what}", first.name, second.name);
            return Err(Wrong::value(&at.key(&second.name).key("role"), why));
        }
        if role == Role::Reference && with.is_empty() {
            return Err(Wrong::key(at, "one candidate must have `role: reference`"));
        }
    }
    Ok(())
}

fn resolve_probes(written: Vec<RawProbe>, profiles: &[String], at: &Way) -> Checked<Vec<Probe>> {
    let mut resolved: Vec<Probe> = Vec::new();
    for (index, raw) in written.into_iter().enumerate() {
        let at = at.index(index);
        for (index, profile) in raw.profiles.iter().enumerate() {
            if !profiles.contains(profile) {
                let near = did_you_mean(profile, profiles.iter().map(String::as_str));
                let why = format!("the bake-off has no profile `{profile}`; {near}");
                return Err(Wrong::value(&at.key("profiles").index(index), why));
            }
        }
        for probe in measurements(raw).map_err(|wrong| wrong.below(&at))? {
            // The same may be asked of another profile with other numbers.
            let meets = |other: &Probe| {
                probe.profiles.is_empty()
                    || other.profiles.is_empty()
                    || probe.profiles.iter().any(|profile| other.profiles.contains(profile))
            };
            if resolved.iter().any(|other| other.label == probe.label && meets(other)) {
                return Err(Wrong::value(&at, format!("{} is given twice", probe.label)));
            }
            resolved.push(probe);
        }
    }
    if resolved.is_empty() {
        return Err(Wrong::key(at, "a bake-off needs at least one probe"));
    }
    Ok(resolved)
}

/// What a gate may name.
struct Known<'a> {
    probes: &'a [Probe],
    claims: &'a [super::Claim],
}

/// Whether a gate names what there is.
fn check_gate(gate: &Gate, known: &Known<'_>) -> Checked<()> {
    let wrong = |key: &str, why: String| Err(Wrong::value(&Way::top().key(key), why));
    let empty = |what: &str| wrong("is", format!("`is:` is empty: no {what} is that"));
    let labels = || known.probes.iter().map(|p| p.label.as_str());
    let metric = |metric: &str| {
        if super::claims::declared(metric).is_some() {
            return Ok(());
        }
        let all = guest::PROBES.iter().flat_map(|probe| probe.metrics).map(|m| m.name);
        wrong("metric", format!("no metric `{metric}`; {}", did_you_mean(metric, all)))
    };
    let condition = |key: &str, written: &str| {
        if labels().any(|label| super::plan::selects(written, label)) {
            return Ok(());
        }
        wrong(key, format!("no condition `{written}`; {}", did_you_mean(written, labels())))
    };
    match gate {
        Gate::AtLeast { metric: name, condition: at, value }
        | Gate::AtMost { metric: name, condition: at, value }
        | Gate::Never { metric: name, condition: at, value } => {
            metric(name)?;
            let share =
                super::claims::declared(name).is_some_and(|m| m.kind == guest::MetricKind::Share);
            if share && !(0.0..=1.0).contains(value) {
                return wrong("value", format!("value {value} is not between 0 and 1"));
            }
            at.as_deref().map_or(Ok(()), |at| condition("condition", at))
        }
        Gate::Falls { metric: name, condition: at, from } => {
            metric(name)?;
            condition("condition", at)?;
            condition("from", from)
        }
        Gate::ClaimIs { claim, is } => {
            let names = || known.claims.iter().map(|claim| claim.name.as_str());
            if !names().any(|name| name == claim) {
                let near = did_you_mean(claim, names());
                return wrong("claim", format!("no claim `{claim}`; {near}"));
            }
            if is.is_empty() { empty("claim") } else { Ok(()) }
        }
        Gate::WrongIs { metric: name, is } => {
            metric(name)?;
            if is.is_empty() { empty("answer") } else { Ok(()) }
        }
        Gate::SplatIs { title: _, is } if is.is_empty() => empty("splat"),
        Gate::VerdictIs { is } if is.is_empty() => empty("verdict"),
        Gate::NoNewSplats
        | Gate::ControlSplatRemoved
        | Gate::SplatIs { .. }
        | Gate::NoSplats { .. }
        | Gate::VerdictIs { .. } => Ok(()),
    }
}

/// One value of a parameter; from a list, with its place there.
type Value = (Option<usize>, serde_json::Value);

/// One measurement for each combination of what is given as a list.
fn measurements(raw: RawProbe) -> Checked<Vec<Probe>> {
    let RawProbe {
        probe,
        visits,
        blocks,
        calls_per_block,
        block_ms,
        profiles,
        own_boot,
        quick,
        params,
    } = raw;
    let at = |key: &str| Way::top().key(key);
    let row = guest::find(&probe).ok_or_else(|| {
        let known = guest::PROBES.iter().map(|probe| probe.name);
        let why = format!("there is no probe `{probe}`; {}", did_you_mean(&probe, known));
        Wrong::value(&at("probe"), why)
    })?;
    for key in params.keys() {
        if !row.params.iter().any(|param| param.name == key) {
            let all = row.params.iter().map(|param| param.name).chain(PROBE_KEYS.iter().copied());
            let near = did_you_mean(key, all);
            let why = format!("the probe {probe} has no parameter `{key}`; {near}");
            return Err(Wrong::key(&at(key), why));
        }
    }
    if visits.is_some_and(|visits| !(1..=100_000).contains(&visits)) {
        return Err(Wrong::value(&at("visits"), "visits is not between 1 and 100000"));
    }
    let mut all: Vec<BTreeMap<&str, Value>> = vec![BTreeMap::new()];
    for param in row.params {
        let Some(value) = params.get(param.name) else { continue };
        let values: Vec<Value> = match value {
            serde_json::Value::Array(list) if param.sweeps => {
                if list.is_empty() {
                    let why = format!("the list of `{}` is empty", param.name);
                    return Err(Wrong::value(&at(param.name), why));
                }
                list.iter().cloned().enumerate().map(|(at, value)| (Some(at), value)).collect()
            }
            other => vec![(None, other.clone())],
        };
        let with = |params: &BTreeMap<&'static str, Value>, value: &Value| {
            let mut params = params.clone();
            params.insert(param.name, value.clone());
            params
        };
        all = all
            .iter()
            .flat_map(|params| values.iter().map(move |value| with(params, value)))
            .collect();
    }
    let size = row.size;
    let measurement = |given: BTreeMap<&str, Value>| {
        // What the probe refuses stands in the list, if there is one.
        let place = |about: &str| {
            let (param, within) = about.split_at(about.find(['.', '[']).unwrap_or(about.len()));
            let param = match given.get(param) {
                Some((Some(index), _)) => at(param).index(*index),
                Some((None, _)) | None => at(param),
            };
            param.join(&Way::read(within))
        };
        let params: Params =
            given.iter().map(|(name, (_, value))| ((*name).to_owned(), value.clone())).collect();
        let step = Step {
            id: 0,
            probe: probe.clone(),
            params,
            blocks: blocks.unwrap_or(size.blocks),
            calls_per_block: calls_per_block.unwrap_or(size.calls_per_block),
            block_ms: block_ms.unwrap_or(size.block_ms),
        };
        let (_, condition) = guest::check(&step).map_err(|why| {
            let says = suggest_unknown(&why.to_string());
            let Some(about) = why.parameter() else { return Wrong::value(&Way::top(), says) };
            let names_it = says.contains(about.rsplit('.').next().unwrap_or(about));
            let says = if names_it { says } else { format!("{about}: {says}") };
            Wrong::value(&place(about), says)
        })?;
        let own_time = condition.block_ms.filter(|_| block_ms.is_none());
        let step = Step { block_ms: own_time.unwrap_or(step.block_ms), ..step };
        let label = format!("{probe}/{}", condition.label);
        let profiles = profiles.clone();
        Ok(Probe { step, label, visits, profiles, own_boot, quick })
    };
    let all: Vec<Probe> = all.into_iter().map(measurement).collect::<Checked<_>>()?;
    Ok(all)
}

fn resolve_candidate(
    name: &str,
    raw: RawCandidate,
    dir: &Path,
    bases: &[&str],
    at: &Way,
) -> Checked<Candidate> {
    let RawCandidate { role, title, stock, foreign, untested, tested_by, not_portable } = raw;
    if let Some(probe) = &tested_by {
        let known = || guest::PROBES.iter().map(|probe| probe.name);
        if !known().any(|name| name == probe) {
            let why = format!("there is no probe `{probe}`; {}", did_you_mean(probe, known()));
            return Err(Wrong::value(&at.key("tested-by"), why));
        }
    }
    let excused = |base: &str| at.key("not-portable").key(base);
    for base in not_portable.keys() {
        // A base that is not (yet) in the spec may be declared; a misspelt one may not.
        check_name("base", base).map_err(|why| Wrong::key(&excused(base), why))?;
    }
    let mut on = BTreeMap::new();
    for base in bases {
        let folder = dir.join(base).join(name);
        let declared = not_portable.get(*base);
        let series = match (stock, folder.is_dir(), declared) {
            (_, true, Some(_)) => {
                let why = format!("not portable to {base}, but {} exists", folder.display());
                return Err(Wrong::key(&excused(base), why));
            }
            (_, false, Some(reason)) => Series::NotPortable(reason.clone()),
            (true, true, None) => {
                let why = format!("says `stock: true`, but {} exists", folder.display());
                return Err(Wrong::key(&at.key("stock"), why));
            }
            (true, false, None) => Series::Stock,
            (false, false, None) => {
                let why = format!("the folder {} with its patches is missing", folder.display());
                return Err(Wrong::key(at, why).hint(
                    "add the folder, or say `stock: true`, or give the reason under `not-portable:`",
                ));
            }
            (false, true, None) => {
                Series::Patches(patches_in(&folder).map_err(|error| Wrong::from_error(at, error))?)
            }
        };
        on.insert((*base).to_owned(), series);
    }
    Ok(Candidate {
        name: name.to_owned(),
        role,
        title,
        untested,
        tested_by,
        on,
        foreign,
        added: false,
    })
}

/// The patches of a folder, in the order of their numbers.
pub(crate) fn patches_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut patches = Vec::new();
    for entry in fs::read_dir(dir).at_path("read the folder", dir)? {
        let path = entry.at_path("read the folder", dir)?.path();
        if path.extension().is_some_and(|e| e == "patch" || e == "mbox" || e == "eml") {
            patches.push(path);
        }
    }
    patches.sort();
    if patches.is_empty() {
        return Err(Error::bad_input(format!("no patches in {}", dir.display()))
            .hint("patches are files named NNNN-subject.patch, as git format-patch writes them"));
    }
    Ok(patches)
}

fn base_source(raw: RawBase, dir: &Path) -> Checked<BaseSource> {
    let at = Way::top();
    match (raw.debian, raw.git, raw.directory) {
        (Some(RawDebian { package, version, sha256 }), None, None) => {
            let at = at.key("debian");
            let hex = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
            if !hex {
                let why = format!("sha256 `{sha256}` is not 64 hexadecimal digits");
                return Err(Wrong::value(&at.key("sha256"), why));
            }
            // Both end up in a URL and on apt's command line.
            let plain = |s: &str| {
                s.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && s.chars().all(|c| c.is_ascii_alphanumeric() || "+-.~:".contains(c))
            };
            for (key, word) in [("package", &package), ("version", &version)] {
                if !plain(word) {
                    let why = format!("`{word}` is not a {key} of Debian");
                    return Err(Wrong::value(&at.key(key), why));
                }
            }
            Ok(BaseSource::Debian { package, version, sha256: sha256.to_lowercase() })
        }
        (None, Some(RawGit { repository, revision }), None) => {
            if revision.starts_with('-') {
                let why = format!("`{revision}` is not a revision");
                return Err(Wrong::value(&at.key("git").key("revision"), why));
            }
            Ok(BaseSource::Git { repository: dir.join(repository), revision })
        }
        (None, None, Some(directory)) => Ok(BaseSource::Directory(dir.join(directory))),
        _ => Err(Wrong::key(&at, "needs exactly one of `debian:`, `git:` and `directory:`")),
    }
}

/// A name becomes a folder and a column: letters, digits, `.`, `_` and `-`.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), String> {
    let good = !name.is_empty()
        && name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if good {
        return Ok(());
    }
    Err(format!(
        "`{}` is not a name for a {what}: letters, digits, `.`, `_`, `-`, at most 64, \
         beginning with a letter or digit",
        name.escape_debug()
    ))
}

fn check_words(what: &str, words: &[String], known: &[String], at: &Way) -> Checked<()> {
    if words.is_empty() {
        return Err(Wrong::value(at, format!("at least one {what} is needed")));
    }
    for (index, word) in words.iter().enumerate() {
        let at = at.index(index);
        if !known.contains(word) {
            let near = did_you_mean(word, known.iter().map(String::as_str));
            return Err(Wrong::value(&at, format!("there is no {what} `{word}`; {near}")));
        }
        if words[..index].contains(word) {
            return Err(Wrong::value(&at, format!("{what} `{word}` is given twice")));
        }
    }
    Ok(())
}

/// Profiles there is a fragment for: `kconfigs/<profile>.config`, except the
/// architectures' and the common ones.
pub(crate) fn profile_names(data: &DataDir) -> Result<Vec<String>> {
    let mut common = vec!["base".to_owned(), "disk".to_owned()];
    common.extend(crate::spec::arch::Arch::names(data)?);
    let files = data.list("kconfigs")?;
    let names = files.iter().filter_map(|f| f.strip_suffix(".config").map(str::to_owned));
    Ok(names.filter(|name| !common.contains(name)).collect())
}
