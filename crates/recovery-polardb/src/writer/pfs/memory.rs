//! A sparse image in memory: ten gigabytes that take the room of what was written.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use recovery_core::{Blob, ReadError};

use super::ImageSink;

const PAGE: usize = 4096;
const PAGE_BYTES: u64 = PAGE as u64;

/// An image whose untouched parts are zero. A clone shares its pages until one of the two is written.
#[derive(Clone, Debug, Default)]
pub struct MemoryImage {
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
    len: u64,
}

impl MemoryImage {
    /// An image of `len` zeros.
    #[must_use]
    pub fn new(len: u64) -> Self {
        Self { pages: BTreeMap::new(), len }
    }

    /// Writes bytes; past the end, the image grows.
    pub fn put(&mut self, offset: u64, bytes: &[u8]) {
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let within = usize::try_from(at % PAGE_BYTES).unwrap_or(0);
            let (part, tail) = rest.split_at(PAGE.saturating_sub(within).min(rest.len()));
            let page = Arc::make_mut(self.pages.entry(at / PAGE_BYTES).or_insert_with(|| Arc::new([0; PAGE])));
            if let Some(place) = page.get_mut(within..within.saturating_add(part.len())) {
                place.copy_from_slice(part);
            }
            at = at.saturating_add(part.len() as u64);
            rest = tail;
        }
        self.len = self.len.max(at);
    }

    /// Makes a range zero.
    pub fn zero(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let touched: Vec<u64> =
            self.pages.range(offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES)).map(|(p, _)| *p).collect();
        for page in touched {
            let start = page.saturating_mul(PAGE_BYTES);
            let (from, to) = (offset.max(start), end.min(start.saturating_add(PAGE_BYTES)));
            if to.saturating_sub(from) == PAGE_BYTES {
                self.pages.remove(&page);
            } else {
                let zeros = [0; PAGE];
                let n = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
                self.put(from, zeros.get(..n).unwrap_or_default());
            }
        }
    }

    /// Turns one bit.
    pub fn flip(&mut self, offset: u64, bit: u8) {
        let mut byte = [0; 1];
        if self.read_exact_at(offset, &mut byte).is_ok() {
            self.put(offset, &byte.map(|b| b ^ (1 << (bit % 8))));
        }
    }

    /// Makes the image shorter, or longer with zeros.
    pub fn truncate(&mut self, len: u64) {
        if len < self.len {
            self.zero(len, self.len.saturating_sub(len));
        }
        self.len = len;
    }

    /// Device offsets of the pages that hold anything, in order.
    pub fn pages(&self) -> impl Iterator<Item = u64> + '_ {
        self.pages.keys().map(|p| p.saturating_mul(PAGE_BYTES))
    }
}

impl Blob for MemoryImage {
    fn name(&self) -> &str {
        "image"
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let n = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(buf.len());
        let Some(buf) = buf.get_mut(..n).filter(|b| !b.is_empty()) else { return Ok(0) };
        buf.fill(0);
        let end = offset.saturating_add(n as u64);
        for (page, bytes) in self.pages.range(offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES)) {
            let start = page.saturating_mul(PAGE_BYTES);
            let (from, to) = (offset.max(start), end.min(start.saturating_add(PAGE_BYTES)));
            let index = |x: u64, base: u64| usize::try_from(x.saturating_sub(base)).unwrap_or(usize::MAX);
            let source = bytes.get(index(from, start)..index(to, start));
            if let (Some(to), Some(from)) = (buf.get_mut(index(from, offset)..index(to, offset)), source) {
                to.copy_from_slice(from);
            }
        }
        Ok(n)
    }
}

impl ImageSink for MemoryImage {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.truncate(len);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.put(offset, bytes);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_vector() {
        let (mut image, mut plain) = (MemoryImage::new(20_000), vec![0u8; 20_000]);
        for (at, len, value) in [(0usize, 10usize, 1u8), (4000, 200, 2), (8191, 2, 3), (12_000, 8000, 4)] {
            image.put(at as u64, &vec![value; len]);
            plain[at..at + len].fill(value);
        }
        image.zero(4090, 5000);
        plain[4090..9090].fill(0);
        image.flip(4000, 0);
        plain[4000] ^= 1;
        assert_eq!(&image.bytes(0..20_000).unwrap()[..], &plain[..]);
        image.truncate(12_001);
        image.truncate(20_000);
        plain[12_001..].fill(0);
        assert_eq!(&image.bytes(0..20_000).unwrap()[..], &plain[..]);
    }
}
