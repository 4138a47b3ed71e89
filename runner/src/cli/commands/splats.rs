// SPDX-License-Identifier: MIT OR Apache-2.0
//! `splats` and `explain`: reading consoles without a bake-off, and in words.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::base::error::{Context, Error, Result, exit_code};
use crate::keep::store::{RunJson, Store, read_json};
use crate::see::assemble;
use crate::see::logs;
use crate::see::observe::symbolize::Symbolizer;
use crate::see::observe::{Parser, Splat, explain, fingerprint};
use serde::Serialize;

use crate::cli::commands::print;
use crate::cli::{Explain, SplatFormat, Splats};

/// A splat as it is printed.
#[derive(Serialize)]
struct Printed<'a> {
    /// The log it was found in.
    log: &'a str,
    fingerprint: String,
    #[serde(flatten)]
    splat: &'a Splat,
}

/// Prints splats as they are found, so that a log of any size needs no memory.
struct Printer<'a> {
    format: SplatFormat,
    symbolizer: Option<(&'a Path, Symbolizer)>,
    log: String,
    any: bool,
    /// The reader went away: nothing more has to be found.
    closed: bool,
}

pub fn splats(args: &Splats) -> Result<u8> {
    let open = |path: &Path| {
        let cannot = || {
            Error::bad_input(format!("cannot read the symbols of {}", path.display()))
                .hint("--vmlinux takes the ELF file of the kernel")
        };
        let symbols = Symbolizer::open(path).map_err(|cause| cannot().because(cause))?;
        if !symbols.is_kernel() {
            return Err(cannot().because("it is an ELF file, but no kernel"));
        }
        Ok(symbols)
    };
    let symbolizer = args.vmlinux.as_deref().map(|path| Ok((path, open(path)?))).transpose()?;
    let mut printer =
        Printer { format: args.format, symbolizer, log: String::new(), any: false, closed: false };
    printer.put(match args.format {
        SplatFormat::Json => "[",
        SplatFormat::Text => "",
    })?;
    // A log that cannot be read keeps nobody from reading the others.
    let mut failed: Vec<Error> = Vec::new();
    for log in &args.logs {
        if log.as_os_str() == "-" {
            let input = logs::unpack(io::stdin(), "standard input");
            printer.log = "standard input".to_owned();
            failed.extend(input.and_then(|mut log| printer.read(&mut log)).err());
            continue;
        }
        match logs::expand(log) {
            Ok(files) => {
                for file in files {
                    printer.log = file.display().to_string();
                    let opened = logs::open(&file);
                    failed.extend(opened.and_then(|mut log| printer.read(&mut log)).err());
                }
            }
            Err(error) => failed.push(error),
        }
    }
    printer.put(match (args.format, printer.any) {
        (SplatFormat::Json, true) => "\n]\n",
        (SplatFormat::Json, false) => "]\n",
        (SplatFormat::Text, true) => "",
        (SplatFormat::Text, false) if failed.is_empty() => "no splat\n",
        (SplatFormat::Text, false) => "",
    })?;
    let more = failed.len().saturating_sub(1);
    match failed.into_iter().next() {
        None => Ok(exit_code::OK),
        Some(error) if more == 0 => Err(error),
        Some(error) => {
            let what = format!("{} (and {more} more logs could not be read)", error.message());
            let hint = error.next_step().map(str::to_owned);
            let all = Error::bad_input(what);
            Err(match hint {
                Some(hint) => all.hint(hint),
                None => all,
            })
        }
    }
}

impl Printer<'_> {
    fn read(&mut self, from: &mut dyn Read) -> Result<()> {
        let mut parser = Parser::new();
        let mut buffer = vec![0; 1 << 16];
        let mut broken = None;
        while !self.closed {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    for splat in parser.push(&buffer[..n]) {
                        self.show(&splat)?;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        for splat in parser.finish() {
            self.show(&splat)?;
        }
        match broken {
            None => Ok(()),
            Some(cause) => {
                let what = format!("cannot read the log {} to its end", self.log);
                Err(Error::bad_input(what)
                    .hint("it may be cut: what was read is printed above")
                    .because(cause))
            }
        }
    }

    /// The symbols must be those of the kernel that printed the splat, or every place is wrong.
    fn check_build(&self, splat: &Splat) -> Result<()> {
        let Some((path, symbols)) = &self.symbolizer else { return Ok(()) };
        if let (Some(printed), Some(built)) = (splat.build_id(), symbols.build_id())
            && printed != built
        {
            return Err(Error::bad_input(format!(
                "{} is another build than the kernel in {}: its build id is {built}, the log says \
                 {printed}",
                path.display(),
                self.log
            ))
            .hint("--vmlinux takes the file that was built together with the kernel that booted"));
        }
        Ok(())
    }

    fn show(&mut self, splat: &Splat) -> Result<()> {
        self.check_build(splat)?;
        let symbols = self.symbolizer.as_ref();
        let symbolized = symbols.map(|(_, symbols)| symbols.symbolize(splat));
        let splat = symbolized.as_ref().unwrap_or(splat);
        let text = match self.format {
            SplatFormat::Json => {
                let printed = Printed { log: &self.log, fingerprint: fingerprint(splat), splat };
                let json = serde_json::to_string(&printed).context(|| "write JSON".into())?;
                format!("{}\n{json}", if self.any { "," } else { "" })
            }
            SplatFormat::Text => {
                let at = format!("{}: bytes {} to {}", self.log, splat.start, splat.end);
                format!(
                    "{}{}\n\n  {at}\n  fingerprint {}\n",
                    if self.any { "\n" } else { "" },
                    explain(splat).trim_end(),
                    fingerprint(splat)
                )
            }
        };
        self.any = true;
        self.put(&text)
    }

    fn put(&mut self, text: &str) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        match io::stdout().lock().write_all(text.as_bytes()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            written => written.context(|| "write to standard output".into()),
        }
    }
}

pub fn explain_splat(args: &Explain) -> Result<u8> {
    let store = Store::open(&args.run)?;
    let run: RunJson = read_json(&store.run_json())?;
    let mut first: Option<(Splat, String)> = None;
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut known: Vec<String> = Vec::new();
    for cell in &run.plan.cells {
        for boot in store.boots(&cell.id)? {
            let console = store.console(&boot);
            for splat in assemble::splats(&console)? {
                let print = fingerprint(&splat);
                let wanted = print.starts_with(&args.splat) || splat.title.contains(&args.splat);
                if !known.contains(&splat.title) {
                    known.push(splat.title.clone());
                }
                // One bug: the first that fits decides which.
                let same = first.as_ref().map_or(wanted, |(_, one)| *one == print);
                if same {
                    *seen.entry(store.relative(&console)).or_default() += 1;
                    first.get_or_insert((splat, print));
                }
            }
        }
    }
    let Some((splat, print_of)) = first else {
        let hint = if known.is_empty() {
            "this run has no splat at all".to_owned()
        } else {
            crate::base::words::did_you_mean(&args.splat, known.iter().map(String::as_str))
        };
        return Err(Error::bad_input(format!("no splat `{}` in this run", args.splat)).hint(hint));
    };
    let mut text = format!("{}\n\nFingerprint: {print_of}. Seen in:\n", explain(&splat).trim_end());
    for (console, times) in seen {
        text.push_str(&format!("  {times:>6} times  {console}\n"));
    }
    print(&text)
}
