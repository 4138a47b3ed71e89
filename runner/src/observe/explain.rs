//! A splat in words.

use crate::observe::Splat;

/// Tells what a splat says, for a reader who does not speak lockdep.
pub fn explain(splat: &Splat) -> String {
    splat.title.clone()
}
