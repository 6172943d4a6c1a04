//! The engine as the command line and other tools drive it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recovery_core::{
    CodeInfo, Context, Depth, Finding, LossInfo, Plan, Probe, Receipt, Recover, Report, Result, Source, Sources, Target,
};
use serde_json::Value;

use crate::codes;
use crate::inspect;

/// The engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Engine;

impl Recover for Engine {
    fn engine(&self) -> &'static str {
        inspect::ENGINE
    }

    fn codes(&self) -> &'static [CodeInfo] {
        codes::CODES
    }

    fn losses(&self) -> &'static [LossInfo] {
        codes::LOSSES
    }

    fn resolve(&self, path: &Path) -> Result<Option<PathBuf>> {
        crate::meta::resolve(path)
    }

    fn structure(&self, finding: &Finding) -> Option<Range<u64>> {
        codes::structure(finding)
    }

    fn probe(&self, source: &dyn Source) -> Probe {
        let mut probe = Probe::no();
        for dir in ["", "bdb", "meta/bdb"] {
            let files: Vec<_> = source.list(dir, Depth::One).flatten().filter(recovery_core::Entry::is_file).collect();
            let numbered = files.iter().filter(|e| crate::reader::log::number_of(e.file_name()).is_some()).count();
            if numbered == 0 {
                if files.iter().any(|e| e.file_name().ends_with(".jdb")) {
                    probe.add(40, "files ending in .jdb");
                }
                continue;
            }
            let place = if dir.is_empty() { "here".to_owned() } else { format!("in {dir}/") };
            probe.add(70, format!("{numbered} JE log files {place}"));
            let valid = files
                .iter()
                .filter(|e| crate::reader::log::number_of(e.file_name()).is_some())
                .any(|e| source.open(e).is_ok_and(|b| crate::reader::log::read_file_header(b.as_ref()).is_ok()));
            if valid {
                probe.add(29, "a valid JE file header");
            }
            break;
        }
        probe
    }

    fn inspect(&self, sources: &Sources, options: &Value, cx: &Context) -> Result<Report> {
        let _: crate::plan::Options = recovery_core::options(options)?;
        inspect::report(sources, cx)
    }

    fn plan(&self, sources: &Sources, report: &Report, options: &Value, cx: &Context) -> Result<Plan> {
        crate::plan::plan(sources, report, options, cx)
    }

    fn apply(&self, sources: &Sources, plan: &Plan, target: &dyn Target, cx: &Context) -> Result<Receipt> {
        crate::apply::apply(sources, plan, target, cx)
    }

    fn verify(&self, result: &Arc<dyn Source>, receipt: &Receipt, cx: &Context) -> Result<Report> {
        crate::apply::verify(result, receipt, cx)
    }
}
