//! The frame of a page.
//!
//! ```text
//! body | PageFooterPB | u32 LE length of PageFooterPB | u32 LE CRC-32C of everything before it
//! ```
//! The body is stored as it is when it is as long as `uncompressed_size`, else compressed with the column's
//! compression. Source: `be/src/storage/rowset/page_io.cpp`.

use bytes::Bytes;
use prost::Message;
use recovery_core::Cursor;

use super::compress::{Codec, decompress};
use super::fault::{Fault, Why};
use super::proto::PageFooter;

/// A page whose checksum was found right.
#[derive(Clone, Debug)]
pub struct RawPage {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length with footer and checksum.
    pub size: u32,
    /// Its footer.
    pub footer: PageFooter,
    /// The body as stored.
    pub body: Bytes,
}

impl RawPage {
    /// Checks the frame of the page `bytes`, which lies at `offset`.
    ///
    /// # Errors
    ///
    /// When it is too short, the checksum is wrong or the footer cannot be decoded.
    pub fn check(bytes: &Bytes, offset: u64) -> Result<Self, Fault> {
        let size = bytes.len();
        let Some(covered) = size.checked_sub(4).filter(|_| size >= 8) else {
            return Err(Fault::short("page", offset, 8, size as u64));
        };
        let sum = bytes.slice(covered..);
        let stored = Cursor::new(&sum, offset.saturating_add(covered as u64)).u32_le("page checksum")?;
        let computed = super::crc32c(&bytes.slice(..covered));
        if stored != computed {
            let why = Why::Checksum { stored, computed };
            return Err(Fault { what: "page", page: None, at: offset, why });
        }
        let body_and_footer = covered.saturating_sub(4);
        let word = bytes.slice(body_and_footer..covered);
        let at = offset.saturating_add(body_and_footer as u64);
        let footer_len = Cursor::new(&word, at).u32_le("page footer length")?;
        let footer_at = usize::try_from(footer_len).ok().and_then(|n| body_and_footer.checked_sub(n));
        let Some(footer_at) = footer_at else {
            return Err(Fault::short("page footer", at, u64::from(footer_len), body_and_footer as u64));
        };
        let footer = PageFooter::decode(bytes.slice(footer_at..body_and_footer))
            .map_err(|e| Fault::value("page footer", offset.saturating_add(footer_at as u64), e.to_string()))?;
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        Ok(Self { offset, size, footer, body: bytes.slice(..footer_at) })
    }

    /// The body, decompressed; at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// When it cannot be decompressed or would be longer than `limit`.
    pub fn decompressed(&self, codec: Codec, limit: u64) -> Result<Bytes, Fault> {
        let size = u64::from(self.footer.uncompressed_size);
        if size == self.body.len() as u64 {
            return Ok(self.body.clone());
        }
        if size > limit {
            return Err(Fault {
                what: "page body",
                page: None,
                at: self.offset,
                why: Why::Limit { need: size, limit },
            });
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        decompress(codec, &self.body, size).map_err(|why| Fault { what: "page body", page: None, at: self.offset, why })
    }
}

/// Encodes a page around a body stored as it is given.
#[must_use]
pub fn encode(body: &[u8], footer: &PageFooter) -> Vec<u8> {
    let mut out = body.to_vec();
    let message = footer.encode_to_vec();
    out.extend_from_slice(&message);
    out.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_le_bytes());
    let sum = super::crc32c(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}
