//! Tree nodes (`log/entry/INLogEntry`, `BINDeltaLogEntry`, `tree/IN`, `tree/BIN`).
//!
//! Entry: database id (packed), LSN of the last full version, from version 8 LSN of the last delta; then the node:
//!
//! | field | note |
//! |---|---|
//! | expiration base, packed | BIN and delta, version 12; -1: no expiration column |
//! | node id, packed; identifier key, byte array | |
//! | flags | 1 root, 2 key prefix, 4 last-logged sizes, 8 bloom filter, 16 VLSN column, 32 expiration in hours |
//! | key prefix, byte array | flag 2 |
//! | slots, level, capacity, packed | |
//! | compact byte; then the base file number, i32 | when compact |
//! | slots | |
//! | full count, full capacity, bloom filter | deltas, version 10 |
//!
//! Slot: key behind the prefix, LSN (compact: one signed byte and three bytes; else eight bytes), state, last-logged
//! size (flag 4, not embedded), VLSN (flag 16, embedded), expiration offset.

use std::borrow::Cow;

use recovery_core::Cursor;

use super::{EntryType, FormatError, Lsn, Result, packed};

/// The slot's record is gone for good.
pub const KNOWN_DELETED: u8 = 0x01;
/// Changed since the last full version.
pub const DIRTY: u8 = 0x02;
/// The slot's record is deleted.
pub const PENDING_DELETED: u8 = 0x08;
/// The record lies in the slot.
pub const EMBEDDED: u8 = 0x10;
/// With [`EMBEDDED`]: the record has no data.
pub const NO_DATA: u8 = 0x20;

const ROOT: u8 = 1;
const PREFIX: u8 = 2;
const SIZES: u8 = 4;
const BLOOM: u8 = 8;
const VLSNS: u8 = 16;

/// One slot as it lies in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot<'a> {
    /// Key behind the prefix; in an embedded slot the two-part key of key and data.
    pub raw_key: &'a [u8],
    /// Place of the record, or of the child.
    pub lsn: Lsn,
    /// State.
    pub state: u8,
    /// Size of the record's entry.
    pub size: Option<i32>,
    /// VLSN of an embedded record.
    pub vlsn: Option<i64>,
    /// Expiration, relative to the base.
    pub expiration: Option<i32>,
}

impl<'a> Slot<'a> {
    /// Whether the record counts as deleted.
    #[must_use]
    pub const fn is_dead(&self) -> bool {
        self.state & (KNOWN_DELETED | PENDING_DELETED) != 0
    }

    /// Key without prefix, and the data when they lie in the slot.
    ///
    /// # Errors
    ///
    /// When the two-part key does not hold what it says.
    pub fn parts(&self) -> Result<(&'a [u8], Option<&'a [u8]>)> {
        if self.state & NO_DATA != 0 {
            Ok((self.raw_key, Some(&[])))
        } else if self.state & EMBEDDED != 0 {
            packed::split_two_part(self.raw_key).map(|(k, d)| (k, Some(d)))
        } else {
            Ok((self.raw_key, None))
        }
    }
}

/// A node: IN, BIN or the changes of a BIN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    /// Type of the entry.
    pub kind: EntryType,
    /// Database.
    pub db: i64,
    /// Last full version, null for none.
    pub prev_full: Lsn,
    /// Last delta, null for none.
    pub prev_delta: Lsn,
    /// Base of expirations; -1 for none.
    pub expiration_base: i32,
    /// Id of the node.
    pub id: i64,
    /// Any key that leads to the node.
    pub id_key: Option<&'a [u8]>,
    /// Flags.
    pub flags: u8,
    /// Common begin of all keys.
    pub prefix: Option<&'a [u8]>,
    /// Level: low 16 bits 1 for a BIN; `10000` main tree, `20000` mapping tree.
    pub level: i32,
    /// Capacity.
    pub capacity: i32,
    /// Base file number, when LSNs are compact.
    pub base_file: Option<i32>,
    /// The byte that says whether they are.
    pub compact: u8,
    /// Slots.
    pub slots: Vec<Slot<'a>>,
    /// Slots and capacity of the full node, and bloom filter; deltas of version 10 and later.
    pub delta: Option<(i32, i32, Option<Option<&'a [u8]>>)>,
    /// What old duplicate trees add: main key, and for DIN the reference to the count.
    pub dup: Option<DupNode<'a>>,
}

/// What old duplicate trees add to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DupNode<'a> {
    /// Main key.
    pub key: Option<&'a [u8]>,
    /// The byte before the reference, of a DIN.
    pub bits: Option<u8>,
    /// Reference to the count: key, LSN, state.
    pub count: Option<(Option<&'a [u8]>, Lsn, u8)>,
}

impl<'a> Node<'a> {
    /// A bottom node.
    #[must_use]
    pub const fn is_bin(&self) -> bool {
        self.level & 0xffff == 1
    }

    /// Root of its tree.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.flags & ROOT != 0
    }

    /// Holds changes only.
    #[must_use]
    pub fn is_delta(&self) -> bool {
        self.kind == EntryType::NEW_BIN_DELTA
    }

    /// Full key of a slot.
    ///
    /// # Errors
    ///
    /// When the slot's two-part key is wrong.
    pub fn key(&self, slot: &Slot<'a>) -> Result<Cow<'a, [u8]>> {
        let (suffix, _) = slot.parts()?;
        Ok(match self.prefix {
            None | Some([]) => Cow::Borrowed(suffix),
            Some(p) => Cow::Owned([p, suffix].concat()),
        })
    }

    /// Reads the item.
    ///
    /// # Errors
    ///
    /// When the bytes end or a count is impossible.
    pub fn decode(c: &mut Cursor<'a>, kind: EntryType, version: u8) -> Result<Self> {
        let db = packed::long(c, "database id")?;
        let mut prev_full = packed::lsn(c, "last full LSN")?;
        let prev_delta = if version >= 8 { packed::lsn(c, "last delta LSN")? } else { Lsn::NULL };
        let delta_kind = kind == EntryType::NEW_BIN_DELTA;
        let bottom = delta_kind || kind == EntryType::BIN || kind.number() == 15;
        let expiration_base = if bottom && version >= 12 { packed::int(c, "expiration base")? } else { -1 };
        let id = packed::long(c, "node id")?;
        let id_key = packed::bytes(c, "identifier key")?;
        let flags = c.u8("node flags")?;
        let prefix = if flags & PREFIX != 0 { packed::bytes(c, "key prefix")? } else { None };
        let n = packed::count(c, 6, "number of slots")?;
        let level = packed::int(c, "level")?;
        let capacity = packed::int(c, "capacity")?;
        let compact = c.u8("compact")?;
        let base_file = if compact == 0 { None } else { Some(c.i32_le("base file number")?) };
        let mut slots = Vec::with_capacity(n);
        for _ in 0..n {
            slots.push(decode_slot(c, flags, base_file, expiration_base != -1)?);
        }
        let delta = if delta_kind && version >= 10 {
            let (full, cap) = (packed::int(c, "full slots")?, packed::int(c, "full capacity")?);
            let bloom = if flags & BLOOM != 0 { Some(packed::bytes(c, "bloom filter")?) } else { None };
            Some((full, cap, bloom))
        } else {
            None
        };
        if delta_kind && version == 9 {
            prev_full = packed::lsn(c, "last full LSN")?;
        }
        let dup = decode_dup(c, kind)?;
        Ok(Self {
            kind,
            db,
            prev_full,
            prev_delta,
            expiration_base,
            id,
            id_key,
            flags,
            prefix,
            level,
            capacity,
            base_file,
            compact,
            slots,
            delta,
            dup,
        })
    }

    /// Appends the item.
    pub fn encode(&self, out: &mut Vec<u8>, version: u8) {
        packed::put_long(out, self.db);
        packed::put_lsn(out, self.prev_full);
        if version >= 8 {
            packed::put_lsn(out, self.prev_delta);
        }
        let bottom = self.is_delta() || self.kind == EntryType::BIN || self.kind.number() == 15;
        if bottom && version >= 12 {
            packed::put_long(out, self.expiration_base.into());
        }
        packed::put_long(out, self.id);
        packed::put_bytes(out, self.id_key);
        out.push(self.flags);
        if self.flags & PREFIX != 0 {
            packed::put_bytes(out, self.prefix);
        }
        packed::put_len(out, self.slots.len());
        packed::put_long(out, self.level.into());
        packed::put_long(out, self.capacity.into());
        out.push(self.compact);
        if let Some(b) = self.base_file {
            out.extend_from_slice(&b.to_le_bytes());
        }
        for s in &self.slots {
            encode_slot(out, s, self.base_file);
        }
        if let Some((full, cap, bloom)) = self.delta {
            packed::put_long(out, full.into());
            packed::put_long(out, cap.into());
            if let Some(b) = bloom {
                packed::put_bytes(out, b);
            }
        }
        if self.is_delta() && version == 9 {
            packed::put_lsn(out, self.prev_full);
        }
        if let Some(d) = self.dup {
            encode_dup(out, &d);
        }
    }
}

#[inline]
fn decode_slot<'a>(c: &mut Cursor<'a>, flags: u8, base: Option<i32>, expires: bool) -> Result<Slot<'a>> {
    let raw_key = packed::bytes(c, "slot key")?.unwrap_or_default();
    let lsn = match base {
        None => Lsn(c.i64_le("slot LSN")?.cast_unsigned()),
        Some(base) => {
            let at = c.offset();
            let delta = c.i8("file difference")?;
            let [a, b, d] = c.array::<3>("slot offset")?;
            let offset = u32::from_le_bytes([a, b, d, 0]);
            if offset == 0x00ff_ffff {
                Lsn::NULL
            } else {
                let file = i64::from(base).wrapping_add(delta.into());
                let file = u32::try_from(file);
                Lsn::new(file.map_err(|_| FormatError::Invalid { field: "slot file", at, found: base.into() })?, offset)
            }
        }
    };
    let state = c.u8("slot state")?;
    let embedded = state & EMBEDDED != 0;
    let size = if flags & SIZES != 0 && !embedded { Some(packed::int(c, "last logged size")?) } else { None };
    let vlsn = if flags & VLSNS != 0 && embedded { Some(packed::long(c, "slot VLSN")?) } else { None };
    let expiration = if expires { Some(packed::int(c, "expiration")?) } else { None };
    Ok(Slot { raw_key, lsn, state, size, vlsn, expiration })
}

fn encode_slot(out: &mut Vec<u8>, s: &Slot<'_>, base: Option<i32>) {
    packed::put_bytes(out, Some(s.raw_key));
    match base {
        None => out.extend_from_slice(&s.lsn.0.to_le_bytes()),
        Some(_) if s.lsn.is_null() => out.extend_from_slice(&[0, 0xff, 0xff, 0xff]),
        Some(b) => {
            let delta = i64::from(s.lsn.file()).wrapping_sub(b.into());
            out.push(i8::try_from(delta).unwrap_or(0).cast_unsigned());
            out.extend(s.lsn.offset().to_le_bytes().into_iter().take(3));
        }
    }
    out.push(s.state);
    if let Some(n) = s.size {
        packed::put_long(out, n.into());
    }
    if let Some(v) = s.vlsn {
        packed::put_long(out, v);
    }
    if let Some(e) = s.expiration {
        packed::put_long(out, e.into());
    }
}

fn decode_dup<'a>(c: &mut Cursor<'a>, kind: EntryType) -> Result<Option<DupNode<'a>>> {
    if !matches!(kind.number(), 14 | 15) {
        return Ok(None);
    }
    let key = packed::bytes(c, "main key")?;
    if kind.number() == 15 {
        return Ok(Some(DupNode { key, bits: None, count: None }));
    }
    let bits = c.u8("count reference")?;
    let count = if bits & 1 != 0 {
        Some((packed::bytes(c, "count key")?, packed::lsn(c, "count LSN")?, c.u8("count state")?))
    } else {
        None
    };
    Ok(Some(DupNode { key, bits: Some(bits), count }))
}

fn encode_dup(out: &mut Vec<u8>, d: &DupNode<'_>) {
    packed::put_bytes(out, d.key);
    if let Some(bits) = d.bits {
        out.push(bits);
    }
    if let Some((key, lsn, state)) = d.count {
        packed::put_bytes(out, key);
        packed::put_lsn(out, lsn);
        out.push(state);
    }
}
