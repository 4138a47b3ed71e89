// SPDX-License-Identifier: MIT OR Apache-2.0
//! PID 1 of bakeoff's guests; see [`bakeoff_fuzz::agent`].

use std::process::ExitCode;

fn main() -> ExitCode {
    bakeoff_fuzz::agent::main()
}
