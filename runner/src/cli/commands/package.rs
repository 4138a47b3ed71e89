// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a package has beside the program: man pages, and the guests' binaries.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use jiff::Timestamp;

use super::{Desk, all_archs, print};
use crate::base::error::{Context, Result};
use crate::cli::{Cli, Folder};
use crate::keep::store::write_whole;
use crate::make::guest::{GuestBinaries, Origins, Which};

/// `bakeoff.1`, and `bakeoff-NAME.1` for each command.
pub fn manual(args: &Folder) -> Result<u8> {
    fs::create_dir_all(&args.dir).at_path("create", &args.dir)?;
    for (file, text) in pages()? {
        write_whole(&args.dir.join(file), text.as_bytes())?;
    }
    print(&format!("wrote the man pages to {}\n", args.dir.display()))
}

/// Every man page, with the name of its file.
fn pages() -> Result<Vec<(String, String)>> {
    fn add(command: Command, to: &mut Vec<Command>) {
        for one in command.get_subcommands().filter(|one| !one.is_hide_set()) {
            add(one.clone(), to);
        }
        to.push(command);
    }
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut all = Vec::new();
    add(command, &mut all);
    let date = date();
    let page = |command: Command| {
        let source = format!("bakeoff {}", env!("CARGO_PKG_VERSION"));
        let man = Man::new(command).date(&date).source(source).manual("bakeoff");
        let mut page = Vec::new();
        man.render(&mut page).context(|| "write a man page".into())?;
        Ok((man.get_filename(), as_written(&String::from_utf8_lossy(&page))))
    };
    all.into_iter().map(page).collect()
}

/// A page whose last texts, which are tables, keep their lines.
fn as_written(page: &str) -> String {
    const EXTRA: &str = "\n.SH EXTRA\n";
    let Some((before, extra)) = page.split_once(EXTRA) else { return page.to_owned() };
    let (extra, after) = extra.split_once("\n.SH ").unwrap_or((extra, "VERSION\n"));
    format!("{before}\n.SH NOTES\n.nf\n{extra}\n.fi\n.SH {after}")
}

/// The day of a release (SOURCE_DATE_EPOCH), or today.
fn date() -> String {
    let release = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let at = release.and_then(|second| Timestamp::from_second(second).ok());
    at.unwrap_or_else(Timestamp::now).strftime("%Y-%m-%d").to_string()
}

/// `<arch>/<binary>`, as `--guest-dir` takes them.
pub fn guests(args: &Folder, desk: &Desk) -> Result<u8> {
    let Desk { data, cache, events, cancel, .. } = desk;
    let origins = Origins { guest_dir: None, data, cache };
    for arch in all_archs(data)? {
        for which in [Which::Agent, Which::Fuzzer] {
            let binary = GuestBinaries::obtain_which(which, &arch, &origins, events, cancel)?;
            let path = args.dir.join(&arch.name).join(which.name());
            write_whole(&path, binary.init())?;
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&path, mode).at_path("write", &path)?;
            print(&format!("{}\n", path.display()))?;
        }
    }
    Ok(crate::base::error::exit_code::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There is a page for each command, dated, and what is set in columns keeps its lines
    /// and fits a terminal of 80 columns.
    #[test]
    fn pages_are_fit_to_be_read() {
        let all = pages().unwrap();
        assert!(all.iter().any(|(file, _)| file == "bakeoff-series-show.1"));
        let mut tables = 0;
        for (file, page) in &all {
            let title = page.lines().find(|line| line.starts_with(".TH ")).unwrap();
            let date = date();
            assert!(title.contains(&date) && title.contains("bakeoff 0."), "{file}: {title}");
            let Some((_, notes)) = page.split_once(".SH NOTES\n.nf\n") else { continue };
            let (notes, _) = notes.split_once("\n.fi\n.SH VERSION").unwrap();
            tables += 1;
            for line in notes.lines() {
                // man indents by seven.
                let shown = line.replace("\\-", "-").chars().count();
                assert!(shown <= 73, "{file}: {shown} columns: {line}");
            }
        }
        assert_eq!(tables, 5, "bakeoff, try, ci, series show and fetch have tables");
    }
}
