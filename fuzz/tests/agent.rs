// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent as a program, outside any guest.

use std::process::Command;

use bakeoff_fuzz::elf::Elf;
use bakeoff_fuzz::guest::EXIT_NOT_A_GUEST;

const AGENT: &str = env!("CARGO_BIN_EXE_agent");

/// Started by hand, the agent changes nothing: it says why and exits with a
/// code of its own.
#[test]
fn refuses_to_run_outside_a_guest() {
    for arguments in
        [&[][..], &["--help"], &["--visit"], &["--visit", "{}"], &["--visit", "not json"]]
    {
        let output = Command::new(AGENT).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(i32::from(EXIT_NOT_A_GUEST)));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("inside bakeoff's guests only"), "{said}");
        assert!(output.stdout.is_empty());
    }
}

/// The linker gave the agent the SHA-1 build id that the probe expects.
#[test]
fn has_a_sha1_build_id() {
    let elf = Elf::parse(&std::fs::read(AGENT).unwrap()).unwrap();
    assert_ne!(elf.build_id, [0; 20]);
}
