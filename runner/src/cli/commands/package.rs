// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a package has beside the program: man pages, and the guests' binaries.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use clap::CommandFactory;

use super::{Desk, all_archs, print};
use crate::base::error::{Context, Result};
use crate::cli::{Cli, Folder};
use crate::keep::store::write_whole;
use crate::make::guest::{GuestBinaries, Origins, Which};

/// `bakeoff.1`, and `bakeoff-NAME.1` for each command.
pub fn manual(args: &Folder) -> Result<u8> {
    fs::create_dir_all(&args.dir).at_path("create", &args.dir)?;
    clap_mangen::generate_to(Cli::command(), &args.dir).at_path("write in", &args.dir)?;
    print(&format!("wrote the man pages to {}\n", args.dir.display()))
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
