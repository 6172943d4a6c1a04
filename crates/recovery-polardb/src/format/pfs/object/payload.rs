//! What an object carries: the bytes behind its head of 40.

use super::{Kind, NAME_FIELD, OBJECT_LEN};
use crate::format::pfs::{BLOCK, NONE, raw};

/// What an object carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A block tag.
    BlockTag(BlockTag),
    /// A directory entry.
    Direntry(Direntry),
    /// An inode.
    Inode(Inode),
}

impl Payload {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::BlockTag(_) => Kind::BlockTag,
            Self::Direntry(_) => Kind::Direntry,
            Self::Inode(_) => Kind::Inode,
        }
    }

    pub(super) fn put(&self, out: &mut [u8; OBJECT_LEN]) {
        match self {
            Self::BlockTag(t) => t.put(out),
            Self::Direntry(d) => d.put(out),
            Self::Inode(i) => i.put(out),
        }
    }
}

/// Which block of which file a device block holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockTag {
    /// Owner; kept after the block is freed.
    pub ino: u64,
    /// Block of the file, in units of 4 MiB; kept after the block is freed.
    pub blkid: u64,
    /// Discard state: 0 none, 1 ready to be trimmed, 2 being trimmed.
    pub dstatus: u32,
    /// Discards so far.
    pub ndiscard: u32,
    /// Bytes never written at the end of the block; 0 = none.
    pub holelen: i32,
    /// Where they start.
    pub holeoff: i32,
}

impl BlockTag {
    /// Bytes of the block that were written; what follows reads as zero.
    #[must_use]
    pub fn written(&self) -> u64 {
        if self.holelen > 0 { u64::try_from(self.holeoff).unwrap_or(0).min(BLOCK) } else { BLOCK }
    }

    /// Whether the two hole fields fit together.
    #[must_use]
    pub fn hole_is_sane(&self) -> bool {
        let end = i64::from(self.holelen) + i64::from(self.holeoff);
        self.holelen >= 0 && self.holeoff >= 0 && (end == 4 << 20 || (self.holelen == 0 && self.holeoff == 0))
    }

    fn put(&self, out: &mut [u8]) {
        raw::put(out, 40, &self.ino.to_le_bytes());
        raw::put(out, 48, &self.blkid.to_le_bytes());
        raw::put(out, 56, &self.dstatus.to_le_bytes());
        raw::put(out, 60, &self.ndiscard.to_le_bytes());
        raw::put(out, 64, &self.holelen.to_le_bytes());
        raw::put(out, 68, &self.holeoff.to_le_bytes());
    }
}

/// A name, or 64 more bytes of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direntry {
    /// Part of the name, padded with NUL.
    pub name: [u8; NAME_FIELD],
    /// The inode; of an extension, the head entry.
    pub ino: u64,
    /// The directory; of an extension, -1.
    pub dirino: u64,
    /// Next extension, 0 = none.
    pub extdeno: u64,
}

impl Direntry {
    /// An extension of another entry.
    #[must_use]
    pub fn is_extension(&self) -> bool {
        self.dirino == NONE
    }

    fn put(&self, out: &mut [u8]) {
        raw::put(out, 40, &self.name);
        raw::put(out, 104, &self.ino.to_le_bytes());
        raw::put(out, 112, &self.dirino.to_le_bytes());
        raw::put(out, 120, &self.extdeno.to_le_bytes());
    }
}

/// What an inode stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InodeKind {
    /// Nothing: free.
    #[default]
    None,
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A value without meaning.
    Other(u8),
}

impl InodeKind {
    fn byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::File => 1,
            Self::Directory => 2,
            Self::Other(b) => b,
        }
    }
}

/// A file or directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub kind: InodeKind,
    /// Flags, 0.
    pub flags: u8,
    /// Version 3 only; 0 = unset.
    pub pvtid: u32,
    /// Its directory entry, -1 = unlinked.
    pub deno: u64,
    /// Links: 1, or 0 once unlinked.
    pub nlink: u64,
    /// Blocks of the file.
    pub nblock: u64,
    /// Bytes; of a directory 128 for each entry, of the root two entries fewer than there are.
    pub size: u64,
    /// Access time, seconds; stays 0.
    pub atime: u64,
    /// Change time, seconds.
    pub ctime: u64,
    /// Modification time, seconds.
    pub mtime: u64,
    /// Birth time in microseconds: which incarnation of the number this is.
    pub btime: u64,
}

impl Inode {
    fn put(&self, out: &mut [u8]) {
        raw::put(out, 40, &[self.kind.byte(), self.flags]);
        raw::put(out, 44, &self.pvtid.to_le_bytes());
        let fields = [
            (48, self.deno),
            (56, self.nlink),
            (64, self.nblock),
            (72, self.size),
            (80, self.atime),
            (88, self.ctime),
            (96, self.mtime),
            (104, self.btime),
        ];
        for (at, value) in fields {
            raw::put(out, at, &value.to_le_bytes());
        }
    }
}
