//! `metadata.crc`: one checksum a section of the last state saved.
//!
//! ```text
//! [4.x: u64 metaversion, u64 metaid], then 8 bytes an entry: 4 name, 4 value; names HEAD, every section, TAIL
//! ```
//! A value is the exclusive or of the CRC-32 (zlib polynomial) of every piece the writer wrote: the section header
//! with an unknown length, each record, the end, and last the 8 length bytes. It does not depend on the order of the
//! records, and two equal records cancel each other. No upstream program compares it with the file.
//! Source: upstream `mfsmaster/metadata.c` (`meta_store_chunk`), `bio.c` (`bio_crc`).

use recovery_core::Cursor;

use super::outer::{SectionHead, UNKNOWN_LENGTH};
use super::{Decoded, Put};

/// Checksum of one piece.
#[must_use]
#[inline]
pub fn piece(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// What the header, the length and the trailer of a section add to its sum.
#[must_use]
pub fn frame(name: [u8; 4], version: u8, length: u64) -> u32 {
    piece(&SectionHead { name, version, length: UNKNOWN_LENGTH }.encode()) ^ piece(&length.to_be_bytes())
}

/// A list of section checksums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrcFile {
    /// Version and id of the state, stored by 4.x only.
    pub state: Option<(u64, u64)>,
    /// Name and value of each section, in file order.
    pub entries: Vec<([u8; 4], u32)>,
}

impl CrcFile {
    /// Reads a whole file; the entries start with `HEAD`.
    ///
    /// # Errors
    ///
    /// When the bytes are too few.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut c = Cursor::new(bytes, 0);
        let mut file = Self::default();
        if !bytes.starts_with(b"HEAD") {
            file.state = Some((c.u64_be("crc metaversion")?, c.u64_be("crc metaid")?));
        }
        while !c.is_empty() {
            file.entries.push((c.array("crc name")?, c.u32_be("crc value")?));
        }
        Ok(file)
    }

    /// The whole file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries.len().saturating_mul(8).saturating_add(16));
        if let Some((version, id)) = self.state {
            out.u64(version);
            out.u64(id);
        }
        for (name, value) in &self.entries {
            out.extend_from_slice(name);
            out.u32(*value);
        }
        out
    }

    /// The value of a section.
    #[must_use]
    pub fn get(&self, name: &[u8; 4]) -> Option<u32> {
        self.entries.iter().find(|(n, _)| n == name).map(|e| e.1)
    }
}
