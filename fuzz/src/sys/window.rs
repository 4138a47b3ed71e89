// SPDX-License-Identifier: MIT OR Apache-2.0
//! A window of addresses that shows one file or another, while a thread runs
//! code in it.
//!
//! The code is [`sampled::code`]; every file shown has a copy of it in the page
//! that lands on the window's last one. So whichever file is shown, the thread
//! finds the same instructions at the same addresses, and does not notice.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use super::sampled::{self, Leaf, Spot, Work};
use super::{check, page_size};

/// Pages of a window: one that is split off and merged again, one between, and
/// the code's.
pub const PAGES: u64 = 3;

/// The window's page that holds the code.
pub const CODE_PAGE: u64 = PAGES - 1;

/// Addresses that are ours, unmapped when dropped.
#[derive(Debug)]
pub struct Window {
    at: NonNull<libc::c_void>,
    page: usize,
}

// SAFETY: the address is a number here; the kernel orders what is done to it.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    /// Reserves the addresses. Nothing is shown yet.
    pub fn new() -> io::Result<Self> {
        let page = usize::try_from(page_size()).map_err(io::Error::other)?;
        // SAFETY: the kernel picks the address, so no mapping of ours is replaced.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                page * PAGES as usize,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(at)
            .map(|at| Self { at, page })
            .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
    }

    /// Maps `pages` of `file`, from `first_page` of it, over the window's first.
    fn map(&self, pages: usize, file: &File, first_page: u64) -> io::Result<()> {
        let offset = first_page * self.page as u64;
        // SAFETY: replaces pages of the window only. Threads may run in the last
        // one; what comes there has the same instructions (see the module).
        let at = unsafe {
            libc::mmap(
                self.at.as_ptr(),
                pages * self.page,
                libc::PROT_READ | libc::PROT_EXEC,
                libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_POPULATE,
                file.as_raw_fd(),
                libc::off_t::try_from(offset).map_err(io::Error::other)?,
            )
        };
        if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Shows `file` from its page `first_page` on. The page `first_page +
    /// CODE_PAGE` of the file begins with [`sampled::code`].
    pub fn show(&self, file: &File, first_page: u64) -> io::Result<()> {
        self.map(PAGES as usize, file, first_page)
    }

    /// Maps the head anew from the file that is shown: the kernel splits it off
    /// and merges it again.
    pub fn renew_head(&self, file: &File, first_page: u64) -> io::Result<()> {
        self.map(1, file, first_page)
    }

    /// Takes the right to execute from the head and gives it back: another way
    /// to split and merge, without another mapping.
    pub fn protect_head(&self) -> io::Result<()> {
        for protection in [libc::PROT_READ, libc::PROT_READ | libc::PROT_EXEC] {
            // SAFETY: the window's first page; nothing runs there.
            check(libc::c_long::from(unsafe {
                libc::mprotect(self.at.as_ptr(), self.page, protection)
            }))?;
        }
        Ok(())
    }

    /// Runs the code in the window until [`Work::stop`]. A file has to be shown.
    pub fn run(&self, work: &Work, leaf: Leaf) {
        let code = self.at.as_ptr().cast::<u8>().wrapping_add(CODE_PAGE as usize * self.page);
        let leaf = sampled::entry(Spot::Loop(leaf)).unwrap_or_default();
        let chain = [code as u64 + leaf];
        // SAFETY: the page holds a copy of `sampled::code` at all times, whose
        // first function has this signature and keeps the C calling convention;
        // the chain is one leaf of that copy. A leaf that faults has its page from
        // whoever made `work`.
        unsafe {
            let base: unsafe extern "C" fn(*const Work, *const u64) = std::mem::transmute(code);
            base(std::ptr::from_ref(work), chain.as_ptr());
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; `run` borrows the window, so that
        // nobody is in it any more.
        unsafe { libc::munmap(self.at.as_ptr(), PAGES as usize * self.page) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A thread that makes system calls from the window does not notice which
    /// file is shown.
    #[test]
    fn code_runs_while_files_change() {
        let page = usize::try_from(page_size()).unwrap();
        let file = |first: usize| {
            let path =
                std::env::temp_dir().join(format!("bakeoff-window-{}-{first}", std::process::id()));
            let mut bytes = vec![0; (first + PAGES as usize) * page];
            let at = (first + CODE_PAGE as usize) * page;
            bytes[at..at + sampled::code().len()].copy_from_slice(sampled::code());
            File::create(&path).unwrap().write_all(&bytes).unwrap();
            let file = File::open(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            (file, first as u64)
        };
        let files = [file(1), file(7)];
        let window = Window::new().unwrap();
        window.show(&files[0].0, files[0].1).unwrap();
        let work = Work::new(&sampled::PLAIN);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| window.run(&work, Leaf::SystemCalls));
            work.go(true);
            for (file, first) in files.iter().cycle().take(200) {
                window.show(file, *first).unwrap();
                window.protect_head().unwrap();
                window.renew_head(file, *first).unwrap();
            }
            let acts = work.acts();
            while work.acts() < acts + 10 {
                std::hint::spin_loop();
            }
            work.go(false);
            work.stop();
            assert!(thread.join().is_ok());
        });
    }
}
