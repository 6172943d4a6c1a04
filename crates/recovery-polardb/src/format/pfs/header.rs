//! Chunk header: the first sector of every chunk.
//!
//! | offset | size | type     | field    | meaning                                                     |
//! | -----: | ---: | -------- | -------- | ----------------------------------------------------------- |
//! |      0 |    8 | u64      | magic    | 0x5046534348; in chunk 0 plus the version                   |
//! |      8 |    8 | u64      | chunk    | bytes of a chunk, 10 GiB                                    |
//! |     16 |    8 | u64      | block    | bytes of a block, 4 MiB                                     |
//! |     24 |    8 | u64      | sector   | bytes of a sector, 4096                                     |
//! |     32 |    8 | u64      | number   | this chunk                                                  |
//! |     40 |    4 | u32      | chunks   | chunks of the file system; the value in chunk 0 rules       |
//! |     44 |    4 | -        | padding  |                                                             |
//! |     48 |   64 | 4 × 16   | metasets | {u64 device byte, u32 sectors, u32 object bytes}; the first is zero |
//! |    112 |    4 | u32      | checksum | over the 120 bytes; 0 = written without one                 |
//! |    116 |    4 | -        | padding  |                                                             |
//!
//! Everything in it follows from (number, chunks, version), so a lost header can be made again bit
//! for bit. Source: `pfs_chunk_phy_t` in `pfs_meta.h`, `pfs_chunk_readin` in `pfs_chunk.cc`.

use std::sync::LazyLock;

use super::{BLOCK, CHUNK, Corrector, Kind, SECTOR, checksum, raw};

/// Bytes of the header that carry meaning.
pub const HEADER_LEN: usize = 120;
/// The magic of version 0 and of every chunk but the first.
pub const MAGIC: u64 = 0x50_4653_4348;
/// Versions the engine reserves magics for.
const VERSIONS: u64 = 64;
const CHECKSUM: usize = 112;
/// [`OBJECT_LEN`](super::OBJECT_LEN) as the header holds it.
const OBJECT_BYTES: u32 = 128;

static CORRECTOR: LazyLock<Corrector> = LazyLock::new(|| Corrector::of_struct(HEADER_LEN, CHECKSUM));

/// What a chunk header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// This chunk.
    pub number: u64,
    /// Chunks of the file system.
    pub chunks: u32,
    /// On-disk version; only chunk 0 carries it, 0 elsewhere.
    pub version: u64,
}

/// Why a sector is not a chunk header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// Nothing but zeros.
    #[error("the sector is all zero")]
    Absent,
    /// Another magic.
    #[error("magic is {found:#x}, expected {MAGIC:#x}")]
    Magic {
        /// The value read.
        found: u64,
    },
    /// The bytes do not match their checksum.
    #[error("checksum is {stored:#010x}, bytes give {computed:#010x}")]
    Checksum {
        /// The value read.
        stored: u32,
        /// The value of the bytes.
        computed: u32,
    },
    /// A field that can have one value only has another, under a right checksum.
    #[error("{field} is {found}, expected {expected}")]
    Geometry {
        /// Name of the field.
        field: &'static str,
        /// The value read.
        found: u64,
        /// The only value there is.
        expected: u64,
    },
}

impl ChunkHeader {
    /// Reads the header of chunk `number`.
    ///
    /// # Errors
    /// When the magic, the checksum or a constant field is wrong.
    pub fn decode(bytes: &[u8; HEADER_LEN], number: u64) -> Result<Self, HeaderFault> {
        if bytes.iter().all(|b| *b == 0) {
            return Err(HeaderFault::Absent);
        }
        let magic = raw::u64_at(bytes, 0);
        let version = magic.wrapping_sub(MAGIC);
        let allowed = if number == 0 { VERSIONS } else { 1 };
        if version >= allowed {
            return Err(HeaderFault::Magic { found: magic });
        }
        let stored = raw::u32_at(bytes, CHECKSUM);
        let computed = checksum::of_struct(bytes, CHECKSUM);
        if stored != 0 && stored != computed {
            return Err(HeaderFault::Checksum { stored, computed });
        }
        let this = Self { number, chunks: raw::u32_at(bytes, 40), version };
        this.check_geometry(bytes)?;
        Ok(this)
    }

    fn check_geometry(&self, bytes: &[u8; HEADER_LEN]) -> Result<(), HeaderFault> {
        let good = self.encode();
        let fields = [
            ("chunk size", 8),
            ("block size", 16),
            ("sector size", 24),
            ("chunk number", 32),
            ("address of the block tags", 64),
            ("size of the block tags", 72),
            ("address of the directory entries", 80),
            ("size of the directory entries", 88),
            ("address of the inodes", 96),
            ("size of the inodes", 104),
        ];
        for (field, at) in fields {
            let (found, expected) = (raw::u64_at(bytes, at), raw::u64_at(&good, at));
            if found != expected {
                return Err(HeaderFault::Geometry { field, found, expected });
            }
        }
        if self.chunks == 0 {
            return Err(HeaderFault::Geometry { field: "number of chunks", found: 0, expected: 1 });
        }
        Ok(())
    }

    /// The 120 bytes of this header, sealed.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let version = if self.number == 0 { self.version } else { 0 };
        raw::put(&mut out, 0, &MAGIC.wrapping_add(version).to_le_bytes());
        raw::put(&mut out, 8, &CHUNK.to_le_bytes());
        raw::put(&mut out, 16, &BLOCK.to_le_bytes());
        raw::put(&mut out, 24, &SECTOR.to_le_bytes());
        raw::put(&mut out, 32, &self.number.to_le_bytes());
        raw::put(&mut out, 40, &self.chunks.to_le_bytes());
        for (slot, kind) in Kind::ALL.into_iter().enumerate() {
            let at = 64 + slot * 16;
            let address = self.number.saturating_mul(CHUNK).saturating_add(kind.start());
            raw::put(&mut out, at, &address.to_le_bytes());
            raw::put(&mut out, at + 8, &kind.sectors().to_le_bytes());
            raw::put(&mut out, at + 12, &OBJECT_BYTES.to_le_bytes());
        }
        let crc = checksum::of_struct(&out, CHECKSUM);
        raw::put(&mut out, CHECKSUM, &crc.to_le_bytes());
        out
    }

    /// Reads a header in which one bit was turned; returns the bit too.
    #[must_use]
    pub fn correct(bytes: &[u8; HEADER_LEN], number: u64) -> Option<(Self, usize)> {
        let stored = raw::u32_at(bytes, CHECKSUM);
        let computed = checksum::of_struct(bytes, CHECKSUM);
        let (fixed, bit) = CORRECTOR.correct(bytes, stored, computed)?;
        Some((Self::decode(&fixed, number).ok()?, bit))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]
mod tests {
    use super::*;

    /// Checksums of headers of a production cluster, published by its operator, and of a test image.
    const KNOWN: [(u64, u32, u32); 6] = [
        (0, 1, 2_527_540_582),
        (0, 2, 2_397_668_946),
        (1, 2, 86_206_895),
        (0, 3, 2_262_034_622),
        (1, 3, 219_744_067),
        (2, 3, 3_123_774_169),
    ];

    #[test]
    fn a_header_is_made_again_bit_for_bit() {
        for (number, chunks, crc) in KNOWN {
            let bytes = ChunkHeader { number, chunks, version: 2 }.encode();
            assert_eq!(raw::u32_at(&bytes, CHECKSUM), crc, "chunk {number} of {chunks}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_corrected() {
        let header = ChunkHeader { number: 0, chunks: 3, version: 2 };
        let good = header.encode();
        for bit in 0..HEADER_LEN * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(ChunkHeader::decode(&bad, 0).is_err(), "bit {bit}");
            assert_eq!(ChunkHeader::correct(&bad, 0), Some((header, bit)));
        }
    }

    #[test]
    fn only_chunk_zero_has_a_version() {
        let bytes = ChunkHeader { number: 0, chunks: 1, version: 3 }.encode();
        assert_eq!(ChunkHeader::decode(&bytes, 0).unwrap().version, 3);
        assert!(matches!(ChunkHeader::decode(&bytes, 1), Err(HeaderFault::Magic { .. })));
    }
}
