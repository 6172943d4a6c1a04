//! Nodes: the section `NODE` and the node part of flat files.
//!
//! ```text
//!         0x10 0x11   0x12 0x13   0x14
//! type    u8          u8          u8       letter up to 0x12, number from 0x13; 0 ends the list
//! inode   u32         u32         u32
//! class   u8          u8          u8       goal before 3.x
//! mode    u16         u8 u16      u8 u8 u16   eattr<<12|mode; eattr, mode; eattr, winattr, mode
//! uid gid atime mtime ctime       5 * u32
//! trash   u32 s       u32 s       u16 h
//! b c     + u32 rdev;  symlink + u32 length, text
//! file    + u64 length, u32 chunks, [u16 sessions before 0x14], chunks * u64, [sessions * u32]
//! ```
//! Source: upstream `mfsmaster/filesystem.c` (`fs_storenode`, `fs_loadnode`).

use recovery_core::Cursor;

use super::{DecodeError, Decoded, Item, Put, narrow};

/// What a node is. The numbers are those of section version 0x13 and later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Regular file.
    File = 1,
    /// Directory.
    Directory = 2,
    /// Symbolic link.
    Symlink = 3,
    /// Named pipe.
    Fifo = 4,
    /// Block device.
    Block = 5,
    /// Character device.
    Char = 6,
    /// Socket.
    Socket = 7,
    /// Unlinked file in the trash.
    Trash = 8,
    /// Unlinked file that is still open (called reserved before 2.0).
    Sustained = 9,
}

impl Kind {
    /// From a type byte: a number, or the letter of old files and logs.
    #[must_use]
    pub const fn from_byte(b: u8) -> Option<Self> {
        Some(match b {
            1 | b'f' => Self::File,
            2 | b'd' => Self::Directory,
            3 | b'l' => Self::Symlink,
            4 | b'q' => Self::Fifo,
            5 | b'b' => Self::Block,
            6 | b'c' => Self::Char,
            7 | b's' => Self::Socket,
            8 | b't' => Self::Trash,
            9 | b'r' => Self::Sustained,
            _ => return None,
        })
    }

    /// The letter of old files.
    #[must_use]
    pub const fn letter(self) -> u8 {
        match self {
            Self::File => b'f',
            Self::Directory => b'd',
            Self::Symlink => b'l',
            Self::Fifo => b'q',
            Self::Block => b'b',
            Self::Char => b'c',
            Self::Socket => b's',
            Self::Trash => b't',
            Self::Sustained => b'r',
        }
    }

    /// Whether nodes of this kind have length and chunks.
    #[must_use]
    pub const fn is_file(self) -> bool {
        matches!(self, Self::File | Self::Trash | Self::Sustained)
    }
}

/// Header of the section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeHead {
    /// Highest inode ever used, if the version stores it here.
    pub max_inode: u32,
    /// Number of nodes, if the version stores it.
    pub count: u32,
}

impl NodeHead {
    /// Reads the section header; `fver` is the version of the file.
    ///
    /// # Errors
    ///
    /// When the bytes are too few.
    pub fn decode(c: &mut Cursor<'_>, version: u8, fver: u8) -> Decoded<Self> {
        let mut head = Self::default();
        if version >= 0x11 {
            head.max_inode = c.u32_be("maxnodeid")?;
            head.count = c.u32_be("hashelements")?;
        } else if fver >= 0x20 {
            head.max_inode = c.u32_be("maxnodeid")?;
        }
        Ok(head)
    }

    /// Appends the section header.
    pub fn encode(&self, version: u8, fver: u8, out: &mut Vec<u8>) {
        if version >= 0x11 {
            out.u32(self.max_inode);
            out.u32(self.count);
        } else if fver >= 0x20 {
            out.u32(self.max_inode);
        }
    }
}

/// What only some kinds of node have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra<'a> {
    /// Nothing.
    None,
    /// Device number.
    Device(u32),
    /// Target of a symbolic link.
    Path(&'a [u8]),
    /// Length, chunk ids (8 bytes each, big endian) and sessions that hold the file open (4 bytes each).
    File {
        /// Length in bytes.
        length: u64,
        /// Chunk ids.
        chunks: &'a [u8],
        /// Sessions; empty from 0x14.
        sessions: &'a [u8],
    },
}

/// One node as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRecord<'a> {
    /// What it is.
    pub kind: Kind,
    /// Inode number.
    pub inode: u32,
    /// Storage class, or goal before 3.x.
    pub class: u8,
    /// Extra attributes of MooseFS.
    pub eattr: u8,
    /// Attributes for Windows clients; 0 before 0x14.
    pub winattr: u8,
    /// Permission bits, 12 of them.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Access time.
    pub atime: u32,
    /// Modification time.
    pub mtime: u32,
    /// Change time.
    pub ctime: u32,
    /// Trash retention: seconds before 0x14, hours from 0x14.
    pub retention: u32,
    /// The rest.
    pub extra: Extra<'a>,
}

impl<'a> NodeRecord<'a> {
    /// Reads one node or the end.
    ///
    /// # Errors
    ///
    /// When the bytes are too few or the type is unknown; the cursor then has not moved.
    #[inline]
    pub fn decode(c: &mut Cursor<'a>, version: u8) -> Decoded<Item<Self>> {
        if version == 0x14
            && let Some(head) = c.rest().first_chunk::<48>()
            && let Some(kind) = Kind::from_byte(head[0]).filter(|_| head[0] <= 9)
        {
            return Self::decode_whole(c, head, kind);
        }
        let mut t = *c;
        let at = t.offset();
        let kind = t.u8("node type")?;
        if kind == 0 {
            *c = t;
            return Ok(Item::End);
        }
        let letters = version <= 0x12;
        let kind = Kind::from_byte(kind).filter(|_| (kind > 9) == letters).ok_or(DecodeError::Value {
            what: "node type",
            at,
            found: u64::from(kind),
            expected: if letters { "a letter of f d l q b c s t r" } else { "1 to 9" },
        })?;
        let inode = t.u32_be("inode")?;
        let class = t.u8("class")?;
        let (eattr, winattr, mode) = if version >= 0x14 {
            (t.u8("eattr")?, t.u8("winattr")?, t.u16_be("mode")? & 0xFFF)
        } else if version >= 0x12 {
            (t.u8("eattr")?, 0, t.u16_be("mode")? & 0xFFF)
        } else {
            let m = t.u16_be("mode")?;
            ((m >> 12) as u8, 0, m & 0xFFF)
        };
        let mut times = [0u32; 5];
        for v in &mut times {
            *v = t.u32_be("uid, gid or time")?;
        }
        let [uid, gid, atime, mtime, ctime] = times;
        let retention =
            if version >= 0x14 { u32::from(t.u16_be("trash retention")?) } else { t.u32_be("trash retention")? };
        let extra = Self::decode_extra(&mut t, kind, version)?;
        *c = t;
        Ok(Item::Record(Self {
            kind,
            inode,
            class,
            eattr,
            winattr,
            mode,
            uid,
            gid,
            atime,
            mtime,
            ctime,
            retention,
            extra,
        }))
    }

    /// The common case: a record of the newest version with enough bytes behind it to read its fixed part at once.
    #[inline]
    fn decode_whole(c: &mut Cursor<'a>, h: &[u8; 48], kind: Kind) -> Decoded<Item<Self>> {
        let word = |at: usize| match h.get(at..).and_then(|r| r.first_chunk::<4>()) {
            Some(b) => u32::from_be_bytes(*b),
            None => 0,
        };
        let mut t = *c;
        t.skip(Self::fixed_size(kind, 0x14), "node")?;
        let extra = match kind {
            Kind::Directory | Kind::Fifo | Kind::Socket => Extra::None,
            Kind::Block | Kind::Char => Extra::Device(word(32)),
            Kind::Symlink => Extra::Path(t.take(word(32) as usize, "symlink path")?),
            Kind::File | Kind::Trash | Kind::Sustained => Extra::File {
                length: u64::from(word(32)) << 32 | u64::from(word(36)),
                chunks: t.take((word(40) as usize).saturating_mul(8), "chunk table")?,
                sessions: &[],
            },
        };
        *c = t;
        Ok(Item::Record(Self {
            kind,
            inode: word(1),
            class: h[5],
            eattr: h[6],
            winattr: h[7],
            mode: u16::from_be_bytes([h[8], h[9]]) & 0xFFF,
            uid: word(10),
            gid: word(14),
            atime: word(18),
            mtime: word(22),
            ctime: word(26),
            retention: u32::from(u16::from_be_bytes([h[30], h[31]])),
            extra,
        }))
    }

    fn decode_extra(t: &mut Cursor<'a>, kind: Kind, version: u8) -> Decoded<Extra<'a>> {
        Ok(match kind {
            Kind::Directory | Kind::Fifo | Kind::Socket => Extra::None,
            Kind::Block | Kind::Char => Extra::Device(t.u32_be("rdev")?),
            Kind::Symlink => {
                let n = t.u32_be("symlink length")?;
                Extra::Path(t.take(n as usize, "symlink path")?)
            }
            Kind::File | Kind::Trash | Kind::Sustained => {
                let length = t.u64_be("file length")?;
                let n = t.u32_be("chunk count")?;
                let s = if version < 0x14 { t.u16_be("session count")? } else { 0 };
                let chunks = t.take((n as usize).saturating_mul(8), "chunk table")?;
                let sessions = t.take(usize::from(s).saturating_mul(4), "session list")?;
                Extra::File { length, chunks, sessions }
            }
        })
    }

    /// Appends the node as `version` stores it.
    #[inline]
    pub fn encode(&self, version: u8, out: &mut Vec<u8>) {
        let mut head = [0u8; 36];
        let kind = if version <= 0x12 { self.kind.letter() } else { self.kind as u8 };
        let mut n = 0usize;
        put(&mut head, &mut n, &[kind]);
        put(&mut head, &mut n, &self.inode.to_be_bytes());
        put(&mut head, &mut n, &[self.class]);
        if version >= 0x14 {
            put(&mut head, &mut n, &[self.eattr, self.winattr]);
            put(&mut head, &mut n, &self.mode.to_be_bytes());
        } else if version >= 0x12 {
            put(&mut head, &mut n, &[self.eattr]);
            put(&mut head, &mut n, &self.mode.to_be_bytes());
        } else {
            put(&mut head, &mut n, &((u16::from(self.eattr & 15) << 12) | (self.mode & 0xFFF)).to_be_bytes());
        }
        for v in [self.uid, self.gid, self.atime, self.mtime, self.ctime] {
            put(&mut head, &mut n, &v.to_be_bytes());
        }
        if version >= 0x14 {
            put(&mut head, &mut n, &u16::try_from(self.retention).unwrap_or(u16::MAX).to_be_bytes());
        } else {
            put(&mut head, &mut n, &self.retention.to_be_bytes());
        }
        out.extend_from_slice(head.get(..n).unwrap_or_default());
        match self.extra {
            Extra::None => {}
            Extra::Device(rdev) => out.u32(rdev),
            Extra::Path(path) => {
                out.u32(narrow(path.len(), u32::MAX));
                out.extend_from_slice(path);
            }
            Extra::File { length, chunks, sessions } => {
                out.u64(length);
                out.u32(narrow(chunks.len() / 8, u32::MAX));
                if version < 0x14 {
                    out.u16(narrow(sessions.len() / 4, u16::MAX));
                }
                out.extend_from_slice(chunks);
                if version < 0x14 {
                    out.extend_from_slice(sessions.get(..sessions.len().min(4 * 0xFFFF)).unwrap_or_default());
                }
            }
        }
    }

    /// Length of the record without symbolic link text, chunk table and session list.
    #[must_use]
    pub const fn fixed_size(kind: Kind, version: u8) -> usize {
        let base = if version >= 0x14 {
            32
        } else if version >= 0x12 {
            33
        } else {
            32
        };
        base + match kind {
            Kind::Directory | Kind::Fifo | Kind::Socket => 0,
            Kind::Block | Kind::Char | Kind::Symlink => 4,
            Kind::File | Kind::Trash | Kind::Sustained => {
                if version < 0x14 {
                    14
                } else {
                    12
                }
            }
        }
    }
}

#[inline]
fn put<const N: usize>(head: &mut [u8; 36], n: &mut usize, bytes: &[u8; N]) {
    let end = n.saturating_add(N);
    if let Some(slot) = head.get_mut(*n..end) {
        slot.copy_from_slice(bytes);
    }
    *n = end;
}
