//! Reading a new environment back while it is written, file after file, so that nothing has to be kept.
//!
//! The log of a new environment is a list: a small checkpoint, then for each database its name, its description, its
//! root and its records in committed transactions. Whoever reads it in that order, entry by entry, knows what recovery
//! will make of it. What would go wrong unseen is looked for by name: a record in front of its root is dropped by JE
//! without a word, and a key that comes twice or a transaction without end changes what is live.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use recovery_core::{Error, MemBlob, Result};

use crate::format::group::{GROUP_DB, GROUP_KEY, GroupRecord, NodeRecord};
use crate::format::ln::{LnBody, LnEntry};
use crate::format::vlsn_index::{RANGE_KEY, Range, VLSN_DB};
use crate::format::{Entry, EntryType, FormatError, Lsn, packed};
use crate::model::Group;
use crate::plan::{Summary, Summing};
use crate::reader::{EntryRef, LogFile, Walker};

/// A database as far as it was read.
#[derive(Debug, Default)]
struct Seen {
    name: String,
    described: bool,
    rooted: bool,
    duplicates: bool,
    /// Keys are in the order of a comparator of its own.
    compared: bool,
    last: Option<Vec<u8>>,
    sum: Summing,
}

/// Reads a new environment as it is written.
#[derive(Debug)]
pub struct Prover {
    next: u32,
    version: u8,
    /// Place of the last entry of the file before.
    last_entry: u32,
    vlsn: i64,
    first_vlsn: i64,
    tree: bool,
    checkpoint: bool,
    databases: HashMap<i64, Seen>,
    open: HashSet<i64>,
    group: Group,
    range: Option<Range>,
}

/// What was read.
#[derive(Clone, Debug)]
pub struct Proven {
    /// Records of user databases.
    pub records: BTreeMap<String, Summary>,
    /// Last VLSN.
    pub last_vlsn: i64,
    /// Group.
    pub group: Group,
}

fn wrong(what: impl std::fmt::Display) -> Error {
    Error::Internal(format!("the result would not be what was planned: {what}"))
}

impl Prover {
    /// Expects the stream to begin at `first_vlsn`.
    #[must_use]
    pub fn new(version: u8, first_vlsn: i64) -> Self {
        Self {
            next: 0,
            version,
            last_entry: 0,
            vlsn: first_vlsn.saturating_sub(1),
            first_vlsn,
            tree: false,
            checkpoint: false,
            databases: HashMap::new(),
            open: HashSet::new(),
            group: Group::default(),
            range: None,
        }
    }

    /// Reads the next file.
    ///
    /// # Errors
    ///
    /// When JE would not take it as it is meant.
    pub fn file(&mut self, bytes: Bytes) -> Result<()> {
        let name = crate::reader::log::file_name(self.next);
        let file = LogFile::new(self.next, name, Arc::new(MemBlob::new("new log file", bytes)));
        let header = file.header.ok_or_else(|| wrong(format!("{} has no header", file.name)))?;
        let before = i64::from(self.last_entry);
        if (header.number, header.version, header.last_entry_in_prev) != (self.next, self.version.into(), before) {
            return Err(wrong(format!("the header of {}: {header:?}", file.name)));
        }
        let mut walker = Walker::new(file.blob.as_ref(), file.len);
        let (mut at, mut prev) = (0, 0);
        while at < file.len {
            let e = walker.entry(at).map_err(wrong)?;
            if e.header.prev != prev {
                return Err(wrong(format!("{} at {at:#x}: the chain is broken", file.name)));
            }
            prev = u32::try_from(at).map_err(wrong)?;
            at = e.end();
            self.entry(&e).map_err(|w| wrong(format!("{} at {prev:#x}: {w}", file.name)))?;
        }
        (self.last_entry, self.next) = (prev, self.next.saturating_add(1));
        Ok(())
    }

    fn entry(&mut self, e: &EntryRef<'_>) -> std::result::Result<(), String> {
        if let Some(v) = e.header.stream_vlsn() {
            if v != self.vlsn.saturating_add(1) {
                return Err(format!("VLSN {v} behind {}", self.vlsn));
            }
            self.vlsn = v;
        }
        let text = |error: FormatError| error.to_string();
        match Entry::decode(e.header.kind, self.version, e.item(), e.item_at()).map_err(text)? {
            Entry::DbTree(_) => self.tree = true,
            Entry::CkptEnd(c) => self.checkpoint = self.tree && c.root.and_then(Lsn::some).is_some(),
            Entry::Node(n) if n.is_root() && !e.header.provisional() => {
                self.databases.entry(n.db).or_default().rooted = true;
            }
            Entry::Commit(end) => drop(self.open.remove(&end.txn)),
            Entry::Ln(ln) => self.record(e.header.kind, &ln)?,
            _ => {}
        }
        Ok(())
    }

    fn record(&mut self, kind: EntryType, ln: &LnEntry<'_>) -> std::result::Result<(), String> {
        if !self.checkpoint {
            return Err("a record in front of the checkpoint".to_owned());
        }
        if let Some(txn) = ln.txn {
            self.open.insert(txn.id);
        }
        match &ln.body {
            LnBody::Name { id, .. } => {
                self.databases.entry(*id).or_default().name = String::from_utf8_lossy(ln.key).into_owned();
            }
            LnBody::Map(db, _) => {
                let seen = self.databases.entry(db.id).or_default();
                let own = |c: &Option<Vec<u8>>| c.as_ref().is_some_and(|c| !c.is_empty());
                seen.compared = own(&db.btree_comparator) || own(&db.dup_comparator);
                (seen.described, seen.duplicates) = (true, db.duplicates());
            }
            LnBody::User if kind == EntryType::INS_LN_TX => return self.user_record(ln),
            other => return Err(format!("{} with {other:?}", kind.name())),
        }
        Ok(())
    }

    fn user_record(&mut self, ln: &LnEntry<'_>) -> std::result::Result<(), String> {
        let seen = self.databases.get_mut(&ln.db).filter(|s| s.described && !s.name.is_empty());
        let seen = seen.ok_or_else(|| format!("a record of database {}, which is not there", ln.db))?;
        if !seen.rooted {
            return Err(format!("JE would drop the records of {}: its tree has no root", seen.name));
        }
        let data = ln.data.ok_or("a deletion")?;
        if seen.name == VLSN_DB {
            if packed::long_key(ln.key) == Some(RANGE_KEY) {
                self.range = Some(Range::decode(data).map_err(|e| e.to_string())?);
            }
            return Ok(());
        }
        if seen.name == GROUP_DB {
            match ln.key {
                GROUP_KEY => self.group.group = Some(GroupRecord::decode(data).map_err(|e| e.to_string())?),
                _ => self.group.nodes.push(NodeRecord::decode(data).map_err(|e| e.to_string())?),
            }
            return Ok(());
        }
        if !seen.compared && seen.last.as_deref().is_some_and(|last| last >= ln.key) {
            return Err(format!("a key of {} that does not follow the one before", seen.name));
        }
        match seen.duplicates {
            true => {
                let (key, data) = packed::split_two_part(ln.key).map_err(|e| e.to_string())?;
                seen.sum.add(key, data);
            }
            false => seen.sum.add(ln.key, data),
        }
        let last = seen.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(ln.key);
        Ok(())
    }

    /// What all files together hold.
    ///
    /// # Errors
    ///
    /// When transactions have no end, or the index of the stream does not say what the stream holds.
    pub fn finish(self) -> Result<Proven> {
        if !self.open.is_empty() {
            return Err(wrong(format!("{} transactions have no end", self.open.len())));
        }
        let says = self.range.as_ref().map(|r| (r.first, r.last));
        if self.first_vlsn != 1 && says != Some((self.first_vlsn, self.vlsn)) {
            return Err(wrong(format!("the VLSN index says {says:?}, the log ends with {}", self.vlsn)));
        }
        let user = self.databases.into_values().filter(|s| s.described && !s.name.starts_with("_je"));
        let records = user.map(|s| (s.name, s.sum.finish())).collect();
        Ok(Proven { records, last_vlsn: self.vlsn, group: self.group })
    }
}
