// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this probe can be told, and the condition that it comes to. Pure.

use serde::{Deserialize, Serialize};

use super::metrics::WRITER_DUTY;
use super::words::{Context, Interface, Stack, Stress};
use crate::failure::Failure;
use crate::probe::{self, Axis, Condition, HostTask, Param};
use crate::wire::Params;

/// The parameters, as a spec's author reads them.
pub const PARAMS: &[Param] = &[
    CONTEXT,
    Param {
        name: "stress",
        means: "what else goes on; default idle",
        takes: "idle, mmap-writers, oversubscribed, page-out",
        sweeps: true,
    },
    PERIOD_US,
    Param {
        name: "writer-duty",
        means: "percent of the time in which the writer of stress mmap-writers holds mmap_lock \
                or waits for it",
        takes: "1 to 100",
        sweeps: true,
    },
    Param {
        name: "interface",
        means: "the helper that is asked, and where; default get-stack",
        takes: "get-stack, get-stack-uprobe, get-stackid, get-task-stack, get-stack-sleepable",
        sweeps: true,
    },
    Param {
        name: "stack",
        means: "the stack that is sampled: four frames, the innermost one alone, or twenty \
                through three files; default short",
        takes: "short, one, deep",
        sweeps: true,
    },
];

/// Where samples are taken; other probes have it as well.
pub const CONTEXT: Param = Param {
    name: "context",
    means: "the kernel context that samples are taken in",
    takes: "process, softirq, hardirq, rq-lock, page-fault, page-fault-locked, nmi",
    sweeps: true,
};

/// How often; other probes have it as well.
pub const PERIOD_US: Param = Param {
    name: "period-us",
    means: "microseconds between samples, on average; hardirq and nmi need one, softirq takes \
            none, elsewhere the default is as fast as they go",
    takes: "1 to 10000000 (hardirq: from 10; nmi: from 100)",
    sweeps: true,
};

/// The longest period.
const LONGEST_US: u32 = 10_000_000;

/// What a visit is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Asked {
    /// Where samples are taken.
    pub context: Context,
    /// What else goes on.
    #[serde(default)]
    pub stress: Stress,
    /// Microseconds between samples.
    pub period_us: Option<u32>,
    /// Percent of the time that the writer takes.
    pub writer_duty: Option<u32>,
    /// The helper that is asked.
    #[serde(default)]
    pub interface: Interface,
    /// The stack that is sampled.
    #[serde(default)]
    pub stack: Stack,
}

/// The condition that parameters describe.
pub fn condition(params: &Params) -> Result<Condition, Failure> {
    Ok(Asked::read(params)?.condition())
}

/// A word as it stands in a spec.
pub fn word(of: impl Serialize) -> String {
    match serde_json::to_value(of) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

impl Asked {
    /// From a step's parameters; refuses those that make no sense together.
    pub fn read(params: &Params) -> Result<Self, Failure> {
        let asked: Self = probe::read(params)?;
        asked.check()?;
        Ok(asked)
    }

    /// Only where and how often samples are taken; all else as usual.
    pub fn at(context: Context, period_us: Option<u32>) -> Result<Self, Failure> {
        let asked = Self {
            context,
            stress: Stress::default(),
            period_us,
            writer_duty: None,
            interface: Interface::default(),
            stack: Stack::default(),
        };
        asked.check()?;
        Ok(asked)
    }

    fn check(&self) -> Result<(), Failure> {
        let Self { context, stress, period_us, writer_duty, interface, stack } = *self;
        let no = |about: &str, why: &str| Err(Failure::new(why).about(about));
        match (interface, context) {
            (Interface::GetStackUprobe | Interface::GetStackSleepable, Context::Process) => {}
            (Interface::GetStackUprobe | Interface::GetStackSleepable, _) => {
                return no(
                    "interface",
                    "a user probe runs in process context: no other can be asked of it",
                );
            }
            (Interface::GetStack | Interface::GetStackid | Interface::GetTaskStack, _) => {}
        }
        match (stress, writer_duty) {
            (Stress::MmapWriters, None) => {
                return no("stress", "stress mmap-writers needs a writer-duty");
            }
            (Stress::MmapWriters, Some(duty)) if !(1..=100).contains(&duty) => {
                let why = format!("writer-duty is {duty}, not between 1 and 100");
                return no("writer-duty", &why);
            }
            (Stress::MmapWriters, Some(_)) => {}
            (Stress::Idle | Stress::Oversubscribed | Stress::PageOut, Some(_)) => {
                return no(
                    "writer-duty",
                    "writer-duty belongs to stress mmap-writers, where there is a writer",
                );
            }
            (Stress::Idle | Stress::Oversubscribed | Stress::PageOut, None) => {}
        }
        match (stress, stack) {
            (Stress::PageOut, Stack::Deep) => {
                return no(
                    "stress",
                    "stress page-out takes the page of one object away, and a deep stack \
                           has two: take stack short or one",
                );
            }
            (Stress::PageOut, Stack::Short | Stack::One) => {}
            (Stress::Idle | Stress::MmapWriters | Stress::Oversubscribed, _) => {}
        }
        match (context, shortest_period_us(context), period_us) {
            (Context::Softirq, _, Some(_)) => no(
                "period-us",
                "context softirq knows no period-us: the kernel \
                                                  serves softirqs when there are some",
            ),
            (_, Some(shortest), None) => {
                let context = word(context);
                let why = format!("context {context} needs a period-us, {shortest} or more");
                no("context", &why)
            }
            (_, shortest, Some(period)) => {
                let shortest = shortest.unwrap_or(1);
                if (shortest..=LONGEST_US).contains(&period) {
                    return Ok(());
                }
                let context = word(context);
                let why = format!(
                    "period-us is {period}, not between {shortest} and {LONGEST_US} in context \
                     {context}"
                );
                no("period-us", &why)
            }
            (_, None, None) => Ok(()),
        }
    }

    /// What it comes to.
    fn condition(&self) -> Condition {
        let mut axes: Vec<Axis> = self.period_axis(|other| other.words()).into_iter().collect();
        if let Some(duty) = self.writer_duty {
            axes.push(Axis {
                name: "writer busy",
                unit: "%",
                value: f64::from(duty),
                rest: Self { writer_duty: None, ..*self }.words(),
                measured_by: Some(WRITER_DUTY),
            });
        }
        Condition {
            label: self.label(),
            words: self.words(),
            axes,
            host: self.host(),
            ..Condition::default()
        }
    }

    /// What the host has to do.
    pub fn host(&self) -> Option<HostTask> {
        match (self.context, self.period_us) {
            (Context::Nmi, Some(period_us)) => Some(HostTask::InjectNmi { period_us }),
            _ => None,
        }
    }

    /// The period as an axis; `words` says the same thing without it.
    pub fn period_axis(&self, words: impl FnOnce(&Self) -> String) -> Option<Axis> {
        self.period_us.map(|period| Axis {
            name: "period",
            unit: "us",
            value: f64::from(period),
            rest: words(&Self { period_us: None, ..*self }),
            measured_by: None,
        })
    }

    /// `hardirq/idle/4000us`: what is as usual is left out; what is not, is not, so that
    /// no two conditions have one name.
    fn label(&self) -> String {
        let Self { context, stress, period_us, writer_duty, interface, stack } = *self;
        let mut label = format!("{}/{}", word(context), word(stress));
        if let Some(duty) = writer_duty {
            label.push_str(&format!("/{duty}%"));
        }
        if let Some(period) = period_us {
            label.push_str(&format!("/{period}us"));
        }
        if interface != Interface::default() {
            label.push_str(&format!("/{}", word(interface)));
        }
        if stack != Stack::default() {
            label.push_str(&format!("/{}", word(stack)));
        }
        label
    }

    /// `timer interrupt every 100 us, writer 25 % busy`
    fn words(&self) -> String {
        let stress = match (self.stress, self.writer_duty) {
            (Stress::Idle, _) => "nothing else running".to_owned(),
            (Stress::MmapWriters, Some(duty)) => format!("writer {duty} % busy"),
            (Stress::MmapWriters, None) => "with a writer".to_owned(),
            (Stress::Oversubscribed, _) => "more busy threads than CPUs".to_owned(),
            (Stress::PageOut, _) => "build id paged out".to_owned(),
        };
        let mut words = format!("{}, {stress}", self.event());
        let interface = match self.interface {
            // The event says it.
            Interface::GetStack | Interface::GetStackUprobe => "",
            Interface::GetStackSleepable => ", sleepable program",
            Interface::GetStackid => ", bpf_get_stackid()",
            Interface::GetTaskStack => ", bpf_get_task_stack()",
        };
        words.push_str(interface);
        words.push_str(match self.stack {
            Stack::Short => "",
            Stack::One => ", one frame",
            Stack::Deep => ", deep stack",
        });
        words
    }

    /// `timer interrupt every 100 us`
    pub fn event(&self) -> String {
        let event = match (self.context, self.interface) {
            (Context::Process, Interface::GetStackUprobe | Interface::GetStackSleepable) => {
                "user probe"
            }
            (Context::Process, _) => "system call",
            (Context::Softirq, _) => "soft interrupt",
            (Context::Hardirq, _) => "timer interrupt",
            (Context::RqLock, _) => "context switch",
            (Context::PageFault, _) => "page fault",
            (Context::PageFaultLocked, _) => "page fault with the lock held",
            (Context::Nmi, _) => "NMI",
        };
        match self.period_us {
            Some(period) => format!("{event} every {}", time(period)),
            None => event.to_owned(),
        }
    }
}

/// The shortest period; `None` where each event is sampled and a period is merely
/// possible.
fn shortest_period_us(context: Context) -> Option<u32> {
    match context {
        // The kernel would silently make a shorter one 10 us.
        Context::Hardirq => Some(10),
        // The host cannot inject them faster.
        Context::Nmi => Some(100),
        Context::Process
        | Context::Softirq
        | Context::RqLock
        | Context::PageFault
        | Context::PageFaultLocked => None,
    }
}

/// `4 ms`
fn time(us: u32) -> String {
    match us {
        us if us >= 1_000_000 && us.is_multiple_of(1_000_000) => format!("{} s", us / 1_000_000),
        us if us >= 1000 && us.is_multiple_of(1000) => format!("{} ms", us / 1000),
        us => format!("{us} us"),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// Every context there is.
    pub const CONTEXTS: [Context; 7] = [
        Context::Process,
        Context::Softirq,
        Context::Hardirq,
        Context::RqLock,
        Context::PageFault,
        Context::PageFaultLocked,
        Context::Nmi,
    ];

    /// Samples of that context, as fast as it allows.
    pub fn asked(context: Context) -> Asked {
        Asked::at(context, shortest_period_us(context)).unwrap()
    }

    fn params(written: serde_json::Value) -> Params {
        serde_json::from_value(written).unwrap()
    }

    fn of(written: serde_json::Value) -> Condition {
        condition(&params(written)).unwrap()
    }

    fn reason(written: serde_json::Value) -> String {
        condition(&params(written)).unwrap_err().to_string()
    }

    /// Labels are what they always were, and the words say the same in English.
    #[test]
    fn conditions_have_labels_and_words() {
        for (written, label, words) in [
            (json!({"context": "process"}), "process/idle", "system call, nothing else running"),
            (
                json!({"context": "hardirq", "period-us": 100}),
                "hardirq/idle/100us",
                "timer interrupt every 100 us, nothing else running",
            ),
            (
                json!({"context": "process", "stress": "mmap-writers", "writer-duty": 25,
                       "period-us": 500}),
                "process/mmap-writers/25%/500us",
                "system call every 500 us, writer 25 % busy",
            ),
            (
                json!({"context": "hardirq", "period-us": 200, "interface": "get-stackid"}),
                "hardirq/idle/200us/get-stackid",
                "timer interrupt every 200 us, nothing else running, bpf_get_stackid()",
            ),
            (
                json!({"context": "process", "stack": "deep"}),
                "process/idle/deep",
                "system call, nothing else running, deep stack",
            ),
            (
                json!({"context": "nmi", "period-us": 4000, "stress": "oversubscribed",
                       "interface": "get-task-stack", "stack": "one"}),
                "nmi/oversubscribed/4000us/get-task-stack/one",
                "NMI every 4 ms, more busy threads than CPUs, bpf_get_task_stack(), one frame",
            ),
            (
                json!({"context": "process", "interface": "get-stack-sleepable"}),
                "process/idle/get-stack-sleepable",
                "user probe, nothing else running, sleepable program",
            ),
            (
                json!({"context": "page-fault-locked", "stress": "page-out",
                       "period-us": 2_000_000}),
                "page-fault-locked/page-out/2000000us",
                "page fault with the lock held every 2 s, build id paged out",
            ),
        ] {
            let condition = of(written);
            assert_eq!((condition.label.as_str(), condition.words.as_str()), (label, words));
        }
    }

    /// What is left out has its default, written or not.
    #[test]
    fn defaults_may_be_written() {
        let all = json!({"context": "process", "stress": "idle", "interface": "get-stack",
                         "stack": "short"});
        assert_eq!(of(all), of(json!({"context": "process"})));
    }

    /// Numbers are axes; what is left without one of them is the same for all of its
    /// values, and the writer's duty says what measures it.
    #[test]
    fn numbers_are_axes() {
        let at = |period: u32, duty: u32| {
            of(json!({"context": "hardirq", "stress": "mmap-writers", "writer-duty": duty,
                      "period-us": period}))
            .axes
        };
        let axes = at(100, 25);
        let [period, duty] = &axes[..] else { panic!("{axes:?}") };
        assert_eq!((period.name, period.unit, period.value), ("period", "us", 100.0));
        assert_eq!(period.rest, "timer interrupt, writer 25 % busy");
        assert_eq!(period.measured_by, None);
        assert_eq!((duty.unit, duty.value), ("%", 25.0));
        assert_eq!(duty.rest, "timer interrupt every 100 us, with a writer");
        assert_eq!(duty.measured_by, Some(WRITER_DUTY));
        assert_eq!(at(100, 50)[1].rest, duty.rest);
        assert_eq!(at(500, 25)[0].rest, period.rest);
        assert_eq!(of(json!({"context": "process"})).axes, []);
    }

    /// The host injects NMIs, at the asked period, and does nothing for other contexts.
    #[test]
    fn nmis_come_from_the_host() {
        let host = |context, period| Asked::at(context, period).unwrap().host();
        let task = Some(HostTask::InjectNmi { period_us: 4000 });
        assert_eq!(host(Context::Nmi, Some(4000)), task);
        assert_eq!(host(Context::Hardirq, Some(4000)), None);
        assert_eq!(host(Context::Process, None), None);
    }

    /// What cannot be is refused with the reason.
    #[test]
    fn senseless_parameters_are_refused_with_words() {
        for interface in ["get-stack-uprobe", "get-stack-sleepable"] {
            let written = |context: &str, period: Option<u32>| json!({"context": context, "interface": interface, "period-us": period});
            assert!(reason(written("hardirq", Some(100))).contains("process context"));
            of(written("process", None));
        }
        let writers = |duty: serde_json::Value| json!({"context": "process", "stress": "mmap-writers", "writer-duty": duty});
        assert!(reason(writers(json!(null))).contains("needs a writer-duty"));
        assert!(reason(writers(json!(0))).contains("writer-duty is 0"));
        assert!(reason(writers(json!(101))).contains("writer-duty is 101"));
        assert!(
            reason(json!({"context": "process", "writer-duty": 5})).contains("mmap-writers, where")
        );
        let out = |stack: &str| json!({"context": "process", "stress": "page-out", "stack": stack});
        assert!(reason(out("deep")).contains("deep"));
        of(out("one"));
        let period = |context: &str, us: Option<u32>| json!({"context": context, "period-us": us});
        assert!(reason(period("softirq", Some(1000))).contains("no period-us"));
        assert_eq!(
            reason(period("hardirq", None)),
            "context hardirq needs a period-us, 10 or more"
        );
        for (context, us, shortest) in
            [("hardirq", 9, 10), ("nmi", 99, 100), ("process", 0, 1), ("process", 10_000_001, 1)]
        {
            assert_eq!(
                reason(period(context, Some(us))),
                format!(
                    "period-us is {us}, not between {shortest} and 10000000 in context {context}"
                )
            );
        }
    }

    /// An unknown parameter or word is refused with those that there are.
    #[test]
    fn unknown_words_are_refused_with_the_known_ones() {
        let unknown = reason(json!({"context": "process", "perod-us": 5}));
        for param in PARAMS {
            assert!(unknown.contains(param.name), "{unknown}");
        }
        assert!(reason(json!({})).contains("context"));
        for param in PARAMS.iter().filter(|param| param.takes.contains(", ")) {
            let mut written = json!({"context": "process"});
            written[param.name] = json!("no-such-word");
            let unknown = reason(written);
            assert!(unknown.contains("no-such-word"), "{unknown}");
            for known in param.takes.split(", ") {
                assert!(unknown.contains(&format!("`{known}`")), "{unknown}");
            }
        }
    }

    /// Whatever the table says that a parameter takes, it does.
    #[test]
    fn the_table_tells_the_words_there_are() {
        for param in PARAMS.iter().filter(|param| param.takes.contains(", ")) {
            for known in param.takes.split(", ") {
                let mut written = json!({"context": "process", "period-us": 100});
                written[param.name] = json!(known);
                if known == "mmap-writers" {
                    written["writer-duty"] = json!(25);
                }
                if known == "softirq" {
                    written["period-us"] = json!(null);
                }
                of(written);
            }
        }
    }
}
