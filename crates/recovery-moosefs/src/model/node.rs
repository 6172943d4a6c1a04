//! Nodes and names as they lie in memory.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::format::node::Kind;

use super::arena::{NONE, Table};

/// Bits of [`Node::flags`]: what is known about a node beside its record.
pub(crate) const KEEP_MODE: u8 = 1;
pub(crate) const HAS_ACCESS_ACL: u8 = 2;
pub(crate) const HAS_DEFAULT_ACL: u8 = 4;
pub(crate) const HAS_XATTR: u8 = 8;

/// Extra attribute bits.
pub(crate) const NO_OWNER: u8 = 1;
pub(crate) const NO_ENTRY_CACHE: u8 = 4;
pub(crate) const SNAPSHOT: u8 = 0x10;
pub(crate) const UNDELETABLE: u8 = 0x20;
pub(crate) const APPEND_ONLY: u8 = 0x40;
pub(crate) const IMMUTABLE: u8 = 0x80;

/// Which times count for the reversible archive mode.
pub(crate) const BY_CTIME: u8 = 1;
pub(crate) const BY_MTIME: u8 = 2;
pub(crate) const BY_ATIME: u8 = 4;

/// A node, in one cache line.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub(crate) struct Node {
    pub(crate) inode: u32,
    /// 0 marks a free slot.
    pub(crate) kind: u8,
    pub(crate) class: u8,
    pub(crate) eattr: u8,
    pub(crate) winattr: u8,
    pub(crate) mode: u16,
    pub(crate) flags: u8,
    pub(crate) spare: u8,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) atime: u32,
    pub(crate) mtime: u32,
    pub(crate) ctime: u32,
    pub(crate) retention: u32,
    /// First edge in which the node is the child.
    pub(crate) parents: u32,
    /// Order of insertion; decides the order within a bucket.
    pub(crate) seq: u32,
    /// First child edge, chunk table, text or device number.
    pub(crate) a: u32,
    /// Number of chunks in the table.
    pub(crate) b: u32,
    pub(crate) spare_word: u32,
    /// Length of a file.
    pub(crate) length: u64,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            inode: 0,
            kind: 0,
            class: 0,
            eattr: 0,
            winattr: 0,
            mode: 0,
            flags: 0,
            spare: 0,
            uid: 0,
            gid: 0,
            atime: 0,
            mtime: 0,
            ctime: 0,
            retention: 0,
            parents: NONE,
            seq: 0,
            a: NONE,
            b: 0,
            spare_word: 0,
            length: 0,
        }
    }
}

impl Node {
    #[inline]
    pub(crate) const fn is_file(&self) -> bool {
        matches!(self.kind, 1 | 8 | 9)
    }

    #[inline]
    pub(crate) const fn is_dir(&self) -> bool {
        self.kind == Kind::Directory as u8
    }

    #[inline]
    pub(crate) const fn table(&self) -> Table {
        if self.b == 0 { Table { at: 0, len: 0 } } else { Table { at: self.a, len: self.b } }
    }
}

/// One name of one node.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Edge {
    /// Directory; 0 for trash and sustained entries.
    pub(crate) parent: u32,
    pub(crate) child: u32,
    /// Next and previous in the list of the directory or bucket.
    pub(crate) next: u32,
    pub(crate) prev: u32,
    /// Next edge of the same child.
    pub(crate) next_parent: u32,
    /// The text, and in the highest bit whether the child is a directory.
    pub(super) text: u32,
    pub(crate) id: u64,
}

const DIR: u32 = 1 << 31;

impl Default for Edge {
    fn default() -> Self {
        Self { parent: 0, child: 0, next: NONE, prev: NONE, next_parent: NONE, text: 0, id: 0 }
    }
}

impl Edge {
    pub(crate) const fn new(parent: u32, child: u32, text: u32, to_dir: bool, id: u64) -> Self {
        Self {
            parent,
            child,
            next: NONE,
            prev: NONE,
            next_parent: NONE,
            text: if to_dir { text | DIR } else { text },
            id,
        }
    }

    #[inline]
    pub(crate) const fn text(&self) -> u32 {
        self.text & !DIR
    }

    #[inline]
    pub(crate) const fn is_dir_edge(&self) -> bool {
        self.text & DIR != 0
    }
}
