//! The `bakeoff` command.
fn main() {}
