//! An environment as JE would see it after recovery, without writing anything.
//!
//! The trees of the last checkpoint are read from the log; the records behind it are undone and redone over them key
//! by key. No tree is rebuilt. Upstream: `recovery/RecoveryManager`.

use std::collections::{BTreeMap, HashMap};

use recovery_core::{Context, Cursor, Result as CoreResult};

use super::Problem;
use super::records::{self, Slot};
use super::replay::{Ids, OpenTxn, Overlay, replay};
use crate::format::checkpoint::CkptEnd;
use crate::format::database::{DatabaseImpl, DbTree};
use crate::format::ln::LnBody;
use crate::format::txn::RollbackStart;
use crate::format::{Entry, EntryType, FormatError, Lsn};
use crate::reader::Log;

/// How the environment is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Open transactions are undone.
    #[default]
    Standalone,
    /// Open replicated transactions stay open: their records are seen, and marked.
    Replica,
}

/// A database.
#[derive(Clone, Debug)]
pub struct Database {
    /// Id; negative when replicated.
    pub id: i64,
    /// Description.
    pub config: DatabaseImpl,
    /// Place of the description.
    pub map_lsn: Lsn,
    /// Root of its tree.
    pub root: Option<Lsn>,
    /// Name, when a live name leads to it.
    pub name: Option<String>,
}

/// An environment.
#[derive(Debug)]
pub struct Environment {
    /// Its files, cut where the log ends.
    pub log: Log,
    /// Last checkpoint and its place.
    pub checkpoint: Option<(Lsn, CkptEnd)>,
    /// Description of the two system trees.
    pub tree: Option<(Lsn, DbTree)>,
    /// Databases by id.
    pub databases: BTreeMap<i64, Database>,
    /// Live names.
    pub names: BTreeMap<String, i64>,
    /// Transactions without end.
    pub open: Vec<OpenTxn>,
    /// Rollbacks that never ended.
    pub unfinished_rollbacks: Vec<RollbackStart>,
    /// What could not be read of the system trees.
    pub problems: Vec<Problem>,
    /// Ids in use.
    pub ids: Ids,
    overlays: HashMap<i64, Overlay>,
}

impl Environment {
    /// Opens the files of `log`, which must end where the log ends. `ckpt_end` and `db_tree` are the last ones in it.
    ///
    /// # Errors
    ///
    /// When the caller asked to stop. What cannot be read is in [`problems`](Self::problems).
    pub fn open(log: Log, ckpt_end: Option<Lsn>, db_tree: Option<Lsn>, role: Role, cx: &Context) -> CoreResult<Self> {
        let mut problems = Vec::new();
        let checkpoint = ckpt_end.and_then(|at| read_checkpoint(&log, at, &mut problems));
        let root = checkpoint.as_ref().and_then(|(_, c)| c.root).and_then(Lsn::some).max(db_tree);
        let tree = root.and_then(|at| read_tree(&log, at, &mut problems));
        let first = checkpoint.as_ref().map_or(Lsn(0), |(_, c)| c.first_active);
        let start = checkpoint.as_ref().map_or(Lsn(0), |(_, c)| c.start);
        let replayed = replay(&log, first, start, role, cx)?;
        problems.extend(replayed.odd.iter().map(|(at, e)| Problem::new("entry", *at, None, e.clone())));
        let mut env = Self {
            log,
            checkpoint,
            tree,
            databases: BTreeMap::new(),
            names: BTreeMap::new(),
            open: replayed.open,
            unfinished_rollbacks: replayed.unfinished_rollbacks,
            problems,
            ids: replayed.ids,
            overlays: replayed.overlays,
        };
        env.read_maps(replayed.maps, &replayed.roots, cx)?;
        env.read_names(cx)?;
        env.count_ids();
        Ok(env)
    }

    fn count_ids(&mut self) {
        if let Some((_, c)) = &self.checkpoint {
            let [local_node, _, local_db, rep_db, local_txn, rep_txn] = c.last_ids;
            self.ids.node = self.ids.node.max(local_node);
            for id in [local_db, rep_db] {
                self.ids.db(id);
            }
            for id in [local_txn, rep_txn] {
                self.ids.txn(id);
            }
        }
        for id in self.databases.keys() {
            self.ids.db(*id);
        }
        if let Some((_, t)) = &self.tree {
            self.ids.db(t.last_local);
            self.ids.db(t.last_replicated);
        }
    }

    /// Id database: slots of its tree, then every description behind the checkpoint.
    fn read_maps(
        &mut self,
        maps: Vec<(Lsn, DatabaseImpl, bool)>,
        roots: &HashMap<i64, Lsn>,
        cx: &Context,
    ) -> CoreResult<()> {
        let mut found: BTreeMap<i64, (Lsn, DatabaseImpl)> = BTreeMap::new();
        let id_root = self.tree.as_ref().and_then(|(_, t)| t.id_db.root.as_ref()).map(|r| r.lsn);
        let empty = Overlay::new();
        let mut slots = Vec::new();
        records::each_slot(&self.log, id_root, 0, &empty, cx, &mut |s| slots.push(s), &mut self.problems)?;
        for s in slots.iter().filter(|s| !s.dead) {
            match read_map(&self.log, s.lsn) {
                Ok((db, false)) => drop(found.insert(db.id, (s.lsn, db))),
                Ok(_) => {}
                Err(e) => self.problems.push(Problem::new("description of a database (MapLN)", s.lsn, Some(0), e)),
            }
        }
        for (at, db, deleted) in maps {
            if found.get(&db.id).is_some_and(|(there, _)| *there > at) {
                continue;
            }
            if deleted {
                found.remove(&db.id);
            } else {
                found.insert(db.id, (at, db));
            }
        }
        for (id, (map_lsn, config)) in found {
            let own = config.root.as_ref().map(|r| r.lsn).and_then(Lsn::some);
            let later = roots.get(&id).copied().filter(|r| *r > map_lsn && own.is_none_or(|o| *r > o));
            let root = later.or(own);
            self.databases.insert(id, Database { id, config, map_lsn, root, name: None });
        }
        Ok(())
    }

    /// Name database: slots of its tree with the changes behind the checkpoint.
    fn read_names(&mut self, cx: &Context) -> CoreResult<()> {
        let root = self.tree.as_ref().and_then(|(_, t)| t.name_db.root.as_ref()).map(|r| r.lsn);
        let overlay = self.overlays.remove(&1).unwrap_or_default();
        let mut slots: Vec<Slot> = Vec::new();
        records::each_slot(&self.log, root, 1, &overlay, cx, &mut |s| slots.push(s), &mut self.problems)?;
        for s in slots.into_iter().filter(|s| !s.dead) {
            match read_name(&self.log, s.lsn) {
                Ok((id, false)) => {
                    let name = String::from_utf8_lossy(&s.key).into_owned();
                    if let Some(db) = self.databases.get_mut(&id) {
                        db.name = Some(name.clone());
                    }
                    self.names.insert(name, id);
                }
                Ok(_) => {}
                Err(e) => {
                    let mut p = Problem::new("name of a database (NameLN)", s.lsn, Some(1), e);
                    p.key = Some(s.key);
                    self.problems.push(p);
                }
            }
        }
        self.overlays.insert(1, overlay);
        Ok(())
    }

    /// Database by name.
    #[must_use]
    pub fn database(&self, name: &str) -> Option<&Database> {
        self.databases.get(self.names.get(name)?)
    }

    /// Changes of a database behind the checkpoint.
    #[must_use]
    pub fn overlay(&self, id: i64) -> Option<&Overlay> {
        self.overlays.get(&id)
    }

    /// Whether JE would apply changes to this database: without a root, recovery drops them silently.
    #[must_use]
    pub fn rootless_changes(&self, id: i64) -> u64 {
        match self.databases.get(&id) {
            Some(db) if db.root.is_none() => self
                .overlays
                .get(&id)
                .map_or(0, |o| o.values().filter(|c| c.redo.is_some_and(|r| !r.dead)).count() as u64),
            _ => 0,
        }
    }

    /// Every slot of a database that is live, without its data unless they lie in the slot.
    ///
    /// # Errors
    ///
    /// When the caller asked to stop.
    pub fn slots(&self, db: &Database, cx: &Context, problems: &mut Vec<Problem>) -> CoreResult<Vec<Slot>> {
        let empty = Overlay::new();
        let overlay = self.overlays.get(&db.id).unwrap_or(&empty);
        let mut out = Vec::new();
        let mut keep = |s: Slot| {
            if !s.dead {
                out.push(s);
            }
        };
        records::each_slot(&self.log, db.root, db.id, overlay, cx, &mut keep, problems)?;
        Ok(out)
    }

    /// Whether a database keeps duplicates in the separate trees that were used before log version 8: these are not
    /// read. Upstream: `dbi/DbTree.DUPS_CONVERTED_BIT`, `dbi/DatabaseImpl.DUPS_CONVERTED`.
    #[must_use]
    pub fn has_old_duplicates(&self, db: &Database) -> bool {
        const CONVERTED_TREE: u8 = 4;
        const CONVERTED_DB: u8 = 0x40;
        let converted = self.tree.as_ref().is_some_and(|(_, t)| t.flags & CONVERTED_TREE != 0);
        let old = || self.log.files.values().any(|f| f.known_version().is_some_and(|v| v < 8));
        db.config.duplicates() && db.config.flags & CONVERTED_DB == 0 && !converted && old()
    }

    /// Calls `sink` for every slot of a database in key order, dead ones included.
    ///
    /// # Errors
    ///
    /// When the caller asked to stop.
    pub fn each_slot(
        &self,
        db: &Database,
        cx: &Context,
        sink: &mut dyn FnMut(Slot),
        problems: &mut Vec<Problem>,
    ) -> CoreResult<()> {
        let empty = Overlay::new();
        let overlay = self.overlays.get(&db.id).unwrap_or(&empty);
        records::each_slot(&self.log, db.root, db.id, overlay, cx, sink, problems)
    }

    /// Every live record of a database, in batches of key order.
    ///
    /// # Errors
    ///
    /// The first error of `sink`, or that the caller asked to stop.
    pub fn records(
        &self,
        db: &Database,
        cx: &Context,
        sink: &mut dyn FnMut(records::Batch) -> CoreResult<()>,
        problems: &mut Vec<Problem>,
    ) -> CoreResult<()> {
        self.supported(db)?;
        let empty = Overlay::new();
        let overlay = self.overlays.get(&db.id).unwrap_or(&empty);
        records::stream(&self.log, db, overlay, cx, sink, problems)
    }

    /// As [`records`](Self::records) without copying: `each` sees every live record where it was read, for many at
    /// once, and `sink` gets what it made of those of one stretch of keys, in key order, with what could not be read.
    ///
    /// # Errors
    ///
    /// As [`records`](Self::records).
    pub fn visit<R: Default + Send>(
        &self,
        db: &Database,
        cx: &Context,
        each: &(dyn Fn(&mut R, records::RecordRef<'_>) + Sync),
        sink: &mut dyn FnMut(R, Vec<Problem>) -> CoreResult<()>,
        problems: &mut Vec<Problem>,
    ) -> CoreResult<()> {
        self.supported(db)?;
        let empty = Overlay::new();
        let overlay = self.overlays.get(&db.id).unwrap_or(&empty);
        records::visit(&self.log, db, overlay, cx, each, sink, problems)
    }

    fn supported(&self, db: &Database) -> CoreResult<()> {
        if self.has_old_duplicates(db) {
            let name = db.name.as_deref().unwrap_or_default();
            let what = format!("database {name:?}: duplicates in the form of log versions before 8");
            return Err(recovery_core::Error::unsupported(what));
        }
        Ok(())
    }
}

fn read_checkpoint(log: &Log, at: Lsn, problems: &mut Vec<Problem>) -> Option<(Lsn, CkptEnd)> {
    let read = log.entry(at).and_then(|e| match e.decode()? {
        Entry::CkptEnd(c) => Ok(*c),
        _ => Err(FormatError::BadType { found: e.header.kind.number(), at: at.offset().into() }),
    });
    read.map_err(|e| problems.push(Problem::new("end of the checkpoint", at, None, e))).ok().map(|c| (at, c))
}

fn read_tree(log: &Log, at: Lsn, problems: &mut Vec<Problem>) -> Option<(Lsn, DbTree)> {
    let read = log.entry(at).and_then(|e| match e.decode()? {
        Entry::DbTree(t) => Ok(*t),
        _ => Err(FormatError::BadType { found: e.header.kind.number(), at: at.offset().into() }),
    });
    read.map_err(|e| problems.push(Problem::new("root of the trees (DbTree)", at, None, e))).ok().map(|t| (at, t))
}

fn read_map(log: &Log, at: Lsn) -> Result<(DatabaseImpl, bool), FormatError> {
    let e = log.entry(at)?;
    match e.decode()? {
        Entry::Ln(ln) => match ln.body {
            LnBody::Map(db, bits) => Ok((*db, bits & 1 != 0)),
            _ => Err(FormatError::BadType { found: e.header.kind.number(), at: at.offset().into() }),
        },
        _ => Err(FormatError::BadType { found: e.header.kind.number(), at: at.offset().into() }),
    }
}

fn read_name(log: &Log, at: Lsn) -> Result<(i64, bool), FormatError> {
    let e = log.entry(at)?;
    match e.decode()? {
        Entry::Ln(ln) => match ln.body {
            LnBody::Name { id, bits, .. } => Ok((id, bits & 1 != 0)),
            _ => Err(FormatError::BadType { found: e.header.kind.number(), at: at.offset().into() }),
        },
        _ => Err(FormatError::BadType { found: e.header.kind.number(), at: at.offset().into() }),
    }
}

/// Finds the last `CkptEnd` and `DbTree` of a log by reading files backwards until a checkpoint is found: what a
/// tail-only answer needs.
#[must_use]
pub fn last_checkpoint(log: &Log) -> (Option<Lsn>, Option<Lsn>) {
    let mut tree = None;
    for f in log.files.values().rev() {
        let mut ckpt = None;
        let mut last_tree = None;
        super::replay::each_entry(f, 0, |e| {
            let lsn = Lsn::new(f.number, u32::try_from(e.at).unwrap_or(u32::MAX));
            let ok = |kind| Cursor::new(e.item(), e.item_at()).remaining() > 0 && e.header.kind == kind;
            if ok(EntryType::CKPT_END) {
                ckpt = Some(lsn);
            } else if ok(EntryType::DB_TREE) {
                last_tree = Some(lsn);
            }
        });
        tree = tree.max(last_tree);
        if ckpt.is_some() {
            return (ckpt, tree);
        }
    }
    (None, tree)
}
