// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `bakeoff` command: parse, call the library, print the error, exit code.

mod cli;
mod commands;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match commands::call(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            commands::complain(&error);
            ExitCode::from(error.kind().exit_code())
        }
    }
}
