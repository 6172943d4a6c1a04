//! Footer: the last bytes of a table, and the only structure at a known place.
//!
//! Format version 0 (48 bytes): metaindex handle, index handle, zeros up to byte 40, magic. CRC-32C is implied.
//!
//! Format versions 1 to 5 (53 bytes):
//!
//! | offset | size | field                                              |
//! | -----: | ---: | -------------------------------------------------- |
//! |      0 |    1 | checksum type                                      |
//! |      1 |   40 | metaindex handle, index handle, zeros (unchecked)  |
//! |     41 |    4 | format version                                     |
//! |     45 |    8 | magic                                              |
//!
//! Format version 6 and later (53 bytes):
//!
//! | offset | size | field                                                                            |
//! | -----: | ---: | -------------------------------------------------------------------------------- |
//! |      0 |    1 | checksum type                                                                    |
//! |      1 |    4 | extended magic `3e 00 7a 00`                                                     |
//! |      5 |    4 | footer checksum: these 53 bytes with this field zero, plus the context modifier  |
//! |      9 |    4 | base context checksum, non-zero                                                  |
//! |     13 |    4 | metaindex size; the metaindex block with its trailer ends where the footer begins |
//! |     17 |   16 | zero; its value is not looked at                                                 |
//! |     33 |    8 | zero; anything else is a feature from the future                                 |
//! |     41 |    4 | format version                                                                   |
//! |     45 |    8 | magic                                                                            |
//!
//! No checksum covers the footers of versions 0 to 5. The footer checksum of version 6 covers all its bytes.
//!
//! Upstream: `table/format.cc` (`Footer::DecodeFrom`, `FooterBuilder::Build`).

use recovery_core::Cursor;

use super::checksum::{ChecksumType, Seal};
use super::error::FormatError;
use super::handle::{BlockHandle, TRAILER};

/// Magic of block-based tables since format version 1.
pub const MAGIC: u64 = 0x88e2_41b7_85f4_cff7;
/// Magic of block-based tables of format version 0, and of LevelDB.
pub const LEGACY_MAGIC: u64 = 0xdb47_7524_8b80_fb57;
/// Magic of plain tables.
pub const PLAIN_MAGIC: u64 = 0x8242_2296_63bf_9564;
/// Magic of old plain tables.
pub const LEGACY_PLAIN_MAGIC: u64 = 0x4f34_18eb_7a8f_13b8;
/// Magic of cuckoo tables.
pub const CUCKOO_MAGIC: u64 = 0x9267_89d0_c5f1_7873;

/// Length of a footer of format version 1 and later.
pub const LEN: usize = 53;
/// Length of a footer of format version 0.
pub const LEGACY_LEN: usize = 48;
/// The newest format version whose blocks this crate reads.
pub const NEWEST: u32 = 6;

const EXTENDED_MAGIC: [u8; 4] = [0x3e, 0x00, 0x7a, 0x00];
const NAME: &str = "table footer";

/// What the footer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// 0 to 6.
    pub format_version: u32,
    /// Checksum algorithm and context of all blocks.
    pub seal: Seal,
    /// The metaindex block.
    pub metaindex: BlockHandle,
    /// The index block; from version 6 on it is an entry of the metaindex instead.
    pub index: Option<BlockHandle>,
    /// Offset of the footer: no block reaches past it.
    pub offset: u64,
}

impl Footer {
    /// Decodes the footer from the last bytes of a file of length `file_len`.
    ///
    /// # Errors
    ///
    /// When the file is too short, has another magic number, a format version or checksum type that is not known,
    /// handles that reach past the footer, or (version 6) a checksum that does not match.
    pub fn decode(tail: &[u8], file_len: u64) -> Result<Self, FormatError> {
        let mut magic = Cursor::new(tail.last_chunk::<8>().map_or(tail, |m| m), file_len.saturating_sub(8));
        let magic = magic.u64_le("magic number")?;
        let at = file_len.saturating_sub(8);
        match magic {
            MAGIC => Self::decode_current(tail, file_len),
            LEGACY_MAGIC => Self::decode_legacy(tail, file_len),
            PLAIN_MAGIC | LEGACY_PLAIN_MAGIC => Err(FormatError::unsupported(NAME, at, "a plain table")),
            CUCKOO_MAGIC => Err(FormatError::unsupported(NAME, at, "a cuckoo table")),
            other => Err(FormatError::value(
                NAME,
                "magic number",
                at,
                format_args!("{other:#018x}"),
                format_args!("{MAGIC:#018x} or {LEGACY_MAGIC:#018x}"),
            )),
        }
    }

    fn decode_legacy(tail: &[u8], file_len: u64) -> Result<Self, FormatError> {
        let offset = file_len.saturating_sub(LEGACY_LEN as u64);
        let mut c = Cursor::new(last(tail, LEGACY_LEN, file_len)?, offset);
        let footer = Self {
            format_version: 0,
            seal: Seal { algorithm: ChecksumType::Crc32c, base: 0 },
            metaindex: BlockHandle::decode(&mut c)?,
            index: Some(BlockHandle::decode(&mut c)?),
            offset,
        };
        footer.check_handles()
    }

    fn decode_current(tail: &[u8], file_len: u64) -> Result<Self, FormatError> {
        let offset = file_len.saturating_sub(LEN as u64);
        let bytes = last(tail, LEN, file_len)?;
        let mut c = Cursor::new(bytes, offset);
        let mut version = c;
        version.skip(41, "footer handles")?;
        let format_version = version.u32_le("format version")?;
        let byte = c.u8("checksum type")?;
        let Some(algorithm) = ChecksumType::from_byte(byte) else {
            return Err(FormatError::value(NAME, "checksum type", offset, byte, "0 to 4"));
        };
        // A version 6 footer in which only the version changed would pass for an older one without any checksum.
        let extended = bytes.get(1..5) == Some(&EXTENDED_MAGIC[..]);
        match format_version {
            1..=5 if !extended => Self {
                format_version,
                seal: Seal { algorithm, base: 0 },
                metaindex: BlockHandle::decode(&mut c)?,
                index: Some(BlockHandle::decode(&mut c)?),
                offset,
            }
            .check_handles(),
            6..=64 => Self::decode_context(bytes, c, algorithm, format_version, offset),
            _ => Err(FormatError::value(
                NAME,
                "format version",
                offset.saturating_add(41),
                format_version,
                if extended { "6, as the extended magic says".to_owned() } else { format!("1 to {NEWEST}") },
            )),
        }
    }

    fn decode_context(
        bytes: &[u8],
        mut c: Cursor<'_>,
        algorithm: ChecksumType,
        format_version: u32,
        offset: u64,
    ) -> Result<Self, FormatError> {
        let extended = c.array::<4>("extended magic")?;
        if extended != EXTENDED_MAGIC {
            let found = super::coding::hex(&extended);
            return Err(FormatError::value(NAME, "extended magic", offset.saturating_add(1), found, "3e007a00"));
        }
        let stored = c.u32_le("footer checksum")?;
        let base = c.u32_le("base context checksum")?;
        let size = u64::from(c.u32_le("metaindex size")?);
        let seal = Seal { algorithm, base };
        let computed = footer_checksum(bytes, &seal, offset);
        if stored != computed {
            let length = LEN as u64;
            let algorithm = algorithm.name();
            return Err(FormatError::Checksum { structure: NAME, at: offset, length, algorithm, stored, computed });
        }
        if format_version > NEWEST {
            let at = offset.saturating_add(41);
            return Err(FormatError::unsupported(NAME, at, format_args!("format version {format_version}")));
        }
        if base == 0 {
            let at = offset.saturating_add(9);
            return Err(FormatError::value(NAME, "base context checksum", at, 0, "a non-zero value"));
        }
        c.skip(16, "reserved")?;
        let reserved = c.u64_le("reserved")?;
        if reserved != 0 {
            let at = offset.saturating_add(33);
            return Err(FormatError::unsupported(NAME, at, format_args!("the feature word {reserved:#x}")));
        }
        let start = offset.checked_sub(TRAILER).and_then(|end| end.checked_sub(size)).ok_or_else(|| {
            FormatError::value(NAME, "metaindex size", offset.saturating_add(13), size, "less than the file holds")
        })?;
        let metaindex = BlockHandle { offset: start, size };
        Ok(Self { format_version: 6, seal, metaindex, index: None, offset })
    }

    /// Are the bytes behind the handles of a footer without checksum zero, as every writer leaves them?
    ///
    /// No reader looks at them; a value there is damage that nothing else shows. `tail` ends where the file ends.
    #[must_use]
    pub fn padding_is_zero(&self, tail: &[u8]) -> bool {
        let (length, head, end) = match self.format_version {
            0 => (LEGACY_LEN, 0, 40),
            1..=5 => (LEN, 1, 41),
            _ => return true,
        };
        let bytes = tail.len().checked_sub(length).and_then(|start| tail.get(start..)).unwrap_or_default();
        let mut c = Cursor::new(bytes.get(head..end).unwrap_or_default(), self.offset);
        let handles = BlockHandle::decode(&mut c).is_ok() && BlockHandle::decode(&mut c).is_ok();
        handles && c.rest().iter().all(|byte| *byte == 0)
    }

    fn check_handles(self) -> Result<Self, FormatError> {
        for (field, handle) in [("metaindex handle", Some(self.metaindex)), ("index handle", self.index)] {
            if let Some(handle) = handle.filter(|h| !h.fits(self.offset)) {
                let expected = format_args!("a block that ends by {:#x}", self.offset);
                return Err(FormatError::value(NAME, field, self.offset, format_args!("{handle:?}"), expected));
            }
        }
        Ok(self)
    }

    /// The stored form. For version 6 the metaindex must end where the footer begins.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LEN);
        let legacy = self.format_version == 0;
        if !legacy {
            out.push(self.seal.algorithm.byte());
        }
        if self.format_version >= 6 {
            out.extend_from_slice(&EXTENDED_MAGIC);
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&self.seal.base.to_le_bytes());
            out.extend_from_slice(&u32::try_from(self.metaindex.size).unwrap_or(u32::MAX).to_le_bytes());
        } else {
            self.metaindex.encode(&mut out);
            self.index.unwrap_or_default().encode(&mut out);
        }
        out.resize(if legacy { 40 } else { 41 }, 0);
        if legacy {
            out.extend_from_slice(&LEGACY_MAGIC.to_le_bytes());
            return out;
        }
        out.extend_from_slice(&self.format_version.to_le_bytes());
        out.extend_from_slice(&MAGIC.to_le_bytes());
        if self.format_version >= 6 {
            let checksum = footer_checksum(&out, &self.seal, self.offset);
            if let Some(field) = out.get_mut(5..9) {
                field.copy_from_slice(&checksum.to_le_bytes());
            }
        }
        out
    }
}

/// The footer is its own block here: its last byte plays the part of the type byte.
fn footer_checksum(bytes: &[u8], seal: &Seal, offset: u64) -> u32 {
    let mut copy = bytes.to_vec();
    if let Some(field) = copy.get_mut(5..9) {
        field.fill(0);
    }
    seal.compute(offset, &copy)
}

fn last(tail: &[u8], n: usize, file_len: u64) -> Result<&[u8], FormatError> {
    let start = tail.len().checked_sub(n);
    start.and_then(|s| tail.get(s..)).ok_or_else(|| {
        let expected = format_args!("at least {n} bytes");
        FormatError::value(NAME, "file length", 0, file_len, expected)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn footer(format_version: u32) -> Footer {
        let context = format_version >= 6;
        let algorithm = if format_version == 0 { ChecksumType::Crc32c } else { ChecksumType::Xxh3 };
        Footer {
            format_version,
            seal: Seal { algorithm, base: if context { 0x1234_5678 } else { 0 } },
            metaindex: BlockHandle { offset: 900, size: 95 },
            index: (!context).then_some(BlockHandle { offset: 300, size: 70 }),
            offset: 1000,
        }
    }

    #[test]
    fn every_version_comes_back() {
        for version in 0..=6 {
            let footer = footer(version);
            let bytes = footer.encode();
            assert_eq!(bytes.len(), if version == 0 { LEGACY_LEN } else { LEN });
            let file_len = 1000 + bytes.len() as u64;
            assert_eq!(Footer::decode(&bytes, file_len), Ok(footer), "version {version}");
        }
    }

    #[test]
    fn every_flipped_bit_of_version_6_is_noticed() {
        let bytes = footer(6).encode();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Footer::decode(&bad, 1053).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_cut_is_an_error() {
        for version in [0, 5, 6] {
            let bytes = footer(version).encode();
            for n in 0..bytes.len() {
                assert!(Footer::decode(&bytes[..n], 1000 + n as u64).is_err());
            }
        }
    }
}
