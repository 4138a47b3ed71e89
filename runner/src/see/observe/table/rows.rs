//! The rows themselves, by what they report.

mod fatal;
mod hang;
mod locks;
mod memory;
mod other;
mod warn;

use super::Row;

/// Every kind of report this program knows. The groups are tried in this order; the last one takes
/// what nobody else wants.
pub const SPLATS: &[&[Row]] =
    &[memory::ROWS, fatal::ROWS, locks::ROWS, hang::ROWS, warn::ROWS, other::ROWS];

/// The rows of [`SPLATS`], in order.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    SPLATS.iter().copied().flatten()
}
