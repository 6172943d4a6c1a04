//! What a stretch of log says: counts, checkpoints, commits, prepared transactions, changed limits.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use recovery_core::Cursor;
use serde::Serialize;

use super::wal::Record;
use crate::format::pg::checkpoint::{CheckPoint, Layout};
use crate::format::pg::twophase::{self, Prepared};
use crate::format::pg::wal_record::{RelFileLocator, items_with, main_data};
use crate::format::pg::{Lsn, rmgr, xact};

/// How many of the newest checkpoints are kept.
const CHECKPOINTS: usize = 64;

/// Counts of one resource manager.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Records.
    pub records: u64,
    /// Bytes of records without full-page images.
    pub record_bytes: u64,
    /// Bytes of full-page images.
    pub image_bytes: u64,
}

/// Counts by resource manager and kind; a flat table, because every record passes through it.
#[derive(Clone)]
pub struct Kinds(Box<[Count]>);

impl Default for Kinds {
    fn default() -> Self {
        Self(vec![Count::default(); 4096].into_boxed_slice())
    }
}

impl std::fmt::Debug for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Kinds {
    #[inline]
    fn add(&mut self, rmid: u8, info: u8, more: Count) {
        if let Some(count) = self.0.get_mut(usize::from(rmid) << 4 | usize::from(info >> 4)) {
            count.add(more);
        }
    }

    /// What was seen: resource manager, kind (the high half of the info byte), counts.
    pub fn iter(&self) -> impl Iterator<Item = (u8, u8, Count)> + '_ {
        let names = (0..=u8::MAX).flat_map(|rmid| (0..16u8).map(move |kind| (rmid, kind << 4)));
        names.zip(self.0.iter()).filter(|(_, c)| c.records > 0).map(|((rmid, kind), c)| (rmid, kind, *c))
    }

    /// Counts by resource manager.
    #[must_use]
    pub fn managers(&self) -> BTreeMap<u8, Count> {
        let mut out: BTreeMap<u8, Count> = BTreeMap::new();
        for (rmid, _, count) in self.iter() {
            out.entry(rmid).or_default().add(count);
        }
        out
    }
}

/// A checkpoint record found in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundCheckpoint {
    /// Where the record begins.
    pub lsn: Lsn,
    /// Whether the server stopped there.
    pub shutdown: bool,
    /// What it says.
    pub copy: CheckPoint,
}

/// The limits a server announces when they change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names are PostgreSQL's own")]
pub struct Parameters {
    pub max_connections: i32,
    pub max_worker_processes: i32,
    pub max_wal_senders: Option<i32>,
    pub max_prepared_xacts: i32,
    pub max_locks_per_xact: i32,
    pub wal_level: i32,
    pub wal_log_hints: bool,
    pub track_commit_timestamp: bool,
}

/// A block of a relation fork.
pub type Block = (RelFileLocator, u8, u32);

/// What is asked beside the counts.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Blocks of which one wants to know whether replay restores them whole.
    pub blocks: HashSet<Block>,
}

/// What a stretch of log says.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Records.
    pub records: u64,
    /// Records whose item headers contradict each other.
    pub bad_items: u64,
    /// The first of them.
    pub first_bad_items: Option<Lsn>,
    /// By resource manager and kind.
    pub kinds: Kinds,
    /// The newest checkpoints, oldest first.
    pub checkpoints: VecDeque<FoundCheckpoint>,
    /// Commits.
    pub commits: u64,
    /// Aborts.
    pub aborts: u64,
    /// Time of the last commit, microseconds since 2000.
    pub last_commit: Option<i64>,
    /// Transactions prepared and, in this stretch, not finished.
    pub prepared: BTreeMap<u32, (Lsn, Prepared)>,
    /// Prepared transactions finished here that began before.
    pub finished: HashSet<u32>,
    /// Last announcement of limits.
    pub parameters: Option<Parameters>,
    /// Timeline and position of an end-of-recovery record.
    pub end_of_recovery: Option<Lsn>,
    /// Asked blocks that replay restores, and by which record.
    pub restored: HashMap<Block, Lsn>,
}

impl Summary {
    /// Takes a record in.
    #[inline]
    pub fn take(&mut self, r: &Record<'_>, major: u32, asked: Option<&Arc<Asked>>) {
        let header = r.header;
        self.records = self.records.saturating_add(1);
        let wanted = asked.filter(|a| !a.blocks.is_empty());
        let restored = &mut self.restored;
        let items = items_with(r.bytes, major, |b| {
            if let Some(a) = wanted
                && b.restores(major)
                && a.blocks.contains(&(b.relation, b.fork, b.block))
            {
                restored.entry((b.relation, b.fork, b.block)).or_insert(r.lsn);
            }
        });
        let items = items.unwrap_or_else(|_| {
            self.bad_items = self.bad_items.saturating_add(1);
            self.first_bad_items.get_or_insert(r.lsn);
            crate::format::pg::wal_record::Items::default()
        });
        let image = u64::from(items.image_bytes);
        let rest = u64::from(header.tot_len).saturating_sub(image);
        self.kinds.add(header.rmid, header.info, Count { records: 1, record_bytes: rest, image_bytes: image });
        match header.rmid {
            rmgr::XLOG => self.xlog(r, main_data(r.bytes, &items), major),
            rmgr::XACT => self.xact(r, main_data(r.bytes, &items), major),
            _ => {}
        }
    }

    fn xlog(&mut self, r: &Record<'_>, main: &[u8], major: u32) {
        match r.header.kind() {
            kind @ (rmgr::CHECKPOINT_SHUTDOWN | rmgr::CHECKPOINT_ONLINE) => {
                let layout = layout_of_major(major);
                if let Ok(copy) = CheckPoint::decode(&mut Cursor::new(main, 0), layout) {
                    if self.checkpoints.len() >= CHECKPOINTS {
                        self.checkpoints.pop_front();
                    }
                    let shutdown = kind == rmgr::CHECKPOINT_SHUTDOWN;
                    self.checkpoints.push_back(FoundCheckpoint { lsn: r.lsn, shutdown, copy });
                }
            }
            rmgr::PARAMETER_CHANGE => self.parameters = parameters(main, major).or(self.parameters),
            rmgr::END_OF_RECOVERY => self.end_of_recovery = Some(r.lsn),
            _ => {}
        }
    }

    fn xact(&mut self, r: &Record<'_>, main: &[u8], major: u32) {
        let info = r.header.info;
        if info & 0x70 == 0x10 {
            if let Ok((prepared, _)) = twophase::decode_state(main, major) {
                self.finished.remove(&prepared.xid);
                self.prepared.insert(prepared.xid, (r.lsn, prepared));
            }
            return;
        }
        let Some(end) = xact::End::of(info) else { return };
        let Ok(what) = xact::decode(main, info, end, major) else { return };
        match end {
            xact::End::Commit | xact::End::CommitPrepared => {
                self.commits = self.commits.saturating_add(1);
                self.last_commit = Some(what.time);
            }
            xact::End::Abort | xact::End::AbortPrepared => self.aborts = self.aborts.saturating_add(1),
        }
        if let Some(xid) = what.prepared_xid
            && self.prepared.remove(&xid).is_none()
        {
            self.finished.insert(xid);
        }
    }

    /// Takes over what the stretch behind this one says.
    pub fn append(&mut self, later: Self) {
        self.records = self.records.saturating_add(later.records);
        self.bad_items = self.bad_items.saturating_add(later.bad_items);
        self.first_bad_items = self.first_bad_items.or(later.first_bad_items);
        for (rmid, kind, count) in later.kinds.iter() {
            self.kinds.add(rmid, kind, count);
        }
        self.checkpoints.extend(later.checkpoints);
        while self.checkpoints.len() > CHECKPOINTS {
            self.checkpoints.pop_front();
        }
        self.commits = self.commits.saturating_add(later.commits);
        self.aborts = self.aborts.saturating_add(later.aborts);
        self.last_commit = later.last_commit.or(self.last_commit);
        for xid in later.finished {
            if self.prepared.remove(&xid).is_none() {
                self.finished.insert(xid);
            }
        }
        self.prepared.extend(later.prepared);
        self.parameters = later.parameters.or(self.parameters);
        self.end_of_recovery = later.end_of_recovery.or(self.end_of_recovery);
        for (block, lsn) in later.restored {
            self.restored.entry(block).or_insert(lsn);
        }
    }
}

impl Count {
    fn add(&mut self, other: Self) {
        self.records = self.records.saturating_add(other.records);
        self.record_bytes = self.record_bytes.saturating_add(other.record_bytes);
        self.image_bytes = self.image_bytes.saturating_add(other.image_bytes);
    }
}

/// How a major version arranges a checkpoint.
#[must_use]
pub const fn layout_of_major(major: u32) -> Layout {
    match major {
        0..=11 => Layout::V11,
        12 => Layout::V12,
        13..=16 => Layout::V13,
        _ => Layout::V17,
    }
}

fn parameters(main: &[u8], major: u32) -> Option<Parameters> {
    let mut c = Cursor::new(main, 0);
    let max_connections = c.i32_le("MaxConnections").ok()?;
    let max_worker_processes = c.i32_le("max_worker_processes").ok()?;
    let max_wal_senders = if major >= 12 { Some(c.i32_le("max_wal_senders").ok()?) } else { None };
    Some(Parameters {
        max_connections,
        max_worker_processes,
        max_wal_senders,
        max_prepared_xacts: c.i32_le("max_prepared_xacts").ok()?,
        max_locks_per_xact: c.i32_le("max_locks_per_xact").ok()?,
        wal_level: c.i32_le("wal_level").ok()?,
        wal_log_hints: c.u8("wal_log_hints").ok()? != 0,
        track_commit_timestamp: c.u8("track_commit_timestamp").ok()? != 0,
    })
}
