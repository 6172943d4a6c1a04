//! Open files and locks: the sections `OPEN`, `FLCK` and `PLCK`.
//!
//! ```text
//! OPEN  u32 session, u32 inode                                                   end: 8 zero bytes
//! FLCK  u32 inode, u64 owner, u32 session, u8 type (0 reader, 1 writer)           end: 17 zero bytes
//! PLCK  u32 inode, u64 owner, u32 session, u32 pid, u64 start, u64 end, u8 type   end: 37 zero bytes
//! ```
//! Source: upstream `openfiles.c`, `flocklocks.c`, `posixlocks.c` (`*_store`, `*_load`).

use recovery_core::Cursor;

use super::{Decoded, Item, Put};

/// A file held open by a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRecord {
    /// Session.
    pub session: u32,
    /// Inode.
    pub inode: u32,
}

impl OpenRecord {
    /// Bytes of a record and of the end.
    pub const SIZE: usize = 8;

    /// Reads one record or the end.
    ///
    /// # Errors
    ///
    /// When the bytes are too few.
    pub fn decode(c: &mut Cursor<'_>) -> Decoded<Item<Self>> {
        let mut t = *c;
        let session = t.u32_be("open session")?;
        let inode = t.u32_be("open inode")?;
        *c = t;
        Ok(if session == 0 && inode == 0 { Item::End } else { Item::Record(Self { session, inode }) })
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.u32(self.session);
        out.u32(self.inode);
    }
}

/// A BSD lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlockRecord {
    /// Inode.
    pub inode: u32,
    /// Owner within the session.
    pub owner: u64,
    /// Session.
    pub session: u32,
    /// 0 reader, 1 writer.
    pub kind: u8,
}

impl FlockRecord {
    /// Bytes of a record and of the end.
    pub const SIZE: usize = 17;

    /// Reads one record or the end.
    ///
    /// # Errors
    ///
    /// When the bytes are too few.
    pub fn decode(c: &mut Cursor<'_>) -> Decoded<Item<Self>> {
        let mut t = *c;
        let inode = t.u32_be("flock inode")?;
        let owner = t.u64_be("flock owner")?;
        let session = t.u32_be("flock session")?;
        let kind = t.u8("flock type")?;
        *c = t;
        Ok(if inode == 0 && owner == 0 && session == 0 {
            Item::End
        } else {
            Item::Record(Self { inode, owner, session, kind })
        })
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.u32(self.inode);
        out.u64(self.owner);
        out.u32(self.session);
        out.u8(self.kind);
    }
}

/// One range of a POSIX lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlockRecord {
    /// Inode.
    pub inode: u32,
    /// Owner within the session.
    pub owner: u64,
    /// Session.
    pub session: u32,
    /// Process id on the client.
    pub pid: u32,
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// 1 read, 2 write.
    pub kind: u8,
}

impl PlockRecord {
    /// Bytes of a record and of the end.
    pub const SIZE: usize = 37;

    /// Reads one record or the end.
    ///
    /// # Errors
    ///
    /// When the bytes are too few.
    pub fn decode(c: &mut Cursor<'_>) -> Decoded<Item<Self>> {
        let mut t = *c;
        let inode = t.u32_be("posix lock inode")?;
        let owner = t.u64_be("posix lock owner")?;
        let session = t.u32_be("posix lock session")?;
        let pid = t.u32_be("posix lock pid")?;
        let start = t.u64_be("posix lock start")?;
        let end = t.u64_be("posix lock end")?;
        let kind = t.u8("posix lock type")?;
        *c = t;
        Ok(if inode == 0 && owner == 0 && session == 0 {
            Item::End
        } else {
            Item::Record(Self { inode, owner, session, pid, start, end, kind })
        })
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.u32(self.inode);
        out.u64(self.owner);
        out.u32(self.session);
        out.u32(self.pid);
        out.u64(self.start);
        out.u64(self.end);
        out.u8(self.kind);
    }
}
