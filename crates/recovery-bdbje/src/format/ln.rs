//! Records (`log/entry/LNLogEntry`, `NameLNLogEntry`, `tree/LN`, `MapLN`, `NameLN`, `FileSummaryLN`).
//!
//! | field | when |
//! |---|---|
//! | flags | version 12 |
//! | flags2 | version 16 |
//! | database id, packed | |
//! | abort LSN, packed | transactional, and flag `20` or before version 12 |
//! | flags | transactional before version 12; others in version 11 |
//! | transaction id, LSN of the transaction's previous record | transactional |
//! | abort key, abort data, abort VLSN | version 11, flags `04`, `08`, `10` |
//! | abort expiration, expiration | version 12, flags `40`, `80` |
//! | prior size, prior file | version 16, flags2 `01`, `02` |
//! | node id | before version 8 |
//! | data length (-1: deletion), data | |
//! | what the type adds | |
//! | key: the rest of the item | |

use recovery_core::Cursor;

use super::database::{DatabaseImpl, decode_triggers, encode_triggers};
use super::{EntryType, FormatError, Lsn, Result, packed};

/// The abort version is a deletion.
pub const ABORT_KNOWN_DELETED: u8 = 0x01;
/// The record is embedded in its BIN.
pub const EMBEDDED: u8 = 0x02;
const HAVE_ABORT_KEY: u8 = 0x04;
const HAVE_ABORT_DATA: u8 = 0x08;
const HAVE_ABORT_VLSN: u8 = 0x10;
const HAVE_ABORT_LSN: u8 = 0x20;
const HAVE_ABORT_EXPIRATION: u8 = 0x40;
const HAVE_EXPIRATION: u8 = 0x80;
const HAVE_PRIOR_SIZE: u8 = 0x01;
const HAVE_PRIOR_FILE: u8 = 0x02;

/// The transaction a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LnTxn {
    /// Id; negative when replicated.
    pub id: i64,
    /// The transaction's previous record.
    pub prev: Lsn,
}

/// What operation on a database a name record stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameOp {
    /// Created, or its configuration changed (5), with the replicated configuration.
    Config {
        /// 1: create; 5: update of the configuration.
        op: u8,
        /// Flags of the database.
        flags: u8,
        /// Most slots in a node.
        fanout: i32,
        /// Most slots in a node of duplicates, before version 8.
        dup_fanout: i32,
        /// Serialised comparator.
        btree_comparator: Option<Vec<u8>>,
        /// Serialised comparator for duplicates.
        dup_comparator: Option<Vec<u8>>,
        /// Serialised triggers.
        triggers: Vec<Option<Vec<u8>>>,
    },
    /// Truncated: the id of the database before.
    Truncate(i64),
    /// 0: none; 2: removed; 4: renamed; anything else unexplained.
    Other(u8),
}

/// What the type adds to a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LnBody<'a> {
    /// Nothing.
    User,
    /// A database's description and whether it is deleted.
    Map(Box<DatabaseImpl>, u8),
    /// A database's id, whether the name is deleted, and the operation.
    Name {
        /// Id of the database.
        id: i64,
        /// Bit 0: the name is deleted.
        bits: u8,
        /// The operation.
        op: NameOp,
    },
    /// Utilization of a file; absent in a deletion.
    Summary(Option<FileSummary<'a>>),
    /// Count of duplicates, in old files.
    DupCount(i32),
    /// Deleted duplicate, in old files: the data that served as key.
    DelDup(Option<&'a [u8]>),
}

/// Utilization of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSummary<'a> {
    /// Total count and size; count and size of tree nodes; count, size and largest size of records; obsolete nodes;
    /// obsolete records; their size; how many sizes were counted. The largest size is 0 before version 8.
    pub counts: [i32; 11],
    /// Number of packed offsets of obsolete entries.
    pub offsets: i32,
    /// The packed offsets, two bytes each.
    pub packed: &'a [u8],
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LnEntry<'a> {
    /// Type of the entry.
    pub kind: EntryType,
    /// Flags.
    pub flags: u8,
    /// Flags of version 16.
    pub flags2: u8,
    /// Database; negative when replicated.
    pub db: i64,
    /// Transaction, of transactional types.
    pub txn: Option<LnTxn>,
    /// Version before the transaction.
    pub abort_lsn: Lsn,
    /// Its key, when it differs.
    pub abort_key: Option<Option<&'a [u8]>>,
    /// Its data, when embedded.
    pub abort_data: Option<Option<&'a [u8]>>,
    /// Its VLSN.
    pub abort_vlsn: Option<i64>,
    /// Its expiration.
    pub abort_expiration: Option<i32>,
    /// Expiration: negative hours or positive days since the epoch.
    pub expiration: Option<i32>,
    /// Size of the version before.
    pub prior_size: Option<i32>,
    /// File of the version before.
    pub prior_file: Option<i64>,
    /// Node id, before version 8.
    pub node_id: Option<i64>,
    /// Data; `None` is a deletion.
    pub data: Option<&'a [u8]>,
    /// What the type adds.
    pub body: LnBody<'a>,
    /// Complete key.
    pub key: &'a [u8],
}

impl<'a> LnEntry<'a> {
    /// A record with nothing but what every record has, for writing.
    #[must_use]
    pub const fn new(kind: EntryType, db: i64, txn: Option<LnTxn>, key: &'a [u8], data: Option<&'a [u8]>) -> Self {
        Self {
            kind,
            flags: 0,
            flags2: 0,
            db,
            txn,
            abort_lsn: Lsn::NULL,
            abort_key: None,
            abort_data: None,
            abort_vlsn: None,
            abort_expiration: None,
            expiration: None,
            prior_size: None,
            prior_file: None,
            node_id: None,
            data,
            body: LnBody::User,
            key,
        }
    }

    /// The version before the transaction is a deletion.
    #[must_use]
    pub const fn abort_known_deleted(&self) -> bool {
        self.flags & ABORT_KNOWN_DELETED != 0
    }

    /// Whether the record deletes its key.
    #[must_use]
    pub fn is_deletion(&self) -> bool {
        match &self.body {
            LnBody::Map(_, bits) | LnBody::Name { bits, .. } => bits & 1 != 0,
            LnBody::Summary(s) => s.is_none(),
            _ => self.data.is_none() || self.kind.is_delete(),
        }
    }

    /// Reads the item.
    ///
    /// # Errors
    ///
    /// When the bytes end or a count is impossible.
    #[inline]
    pub fn decode(c: &mut Cursor<'a>, kind: EntryType, version: u8) -> Result<Self> {
        let (mut flags, mut flags2) = (0, 0);
        if version >= 12 {
            flags = c.u8("flags")?;
        }
        if version >= 16 {
            flags2 = c.u8("flags2")?;
        }
        let mut e = Self::new(kind, packed::long(c, "database id")?, None, &[], None);
        if kind.is_transactional_ln() {
            if version < 12 || flags & HAVE_ABORT_LSN != 0 {
                e.abort_lsn = packed::lsn(c, "abort LSN")?;
            }
            if version < 12 {
                flags = c.u8("flags")?;
            }
            e.txn = Some(LnTxn {
                id: packed::long(c, "transaction id")?,
                prev: packed::lsn(c, "previous LSN of the transaction")?,
            });
        } else if version == 11 {
            flags = c.u8("flags")?;
        }
        (e.flags, e.flags2) = (flags, flags2);
        e.decode_optional(c, version)?;
        if version < 8 {
            e.node_id = Some(packed::long(c, "node id")?);
        }
        e.data = packed::bytes(c, "data")?;
        e.decode_body(c, version)?;
        Ok(e)
    }

    fn decode_optional(&mut self, c: &mut Cursor<'a>, version: u8) -> Result<()> {
        if version >= 11 {
            if self.flags & HAVE_ABORT_KEY != 0 {
                self.abort_key = Some(packed::bytes(c, "abort key")?);
            }
            if self.flags & HAVE_ABORT_DATA != 0 {
                self.abort_data = Some(packed::bytes(c, "abort data")?);
            }
            if self.flags & HAVE_ABORT_VLSN != 0 {
                self.abort_vlsn = Some(packed::long(c, "abort VLSN")?);
            }
        }
        if version >= 12 {
            if self.flags & HAVE_ABORT_EXPIRATION != 0 {
                self.abort_expiration = Some(packed::int(c, "abort expiration")?);
            }
            if self.flags & HAVE_EXPIRATION != 0 {
                self.expiration = Some(packed::int(c, "expiration")?);
            }
        }
        if self.flags2 & HAVE_PRIOR_SIZE != 0 {
            self.prior_size = Some(packed::int(c, "prior size")?);
        }
        if self.flags2 & HAVE_PRIOR_FILE != 0 {
            self.prior_file = Some(packed::long(c, "prior file")?);
        }
        Ok(())
    }

    fn decode_body(&mut self, c: &mut Cursor<'a>, version: u8) -> Result<()> {
        match self.kind.number() {
            3 | 4 => {
                let db = DatabaseImpl::decode(c, version)?;
                self.body = LnBody::Map(Box::new(db), c.u8("MapLN flags")?);
            }
            5 | 6 => return self.decode_name(c, version),
            7 | 8 => {
                self.key = key_with_length(c)?;
                self.body = LnBody::DelDup(packed::bytes(c, "data used as key")?);
                return Ok(());
            }
            9 | 10 => self.body = LnBody::DupCount(packed::int(c, "count of duplicates")?),
            11 => {
                let summary = if self.data.is_some() { Some(FileSummary::decode(c, version)?) } else { None };
                self.body = LnBody::Summary(summary);
            }
            _ => {}
        }
        self.key = c.take(c.remaining(), "key")?;
        Ok(())
    }

    fn decode_name(&mut self, c: &mut Cursor<'a>, version: u8) -> Result<()> {
        let id = packed::long(c, "database id")?;
        let bits = c.u8("NameLN flags")?;
        self.key = key_with_length(c)?;
        let op = match c.u8("operation")? {
            op @ (1 | 5) => NameOp::Config {
                op,
                flags: c.u8("database flags")?,
                fanout: packed::int(c, "fanout")?,
                dup_fanout: if version < 8 { packed::int(c, "duplicate fanout")? } else { 0 },
                btree_comparator: packed::bytes(c, "btree comparator")?.map(<[u8]>::to_vec),
                dup_comparator: packed::bytes(c, "duplicate comparator")?.map(<[u8]>::to_vec),
                triggers: if version >= 8 { decode_triggers(c)? } else { Vec::new() },
            },
            3 => NameOp::Truncate(packed::long(c, "old database id")?),
            op => NameOp::Other(op),
        };
        self.body = LnBody::Name { id, bits, op };
        Ok(())
    }

    /// Appends the item.
    pub fn encode(&self, out: &mut Vec<u8>, version: u8) {
        if version >= 12 {
            out.push(self.flags);
        }
        if version >= 16 {
            out.push(self.flags2);
        }
        packed::put_long(out, self.db);
        if let Some(txn) = self.txn {
            if version < 12 || self.flags & HAVE_ABORT_LSN != 0 {
                packed::put_lsn(out, self.abort_lsn);
            }
            if version < 12 {
                out.push(self.flags);
            }
            packed::put_long(out, txn.id);
            packed::put_lsn(out, txn.prev);
        } else if version == 11 {
            out.push(self.flags);
        }
        self.encode_optional(out);
        if version < 8 {
            packed::put_long(out, self.node_id.unwrap_or(0));
        }
        packed::put_bytes(out, self.data);
        self.encode_body(out, version);
    }

    fn encode_optional(&self, out: &mut Vec<u8>) {
        if let Some(k) = self.abort_key {
            packed::put_bytes(out, k);
        }
        if let Some(d) = self.abort_data {
            packed::put_bytes(out, d);
        }
        if let Some(v) = self.abort_vlsn {
            packed::put_long(out, v);
        }
        for v in [self.abort_expiration, self.expiration, self.prior_size].into_iter().flatten() {
            packed::put_long(out, v.into());
        }
        if let Some(v) = self.prior_file {
            packed::put_long(out, v);
        }
    }

    fn encode_body(&self, out: &mut Vec<u8>, version: u8) {
        match &self.body {
            LnBody::User | LnBody::Summary(None) => {}
            LnBody::Map(db, bits) => {
                db.encode(out, version);
                out.push(*bits);
            }
            LnBody::Summary(Some(s)) => s.encode(out, version),
            LnBody::DupCount(n) => packed::put_long(out, (*n).into()),
            LnBody::DelDup(data) => {
                packed::put_bytes(out, Some(self.key));
                packed::put_bytes(out, *data);
                return;
            }
            LnBody::Name { id, bits, op } => {
                packed::put_long(out, *id);
                out.push(*bits);
                packed::put_bytes(out, Some(self.key));
                op.encode(out, version);
                return;
            }
        }
        out.extend_from_slice(self.key);
    }
}

/// A key with its length; a null key reads as empty, as there is none.
fn key_with_length<'a>(c: &mut Cursor<'a>) -> Result<&'a [u8]> {
    let at = c.offset();
    packed::bytes(c, "key")?.ok_or(FormatError::Invalid { field: "key length", at, found: -1 })
}

impl NameOp {
    fn encode(&self, out: &mut Vec<u8>, version: u8) {
        match self {
            Self::Config { op, flags, fanout, dup_fanout, btree_comparator, dup_comparator, triggers } => {
                out.extend_from_slice(&[*op, *flags]);
                packed::put_long(out, (*fanout).into());
                if version < 8 {
                    packed::put_long(out, (*dup_fanout).into());
                }
                packed::put_bytes(out, btree_comparator.as_deref());
                packed::put_bytes(out, dup_comparator.as_deref());
                if version >= 8 {
                    encode_triggers(out, triggers);
                }
            }
            Self::Truncate(old) => {
                out.push(3);
                packed::put_long(out, *old);
            }
            Self::Other(op) => out.push(*op),
        }
    }

    /// JE's name of the operation.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Config { op: 1, .. } => "CREATE",
            Self::Config { .. } => "UPDATE_CONFIG",
            Self::Truncate(_) => "TRUNCATE",
            Self::Other(0) => "NONE",
            Self::Other(2) => "REMOVE",
            Self::Other(4) => "RENAME",
            Self::Other(_) => "?",
        }
    }
}

impl<'a> FileSummary<'a> {
    fn decode(c: &mut Cursor<'a>, version: u8) -> Result<Self> {
        let mut counts = [0; 11];
        for (i, x) in counts.iter_mut().enumerate() {
            if i != 6 || version >= 8 {
                *x = c.i32_le("file summary")?;
            }
        }
        let offsets = packed::int(c, "number of offsets")?;
        let at = c.offset();
        let n = packed::long(c, "length of offsets")?;
        let size = u64::try_from(n).ok().and_then(|n| n.checked_mul(2));
        let size = size.ok_or(FormatError::Invalid { field: "length of offsets", at, found: n })?;
        Ok(Self { counts, offsets, packed: c.take_u64(size, "offsets")? })
    }

    fn encode(&self, out: &mut Vec<u8>, version: u8) {
        for (i, x) in self.counts.iter().enumerate() {
            if i != 6 || version >= 8 {
                out.extend_from_slice(&x.to_le_bytes());
            }
        }
        packed::put_long(out, self.offsets.into());
        packed::put_len(out, self.packed.len() / 2);
        out.extend_from_slice(self.packed);
    }
}
