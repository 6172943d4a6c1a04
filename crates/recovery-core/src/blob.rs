//! Bytes in: one object of known length, read by position.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

/// Bytes that could not be read.
///
/// An unreadable range is a fact about the medium: scans turn it into a finding and go on.
#[derive(Clone, Debug, thiserror::Error)]
pub struct ReadError {
    /// Name of the object.
    pub object: String,
    /// Where the read began.
    pub offset: u64,
    /// How much was wanted.
    pub length: u64,
    /// What kind of failure it was.
    pub kind: io::ErrorKind,
    /// The system's words.
    pub message: String,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, offset, length, message, .. } = self;
        match length {
            0 => write!(f, "{object}: cannot be opened: {message}"),
            _ => write!(f, "{object}: cannot read {length} bytes at {offset:#x}: {message}"),
        }
    }
}

impl ReadError {
    /// Wraps an I/O error with the place at which it happened.
    #[must_use]
    pub fn new(object: impl Into<String>, offset: u64, length: u64, error: &io::Error) -> Self {
        Self { object: object.into(), offset, length, kind: error.kind(), message: error.to_string() }
    }

    /// The object ended before the range did.
    #[must_use]
    pub fn past_end(object: impl Into<String>, range: &Range<u64>, len: u64) -> Self {
        Self {
            object: object.into(),
            offset: range.start,
            length: range.end.saturating_sub(range.start),
            kind: io::ErrorKind::UnexpectedEof,
            message: format!("the object ends at {len:#x}"),
        }
    }
}

/// A readable, never writable, run of bytes of known length.
///
/// Reading is by position, so any number of threads may read at once. Implementors provide [`len`](Blob::len),
/// [`name`](Blob::name) and [`read_at`](Blob::read_at); sources that can hand out bytes without copying, or that
/// answer many ranges better than one at a time (object stores), override the rest.
pub trait Blob: Send + Sync {
    /// Name of the object, for messages.
    fn name(&self) -> &str;

    /// Length in bytes as found when the blob was opened.
    fn len(&self) -> u64;

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads into `buf` from `offset`; may read less than asked, and reads 0 bytes only at the end.
    ///
    /// # Errors
    ///
    /// When the medium does not give the bytes.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError>;

    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    ///
    /// When the medium does not give the bytes, or the object ends before.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let wanted = offset..offset.saturating_add(buf.len() as u64);
        let mut done = 0usize;
        while let Some(rest) = buf.get_mut(done..).filter(|r| !r.is_empty()) {
            match self.read_at(offset.saturating_add(done as u64), rest)? {
                0 => {
                    return Err(ReadError::past_end(self.name(), &wanted, offset.saturating_add(done as u64)));
                }
                n => done = done.saturating_add(n),
            }
        }
        Ok(())
    }

    /// The bytes of `range`; borrowed from memory or a map where possible, copied otherwise.
    ///
    /// The range is compared with the length before anything is allocated.
    ///
    /// # Errors
    ///
    /// When the range reaches past the end or the medium does not give the bytes.
    fn bytes(&self, range: Range<u64>) -> Result<Bytes, ReadError> {
        let size = checked_size(self.name(), &range, self.len())?;
        let mut buf = vec![0; size];
        self.read_exact_at(range.start, &mut buf)?;
        Ok(Bytes::from(buf))
    }

    /// Several ranges at once, in the order given.
    fn read_ranges(&self, ranges: &[Range<u64>]) -> Vec<Result<Bytes, ReadError>> {
        ranges.iter().map(|r| self.bytes(r.clone())).collect()
    }

    /// How many reads at once serve this medium well; 1 for a rotating disk, many for an object store.
    fn concurrency(&self) -> usize {
        4
    }

    /// Path of the file on this machine, if the blob is one.
    fn local_path(&self) -> Option<&Path> {
        None
    }

    /// Says that a range will not be needed again, so that a large scan need not fill the page cache.
    fn done_with(&self, range: Range<u64>) {
        let _ = range;
    }
}

impl fmt::Debug for dyn Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({:?}, {} bytes)", self.name(), self.len())
    }
}

fn checked_size(name: &str, range: &Range<u64>, len: u64) -> Result<usize, ReadError> {
    let size = range.end.checked_sub(range.start).filter(|_| range.end <= len);
    size.and_then(|s| usize::try_from(s).ok()).ok_or_else(|| ReadError::past_end(name, range, len))
}

/// Bytes in memory.
#[derive(Clone, Debug)]
pub struct MemBlob {
    name: String,
    data: Bytes,
}

impl MemBlob {
    /// A blob of these bytes.
    #[must_use]
    pub fn new(name: impl Into<String>, data: impl Into<Bytes>) -> Self {
        Self { name: name.into(), data: data.into() }
    }

    /// The bytes themselves.
    #[must_use]
    pub fn data(&self) -> &Bytes {
        &self.data
    }
}

impl Blob for MemBlob {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.data.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let rest = usize::try_from(offset).ok().and_then(|o| self.data.get(o..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }

    fn bytes(&self, range: Range<u64>) -> Result<Bytes, ReadError> {
        let size = checked_size(&self.name, &range, self.len())?;
        let start = usize::try_from(range.start).unwrap_or(usize::MAX);
        Ok(self.data.slice(start..start.saturating_add(size)))
    }
}

/// A part of another blob, seen as a blob of its own.
#[derive(Clone)]
pub struct SubBlob {
    name: String,
    inner: Arc<dyn Blob>,
    start: u64,
    len: u64,
}

impl fmt::Debug for SubBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubBlob({:?} at {:#x}, {} bytes)", self.name, self.start, self.len)
    }
}

impl SubBlob {
    /// The part `range` of `inner`, cut to what is there.
    #[must_use]
    pub fn new(name: impl Into<String>, inner: Arc<dyn Blob>, range: Range<u64>) -> Self {
        let end = range.end.min(inner.len());
        let start = range.start.min(end);
        Self { name: name.into(), inner, start, len: end.saturating_sub(start) }
    }
}

impl Blob for SubBlob {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let left = self.len.saturating_sub(offset);
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let Some(part) = buf.get_mut(..n).filter(|p| !p.is_empty()) else { return Ok(0) };
        self.inner.read_at(self.start.saturating_add(offset), part)
    }

    fn bytes(&self, range: Range<u64>) -> Result<Bytes, ReadError> {
        checked_size(&self.name, &range, self.len)?;
        let shift = |x: u64| self.start.saturating_add(x);
        self.inner.bytes(shift(range.start)..shift(range.end))
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_window_stays_inside() {
        let all: Arc<dyn Blob> = Arc::new(MemBlob::new("all", &b"0123456789"[..]));
        let part = SubBlob::new("part", all, 3..7);
        assert_eq!(part.len(), 4);
        assert_eq!(&part.bytes(1..4).unwrap()[..], b"456");
        assert_eq!(part.bytes(1..5).unwrap_err().kind, io::ErrorKind::UnexpectedEof);
        let mut buf = [0; 9];
        assert_eq!(part.read_at(2, &mut buf).unwrap(), 2);
        assert!(part.read_exact_at(2, &mut buf).is_err());
    }

    #[test]
    fn an_absurd_range_allocates_nothing() {
        let blob = MemBlob::new("b", &b"abc"[..]);
        assert!(blob.bytes(0..u64::MAX).is_err());
        #[expect(clippy::reversed_empty_ranges, reason = "hostile input gives such ranges")]
        let reversed = blob.bytes(2..1);
        assert!(reversed.is_err());
    }
}
