//! The passes over the files, and what other nodes give.

use std::collections::HashMap;
use std::ops::Bound;

use recovery_core::{Context, Cursor, Result as CoreResult, parallel};

use super::names::NameEvent;
use super::{Facts, Fate, Keys, Origin, Version, each_readable, is_record};
use crate::format::ln::{LnBody, LnEntry};
use crate::format::node::Node;
use crate::format::txn::{RollbackEnd, RollbackStart, TxnEnd};
use crate::format::{EntryType, Lsn};
use crate::model::tree;
use crate::reader::{EntryRef, Log, LogFile, LogScan};

fn place(file: &LogFile, e: &EntryRef<'_>) -> Lsn {
    Lsn::new(file.number, u32::try_from(e.at).unwrap_or(u32::MAX))
}

/// First pass: ends of transactions, descriptions, names.
pub(super) fn facts(file: &LogFile, scan: &LogScan) -> Facts {
    let mut out = Facts::default();
    let version = file.version();
    each_readable(file, scan, |e| {
        let (h, lsn) = (&e.header, place(file, e));
        if h.invisible() {
            return;
        }
        let mut c = Cursor::new(e.item(), e.item_at());
        match h.kind {
            EntryType::COMMIT | EntryType::ABORT => {
                let Ok(end) = TxnEnd::decode(&mut c, version) else { return };
                if h.kind == EntryType::COMMIT {
                    out.committed.insert(end.txn);
                    out.commits = out.commits.saturating_add(1);
                } else {
                    out.aborted.insert(end.txn);
                }
                out.last.remove(&end.txn);
            }
            EntryType::ROLLBACK_START => {
                if let Ok(r) = RollbackStart::decode(&mut c) {
                    out.rollbacks.push((lsn, r));
                }
            }
            EntryType::ROLLBACK_END => {
                if let Ok(r) = RollbackEnd::decode(&mut c) {
                    out.rollback_ends.push(r.start);
                }
            }
            _ if h.kind.is_ln() => {
                let Ok(ln) = LnEntry::decode(&mut c, h.kind, version) else { return };
                if let Some(t) = ln.txn {
                    let last = out.last.entry(t.id).or_insert((lsn, 0));
                    *last = (lsn, last.1.saturating_add(1));
                }
                note_database(&mut out, ln, lsn);
            }
            _ => {}
        }
    });
    out
}

fn note_database(out: &mut Facts, ln: LnEntry<'_>, lsn: Lsn) {
    let txn = ln.txn.map(|t| t.id);
    match ln.body {
        LnBody::Map(db, bits) => out.maps.push((lsn, *db, bits & 1 != 0)),
        LnBody::Name { id, bits, op } => {
            out.names.push(NameEvent { lsn, txn, name: ln.key.into(), id, deleted: bits & 1 != 0, op });
        }
        _ => {}
    }
}

/// Second pass: versions of records.
pub(super) fn versions(file: &LogFile, scan: &LogScan, facts: &Facts, damage: &[Lsn]) -> HashMap<i64, Keys> {
    let mut out: HashMap<i64, Keys> = HashMap::new();
    let version = file.version();
    each_readable(file, scan, |e| {
        let (h, lsn) = (&e.header, place(file, e));
        let mut c = Cursor::new(e.item(), e.item_at());
        if is_record(h.kind) {
            let Ok(ln) = LnEntry::decode(&mut c, h.kind, version) else { return };
            if !h.invisible() {
                record(&mut out, &ln, h.vlsn, lsn, facts, damage);
            }
            before(&mut out, &ln, scan);
        } else if matches!(h.kind, EntryType::BIN | EntryType::NEW_BIN_DELTA) {
            let Ok(node) = Node::decode(&mut c, h.kind, version) else { return };
            slots(&mut out, &node, scan);
        }
    });
    out
}

fn record(out: &mut HashMap<i64, Keys>, ln: &LnEntry<'_>, vlsn: Option<i64>, lsn: Lsn, facts: &Facts, damage: &[Lsn]) {
    let txn = ln.txn.map(|t| t.id);
    let fate = facts.fate(txn, lsn, damage);
    if fate == Fate::Gone {
        return;
    }
    let v = Version { lsn, vlsn, dead: ln.is_deletion(), origin: Origin::Entry, data: None, txn: txn.unwrap_or(0) };
    let known = out.entry(ln.db).or_default().entry(ln.key.into()).or_default();
    known.offer(v, fate == Fate::Counts);
}

/// The version before a change, where the change carries it and its own entry is gone.
fn before(out: &mut HashMap<i64, Keys>, ln: &LnEntry<'_>, scan: &LogScan) {
    let Some(data) = ln.abort_data.flatten() else { return };
    if ln.abort_lsn.is_null() || ln.abort_known_deleted() || !scan.destroyed(scan.stands(ln.abort_lsn)) {
        return;
    }
    let key = ln.abort_key.flatten().unwrap_or(ln.key);
    let v = Version {
        lsn: ln.abort_lsn,
        vlsn: ln.abort_vlsn,
        dead: false,
        origin: Origin::Before,
        data: Some(data.into()),
        txn: 0,
    };
    out.entry(ln.db).or_default().entry(key.into()).or_default().offer(v, true);
}

/// Slots whose record cannot be read.
fn slots(out: &mut HashMap<i64, Keys>, node: &Node<'_>, scan: &LogScan) {
    for s in &node.slots {
        let lsn = scan.stands(s.lsn);
        if s.lsn.is_null() || !scan.destroyed(lsn) {
            continue;
        }
        let (Ok(key), Ok((_, data))) = (node.key(s), s.parts()) else { continue };
        let known = out.entry(node.db).or_default().entry(key.as_ref().into()).or_default();
        if s.is_dead() {
            let v = Version { lsn, vlsn: s.vlsn, dead: true, origin: Origin::Node, data: None, txn: 0 };
            known.offer(v, true);
        } else if let Some(data) = data {
            let data = Some(data.into());
            let v = Version { lsn, vlsn: s.vlsn, dead: false, origin: Origin::Node, data, txn: 0 };
            known.offer(v, true);
        } else {
            known.lost = known.lost.max(Some(lsn));
        }
    }
}

/// Keys that a full bottom node covers and does not hold.
pub(super) fn absences(file: &LogFile, scan: &LogScan, all: &HashMap<i64, Keys>) -> Vec<(i64, Box<[u8]>, Lsn)> {
    let mut out = Vec::new();
    let version = file.version();
    each_readable(file, scan, |e| {
        if e.header.kind != EntryType::BIN {
            return;
        }
        let at = place(file, e);
        let Ok(node) = Node::decode(&mut Cursor::new(e.item(), e.item_at()), e.header.kind, version) else { return };
        let (Some(keys), Ok(leaves)) = (all.get(&node.db), tree::leaves(&node)) else { return };
        let (Some(first), Some(last)) = (leaves.first(), leaves.last()) else { return };
        if first.key > last.key {
            return;
        }
        let range = (Bound::Included(first.key.as_slice()), Bound::Included(last.key.as_slice()));
        let mut there = leaves.iter().peekable();
        for (key, known) in keys.range::<[u8], _>(range) {
            while there.next_if(|l| l.key.as_slice() < key.as_ref()).is_some() {}
            let holds = there.peek().is_some_and(|l| l.key.as_slice() == key.as_ref());
            let older =
                known.sure.as_ref().is_some_and(|v| v.lsn < at && !v.dead) || known.lost.is_some_and(|l| l < at);
            if !holds && older {
                out.push((node.db, key.clone(), at));
            }
        }
    });
    out
}

/// A change that another node of the group has.
#[derive(Clone, Debug)]
pub struct Donation {
    /// Place in the stream.
    pub vlsn: i64,
    /// Place in our log before which it belongs.
    pub before: Lsn,
    /// What it is.
    pub what: Donated,
}

/// What another node gives.
#[derive(Clone, Debug)]
pub enum Donated {
    /// A record: database, transaction, key, data.
    Record {
        /// Database.
        db: i64,
        /// Transaction.
        txn: Option<i64>,
        /// Complete key.
        key: Box<[u8]>,
        /// Data; `None` is a deletion.
        data: Option<Box<[u8]>>,
    },
    /// End of a transaction; whether it committed.
    End(i64, bool),
    /// A database's name.
    Name {
        /// Transaction.
        txn: Option<i64>,
        /// Name.
        name: Box<[u8]>,
        /// Id.
        id: i64,
        /// Whether the name was removed.
        deleted: bool,
        /// Operation.
        op: crate::format::ln::NameOp,
    },
}

/// A hole in the visible VLSNs: first, last, and the place in our log behind it.
pub type Hole = (i64, i64, Lsn);

/// Reads from another node's log the changes with VLSNs in `holes`, in the order of the stream.
///
/// # Errors
///
/// When the caller asked to stop.
pub fn donations(donor: &Log, scan: &LogScan, holes: &[Hole], cx: &Context) -> CoreResult<Vec<Donation>> {
    let files: Vec<&LogFile> = donor
        .files
        .values()
        .filter(|f| {
            let t = scan.files.get(&f.number).map(super::super::super::reader::FileScan::all).unwrap_or_default();
            let (a, b) = (t.first_visible.unwrap_or(i64::MAX), t.last_visible.unwrap_or(i64::MIN));
            holes.iter().any(|(from, to, _)| *from <= b && *to >= a)
        })
        .collect();
    let found = parallel::map(cx, &files, |_, f| give(f, scan, holes))?;
    let mut all: Vec<Donation> = found.into_iter().flatten().collect();
    all.sort_by_key(|d| d.vlsn);
    Ok(all)
}

fn give(file: &LogFile, scan: &LogScan, holes: &[Hole]) -> Vec<Donation> {
    let mut out = Vec::new();
    let version = file.version();
    each_readable(file, scan, |e| {
        let h = &e.header;
        let Some(vlsn) = h.stream_vlsn().filter(|_| !h.invisible()) else { return };
        let Some((_, _, before)) = holes.iter().find(|(a, b, _)| (*a..=*b).contains(&vlsn)) else { return };
        let mut c = Cursor::new(e.item(), e.item_at());
        let what = match h.kind {
            EntryType::COMMIT | EntryType::ABORT => {
                TxnEnd::decode(&mut c, version).ok().map(|end| Donated::End(end.txn, h.kind == EntryType::COMMIT))
            }
            _ if h.kind.is_ln() => LnEntry::decode(&mut c, h.kind, version).ok().and_then(of_ln),
            _ => None,
        };
        out.extend(what.map(|what| Donation { vlsn, before: *before, what }));
    });
    out
}

fn of_ln(ln: LnEntry<'_>) -> Option<Donated> {
    let txn = ln.txn.map(|t| t.id);
    let deleted = ln.is_deletion();
    match ln.body {
        LnBody::Name { id, op, .. } => Some(Donated::Name { txn, name: ln.key.into(), id, deleted, op }),
        LnBody::User => {
            let data = if deleted { None } else { ln.data.map(Into::into) };
            Some(Donated::Record { db: ln.db, txn, key: ln.key.into(), data })
        }
        _ => None,
    }
}

/// Just before a place: where donated changes stand in the order of our log.
const fn just_before(at: Lsn) -> Lsn {
    Lsn(at.0.saturating_sub(1))
}

pub(super) fn donate_ends(facts: &mut Facts, donated: &[Donation]) {
    for d in donated {
        match &d.what {
            Donated::End(txn, true) => drop(facts.committed.insert(*txn)),
            Donated::End(txn, false) => drop(facts.aborted.insert(*txn)),
            Donated::Name { txn, name, id, deleted, op } => facts.names.push(NameEvent {
                lsn: just_before(d.before),
                txn: *txn,
                name: name.clone(),
                id: *id,
                deleted: *deleted,
                op: op.clone(),
            }),
            Donated::Record { .. } => {}
        }
    }
}

pub(super) fn donate_versions(all: &mut HashMap<i64, Keys>, donated: &[Donation], facts: &Facts) {
    for d in donated {
        let Donated::Record { db, txn, key, data } = &d.what else { continue };
        let lsn = just_before(d.before);
        // A donor's transaction without end is open on the donor as well.
        if facts.fate(*txn, lsn, &[]) != Fate::Counts {
            continue;
        }
        let v = Version {
            lsn,
            vlsn: Some(d.vlsn),
            dead: data.is_none(),
            origin: Origin::Donor,
            data: data.clone(),
            txn: txn.unwrap_or(0),
        };
        let known = all.entry(*db).or_default().entry(key.clone()).or_default();
        known.offer(v, true);
        if known.lost.is_some_and(|l| l <= d.before) {
            known.lost = None;
        }
    }
}
