//! The engine as tools see it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use recovery_core::{
    CodeInfo, Context, Depth, Error, Finding, LossInfo, Plan, Probe, Receipt, Recover, Report, Result, Source, Sources,
    Target, options,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::format::file_name::{FileKind, FileName};
use crate::format::key::KeyOrder;
use crate::salvage::Mend;

/// What to do about a damaged WAL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WalMode {
    /// Stop at the first damaged record: the result is a state the database once had.
    #[default]
    PointInTime,
    /// Leave out only what is damaged: more rows, but a state that never was.
    Salvage,
}

/// Options of plans and rescues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineOptions {
    /// What to do about a damaged WAL.
    pub wal: WalMode,
    /// Names for families that no witness names, by id.
    pub name_family: BTreeMap<u32, String>,
    /// Families of tables that no witness gives one, by the table's number.
    pub table_family: BTreeMap<u64, String>,
    /// What may be done about blocks that do not match their checksums.
    pub mend: Mend,
    /// The newest state at which every family is complete, rather than as many rows as there are.
    pub consistent: bool,
}

/// RocksDB.
#[derive(Clone, Copy, Debug, Default)]
pub struct RocksDb;

impl RocksDb {
    /// The engine for an application with a comparator of its own: families that name it are inspected, placed, merged
    /// and rewritten in its order. See [`KeyOrder::register`] for what the arguments mean; a name stays what it was
    /// first registered as.
    ///
    /// ```
    /// use recovery_core::{Context, MemSource, Recover, Sources};
    /// use recovery_rocksdb::RocksDb;
    /// let engine = RocksDb::with_comparator("com.example.ByLength", 0, |a, b| (a.len(), a).cmp(&(b.len(), b)));
    /// assert_eq!(engine.engine(), "rocksdb");
    /// ```
    #[must_use]
    pub fn with_comparator(
        name: impl Into<String>,
        timestamp_size: usize,
        compare: impl Fn(&[u8], &[u8]) -> std::cmp::Ordering + Send + Sync + 'static,
    ) -> Self {
        KeyOrder::register(name, timestamp_size, compare);
        Self
    }
}

impl Recover for RocksDb {
    fn engine(&self) -> &'static str {
        "rocksdb"
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
        let mut counts: BTreeMap<FileKind, u64> = BTreeMap::new();
        for entry in source.list("", Depth::One).flatten().filter(recovery_core::Entry::is_file).take(100_000) {
            let n = counts.entry(FileName::parse(entry.file_name()).kind).or_default();
            *n = n.saturating_add(1);
        }
        let has = |kind: FileKind| counts.get(&kind).copied().unwrap_or(0);
        for (kind, score, what) in [
            (FileKind::Manifest, 45, "a MANIFEST"),
            (FileKind::Current, 15, "CURRENT"),
            (FileKind::Table, 40, "tables (*.sst)"),
            (FileKind::OldTable, 20, "tables (*.ldb)"),
            (FileKind::Options, 20, "OPTIONS"),
            (FileKind::Wal, 15, "write-ahead logs (*.log)"),
            (FileKind::Blob, 15, "blob files"),
        ] {
            if has(kind) > 0 {
                probe.add(score, what);
            }
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

    fn verify(&self, result: &Arc<dyn Source>, receipt: &Receipt, cx: &Context) -> Result<Report> {
        let _ = receipt;
        self.inspect(&Sources::one(Arc::clone(result)), &Value::Null, cx)
    }
}

/// Refuses to work on a database that a process has open.
pub(crate) fn refuse_if_locked(sources: &Sources) -> Result<()> {
    for source in &sources.rivals {
        if let Some(holder) = source.lock_holder("LOCK") {
            return Err(Error::refuse(
                recovery_core::Reason::Locked,
                format!("{}: LOCK is held by a running process ({holder:?}); stop it first", source.describe()),
            ));
        }
    }
    Ok(())
}
