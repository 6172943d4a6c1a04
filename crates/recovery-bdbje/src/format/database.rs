//! Descriptions of databases (`dbi/DatabaseImpl`, `dbi/DbTree`, `tree/Tree`, `dbi/ReplicatedDatabaseConfig`).
//!
//! | field | when |
//! |---|---|
//! | database id, packed | |
//! | name, byte array | version 16 and id neither 0 nor 1 |
//! | one byte, bit 0: a root follows; then key, LSN (packed), state | |
//! | flags | |
//! | btree comparator, duplicate comparator, byte arrays | |
//! | fanout, packed; before version 8 a second one for duplicates | |
//! | log version in which it was created | |
//! | per-file summaries: count, each a file number and eight numbers | before version 16 |
//! | triggers: count, byte arrays | version 8 |

use recovery_core::Cursor;

use super::{Lsn, Result, packed};

/// Records with the same key are allowed.
pub const DB_DUPLICATES: u8 = 0x01;
/// The database lives as long as the environment is open.
pub const DB_TEMPORARY: u8 = 0x02;
/// Part of the replication stream.
pub const DB_REPLICATED: u8 = 0x04;
/// Local to this node.
pub const DB_NOT_REPLICATED: u8 = 0x08;
/// Keys are stored with their common prefix taken out.
pub const DB_KEY_PREFIXING: u8 = 0x10;

/// The tree's root as its parent knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Key of the reference, of no meaning.
    pub key: Option<Vec<u8>>,
    /// Place of the node.
    pub lsn: Lsn,
    /// State byte of the reference.
    pub state: u8,
}

/// Utilization of one file by one database, as it was stored before version 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DbFileSummary {
    /// File number.
    pub file: i64,
    /// The eight numbers, unexplained.
    pub counts: [i64; 8],
}

/// A database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseImpl {
    /// Id; negative when replicated.
    pub id: i64,
    /// Name, from version 16.
    pub name: Option<Vec<u8>>,
    /// Root of the tree, when there is one.
    pub root: Option<Root>,
    /// Other bits of the byte in which bit 0 says that there is a root.
    pub tree_flags: u8,
    /// `DB_*`.
    pub flags: u8,
    /// Serialised comparator, usually empty.
    pub btree_comparator: Option<Vec<u8>>,
    /// Serialised comparator for duplicates, usually empty.
    pub dup_comparator: Option<Vec<u8>>,
    /// Most slots in a node.
    pub fanout: i32,
    /// Most slots in a node of duplicates, before version 8.
    pub dup_fanout: i32,
    /// Log version in which the database was made.
    pub created_version: u8,
    /// Utilization, before version 16.
    pub summaries: Vec<DbFileSummary>,
    /// Serialised triggers.
    pub triggers: Vec<Option<Vec<u8>>>,
}

impl DatabaseImpl {
    /// A new database without a tree.
    #[must_use]
    pub fn new(id: i64, name: Option<&[u8]>, flags: u8, version: u8) -> Self {
        Self {
            id,
            name: name.map(<[u8]>::to_vec),
            root: None,
            tree_flags: 0,
            flags,
            btree_comparator: Some(Vec::new()),
            dup_comparator: Some(Vec::new()),
            fanout: 128,
            dup_fanout: 0,
            created_version: version,
            summaries: Vec::new(),
            triggers: Vec::new(),
        }
    }

    /// Whether records with the same key are allowed.
    #[must_use]
    pub const fn duplicates(&self) -> bool {
        self.flags & DB_DUPLICATES != 0
    }

    /// Reads the structure.
    ///
    /// # Errors
    ///
    /// When the bytes end or a count is impossible.
    pub fn decode(c: &mut Cursor<'_>, version: u8) -> Result<Self> {
        let id = packed::long(c, "database id")?;
        let owned = |b: Option<&[u8]>| b.map(<[u8]>::to_vec);
        let name = if version >= 16 && id != 0 && id != 1 { owned(packed::bytes(c, "database name")?) } else { None };
        let bits = c.u8("tree flags")?;
        let root = if bits & 1 != 0 {
            let key = owned(packed::bytes(c, "root key")?);
            Some(Root { key, lsn: packed::lsn(c, "root LSN")?, state: c.u8("root state")? })
        } else {
            None
        };
        let flags = c.u8("database flags")?;
        let btree_comparator = owned(packed::bytes(c, "btree comparator")?);
        let dup_comparator = owned(packed::bytes(c, "duplicate comparator")?);
        let fanout = packed::int(c, "fanout")?;
        let dup_fanout = if version < 8 { packed::int(c, "duplicate fanout")? } else { 0 };
        let created_version = c.u8("created in log version")?;
        let summaries = if version < 16 { Self::decode_summaries(c)? } else { Vec::new() };
        let triggers = if version >= 8 { decode_triggers(c)? } else { Vec::new() };
        Ok(Self {
            id,
            name,
            root,
            tree_flags: bits & !1,
            flags,
            btree_comparator,
            dup_comparator,
            fanout,
            dup_fanout,
            created_version,
            summaries,
            triggers,
        })
    }

    fn decode_summaries(c: &mut Cursor<'_>) -> Result<Vec<DbFileSummary>> {
        let n = packed::count(c, 9, "number of file summaries")?;
        let mut all = Vec::with_capacity(n.min(1024));
        for _ in 0..n {
            let file = packed::long(c, "file number")?;
            let mut counts = [0; 8];
            for x in &mut counts {
                *x = packed::long(c, "summary")?;
            }
            all.push(DbFileSummary { file, counts });
        }
        Ok(all)
    }

    /// Appends the structure.
    pub fn encode(&self, out: &mut Vec<u8>, version: u8) {
        packed::put_long(out, self.id);
        if version >= 16 && self.id != 0 && self.id != 1 {
            packed::put_bytes(out, self.name.as_deref());
        }
        match &self.root {
            None => out.push(self.tree_flags),
            Some(r) => {
                out.push(self.tree_flags | 1);
                packed::put_bytes(out, r.key.as_deref());
                packed::put_lsn(out, r.lsn);
                out.push(r.state);
            }
        }
        out.push(self.flags);
        packed::put_bytes(out, self.btree_comparator.as_deref());
        packed::put_bytes(out, self.dup_comparator.as_deref());
        packed::put_long(out, self.fanout.into());
        if version < 8 {
            packed::put_long(out, self.dup_fanout.into());
        }
        out.push(self.created_version);
        if version < 16 {
            packed::put_len(out, self.summaries.len());
            for s in &self.summaries {
                packed::put_long(out, s.file);
                for x in s.counts {
                    packed::put_long(out, x);
                }
            }
        }
        if version >= 8 {
            encode_triggers(out, &self.triggers);
        }
    }
}

pub(super) fn decode_triggers(c: &mut Cursor<'_>) -> Result<Vec<Option<Vec<u8>>>> {
    let n = packed::count(c, 1, "number of triggers")?;
    (0..n).map(|_| Ok(packed::bytes(c, "trigger")?.map(<[u8]>::to_vec))).collect()
}

pub(super) fn encode_triggers(out: &mut Vec<u8>, triggers: &[Option<Vec<u8>>]) {
    packed::put_len(out, triggers.len());
    for t in triggers {
        packed::put_bytes(out, t.as_deref());
    }
}

/// Roots of the two system trees: the id database (0) and the name database (1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbTree {
    /// Last local database id given out.
    pub last_local: i64,
    /// Last replicated database id given out.
    pub last_replicated: i64,
    /// Database 0: id to description.
    pub id_db: DatabaseImpl,
    /// Database 1: name to id.
    pub name_db: DatabaseImpl,
    /// 1: the environment is replicated; 4: duplicates were converted.
    pub flags: u8,
    /// Log version of the first open, from version 15.
    pub initial_version: Option<i32>,
}

impl DbTree {
    /// Reads the item.
    ///
    /// # Errors
    ///
    /// When the bytes end or a count is impossible.
    pub fn decode(c: &mut Cursor<'_>, version: u8) -> Result<Self> {
        let mut id =
            |name| -> Result<i64> { Ok(if version >= 8 { c.i64_le(name)? } else { i64::from(c.i32_le(name)?) }) };
        let (last_local, last_replicated) = (id("last local database id")?, id("last replicated database id")?);
        let id_db = DatabaseImpl::decode(c, version)?;
        let name_db = DatabaseImpl::decode(c, version)?;
        let flags = c.u8("environment flags")?;
        let initial_version = if version >= 15 { Some(packed::int(c, "initial log version")?) } else { None };
        Ok(Self { last_local, last_replicated, id_db, name_db, flags, initial_version })
    }

    /// Appends the item.
    pub fn encode(&self, out: &mut Vec<u8>, version: u8) {
        for v in [self.last_local, self.last_replicated] {
            if version >= 8 {
                out.extend_from_slice(&v.to_le_bytes());
            } else {
                out.extend_from_slice(&i32::try_from(v).unwrap_or(0).to_le_bytes());
            }
        }
        self.id_db.encode(out, version);
        self.name_db.encode(out, version);
        out.push(self.flags);
        if version >= 15 {
            packed::put_long(out, self.initial_version.unwrap_or(-1).into());
        }
    }
}
