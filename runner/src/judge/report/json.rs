// SPDX-License-Identifier: MIT OR Apache-2.0
//! `report.json`: the [`Report`] as it is.

use super::Report;
use crate::base::error::{Context, Result};

pub(super) fn render(report: &Report) -> Result<String> {
    let mut text =
        serde_json::to_string_pretty(report).context(|| "write the report as JSON".into())?;
    text.push('\n');
    Ok(text)
}
