// SPDX-License-Identifier: MIT OR Apache-2.0
//! The step from what is written to what it means.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use bakeoff_fuzz::wire::Stop;

use super::raw::{RawBase, RawCandidate, RawDebian, RawGit, RawProbe, RawSpec};
use super::{
    Base, BaseSource, Candidate, Gate, Prediction, Probe, Role, Series, Spec, VERSION, did_you_mean,
};
use crate::base::data::DataDir;
use crate::base::error::{Context, Error, Result};
use crate::judge::compare::ORACLES;

/// An error at the first line of the file that mentions `needle` as a key or item.
struct Place<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn error(&self, needle: &str, message: impl fmt::Display) -> Error {
        let bare = |line: &str| {
            let line = line.trim().trim_start_matches("- ");
            let line = line.replace(['"', '\''], "");
            let after = line.strip_prefix(needle).map(str::to_owned);
            after.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', ' ', '#']))
        };
        let within = |line: &str| {
            line.split(|c: char| c.is_whitespace() || "[]{},:\"'".contains(c)).any(|w| w == needle)
        };
        let lines = || self.text.lines().enumerate().filter(|(_, l)| !l.trim().starts_with('#'));
        let line = lines().find(|(_, l)| bare(l)).or_else(|| lines().find(|(_, l)| within(l)));
        let line = line.map_or_else(String::new, |(number, _)| format!(":{}", number + 1));
        Error::bad_input(format!("{}{line}: {message}", self.file.display()))
    }
}

impl Place<'_> {
    /// An error at the first line with `what` at or around the one with `entry`: below it, else
    /// above.
    fn error_below(&self, entry: &str, what: &str, message: impl fmt::Display) -> Error {
        let lines: Vec<&str> = self.text.lines().collect();
        let holds = |line: &str, text: &str| !line.trim().starts_with('#') && line.contains(text);
        let start = lines.iter().position(|line| holds(line, entry)).unwrap_or(0);
        let below = (start..lines.len()).find(|at| holds(lines[*at], what));
        let at = below.or_else(|| (0..start).rev().find(|at| holds(lines[*at], what)));
        let at = at.unwrap_or(start) + 1;
        Error::bad_input(format!("{}:{at}: {message}", self.file.display()))
    }
}

/// What a written spec means on the day `today`.
pub(super) fn resolve(
    raw: RawSpec,
    text: &str,
    file: &Path,
    data: &DataDir,
    today: jiff::civil::Date,
) -> Result<Spec> {
    let place = Place { file, text };
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
        gates,
        predictions,
        known_splats,
        fuzz,
    } = raw;
    if version != VERSION {
        let message = format!("version {version} of the format is not known; this is {VERSION}");
        return Err(place.error("version", message));
    }
    check_name("bake-off", &name).map_err(|e| place.error("name", e))?;
    let dir = file.parent().unwrap_or(Path::new(".")).to_owned();

    let mut resolved_bases = Vec::new();
    for (base, raw) in bases.0 {
        check_name("base", &base).map_err(|e| place.error(&base, e))?;
        let source = base_source(raw, &dir).map_err(|why| place.error(&base, why))?;
        resolved_bases.push(Base { name: base, source });
    }
    if resolved_bases.is_empty() {
        return Err(place.error("bases", "a bake-off needs at least one base"));
    }
    let base_names: Vec<&str> = resolved_bases.iter().map(|b| b.name.as_str()).collect();

    let mut resolved = Vec::new();
    for (candidate, raw) in candidates.0 {
        check_name("candidate", &candidate).map_err(|e| place.error(&candidate, e))?;
        resolved.push(resolve_candidate(&candidate, raw, &dir, &base_names, &place)?);
    }
    if resolved.is_empty() {
        return Err(place.error("candidates", "a bake-off needs at least one candidate"));
    }
    for (role, what) in [
        (Role::Reference, "reference"),
        (Role::Control, "control"),
        (Role::Sensitivity, "sensitivity"),
    ] {
        let with: Vec<&Candidate> = resolved.iter().filter(|c| c.role == role).collect();
        if let [first, second, ..] = with.as_slice() {
            let message =
                format!("`{}` and `{}` both have the role {what}", first.name, second.name);
            return Err(place.error(&second.name, message));
        }
        if role == Role::Reference && with.is_empty() {
            return Err(place.error("candidates", "one candidate must have `role: reference`"));
        }
    }

    let known = crate::spec::arch::Arch::names(data)?;
    check_words("architecture", &architectures, &known, &place)?;
    let known_profiles = profile_names(data)?;
    check_words("profile", &profiles, &known_profiles, &place)?;
    let all_profiles = [profiles.clone(), on_request.clone()].concat();
    if !on_request.is_empty() {
        check_words("profile", &all_profiles, &known_profiles, &place)?;
    }

    let mut resolved_probes: Vec<Probe> = Vec::new();
    for raw in probes {
        for probe in measurements(raw).map_err(|why| place.error("precise-to", why))? {
            crate::spec::plan::check_probe(&probe).map_err(|why| place.error("probes", why))?;
            for profile in &probe.profiles {
                if !all_profiles.contains(profile) {
                    let near = did_you_mean(profile, all_profiles.iter().map(String::as_str));
                    let message = format!("the bake-off has no profile `{profile}`; {near}");
                    return Err(place.error(profile, message));
                }
            }
            // The same may be asked of another profile with other numbers.
            let meets = |other: &Probe| {
                probe.profiles.is_empty()
                    || other.profiles.is_empty()
                    || probe.profiles.iter().any(|profile| other.profiles.contains(profile))
            };
            if resolved_probes.iter().any(|o| o.label() == probe.label() && meets(o)) {
                return Err(place.error("probes", format!("{} stands here twice", probe.label())));
            }
            resolved_probes.push(probe);
        }
    }
    if resolved_probes.is_empty() {
        return Err(place.error("probes", "a bake-off needs at least one probe"));
    }
    for Prediction { candidate, holds_if, .. } in &predictions {
        let known = || resolved.iter().map(|c| c.name.as_str());
        if !known().any(|name| name == candidate) {
            let near = did_you_mean(candidate, known());
            return Err(place.error(
                candidate,
                format!("predictions: there is no candidate `{candidate}`; {near}"),
            ));
        }
        check_gate(holds_if, &resolved_probes, &place)?;
    }
    for gate in &gates {
        check_gate(gate, &resolved_probes, &place)?;
    }
    for (index, known) in known_splats.iter().enumerate() {
        if let Some((at, why)) = known.complaint(today) {
            return Err(place.error_below(&known.pattern, at, why));
        }
        if known_splats[..index].iter().any(|other| other.pattern == known.pattern) {
            let why = format!("the known splat `{}` stands here twice", known.pattern);
            return Err(place.error_below(&known.pattern, &known.pattern, why));
        }
    }
    let around = super::fuzz::Around {
        dir: &dir,
        candidates: &resolved,
        architectures: &architectures,
        profiles: &known_profiles,
    };
    let fuzz = fuzz.map(|raw| super::fuzz::resolve(raw, &around)).transpose();
    let fuzz = fuzz.map_err(|(at, why)| place.error_below("fuzz:", &at, why))?;
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
        gates,
        known_splats,
        fuzz,
    })
}

/// Whether a gate can be asked at all.
fn check_gate(gate: &Gate, probes: &[Probe], place: &Place<'_>) -> Result<()> {
    if let Gate::RateFalls { metric: _, probe, from } = gate {
        let labels: Vec<String> = probes.iter().map(Probe::label).collect();
        for written in [probe, from] {
            if !labels.contains(written) {
                let near = did_you_mean(written, labels.iter().map(String::as_str));
                return Err(place.error(written, format!("no probe `{written}`; {near}")));
            }
        }
    }
    let (metric, context, probe, rate) = match gate {
        Gate::RateFalls { metric, .. } => (metric, &None, &None, None),
        Gate::RateAtLeast { metric, context, probe, rate }
        | Gate::RateAtMost { metric, context, probe, rate }
        | Gate::RateNever { metric, context, probe, rate } => (metric, context, probe, Some(*rate)),
        Gate::RateIs { metric, context, probe, is } => {
            if is.is_empty() {
                return Err(place.error("gates", "`is:` is empty: no rate is that"));
            }
            (metric, context, probe, None)
        }
        Gate::SplatIs { is, title: _ } if is.is_empty() => {
            return Err(place.error("gates", "`is:` is empty: no splat is that"));
        }
        Gate::FindingIs { oracle, is: _ } if !ORACLES.iter().any(|known| known.name == *oracle) => {
            let near = did_you_mean(oracle, ORACLES.iter().map(|known| known.name));
            return Err(place.error(oracle, format!("there is no oracle `{oracle}`; {near}")));
        }
        Gate::FindingIs { is, oracle: _ } if is.is_empty() => {
            return Err(place.error("gates", "`is:` is empty: no finding is that"));
        }
        Gate::VerdictIs { is } if is.is_empty() => {
            return Err(place.error("gates", "`is:` is empty: no verdict is that"));
        }
        Gate::NoAddedSplats
        | Gate::ControlSplatRemoved
        | Gate::NotWorse
        | Gate::SplatIs { .. }
        | Gate::NoSplats { .. }
        | Gate::FindingIs { .. }
        | Gate::VerdictIs { .. } => return Ok(()),
    };
    if let Some(rate) = rate.filter(|rate| !(0.0..=1.0).contains(rate)) {
        return Err(place.error("gates", format!("rate {rate} is not between 0 and 1")));
    }
    let metrics = || crate::spec::plan::PROBES.iter().flat_map(|p| p.metrics.iter().copied());
    if !metrics().any(|m| m == metric) {
        let message = format!("no metric `{metric}`; {}", did_you_mean(metric, metrics()));
        return Err(place.error(metric, message));
    }
    if let Some(context) = context
        && !probes.iter().any(|p| p.context == *context)
    {
        let context = super::word(*context);
        return Err(place.error("gates", format!("no probe measures context {context}")));
    }
    if let Some(written) = probe {
        let labels: Vec<String> = probes.iter().map(Probe::label).collect();
        if !labels.iter().any(|label| crate::spec::plan::selects(written, label)) {
            let near = did_you_mean(written, labels.iter().map(String::as_str));
            return Err(place.error(written, format!("no probe `{written}`; {near}")));
        }
    }
    Ok(())
}

/// One measurement for each period and duty of a written one.
fn measurements(raw: RawProbe) -> Result<Vec<Probe>, String> {
    let RawProbe {
        probe,
        context,
        stress,
        period_us,
        writer_duty,
        interface,
        stack,
        blocks,
        calls_per_block,
        block_ms,
        boots,
        precise_to,
        margin,
        profiles,
        own_boot,
        quick,
    } = raw;
    let stop = match precise_to {
        None => Stop::Fixed,
        Some(half) if half > 0.0 && half < 0.5 => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let half_width_ppm = (half * 1e6).round().max(1.0) as u32;
            Stop::Precise { half_width_ppm }
        }
        Some(half) => return Err(format!("precise-to {half} is not between 0 and 0.5")),
    };
    let margin_ppm = match margin {
        None => None,
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 1e6")]
        Some(margin) if margin > 0.0 && margin < 1.0 => Some((margin * 1e6).round() as u32),
        Some(margin) => return Err(format!("margin {margin} is not between 0 and 1")),
    };
    if boots == 0 || boots > blocks.max(1) {
        return Err(format!("boots {boots} is not between 1 and the number of blocks, {blocks}"));
    }
    let mut all = Vec::new();
    for writer_duty in writer_duty.each() {
        for period_us in period_us.each() {
            all.push(Probe {
                probe: probe.clone(),
                context,
                stress,
                period_us,
                writer_duty,
                interface,
                stack,
                blocks,
                calls_per_block,
                block_ms,
                boots,
                stop,
                margin_ppm,
                profiles: profiles.clone(),
                own_boot,
                quick,
            });
        }
    }
    Ok(all)
}

fn resolve_candidate(
    name: &str,
    raw: RawCandidate,
    dir: &Path,
    bases: &[&str],
    place: &Place<'_>,
) -> Result<Candidate> {
    let RawCandidate { role, title, stock, untested, tested_by, not_portable } = raw;
    if let Some(probe) = &tested_by {
        let known = || crate::spec::plan::PROBES.iter().map(|probe| probe.name);
        if !known().any(|name| name == probe) {
            let near = did_you_mean(probe, known());
            return Err(place.error(name, format!("there is no probe `{probe}`; {near}")));
        }
    }
    for base in not_portable.keys() {
        // A base that is not (yet) in the spec may be declared; a misspelt one may not.
        check_name("base", base).map_err(|e| place.error(name, e))?;
    }
    let mut on = BTreeMap::new();
    for base in bases {
        let folder = dir.join(base).join(name);
        let declared = not_portable.get(*base);
        let series = match (stock, folder.is_dir(), declared) {
            (_, true, Some(_)) => {
                let message = format!("not portable to {base}, but {} exists", folder.display());
                return Err(place.error(name, message));
            }
            (_, false, Some(reason)) => Series::NotPortable(reason.clone()),
            (true, true, None) => {
                let message = format!("says `stock: true`, but {} exists", folder.display());
                return Err(place.error(name, message));
            }
            (true, false, None) => Series::Stock,
            (false, false, None) => {
                let message =
                    format!("the folder {} with its patches is missing", folder.display());
                return Err(place.error(name, message).hint(
                    "add the folder, or say `stock: true`, or give the reason under `not-portable:`",
                ));
            }
            (false, true, None) => Series::Patches(patches_in(&folder)?),
        };
        on.insert((*base).to_owned(), series);
    }
    Ok(Candidate { name: name.to_owned(), role, title, untested, tested_by, on, foreign: false })
}

/// The patches of a folder, in the order of their numbers.
pub(super) fn patches_in(dir: &Path) -> Result<Vec<PathBuf>> {
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

fn base_source(raw: RawBase, dir: &Path) -> Result<BaseSource, String> {
    match (raw.debian, raw.git, raw.directory) {
        (Some(RawDebian { package, version, sha256 }), None, None) => {
            let hex = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
            if !hex {
                return Err(format!("sha256 `{sha256}` is not 64 hexadecimal digits"));
            }
            // Both end up in a URL and on apt's command line.
            let plain = |s: &str| {
                s.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && s.chars().all(|c| c.is_ascii_alphanumeric() || "+-.~:".contains(c))
            };
            for word in [&package, &version] {
                if !plain(word) {
                    return Err(format!("`{word}` is no package name or version of Debian"));
                }
            }
            Ok(BaseSource::Debian { package, version, sha256: sha256.to_lowercase() })
        }
        (None, Some(RawGit { repository, revision }), None) => {
            if revision.starts_with('-') {
                return Err(format!("`{revision}` is no revision"));
            }
            Ok(BaseSource::Git { repository: dir.join(repository), revision })
        }
        (None, None, Some(directory)) => Ok(BaseSource::Directory(dir.join(directory))),
        _ => Err("needs exactly one of `debian:`, `git:` and `directory:`".into()),
    }
}

/// A name becomes a folder and a column: letters, digits, `.`, `_` and `-`.
pub(super) fn check_name(what: &str, name: &str) -> Result<()> {
    let good = !name.is_empty()
        && name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if good {
        return Ok(());
    }
    Err(Error::bad_input(format!(
        "`{}` is no name for a {what}: letters, digits, `.`, `_`, `-`, at most 64, \
         beginning with a letter or digit",
        name.escape_debug()
    )))
}

fn check_words(what: &str, words: &[String], known: &[String], place: &Place<'_>) -> Result<()> {
    if words.is_empty() {
        return Err(place.error(&format!("{what}s"), format!("at least one {what} is needed")));
    }
    for (i, word) in words.iter().enumerate() {
        if !known.contains(word) {
            let near = did_you_mean(word, known.iter().map(String::as_str));
            return Err(place.error(word, format!("there is no {what} `{word}`; {near}")));
        }
        if words[..i].contains(word) {
            return Err(place.error(word, format!("{what} `{word}` stands here twice")));
        }
    }
    Ok(())
}

/// Profiles there is a fragment for: `kconfigs/<profile>.config`, except the
/// architectures' and the common ones.
pub(crate) fn profile_names(data: &DataDir) -> Result<Vec<String>> {
    let mut common = vec!["base".to_owned()];
    common.extend(crate::spec::arch::Arch::names(data)?);
    let files = data.list("kconfigs")?;
    let names = files.iter().filter_map(|f| f.strip_suffix(".config").map(str::to_owned));
    Ok(names.filter(|name| !common.contains(name)).collect())
}
