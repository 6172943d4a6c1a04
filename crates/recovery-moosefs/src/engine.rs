//! The engine as tools see it.

use std::ops::Range;

use recovery_core::{
    CodeInfo, Context, Depth, Error, Finding, LossInfo, Plan, Probe, Receipt, Recover, Report, Result, Source, Sources,
    Target, options,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::changelog::file::log_name;
use crate::dialect::Dialect;
use crate::time::Point;

/// Options of plans and rescues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineOptions {
    /// Product line of the result: `1.6`, `2`, `3` or `4`.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub as_dialect: Option<String>,
    /// Last change to replay: an id, or a time as [`Point`] reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Apply what can be applied behind missing changes and behind those that cannot be applied.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub past_gaps: bool,
}

impl EngineOptions {
    /// The product line asked for.
    ///
    /// # Errors
    ///
    /// When there is no such product line.
    pub fn dialect(&self) -> Result<Option<Dialect>> {
        self.as_dialect.as_deref().map(|s| s.parse().map_err(Error::Usage)).transpose()
    }

    /// The point in time asked for.
    ///
    /// # Errors
    ///
    /// When it is neither an id nor a time.
    pub fn until(&self) -> Result<Option<Point>> {
        self.until.as_deref().map(str::parse).transpose()
    }
}

/// MooseFS.
#[derive(Clone, Copy, Debug, Default)]
pub struct MooseFs;

impl Recover for MooseFs {
    fn engine(&self) -> &'static str {
        "moosefs"
    }

    fn codes(&self) -> &'static [CodeInfo] {
        crate::codes::CODES
    }

    fn losses(&self) -> &'static [LossInfo] {
        crate::codes::LOSSES
    }

    fn structure(&self, finding: &Finding) -> Option<Range<u64>> {
        crate::codes::structure(finding)
    }

    fn probe(&self, source: &dyn Source) -> Probe {
        let mut probe = Probe::no();
        let (mut bases, mut logs) = (0, 0);
        for entry in source.list("", Depth::One).flatten().filter(recovery_core::Entry::is_file).take(10_000) {
            let name = entry.file_name();
            logs += u32::from(log_name(name).is_some());
            bases += u32::from(name.starts_with("metadata.mfs") || name.starts_with("metadata_ml.mfs"));
            let head = source.open(&entry).and_then(|b| b.bytes(0..b.len().min(8)));
            let signature = head.is_ok_and(|h| {
                let mut c = recovery_core::Cursor::new(&h, 0);
                crate::format::outer::Signature::decode(&mut c).is_ok()
            });
            if signature && name.starts_with("metadata") {
                probe.add(80, format!("{name} has the signature of MooseFS metadata"));
            }
        }
        if bases > 0 {
            probe.add(30, "metadata.mfs files");
        }
        if logs > 0 {
            probe.add(60, "change logs (changelog*.mfs)");
        }
        probe
    }

    fn inspect(&self, sources: &Sources, value: &Value, cx: &Context) -> Result<Report> {
        crate::inspect::inspect(sources, &options(value)?, cx)
    }

    fn plan(&self, sources: &Sources, report: &Report, value: &Value, cx: &Context) -> Result<Plan> {
        crate::plan::plan(sources, report, &options(value)?, value, cx)
    }

    fn apply(&self, sources: &Sources, plan: &Plan, target: &dyn Target, cx: &Context) -> Result<Receipt> {
        crate::apply::apply(sources, plan, target, cx)
    }
}
