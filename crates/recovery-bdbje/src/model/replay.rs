//! What the log behind the last checkpoint changes: read once forward, kept per key.

use std::collections::{BTreeMap, HashMap, HashSet};

use recovery_core::{Context, Cursor, Result as CoreResult, parallel};

use super::env::Role;
use crate::format::database::DatabaseImpl;
use crate::format::ln::{LnBody, LnEntry};
use crate::format::txn::{RollbackEnd, RollbackStart, TxnEnd};
use crate::format::{Entry, EntryHeader, EntryType, Lsn};
use crate::reader::{EntryRef, Log, LogFile, Walker};

/// The version before an uncommitted change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undo {
    /// The change to be undone.
    pub lsn: Lsn,
    /// Where the version before lies; null for none.
    pub abort_lsn: Lsn,
    /// Whether it was a deletion.
    pub abort_deleted: bool,
    /// Its data, when they stand in the change.
    pub abort_data: Option<Box<[u8]>>,
}

/// The last change that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redo {
    /// Its place.
    pub lsn: Lsn,
    /// Whether it is a deletion.
    pub dead: bool,
    /// Its transaction is still open (only when opened as a replica).
    pub open: bool,
    /// Bytes of its entry; 0 when not known.
    pub size: u32,
}

/// What happens to one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Changes to undo, the last first.
    pub undo: Vec<Undo>,
    /// The last change that counts.
    pub redo: Option<Redo>,
}

/// Changes of one database, by key.
pub type Overlay = BTreeMap<Box<[u8]>, Change>;

/// An open transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTxn {
    /// Id; negative when replicated.
    pub id: i64,
    /// Records.
    pub records: u64,
    /// First and last VLSN of its records.
    pub vlsns: Option<(i64, i64)>,
    /// First record.
    pub first: Lsn,
}

/// What was found behind the checkpoint.
#[derive(Debug, Default)]
pub struct Replay {
    /// Changes by database.
    pub overlays: HashMap<i64, Overlay>,
    /// Descriptions of databases in order of the log: place, description, deleted.
    pub maps: Vec<(Lsn, DatabaseImpl, bool)>,
    /// Last root node of each database.
    pub roots: HashMap<i64, Lsn>,
    /// Transactions without end.
    pub open: Vec<OpenTxn>,
    /// Rollback periods that never ended.
    pub unfinished_rollbacks: Vec<RollbackStart>,
    /// Lowest and highest ids seen: replicated database, local database, replicated transaction, local transaction,
    /// node.
    pub ids: Ids,
    /// Items that could not be decoded although their checksum agrees.
    pub odd: Vec<(Lsn, crate::format::FormatError)>,
}

/// Highest ids in use (lowest for replicated ones, which count downwards).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Replicated databases: lowest.
    pub rep_db: i64,
    /// Local databases: highest.
    pub local_db: i64,
    /// Replicated transactions: lowest.
    pub rep_txn: i64,
    /// Local transactions: highest.
    pub local_txn: i64,
    /// Local nodes: highest.
    pub node: i64,
}

impl Ids {
    /// Takes note of a database.
    pub fn db(&mut self, id: i64) {
        self.rep_db = self.rep_db.min(id);
        self.local_db = self.local_db.max(id);
    }

    /// Takes note of a transaction.
    pub fn txn(&mut self, id: i64) {
        self.rep_txn = self.rep_txn.min(id);
        self.local_txn = self.local_txn.max(id);
    }

    /// Takes over another set.
    pub fn merge(&mut self, o: &Self) {
        self.db(o.rep_db);
        self.db(o.local_db);
        self.txn(o.rep_txn);
        self.txn(o.local_txn);
        self.node = self.node.max(o.node);
    }
}

#[derive(Default)]
struct Ends {
    committed: HashSet<i64>,
    aborted: HashSet<i64>,
    starts: Vec<(Lsn, RollbackStart)>,
    finished: Vec<RollbackEnd>,
    maps: Vec<(Lsn, DatabaseImpl, bool)>,
    roots: HashMap<i64, Lsn>,
    ids: Ids,
    odd: Vec<(Lsn, crate::format::FormatError)>,
}

/// Calls `f` for every valid entry of a file from `from` on; stops at the first bad one.
pub fn each_entry(file: &LogFile, from: u64, mut f: impl FnMut(&EntryRef<'_>)) {
    let mut walker = Walker::new(file.blob.as_ref(), file.len);
    let mut at = from;
    while at < file.len {
        let Ok(e) = walker.entry(at) else { return };
        at = e.end();
        f(&e);
    }
}

fn place(file: &LogFile, e: &EntryRef<'_>) -> Lsn {
    Lsn::new(file.number, u32::try_from(e.at).unwrap_or(u32::MAX))
}

/// First pass over one file: ends of transactions, descriptions, roots, rollbacks.
fn ends(file: &LogFile, from: u64, ckpt_start: Lsn) -> Ends {
    let mut out = Ends::default();
    let version = file.version();
    each_entry(file, from, |e| {
        let (h, lsn) = (&e.header, place(file, e));
        if h.invisible() {
            return;
        }
        let mut c = Cursor::new(e.item(), e.item_at());
        match h.kind {
            EntryType::COMMIT | EntryType::ABORT => {
                if let Ok(end) = TxnEnd::decode(&mut c, version) {
                    out.ids.txn(end.txn);
                    let set = if h.kind == EntryType::COMMIT { &mut out.committed } else { &mut out.aborted };
                    set.insert(end.txn);
                }
            }
            EntryType::ROLLBACK_START => {
                if let Ok(r) = RollbackStart::decode(&mut c) {
                    out.starts.push((lsn, r));
                }
            }
            EntryType::ROLLBACK_END => {
                if let Ok(r) = RollbackEnd::decode(&mut c) {
                    out.finished.push(r);
                }
            }
            EntryType::MAP_LN => match LnEntry::decode(&mut c, h.kind, version) {
                Ok(LnEntry { body: LnBody::Map(db, bits), .. }) => out.maps.push((lsn, *db, bits & 1 != 0)),
                Ok(_) => {}
                Err(error) => out.odd.push((lsn, error)),
            },
            EntryType::IN | EntryType::BIN if lsn >= ckpt_start => root_node(&mut out, h, lsn, e, version),
            _ => {}
        }
    });
    out
}

fn root_node(out: &mut Ends, h: &EntryHeader, lsn: Lsn, e: &EntryRef<'_>, version: u8) {
    match crate::format::node::Node::decode(&mut Cursor::new(e.item(), e.item_at()), h.kind, version) {
        Ok(n) => {
            out.ids.node = out.ids.node.max(n.id);
            if n.is_root() && !h.provisional() {
                out.roots.insert(n.db, lsn);
            }
        }
        Err(error) => out.odd.push((lsn, error)),
    }
}

/// What the second pass decides by.
struct Fate {
    committed: HashSet<i64>,
    ended: HashSet<i64>,
    periods: Vec<(Lsn, Lsn, HashSet<i64>)>,
    role: Role,
}

impl Fate {
    /// `Some(open)` when the change counts.
    fn counts(&self, txn: Option<i64>, lsn: Lsn, invisible: bool) -> Option<bool> {
        if invisible {
            return None;
        }
        let Some(id) = txn else { return Some(false) };
        if self.periods.iter().any(|(from, to, ids)| lsn > *from && lsn < *to && ids.contains(&id)) {
            return None;
        }
        if self.committed.contains(&id) {
            return Some(false);
        }
        (self.role == Role::Replica && id < 0 && !self.ended.contains(&id)).then_some(true)
    }
}

#[derive(Default)]
struct Changes {
    overlays: HashMap<i64, Overlay>,
    open: HashMap<i64, OpenTxn>,
    ids: Ids,
    odd: Vec<(Lsn, crate::format::FormatError)>,
}

/// Second pass over one file: the changes themselves.
fn changes(file: &LogFile, from: u64, fate: &Fate) -> Changes {
    let mut out = Changes::default();
    let version = file.version();
    each_entry(file, from, |e| {
        let (h, lsn) = (&e.header, place(file, e));
        let mut c = Cursor::new(e.item(), e.item_at());
        if h.kind.number() == 22 {
            if let Ok(Entry::OldDelta(d)) = Entry::decode(h.kind, version, e.item(), e.item_at()) {
                for (key, at, state) in &d.slots {
                    let redo = Redo { lsn: *at, dead: state & 9 != 0, open: false, size: 0 };
                    let change = out.overlays.entry(d.db).or_default().entry((*key).unwrap_or_default().into());
                    merge_redo(change.or_default(), redo);
                }
            }
            return;
        }
        if !h.kind.is_ln() || h.kind == EntryType::MAP_LN {
            return;
        }
        match LnEntry::decode(&mut c, h.kind, version) {
            Ok(ln) => change(&mut out, &ln, h, lsn, fate),
            Err(error) => out.odd.push((lsn, error)),
        }
    });
    out
}

fn change(out: &mut Changes, ln: &LnEntry<'_>, h: &EntryHeader, lsn: Lsn, fate: &Fate) {
    let name = matches!(ln.body, LnBody::Name { .. });
    let db = if name { 1 } else { ln.db };
    let txn = ln.txn.map(|t| t.id);
    if let Some(id) = txn {
        out.ids.txn(id);
        if !h.invisible() && !fate.ended.contains(&id) {
            let open = out.open.entry(id).or_insert(OpenTxn { id, records: 0, vlsns: None, first: lsn });
            open.records = open.records.saturating_add(1);
            if let Some(v) = h.stream_vlsn() {
                open.vlsns = Some(open.vlsns.map_or((v, v), |(a, b)| (a.min(v), b.max(v))));
            }
        }
    }
    if let LnBody::Name { id, .. } = ln.body {
        out.ids.db(id);
    }
    let entry = out.overlays.entry(db).or_default().entry(ln.key.into()).or_default();
    match fate.counts(txn, lsn, h.invisible()) {
        Some(open) => {
            let size = u32::try_from(h.total()).unwrap_or(u32::MAX);
            merge_redo(entry, Redo { lsn, dead: ln.is_deletion(), open, size });
        }
        None if txn.is_some() => entry.undo.push(Undo {
            lsn,
            abort_lsn: ln.abort_lsn,
            abort_deleted: ln.abort_known_deleted(),
            abort_data: ln.abort_data.flatten().map(Into::into),
        }),
        None => {}
    }
}

fn merge_redo(change: &mut Change, redo: Redo) {
    if change.redo.is_none_or(|r| r.lsn < redo.lsn) {
        change.redo = Some(redo);
    }
}

/// Reads everything from `first` on. Files are read at once; the order of the log is kept.
///
/// # Errors
///
/// When the caller asked to stop.
pub fn replay(log: &Log, first: Lsn, ckpt_start: Lsn, role: Role, cx: &Context) -> CoreResult<Replay> {
    let files: Vec<(&LogFile, u64)> = log
        .files
        .values()
        .filter(|f| f.number >= first.file())
        .map(|f| (f, if f.number == first.file() { first.offset().into() } else { 0 }))
        .collect();
    let mut all = Ends::default();
    for e in parallel::map(cx, &files, |_, (f, from)| ends(f, *from, ckpt_start))? {
        all.committed.extend(e.committed);
        all.aborted.extend(e.aborted);
        all.starts.extend(e.starts);
        all.finished.extend(e.finished);
        all.maps.extend(e.maps);
        all.roots.extend(e.roots);
        all.ids.merge(&e.ids);
        all.odd.extend(e.odd);
    }
    let unfinished: Vec<(Lsn, RollbackStart)> =
        all.starts.into_iter().filter(|(at, _)| !all.finished.iter().any(|e| e.start == *at)).collect();
    let periods = unfinished.iter().map(|(at, r)| (r.matchpoint, *at, r.txns.iter().copied().collect())).collect();
    let ended = all.committed.union(&all.aborted).copied().collect();
    let fate = Fate { committed: all.committed, ended, periods, role };
    let mut out = Replay { maps: all.maps, roots: all.roots, ids: all.ids, odd: all.odd, ..Replay::default() };
    out.unfinished_rollbacks = unfinished.into_iter().map(|(_, r)| r).collect();
    let mut open: BTreeMap<i64, OpenTxn> = BTreeMap::new();
    for c in parallel::map(cx, &files, |_, (f, from)| changes(f, *from, &fate))? {
        out.ids.merge(&c.ids);
        out.odd.extend(c.odd);
        merge_overlays(&mut out.overlays, c.overlays);
        for (id, t) in c.open {
            let o = open.entry(id).or_insert(OpenTxn { id, records: 0, vlsns: None, first: t.first });
            o.records = o.records.saturating_add(t.records);
            o.first = o.first.min(t.first);
            o.vlsns = match (o.vlsns, t.vlsns) {
                (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
                (a, b) => a.or(b),
            };
        }
    }
    out.open = open.into_values().collect();
    for overlay in out.overlays.values_mut() {
        for change in overlay.values_mut() {
            change.undo.sort_by_key(|u| std::cmp::Reverse(u.lsn));
        }
    }
    Ok(out)
}

fn merge_overlays(into: &mut HashMap<i64, Overlay>, from: HashMap<i64, Overlay>) {
    for (db, overlay) in from {
        let target = into.entry(db).or_default();
        if target.is_empty() {
            *target = overlay;
            continue;
        }
        for (key, change) in overlay {
            let there = target.entry(key).or_default();
            there.undo.extend(change.undo);
            if let Some(redo) = change.redo {
                merge_redo(there, redo);
            }
        }
    }
}
