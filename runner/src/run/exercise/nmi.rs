// SPDX-License-Identifier: MIT OR Apache-2.0
//! NMIs for a guest that cannot raise its own.
//!
//! An emulated x86_64 has no PMU, so its NMIs come from the host: QEMU's
//! `inject-nmi` reaches every CPU of the guest as a real one. A thread injects
//! them at the step's period, from the guest's word that the step begins to its
//! word that the step has ended. The period is kept on the host's clock; what
//! comes late is not made up for, since two NMIs at once arrive as one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bakeoff_fuzz::probe::HostTask;
use bakeoff_fuzz::wire::Step;

use crate::base::error::{Context, Error, Result};
use crate::keep::store::Injected;
use crate::machine::qmp::Qmp;
use crate::spec::arch::NmiMethod;

/// A thread that injects until it is told to stop, or dropped.
#[derive(Debug)]
pub(super) struct Injector {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<(Injected, Option<Error>)>>,
}

/// The period at which a step's NMIs are to be injected, if they are.
pub(super) fn period_of(step: &Step, method: NmiMethod) -> Option<Duration> {
    let (_, condition) = bakeoff_fuzz::probe::check(step).ok()?;
    match (condition.host?, method) {
        (HostTask::InjectNmi { period_us }, NmiMethod::Qmp) => {
            Some(Duration::from_micros(period_us.into()))
        }
        (HostTask::InjectNmi { .. }, _) => None,
    }
}

impl Injector {
    /// Starts for one step.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(step: u32, period: Duration, qmp: &Qmp) -> Result<Injector> {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, qmp) = (Arc::clone(&stop), qmp.clone());
        let thread = std::thread::Builder::new()
            .name("nmi".into())
            .spawn(move || inject(step, period, &qmp, &told))
            .context(|| "start a thread".into())?;
        Ok(Injector { stop, thread: Some(thread) })
    }

    /// Ends it: what was injected, and what went wrong, if QEMU refused or did
    /// not answer.
    ///
    /// # Errors
    /// The thread is gone.
    pub(super) fn finish(mut self) -> Result<(Injected, Option<Error>)> {
        self.end().ok_or_else(|| Error::failure("the thread that injects NMIs is gone"))
    }

    fn end(&mut self) -> Option<(Injected, Option<Error>)> {
        self.stop.store(true, Ordering::Release);
        self.thread.take()?.join().ok()
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        // A guest that is gone needs none; what QEMU says to that is nobody's.
        let _ = self.end();
    }
}

fn inject(step: u32, period: Duration, qmp: &Qmp, stop: &AtomicBool) -> (Injected, Option<Error>) {
    let start = Instant::now();
    let mut due = start;
    let (mut nmis, mut sum, mut slowest) = (0_u64, Duration::ZERO, Duration::ZERO);
    let mut trouble = None;
    while !stop.load(Ordering::Acquire) {
        let now = Instant::now();
        if now < due {
            // Short sleeps, so that a long period does not hold up the end.
            std::thread::sleep((due - now).min(Duration::from_millis(20)));
            continue;
        }
        due = (due + period).max(now);
        if let Err(error) = qmp.inject_nmi() {
            trouble = Some(error);
            break;
        }
        let took = now.elapsed();
        nmis += 1;
        sum += took;
        slowest = slowest.max(took);
    }
    let micros = |time: Duration| (time.as_secs_f64() * 1e9).round() / 1e3;
    let mean = sum.checked_div(u32::try_from(nmis).unwrap_or(u32::MAX)).unwrap_or_default();
    let injected = Injected {
        step,
        nmis,
        seconds: super::seconds(start.elapsed()),
        mean_us: micros(mean),
        slowest_us: micros(slowest),
    };
    (injected, trouble)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::run::exercise::protocol::tests::workload;

    /// A QEMU that answers every command, and tells how many NMIs it was to inject.
    fn qemu(refuse: bool) -> (Qmp, std::sync::mpsc::Receiver<()>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            let commands = BufReader::new(theirs.try_clone().unwrap());
            writeln!(theirs, r#"{{"QMP": {{}}}}"#).unwrap();
            for command in commands.lines().map_while(std::result::Result::ok) {
                let command: serde_json::Value = serde_json::from_str(&command).unwrap();
                let nmi = command["execute"] == "inject-nmi";
                let key = if refuse && nmi { "error" } else { "return" };
                let answer = serde_json::json!({key: {"desc": "no"}, "id": command["id"]});
                let _ = writeln!(theirs, "{answer}");
                if nmi {
                    let _ = tell.send(());
                }
            }
        });
        (Qmp::connect(ours, |_| {}).unwrap(), told)
    }

    /// Injected is what QEMU answered, no faster than asked, and nothing after the end.
    #[test]
    fn nmis_come_at_their_period() {
        let (qmp, told) = qemu(false);
        let injector = Injector::start(3, Duration::from_millis(2), &qmp).unwrap();
        (0..10).for_each(|_| told.recv().unwrap());
        let (injected, trouble) = injector.finish().unwrap();
        assert!(trouble.is_none());
        assert_eq!(injected.step, 3);
        assert!(injected.nmis >= 10 && injected.slowest_us >= injected.mean_us);
        let most = injected.seconds / 0.002 + 2.0;
        assert!(injected.nmis as f64 <= most, "{injected:?}");
        assert_eq!(told.try_iter().count() as u64 + 10, injected.nmis);
    }

    /// A machine without NMIs is an error, and so is one that is gone.
    #[test]
    fn refusals_are_told() {
        let (qmp, told) = qemu(true);
        let injector = Injector::start(3, Duration::from_millis(1), &qmp).unwrap();
        told.recv().unwrap();
        assert!(injector.finish().unwrap().1.unwrap().message().contains("inject-nmi"));
    }

    /// Only NMI steps, and only where the guest cannot raise its own.
    #[test]
    fn others_need_none() {
        let mut step = workload().steps.remove(0);
        step.params.insert("period-us".into(), 2000.into());
        assert_eq!(period_of(&step, NmiMethod::Qmp), None);
        step.params.insert("context".into(), "nmi".into());
        assert_eq!(period_of(&step, NmiMethod::Qmp), Some(Duration::from_millis(2)));
        assert_eq!(period_of(&step, NmiMethod::Pmu), None);
    }
}
