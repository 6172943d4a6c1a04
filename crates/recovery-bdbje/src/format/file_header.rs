//! First entry of every file (`log/FileHeader`): 38 bytes in all.
//!
//! | item offset | size | field |
//! |---|---|---|
//! | 0 | 8 | time of creation, ms |
//! | 8 | 4 | file number |
//! | 12 | 8 | offset of the last entry of the previous file |
//! | 20 | 4 | log version, which governs every entry of the file |

use recovery_core::Cursor;

use super::Result;

/// Bytes of the entry, header included; a shorter file holds nothing.
pub const FILE_HEADER_SIZE: u64 = 38;

/// Content of the file header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Time of creation in ms since the epoch.
    pub time: i64,
    /// Number, the same as in the name.
    pub number: u32,
    /// Offset of the last entry in the file before.
    pub last_entry_in_prev: i64,
    /// Log version.
    pub version: i32,
}

impl FileHeader {
    /// Reads the item.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn decode(c: &mut Cursor<'_>) -> Result<Self> {
        Ok(Self {
            time: c.i64_le("time of creation")?,
            number: c.u32_le("file number")?,
            last_entry_in_prev: c.i64_le("last entry in previous file")?,
            version: c.i32_le("log version")?,
        })
    }

    /// The item.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.last_entry_in_prev.to_le_bytes());
        out.extend_from_slice(&self.version.to_le_bytes());
        out
    }
}
