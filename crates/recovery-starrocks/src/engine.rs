//! The five verbs for StarRocks repositories.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use recovery_core::{
    CodeInfo, Context, LossInfo, Plan, Probe, Receipt, Recover, Report, Result, Source, Sources, Target, options,
};
use serde_json::Value;

use crate::inspect::{self, Options};
use crate::{apply, codes, plan};

/// The engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct StarRocks;

/// The one instance that tools refer to.
pub static STARROCKS: StarRocks = StarRocks;

impl Recover for StarRocks {
    fn engine(&self) -> &'static str {
        "starrocks"
    }

    fn codes(&self) -> &'static [CodeInfo] {
        codes::CODES
    }

    fn losses(&self) -> &'static [LossInfo] {
        codes::LOSSES
    }

    /// The directory of a snapshot stands for its repository.
    fn resolve(&self, path: &Path) -> Result<Option<PathBuf>> {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let snapshot = crate::format::names::label(name).is_some() && path.is_dir();
        Ok(path.parent().filter(|_| snapshot).map(Path::to_path_buf))
    }

    #[cfg(feature = "store")]
    fn open_url(&self, url: &str, env: &dyn Fn(&str) -> Option<String>) -> Option<Result<Arc<dyn Source>>> {
        crate::store::open_url(url, env)
    }

    #[cfg(not(feature = "store"))]
    fn open_url(&self, _: &str, _: &dyn Fn(&str) -> Option<String>) -> Option<Result<Arc<dyn Source>>> {
        None
    }

    fn probe(&self, source: &dyn Source) -> Probe {
        let mut probe = Probe::no();
        let (score, reason) = crate::reader::repository::probe(source);
        if score > 0 {
            probe.add(score, reason);
        }
        probe
    }

    fn inspect(&self, sources: &Sources, value: &Value, cx: &Context) -> Result<Report> {
        inspect::inspect(sources, &options::<Options>(value)?, cx)
    }

    fn plan(&self, sources: &Sources, report: &Report, value: &Value, cx: &Context) -> Result<Plan> {
        plan::plan(sources, report, value, cx)
    }

    fn apply(&self, sources: &Sources, plan: &Plan, target: &dyn Target, cx: &Context) -> Result<Receipt> {
        apply::apply(sources, plan, target, cx)
    }
}
