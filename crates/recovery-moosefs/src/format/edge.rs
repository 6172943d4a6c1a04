//! Names: the section `EDGE` and the edge part of flat files.
//!
//! ```text
//! head  u64 nextedgeid           from 0x11
//! edge  u32 parent, u32 child, [u64 edgeid from 0x11], u16 length, name
//! end   18 (0x10: 10) zero bytes; parent and child 0 suffice for readers
//! ```
//! Parent 0 marks an entry of the trash or of the sustained files; its name is the former path.
//! Source: upstream `mfsmaster/filesystem.c` (`fs_storeedge`, `fs_loadedge`).

use recovery_core::Cursor;

use super::{Decoded, Item, Put, narrow};

/// The value of `nextedgeid` that means "no identifiers".
pub const NO_EDGE_IDS: u64 = 0x7FFF_FFFF_FFFF_FFFF;

/// One name of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeRecord<'a> {
    /// Inode of the directory; 0 for trash and sustained files.
    pub parent: u32,
    /// Inode of the child.
    pub child: u32,
    /// Edge identifier; 0 before 0x11.
    pub id: u64,
    /// The name, or the former path.
    pub name: &'a [u8],
}

impl<'a> EdgeRecord<'a> {
    /// Length of a record without its name.
    #[must_use]
    pub const fn fixed_size(version: u8) -> usize {
        if version >= 0x11 { 18 } else { 10 }
    }

    /// Reads one edge or the end.
    ///
    /// # Errors
    ///
    /// When the bytes are too few; the cursor then has not moved.
    #[inline]
    pub fn decode(c: &mut Cursor<'a>, version: u8) -> Decoded<Item<Self>> {
        let mut t = *c;
        let parent = t.u32_be("edge parent")?;
        let child = t.u32_be("edge child")?;
        let id = if version >= 0x11 { t.u64_be("edge id")? } else { 0 };
        let n = t.u16_be("name length")?;
        if parent == 0 && child == 0 {
            *c = t;
            return Ok(Item::End);
        }
        let name = t.take(usize::from(n), "name")?;
        *c = t;
        Ok(Item::Record(Self { parent, child, id, name }))
    }

    /// Appends the edge as `version` stores it.
    #[inline]
    pub fn encode(&self, version: u8, out: &mut Vec<u8>) {
        let n: u16 = narrow(self.name.len(), u16::MAX);
        if version >= 0x11 {
            let mut head = [0u8; 18];
            let (p, rest) = head.split_at_mut(4);
            p.copy_from_slice(&self.parent.to_be_bytes());
            let (ch, rest) = rest.split_at_mut(4);
            ch.copy_from_slice(&self.child.to_be_bytes());
            let (id, len) = rest.split_at_mut(8);
            id.copy_from_slice(&self.id.to_be_bytes());
            len.copy_from_slice(&n.to_be_bytes());
            out.extend_from_slice(&head);
        } else {
            out.u32(self.parent);
            out.u32(self.child);
            out.u16(n);
        }
        out.extend_from_slice(self.name.get(..usize::from(n)).unwrap_or_default());
    }
}
