//! The thin, object-safe interface that tools see; the typed one of each engine crate is the library's real face.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::blob::Blob;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::finding::{CodeInfo, Finding, LossInfo};
use crate::plan::Plan;
use crate::receipt::Receipt;
use crate::report::Report;
use crate::source::{Source, Sources};
use crate::target::Target;

/// How sure an engine is that a source is its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// 0 (not mine) to 100 (certain).
    pub score: u8,
    /// What speaks for it, and against.
    pub reasons: Vec<String>,
}

impl Probe {
    /// Not this engine's.
    #[must_use]
    pub fn no() -> Self {
        Self::default()
    }

    /// Adds something that speaks for it.
    pub fn add(&mut self, score: u8, reason: impl Into<String>) {
        self.score = self.score.saturating_add(score).min(100);
        self.reasons.push(reason.into());
    }
}

/// The five verbs of an engine.
pub trait Recover: Send + Sync {
    /// Its name: `bdbje`, `moosefs`, `polardb`, `rocksdb`, `starrocks`.
    fn engine(&self) -> &'static str;

    /// Every finding code with its explanation.
    fn codes(&self) -> &'static [CodeInfo];

    /// Every loss name with its explanation.
    fn losses(&self) -> &'static [LossInfo];

    /// Where a path the user gave really leads: a configuration file that names the data directory, a home directory
    /// above it. `None` when the path itself is meant.
    ///
    /// # Errors
    ///
    /// When the path is of that kind and cannot be followed.
    fn resolve(&self, path: &Path) -> Result<Option<PathBuf>> {
        let _ = path;
        Ok(None)
    }

    /// Opens an address that is not a path. `env` gives credentials and settings; libraries never read the
    /// environment themselves. `None` when the address is of a kind this engine does not read.
    fn open_url(&self, url: &str, env: &dyn Fn(&str) -> Option<String>) -> Option<Result<Arc<dyn Source>>> {
        let _ = (url, env);
        None
    }

    /// Whether a source is this engine's.
    fn probe(&self, source: &dyn Source) -> Probe;

    /// Sees an image or device as a source.
    ///
    /// # Errors
    ///
    /// When it is this engine's and cannot be mounted.
    fn mount(&self, blob: Arc<dyn Blob>, cx: &Context) -> Result<Option<Arc<dyn Source>>> {
        let _ = (blob, cx);
        Ok(None)
    }

    /// Looks, and never writes.
    ///
    /// # Errors
    ///
    /// For reasons to stop; damage is not one.
    fn inspect(&self, sources: &Sources, options: &Value, cx: &Context) -> Result<Report>;

    /// Decides, and touches nothing.
    ///
    /// # Errors
    ///
    /// A refusal where no safe plan exists.
    fn plan(&self, sources: &Sources, report: &Report, options: &Value, cx: &Context) -> Result<Plan>;

    /// Builds the result in a new place.
    ///
    /// # Errors
    ///
    /// When it cannot be built; nothing is then visible in the new place.
    fn apply(&self, sources: &Sources, plan: &Plan, target: &dyn Target, cx: &Context) -> Result<Receipt>;

    /// Inspects a result strictly.
    ///
    /// # Errors
    ///
    /// For reasons to stop.
    fn verify(&self, result: &Arc<dyn Source>, receipt: &Receipt, cx: &Context) -> Result<Report> {
        let _ = receipt;
        self.inspect(&Sources::one(Arc::clone(result)), &Value::Null, cx)
    }

    /// Which bytes of a finding's object may be shown in a report because the format has structure there (a header)
    /// and never payload; at most 16 are. `None` where nothing is that certain.
    fn structure(&self, finding: &Finding) -> Option<Range<u64>> {
        let _ = finding;
        None
    }

    /// Compares rival copies; the default is an inspection, whose candidates are ranked.
    ///
    /// # Errors
    ///
    /// As [`inspect`](Self::inspect).
    fn compare(&self, sources: &Sources, options: &Value, cx: &Context) -> Result<Report> {
        self.inspect(sources, options, cx)
    }
}

/// Reads an engine's options from the JSON of a plan or of the command line.
///
/// `null` stands for the defaults. Engines derive `Deserialize` with `deny_unknown_fields` and `default`.
///
/// # Errors
///
/// When a field is unknown or of the wrong type.
pub fn options<T: serde::de::DeserializeOwned + Default>(value: &Value) -> Result<T> {
    if value.is_null() {
        return Ok(T::default());
    }
    T::deserialize(value).map_err(|e| Error::Usage(format!("options: {e}")))
}

/// The engine that is surest of a source.
///
/// # Errors
///
/// [`Error::Unusable`] when no engine knows it; a usage error naming both when two are equally sure.
pub fn probe_all<'a>(engines: &[&'a dyn Recover], source: &dyn Source) -> Result<(&'a dyn Recover, Probe)> {
    let mut found: Vec<(&dyn Recover, Probe)> =
        engines.iter().map(|e| (*e, e.probe(source))).filter(|(_, p)| p.score > 0).collect();
    found.sort_by_key(|(_, p)| std::cmp::Reverse(p.score));
    let mut found = found.into_iter();
    let Some(best) = found.next() else {
        return Err(Error::Unusable(format!(
            "{}: nothing in it that any engine knows ({})",
            source.describe(),
            engines.iter().map(|e| e.engine()).collect::<Vec<_>>().join(", ")
        )));
    };
    match found.next() {
        Some(second) if second.1.score == best.1.score => Err(Error::Usage(format!(
            "{}: could be {} ({}) or {} ({}); say which with --engine {} or --engine {}",
            source.describe(),
            best.0.engine(),
            best.1.reasons.join(", "),
            second.0.engine(),
            second.1.reasons.join(", "),
            best.0.engine(),
            second.0.engine()
        ))),
        _ => Ok(best),
    }
}
