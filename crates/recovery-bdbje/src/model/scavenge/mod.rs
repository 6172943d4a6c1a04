//! Records from everything that can still be read, without the trees.
//!
//! Three sources, in this order of trust: records of committed transactions, the last one of a key by place; data
//! embedded in bottom nodes, where the record's own entry is gone (damaged, or its file cleaned); the data a later
//! change of the same record carries as its version before. A full bottom node that covers a key and does not hold it
//! proves that the key was deleted before the node was written, so no deletion is undone because its entry is gone. A
//! record whose transaction lost its end is in doubt and kept apart.

mod names;
mod pass;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use recovery_core::{Context, Result as CoreResult, parallel};

use crate::format::database::DatabaseImpl;
use crate::format::txn::RollbackStart;
use crate::format::{EntryType, Lsn};
use crate::reader::{Log, LogFile, LogScan};

pub use pass::{Donated, Donation, Hole, donations};

/// Where a record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Its own entry.
    Entry,
    /// A slot of a bottom node.
    Node,
    /// The version before, carried by a later change.
    Before,
    /// The log of another node of the group.
    Donor,
}

/// What is known of a key at one place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Place of the record; of a donated one, the place before which it belongs.
    pub lsn: Lsn,
    /// Place in the replication stream.
    pub vlsn: Option<i64>,
    /// Deletion.
    pub dead: bool,
    /// Where it comes from.
    pub origin: Origin,
    /// Data, when they are not fetched from the entry.
    pub data: Option<Box<[u8]>>,
    /// Transaction, of a version in doubt.
    pub txn: i64,
}

/// All that is known of a key.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Last version that counts.
    pub sure: Option<Version>,
    /// Last version whose transaction's fate is not known.
    pub doubt: Option<Box<Version>>,
    /// Last version that is known to have been there and cannot be read.
    pub lost: Option<Lsn>,
}

/// Keys of one database.
pub type Keys = BTreeMap<Box<[u8]>, Known>;

/// A scavenged database.
#[derive(Clone, Debug)]
pub struct Found {
    /// Id.
    pub id: i64,
    /// Name.
    pub name: String,
    /// Whether the name was concluded and not read.
    pub guessed: bool,
    /// Description, as far as one was found.
    pub config: DatabaseImpl,
    /// Keys.
    pub keys: Keys,
}

/// A transaction whose end is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Id.
    pub txn: i64,
    /// Records of it.
    pub records: u64,
    /// Last of them.
    pub last: Lsn,
}

/// The result of a scavenge.
#[derive(Clone, Debug, Default)]
pub struct Scavenged {
    /// By name.
    pub databases: BTreeMap<String, Found>,
    /// Transactions in doubt.
    pub doubts: Vec<Doubt>,
    /// Commits found.
    pub commits: u64,
    /// Names of databases that were removed.
    pub removed: Vec<String>,
}

impl Known {
    /// Whether the newest thing known is a live record that counts.
    #[must_use]
    pub fn live(&self) -> Option<&Version> {
        self.sure.as_ref().filter(|v| !v.dead && self.lost.is_none_or(|l| l <= v.lsn))
    }

    /// A live record in doubt, newer than what counts.
    #[must_use]
    pub fn in_doubt(&self) -> Option<&Version> {
        let newer = |v: &&Version| self.sure.as_ref().is_none_or(|s| s.lsn < v.lsn);
        self.doubt.as_deref().filter(newer).filter(|v| !v.dead)
    }

    /// A live record of which only an older version can be read.
    #[must_use]
    pub fn stale(&self) -> Option<&Version> {
        self.sure.as_ref().filter(|v| !v.dead && self.lost.is_some_and(|l| l > v.lsn))
    }

    /// Known to be live, and unreadable in every version.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        let newer = self.sure.as_ref().is_none_or(|s| s.dead);
        newer && self.lost.is_some_and(|l| self.sure.as_ref().is_none_or(|s| s.lsn < l))
    }

    fn offer(&mut self, v: Version, sure: bool) {
        let there = if sure { self.sure.as_ref() } else { self.doubt.as_deref() };
        if there.is_some_and(|there| there.lsn > v.lsn) {
            return;
        }
        if sure {
            self.sure = Some(v);
        } else {
            self.doubt = Some(Box::new(v));
        }
    }
}

/// Ends of transactions, and what is said about databases, over the whole log.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    committed: HashSet<i64>,
    aborted: HashSet<i64>,
    /// Last record of each transaction without end, and how many.
    last: HashMap<i64, (Lsn, u64)>,
    rollbacks: Vec<(Lsn, RollbackStart)>,
    rollback_ends: Vec<Lsn>,
    maps: Vec<(Lsn, DatabaseImpl, bool)>,
    names: Vec<names::NameEvent>,
    commits: u64,
}

/// The fate of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Counts,
    Doubt,
    Gone,
}

impl Facts {
    fn merge(&mut self, o: Self) {
        self.committed.extend(o.committed);
        self.aborted.extend(o.aborted);
        self.rollbacks.extend(o.rollbacks);
        self.rollback_ends.extend(o.rollback_ends);
        self.maps.extend(o.maps);
        self.names.extend(o.names);
        self.commits = self.commits.saturating_add(o.commits);
        for (id, (lsn, n)) in o.last {
            let e = self.last.entry(id).or_insert((lsn, 0));
            *e = (e.0.max(lsn), e.1.saturating_add(n));
        }
    }

    fn unfinished(&self) -> impl Iterator<Item = &(Lsn, RollbackStart)> {
        self.rollbacks.iter().filter(|(at, _)| !self.rollback_ends.contains(at))
    }

    /// What became of a change.
    fn fate(&self, txn: Option<i64>, lsn: Lsn, damage: &[Lsn]) -> Fate {
        let Some(id) = txn else { return Fate::Counts };
        let rolled = |(at, r): &(Lsn, RollbackStart)| lsn > r.matchpoint && lsn < *at && r.txns.contains(&id);
        if self.unfinished().any(rolled) {
            return Fate::Gone;
        }
        if self.committed.contains(&id) {
            return Fate::Counts;
        }
        if self.aborted.contains(&id) {
            return Fate::Gone;
        }
        // An end that was never written is no loss; one that may lie in damage behind the last record is a doubt.
        let last = self.last.get(&id).map_or(lsn, |(l, _)| *l);
        if damage.last().is_some_and(|d| *d > last) { Fate::Doubt } else { Fate::Gone }
    }
}

/// Calls `f` for every valid entry of a file, those behind damage included.
pub(crate) fn each_readable(file: &LogFile, log_scan: &LogScan, mut f: impl FnMut(&crate::reader::EntryRef<'_>)) {
    let Some(scan) = log_scan.files.get(&file.number) else { return };
    let mut walker = crate::reader::Walker::new(file.blob.as_ref(), file.len);
    let mut at = 0;
    let mut bad = scan.bad.iter().peekable();
    while at < file.len {
        if let Some(b) = bad.next_if(|b| b.offset == at) {
            at = b.end;
            continue;
        }
        let Ok(e) = walker.entry(at) else { return };
        at = e.end();
        f(&e);
    }
}

/// Stretches of the log that are gone: bad spots, and files that are missing between others.
fn damage_places(log: &Log, scan: &LogScan) -> Vec<Lsn> {
    let mut out: Vec<Lsn> = scan
        .bad()
        .map(|(f, b)| Lsn::new(f.number, u32::try_from(b.offset).unwrap_or(u32::MAX)))
        .chain(scan.files.values().filter(|f| !f.unread.is_empty()).map(|f| Lsn::new(f.number, 0)))
        .collect();
    let mut before: Option<u32> = None;
    for n in log.files.keys() {
        if let Some(b) = before
            && b.checked_add(1) != Some(*n)
        {
            out.push(Lsn::new(b.saturating_add(1), 0));
        }
        before = Some(*n);
    }
    for f in scan.files.values() {
        // The next file's header knows where the last entry of this one was.
        let next = log.files.get(&f.number.saturating_add(1)).and_then(|n| n.header);
        let cut = next.is_some_and(|h| u64::try_from(h.last_entry_in_prev).is_ok_and(|o| o >= f.len.max(1)));
        if cut {
            out.push(Lsn::new(f.number, u32::try_from(f.len).unwrap_or(u32::MAX)));
        }
    }
    out.sort_unstable();
    out
}

/// Collects records from everything readable. `log` should be under the numbers its headers give; `scan` is its scan.
/// `donated` are changes another node of the group has and this one lost.
///
/// # Errors
///
/// When the caller asked to stop.
pub fn scavenge(log: &Log, scan: &LogScan, donated: &[Donation], cx: &Context) -> CoreResult<Scavenged> {
    let files: Vec<&LogFile> = log.files.values().collect();
    let mut facts = Facts::default();
    for f in parallel::map(cx, &files, |_, f| pass::facts(f, scan))? {
        facts.merge(f);
    }
    pass::donate_ends(&mut facts, donated);
    let ended: Vec<i64> =
        facts.last.keys().filter(|t| facts.committed.contains(t) || facts.aborted.contains(t)).copied().collect();
    for t in ended {
        facts.last.remove(&t);
    }
    let damage = damage_places(log, scan);
    let mut all: HashMap<i64, Keys> = HashMap::new();
    for found in parallel::map(cx, &files, |_, f| pass::versions(f, scan, &facts, &damage))? {
        merge_versions(&mut all, found);
    }
    pass::donate_versions(&mut all, donated, &facts);
    prove_absence(&files, scan, &mut all, cx)?;
    let doubts = facts
        .last
        .iter()
        .filter(|(t, (last, _))| facts.fate(Some(**t), *last, &damage) == Fate::Doubt)
        .map(|(t, (last, n))| Doubt { txn: *t, records: *n, last: *last })
        .collect();
    let (databases, removed) = names::resolve(&facts, all, &damage);
    let mut out = Scavenged { databases, doubts, commits: facts.commits, removed };
    out.doubts.sort_by_key(|d| d.last);
    Ok(out)
}

fn merge_versions(all: &mut HashMap<i64, Keys>, found: HashMap<i64, Keys>) {
    for (db, keys) in found {
        let target = all.entry(db).or_default();
        if target.is_empty() {
            *target = keys;
            continue;
        }
        for (key, known) in keys {
            let there = target.entry(key).or_default();
            known.sure.into_iter().for_each(|v| there.offer(v, true));
            known.doubt.into_iter().for_each(|v| there.offer(*v, false));
            there.lost = there.lost.max(known.lost);
        }
    }
}

/// A full bottom node that covers a key and does not hold it: the key was deleted before the node was written.
fn prove_absence(files: &[&LogFile], scan: &LogScan, all: &mut HashMap<i64, Keys>, cx: &Context) -> CoreResult<()> {
    let shared = &*all;
    let proofs = parallel::map(cx, files, |_, f| pass::absences(f, scan, shared))?;
    for (db, key, node) in proofs.into_iter().flatten() {
        let Some(known) = all.get_mut(&db).and_then(|k| k.get_mut(&key)) else { continue };
        if known.sure.as_ref().is_some_and(|v| v.lsn < node) {
            let gone = Version { lsn: node, vlsn: None, dead: true, origin: Origin::Node, data: None, txn: 0 };
            known.offer(gone, true);
        }
        if known.lost.is_some_and(|l| l < node) {
            known.lost = None;
        }
    }
    Ok(())
}

impl Found {
    /// Live records of the database, in key order, their data fetched: `sink` is given the complete key, the data, the
    /// version and whether it is in doubt. `stale` ones are given when asked for. Gives the keys whose data could not
    /// be fetched.
    pub fn each(&self, log: &Log, stale: bool, sink: &mut dyn FnMut(&[u8], &[u8], &Version, bool)) -> Vec<Vec<u8>> {
        let mut failed = Vec::new();
        for (key, version, doubt) in self.versions(stale) {
            match version.data_in(log, key) {
                Some(d) => sink(key, &d, version, doubt),
                None => failed.push(key.to_vec()),
            }
        }
        failed
    }

    /// Keys that are live, in their order: the version of each and whether it is in doubt. `stale` ones are given when
    /// asked for.
    pub fn versions(&self, stale: bool) -> impl Iterator<Item = (&[u8], &Version, bool)> {
        self.keys.iter().filter_map(move |(key, known)| {
            let (version, doubt) = match (known.in_doubt(), known.live()) {
                (Some(v), _) => (v, true),
                (None, Some(v)) => (v, false),
                (None, None) => (known.stale().filter(|_| stale)?, false),
            };
            Some((key.as_ref(), version, doubt))
        })
    }

    /// How many keys are live and count, are in doubt, are known only in an older version, and are lost.
    #[must_use]
    pub fn counts(&self) -> [u64; 4] {
        let mut out = [0u64; 4];
        for k in self.keys.values() {
            let hits = [k.live().is_some(), k.in_doubt().is_some(), k.stale().is_some(), k.is_lost()];
            for (n, hit) in out.iter_mut().zip(hits) {
                *n = n.saturating_add(u64::from(hit));
            }
        }
        out
    }
}

impl Version {
    /// The data: its own, or those of the entry.
    #[must_use]
    pub fn data_in(&self, log: &Log, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        if let Some(d) = &self.data {
            return Some(Cow::Borrowed(d));
        }
        let e = log.entry(self.lsn).ok()?;
        match e.decode().ok()? {
            crate::format::Entry::Ln(ln) if ln.key == key => ln.data.map(|d| Cow::Owned(d.to_vec())),
            _ => None,
        }
    }
}

/// Whether an entry type carries records that belong in a scavenge.
pub(crate) const fn is_record(kind: EntryType) -> bool {
    kind.is_user_ln()
}
