// SPDX-License-Identifier: MIT OR Apache-2.0
//! The boots of a run: what a guest is made of, and what it is asked to do.

use std::path::Path;

use bakeoff_fuzz::wire::{self, Workload};

use crate::base::error::{Error, Result};
use crate::keep::store::{BootId, RunJson, read_json, write_json};
use crate::machine::accel::{self, Accel};
use crate::machine::boot::Machine;
use crate::make::guest::GuestBinaries;
use crate::make::workload::{self, Packed};
use crate::run::crew::Crew;
use crate::run::exercise::{self, Exercise, Limits};
use crate::run::schedule::{cut_steps, hangs, shuffled};
use crate::run::watch::Watch;
use crate::run::{Tools, expect};
use crate::spec::plan::{Cell, boot_seed};

impl Crew<'_> {
    /// One boot.
    pub(super) fn boot(&mut self, cell: &Cell, id: &BootId, visits: Vec<u32>) -> Result<()> {
        let known = self.kernel_json(cell)?;
        let kernel = self.kernel(cell, &known)?;
        let made = self.boots_of(&cell.id)?;
        let last = cut_steps(made);
        let hangs = hangs(made);
        self.guest_binaries(&cell.id.arch)?;
        let accel = self.accel(&cell.id.arch, &kernel.image)?;
        let packed = self.packed(cell)?;
        let binaries = &self.binaries(&cell.id.arch)?.clone().with(packed);
        let arch = self.arch(&cell.id.arch)?;
        let Tools { events, cancel, .. } = self.tools;
        let seed = boot_seed(self.run.plan.seed, &cell.id, &id.name);
        let all = self.run.plan.steps_of(&cell.id).map(|planned| &planned.step);
        let workload = Workload {
            wire: wire::VERSION,
            boot: id.name.clone(),
            seed,
            steps: all.filter(|step| visits.contains(&step.id)).cloned().collect(),
            visits: shuffled(visits, &last, seed),
        };
        let expected = expect::boot(&self.run.plan, &workload.visits);
        let limits = Limits::new(accel, &workload, expected).after_hangs(hangs);
        let exercise = Exercise {
            store: self.store,
            id,
            machine: Machine::of_spec(arch, accel, &self.run.machine),
            kernel: &kernel.image,
            binaries,
            workload: &workload,
            limits,
        };
        exercise::exercise(&exercise, &mut Watch::default(), events, cancel).map(|_| ())
    }

    /// What commands need in the guests of a cell.
    fn packed(&mut self, cell: &Cell) -> Result<Packed> {
        let key = (cell.id.base.clone(), cell.id.arch.clone());
        if let Some(packed) = self.packed.get(&key) {
            return Ok(packed.clone());
        }
        let tree = self.tree(&cell.id.base)?;
        let Tools { cache, events, cancel, .. } = self.tools;
        let desk = workload::Desk { cache, events, cancel };
        let arch = self.arch(&cell.id.arch)?;
        let dir = self.store.spec_dir();
        let packed = workload::obtain(&self.run.pack, &dir, arch, &tree, &desk)?;
        self.packed.insert(key, packed.clone());
        Ok(packed)
    }

    /// What the run began with; a run that has boots does not change horses.
    fn accel(&mut self, arch: &str, kernel: &Path) -> Result<Accel> {
        if let Some(accel) = self.accels.get(arch) {
            return Ok(*accel);
        }
        let known = self.run.environment.accel.get(arch).map(String::as_str);
        let began = if known == Some(Accel::Kvm.word()) { Accel::Kvm } else { Accel::Tcg };
        let accel = match began {
            Accel::Tcg => began,
            Accel::Kvm => {
                let binaries = self.binaries(arch)?;
                let wanted = self.machinery.accel;
                let cancel = self.tools.cancel;
                let now = self.arch(arch).and_then(|arch| {
                    accel::confirm(arch, self.run.machine.cpus, wanted, kernel, binaries, cancel)
                })?;
                if now.accel == Accel::Tcg {
                    self.emulate(arch, &now.reason)?;
                }
                now.accel
            }
        };
        self.accels.insert(arch.to_owned(), accel);
        Ok(accel)
    }

    /// Notes that KVM is of no use after all.
    fn emulate(&self, arch: &str, reason: &str) -> Result<()> {
        for cell in self.run.own_cells().filter(|cell| cell.id.arch == arch) {
            if !self.store.boots(&cell.id)?.is_empty() {
                return Err(Error::failure(format!(
                    "this run began with KVM for {arch}: {reason}"
                ))
                .hint("resume it where KVM works, or start a new run"));
            }
        }
        self.tools.events.warning(format!("{arch} guests are emulated: {reason}"));
        // Others may have been changed before.
        let mut run: RunJson = read_json(&self.store.run_json())?;
        run.environment.accel.insert(arch.to_owned(), Accel::Tcg.word().to_owned());
        run.environment.accel_reason.insert(arch.to_owned(), reason.to_owned());
        write_json(&self.store.run_json(), &run)
    }

    fn binaries(&self, arch: &str) -> Result<&GuestBinaries> {
        let binaries = self.guests.get(arch);
        binaries.ok_or_else(|| Error::failure(format!("no guest binaries for {arch}")))
    }

    /// Has the guest binaries made, if nobody has said so before.
    pub(super) fn want_guests(&mut self) {
        if let Some(go) = self.go.take() {
            // The thread that waits for it outlives this run.
            let _ = go.send(());
        }
    }

    /// Waits for the guest binaries of an architecture.
    fn guest_binaries(&mut self, arch: &str) -> Result<()> {
        self.want_guests();
        while !self.guests.contains_key(arch) {
            let (name, binaries) = self
                .coming
                .recv()
                .map_err(|_| Error::failure(format!("there are no guest binaries for {arch}")))?;
            self.guests.insert(name, binaries?);
        }
        Ok(())
    }
}
