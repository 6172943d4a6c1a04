//! One file of the file system as a blob, and the device ranges it is made of.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use recovery_core::{Blob, ReadError};

use super::tracker::Tracker;
use crate::format::pfs::{BLOCK, block_address};
use crate::model::pfs::Extent;

/// A stretch of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Bytes of the file.
    pub file: Range<u64>,
    /// Device byte where they lie; `None` = a hole, reads as zero.
    pub device: Option<u64>,
}

impl Segment {
    fn len(&self) -> u64 {
        self.file.end.saturating_sub(self.file.start)
    }

    fn joins(&self, next: &Self) -> bool {
        self.file.end == next.file.start
            && match (self.device, next.device) {
                (Some(a), Some(b)) => a.checked_add(self.len()) == Some(b),
                (None, None) => true,
                _ => false,
            }
    }
}

/// A file inside the file system. Parts never written read as zero, whatever the device holds there.
#[derive(Clone, Debug)]
pub struct PfsFile {
    name: String,
    device: Arc<dyn Blob>,
    segments: Arc<[Segment]>,
    size: u64,
    tracker: Option<Arc<Tracker>>,
}

/// The stretches of a file of `size` bytes, in order, without gaps, neighbours joined.
fn segments(extents: &[Extent], size: u64) -> Vec<Segment> {
    let mut out: Vec<Segment> = Vec::new();
    let mut push = |segment: Segment| {
        if segment.file.is_empty() {
            return;
        }
        match out.last_mut() {
            Some(last) if last.joins(&segment) => last.file.end = segment.file.end,
            _ => out.push(segment),
        }
    };
    let mut at = 0u64;
    for extent in extents {
        let Some(start) = extent.blkid.checked_mul(BLOCK).filter(|s| *s < size) else { break };
        if start < at {
            continue;
        }
        let written = start.saturating_add(extent.written).min(size);
        let end = start.saturating_add(BLOCK).min(size);
        push(Segment { file: at..start, device: None });
        push(Segment { file: start..written, device: block_address(extent.block) });
        push(Segment { file: written..end, device: None });
        at = end;
    }
    push(Segment { file: at..size, device: None });
    out
}

impl PfsFile {
    /// A file of these blocks, sorted by their place in the file.
    #[must_use]
    pub fn new(name: impl Into<String>, device: Arc<dyn Blob>, extents: &[Extent], size: u64) -> Self {
        Self { name: name.into(), device, segments: segments(extents, size).into(), size, tracker: None }
    }

    /// Remembers in `tracker` what was read.
    #[must_use]
    pub fn tracked(mut self, tracker: Option<Arc<Tracker>>) -> Self {
        self.tracker = tracker;
        self
    }

    /// What the file is made of.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Bytes of the file that lie behind the end of the device.
    #[must_use]
    pub fn behind_device(&self) -> u64 {
        let len = self.device.len();
        let behind = |s: &Segment| s.device.map_or(0, |d| d.saturating_add(s.len()).saturating_sub(d.max(len)));
        self.segments.iter().map(behind).fold(0, u64::saturating_add)
    }

    fn segment_at(&self, offset: u64) -> Option<&Segment> {
        self.segments.get(self.segments.partition_point(|s| s.file.end <= offset))
    }

    fn error(&self, offset: u64, length: u64, error: &ReadError) -> ReadError {
        let source = io::Error::new(error.kind, error.message.clone());
        ReadError::new(&self.name, offset, length, &source)
    }
}

impl Blob for PfsFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let mut done = 0usize;
        while let Some(rest) = buf.get_mut(done..).filter(|r| !r.is_empty()) {
            let at = offset.saturating_add(done as u64);
            let Some(segment) = self.segment_at(at) else { break };
            let left = usize::try_from(segment.file.end.saturating_sub(at)).unwrap_or(usize::MAX);
            let n = left.min(rest.len());
            let part = rest.get_mut(..n).unwrap_or_default();
            match segment.device {
                None => part.fill(0),
                Some(device) => {
                    let from = device.saturating_add(at.saturating_sub(segment.file.start));
                    match self.device.read_exact_at(from, part) {
                        Ok(()) => {
                            if let Some(tracker) = &self.tracker {
                                tracker.mark(&(from..from.saturating_add(n as u64)));
                            }
                        }
                        Err(_) if done > 0 => break,
                        Err(e) => return Err(self.error(at, n as u64, &e)),
                    }
                }
            }
            done = done.saturating_add(n);
        }
        Ok(done)
    }

    fn concurrency(&self) -> usize {
        self.device.concurrency()
    }

    fn done_with(&self, range: Range<u64>) {
        for s in self.segments.iter().filter(|s| s.file.start < range.end && range.start < s.file.end) {
            let Some(device) = s.device else { continue };
            let shift = |x: u64| device.saturating_add(x.clamp(s.file.start, s.file.end).saturating_sub(s.file.start));
            self.device.done_with(shift(range.start)..shift(range.end));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, missing_docs)]
mod tests {
    use super::*;
    use recovery_core::MemBlob;

    #[test]
    fn holes_and_ends_read_as_zero_never_as_what_lies_there() {
        let device: Arc<dyn Blob> = Arc::new(MemBlob::new("d", vec![7u8; 3 << 22]));
        let extents = [Extent { blkid: 1, block: 2, written: 100 }, Extent { blkid: 3, block: 1, written: BLOCK }];
        let size = 3 * BLOCK + 10;
        let file = PfsFile::new("f", device, &extents, size);
        let all = file.bytes(0..size).unwrap();
        let seven = |r: Range<u64>| all[r.start as usize..r.end as usize].iter().all(|b| *b == 7);
        assert!(all[..BLOCK as usize].iter().all(|b| *b == 0));
        assert!(seven(BLOCK..BLOCK + 100));
        assert_eq!(all[(BLOCK + 100) as usize], 0);
        assert!(seven(3 * BLOCK..size));
        assert_eq!(all.iter().filter(|b| **b == 7).count(), 110);
        assert_eq!(file.segments().len(), 4);
    }

    #[test]
    fn neighbours_on_the_device_are_one_stretch() {
        let device: Arc<dyn Blob> = Arc::new(MemBlob::new("d", vec![]));
        let extents: Vec<_> = (0..5).map(|i| Extent { blkid: i, block: 10 + i, written: BLOCK }).collect();
        let file = PfsFile::new("f", device, &extents, 5 * BLOCK);
        assert_eq!(file.segments().len(), 1);
        assert_eq!(file.behind_device(), 5 * BLOCK);
        assert!(file.bytes(0..1).is_err());
    }
}
