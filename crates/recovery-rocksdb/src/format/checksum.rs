//! Checksums of tables, logs and blob files.
//!
//! | type | name     | value stored                                                                    |
//! | ---: | -------- | ------------------------------------------------------------------------------- |
//! |    0 | none     | 0, which readers ignore                                                         |
//! |    1 | CRC-32C  | masked: rotated right by 15 bits, plus `0xa282ead8`                             |
//! |    2 | xxHash32 | seed 0                                                                          |
//! |    3 | xxHash64 | low 32 bits, seed 0                                                             |
//! |    4 | XXH3     | low 32 bits over all but the last byte, xor last byte times `0x6b9083d9`        |
//!
//! A block's checksum covers its payload and the compression-type byte behind it. From format version 6 on a
//! *context* is added, so that a block moved inside a file or between files no longer verifies:
//! `modifier = base ^ (low32(offset) + high32(offset))` for a non-zero base, which each file draws at random.
//!
//! Upstream: `table/format.cc` (`ComputeBuiltinChecksum`, `ChecksumModifierForContext`), `util/crc32c.h` (`Mask`).

use twox_hash::{XxHash3_64, XxHash32, XxHash64};

const MASK_DELTA: u32 = 0xa282_ead8;
const LAST_BYTE_FACTOR: u32 = 0x6b90_83d9;

/// CRC-32C (Castagnoli) as it is, not masked.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Continues a CRC-32C over more bytes.
#[must_use]
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

/// The form in which RocksDB stores a CRC-32C, so that a checksum over bytes that hold checksums stays useful.
#[inline]
#[must_use]
pub const fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(MASK_DELTA)
}

/// The inverse of [`mask`].
#[inline]
#[must_use]
pub const fn unmask(masked: u32) -> u32 {
    masked.wrapping_sub(MASK_DELTA).rotate_left(15)
}

/// Masked CRC-32C of `bytes`, as log records and blob records store it.
#[must_use]
pub fn masked_crc32c(bytes: &[u8]) -> u32 {
    mask(crc32c(bytes))
}

/// The algorithm a table's footer names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ChecksumType {
    /// No checksum: damage shows only where decoding fails.
    None,
    /// Masked CRC-32C, the default until 6.28.
    Crc32c,
    /// xxHash, 32 bits.
    XxHash32,
    /// xxHash, 64 bits, low half.
    XxHash64,
    /// XXH3, low half, the default since 7.0.
    Xxh3,
}

impl ChecksumType {
    /// All that exist, the most used first.
    pub const ALL: [Self; 5] = [Self::Xxh3, Self::Crc32c, Self::XxHash64, Self::XxHash32, Self::None];

    /// The type a footer byte stands for.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::None),
            1 => Some(Self::Crc32c),
            2 => Some(Self::XxHash32),
            3 => Some(Self::XxHash64),
            4 => Some(Self::Xxh3),
            _ => None,
        }
    }

    /// The footer byte.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Crc32c => 1,
            Self::XxHash32 => 2,
            Self::XxHash64 => 3,
            Self::Xxh3 => 4,
        }
    }

    /// The name in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Crc32c => "crc32c",
            Self::XxHash32 => "xxhash32",
            Self::XxHash64 => "xxhash64",
            Self::Xxh3 => "xxh3",
        }
    }

    /// The checksum of a payload with its type byte as the last byte, without context.
    #[inline]
    #[must_use]
    pub fn of(self, sealed: &[u8]) -> u32 {
        match self {
            Self::None => 0,
            Self::Crc32c => masked_crc32c(sealed),
            Self::XxHash32 => XxHash32::oneshot(0, sealed),
            Self::XxHash64 => low32(XxHash64::oneshot(0, sealed)),
            Self::Xxh3 => match sealed.split_last() {
                Some((last, rest)) => {
                    low32(XxHash3_64::oneshot(rest)) ^ u32::from(*last).wrapping_mul(LAST_BYTE_FACTOR)
                }
                None => 0,
            },
        }
    }
}

/// The low half of a 64-bit hash.
#[inline]
const fn low32(hash: u64) -> u32 {
    let [a, b, c, d, ..] = hash.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[inline]
const fn high32(value: u64) -> u32 {
    low32(value >> 32)
}

/// What protects the blocks of one table: the algorithm, and the file's context from format version 6 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seal {
    /// The algorithm.
    pub algorithm: ChecksumType,
    /// The base context checksum; 0 for tables without context.
    pub base: u32,
}

impl Seal {
    /// What is added to the checksum of a block that starts at `offset`.
    #[inline]
    #[must_use]
    pub const fn modifier(base: u32, offset: u64) -> u32 {
        if base == 0 { 0 } else { base ^ low32(offset).wrapping_add(high32(offset)) }
    }

    /// The value that should be stored behind a block at `offset` whose payload and type byte are `sealed`.
    #[inline]
    #[must_use]
    pub fn compute(&self, offset: u64, sealed: &[u8]) -> u32 {
        self.algorithm.of(sealed).wrapping_add(Self::modifier(self.base, offset))
    }

    /// Does the stored value fit?
    ///
    /// [`ChecksumType::None`] covers nothing, but writers store 0 (and the context) all the same: another value shows
    /// that the footer names the wrong type.
    #[inline]
    #[must_use]
    pub fn fits(&self, offset: u64, sealed: &[u8], stored: u32) -> bool {
        self.compute(offset, sealed) == stored
    }

    /// The base that makes an intact block at `offset` verify; how a lost footer's context is found again.
    #[must_use]
    pub const fn base_from(stored: u32, plain: u32, offset: u64) -> u32 {
        stored.wrapping_sub(plain) ^ low32(offset).wrapping_add(high32(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_answers() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(XxHash32::oneshot(0, b""), 0x02cc_5d05);
        assert_eq!(ChecksumType::XxHash64.of(b""), 0x51d8_e999);
        assert_eq!(ChecksumType::Xxh3.of(b""), 0);
        assert_eq!(ChecksumType::None.of(b"abc"), 0);
        for kind in ChecksumType::ALL {
            assert_eq!(ChecksumType::from_byte(kind.byte()), Some(kind));
        }
        assert_eq!(ChecksumType::from_byte(5), None);
    }

    proptest! {
        #[test]
        fn mask_has_an_inverse(crc: u32) {
            prop_assert_eq!(unmask(mask(crc)), crc);
        }

        #[test]
        fn the_base_comes_back(base in 1_u32.., offset: u64, sealed: Vec<u8>) {
            for algorithm in ChecksumType::ALL {
                let stored = Seal { algorithm, base }.compute(offset, &sealed);
                prop_assert_eq!(Seal::base_from(stored, algorithm.of(&sealed), offset), base);
            }
        }
    }
}
