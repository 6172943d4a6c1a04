//! The device under a file system: reads that go around bad sectors and past the end, of one copy or of several.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use recovery_core::read_around;
use recovery_core::{Blob, Mapfile, ReadError};

use super::copies::{Copy, Joined};

/// A blob of which some ranges were never read from the dying disk: a ddrescue image with its mapfile.
///
/// Whoever reads such a range gets an error, as from a bad sector; never the zeros that fill it.
#[derive(Debug)]
pub struct MaskedBlob {
    inner: Arc<dyn Blob>,
    /// Sorted, disjoint.
    unread: Vec<Range<u64>>,
}

impl MaskedBlob {
    /// Hides the ranges that the mapfile does not call finished.
    #[must_use]
    pub fn new(inner: Arc<dyn Blob>, mapfile: &Mapfile) -> Self {
        let mut all: Vec<Range<u64>> = mapfile.unread().iter().filter(|r| !r.is_empty()).cloned().collect();
        all.sort_by_key(|r| (r.start, r.end));
        let mut unread: Vec<Range<u64>> = Vec::new();
        for range in all {
            match unread.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => unread.push(range),
            }
        }
        Self { inner, unread }
    }

    /// The parts of a range that were never read.
    pub(super) fn unread_parts(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let first = self.unread.partition_point(|r| r.end <= range.start);
        let touching = self.unread.iter().skip(first).take_while(|r| r.start < range.end);
        touching.map(|r| r.start.max(range.start)..r.end.min(range.end)).collect()
    }

    /// The first unread range that ends behind `at`.
    fn next(&self, at: u64) -> Option<&Range<u64>> {
        self.unread.get(self.unread.partition_point(|r| r.end <= at))
    }
}

impl Blob for MaskedBlob {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let mut want = buf.len();
        if let Some(next) = self.next(offset) {
            if next.start <= offset {
                let error = std::io::Error::other("the mapfile says that this range was never read from the disk");
                return Err(ReadError::new(self.name(), offset, want as u64, &error));
            }
            want = want.min(usize::try_from(next.start.saturating_sub(offset)).unwrap_or(usize::MAX));
        }
        self.inner.read_at(offset, buf.get_mut(..want).unwrap_or_default())
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }

    fn done_with(&self, range: Range<u64>) {
        self.inner.done_with(range);
    }

    fn local_path(&self) -> Option<&Path> {
        None
    }
}

/// The device that holds a file system.
#[derive(Clone, Debug)]
pub struct Device {
    blob: Arc<dyn Blob>,
    copies: Vec<Copy>,
    joined: Option<Arc<Joined>>,
}

/// Bytes, zero where they are missing.
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    /// Device ranges that could not be read or lie behind the end.
    pub(super) missing: Vec<Range<u64>>,
}

impl Piece {
    pub(super) fn lacks(&self, range: &Range<u64>) -> bool {
        self.missing.iter().any(|m| m.start < range.end && range.start < m.end)
    }
}

impl Device {
    /// The device; ranges that `mapfile` does not call finished count as unreadable.
    #[must_use]
    pub fn new(blob: Arc<dyn Blob>, mapfile: Option<&Mapfile>) -> Self {
        Self::of_copies(vec![Copy::new(blob, mapfile)])
    }

    /// Copies of one device, the first of which rules.
    #[must_use]
    pub fn of_copies(copies: Vec<Copy>) -> Self {
        match copies.as_slice() {
            [one] => Self { blob: Arc::clone(one.blob()), copies, joined: None },
            _ => {
                let joined = Arc::new(Joined::new(copies.clone()));
                Self { blob: Arc::clone(&joined) as Arc<dyn Blob>, copies, joined: Some(joined) }
            }
        }
    }

    /// The copies as one, when there are several.
    pub(super) fn joined(&self) -> Option<&Joined> {
        self.joined.as_deref()
    }

    /// The copies, the ruling one first.
    #[must_use]
    pub fn copies(&self) -> &[Copy] {
        &self.copies
    }

    /// Bytes that the first copy failed to give so far and another one gave.
    #[must_use]
    pub fn filled(&self) -> u64 {
        self.joined.as_ref().map_or(0, |j| j.filled())
    }

    /// The parts of a range that no copy holds, as far as mapfiles and lengths tell.
    fn lacks(&self, range: &Range<u64>, copies: usize) -> u64 {
        let mut parts = vec![range.clone()];
        for copy in self.copies.iter().take(copies) {
            parts = parts.iter().flat_map(|p| copy.lacks(p)).collect();
        }
        parts.iter().map(|r| r.end.saturating_sub(r.start)).fold(0, u64::saturating_add)
    }

    /// Bytes of a range that mapfiles call unread in every copy.
    #[must_use]
    pub fn unread_in(&self, range: Range<u64>) -> u64 {
        let end = range.end.min(self.len()).max(range.start);
        self.lacks(&(range.start..end), self.copies.len())
    }

    /// Bytes of a range that the first copy lacks and another one holds.
    pub(super) fn donated_in(&self, range: Range<u64>) -> u64 {
        if self.joined.is_none() {
            return 0;
        }
        self.lacks(&range, 1).saturating_sub(self.lacks(&range, self.copies.len()))
    }

    /// Its bytes.
    #[must_use]
    pub fn blob(&self) -> &Arc<dyn Blob> {
        &self.blob
    }

    /// Its length.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.blob.len()
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blob.is_empty()
    }

    /// Its name, for findings.
    #[must_use]
    pub fn name(&self) -> &str {
        self.blob.name()
    }

    /// Reads what can be read of a range that the caller has bounded.
    pub(super) fn read(&self, offset: u64, len: usize) -> Piece {
        let end = offset.saturating_add(len as u64);
        let (mut bytes, mut missing) = read_around(self.blob.as_ref(), offset..end);
        let have = offset.saturating_add(bytes.len() as u64);
        if have < end {
            missing.push(have..end);
            bytes.resize(len, 0);
        }
        Piece { bytes, missing }
    }
}
