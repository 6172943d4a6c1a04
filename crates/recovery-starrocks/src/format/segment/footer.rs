//! The end of a segment file.
//!
//! ```text
//! SegmentFooterPB | u32 LE length of it | u32 LE CRC-32C of it | "D0R1"
//! ```
//! Source: `be/src/storage/rowset/segment.cpp`, `Segment::parse_segment_footer`.

use prost::Message;
use recovery_core::Cursor;

use super::fault::{Fault, Why};
use super::proto::SegmentFooter;

/// The last four bytes of every segment.
pub const MAGIC: &[u8; 4] = b"D0R1";

/// Bytes behind the message: length, checksum, magic.
pub const TRAILER: u64 = 12;

/// Length and checksum of a footer, from the last twelve bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Length of the message.
    pub length: u32,
    /// CRC-32C of the message.
    pub checksum: u32,
}

impl Trailer {
    /// Reads the trailer of a file of `file_len` bytes.
    ///
    /// # Errors
    ///
    /// When the file is too short, the magic is wrong, or the message would begin before the file does.
    pub fn decode(last: &[u8], file_len: u64) -> Result<Self, Fault> {
        let at = file_len.saturating_sub(TRAILER);
        if file_len < TRAILER {
            return Err(Fault::short("segment footer", 0, TRAILER, file_len));
        }
        let mut c = Cursor::new(last, at);
        let length = c.u32_le("segment footer length")?;
        let checksum = c.u32_le("segment footer checksum")?;
        let magic = c.take(4, "segment footer magic")?;
        if magic != MAGIC {
            let found: String = magic.escape_ascii().to_string();
            return Err(Fault::value(
                "segment footer",
                at.saturating_add(8),
                format!("magic is \"{found}\", expected \"D0R1\""),
            ));
        }
        if u64::from(length) > at {
            return Err(Fault::short("segment footer", 0, u64::from(length).saturating_add(TRAILER), file_len));
        }
        Ok(Self { length, checksum })
    }
}

/// Decodes the message, whose first byte lies at `at`.
///
/// # Errors
///
/// When the checksum does not fit or the message is no `SegmentFooterPB`.
pub fn decode(trailer: Trailer, message: &[u8], at: u64) -> Result<SegmentFooter, Fault> {
    if message.len() as u64 != u64::from(trailer.length) {
        return Err(Fault::short("segment footer", at, u64::from(trailer.length), message.len() as u64));
    }
    let computed = super::crc32c(message);
    if computed != trailer.checksum {
        let why = Why::Checksum { stored: trailer.checksum, computed };
        return Err(Fault { what: "segment footer", page: None, at, why });
    }
    SegmentFooter::decode(message).map_err(|e| Fault::value("segment footer", at, e.to_string()))
}

/// Encodes a footer with its trailer, as it stands at the end of a file.
#[must_use]
pub fn encode(footer: &SegmentFooter) -> Vec<u8> {
    let mut out = footer.encode_to_vec();
    let (length, checksum) = (out.len(), super::crc32c(&out));
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(MAGIC);
    out
}
