//! `sessions.mfs` and `sessions_ml.mfs` of 1.5 and 1.6 masters.
//!
//! ```text
//! 0  8  "MFSS 1.5" (16 counters), or "MFSS " 01 06 01 (16 counters), 01 06 02 (21), 01 06 03, 01 06 04 (u16 counters)
//! then to the end of the file
//!       u32 id, u32 info length, u32 ip, u32 root inode, u8 flags, [01 06 04: u8 min goal, u8 max goal, u32 min trash,
//!       u32 max trash], u32 root uid, gid, [not in 1.5: u32 mapped uid, gid], counters of this hour, counters of the
//!       last hour, info
//! ```
//! Replay does not use this file; newer programs import it. Layouts other than 01 06 04 rest on a reading of the
//! source only. Source: upstream 1.6 `mfsmaster/matocuserv.c`.

use recovery_core::Cursor;

use super::session::{SessionRecord, goal_groups};
use super::{DecodeError, Decoded, Put, narrow};

/// Layout of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `MFSS 1.5`.
    V15,
    /// `MFSS ` 01 06 and this byte, 1 to 4.
    V16(u8),
}

/// A sessions file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionsFile {
    /// Layout.
    pub layout: Layout,
    /// Counters an hour.
    pub counters: u16,
    /// The sessions.
    pub sessions: Vec<SessionRecord>,
}

impl SessionsFile {
    fn fixed(&self) -> usize {
        let base = match self.layout {
            Layout::V15 => 25usize,
            Layout::V16(4) => 43,
            Layout::V16(_) => 33,
        };
        base.saturating_add(usize::from(self.counters).saturating_mul(8))
    }

    /// Reads a whole file.
    ///
    /// # Errors
    ///
    /// When the header is unknown or a record is cut.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut c = Cursor::new(bytes, 0);
        let (layout, counters) = match c.array::<8>("sessions signature")? {
            [b'M', b'F', b'S', b'S', b' ', b'1', b'.', b'5'] => (Layout::V15, 16),
            [b'M', b'F', b'S', b'S', b' ', 1, 6, n @ 1..=4] => (
                Layout::V16(n),
                if n == 1 {
                    16
                } else if n == 2 {
                    21
                } else {
                    c.u16_be("session counters")?
                },
            ),
            other => {
                return Err(DecodeError::Value {
                    what: "sessions signature",
                    at: 0,
                    found: u64::from_be_bytes(other),
                    expected: "\"MFSS 1.5\" or \"MFSS \" 01 06 01..04",
                });
            }
        };
        let mut file = Self { layout, counters, sessions: Vec::new() };
        while !c.is_empty() {
            let s = file.record(&mut c)?;
            file.sessions.push(s);
        }
        Ok(file)
    }

    fn record(&self, c: &mut Cursor<'_>) -> Decoded<SessionRecord> {
        let mut r = Cursor::new(c.take(self.fixed(), "session record")?, c.offset());
        let mut s = SessionRecord { id: r.u32_be("session id")?, ..SessionRecord::default() };
        let info = r.u32_be("info length")?;
        s.ip = r.u32_be("session address")?;
        s.root = r.u32_be("session root")?;
        s.flags = r.u8("session flags")?;
        s.goals = [1, 9];
        s.trash = [0, u32::MAX];
        if self.layout == Layout::V16(4) {
            s.goals = [r.u8("min goal")?, r.u8("max goal")?];
            s.trash = [r.u32_be("min trash")?, r.u32_be("max trash")?];
        }
        s.groups = goal_groups(s.goals.map(u32::from));
        let known = if self.layout == Layout::V15 { 2 } else { 4 };
        for v in s.ids.iter_mut().take(known) {
            *v = r.u32_be("session ids")?;
        }
        s.counters = r.rest().to_vec();
        s.info = c.take(info as usize, "session info")?.to_vec();
        Ok(s)
    }

    /// The whole file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = b"MFSS ".to_vec();
        match self.layout {
            Layout::V15 => out.extend_from_slice(b"1.5"),
            Layout::V16(n) => {
                out.extend_from_slice(&[1, 6, n]);
                if n >= 3 {
                    out.u16(self.counters);
                }
            }
        }
        for s in &self.sessions {
            let end = out.len().saturating_add(self.fixed());
            out.u32(s.id);
            out.u32(narrow(s.info.len(), u32::MAX));
            out.u32(s.ip);
            out.u32(s.root);
            out.u8(s.flags);
            if self.layout == Layout::V16(4) {
                out.extend_from_slice(&s.goals);
                for v in s.trash {
                    out.u32(v);
                }
            }
            let known = if self.layout == Layout::V15 { 2 } else { 4 };
            for v in s.ids.iter().take(known) {
                out.u32(*v);
            }
            let room = end.saturating_sub(out.len());
            out.extend_from_slice(s.counters.get(..s.counters.len().min(room)).unwrap_or_default());
            out.resize(end, 0);
            out.extend_from_slice(&s.info);
        }
        out
    }
}
