//! Free inodes, quotas, chunk servers, chunks and patterns: `FREE`, `QUOT`, `CSDB`, `CHNK`, `PATT`.
//!
//! ```text
//! FREE  u32 count, count * (u32 inode, u32 time)
//! QUOT  u32 count, count * (u32 inode, [u32 grace from 0x11], u8 exceeded, u8 flags, u32 time, u32 soft inodes,
//!       u32 hard inodes, u64 soft length, hard length, soft size, hard size, soft real, hard real)
//! CSDB  u32 count, count * (u32 ip, u16 port, [u16 id], [u8 maintenance], [u32 timeout])   0x11, 0x12, 0x13
//! CHNK  u64 nextchunkid, records, end: the fixed part as zeros
//!       u64 id, u32 version, u32 lockedto, [u8 flags from 0x11], [u8 pairs from 0x12; pairs * (u8 class, u24 count);
//!       if pairs > 1: u8 class]      flag 0x80 is bit 8 of pairs
//! PATT  u8 length, u32 euid, u32 egid, u8 priority, u8 mask, u8 class, u16 retention, u8 set, [u8 clear from 0x11],
//!       glob; end: 0, all ones, all ones (9 bytes)
//! ```
//! Source: upstream `filesystem.c`, `csdb.c`, `chunks.c`, `patterns.c` (`*_store`, `*_load`).

use recovery_core::Cursor;

use super::{Decoded, Item, Put, narrow};

/// A freed inode that may not be used again yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeRecord {
    /// Inode.
    pub inode: u32,
    /// When it was freed.
    pub time: u32,
}

impl FreeRecord {
    /// Bytes of a record.
    pub const SIZE: usize = 8;

    /// Reads one record.
    ///
    /// # Errors
    ///
    /// When the bytes are too few.
    pub fn decode(c: &mut Cursor<'_>) -> Decoded<Self> {
        let mut t = *c;
        let r = Self { inode: t.u32_be("free inode")?, time: t.u32_be("free time")? };
        *c = t;
        Ok(r)
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.u32(self.inode);
        out.u32(self.time);
    }
}

/// A quota of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaRecord {
    /// Inode of the directory.
    pub inode: u32,
    /// Grace period in seconds; 0 before 0x11.
    pub grace: u32,
    /// Whether the soft quota is exceeded.
    pub exceeded: u8,
    /// Which limits count.
    pub flags: u8,
    /// When the soft quota was exceeded.
    pub time: u32,
    /// Soft and hard limit of inodes.
    pub inodes: [u32; 2],
    /// Soft and hard limits: length, size, real size.
    pub limits: [u64; 6],
}

impl QuotaRecord {
    /// Bytes of a record.
    #[must_use]
    pub const fn size(version: u8) -> usize {
        if version >= 0x11 { 70 } else { 66 }
    }

    /// Reads one record.
    ///
    /// # Errors
    ///
    /// When the bytes are too few.
    pub fn decode(c: &mut Cursor<'_>, version: u8) -> Decoded<Self> {
        let mut t = *c;
        let inode = t.u32_be("quota inode")?;
        let grace = if version >= 0x11 { t.u32_be("quota grace period")? } else { 0 };
        let exceeded = t.u8("quota exceeded")?;
        let flags = t.u8("quota flags")?;
        let time = t.u32_be("quota time")?;
        let inodes = [t.u32_be("quota soft inodes")?, t.u32_be("quota hard inodes")?];
        let mut limits = [0; 6];
        for l in &mut limits {
            *l = t.u64_be("quota limit")?;
        }
        *c = t;
        Ok(Self { inode, grace, exceeded, flags, time, inodes, limits })
    }

    /// Appends the record.
    pub fn encode(&self, version: u8, out: &mut Vec<u8>) {
        out.u32(self.inode);
        if version >= 0x11 {
            out.u32(self.grace);
        }
        out.u8(self.exceeded);
        out.u8(self.flags);
        out.u32(self.time);
        for v in self.inodes {
            out.u32(v);
        }
        for v in self.limits {
            out.u64(v);
        }
    }
}

/// A chunk server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerRecord {
    /// IPv4 address.
    pub ip: u32,
    /// Port.
    pub port: u16,
    /// Identifier; 0 is none.
    pub id: u16,
    /// 0 off, 1 on, 2 temporary.
    pub maintenance: u8,
    /// Timeout of the maintenance.
    pub timeout: u32,
}

impl ServerRecord {
    /// Bytes of a record.
    #[must_use]
    pub const fn size(version: u8) -> usize {
        match version {
            0..=0x10 => 6,
            0x11 => 8,
            0x12 => 9,
            _ => 13,
        }
    }

    /// Reads one record.
    ///
    /// # Errors
    ///
    /// When the bytes are too few.
    pub fn decode(c: &mut Cursor<'_>, version: u8) -> Decoded<Self> {
        let mut t = *c;
        let ip = t.u32_be("server address")?;
        let port = t.u16_be("server port")?;
        let id = if version >= 0x11 { t.u16_be("server id")? } else { 0 };
        let maintenance = if version >= 0x12 { t.u8("maintenance")? } else { 0 };
        let timeout = if version >= 0x13 { t.u32_be("maintenance timeout")? } else { 0 };
        *c = t;
        Ok(Self { ip, port, id, maintenance, timeout })
    }

    /// Appends the record.
    pub fn encode(&self, version: u8, out: &mut Vec<u8>) {
        out.u32(self.ip);
        out.u16(self.port);
        if version >= 0x11 {
            out.u16(self.id);
        }
        if version >= 0x12 {
            out.u8(self.maintenance);
        }
        if version >= 0x13 {
            out.u32(self.timeout);
        }
    }
}

/// A chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRecord<'a> {
    /// Identifier.
    pub id: u64,
    /// Version as stored: bit 31 allows reading zeros.
    pub version: u32,
    /// Time until which the chunk is locked.
    pub locked: u32,
    /// 1 archive, 2 trash; without the bit that belongs to the number of pairs.
    pub flags: u8,
    /// References by class: 4 bytes each (class, 24-bit count); empty before 0x12.
    pub pairs: &'a [u8],
    /// Class in effect, stored only with more than one pair.
    pub class: u8,
}

impl<'a> ChunkRecord<'a> {
    /// Bytes of the fixed part and of the end.
    #[must_use]
    pub const fn fixed_size(version: u8) -> usize {
        match version {
            0..=0x10 => 16,
            0x11 => 17,
            _ => 18,
        }
    }

    /// Reads one chunk or the end.
    ///
    /// # Errors
    ///
    /// When the bytes are too few; the cursor then has not moved.
    #[inline]
    pub fn decode(c: &mut Cursor<'a>, section: u8) -> Decoded<Item<Self>> {
        let mut t = *c;
        let id = t.u64_be("chunk id")?;
        let version = t.u32_be("chunk version")?;
        let locked = t.u32_be("chunk locked")?;
        let raw = if section >= 0x11 { t.u8("chunk flags")? } else { 0 };
        let (mut pairs, mut class) = (&[] as &[u8], 0);
        if section >= 0x12 {
            let n = usize::from(t.u8("chunk pairs")?) | (usize::from(raw & 0x80) << 1);
            pairs = t.take(n.saturating_mul(4), "chunk pairs")?;
            if n > 1 {
                class = t.u8("chunk class")?;
            }
        }
        *c = t;
        if id == 0 {
            return Ok(Item::End);
        }
        let flags = if section >= 0x12 { raw & 0x7F } else { raw };
        Ok(Item::Record(Self { id, version, locked, flags, pairs, class }))
    }

    /// Appends the chunk.
    #[inline]
    pub fn encode(&self, section: u8, out: &mut Vec<u8>) {
        out.u64(self.id);
        out.u32(self.version);
        out.u32(self.locked);
        let n = self.pairs.len() / 4;
        if section >= 0x12 {
            out.u8(self.flags & 0x7F | if n > 255 { 0x80 } else { 0 });
            out.u8(u8::try_from(n & 0xFF).unwrap_or(0));
            out.extend_from_slice(self.pairs);
            if n > 1 {
                out.u8(self.class);
            }
        } else if section >= 0x11 {
            out.u8(self.flags);
        }
    }
}

/// A rule that sets attributes of new files by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternRecord {
    /// Glob over names.
    pub glob: Vec<u8>,
    /// User the rule is for; all ones is anybody.
    pub euid: u32,
    /// Group the rule is for; all ones is any.
    pub egid: u32,
    /// Higher comes first.
    pub priority: u8,
    /// 1 class, 2 trash retention, 4 extra attributes.
    pub mask: u8,
    /// Storage class.
    pub class: u8,
    /// Trash retention in hours.
    pub retention: u16,
    /// Extra attributes set.
    pub set: u8,
    /// Extra attributes cleared.
    pub clear: u8,
}

impl PatternRecord {
    /// Reads one rule or the end.
    ///
    /// # Errors
    ///
    /// When the bytes are too few.
    pub fn decode(c: &mut Cursor<'_>, version: u8) -> Decoded<Item<Self>> {
        let mut t = *c;
        let n = t.u8("glob length")?;
        let euid = t.u32_be("pattern user")?;
        let egid = t.u32_be("pattern group")?;
        if n == 0 {
            *c = t;
            return Ok(Item::End);
        }
        let priority = t.u8("pattern priority")?;
        let mask = t.u8("pattern mask")?;
        let class = t.u8("pattern class")?;
        let retention = t.u16_be("pattern retention")?;
        let set = t.u8("pattern set")?;
        let clear = if version >= 0x11 { t.u8("pattern clear")? } else { 0 };
        let glob = t.take(usize::from(n), "glob")?.to_vec();
        *c = t;
        Ok(Item::Record(Self { glob, euid, egid, priority, mask, class, retention, set, clear }))
    }

    /// Appends the rule.
    pub fn encode(&self, version: u8, out: &mut Vec<u8>) {
        let n: u8 = narrow(self.glob.len(), u8::MAX);
        out.u8(n);
        out.u32(self.euid);
        out.u32(self.egid);
        out.u8(self.priority);
        out.u8(self.mask);
        out.u8(self.class);
        out.u16(self.retention);
        out.u8(self.set);
        if version >= 0x11 {
            out.u8(self.clear);
        }
        out.extend_from_slice(self.glob.get(..usize::from(n)).unwrap_or_default());
    }

    /// The end of the section.
    pub const END: [u8; 9] = [0, 255, 255, 255, 255, 255, 255, 255, 255];
}
