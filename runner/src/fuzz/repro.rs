// SPDX-License-Identifier: MIT OR Apache-2.0
//! A fuzz program as one C file: what a kernel developer compiles with
//! `gcc -static -Wall` and runs, without anything of ours.
//!
//! Each operation becomes the call it makes, under a comment with its text; BPF
//! programs become arrays of instructions, by the assembler the guest uses. What
//! the guest's executor keeps from program to program (pooled maps, loaded
//! programs, the dispatchers at armed places) is kept here too.

mod attributes;
mod calls;

use std::fmt::Write as _;

use bakeoff_fuzz::bpf::btf;
use bakeoff_fuzz::bpf::insn::Insn;
use bakeoff_fuzz::engine::assemble::{self, Surroundings};
use bakeoff_fuzz::engine::pool::{BPF_TRACE_UPROBE_MULTI, shape};
use bakeoff_fuzz::op::step::Flaw;
use bakeoff_fuzz::op::value::{MapRef, Value};
use bakeoff_fuzz::op::{MapFlags, MapKind, Place, ProgKind};
use bakeoff_fuzz::program::Program;

const RUNTIME: &str = include_str!("repro/runtime.c");
const ENDING: &str = include_str!("repro/ending.c");

/// Descriptors that are known only when the program runs: their place in
/// [`Writer::names`] plus this.
const PLACEHOLDER: i32 = 0x4d00_0000;
/// Stands for the process's id in a dispatcher.
const PROCESS: u32 = 0x4d5a_0001;

/// What the file is to say of itself, and how it is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The report's title.
    pub title: String,
    /// Where it was found: base, candidate, architecture and profile.
    pub cell: String,
    /// How often a process runs the program, if not told otherwise.
    pub times: u32,
    /// Processes that run it at the same time.
    pub processes: u32,
    /// Whether its kernel tells its types, without which some helpers do not exist.
    pub btf: bool,
    /// Points of its kernel's code at which CPUs are held up, where the program wants that.
    pub points: Vec<u64>,
}

/// The C file of a program.
#[must_use]
pub fn c_file(program: &Program, about: &About) -> String {
    let mut writer = Writer { btf: about.btf, ..Writer::default() };
    for (number, op) in program.ops.iter().enumerate() {
        let mut text = String::new();
        op.write(&mut text);
        let _ = writeln!(writer.body, "\n\t/* {number}: {} */", text.replace("*/", "* /"));
        writer.op(op, number);
    }
    writer.release();
    let About { title, cell, times, processes, btf: _, points } = about;
    // The written file's licence, not a second one of this file.
    let license = concat!("SPDX-License", "-Identifier: MIT OR Apache-2.0");
    let mut out = format!(
        "/* {license} */\n/*\n * {}\n * found on {cell}\n *\n \
         * gcc -static -Wall -o repro repro.c && ./repro [TIMES [PROCESSES]]\n * As root, in a \
         virtual machine: it is meant to break the kernel.\n * Written by bakeoff.\n */\n",
        title.replace("*/", "* /")
    );
    let body = |text: &str| text.split_once('\n').map_or(String::new(), |(_, rest)| rest.into());
    out.push_str(&types());
    out.push_str(&body(RUNTIME));
    let _ = writeln!(out, "\n#define TIMES {times}\n#define PROCESSES {processes}");
    if writer.delayed {
        let points: Vec<String> = points.iter().map(|point| format!("{point:x}")).collect();
        let lines: Vec<String> =
            points.chunks(5).map(|line| format!("\t\"{} \"", line.join(" "))).collect();
        let _ = writeln!(out, "#define POINTS \\\n\t\"\" \\\n{}", lines.join(" \\\n"));
    }
    out.push_str(&writer.tables());
    out.push_str(&writer.functions);
    let _ = write!(out, "\nstatic void once(void)\n{{{}}}\n", writer.body);
    out.push_str(&body(ENDING));
    out
}

/// A map of the program, as far as it is known beforehand.
#[derive(Clone, Copy, Debug)]
struct KnownMap {
    kind: MapKind,
    pooled: bool,
}

/// What comes of an operation that has the next one done by the helper; with its skew.
enum Beside {
    /// The next operation is the helper's.
    Next(u8),
    /// The helper waits for the next operation to begin.
    Meet(u8),
}

#[derive(Default)]
struct Writer {
    /// Before `once`: BPF programs.
    functions: String,
    /// Of `once`.
    body: String,
    /// C expressions of descriptors that instructions name.
    names: Vec<String>,
    maps: Vec<KnownMap>,
    /// Whether each program stays loaded.
    progs: Vec<bool>,
    events: usize,
    links: usize,
    /// Descriptors that stay, by their C names.
    kept: Vec<String>,
    /// Maps that BPF programs use beside the program's own.
    spare: Vec<MapKind>,
    places: Vec<Place>,
    /// Places of maps that refer to something.
    filled: Vec<(u8, u32)>,
    moved: bool,
    events_off: bool,
    /// The operation of which an allocation fails.
    fails: usize,
    /// What the next operation is done beside of.
    beside: Option<Beside>,
    /// CPUs are held up.
    delayed: bool,
    btf: bool,
}

/// What maps and programs say they are of, for the runtime to load.
fn types() -> String {
    let bytes = btf::types();
    let lines: Vec<String> = bytes
        .chunks(16)
        .map(|line| line.iter().map(|byte| format!("{byte},")).collect::<Vec<_>>().join(" "))
        .collect();
    format!(
        "#define TYPES {{ \\\n\t{} }}\n#define KEY_TYPE {}\n#define VALUE_TYPE {}\n\
         #define MAIN_TYPE {}\n#define CALLBACK_TYPE {}\n",
        lines.join(" \\\n\t"),
        btf::KEY,
        btf::VALUE,
        btf::MAIN,
        btf::CALLBACK
    )
}

/// What a BPF program is assembled with here: names instead of descriptors.
struct Named<'a> {
    given: Vec<(usize, KnownMap)>,
    names: &'a mut Vec<String>,
    spare: &'a mut Vec<MapKind>,
    pooled: bool,
    btf: bool,
}

fn name(names: &mut Vec<String>, expression: String) -> i32 {
    let at = names.iter().position(|name| *name == expression).unwrap_or_else(|| {
        names.push(expression);
        names.len() - 1
    });
    PLACEHOLDER + i32::try_from(at).unwrap_or(0)
}

fn spare_name(kind: MapKind) -> String {
    format!("spare_{}", kind.word().replace('-', "_"))
}

impl Surroundings for Named<'_> {
    fn map(&mut self, index: u8, kinds: &[MapKind]) -> i32 {
        let given = self.given.get(usize::from(index) % self.given.len().max(1));
        if let Some((number, map)) = given.filter(|(_, map)| kinds.contains(&map.kind)) {
            self.pooled &= map.pooled;
            return name(self.names, format!("map[{number}]"));
        }
        let Some(kind) = kinds.first() else { return -1 };
        if !self.spare.contains(kind) {
            self.spare.push(*kind);
        }
        name(self.names, format!("{}()", spare_name(*kind)))
    }

    fn scratch(&self) -> i32 {
        // The first name, by `Writer::insns`.
        PLACEHOLDER
    }

    fn has_btf(&self) -> bool {
        self.btf
    }

    fn thread(&self) -> Option<u32> {
        // `REPRO_SHOW` prints every answer.
        None
    }
}

/// The expression that makes a map of this shape.
fn create(kind: MapKind, flags: MapFlags, order: u8) -> String {
    let (number, key, value) = shape(kind);
    let entries = match kind {
        MapKind::Ringbuf => 4096_u32 << (order % 4),
        MapKind::TaskStorage => 0,
        _ => 1_u32 << order.min(10),
    };
    let MapFlags { no_prealloc, mmapable, rdonly, zero_seed } = flags;
    let mut bits: Vec<&str> = [
        (no_prealloc, "BPF_F_NO_PREALLOC"),
        (rdonly, "BPF_F_RDONLY"),
        (zero_seed, "BPF_F_ZERO_SEED"),
        (mmapable, "BPF_F_MMAPABLE"),
    ]
    .into_iter()
    .filter_map(|(set, word)| set.then_some(word))
    .collect();
    match kind {
        MapKind::BuildIds => bits.push("BPF_F_STACK_BUILD_ID"),
        MapKind::TaskStorage if !no_prealloc => bits.push("BPF_F_NO_PREALLOC"),
        _ => {}
    }
    let bits = if bits.is_empty() { "0".to_owned() } else { bits.join(" | ") };
    format!("map_create({number}, {key}, {value}, {entries}, {bits})")
}

fn place(place: Place) -> (usize, &'static str) {
    match place {
        Place::FileLock => (0, "locks_get_lock_context"),
        Place::SchedSwitch => (1, "sched_switch"),
        Place::Signal => (2, "signal_generate"),
    }
}

fn prog_type(kind: ProgKind) -> &'static str {
    match kind {
        ProgKind::Kprobe | ProgKind::Sleepable | ProgKind::UprobeMulti => "BPF_PROG_TYPE_KPROBE",
        ProgKind::Tracepoint => "BPF_PROG_TYPE_TRACEPOINT",
        ProgKind::PerfEvent => "BPF_PROG_TYPE_PERF_EVENT",
        ProgKind::RawTp => "BPF_PROG_TYPE_RAW_TRACEPOINT",
        ProgKind::RawTpWritable => "BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE",
    }
}

impl Writer {
    fn line(&mut self, text: impl AsRef<str>) {
        self.body.push('\t');
        self.body.push_str(text.as_ref());
        self.body.push('\n');
    }

    /// Instructions, and whether all their maps stay.
    fn insns(
        &mut self,
        maps: &[MapRef],
        assemble: impl FnOnce(&mut dyn Surroundings) -> Vec<Insn>,
    ) -> (Vec<Insn>, bool) {
        if self.names.is_empty() {
            self.names.push("scratch".into());
        }
        let given = maps
            .iter()
            .filter_map(|map| {
                let number = usize::from(map.0);
                self.maps.get(number).map(|map| (number, *map))
            })
            .collect();
        let (names, spare) = (&mut self.names, &mut self.spare);
        let mut around = Named { given, names, spare, pooled: true, btf: self.btf };
        let insns = assemble(&mut around);
        (insns, around.pooled)
    }

    fn keep(&mut self, name: String, make: &str) -> String {
        let made = format!("ONCE(kept_{name}, {make})");
        self.kept.push(name);
        made
    }

    fn prog_load(&mut self, kind: ProgKind, insns: &[Insn], kept: bool, flaw: Flaw) {
        let number = self.progs.len();
        self.progs.push(kept);
        let more = match (kind, assemble::second_function(insns).unwrap_or(0)) {
            (ProgKind::Sleepable, second) => format!("BPF_F_SLEEPABLE, 0, {second}"),
            (ProgKind::UprobeMulti, second) => format!("0, {BPF_TRACE_UPROBE_MULTI}, {second}"),
            (_, second) => format!("0, 0, {second}"),
        };
        let (kind, listed) = (prog_type(kind), self.listing(insns));
        let comment = match flaw {
            Flaw::Sound => "",
            Flaw::Unset
            | Flaw::Unchecked
            | Flaw::Stack
            | Flaw::Room
            | Flaw::WrongMap
            | Flaw::Jump
            | Flaw::Endless
            | Flaw::Kept
            | Flaw::Pointers
            | Flaw::Forever => "/* Meant for the verifier to refuse. */\n",
        };
        let _ = write!(
            self.functions,
            "\n{comment}static int load_{number}(void)\n{{\n\tstruct bpf_insn insns[] = {{\n{listed}\t}};\n\
             \treturn load({kind}, insns, sizeof(insns) / sizeof(*insns), {more});\n}}\n"
        );
        let make = format!("load_{number}()");
        let made = if kept { self.keep(format!("prog_{number}"), &make) } else { make };
        self.line(format!("prog[{number}] = {made};"));
    }

    fn prog_close(&mut self, prog: usize) {
        let kept = self.progs.get(prog).copied().unwrap_or(false);
        self.line(if kept {
            format!("prog[{prog}] = -1;")
        } else {
            format!("shut(&prog[{prog}]);")
        });
    }

    /// Instructions as initializers: code, two registers, offset, immediate.
    fn listing(&self, insns: &[Insn]) -> String {
        let mut out = String::new();
        for Insn { code, registers, offset, immediate } in insns {
            let (dst, src) = (registers & 15, registers >> 4);
            let named = usize::try_from(immediate.wrapping_sub(PLACEHOLDER))
                .ok()
                .filter(|_| *code == 0x18 && (1..=2).contains(&src))
                .and_then(|at| self.names.get(at));
            let value = match named {
                Some(name) => name.clone(),
                None if *code == 0x55 && *immediate == PROCESS.cast_signed() => "getpid()".into(),
                None => immediate.to_string(),
            };
            let _ = writeln!(out, "\t\t{{ {code:#04x}, {dst}, {src}, {offset}, {value} }},");
        }
        out
    }

    /// What the executor does at a program's end.
    fn release(&mut self) {
        self.body.push_str("\n\t/* the end: all is released */\n");
        self.line("settle();");
        for at in self.places.clone() {
            self.line(format!("element(BPF_MAP_DELETE_ELEM, places, {}, 0);", place(at).0));
        }
        for (map, key) in self.filled.clone() {
            self.line(format!("element(BPF_MAP_DELETE_ELEM, map[{map}], {key}, 0);"));
        }
        for link in 0..self.links {
            self.line(format!("shut(&link_[{link}]);"));
        }
        for event in (0..self.events).rev() {
            self.event_close(event);
        }
        for prog in 0..self.progs.len() {
            self.prog_close(prog);
        }
        for map in 0..self.maps.len() {
            self.map_close(map);
        }
        self.line("munmap(at(0), PAGE * PAGES);");
        if self.events_off {
            self.line("prctl(PR_TASK_PERF_EVENTS_ENABLE, 0, 0, 0, 0);");
        }
        if self.delayed {
            self.line("delays(0, 0);");
        }
        if self.moved {
            self.line("affinity(1);");
        }
    }

    /// Variables, spare maps, and the programs that are always attached.
    fn tables(&mut self) -> String {
        let mut out = String::from("\n");
        let mut table = |name: &str, count: usize| {
            let all = vec!["-1"; count.max(1)].join(", ");
            let _ = writeln!(out, "static int {name}[] = {{ {all} }};");
        };
        table("event", self.events);
        table("map", self.maps.len());
        table("prog", self.progs.len());
        table("link_", self.links);
        let _ = writeln!(out, "static struct region buffer[{}];", self.events.max(1));
        for kept in &self.kept {
            let _ = writeln!(out, "static int kept_{kept} = -1;");
        }
        for kind in &self.spare {
            let (name, make) = (spare_name(*kind), create(*kind, MapFlags::default(), 4));
            let _ = write!(
                out,
                "\nstatic int {name}(void)\n{{\n\tstatic int kept = -1;\n\treturn ONCE(kept, \
                 {make});\n}}\n"
            );
        }
        let mut calls = String::new();
        for at in self.places.clone() {
            let (index, tracepoint) = place(at);
            let programs = name(&mut self.names, "places".into());
            let insns = assemble::dispatcher(PROCESS, programs, PLACEHOLDER, index);
            let listed = self.listing(&insns);
            let _ = write!(
                out,
                "\n/* Calls what is armed at {tracepoint}, for this process only. */\n\
                 static void dispatch_{index}(void)\n{{\n\tstruct bpf_insn insns[] = {{\n{listed}\t}};\n\
                 \tint prog = load(BPF_PROG_TYPE_RAW_TRACEPOINT, insns, sizeof(insns) / \
                 sizeof(*insns), 0, 0, 0);\n\tif (raw_open(\"{tracepoint}\", prog) < 0)\n\t\t\
                 perror(\"{tracepoint}\");\n}}\n"
            );
            let _ = writeln!(calls, "\tdispatch_{index}();");
        }
        let _ = write!(out, "\nstatic void dispatch(void)\n{{\n{calls}}}\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bakeoff_fuzz::op::Op;
    use bakeoff_fuzz::op::value::Seeded;

    fn about() -> About {
        About {
            title: "WARNING in old_lookup */".into(),
            cell: "6.12/as-reported/x86_64/kcov".into(),
            times: 10,
            processes: 1,
            btf: true,
            points: (0..7).map(|nth| 0xffff_ffff_8100_0000 + 5 * nth).collect(),
        }
    }

    /// Every operation there is becomes C that a compiler takes without a
    /// warning, for both architectures.
    #[test]
    fn programs_compile() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        let mut written = 0;
        for seed in 0..4000 {
            let program = Program::roll(&mut Seeded(seed));
            let new = program.ops.iter().any(|op| seen.insert(op.word()));
            if !new {
                continue;
            }
            written += 1;
            let file = dir.path().join(format!("repro-{seed}.c"));
            std::fs::write(&file, c_file(&program, &about())).unwrap();
            for compiler in ["gcc", "aarch64-linux-gnu-gcc"] {
                let built = std::process::Command::new(compiler)
                    .args(["-static", "-Wall", "-Werror", "-o"])
                    .arg(dir.path().join("repro"))
                    .arg(&file)
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&built.stderr);
                assert!(built.status.success(), "seed {seed}, {compiler}: {said}");
            }
        }
        assert_eq!(seen.len(), Op::TABLE.len());
        assert!(written > 3);
    }

    /// Two operations at the same time: the first one is another thread's.
    #[test]
    fn pairs_are_of_two_threads() {
        let text = "bakeoff program 1\nlimits ops=20 slow=1\n\
            perf-open event=dummy period=1 target=self flags=- sample=- group=- page=0\n\
            beside skew=200\nperf-ioctl event=0 call=enable\nperf-read event=0\n\
            beside skew=3\nsignal which=0\nperf-read event=0\n";
        let program = bakeoff_fuzz::program::text::read(text.as_bytes()).unwrap();
        assert_eq!(program.ops.len(), 7);
        let c = c_file(&program, &about());
        let elsewhere =
            "static void beside_2(void)\n{\n\tioctl(event[0], PERF_EVENT_IOC_ENABLE, 0);\n}";
        assert!(c.contains(elsewhere), "{c}");
        let once = c.split("static void once").nth(1).unwrap();
        assert!(!once.contains("IOC_ENABLE"), "{once}");
        let [given, met, read] = ["beside(beside_2, 200);", "meet(200);", "read(event[0]"]
            .map(|part| once.find(part).unwrap_or_else(|| panic!("{part}: {once}")));
        assert!(given < met && met < read);
        // To send a signal is of this thread.
        assert!(!once.contains("meet(3)") && once.contains("__NR_tgkill"));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("repro.c");
        std::fs::write(&file, &c).unwrap();
        let built = std::process::Command::new("gcc")
            .args(["-static", "-Wall", "-Werror", "-o"])
            .args([&dir.path().join("repro"), &file])
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    }

    /// References are to the tables that the operations before have filled, and
    /// maps in BPF programs are named, not numbered.
    #[test]
    fn descriptors_have_names() {
        let text = "bakeoff program 1\nlimits ops=20 slow=1\n\
            map-create kind=stack-trace-build-id flags=- entries=4 pooled=0\n\
            prog-load kind=raw-tracepoint flaw=none maps=0 body=get-stackid:map@0:flags@user\n\
            arm place=signal prog=0\n\
            trigger how=signal page=1 frames=1,2 again=0\n";
        let program = bakeoff_fuzz::program::text::read(text.as_bytes()).unwrap();
        assert_eq!(program.ops.len(), 4);
        let c = c_file(&program, &about());
        for part in [
            "map[0] = map_create(7, 4, 512, 16, BPF_F_STACK_BUILD_ID);",
            "{ 0x18, 2, 1, 0, map[0] },",
            "{ 0x55, 0, 0, 7, getpid() },",
            "prog[0] = load_0();",
            "put(places, 2, prog[0]);",
            "trigger(BY_SIGNAL, 1, (unsigned char[]){ 1, 2 }, 2, 1);",
            "shut(&map[0]);",
            "WARNING in old_lookup * /",
        ] {
            assert!(c.contains(part), "{part} in {c}");
        }
        assert!(!c.contains(&PLACEHOLDER.to_string()), "{c}");
    }
}
