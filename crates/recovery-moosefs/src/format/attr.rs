//! Extended attributes and access control lists: the sections `XATR` and `PACL`.
//!
//! ```text
//! XATR  u32 inode, u8 name length, u32 value length, name, value                  end: 9 zero bytes
//! PACL  u32 inode, u8 type (1 access, 2 default), u16 user group other mask users groups,
//!       (users + groups) * (u32 id, u16 perm)                                      end: 17 zero bytes
//! ```
//! Source: upstream `xattr.c`, `posixacl.c` (`*_store`, `*_load`).

use recovery_core::Cursor;

use super::{Decoded, Item, Put, narrow};

/// One extended attribute of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XattrRecord<'a> {
    /// Inode.
    pub inode: u32,
    /// Name, at most 255 bytes.
    pub name: &'a [u8],
    /// Value, at most 65536 bytes.
    pub value: &'a [u8],
}

impl<'a> XattrRecord<'a> {
    /// Bytes of the fixed part and of the end.
    pub const FIXED: usize = 9;

    /// Reads one record or the end.
    ///
    /// # Errors
    ///
    /// When the bytes are too few.
    pub fn decode(c: &mut Cursor<'a>) -> Decoded<Item<Self>> {
        let mut t = *c;
        let inode = t.u32_be("xattr inode")?;
        let n = t.u8("xattr name length")?;
        let v = t.u32_be("xattr value length")?;
        if inode == 0 {
            *c = t;
            return Ok(Item::End);
        }
        let name = t.take(usize::from(n), "xattr name")?;
        let value = t.take(v as usize, "xattr value")?;
        *c = t;
        Ok(Item::Record(Self { inode, name, value }))
    }

    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let n: u8 = narrow(self.name.len(), u8::MAX);
        out.u32(self.inode);
        out.u8(n);
        out.u32(narrow(self.value.len(), u32::MAX));
        out.extend_from_slice(self.name.get(..usize::from(n)).unwrap_or_default());
        out.extend_from_slice(self.value);
    }
}

/// One named entry of an access control list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AclEntry {
    /// User or group id.
    pub id: u32,
    /// Permissions.
    pub perm: u16,
}

impl AclEntry {
    /// Bytes of an entry.
    pub const SIZE: usize = 6;

    /// Reads the entries of a blob; a rest shorter than one entry is left out.
    #[must_use]
    pub fn list(blob: &[u8]) -> Vec<Self> {
        blob.as_chunks::<6>()
            .0
            .iter()
            .map(|&[a, b, c, d, e, f]| Self { id: u32::from_be_bytes([a, b, c, d]), perm: u16::from_be_bytes([e, f]) })
            .collect()
    }
}

/// An access control list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclRecord {
    /// Inode.
    pub inode: u32,
    /// 1 access, 2 default.
    pub kind: u8,
    /// Permissions of the owner.
    pub user: u16,
    /// Permissions of the group.
    pub group: u16,
    /// Permissions of others.
    pub other: u16,
    /// Mask; 0xFFFF is none.
    pub mask: u16,
    /// How many of the entries, from the first, name users.
    pub users: u16,
    /// Named users, then named groups.
    pub entries: Vec<AclEntry>,
}

impl AclRecord {
    /// Bytes of the fixed part and of the end.
    pub const FIXED: usize = 17;

    /// Reads one list or the end.
    ///
    /// # Errors
    ///
    /// When the bytes are too few.
    pub fn decode(c: &mut Cursor<'_>) -> Decoded<Item<Self>> {
        let mut t = *c;
        let inode = t.u32_be("acl inode")?;
        let kind = t.u8("acl type")?;
        let user = t.u16_be("acl user")?;
        let group = t.u16_be("acl group")?;
        let other = t.u16_be("acl other")?;
        let mask = t.u16_be("acl mask")?;
        let users = t.u16_be("acl named users")?;
        let groups = t.u16_be("acl named groups")?;
        if inode == 0 {
            *c = t;
            return Ok(Item::End);
        }
        let n = usize::from(users).saturating_add(usize::from(groups));
        let entries = AclEntry::list(t.take(n.saturating_mul(AclEntry::SIZE), "acl entries")?);
        *c = t;
        Ok(Item::Record(Self { inode, kind, user, group, other, mask, users, entries }))
    }

    /// Appends the list.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.u32(self.inode);
        out.u8(self.kind);
        for v in [self.user, self.group, self.other, self.mask, self.users] {
            out.u16(v);
        }
        out.u16(narrow(self.entries.len().saturating_sub(usize::from(self.users)), u16::MAX));
        for e in &self.entries {
            out.u32(e.id);
            out.u16(e.perm);
        }
    }
}
