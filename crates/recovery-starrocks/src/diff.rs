//! What differs between two snapshots: tables, columns, partitions, and the data by the MD5 in the names of its files.
//!
//! A segment is named by the MD5 of its content, so equal data is told without reading it. Rowset ids do not matter: a
//! load that both snapshots hold has the same segments in both, under whatever name. Headers are left out, they change
//! with every version. Names are believed here; `inspect` proves them.

use std::collections::{BTreeMap, BTreeSet};

use recovery_core::{Error, Result, hex};
use serde_json::{Value, json};

use crate::format::info::{InfoPartition, InfoTable};
use crate::format::names::{TabletFile, TabletPath};
use crate::model::repository::SnapshotDir;
use crate::model::table::{TableDef, from_schema};
use crate::reader::load::{Loaded, LoadedInfo, LoadedSnapshot};

/// Files and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.files = self.files.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn to_json(self) -> Value {
        json!({"files": self.files, "bytes": self.bytes})
    }
}

/// Data files of both, and of one only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Data {
    /// The same content in both.
    pub same: Amount,
    /// Only in the first.
    pub first: Amount,
    /// Only in the second.
    pub second: Amount,
}

impl Data {
    /// Whether both hold the same files.
    #[must_use]
    pub const fn equal(&self) -> bool {
        self.first.files == 0 && self.second.files == 0
    }

    fn to_json(self) -> Value {
        json!({"equal": self.equal(), "same": self.same.to_json(), "only_first": self.first.to_json(),
            "only_second": self.second.to_json()})
    }
}

/// A partition of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Name.
    pub name: String,
    /// Version in the first; none where it is not there.
    pub first: Option<i64>,
    /// Version in the second.
    pub second: Option<i64>,
    /// Its data.
    pub data: Data,
}

/// A table of either snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Name.
    pub name: String,
    /// Rows in the first by its headers; none where the table is not there.
    pub first_rows: Option<u64>,
    /// Rows in the second.
    pub second_rows: Option<u64>,
    /// What differs in the definition, in words.
    pub schema: Vec<String>,
    /// Partitions that differ, by name.
    pub partitions: Vec<Partition>,
    /// All its data.
    pub data: Data,
}

impl Table {
    /// Whether nothing differs.
    #[must_use]
    pub fn equal(&self) -> bool {
        self.first_rows.is_some() == self.second_rows.is_some()
            && self.schema.is_empty()
            && self.partitions.is_empty()
            && self.data.equal()
    }
}

/// The difference of two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Label and timestamp of the first.
    pub first: (String, String),
    /// Label and timestamp of the second.
    pub second: (String, String),
    /// Tables of either, by name.
    pub tables: Vec<Table>,
}

impl Diff {
    /// Whether nothing differs.
    #[must_use]
    pub fn equal(&self) -> bool {
        self.tables.iter().all(Table::equal)
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let partition = |p: &Partition| json!({"name": p.name, "first_version": p.first, "second_version": p.second, "data": p.data.to_json()});
        let table = |t: &Table| {
            json!({"name": t.name, "equal": t.equal(), "in_first": t.first_rows.is_some(),
                "in_second": t.second_rows.is_some(), "first_rows": t.first_rows, "second_rows": t.second_rows,
                "schema": t.schema, "partitions": t.partitions.iter().map(partition).collect::<Vec<_>>(),
                "data": t.data.to_json()})
        };
        json!({"first": {"label": self.first.0, "timestamp": self.first.1},
            "second": {"label": self.second.0, "timestamp": self.second.1}, "equal": self.equal(),
            "tables": self.tables.iter().map(table).collect::<Vec<_>>()})
    }
}

/// One side of the comparison.
struct Side<'a> {
    snapshot: &'a LoadedSnapshot,
    info: &'a LoadedInfo,
    dir: &'a SnapshotDir,
}

impl<'a> Side<'a> {
    fn of(loaded: &'a Loaded, name: &str) -> Result<Self> {
        let (snapshot, info) = loaded.find(name)?;
        let gone = || Error::Internal("a snapshot that was loaded is not in the listing".into());
        let dir = loaded.repository.listing.snapshots.get(&snapshot.label).ok_or_else(gone)?;
        Ok(Self { snapshot, info, dir })
    }

    fn table(&self, name: &str) -> Option<&'a InfoTable> {
        self.info.info.tables.iter().find(|t| t.name == name)
    }

    fn definition(&self, table: &InfoTable) -> Option<TableDef> {
        let own = self.snapshot.definition(&table.name, table.id).cloned();
        own.or_else(|| Some(from_schema(&table.name, table.id, &*self.snapshot.header_schema(table.id, None)?)))
    }

    /// Tablets of a partition.
    fn tablets(&self, table: &InfoTable, partition: &InfoPartition) -> Vec<TabletPath> {
        let mut out = Vec::new();
        for physical in &partition.physical {
            for index in &physical.indexes {
                for tablet in &index.tablets {
                    let path = TabletPath {
                        database: self.info.info.database_id,
                        table: table.id,
                        partition: physical.id,
                        index: index.id,
                        tablet: tablet.id,
                    };
                    out.extend(self.snapshot.tablet(&path).map(|t| t.tablet.path));
                }
            }
        }
        out
    }

    /// How often each content occurs, and its length.
    fn contents(&self, tablets: &[TabletPath]) -> BTreeMap<String, (u64, u64)> {
        let mut out: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for file in tablets.iter().filter_map(|p| self.dir.tablets.get(p)).flat_map(|t| &t.files) {
            let data = matches!(
                file.kind,
                TabletFile::Segment { .. }
                    | TabletFile::Columns { .. }
                    | TabletFile::Delete { .. }
                    | TabletFile::Update { .. }
            );
            if let (Some(sum), true) = (file.file.md5(), data) {
                let slot = out.entry(hex(&sum)).or_insert((0, file.file.entry.size));
                slot.0 = slot.0.saturating_add(1);
            }
        }
        out
    }

    fn rows(&self, table: &InfoTable) -> u64 {
        let base = self.snapshot.definition(&table.name, table.id).map(|d| d.base_index).filter(|i| *i != 0);
        let base = base.unwrap_or_else(|| crate::reader::load::base_index(self.snapshot, table.id));
        let of = self.snapshot.tablets.iter().filter(|(p, _)| p.table == table.id && p.index == base);
        of.map(|(_, t)| t.tablet.rows()).fold(0, u64::saturating_add)
    }
}

/// Compares two snapshots of one repository (`LABEL` or `LABEL@TIMESTAMP`).
///
/// # Errors
///
/// When there is no such snapshot.
pub fn diff(loaded: &Loaded, first: &str, second: &str) -> Result<Diff> {
    let (a, b) = (Side::of(loaded, first)?, Side::of(loaded, second)?);
    let names: BTreeSet<&str> = a.info.info.tables.iter().chain(&b.info.info.tables).map(|t| t.name.as_str()).collect();
    let name_of = |s: &Side<'_>| (s.snapshot.label.clone(), s.info.timestamp.clone());
    let tables = names.into_iter().map(|name| table(&a, &b, name)).collect();
    Ok(Diff { first: name_of(&a), second: name_of(&b), tables })
}

fn table(a: &Side<'_>, b: &Side<'_>, name: &str) -> Table {
    let (first, second) = (a.table(name), b.table(name));
    let mut out = Table {
        name: name.to_owned(),
        first_rows: first.map(|t| a.rows(t)),
        second_rows: second.map(|t| b.rows(t)),
        ..Table::default()
    };
    if let (Some(x), Some(y)) = (first, second) {
        out.schema = definitions(a.definition(x).as_ref(), b.definition(y).as_ref());
    }
    let partitions = |t: Option<&'_ InfoTable>| t.map_or_else(Vec::new, |t| t.partitions.clone());
    let (left, right) = (partitions(first), partitions(second));
    let names: BTreeSet<&str> = left.iter().chain(&right).map(|p| p.name.as_str()).collect();
    let (mut all_left, mut all_right) = (Vec::new(), Vec::new());
    for name in names {
        let (x, y) = (left.iter().find(|p| p.name == name), right.iter().find(|p| p.name == name));
        let of = |side: &Side<'_>, t: Option<&InfoTable>, p: Option<&InfoPartition>| {
            t.zip(p).map_or_else(Vec::new, |(t, p)| side.tablets(t, p))
        };
        let (mine, theirs) = (of(a, first, x), of(b, second, y));
        let data = compare(&a.contents(&mine), &b.contents(&theirs));
        all_left.extend(mine);
        all_right.extend(theirs);
        // A version alone may grow without a change of data, by compaction for one.
        if x.is_none() || y.is_none() || !data.equal() {
            let name = name.to_owned();
            out.partitions.push(Partition { name, first: x.map(|p| p.version), second: y.map(|p| p.version), data });
        }
    }
    out.data = compare(&a.contents(&all_left), &b.contents(&all_right));
    out
}

fn compare(a: &BTreeMap<String, (u64, u64)>, b: &BTreeMap<String, (u64, u64)>) -> Data {
    let mut out = Data::default();
    let sums: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for sum in sums {
        let (x, y) = (a.get(sum).copied().unwrap_or_default(), b.get(sum).copied().unwrap_or_default());
        let size = x.1.max(y.1);
        let common = x.0.min(y.0);
        let put = |to: &mut Amount, n: u64| (0..n).for_each(|_| to.add(size));
        put(&mut out.same, common);
        put(&mut out.first, x.0.saturating_sub(common));
        put(&mut out.second, y.0.saturating_sub(common));
    }
    out
}

fn distribution(def: &TableDef) -> String {
    def.distribution.as_ref().map_or_else(
        || "none".to_owned(),
        |d| {
            let by = if d.columns.is_empty() { "random".to_owned() } else { d.columns.join(", ") };
            format!("{by} in {} buckets", d.buckets)
        },
    )
}

/// What differs between two definitions of a table, in words: columns are matched by id, else by name.
fn definitions(a: Option<&TableDef>, b: Option<&TableDef>) -> Vec<String> {
    let (Some(a), Some(b)) = (a, b) else { return Vec::new() };
    let mut out = Vec::new();
    let mut differs = |what: &str, x: &str, y: &str| {
        if x != y {
            out.push(format!("{what}: {x} before, {y} after"));
        }
    };
    differs("key model", a.keys.map_or("?", |k| k.name()), b.keys.map_or("?", |k| k.name()));
    differs("kind", &a.kind, &b.kind);
    differs("view", a.view_sql.as_deref().unwrap_or(""), b.view_sql.as_deref().unwrap_or(""));
    differs("distribution", &distribution(a), &distribution(b));
    let same = |x: &crate::model::table::ColumnDef, y: &crate::model::table::ColumnDef| {
        if x.unique_id >= 0 && y.unique_id >= 0 { x.unique_id == y.unique_id } else { x.name == y.name }
    };
    for x in &a.columns {
        match b.columns.iter().find(|y| same(x, y)) {
            None => out.push(format!("column {} {} is gone", x.name, x.sql_type)),
            Some(y) => {
                if x.name != y.name {
                    out.push(format!("column {} is called {}", x.name, y.name));
                }
                if x.sql_type != y.sql_type {
                    out.push(format!("column {}: {} before, {} after", y.name, x.sql_type, y.sql_type));
                }
                if x.nullable != y.nullable {
                    out.push(format!("column {}: {}", y.name, if y.nullable { "NULL is allowed" } else { "NOT NULL" }));
                }
            }
        }
    }
    let new = b.columns.iter().filter(|y| !a.columns.iter().any(|x| same(x, y)));
    out.extend(new.map(|y| format!("column {} {} is new", y.name, y.sql_type)));
    out
}
