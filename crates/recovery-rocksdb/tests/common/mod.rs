//! Rescues in memory, and the rows of what comes out.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use recovery_core::{
    Begun, Context, Done, How, MemSource, Output, Placed, Plan, Receipt, Recover, Report, Result, Source, Sources,
    Target,
};
use recovery_rocksdb::RocksDb;
use recovery_rocksdb::dump::{DatabaseView, MergeOperator, OpenOptions, RowOptions, RowValue};
use serde_json::Value;

/// Keeps a result in memory.
#[derive(Debug, Default)]
pub(crate) struct MemTarget {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
}

struct Buffer(Vec<u8>);

impl Write for Buffer {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Output for Buffer {
    fn hole(&mut self, n: u64) -> std::io::Result<()> {
        self.0.resize(self.0.len() + usize::try_from(n).expect("small"), 0);
        Ok(())
    }
}

impl Target for MemTarget {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn found_plan(&self) -> Result<Option<Plan>> {
        Ok(None)
    }

    fn begin(&self, _: &Plan, _: Option<&Path>) -> Result<Begun> {
        Ok(Begun::Fresh)
    }

    fn mkdir(&self, _: &str, _: Option<u32>) -> Result<()> {
        Ok(())
    }

    fn place(&self, _: &Path, _: &str, _: bool, _: Option<u32>) -> Result<Option<How>> {
        Ok(None)
    }

    fn create(&self, to: &str, _: Option<u32>, fill: &mut dyn FnMut(&mut dyn Output) -> Result<()>) -> Result<Placed> {
        let mut out = Buffer(Vec::new());
        fill(&mut out)?;
        let size = out.0.len() as u64;
        self.files.lock().unwrap().insert(to.to_owned(), out.0);
        Ok(Placed { path: to.to_owned(), size, how: How::Written, sha256: None })
    }

    fn done(&self, _: &Done) -> Result<()> {
        Ok(())
    }

    fn commit(&self, _: &Receipt, _: &[String]) -> Result<()> {
        Ok(())
    }
}

/// A rescue in memory.
pub(crate) struct Rescued {
    pub(crate) report: Report,
    pub(crate) plan: Plan,
    pub(crate) result: MemSource,
    pub(crate) verified: Report,
}

pub(crate) fn context() -> Context {
    Context::with_threads(2)
}

pub(crate) fn inspect(source: &MemSource) -> Report {
    let sources = Sources::one(Arc::new(source.clone()));
    RocksDb.inspect(&sources, &Value::Null, &context()).expect("a report")
}

pub(crate) fn rescue_with(sources: &Sources, options: &Value) -> Result<Rescued> {
    let cx = context();
    let report = RocksDb.inspect(sources, options, &cx)?;
    let plan = RocksDb.plan(sources, &report, options, &cx)?;
    let target = MemTarget::default();
    let receipt = RocksDb.apply(sources, &plan, &target, &cx)?;
    let result = MemSource::new(target.files.into_inner().unwrap());
    let source: Arc<dyn Source> = Arc::new(result.clone());
    let verified = RocksDb.verify(&source, &receipt, &cx)?;
    Ok(Rescued { report, plan, result, verified })
}

pub(crate) fn rescue(source: &MemSource) -> Rescued {
    rescue_with(&Sources::one(Arc::new(source.clone())), &Value::Null).expect("a rescue")
}

pub(crate) type Rows = BTreeMap<String, BTreeMap<String, String>>;

/// A value as the recorded answers show it.
fn shown(value: &[u8]) -> String {
    if value.len() <= 40 {
        return format!("x{}", recovery_core::hex(value));
    }
    let digest = <sha2::Sha256 as sha2::Digest>::digest(value);
    format!("#{}:{}", value.len(), recovery_core::hex(&digest[..8]))
}

/// The rows of a database, read strictly. `operators` names merge operators where the database no longer does.
pub(crate) fn rows(source: &MemSource, operators: &BTreeMap<String, String>) -> Rows {
    let cx = context();
    let source: Arc<dyn Source> = Arc::new(source.clone());
    let view =
        DatabaseView::open(&source, &OpenOptions { salvage: true, ..OpenOptions::default() }, &cx).expect("it opens");
    let mut out = Rows::new();
    for family in &view.families {
        let name = family.operator_name.clone().or_else(|| operators.get(&family.name).cloned());
        let operator = name.as_deref().and_then(MergeOperator::by_name);
        let into = out.entry(family.name.clone()).or_default();
        let options = RowOptions { operator, ..RowOptions::default() };
        family
            .rows(&options, |row| {
                let value = match &row.value {
                    RowValue::Plain(value) | RowValue::Merged(value) => shown(value),
                    RowValue::Operands { operands, .. } => format!("operands {}", operands.len()),
                    RowValue::Columns { columns, .. } => format!("columns {}", columns.len()),
                };
                into.insert(recovery_core::hex(row.key), value);
                Ok(())
            })
            .expect("rows");
    }
    out
}

/// Merge operators by family, from the newest OPTIONS.
pub(crate) fn operators(source: &MemSource) -> BTreeMap<String, String> {
    let newest = source.files().iter().rev().find(|(n, _)| n.starts_with("OPTIONS-"));
    let Some((_, text)) = newest else { return BTreeMap::new() };
    let options = recovery_rocksdb::format::options::Options::parse(&String::from_utf8_lossy(text));
    options
        .families()
        .filter_map(|s| {
            let value = s.get("merge_operator").filter(|v| *v != "nullptr")?;
            Some((s.name.clone()?, value.to_owned()))
        })
        .collect()
}

/// The committed cases: name and database.
pub(crate) fn cases() -> Vec<(String, MemSource)> {
    let all = recovery_testkit::cases(&recovery_testkit::fixtures("rocksdb"));
    let with_db =
        all.into_iter().filter(|(_, folder)| folder.join("db").is_dir() && folder.join("truth.txt").is_file());
    with_db.map(|(name, folder)| (name, recovery_testkit::load(&folder.join("db")))).collect()
}

pub(crate) fn case(name: &str) -> MemSource {
    recovery_testkit::load(&recovery_testkit::fixtures("rocksdb").join(name).join("db"))
}

/// The rows the real library reads from a committed case.
pub(crate) fn truth(name: &str) -> Rows {
    let path = recovery_testkit::fixtures("rocksdb").join(name).join("truth.txt");
    parse_rows(&std::fs::read_to_string(path).expect("truth.txt"))
}

pub(crate) fn parse_rows(text: &str) -> Rows {
    let mut rows = Rows::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# cf ") {
            rows.entry(head.split(" rows=").next().unwrap_or(head).to_owned()).or_default();
            continue;
        }
        let mut parts = line.splitn(3, '\t');
        let (Some(family), Some(key), Some(value)) = (parts.next(), parts.next(), parts.next()) else { continue };
        rows.entry(family.to_owned()).or_default().insert(key.to_owned(), value.to_owned());
    }
    rows
}

pub(crate) fn difference(got: &Rows, want: &Rows) -> String {
    let mut out = Vec::new();
    for family in got.keys().chain(want.keys()).collect::<std::collections::BTreeSet<_>>() {
        let none = BTreeMap::new();
        let (g, w) = (got.get(family).unwrap_or(&none), want.get(family).unwrap_or(&none));
        let missing = w.keys().filter(|k| !g.contains_key(*k)).count();
        let extra = g.keys().filter(|k| !w.contains_key(*k)).count();
        let changed = g.iter().filter(|(k, v)| w.get(*k).is_some_and(|x| x != *v)).count();
        if missing + extra + changed > 0 {
            out.push(format!("{family}: missing {missing} extra {extra} changed {changed}"));
        }
    }
    out.join("; ")
}

pub(crate) fn named(source: &MemSource, prefix: &str) -> String {
    source.files().keys().find(|n| n.starts_with(prefix)).expect("such a file").clone()
}
