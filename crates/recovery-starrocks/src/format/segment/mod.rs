//! Segment files (format v2): one rowset's rows by column.
//!
//! ```text
//! data pages of column 0 [+ its dictionary page] | data pages of column 1 | ...
//! ordinal index pages, zone maps, bitmap indexes, bloom filters, short key page
//! SegmentFooterPB | u32 LE length | u32 LE CRC-32C | "D0R1"
//! ```
//! Everything is found through the footer ([`footer`]); every page carries its own checksum ([`page`]). A file without
//! its footer can still be cut into pages ([`walk`]). Integers are little-endian unless said otherwise. What each
//! checksum covers is in `docs/formats/starrocks-segment.md`.

pub mod bitshuffle;
pub mod compress;
#[cfg(feature = "arrow")]
pub mod data_page;
pub mod fault;
pub mod fixed;
pub mod footer;
pub mod index;
pub mod objects;
pub mod page;
pub mod proto;
#[cfg(feature = "arrow")]
pub mod rle;
pub mod roaring;
pub mod strings;
pub mod walk;

pub use compress::Codec;
#[cfg(feature = "arrow")]
pub use data_page::{DataPage, Layout, Shape, Values};
pub use fault::{Fault, Why};
pub use fixed::Fixed;
pub use page::RawPage;
pub use strings::Strings;

/// CRC-32C (Castagnoli), as stored beside footers and pages, not masked.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    // The sum is 32 bits wide, whatever the type the crate returns it in.
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(sum & 0xFFFF_FFFF).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::cast_possible_truncation
    )]
    #[test]
    fn the_checksum_is_castagnoli() {
        assert_eq!(super::crc32c(b"123456789"), 0xE306_9283);
    }
}
