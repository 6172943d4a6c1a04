//! Signature, header, section headers and trailer.
//!
//! ```text
//! 0   8   signature: "MFSM NEW" | "MFSM " digit "." digit
//! 8   16  below 2.0: u32 maxnodeid, u64 metaversion, u32 nextsessionid
//!         from 2.0:  u64 metaversion, u64 metaid
//! 24      below 1.6: nodes, edges, free list, chunks; else sections:
//!         4 name, 4 version (" 1.4" is 0x14), 8 payload length (all ones: unknown), payload
//! end 16  from 1.6: "[MFS EOF MARKER]"
//! ```
//! Source: upstream `mfsmaster/metadata.c` (`meta_load`, `meta_store`, `meta_check`).

use recovery_core::Cursor;

use super::{DecodeError, Decoded, Put};

/// Signature of a new, empty filesystem; the whole file is these 8 bytes.
pub const NEW: &[u8; 8] = b"MFSM NEW";
/// The last 16 bytes of every sectioned file.
pub const TRAILER: &[u8; 16] = b"[MFS EOF MARKER]";
/// Length of signature and header.
pub const HEAD: u64 = 24;
/// Length of a section header.
pub const SECTION_HEAD: u64 = 16;
/// A section length that the writer did not fill in.
pub const UNKNOWN_LENGTH: u64 = u64::MAX;

/// What the first 8 bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// A new, empty filesystem.
    New,
    /// A file of this version: 0x15 is `MFSM 1.5`.
    Version(u8),
}

impl Signature {
    /// Reads the signature.
    ///
    /// # Errors
    ///
    /// When the bytes are too few or are no signature.
    pub fn decode(c: &mut Cursor<'_>) -> Decoded<Self> {
        let at = c.offset();
        let b = c.array::<8>("signature")?;
        if &b == NEW {
            return Ok(Self::New);
        }
        match b {
            [b'M', b'F', b'S', b'M', b' ', hi @ b'1'..=b'9', b'.', lo @ b'0'..=b'9'] => {
                Ok(Self::Version(((hi & 15) << 4) | (lo & 15)))
            }
            _ => Err(DecodeError::Value {
                what: "signature",
                at,
                found: u64::from_be_bytes(b),
                expected: "\"MFSM NEW\" or \"MFSM x.y\"",
            }),
        }
    }

    /// The 8 bytes.
    #[must_use]
    pub fn encode(self) -> [u8; 8] {
        match self {
            Self::New => *NEW,
            Self::Version(v) => {
                [b'M', b'F', b'S', b'M', b' ', b'0'.saturating_add(v >> 4), b'.', b'0'.saturating_add(v & 15)]
            }
        }
    }

    /// Text for reports.
    #[must_use]
    pub fn text(self) -> String {
        String::from_utf8_lossy(&self.encode()).into_owned()
    }

    /// Whether the file has no sections.
    #[must_use]
    pub const fn is_flat(self) -> bool {
        matches!(self, Self::Version(v) if v < 0x16)
    }
}

/// The 16 bytes behind the signature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Id of the next change: the state contains every change below it.
    pub version: u64,
    /// Identity of the filesystem; 0 is none yet (and always 0 below 2.0).
    pub metaid: u64,
    /// Highest inode ever used; only below 2.0.
    pub max_inode: u32,
    /// Next session id; only below 2.0.
    pub next_session: u32,
}

impl Header {
    /// Reads the header of a file of version `fver`.
    ///
    /// # Errors
    ///
    /// When the bytes are too few.
    pub fn decode(c: &mut Cursor<'_>, fver: u8) -> Decoded<Self> {
        if fver < 0x20 {
            let max_inode = c.u32_be("maxnodeid")?;
            let version = c.u64_be("metaversion")?;
            let next_session = c.u32_be("nextsessionid")?;
            return Ok(Self { version, metaid: 0, max_inode, next_session });
        }
        let version = c.u64_be("metaversion")?;
        let metaid = c.u64_be("metaid")?;
        Ok(Self { version, metaid, max_inode: 0, next_session: 0 })
    }

    /// Appends the 16 bytes.
    pub fn encode(&self, fver: u8, out: &mut Vec<u8>) {
        if fver < 0x20 {
            out.u32(self.max_inode);
            out.u64(self.version);
            out.u32(self.next_session);
        } else {
            out.u64(self.version);
            out.u64(self.metaid);
        }
    }
}

/// Name, version and length of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionHead {
    /// Four letters.
    pub name: [u8; 4],
    /// 0x14 for ` 1.4`; the low digit goes on behind 9 with `:`.
    pub version: u8,
    /// Payload bytes, or [`UNKNOWN_LENGTH`].
    pub length: u64,
}

impl SectionHead {
    /// Reads a section header; `None` at the trailer, which is not consumed.
    ///
    /// # Errors
    ///
    /// When the bytes are too few or the version is not of the form ` x.y`.
    pub fn decode(c: &mut Cursor<'_>) -> Decoded<Option<Self>> {
        if c.rest().starts_with(TRAILER) {
            return Ok(None);
        }
        let mut t = *c;
        let name = t.array::<4>("section name")?;
        let at = t.offset();
        let v = t.array::<4>("section version")?;
        let length = t.u64_be("section length")?;
        let version = match v {
            [b' ', hi @ 0x30..=0x3F, b'.', lo @ 0x30..=0x3F] => ((hi & 15) << 4) | (lo & 15),
            _ => {
                return Err(DecodeError::Value {
                    what: "section version",
                    at,
                    found: u64::from(u32::from_be_bytes(v)),
                    expected: "blank, digit, '.', digit",
                });
            }
        };
        *c = t;
        Ok(Some(Self { name, version, length }))
    }

    /// The 16 bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; 16] {
        let mut out = [0u8; 16];
        let (name, rest) = out.split_at_mut(4);
        name.copy_from_slice(&self.name);
        let (v, l) = rest.split_at_mut(4);
        v.copy_from_slice(&[b' ', 0x30 | (self.version >> 4), b'.', 0x30 | (self.version & 15)]);
        l.copy_from_slice(&self.length.to_be_bytes());
        out
    }

    /// The name as text, with anything odd replaced.
    #[must_use]
    pub fn name_text(&self) -> String {
        section_name(&self.name)
    }
}

/// A section name as text, with anything odd replaced.
#[must_use]
pub fn section_name(name: &[u8; 4]) -> String {
    name.iter().map(|&b| if b.is_ascii_graphic() { char::from(b) } else { '?' }).collect()
}

/// The newest version of each known section that this library reads.
///
/// `LABS` is the old name of `SCLA`.
#[must_use]
pub const fn newest(name: &[u8; 4]) -> Option<u8> {
    match name {
        b"SESS" => Some(0x16),
        b"SCLA" => Some(0x1C),
        b"LABS" => Some(0x15),
        b"PATT" | b"EDGE" | b"QUOT" | b"PACL" => Some(0x11),
        b"NODE" => Some(0x14),
        b"FREE" | b"XATR" | b"OPEN" | b"FLCK" | b"PLCK" => Some(0x10),
        b"CSDB" => Some(0x13),
        b"CHNK" => Some(0x12),
        _ => None,
    }
}
