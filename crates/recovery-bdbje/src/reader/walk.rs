//! One file, read once from front to back through a small window, every checksum computed.

use std::ops::Range;

use recovery_core::{Blob, Cursor};

use crate::format::header::{self, MAX_HEADER};
use crate::format::{EntryHeader, FormatError, Result};

/// Bytes read at a time: large enough to make system calls cheap, small enough to stay in the processor's cache.
const CHUNK: usize = 256 << 10;
/// Bytes read at a time where the medium fails.
const SECTOR: u64 = 4096;

/// An entry whose checksum agrees.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    /// Offset in the file.
    pub at: u64,
    /// Header.
    pub header: EntryHeader,
    /// Header and item.
    pub bytes: &'a [u8],
}

impl<'a> EntryRef<'a> {
    /// The item.
    #[must_use]
    pub fn item(&self) -> &'a [u8] {
        self.bytes.get(self.header.size()..).unwrap_or_default()
    }

    /// Offset of the item.
    #[must_use]
    pub const fn item_at(&self) -> u64 {
        self.at.saturating_add(self.header.size() as u64)
    }

    /// Where the next entry begins.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.at.saturating_add(self.bytes.len() as u64)
    }
}

/// A moving window over a file.
pub struct Walker<'b> {
    blob: &'b (dyn Blob + 'b),
    len: u64,
    buf: Vec<u8>,
    start: u64,
    filled: usize,
    unread: Vec<Range<u64>>,
}

impl std::fmt::Debug for Walker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walker").field("name", &self.blob.name()).field("start", &self.start).finish_non_exhaustive()
    }
}

impl<'b> Walker<'b> {
    /// A window over the first `len` bytes of `blob`.
    #[must_use]
    pub fn new(blob: &'b dyn Blob, len: u64) -> Self {
        Self { blob, len, buf: Vec::new(), start: 0, filled: 0, unread: Vec::new() }
    }

    /// Length of what is walked over.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What the medium did not give so far; those bytes read as zeros.
    #[must_use]
    pub fn unread(&self) -> &[Range<u64>] {
        &self.unread
    }

    /// At least `need` bytes from `at` on, or all there are.
    #[inline]
    pub fn window(&mut self, at: u64, need: usize) -> &[u8] {
        let skip = usize::try_from(at.wrapping_sub(self.start)).unwrap_or(usize::MAX);
        let have = self.filled.saturating_sub(skip);
        let enough = at >= self.start && (have >= need || self.start.saturating_add(self.filled as u64) >= self.len);
        if !enough || skip > self.filled {
            self.fill(at, need);
            return self.buf.get(..self.filled).unwrap_or_default();
        }
        self.buf.get(skip..self.filled).unwrap_or_default()
    }

    /// Makes the window begin at `at`.
    #[cold]
    fn fill(&mut self, at: u64, need: usize) {
        let at = at.min(self.len);
        let left = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let want = need.max(CHUNK).min(left);
        let keep = match usize::try_from(at.wrapping_sub(self.start)) {
            Ok(skip) if at >= self.start && skip < self.filled => {
                self.buf.copy_within(skip..self.filled, 0);
                self.filled.saturating_sub(skip).min(want)
            }
            _ => 0,
        };
        if self.buf.len() < want {
            self.buf.resize(want, 0);
        }
        self.start = at;
        self.filled = want;
        let from = at.saturating_add(keep as u64);
        if let Some(part) = self.buf.get_mut(keep..want)
            && self.blob.read_exact_at(from, part).is_err()
        {
            read_by_sectors(self.blob, from, part, &mut self.unread);
        }
    }

    /// The entry at `at`, its checksum computed.
    ///
    /// # Errors
    ///
    /// When there is no valid entry.
    #[inline]
    pub fn entry(&mut self, at: u64) -> Result<EntryRef<'_>> {
        let len = self.len;
        let header = EntryHeader::decode(&mut Cursor::new(self.window(at, MAX_HEADER), at))?;
        let end = at.saturating_add(header.total());
        if end > len {
            return Err(FormatError::PastEnd { at, end, len });
        }
        let total = usize::try_from(header.total()).unwrap_or(usize::MAX);
        let window = self.window(at, total);
        let bytes = window.get(..total).ok_or(FormatError::PastEnd { at, end, len })?;
        header::verify(&header, bytes, at)?;
        Ok(EntryRef { at, header, bytes })
    }

    /// Whether every byte from `at` on is zero.
    pub fn zero_to_end(&mut self, mut at: u64) -> bool {
        while at < self.len {
            let part = self.window(at, CHUNK);
            if part.is_empty() || part.iter().any(|b| *b != 0) {
                return false;
            }
            at = at.saturating_add(part.len() as u64);
        }
        true
    }
}

fn read_by_sectors(blob: &dyn Blob, from: u64, part: &mut [u8], unread: &mut Vec<Range<u64>>) {
    let mut at = from;
    let mut rest = part;
    while !rest.is_empty() {
        let to_border = SECTOR.saturating_sub(at % SECTOR);
        let n = usize::try_from(to_border).unwrap_or(rest.len()).min(rest.len());
        let (sector, tail) = rest.split_at_mut(n);
        let end = at.saturating_add(n as u64);
        if blob.read_exact_at(at, sector).is_err() {
            sector.fill(0);
            match unread.last_mut() {
                Some(last) if last.end == at => last.end = end,
                Some(last) if last.contains(&at) => last.end = last.end.max(end),
                _ => unread.push(at..end),
            }
        }
        at = end;
        rest = tail;
    }
}
