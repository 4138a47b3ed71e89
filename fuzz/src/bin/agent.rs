// SPDX-License-Identifier: MIT OR Apache-2.0
//! PID 1 of bakeoff's guests; see [`bakeoff_fuzz::agent`].
//!
//! A guest has no libraries, so it is linked statically: profile `guest`,
//! `-C target-feature=+crt-static`, target `x86_64-unknown-linux-gnu` or
//! `aarch64-unknown-linux-gnu` (linker `aarch64-linux-gnu-gcc`).

use std::process::ExitCode;

fn main() -> ExitCode {
    bakeoff_fuzz::agent::main()
}
