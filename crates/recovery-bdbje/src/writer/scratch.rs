//! A whole environment from nothing but names, flags and records.
//!
//! A small first checkpoint and then plain records: what a node looks like that crashed after its first checkpoint. JE
//! builds all trees from it. Accepted by JE 7.3.8, 7.5.17 and 18.3.20. The root nodes in front of the records of each
//! database are what makes recovery keep them.

use super::{IndexBuilder, LogWriter, TxnWriter, writable};
use crate::format::checkpoint::{CkptEnd, CkptStart};
use crate::format::database::{
    DB_DUPLICATES, DB_KEY_PREFIXING, DB_NOT_REPLICATED, DB_REPLICATED, DatabaseImpl, DbTree,
};
use crate::format::group::{GROUP_DB, GROUP_DB_ID, GROUP_KEY, GroupRecord, NodeRecord};
use crate::format::ln::{LnBody, LnEntry, NameOp};
use crate::format::vlsn_index::{RANGE_KEY, Range, VLSN_DB};
use crate::format::{Entry, EntryType, Lsn, packed};

/// Records in one transaction.
const BATCH: u64 = 200;

/// What does not depend on the records.
#[derive(Clone, Debug)]
pub struct Scratch {
    /// Log version of the JE that will open it; 14, 15 or 17 are written.
    pub version: u8,
    /// ms since the epoch.
    pub now: i64,
    /// VLSN of the first entry of the stream: the old last one plus one, so that no old VLSN is used again.
    pub first_vlsn: i64,
    /// The group's record.
    pub group: GroupRecord,
    /// Our own record.
    pub node: NodeRecord,
    /// Largest file.
    pub file_max: u64,
}

/// Writes an environment, database after database.
#[derive(Debug)]
pub struct ScratchWriter {
    w: LogWriter,
    index: IndexBuilder,
    vlsn: i64,
    now: i64,
    master: i64,
    next_db: i64,
    next_txn: i64,
    next_node: i64,
    index_db: Option<i64>,
    open: Option<TxnWriter>,
    db: i64,
    duplicates: bool,
    rooted: bool,
}

fn tuple_long(v: i64) -> Vec<u8> {
    let mut key = Vec::with_capacity(8);
    packed::put_tuple_long(&mut key, v);
    key
}

impl ScratchWriter {
    /// Writes what comes before the first database: checkpoint, system trees, index, group.
    #[must_use]
    pub fn begin(s: &Scratch) -> Self {
        let version = writable(s.version);
        let w = LogWriter::new(version, 0, 0, s.now, s.file_max);
        let mut me = Self {
            w,
            index: IndexBuilder::default(),
            vlsn: s.first_vlsn.saturating_sub(1),
            now: s.now,
            master: s.node.id.into(),
            next_db: GROUP_DB_ID,
            next_txn: -11,
            next_node: 1,
            index_db: None,
            open: None,
            db: 0,
            duplicates: false,
            rooted: false,
        };
        me.checkpoint(s.now);
        me.system_roots();
        if s.first_vlsn != 1 {
            me.index_database();
        }
        me.group(s);
        me
    }

    fn checkpoint(&mut self, now: i64) {
        let v = self.w.version();
        let mut id_db = DatabaseImpl::new(0, None, DB_NOT_REPLICATED, v);
        let mut name_db = DatabaseImpl::new(1, None, DB_REPLICATED, v);
        for db in [&mut id_db, &mut name_db] {
            db.btree_comparator = Some(Vec::new());
            db.dup_comparator = Some(Vec::new());
        }
        let initial_version = (v >= 15).then_some(i32::from(v));
        let tree = DbTree { last_local: 1, last_replicated: -256, id_db, name_db, flags: 5, initial_version };
        let root = self.w.entry(EntryType::DB_TREE, 0, None, &Entry::DbTree(Box::new(tree)));
        let start = CkptStart { time: now, id: 1, invoker: Some(b"recovery") };
        let start = self.w.entry(EntryType::CKPT_START, 0, None, &Entry::CkptStart(start));
        let end = CkptEnd {
            invoker: Some(b"recovery".to_vec()),
            time: now,
            start,
            flags: 1,
            root: Some(root),
            first_active: start,
            last_ids: [0, -9, 1, -256, 0, -10],
            last_extinctions: Some([0, 0]),
            id: 1,
            defunct: None,
        };
        self.w.entry(EntryType::CKPT_END, 0, None, &Entry::CkptEnd(Box::new(end)));
    }

    fn node_ids(&mut self) -> i64 {
        let id = self.next_node;
        self.next_node = self.next_node.saturating_add(2);
        id
    }

    fn system_roots(&mut self) {
        let id = self.node_ids();
        self.w.root(1, id, GROUP_DB.as_bytes(), false);
        let id = self.node_ids();
        self.w.root(0, id, GROUP_DB_ID.to_string().as_bytes(), true);
    }

    fn next_vlsn(&mut self) -> i64 {
        self.vlsn = self.vlsn.saturating_add(1);
        self.vlsn
    }

    fn take_txn(&mut self) -> i64 {
        let id = self.next_txn;
        self.next_txn = self.next_txn.saturating_sub(1);
        id
    }

    /// The local database of the VLSN index, needed where the first VLSN is not 1.
    fn index_database(&mut self) {
        let (id, txn) = (2, TxnWriter::new(1));
        self.index_db = Some(id);
        let config = DatabaseImpl::new(id, Some(VLSN_DB.as_bytes()), DB_NOT_REPLICATED, self.w.version());
        self.create(txn, VLSN_DB, &config, false);
        let node = self.node_ids();
        self.w.root(id, node, &tuple_long(RANGE_KEY), false);
    }

    /// A database: name, description, commit.
    fn create(&mut self, mut txn: TxnWriter, name: &str, config: &DatabaseImpl, replicated: bool) {
        let mut ln = LnEntry::new(EntryType::NAME_LN_TX, 1, None, name.as_bytes(), Some(&[]));
        ln.body = LnBody::Name {
            id: config.id,
            bits: 0,
            op: NameOp::Config {
                op: 1,
                flags: config.flags,
                fanout: config.fanout,
                dup_fanout: 0,
                btree_comparator: config.btree_comparator.clone(),
                dup_comparator: config.dup_comparator.clone(),
                triggers: Vec::new(),
            },
        };
        let vlsn = replicated.then(|| self.next_vlsn());
        let lsn = txn.record(&mut self.w, vlsn, ln);
        self.note(vlsn, lsn);
        let id = config.id.to_string();
        let mut map = LnEntry::new(EntryType::MAP_LN, 0, None, id.as_bytes(), Some(&[]));
        map.body = LnBody::Map(Box::new(config.clone()), 0);
        self.w.entry(EntryType::MAP_LN, 0, None, &Entry::Ln(Box::new(map)));
        self.commit(txn, replicated);
    }

    fn note(&mut self, vlsn: Option<i64>, lsn: Lsn) {
        if let Some(v) = vlsn {
            self.index.add(v, lsn);
        }
    }

    fn commit(&mut self, txn: TxnWriter, replicated: bool) {
        let vlsn = replicated.then(|| self.next_vlsn());
        let master = if replicated { self.master } else { 0 };
        let lsn = txn.commit(&mut self.w, vlsn, self.now, master);
        self.note(vlsn, lsn);
    }

    fn group(&mut self, s: &Scratch) {
        let config = DatabaseImpl::new(GROUP_DB_ID, Some(GROUP_DB.as_bytes()), DB_REPLICATED, self.w.version());
        let txn = TxnWriter::new(self.take_txn());
        self.create(txn, GROUP_DB, &config, true);
        let node = self.node_ids();
        self.w.root(GROUP_DB_ID, node, GROUP_KEY, false);
        let mut txn = TxnWriter::new(self.take_txn());
        let group = s.group.encode();
        let mut name = s.node.name.as_bytes().to_vec();
        name.push(0);
        let own = s.node.encode();
        for (key, data) in [(GROUP_KEY, &group), (name.as_slice(), &own)] {
            let v = self.next_vlsn();
            let ln = LnEntry::new(EntryType::INS_LN_TX, GROUP_DB_ID, None, key, Some(data));
            let lsn = txn.record(&mut self.w, Some(v), ln);
            self.index.add(v, lsn);
        }
        self.commit(txn, true);
    }

    /// Begins a database; flags and comparators are taken from `like`.
    pub fn database(&mut self, name: &str, like: &DatabaseImpl) {
        self.flush();
        self.next_db = self.next_db.saturating_sub(1);
        let flags = DB_REPLICATED | (like.flags & (DB_DUPLICATES | DB_KEY_PREFIXING));
        let mut config = DatabaseImpl::new(self.next_db, Some(name.as_bytes()), flags, self.w.version());
        config.btree_comparator = like.btree_comparator.clone().or(Some(Vec::new()));
        config.dup_comparator = like.dup_comparator.clone().or(Some(Vec::new()));
        config.fanout = if like.fanout > 3 { like.fanout } else { 128 };
        let txn = TxnWriter::new(self.take_txn());
        self.create(txn, name, &config, true);
        (self.db, self.duplicates, self.rooted) = (self.next_db, flags & DB_DUPLICATES != 0, false);
    }

    /// Appends a record of the database; in one with duplicates `data` is the second part of the key.
    pub fn record(&mut self, key: &[u8], data: &[u8]) {
        let two_part;
        let (key, data): (&[u8], &[u8]) = if self.duplicates {
            two_part = packed::join_two_part(key, data);
            (&two_part, &[])
        } else {
            (key, data)
        };
        if !self.rooted {
            let node = self.node_ids();
            self.w.root(self.db, node, key, false);
            self.rooted = true;
        }
        let mut txn = match self.open.take() {
            Some(t) => t,
            None => TxnWriter::new(self.take_txn()),
        };
        let v = self.next_vlsn();
        let ln = LnEntry::new(EntryType::INS_LN_TX, self.db, None, key, Some(data));
        let lsn = txn.record(&mut self.w, Some(v), ln);
        self.index.add(v, lsn);
        if txn.records >= BATCH {
            self.commit(txn, true);
        } else {
            self.open = Some(txn);
        }
    }

    fn flush(&mut self) {
        if let Some(txn) = self.open.take() {
            self.commit(txn, true);
        }
    }

    /// The files that are full and were not taken before; their numbers follow one another from 0 on.
    #[must_use]
    pub fn take_full(&mut self) -> Vec<Vec<u8>> {
        self.w.take_full()
    }

    /// Writes the index; gives the files that were not taken before and the last VLSN.
    #[must_use]
    pub fn finish(mut self) -> (Vec<Vec<u8>>, i64) {
        self.flush();
        if let (Some(db), Some((first, last))) = (self.index_db, self.index.range()) {
            let mut txn = TxnWriter::new(2);
            for (first, bucket) in std::mem::take(&mut self.index).buckets() {
                let key = tuple_long(first);
                txn.record(&mut self.w, None, LnEntry::new(EntryType::INS_LN_TX, db, None, &key, Some(&bucket)));
            }
            let range = Range { version: 1, first, last, last_sync: last, last_txn_end: last }.encode();
            let key = tuple_long(RANGE_KEY);
            txn.record(&mut self.w, None, LnEntry::new(EntryType::INS_LN_TX, db, None, &key, Some(&range)));
            txn.commit(&mut self.w, None, self.now, 0);
        }
        let last = self.vlsn;
        (self.w.finish().1, last)
    }
}
