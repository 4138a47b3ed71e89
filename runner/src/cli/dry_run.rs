// SPDX-License-Identifier: MIT OR Apache-2.0
//! `run --dry-run`: what would be done, in commands one can type.

use std::time::Duration;

use crate::base::command::host_cpus;
use crate::base::error::Result;
use crate::base::progress::rough;
use crate::base::words::word;
use crate::judge::compare::words::counted;
use crate::machine::accel;
use crate::machine::boot;
use crate::make::compile;
use crate::run::expect;
use crate::run::schedule::{first_look, shown};
use crate::run::{Machinery, Tools};
use crate::spec::arch::Arch;
use crate::spec::guest::{MachineSpec, Pack};
use crate::spec::plan::fuzz::FuzzPlan;
use crate::spec::plan::{CellId, Plan, Planned, Purpose};
use crate::spec::{Spec, declared, margin_words};

/// How much of a step is done, when it may end, and where.
fn step_words(planned: &Planned) -> String {
    let Planned { step, visits, profiles, own_boot, purpose, label: _ } = planned;
    let mut text = format!(
        "{visits} visits of {} x {} calls, at most {} ms per block",
        step.blocks, step.calls_per_block, step.block_ms
    );
    if !profiles.is_empty() {
        text.push_str(&format!("; {} only", profiles.join(", ")));
    }
    if *own_boot {
        text.push_str("; in boots of its own");
    }
    if *purpose == Purpose::Shown {
        text.push_str("; last, while the budget lasts");
    }
    text
}

/// What is fuzzed, and how long that takes.
fn fuzzing(plan: &FuzzPlan, text: &mut String) -> Duration {
    let FuzzPlan { seconds, boots, programs, seed: _, cells } = plan;
    text.push_str(&format!(
        "\nfuzzing: {seconds} s on each of these on the first architecture, then at most {programs} \
         programs\nin {boots} boots on each, in this order\n"
    ));
    let mut total = Duration::ZERO;
    let mut before: Option<&CellId> = None;
    for cell in cells {
        let id = &cell.id;
        let first = before.is_none_or(|b| (&b.base, &b.arch) != (&id.base, &id.arch));
        let arch = cells.iter().find(|cell| cell.id.base == id.base).map(|cell| &cell.id.arch);
        let campaign = arch == Some(&id.arch);
        before = Some(id);
        // The first kernel of an architecture is a whole build, the others start from it.
        let build = expect::build(host_cpus(), !first);
        let replays = FUZZ_BOOT * *boots;
        let here = if campaign { Duration::from_secs(u64::from(*seconds)) } else { Duration::ZERO };
        total += build + replays + here;
        text.push_str(&format!(
            "  {:<44} {:<16} build {:>12}  boots {:>8}\n",
            id.to_string(),
            word(cell.role),
            rough(build),
            rough(replays + here)
        ));
    }
    total
}

/// Measured on two CPUs under TCG: 228 programs in 10 s, where nothing is reported.
const FUZZ_BOOT: Duration = Duration::from_secs(12);

/// The plan in words.
///
/// # Errors
/// An architecture without a file, a patch that cannot be read.
pub fn describe(
    spec: &Spec,
    plan: &Plan,
    fuzz: Option<&FuzzPlan>,
    machinery: &Machinery,
    tools: &Tools<'_>,
) -> Result<String> {
    let mut text = format!("{}: {}\n\nbases\n", spec.name, spec.title);
    for base in &spec.bases {
        text.push_str(&format!("  {:<8} {}\n", base.name, base.source));
    }
    text.push_str("\nclaims\n");
    for planned in &plan.claims {
        let claim = &planned.claim;
        let margin = declared(&claim.metric).map(|m| margin_words(claim.margin, m.kind));
        text.push_str(&format!(
            "  {:<12} {} ({}, {} kernels, margin {})\n",
            claim.name,
            claim.question,
            counted(planned.steps.len() as u64, "condition"),
            planned.profile,
            margin.unwrap_or_default()
        ));
    }
    if let Some(seconds) = plan.budget_seconds {
        text.push_str(&format!("  budget: {}\n", rough(Duration::from_secs(seconds))));
    }
    text.push_str("\nsteps\n");
    for planned in &plan.steps {
        text.push_str(&format!("  {:<42} {}\n", planned.label, step_words(planned)));
    }
    let mut archs: Vec<&str> = plan.cells.iter().map(|cell| cell.id.arch.as_str()).collect();
    archs.sort_unstable();
    archs.dedup();
    text.push_str(&beyond_the_usual(spec));
    text.push_str("\ncommands (make in the candidate's tree)\n");
    for name in archs {
        let arch = Arch::load(tools.data, name)?;
        let choice = accel::choose(&arch, machinery.accel, tools.cancel)?;
        let machine = boot::Machine::of_spec(&arch, choice.accel, &spec.machine);
        let qemu = boot::command(&machine, &boot::Files::placeholders(&arch));
        text.push_str(&format!("  {name} ({}: {})\n", choice.accel.word(), choice.reason));
        text.push_str(&format!("    {}\n", compile::make_line(&arch, tools.cancel)?));
        text.push_str(&format!("    {}\n", qemu.shell_line()));
    }
    text.push_str("\ncells, in this order; times are for a kernel that is not in the cache\n");
    let mut total = Duration::ZERO;
    for (cell, [build, boots]) in plan.cells.iter().zip(expected(plan)?) {
        if let Some(reason) = &cell.not_portable {
            text.push_str(&format!("  {:<44} not portable: {reason}\n", cell.id.to_string()));
            continue;
        }
        total += build + boots;
        text.push_str(&format!(
            "  {:<44} {:<16} build {:>12}  boots {:>8}\n",
            cell.id.to_string(),
            word(cell.role),
            rough(build),
            rough(boots)
        ));
    }
    if let Some(fuzz) = fuzz {
        total += fuzzing(fuzz, &mut text);
    }
    text.push_str(&format!("\nexpected: about {}\n", rough(total)));
    Ok(text)
}

/// What building and booting takes for each cell of a plan, if no kernel is in the cache.
///
/// # Errors
/// A patch that cannot be read.
pub fn expected(plan: &Plan) -> Result<Vec<[Duration; 2]>> {
    let mut bases_built = std::collections::BTreeSet::new();
    let mut all = Vec::new();
    for cell in &plan.cells {
        if cell.not_portable.is_some() {
            all.push([Duration::ZERO; 2]);
            continue;
        }
        let small = expect::is_small(&cell.patches)?;
        let group = (&cell.id.base, &cell.id.arch, &cell.id.profile);
        // A candidate starts from its base's build folder, whoever needs it first;
        // a second stock tree is the same kernel.
        let first = bases_built.insert(group);
        let stock = cell.patches.is_empty();
        let mut build =
            if stock && !first { Duration::ZERO } else { expect::build(host_cpus(), small) };
        if first && !stock {
            build += expect::build(host_cpus(), false);
        }
        let boots = [first_look(plan, cell), shown(plan, cell)];
        all.push([build, boots.iter().map(|of| expect::boots(plan, of, &[])).sum()]);
    }
    Ok(all)
}

/// What the guests have that others have not, and what it costs.
fn beyond_the_usual(spec: &Spec) -> String {
    let MachineSpec { cpus, memory_mib, disk_mib, command_line, kconfig } = &spec.machine;
    let Pack { files, build, kselftest, busybox, rootfs } = &spec.pack;
    let mut lines: Vec<String> = Vec::new();
    if *cpus != MachineSpec::default().cpus {
        let all = host_cpus();
        let slow = if *cpus > all { format!(" (the host has {all}: slow)") } else { String::new() };
        lines.push(format!("{cpus} CPUs{slow}"));
    }
    lines.extend(memory_mib.map(|mib| format!("{mib} MiB of memory")));
    if let Some(mib) = disk_mib {
        lines.push(format!(
            "an empty disk of {mib} MiB; the host needs as much space if it is filled, and \
             kernels with the block layer are built for it"
        ));
    }
    if !command_line.is_empty() {
        lines.push(format!("kernel parameters: {command_line}"));
    }
    for (key, fragments) in kconfig {
        let names: Vec<String> = fragments.list().iter().map(|f| f.display().to_string()).collect();
        lines.push(format!(
            "kconfig of {key}: {} (no kernel of other bake-offs fits: a full build for each \
             architecture and profile)",
            names.join(", ")
        ));
    }
    lines.extend(files.iter().map(|path| format!("file: {}", path.display())));
    lines.extend(build.iter().map(|line| format!("built for each architecture: {line}")));
    lines.extend(kselftest.iter().map(|name| format!("kselftest {name}, built from the base")));
    if *busybox {
        lines.push("busybox from Debian (1 MB to fetch for each architecture)".to_owned());
    }
    lines.extend(rootfs.iter().map(|path| format!("root file system: {}", path.display())));
    if lines.is_empty() {
        return String::new();
    }
    format!("\nguests, beyond what is usual\n  {}\n", lines.join("\n  "))
}
