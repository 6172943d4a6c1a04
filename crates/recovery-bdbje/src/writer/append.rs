//! The group reset in one small file: a committed transaction behind the last entry of a log.
//!
//! Recovery redoes committed records behind the last checkpoint, so no tree node and no checkpoint is needed, and no
//! existing byte changes. Accepted by JE 7.3.8, 7.5.17 and 18.3.20.

use super::{IndexBuilder, LogWriter, TxnWriter};
use crate::format::group::{GROUP_KEY, GroupRecord, NodeRecord};
use crate::format::ln::LnEntry;
use crate::format::vlsn_index::{RANGE_KEY, Range};
use crate::format::{EntryType, packed};

/// The VLSN index database of the log.
#[derive(Clone, Debug)]
pub struct IndexDb {
    /// Id.
    pub id: i64,
    /// Whether its tree has a root.
    pub rooted: bool,
    /// Keys of its buckets.
    pub buckets: Vec<Vec<u8>>,
    /// Whether a range is there.
    pub range: bool,
}

/// What the appended file is made from.
#[derive(Clone, Debug)]
pub struct Reset {
    /// Log version, that of the last file.
    pub version: u8,
    /// Number of the new file.
    pub file: u32,
    /// Place of the last entry of the file before.
    pub last_entry: u32,
    /// ms since the epoch.
    pub now: i64,
    /// Group database.
    pub group_db: i64,
    /// Whether its tree has a root.
    pub group_rooted: bool,
    /// Whether the group's record is there already.
    pub group_known: bool,
    /// The group's record as it shall be.
    pub group: GroupRecord,
    /// Names of members to delete.
    pub delete: Vec<String>,
    /// Our own record as it shall be.
    pub node: NodeRecord,
    /// Whether a record of that name is there already.
    pub node_known: bool,
    /// Highest visible VLSN.
    pub last_vlsn: i64,
    /// Lowest replicated transaction id in use.
    pub rep_txn: i64,
    /// Highest local transaction id in use.
    pub local_txn: i64,
    /// Highest node id (of trees) in use.
    pub tree_node: i64,
    /// The index, whose head is moved; `None` leaves it alone.
    pub index: Option<IndexDb>,
}

fn name_key(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.push(0);
    key
}

fn long_key(v: i64) -> Vec<u8> {
    let mut key = Vec::with_capacity(8);
    packed::put_tuple_long(&mut key, v);
    key
}

const fn put_kind(known: bool) -> EntryType {
    if known { EntryType::UPD_LN_TX } else { EntryType::INS_LN_TX }
}

impl Reset {
    /// The bytes of the new file, and the VLSN of its commit.
    #[must_use]
    pub fn build(&self) -> (Vec<u8>, i64) {
        let mut w = LogWriter::new(self.version, self.file, self.last_entry, self.now, u64::MAX);
        let mut index = IndexBuilder::default();
        let mut vlsn = self.last_vlsn;
        let mut next = || {
            vlsn = vlsn.saturating_add(1);
            vlsn
        };
        if !self.group_rooted {
            w.root(self.group_db, self.tree_node.saturating_add(1), GROUP_KEY, false);
        }
        let mut txn = TxnWriter::new(self.rep_txn.saturating_sub(1).min(-11));
        let group = self.group.encode();
        let ln = LnEntry::new(put_kind(self.group_known), self.group_db, None, GROUP_KEY, Some(&group));
        let v = next();
        index.add(v, txn.record(&mut w, Some(v), ln));
        for name in &self.delete {
            let key = name_key(name);
            let ln = LnEntry::new(EntryType::DEL_LN_TX, self.group_db, None, &key, None);
            let v = next();
            index.add(v, txn.record(&mut w, Some(v), ln));
        }
        let (key, node) = (name_key(&self.node.name), self.node.encode());
        let ln = LnEntry::new(put_kind(self.node_known), self.group_db, None, &key, Some(&node));
        let v = next();
        index.add(v, txn.record(&mut w, Some(v), ln));
        let v = next();
        index.add(v, txn.commit(&mut w, Some(v), self.now, self.node.id.into()));
        if let Some(db) = &self.index {
            self.move_index(&mut w, db, index, v);
        }
        let (_, files) = w.finish();
        (files.into_iter().next().unwrap_or_default(), v)
    }

    /// Old VLSNs are never served again: the index begins at the first new one.
    fn move_index(&self, w: &mut LogWriter, db: &IndexDb, index: IndexBuilder, last: i64) {
        let range_key = long_key(RANGE_KEY);
        if !db.rooted {
            w.root(db.id, self.tree_node.saturating_add(3), &range_key, false);
        }
        let mut txn = TxnWriter::new(self.local_txn.saturating_add(10));
        for key in &db.buckets {
            txn.record(w, None, LnEntry::new(EntryType::DEL_LN_TX, db.id, None, key, None));
        }
        for (first, bucket) in index.buckets() {
            let key = long_key(first);
            let known = db.buckets.contains(&key);
            txn.record(w, None, LnEntry::new(put_kind(known), db.id, None, &key, Some(&bucket)));
        }
        let first = self.last_vlsn.saturating_add(1);
        let range = Range { version: 1, first, last, last_sync: last, last_txn_end: last }.encode();
        txn.record(w, None, LnEntry::new(put_kind(db.range), db.id, None, &range_key, Some(&range)));
        txn.commit(w, None, self.now, 0);
    }
}
