//! Journal operations in words: what is lost when entries of the journal are left out.
//!
//! A journal record is an operation code (big-endian, 16 bits) and a payload: a text preceded by its length, mostly
//! JSON, or older binary forms in which texts lie between numbers. Only the names of what an operation makes or removes
//! are taken out; unknown codes are counted. Upstream: `journal/JournalEntity`, `persist/OperationType`.

use std::collections::{BTreeMap, HashSet};

use recovery_core::Cursor;
use serde_json::Value;

use crate::format::ln::LnEntry;
use crate::format::{Lsn, packed};
use crate::inspect::Node;
use crate::journal::opcodes::{self, Product};
use crate::reader::{EntryRef, LogFile};

/// Longest name that is believed.
const NAME: usize = 256;
/// Deepest JSON that is searched.
const DEPTH: u32 = 12;
/// Names of one kind that are kept of one operation.
const KEPT: usize = 100;
/// Operations that are kept; more are counted.
const OPERATIONS: usize = 10_000;

/// Codes of operations that make, move or remove databases, tables, partitions or tablets.
const OBJECTS: &[i16] = &[
    1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 24, 26, 42, 110, 117, 118, 121, 123, 210, 10001,
    10002, 10004, 10091, 10094, 10096, 10241, 10242, 10244, 10246, 12001, 12002, 12003, 12004, 12151, 13000, 13001,
    13002, 13003, 13004, 13005, 13015, 13020,
];

/// One operation on an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// Journal id.
    pub id: i64,
    /// Operation code.
    pub code: i16,
    /// Its name.
    pub name: &'static str,
    /// Names of databases, tables and whatever else the payload names, in its order.
    pub names: Vec<String>,
    /// Names of partitions.
    pub partitions: Vec<String>,
    /// Tablets it names.
    pub tablets: u64,
}

/// Operations of a stretch of journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Those on objects, by journal id.
    pub objects: Vec<Operation>,
    /// Objects' operations that are not kept.
    pub more: u64,
    /// Everything else, by operation code.
    pub others: BTreeMap<i16, u64>,
    /// First and last journal id.
    pub range: Option<(i64, i64)>,
    /// All of them.
    pub total: u64,
}

impl Operations {
    /// Adds a journal record.
    pub fn add(&mut self, id: i64, value: &[u8]) {
        let mut c = Cursor::new(value, 0);
        let Ok(code) = c.i16_be("operation code") else { return };
        self.total = self.total.saturating_add(1);
        self.range = Some(self.range.map_or((id, id), |(a, b)| (a.min(id), b.max(id))));
        let object = OBJECTS.contains(&code).then(|| opcodes::name(code, Product::StarRocks)).flatten();
        match object {
            Some(name) if self.objects.len() < OPERATIONS => {
                let mut op = Operation { id, code, name, ..Operation::default() };
                names_of(c.rest(), &mut op);
                self.objects.push(op);
            }
            Some(_) => self.more = self.more.saturating_add(1),
            None => {
                let n = self.others.entry(code).or_default();
                *n = n.saturating_add(1);
            }
        }
    }

    /// One line for each operation on an object, and one for the rest.
    #[must_use]
    pub fn lines(&self, most: usize) -> Vec<String> {
        let mut out: Vec<String> = self.objects.iter().take(most).map(Operation::line).collect();
        let more = self.more.saturating_add(self.objects.len().saturating_sub(most) as u64);
        if more > 0 {
            out.push(format!("and {more} more operations on databases, tables and partitions"));
        }
        let others = self.others.values().fold(0u64, |n, m| n.saturating_add(*m));
        if others > 0 {
            let mut codes: Vec<(&i16, &u64)> = self.others.iter().collect();
            codes.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
            let shown: Vec<String> = codes.iter().take(6).map(|(c, n)| format!("{n} {}", shown(**c))).collect();
            out.push(format!(
                "{others} other operations ({}{})",
                shown.join(", "),
                if codes.len() > 6 { ", ..." } else { "" }
            ));
        }
        out
    }
}

/// Name of a code, or the code itself.
fn shown(code: i16) -> String {
    opcodes::name(code, Product::StarRocks).map_or_else(|| format!("of code {code}"), str::to_owned)
}

impl Operation {
    fn line(&self) -> String {
        let mut text = format!("journal {}: {} {}", self.id, self.name, self.names.join("."));
        let mut more = Vec::new();
        if !self.partitions.is_empty() {
            more.push(format!("partitions {}", self.partitions.join(", ")));
        }
        if self.tablets > 0 {
            more.push(format!("{} tablets", self.tablets));
        }
        if !more.is_empty() {
            text = format!("{text} ({})", more.join("; "));
        }
        recovery_core::names::terminal(text.trim_end()).into_owned()
    }
}

/// Names in a payload: of its JSON, or of the texts in an older binary form.
fn names_of(payload: &[u8], op: &mut Operation) {
    let mut texts = Vec::new();
    let mut at = 0usize;
    while texts.len() < 16 {
        let Some(rest) = payload.get(at..).filter(|r| r.len() > 4) else { break };
        match text_at(rest) {
            Some(t) => {
                at = at.saturating_add(4).saturating_add(t.len());
                texts.push(t);
            }
            None => at = at.saturating_add(1),
        }
    }
    for t in texts {
        match serde_json::from_str::<Value>(t) {
            Ok(v @ Value::Object(_)) => search(&v, "", op, 0),
            _ if t.len() <= NAME && t.parse::<f64>().is_err() && op.names.len() < 4 => {
                op.names.push(t.rsplit(':').next().unwrap_or(t).to_owned());
            }
            _ => {}
        }
    }
}

/// A text preceded by its length, big-endian, without control characters.
fn text_at(bytes: &[u8]) -> Option<&str> {
    let n = usize::try_from(i32::from_be_bytes(bytes.first_chunk::<4>().copied()?)).ok().filter(|n| *n > 0)?;
    let text = std::str::from_utf8(bytes.get(4..n.checked_add(4)?)?).ok()?;
    let fits = text.starts_with('{') || n <= NAME;
    (fits && !text.chars().any(|c| c.is_control() && !c.is_whitespace())).then_some(text)
}

fn push(list: &mut Vec<String>, name: &str) {
    if !name.is_empty() && list.len() < KEPT && !list.iter().any(|n| n == name) {
        list.push(name.chars().take(NAME).collect());
    }
}

/// Collects names: `...Name` and `name` members, those below a member about partitions apart, and tablets.
fn search(v: &Value, under: &str, op: &mut Operation, depth: u32) {
    if depth > DEPTH {
        return;
    }
    match v {
        Value::Object(m) => {
            for (key, v) in m {
                let low = key.to_ascii_lowercase();
                match v {
                    Value::String(s) if low == "name" || low.ends_with("name") || low == "db" || low == "label" => {
                        let partition = under == "partition" || low.contains("partition");
                        if partition {
                            push(&mut op.partitions, s);
                        } else if depth <= 1 || low != "name" {
                            push(&mut op.names, s);
                        }
                    }
                    Value::Array(a) if low == "tablets" => {
                        op.tablets = op.tablets.saturating_add(a.len() as u64);
                    }
                    Value::Object(_) | Value::Array(_) => {
                        // Columns, indexes and distribution have names of their own that say nothing here.
                        let inner = low.contains("schema") || low.contains("column") || low.contains("index");
                        let place = match under {
                            _ if low.contains("partition") && !low.contains("info") => "partition",
                            _ if inner || low.contains("info") && depth > 0 => "inner",
                            other => other,
                        };
                        let tablets = place == "inner";
                        if tablets {
                            count_tablets(v, op, depth.saturating_add(1));
                        } else {
                            search(v, place, op, depth.saturating_add(1));
                        }
                    }
                    _ => {}
                }
            }
        }
        Value::Array(a) => a.iter().for_each(|v| search(v, under, op, depth.saturating_add(1))),
        _ => {}
    }
}

fn count_tablets(v: &Value, op: &mut Operation, depth: u32) {
    if depth > DEPTH {
        return;
    }
    match v {
        Value::Object(m) => {
            for (key, v) in m {
                match v {
                    Value::Array(a) if key == "tablets" => op.tablets = op.tablets.saturating_add(a.len() as u64),
                    _ => count_tablets(v, op, depth.saturating_add(1)),
                }
            }
        }
        Value::Array(a) => a.iter().for_each(|v| count_tablets(v, op, depth.saturating_add(1))),
        _ => {}
    }
}

/// Ids of a node's journal databases.
#[must_use]
pub fn journal_databases(node: &Node) -> HashSet<i64> {
    let is_journal = |n: &str| n.parse::<i64>().is_ok();
    let live = node.je.iter().flat_map(|e| e.names.iter()).filter(|(n, _)| is_journal(n)).map(|(_, id)| *id);
    let found = node.scavenged.iter().flat_map(|s| s.databases.values()).filter(|d| is_journal(&d.name)).map(|d| d.id);
    live.chain(found).collect()
}

/// Operations of a node's journal, among readable entries that are not rolled back, for which `wanted` says so.
#[must_use]
pub fn operations(node: &Node, wanted: &dyn Fn(Lsn, &EntryRef<'_>) -> bool) -> Operations {
    let journals = journal_databases(node);
    let mut by_id: BTreeMap<i64, Box<[u8]>> = BTreeMap::new();
    let log = node.true_log();
    for f in log.files.values() {
        collect(f, node, &journals, wanted, &mut by_id);
    }
    let mut out = Operations::default();
    for (id, value) in by_id {
        out.add(id, &value);
    }
    out
}

fn collect(
    file: &LogFile,
    node: &Node,
    journals: &HashSet<i64>,
    wanted: &dyn Fn(Lsn, &EntryRef<'_>) -> bool,
    by_id: &mut BTreeMap<i64, Box<[u8]>>,
) {
    let version = file.version();
    crate::model::scavenge::each_readable(file, node.true_scan(), |e| {
        let h = &e.header;
        let lsn = Lsn::new(file.number, u32::try_from(e.at).unwrap_or(u32::MAX));
        if !h.kind.is_user_ln() || h.invisible() || !h.replicated() || !wanted(lsn, e) {
            return;
        }
        let Ok(ln) = LnEntry::decode(&mut Cursor::new(e.item(), e.item_at()), h.kind, version) else { return };
        if let (true, Some(id), Some(data)) = (journals.contains(&ln.db), packed::long_key(ln.key), ln.data) {
            by_id.insert(id, data.into());
        }
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]
    use super::*;

    fn text(s: &str) -> Vec<u8> {
        let mut out = (s.len() as i32).to_be_bytes().to_vec();
        out.extend_from_slice(s.as_bytes());
        out
    }

    fn record(code: i16, payload: &[u8]) -> Vec<u8> {
        let mut out = code.to_be_bytes().to_vec();
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn names_are_taken_from_json() {
        let json = r#"{"dbName":"db1","table":{"id":7,"name":"t5","type":"OLAP","fullSchema":[{"name":"c1"}],"idToPartition":{"9":{"id":9,"name":"p1","indexes":[{"tablets":[{"id":1},{"id":2}]}]}}}}"#;
        let mut ops = Operations::default();
        ops.add(37, &record(13000, &text(json)));
        ops.add(38, &record(100, &text("{}")));
        assert_eq!(
            ops.lines(10),
            [
                "journal 37: CREATE_TABLE_V2 db1.t5 (partitions p1; 2 tablets)",
                "1 other operations (1 UPSERT_TRANSACTION_STATE)"
            ]
        );
        assert_eq!(ops.range, Some((37, 38)));
    }

    #[test]
    fn names_are_taken_from_binary_forms() {
        let mut payload = text("default_cluster:db1");
        payload.extend_from_slice(&[0, 0, 0, 0, 0, 0, 39, 17]);
        payload.extend_from_slice(&text("t\u{e9}"));
        let mut ops = Operations::default();
        ops.add(5, &record(10, &payload));
        assert_eq!(ops.objects[0].names, ["db1", "t\u{e9}"]);
        ops.add(6, &record(10, &[0xff; 40]));
        ops.add(7, &[1]);
        assert_eq!(ops.total, 2);
    }
}
