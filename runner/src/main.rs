// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `bakeoff` command.

fn main() -> std::process::ExitCode {
    bakeoff::cli::main()
}
