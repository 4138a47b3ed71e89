//! File, line and inlined callers of each frame, from the vmlinux that was booted.
//!
//! A frame is found by the name *and the size* of its function, `sym+off/size`: addresses are moved
//! by KASLR or hidden, and several static functions may share a name. If the two do not single out
//! one symbol, the frame stays as it is: no place is better than a wrong one.

use crate::see::observe::frame::{Frame, Source};
use crate::see::observe::table::{Blame, Role, rows};
use crate::see::observe::{LockdepReport, Splat};
use gimli::{EndianArcSlice, RunTimeEndian};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use smol_str::SmolStr;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

type Reader = EndianArcSlice<RunTimeEndian>;

/// Why a vmlinux cannot be used.
#[derive(Debug)]
pub enum Error {
    /// It cannot be read.
    Read(std::io::Error),
    /// It is no object file, or a broken one.
    Object(object::Error),
    /// Its debug information is broken.
    Dwarf(gimli::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Read(_) => f.write_str("failed to read the vmlinux"),
            Error::Object(_) => f.write_str("failed to parse the vmlinux as an ELF file"),
            Error::Dwarf(_) => f.write_str("failed to read the debug information of the vmlinux"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(match self {
            Error::Read(error) => error,
            Error::Object(error) => error,
            Error::Dwarf(error) => error,
        })
    }
}

impl From<object::Error> for Error {
    fn from(error: object::Error) -> Self {
        Error::Object(error)
    }
}

impl From<gimli::Error> for Error {
    fn from(error: gimli::Error) -> Self {
        Error::Dwarf(error)
    }
}

/// One function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Symbol {
    address: u64,
    /// Up to the next symbol, as kallsyms counts it and the kernel prints it.
    size: u64,
}

/// A vmlinux, ready to look frames up in.
pub struct Symbolizer {
    symbols: HashMap<String, Vec<Symbol>>,
    dwarf: addr2line::Context<Reader>,
    /// The builder's directory: everything before `init/main.c`.
    root: String,
    /// The id the linker gave this build, in hexadecimal.
    build_id: Option<String>,
    /// It says which Linux it is.
    kernel: bool,
    /// A flood repeats its frames by the thousand.
    cache: Mutex<HashMap<(SmolStr, u64, u64), Vec<Frame>>>,
}

impl fmt::Debug for Symbolizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Symbolizer")
            .field("symbols", &self.symbols.len())
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl Symbolizer {
    /// Reads the vmlinux at `path`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::from_bytes(&std::fs::read(path).map_err(Error::Read)?)
    }

    /// Reads a vmlinux that is in memory. One without debug information is fine: frames are then
    /// left as they are.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let file = object::File::parse(bytes)?;
        let endian =
            if file.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
        let dwarf = gimli::Dwarf::load(|id| -> Result<Reader, Error> {
            let data = match file.section_by_name(id.name()) {
                Some(section) => section.uncompressed_data()?,
                None => Cow::Borrowed(&[][..]),
            };
            Ok(Reader::new(Arc::from(&*data), endian))
        })?;
        let mut symbolizer = Symbolizer {
            symbols: symbols(&file),
            dwarf: addr2line::Context::from_dwarf(dwarf)?,
            root: String::new(),
            build_id: file
                .build_id()?
                .map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect()),
            kernel: file.symbols().any(|symbol| symbol.name() == Ok("linux_banner")),
            cache: Mutex::default(),
        };
        symbolizer.root = symbolizer.find_root().unwrap_or_default();
        Ok(symbolizer)
    }

    /// Is it a kernel at all?
    pub fn is_kernel(&self) -> bool {
        self.kernel
    }

    /// The id the linker gave this build, in hexadecimal.
    pub fn build_id(&self) -> Option<&str> {
        self.build_id.as_deref()
    }

    fn find_root(&self) -> Option<String> {
        let start = self.symbols.get("start_kernel")?.first()?;
        let location = self.dwarf.find_location(start.address).ok()??;
        let file = tidy(location.file?);
        Some(file.strip_suffix("init/main.c")?.to_owned())
    }

    /// The splat with the places of its frames, and the functions that were inlined into them.
    pub fn symbolize(&self, splat: &Splat) -> Splat {
        let mut splat = splat.clone();
        splat.frames = self.frames(&splat.frames, begins_at_the_cpu(&splat));
        for stack in &mut splat.stacks {
            stack.frames = self.frames(&stack.frames, false);
        }
        if let Some(report) = &mut splat.lockdep {
            self.locks(report);
        }
        if splat.source.is_none() {
            splat.source = splat.function.as_deref().and_then(|function| {
                let frame = splat.frames.iter().find(|frame| frame.name() == function)?;
                let source = frame.source.as_ref()?;
                Some(format!("{}:{}", source.file, source.line))
            });
        }
        splat
    }

    fn locks(&self, report: &mut LockdepReport) {
        let sites = [&mut report.acquiring, &mut report.holding]
            .into_iter()
            .flatten()
            .filter_map(|used| used.at.as_mut())
            .chain(report.held.iter_mut().filter_map(|held| held.at.as_mut()))
            .chain(report.chain.iter_mut().filter_map(|link| link.at.as_mut()));
        for at in sites {
            // Where it was inlined is not asked here: the one frame names the one place.
            if let Some(physical) = self.frame(at).pop() {
                at.source = physical.source;
            }
        }
        for link in &mut report.chain {
            link.frames = self.frames(&link.frames, false);
        }
    }

    fn frames(&self, frames: &[Frame], exact: bool) -> Vec<Frame> {
        // A log that was symbolized already has its inlined frames.
        if frames.iter().any(|frame| frame.source.is_some()) {
            return frames.to_vec();
        }
        let place = |(at, frame)| self.at(frame, exact && at == 0);
        frames.iter().enumerate().flat_map(place).collect()
    }

    /// A caller's frame, preceded by what was inlined into it, innermost first.
    pub fn frame(&self, frame: &Frame) -> Vec<Frame> {
        self.at(frame, false)
    }

    /// The same; `exact` if the offset is that of the instruction itself.
    fn at(&self, frame: &Frame, exact: bool) -> Vec<Frame> {
        let unknown = || vec![frame.clone()];
        let (Some(offset), Some(size), None) = (frame.offset, frame.size, &frame.module) else {
            return unknown();
        };
        // A return address is that of the instruction behind the call.
        let offset = if exact { offset } else { offset.saturating_sub(1) };
        let key = (frame.function.clone(), offset, size);
        if let Ok(cache) = self.cache.lock()
            && let Some(known) = cache.get(&key)
        {
            return with_remarks(known, frame);
        }
        let Some(symbol) = self.symbol(&frame.function, size) else {
            return unknown();
        };
        let address = symbol.address + offset;
        let found = self.inlined(address, frame).unwrap_or_else(unknown);
        if let Ok(mut cache) = self.cache.lock() {
            cache.insert(key, found.clone());
        }
        with_remarks(&found, frame)
    }

    fn symbol(&self, name: &str, size: u64) -> Option<Symbol> {
        let mut matching = self.symbols.get(name)?.iter().filter(|symbol| symbol.size == size);
        let found = matching.next()?;
        matching.next().is_none().then_some(*found)
    }

    fn inlined(&self, address: u64, frame: &Frame) -> Option<Vec<Frame>> {
        let mut found = Vec::new();
        let mut frames = self.dwarf.find_frames(address).skip_all_loads().ok()?;
        while let Ok(Some(inner)) = frames.next() {
            let source = inner.location.as_ref().and_then(|location| {
                Some(Source { file: self.relative(location.file?), line: location.line? })
            });
            let name = inner
                .function
                .as_ref()
                .and_then(|function| function.demangle().ok().map(Cow::into_owned));
            found.push(Frame {
                function: name.unwrap_or_default().into(),
                source,
                inlined: true,
                ..Frame::default()
            });
        }
        let outermost = found.last_mut()?;
        let source = outermost.source.take();
        *outermost = Frame { source, ..frame.clone() };
        Some(found)
    }

    fn relative(&self, file: &str) -> String {
        let file = tidy(file);
        match file.strip_prefix(&self.root) {
            Some(rest) if !self.root.is_empty() => rest.to_owned(),
            _ => crate::see::observe::frame::relative(&file).to_owned(),
        }
    }
}

/// Does the event's own stack begin with the instruction that trapped? Otherwise with a call that
/// collects the stack.
fn begins_at_the_cpu(splat: &Splat) -> bool {
    rows().find(|row| row.name == splat.row).is_some_and(|row| {
        matches!(row.blame, Blame::Fault | Blame::Head) && row.role != Role::Panic
    }) && splat.frames.first().is_some_and(|first| {
        // Old kernels print a WARN's stack by calls.
        splat.function.as_deref() == Some(first.name())
            || !matches!(first.name(), "dump_stack" | "dump_stack_lvl" | "show_stack" | "__warn")
    })
}

/// What was found for a frame, with the remarks of the stack it stands on now.
fn with_remarks(found: &[Frame], frame: &Frame) -> Vec<Frame> {
    let mut found = found.to_vec();
    if let Some(physical) = found.last_mut() {
        // Cached by where it points, which a trap and a call may share.
        physical.offset = frame.offset;
    }
    for known in &mut found {
        known.unreliable = frame.unreliable;
    }
    found
}

/// `a/b/../c` is `a/c`.
fn tidy(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." if parts.last().is_some_and(|last| !last.is_empty() && *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Functions by name. Sizes are recomputed as the kernel does: up to the next symbol.
fn symbols(file: &object::File<'_>) -> HashMap<String, Vec<Symbol>> {
    let text = |symbol: &object::Symbol<'_, '_>| {
        matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown | SymbolKind::Label)
            && symbol.is_definition()
            && symbol.section_index().is_some()
    };
    let mut all: Vec<(u64, &str, u64)> = file
        .symbols()
        .filter(text)
        .filter_map(|symbol| {
            let name = symbol.name().ok()?;
            // Mapping symbols of Arm and local labels are not in kallsyms.
            let counts = !name.is_empty() && !name.starts_with('$') && !name.starts_with(".L");
            counts.then(|| (symbol.address(), name, symbol.size()))
        })
        .collect();
    all.sort_unstable();
    let mut symbols: HashMap<String, Vec<Symbol>> = HashMap::with_capacity(all.len());
    for (at, (address, name, size)) in all.iter().enumerate() {
        let next = all[at + 1..]
            .iter()
            .find(|(other, ..)| other > address)
            .map(|(other, ..)| other - address);
        let entry = symbols.entry((*name).to_owned()).or_default();
        for size in [next, Some(*size)].into_iter().flatten() {
            let symbol = Symbol { address: *address, size };
            if size > 0 && !entry.contains(&symbol) {
                entry.push(symbol);
            }
        }
    }
    symbols
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_their_detours() {
        assert_eq!(tidy("/a/build/../kernel/x.c"), "/a/kernel/x.c");
        assert_eq!(tidy("../kernel/./x.c"), "../kernel/x.c");
    }

    /// The test program is its own vmlinux: a function is found by name and size, wherever it was
    /// loaded, and by nothing less.
    #[test]
    fn a_function_is_found_by_name_and_size() {
        let program = std::env::current_exe().unwrap();
        let symbolizer = Symbolizer::open(&program).unwrap();
        let (name, symbols) =
            symbolizer.symbols.iter().find(|(name, _)| name.contains("symbolize4tidy")).unwrap();
        let frame = Frame {
            function: name.as_str().into(),
            offset: Some(8),
            size: Some(symbols[0].size),
            ..Frame::default()
        };
        for _ in 0..2 {
            let found = symbolizer.frame(&frame);
            let physical = found.last().unwrap();
            let source = physical.source.as_ref().unwrap();
            assert!(source.file.ends_with("observe/symbolize.rs"), "{source:?}");
            assert_eq!(physical.function, *name);
            assert!(!physical.inlined);
        }
        let other = Frame { size: Some(symbols[0].size + 1), ..frame.clone() };
        assert_eq!(symbolizer.frame(&other), [other]);
        let in_a_module = Frame { module: Some("m".into()), ..frame };
        assert_eq!(symbolizer.frame(&in_a_module), [in_a_module]);
    }

    /// A trap points at its own instruction, a caller behind its call: the same offset may be two
    /// places. Where the kernel was loaded makes no difference, and no address is looked at.
    #[test]
    fn only_a_trap_is_where_it_says() {
        let warn = |address: &str| {
            format!(
                "[    1.000000] WARNING: CPU: 0 PID: 1 at fs/x.c:28 f+0x1/0x20\n\
                 [    1.000000] RIP: 0010:f+0x1/0x20\n\
                 [    1.000000] Call Trace:\n\
                 [    1.000000]  [<{address}>] g+0x1/0x20\n"
            )
        };
        let splats = |address: &str| crate::see::observe::parse(warn(address).as_bytes());
        let (low, moved) = (splats("ffffffff81000042"), splats("ffffffffa3400042"));
        assert!(begins_at_the_cpu(&low[0]));
        assert_eq!(low[0].frames, moved[0].frames);
        let lockdep = "[    1.000000] BUG: scheduling while atomic: init/1/0x2\n\
            [    1.000000] Call Trace:\n[    1.000000]  dump_stack_lvl+0x1/0x20\n";
        assert!(!begins_at_the_cpu(&crate::see::observe::parse(lockdep.as_bytes())[0]));
    }

    #[test]
    fn what_is_no_elf_file_is_an_error() {
        let error = Symbolizer::from_bytes(b"no").unwrap_err();
        assert_eq!(error.to_string(), "failed to parse the vmlinux as an ELF file");
    }
}
