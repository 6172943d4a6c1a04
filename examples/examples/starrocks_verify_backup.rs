//! Proves a backup right after BACKUP has finished, as a step of a pipeline: every MD5, page sum and row count of one
//! snapshot. Ends with the exit code of `recover inspect`: 0 only when everything is there and right.
//!
//! `cargo run --example starrocks_verify_backup -- REPO LABEL`
//!
//! run: fixtures/starrocks/repos/v3_tree ss_events
#![allow(clippy::print_stdout, reason = "a program for the command line")]

use std::process::ExitCode;

use recovery_core::cli::{OpenOptions, open};
use recovery_core::{Context, Recover as _, Severity, Sources};
use recovery_starrocks::STARROCKS;
use serde_json::json;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (place, label) = args.next().zip(args.next()).ok_or("usage: REPO LABEL")?;
    let how = OpenOptions { env: |name| std::env::var(name).ok(), ..OpenOptions::default() };
    let sources = Sources::one(open(&STARROCKS, &place, &how)?);
    let report = STARROCKS.inspect(&sources, &json!({"snapshots": [label]}), &Context::default())?;
    for finding in report.findings.iter().filter(|f| f.severity > Severity::Note) {
        println!("{} {}: {}", finding.code, finding.object, finding.summary);
    }
    let seen = report.coverage;
    println!("{label}: {}, {} of {} bytes verified", report.verdict.as_str(), seen.verified, seen.bytes);
    Ok(ExitCode::from(report.exit))
}
