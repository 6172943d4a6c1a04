//! Sessions of clients: the section `SESS`.
//!
//! ```text
//! head    [u16 layout before 0x12: 1 or 2], u32 nextsessionid, u16 counters
//! record  u32 id, [u64 exports checksum from 0x13], u32 info length, u32 ip, u32 root inode, u8 flags,
//!         [u16 umask from 0x14], u8 min goal, u8 max goal (from 0x16: u16 class groups), u32 min trash, u32 max trash,
//!         u32 root uid, gid, u32 mapped uid, gid, [u32 disables from 0x15], [u32 disconnected, not in layout 1],
//!         counters * u32 (current hour), counters * u32 (last hour), info
//! end     a full record of zeros
//! ```
//! Source: upstream `sessions.c` (`sessions_store`, `sessions_load`).

use recovery_core::Cursor;

use super::{DecodeError, Decoded, Item, Put, narrow};

/// Header of the section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionHead {
    /// Layout of the records: the section version, or 0x10 / 0x11 as the header of older ones says.
    pub layout: u8,
    /// Next session id.
    pub next: u32,
    /// Counters an hour.
    pub counters: u16,
}

impl SessionHead {
    /// Reads the section header.
    ///
    /// # Errors
    ///
    /// When the bytes are too few or the layout is unknown.
    pub fn decode(c: &mut Cursor<'_>, version: u8) -> Decoded<Self> {
        let mut t = *c;
        let layout = if version < 0x12 {
            let at = t.offset();
            match t.u16_be("session layout")? {
                1 => 0x10,
                2 => 0x11,
                other => {
                    return Err(DecodeError::Value {
                        what: "session layout",
                        at,
                        found: u64::from(other),
                        expected: "1 or 2",
                    });
                }
            }
        } else {
            version
        };
        let head = Self { layout, next: t.u32_be("nextsessionid")?, counters: t.u16_be("session counters")? };
        *c = t;
        Ok(head)
    }

    /// Appends the section header.
    pub fn encode(&self, version: u8, out: &mut Vec<u8>) {
        if version < 0x12 {
            out.u16(if self.layout == 0x10 { 1 } else { 2 });
        }
        out.u32(self.next);
        out.u16(self.counters);
    }

    /// Bytes of a record without the info text.
    #[must_use]
    pub fn record_size(&self) -> usize {
        let base = match self.layout {
            0..=0x10 => 43usize,
            0x11 | 0x12 => 47,
            0x13 => 55,
            0x14 => 57,
            _ => 61,
        };
        base.saturating_add(usize::from(self.counters).saturating_mul(8))
    }
}

/// A session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionRecord {
    /// Identifier.
    pub id: u32,
    /// Checksum of the exports entry.
    pub exports: u64,
    /// IPv4 address of the client.
    pub ip: u32,
    /// Root inode; 0 is the meta mount.
    pub root: u32,
    /// 1 read-only, 2 dynamic ip, 4 ignore gid, 8 admin, 0x10 map all, 0x40 attribute bit.
    pub flags: u8,
    /// Umask.
    pub umask: u16,
    /// Lowest and highest goal (before 0x16).
    pub goals: [u8; 2],
    /// Class groups (from 0x16).
    pub groups: u16,
    /// Lowest and highest trash retention in seconds.
    pub trash: [u32; 2],
    /// Root uid and gid, mapped uid and gid.
    pub ids: [u32; 4],
    /// Disabled operations.
    pub disables: u32,
    /// 0 connected, else when it was lost.
    pub disconnected: u32,
    /// Counters: current hour, then last hour, 4 bytes each.
    pub counters: Vec<u8>,
    /// Mount point.
    pub info: Vec<u8>,
}

/// Class groups that correspond to a range of goals.
#[must_use]
pub fn goal_groups(goals: [u32; 2]) -> u16 {
    let [min, max] = goals;
    (min..=max.min(15)).fold(1, |m, g| m | 1u16.checked_shl(g).unwrap_or(0))
}

impl SessionRecord {
    /// Reads one session or the end.
    ///
    /// # Errors
    ///
    /// When the bytes are too few.
    pub fn decode(c: &mut Cursor<'_>, head: &SessionHead) -> Decoded<Item<Self>> {
        let mut t = *c;
        let mut r = Cursor::new(t.take(head.record_size(), "session record")?, c.offset());
        let l = head.layout;
        let id = r.u32_be("session id")?;
        if id == 0 {
            *c = t;
            return Ok(Item::End);
        }
        let mut s = Self { id, ..Self::default() };
        if l >= 0x13 {
            s.exports = r.u64_be("exports checksum")?;
        }
        let info = r.u32_be("info length")?;
        s.ip = r.u32_be("session address")?;
        s.root = r.u32_be("session root")?;
        s.flags = r.u8("session flags")?;
        if l >= 0x14 {
            s.umask = r.u16_be("session umask")?;
        }
        if l >= 0x16 {
            s.groups = r.u16_be("class groups")?;
        } else {
            s.goals = [r.u8("min goal")?, r.u8("max goal")?];
            s.groups = goal_groups(s.goals.map(u32::from));
        }
        s.trash = [r.u32_be("min trash")?, r.u32_be("max trash")?];
        for v in &mut s.ids {
            *v = r.u32_be("session ids")?;
        }
        if l >= 0x15 {
            s.disables = r.u32_be("disables")?;
        }
        if l >= 0x11 {
            s.disconnected = r.u32_be("disconnected")?;
        }
        s.counters = r.rest().to_vec();
        s.info = t.take(info as usize, "session info")?.to_vec();
        *c = t;
        Ok(Item::Record(s))
    }

    /// Appends the session; missing counters are zeros.
    pub fn encode(&self, head: &SessionHead, out: &mut Vec<u8>) {
        let l = head.layout;
        let end = out.len().saturating_add(head.record_size());
        out.u32(self.id);
        if l >= 0x13 {
            out.u64(self.exports);
        }
        out.u32(narrow(self.info.len(), u32::MAX));
        out.u32(self.ip);
        out.u32(self.root);
        out.u8(self.flags);
        if l >= 0x14 {
            out.u16(self.umask);
        }
        if l >= 0x16 {
            out.u16(self.groups);
        } else {
            out.extend_from_slice(&self.goals);
        }
        for v in self.trash.iter().chain(&self.ids) {
            out.u32(*v);
        }
        if l >= 0x15 {
            out.u32(self.disables);
        }
        if l >= 0x11 {
            out.u32(self.disconnected);
        }
        let room = end.saturating_sub(out.len());
        out.extend_from_slice(self.counters.get(..self.counters.len().min(room)).unwrap_or_default());
        out.resize(end, 0);
        out.extend_from_slice(&self.info);
    }
}
