//! Data pages: header and checksum.
//!
//! | off | size | field |
//! |---|---|---|
//! | 0 | 8 | pd_lsn: high u32, then low u32 |
//! | 8 | 2 | pd_checksum |
//! | 10 | 2 | pd_flags |
//! | 12, 14, 16 | 2 each | pd_lower, pd_upper, pd_special |
//! | 18 | 2 | page size and version: 0x2004 for 8 KiB, layout 4 |
//! | 20 | 4 | pd_prune_xid |
//!
//! The checksum covers the whole page (its own two bytes taken as zero) and the block number. A page whose pd_upper
//! is 0 was never initialised and carries none: it must be all zero.
//!
//! Upstream: `src/include/storage/bufpage.h`, `checksum_impl.h` (`pg_checksum_page`), `bufpage.c` (`PageIsVerifiedExtended`).

use super::{BLOCK, Lsn, le16, le32};

/// The bytes of one page.
pub type Page = [u8; BLOCK];

/// Flag of an encrypted page in PolarDB with TDE.
pub const FLAG_ENCRYPTED: u16 = 0x8000;

/// Start values of the 32 lanes (`checksumBaseOffsets`).
const LANES: [u32; 32] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];
const PRIME: u32 = 16_777_619;

#[inline(always)]
const fn mix(sum: u32, word: u32) -> u32 {
    let t = sum ^ word;
    t.wrapping_mul(PRIME) ^ (t >> 17)
}

/// The checksum of a page at block number `block` of its relation fork.
#[must_use]
#[inline]
pub fn checksum(page: &Page, block: u32) -> u16 {
    let mut lanes = LANES;
    let (rows, _) = page.as_chunks::<128>();
    for (i, row) in rows.iter().enumerate() {
        let (words, _) = row.as_chunks::<4>();
        let mut row = [0u32; 32];
        for (to, from) in row.iter_mut().zip(words) {
            *to = u32::from_le_bytes(*from);
        }
        if i == 0 {
            row[2] &= 0xFFFF_0000;
        }
        for (lane, word) in lanes.iter_mut().zip(row) {
            *lane = mix(*lane, word);
        }
    }
    for _ in 0..2 {
        for lane in &mut lanes {
            *lane = mix(*lane, 0);
        }
    }
    let folded = lanes.iter().fold(0, |x, lane| x ^ lane) ^ block;
    // At most 65535 by the division, so the conversion cannot fail.
    u16::try_from(folded % 65_535 + 1).unwrap_or(u16::MAX)
}

/// The header of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Newest WAL record that changed the page.
    pub lsn: Lsn,
    /// Stored checksum.
    pub checksum: u16,
    /// `pd_flags`.
    pub flags: u16,
    /// End of the line pointers.
    pub lower: u16,
    /// Start of the tuples.
    pub upper: u16,
    /// Start of the index's own part.
    pub special: u16,
    /// Page size in the high byte, layout version in the low one.
    pub size_version: u16,
}

impl Header {
    /// Reads the header.
    #[must_use]
    pub fn of(page: &Page) -> Self {
        let b = page.as_slice();
        Self {
            lsn: Lsn(u64::from(le32(b, 0)) << 32 | u64::from(le32(b, 4))),
            checksum: le16(b, 8),
            flags: le16(b, 10),
            lower: le16(b, 12),
            upper: le16(b, 14),
            special: le16(b, 16),
            size_version: le16(b, 18),
        }
    }

    /// Whether the page was never initialised.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.upper == 0
    }

    /// The checks the server makes on every page it reads, whether checksums are on or not.
    #[must_use]
    pub const fn plausible(&self) -> bool {
        self.flags & !(0x0007 | FLAG_ENCRYPTED) == 0
            && self.lower <= self.upper
            && self.upper <= self.special
            && self.special as usize <= BLOCK
            && self.special.is_multiple_of(8)
    }
}

/// What one page is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The checksum agrees, or is not kept and the header is plausible.
    Good,
    /// Never initialised, all zero.
    New,
    /// Never initialised by its header, but not zero: the server refuses such a page.
    NotZero,
    /// The checksum disagrees.
    Checksum {
        /// In the page.
        stored: u16,
        /// Of the page.
        computed: u16,
    },
    /// The header is impossible; only told where no checksum is kept.
    Header,
}

/// Judges one page.
#[must_use]
#[inline]
pub fn verify(page: &Page, block: u32, checksums: bool) -> Verdict {
    // The two bytes of pd_upper decide, before the header is taken apart: this is the hot path.
    if page[14] == 0 && page[15] == 0 {
        let zero = page.as_chunks::<64>().0.iter().all(|c| *c == [0; 64]);
        return if zero { Verdict::New } else { Verdict::NotZero };
    }
    if !checksums {
        return if Header::of(page).plausible() { Verdict::Good } else { Verdict::Header };
    }
    let stored = u16::from_le_bytes([page[8], page[9]]);
    let computed = checksum(page, block);
    if stored == computed { Verdict::Good } else { Verdict::Checksum { stored, computed } }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_zero_page_is_new_and_one_stray_byte_makes_it_damaged() {
        let mut page = [0; BLOCK];
        assert_eq!(verify(&page, 0, true), Verdict::New);
        page[8000] = 1;
        assert_eq!(verify(&page, 0, true), Verdict::NotZero);
    }

    #[test]
    fn nearly_every_flipped_bit_changes_the_verdict() {
        let mut page = [0; BLOCK];
        for (i, b) in page.iter_mut().enumerate() {
            *b = u8::try_from(i * 7 % 251).unwrap_or(0);
        }
        let sum = checksum(&page, 77).to_le_bytes();
        page[8..10].copy_from_slice(&sum);
        assert_eq!(verify(&page, 77, true), Verdict::Good);
        assert_ne!(verify(&page, 78, true), Verdict::Good);
        let mut missed = 0;
        for bit in 0..BLOCK * 8 {
            page[bit / 8] ^= 1 << (bit % 8);
            missed += usize::from(verify(&page, 77, true) == Verdict::Good);
            page[bit / 8] ^= 1 << (bit % 8);
        }
        // A sum of 16 bits misses one change in 65,535, whoever computes it.
        assert!(missed <= 6, "{missed} of {} flips were missed", BLOCK * 8);
    }
}
