// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `bakeoff` command: parse, call the library, print the error, exit code.

mod cli;
mod commands;

use std::process::ExitCode;

use bakeoff::spec::nearest;
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser};

/// The command line; if it is wrong, what is wrong with it, and the end. A command that
/// is misspelt so that clap knows none like it gets the suggestion that words of a spec
/// get.
fn parse() -> cli::Cli {
    let mut error = match cli::Cli::try_parse() {
        Ok(cli) => return cli,
        Err(error) => error,
    };
    if let (Some(ContextValue::String(written)), None) =
        (error.get(ContextKind::InvalidSubcommand), error.get(ContextKind::SuggestedSubcommand))
    {
        let command = cli::Cli::command();
        let near = nearest(written, command.get_subcommands().map(clap::Command::get_name));
        if let Some(near) = near {
            let near = ContextValue::Strings(vec![near.to_owned()]);
            error.insert(ContextKind::SuggestedSubcommand, near);
        }
    }
    error.exit()
}

fn main() -> ExitCode {
    let cli = parse();
    match commands::call(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            commands::complain(&error);
            ExitCode::from(error.kind().exit_code())
        }
    }
}
