// SPDX-License-Identifier: MIT OR Apache-2.0
//! `run --dry-run`: what would be done, in commands one can type.

use std::time::Duration;

use bakeoff_fuzz::wire::Stop;

use crate::base::command::host_cpus;
use crate::base::error::Result;
use crate::base::progress::rough;
use crate::fuzz::plan::FuzzPlan;
use crate::judge::compare::words::{Round, count, percent};
use crate::machine::accel;
use crate::machine::boot;
use crate::make::compile;
use crate::run::expect;
use crate::run::{GUEST_CPUS, Machinery, Tools};
use crate::spec::arch::Arch;
use crate::spec::plan::{CellId, Plan, Planned, label};
use crate::spec::{Spec, word};

/// How much of a step is done, when it may end, and where.
fn step_words(planned: &Planned) -> String {
    let Planned { step, profiles, own_boot, boots, margin_ppm: _ } = planned;
    let mut text = format!(
        "{} blocks of {} calls, at most {} ms each",
        step.blocks, step.calls_per_block, step.block_ms
    );
    match step.stop {
        Stop::Fixed => {}
        Stop::Precise { half_width_ppm } => {
            let half = percent(f64::from(half_width_ppm) / 1e6, Round::Nearest);
            text.push_str(&format!("; ends when known to +-{half}%"));
        }
        Stop::Claim { calls, .. } => {
            text.push_str(&format!("; ends with {} calls, or when refuted", count(calls)));
        }
    }
    if *boots > 1 {
        text.push_str(&format!("; in each of {boots} boots"));
    }
    if !profiles.is_empty() {
        text.push_str(&format!("; {} only", profiles.join(", ")));
    }
    if *own_boot {
        text.push_str("; in boots of its own");
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
            "  {:<44} {:<10} build {:>12}  boots {:>8}\n",
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
    if let Some(claim) = plan.claim {
        text.push_str(&format!(
            "\nclaim: at least {}%, {} calls a cell and step over {} boots; holds at 95% if none \
             fails\n",
            percent(claim.rate(), Round::Nearest),
            count(claim.calls),
            claim.boots
        ));
    }
    text.push_str("\nsteps\n");
    for planned in &plan.steps {
        text.push_str(&format!("  {:<42} {}\n", label(&planned.step), step_words(planned)));
    }
    let mut archs: Vec<&str> = plan.cells.iter().map(|cell| cell.id.arch.as_str()).collect();
    archs.sort_unstable();
    archs.dedup();
    text.push_str("\ncommands (make in the candidate's tree)\n");
    for name in archs {
        let arch = Arch::load(tools.data, name)?;
        let choice = accel::choose(&arch, machinery.accel, tools.cancel)?;
        let machine = boot::Machine::new(&arch, choice.accel, GUEST_CPUS);
        let qemu = boot::command(&machine, &boot::Files::placeholders(&arch));
        text.push_str(&format!("  {name} ({}: {})\n", choice.accel.word(), choice.reason));
        text.push_str(&format!("    {}\n", compile::make_line(&arch, tools.cancel)?));
        text.push_str(&format!("    {}\n", qemu.shell_line()));
    }
    text.push_str("\ncells, in this order; times are for a kernel that is not in the cache\n");
    let mut total = Duration::ZERO;
    let mut bases_built = std::collections::BTreeSet::new();
    for cell in &plan.cells {
        if let Some(reason) = &cell.not_portable {
            text.push_str(&format!("  {:<44} not portable: {reason}\n", cell.id.to_string()));
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
        let turn = |turn| expect::boots(&plan.steps_of_turn(cell, turn), &[]);
        let boots: Duration = cell.turns(0).map(turn).sum::<Duration>() * cell.rounds;
        total += build + boots;
        text.push_str(&format!(
            "  {:<44} {:<10} build {:>12}  boots {:>8}\n",
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
