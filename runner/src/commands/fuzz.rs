// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fuzz`: fuzzing one candidate's kernel.

use std::fs;
use std::path::Path;

use bakeoff::error::{Context, Result};
use bakeoff::fuzzing::bench::{Bench, Subject};
use bakeoff::fuzzing::{self, Campaign};

use crate::cli::{Fuzz, SplatFormat};
use crate::commands::work::{ensure, machinery};
use crate::commands::{Desk, print};

pub fn fuzz(args: &Fuzz, desk: &Desk) -> Result<u8> {
    ensure(vec![args.arch.clone()], args.machinery.yes, desk)?;
    let tools = desk.tools();
    let out = args.out.clone().unwrap_or_else(|| {
        let now = jiff::Timestamp::now();
        Path::new("runs").join(format!("fuzz-{}", now.strftime("%Y%m%dT%H%M%SZ")))
    });
    fs::create_dir_all(&out).at_path("create", &out)?;
    let subject = Subject {
        spec: args.spec.clone(),
        base: None,
        candidate: args.candidate.clone(),
        arch: args.arch.clone(),
        profile: args.profile.clone(),
        extra: args.patch.clone(),
    };
    let machinery = machinery(&args.machinery);
    let bench = Bench::prepare(&subject, &machinery, &out.join("build.log"), &tools)?;
    let campaign = Campaign {
        seconds: args.time,
        seed: args.seed,
        out: out.clone(),
        corpus: args.corpus.clone(),
    };
    desk.events.note(format!("folder: {}", out.display()));
    let summary = fuzzing::fuzz(&bench, &campaign, &tools)?;
    print(&match args.format {
        SplatFormat::Text => summary.text(),
        SplatFormat::Json => {
            let line = serde_json::to_string(&summary).context(|| "write the summary".into())?;
            format!("{line}\n")
        }
    })
}
