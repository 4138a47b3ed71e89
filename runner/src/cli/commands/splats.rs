// SPDX-License-Identifier: MIT OR Apache-2.0
//! `splats` and `explain`: reading consoles without a bake-off, and in words.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::base::error::{Context, Error, Result, exit_code};
use crate::keep::store::{RunJson, Store, read_json};
use crate::see::assemble;
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
struct Printer {
    format: SplatFormat,
    symbolizer: Option<Symbolizer>,
    log: String,
    any: bool,
    /// The reader went away: nothing more has to be found.
    closed: bool,
}

pub fn splats(args: &Splats) -> Result<u8> {
    let open = |path: &Path| {
        Symbolizer::open(path).map_err(|cause| {
            let what = format!("cannot read the symbols of {}", path.display());
            Error::bad_input(what).hint("--vmlinux takes the ELF file of the kernel").because(cause)
        })
    };
    let symbolizer = args.vmlinux.as_deref().map(open).transpose()?;
    let mut printer =
        Printer { format: args.format, symbolizer, log: String::new(), any: false, closed: false };
    printer.put(match args.format {
        SplatFormat::Json => "[",
        SplatFormat::Text => "",
    })?;
    for log in &args.logs {
        let name = log.display().to_string();
        printer.log = if name == "-" { "standard input".into() } else { name.clone() };
        if name == "-" {
            printer.read(&mut io::stdin().lock(), Path::new("standard input"))?;
        } else {
            let mut file = File::open(log).map_err(|cause| {
                Error::bad_input(format!("cannot read the log {name}")).because(cause)
            })?;
            printer.read(&mut file, log)?;
        }
    }
    printer.put(match (args.format, printer.any) {
        (SplatFormat::Json, true) => "\n]\n",
        (SplatFormat::Json, false) => "]\n",
        (SplatFormat::Text, true) => "",
        (SplatFormat::Text, false) => "no splat\n",
    })?;
    Ok(exit_code::OK)
}

impl Printer {
    fn read(&mut self, from: &mut dyn Read, name: &Path) -> Result<()> {
        let mut parser = Parser::new();
        let mut buffer = vec![0; 1 << 16];
        while !self.closed {
            let n = from.read(&mut buffer).at_path("read", name)?;
            if n == 0 {
                break;
            }
            for splat in parser.push(&buffer[..n]) {
                self.show(&splat)?;
            }
        }
        for splat in parser.finish() {
            self.show(&splat)?;
        }
        Ok(())
    }

    fn show(&mut self, splat: &Splat) -> Result<()> {
        let symbolized = self.symbolizer.as_ref().map(|symbols| symbols.symbolize(splat));
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
            crate::spec::did_you_mean(&args.splat, known.iter().map(String::as_str))
        };
        return Err(Error::bad_input(format!("no splat `{}` in this run", args.splat)).hint(hint));
    };
    let mut text = format!("{}\n\nFingerprint: {print_of}. Seen in:\n", explain(&splat).trim_end());
    for (console, times) in seen {
        text.push_str(&format!("  {times:>6} times  {console}\n"));
    }
    print(&text)
}
