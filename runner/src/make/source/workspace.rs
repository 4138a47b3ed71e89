// SPDX-License-Identifier: MIT OR Apache-2.0
//! Copies of a source to patch and build in.
//!
//! A workspace is a hard-linked copy of the base's tree: quick, and it takes no
//! space. Whoever changes a file in it must write a new one and rename it, as
//! `git apply` does (there is a test), or the cached base changes with it. The
//! build folder lies inside and is a real copy: make writes into files there.
//! Time stamps are kept in both, or make would compile everything again.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::base::command::Cancel;
use crate::base::error::{Context, Result};

/// The build folder's name inside a workspace (`make O=build`).
///
/// Inside, because kbuild's command files then hold relative paths, so that a
/// build folder can be copied to another workspace and still be up to date.
pub const BUILD: &str = "build";

/// Makes `to` a hard-linked copy of the tree `from`. `to` must not exist.
///
/// # Errors
/// Full disk, interrupted.
pub fn link_tree(from: &Path, to: &Path, cancel: &Cancel) -> Result<()> {
    walk(from, to, Path::new(""), &|_| false, cancel, &mut |from, to, metadata| {
        match fs::hard_link(from, to) {
            Ok(()) => Ok(()),
            // Another file system, too many links, or fs.protected_hardlinks.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::CrossesDevices
                        | io::ErrorKind::TooManyLinks
                        | io::ErrorKind::PermissionDenied
                        | io::ErrorKind::Unsupported
                ) =>
            {
                copy_file(from, to, metadata)
            }
            Err(e) => Err(e).at_path("link", to),
        }
    })
}

/// Makes `to` a real copy of `from`, time stamps and modes included, without
/// what `left_out` says of paths relative to `from`.
///
/// # Errors
/// Full disk, interrupted.
pub fn copy_tree(
    from: &Path,
    to: &Path,
    left_out: &dyn Fn(&Path) -> bool,
    cancel: &Cancel,
) -> Result<()> {
    walk(from, to, Path::new(""), left_out, cancel, &mut copy_file)
}

/// Copies a build folder that was made in the workspace `old` into the workspace `new`.
///
/// The command files of `tools/` (objtool) do hold absolute paths. As they are,
/// objtool would be made again, and since every object depends on it, so would
/// the whole kernel (seen: 284 s instead of 12 s). So the paths are moved along.
///
/// # Errors
/// Full disk, interrupted.
pub fn copy_build(from: &Path, old: &Path, new: &Path, cancel: &Cancel) -> Result<()> {
    let to = new.join(BUILD);
    copy_tree(from, &to, &|_| false, cancel)?;
    let tools = to.join("tools");
    if tools.is_dir() {
        let (old, new) = (format!("{}/", old.display()), format!("{}/", new.display()));
        move_paths(&tools, &old, &new)?;
    }
    Ok(())
}

fn move_paths(dir: &Path, old: &str, new: &str) -> Result<()> {
    for entry in fs::read_dir(dir).at_path("read", dir)? {
        let path = entry.at_path("read", dir)?.path();
        let metadata = fs::symlink_metadata(&path).at_path("read", &path)?;
        if metadata.is_dir() {
            move_paths(&path, old, new)?;
        } else if metadata.is_file() && path.extension().is_some_and(|e| e == "cmd" || e == "d") {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            if text.contains(old) {
                fs::write(&path, text.replace(old, new)).at_path("write", &path)?;
                keep_time(&path, &metadata)?;
            }
        }
    }
    Ok(())
}

fn walk(
    from: &Path,
    to: &Path,
    relative: &Path,
    left_out: &dyn Fn(&Path) -> bool,
    cancel: &Cancel,
    file: &mut dyn FnMut(&Path, &Path, &fs::Metadata) -> Result<()>,
) -> Result<()> {
    cancel.check()?;
    fs::create_dir_all(to).at_path("create", to)?;
    for entry in fs::read_dir(from).at_path("read", from)? {
        let entry = entry.at_path("read", from)?;
        let name = relative.join(entry.file_name());
        if left_out(&name) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata().at_path("read", &source)?;
        if metadata.is_dir() {
            walk(&source, &target, &name, left_out, cancel, file)?;
        } else if metadata.is_symlink() {
            let leads = fs::read_link(&source).at_path("read", &source)?;
            symlink(leads, &target).at_path("link", &target)?;
        } else if metadata.is_file() {
            file(&source, &target, &metadata)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, metadata: &fs::Metadata) -> Result<()> {
    fs::copy(from, to).at_path("copy to", to)?;
    keep_time(to, metadata)
}

fn keep_time(path: &Path, metadata: &fs::Metadata) -> Result<()> {
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).at_path("set the time of", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copied build folder is as old as the original, and knows its new place.
    #[test]
    fn copied_build_folders_stay_up_to_date() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        let tools = old.join("build/tools/objtool");
        fs::create_dir_all(&tools).unwrap();
        let command = format!("cc -I{}/tools/include -o x.o", old.display());
        fs::write(tools.join(".x.o.cmd"), &command).unwrap();
        fs::write(old.join("build/main.o"), "object").unwrap();
        let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000, 7);
        for file in ["build/main.o", "build/tools/objtool/.x.o.cmd"] {
            fs::File::open(old.join(file)).unwrap().set_modified(past).unwrap();
        }
        copy_build(&old.join("build"), &old, &new, &Cancel::new()).unwrap();
        for file in ["build/main.o", "build/tools/objtool/.x.o.cmd"] {
            assert_eq!(fs::metadata(new.join(file)).unwrap().modified().unwrap(), past, "{file}");
        }
        let moved = fs::read_to_string(new.join("build/tools/objtool/.x.o.cmd")).unwrap();
        assert_eq!(moved, format!("cc -I{}/tools/include -o x.o", new.display()));
        fs::write(new.join("build/main.o"), "other").unwrap();
        assert_eq!(fs::read_to_string(old.join("build/main.o")).unwrap(), "object");
    }
}
