//! Several copies of one disk read as one: what one copy lacks or holds damaged comes from another.
//!
//! Two things make this safe. A copy counts only when it shows the same moment of the same disk, so bytes of different
//! times are never mixed. And bytes that the first copy does hold are replaced only where a checksum speaks against
//! them and for those of the other copy: headers, leader record, objects and journal entries.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use recovery_core::{Blob, Error, Mapfile, ReadError, Result, read_around};

use super::device::MaskedBlob;
use super::metadata::area;
use super::ring::{Part, Slot, slot_of};
use crate::format::pfs::object::{Kind, OBJECT_LEN, Object};
use crate::format::pfs::{BLOCK, CHUNK, ChunkHeader, ENTRY_LEN, HEADER_LEN, LEADER_AT, LEADER_LEN, Leader, META_START};

/// One copy of a disk.
#[derive(Clone, Debug)]
pub struct Copy {
    blob: Arc<dyn Blob>,
    masked: Option<Arc<MaskedBlob>>,
}

impl Copy {
    /// A copy; the ranges that `mapfile` does not call finished count as unreadable.
    #[must_use]
    pub fn new(blob: Arc<dyn Blob>, mapfile: Option<&Mapfile>) -> Self {
        match mapfile.filter(|m| !m.unread().is_empty()) {
            Some(map) => {
                let masked = Arc::new(MaskedBlob::new(blob, map));
                Self { blob: Arc::clone(&masked) as Arc<dyn Blob>, masked: Some(masked) }
            }
            None => Self { blob, masked: None },
        }
    }

    /// A copy with the mapfile that lies beside it, if one does.
    ///
    /// # Errors
    ///
    /// When there is one that cannot be understood.
    pub fn with_mapfile_beside(blob: Arc<dyn Blob>) -> Result<Self> {
        let map = match blob.local_path() {
            Some(path) => mapfile_beside(path)?.map(|(_, map)| map),
            None => None,
        };
        Ok(Self::new(blob, map.as_ref()))
    }

    /// Its bytes.
    #[must_use]
    pub fn blob(&self) -> &Arc<dyn Blob> {
        &self.blob
    }

    /// The parts of a range that the mapfile calls unread or that lie behind the end.
    pub(super) fn lacks(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let len = self.blob.len();
        let mut out = self.masked.as_ref().map_or_else(Vec::new, |m| m.unread_parts(range));
        let behind = range.start.max(len)..range.end;
        if behind.start < behind.end {
            out.retain(|r| r.start < behind.start);
            if let Some(last) = out.last_mut() {
                last.end = last.end.min(behind.start);
            }
            out.push(behind);
        }
        out
    }
}

/// The GNU ddrescue mapfile that lies beside an image: `IMAGE.map`, `IMAGE.mapfile`, `IMAGE.log` (the name older versions
/// used), or the same in place of the image's own ending. A log that is no mapfile is passed over.
///
/// # Errors
///
/// When a file of one of the first two names cannot be read or is no mapfile.
pub fn mapfile_beside(image: &Path) -> Result<Option<(PathBuf, Mapfile)>> {
    for ending in ["map", "mapfile", "log"] {
        let longer = image.as_os_str().to_os_string().into_string().map(|s| PathBuf::from(format!("{s}.{ending}")));
        for path in longer.into_iter().chain([image.with_extension(ending)]) {
            if path == image || !path.is_file() {
                continue;
            }
            let shown = path.display();
            let problem = match std::fs::read_to_string(&path) {
                Ok(text) => match Mapfile::parse(&text) {
                    Ok(map) => return Ok(Some((path, map))),
                    Err(e) => e.to_string(),
                },
                Err(e) => e.to_string(),
            };
            if ending != "log" {
                return Err(Error::Usage(format!(
                    "{shown}: {problem}; a file of this name beside an image is taken for its ddrescue mapfile"
                )));
            }
        }
    }
    Ok(None)
}

/// The copies as one blob: the first one rules, another is asked for what it cannot give.
#[derive(Debug)]
pub(super) struct Joined {
    copies: Vec<Copy>,
    len: u64,
    /// Device byte and bytes that replace what the first copy holds.
    patches: RwLock<BTreeMap<u64, Vec<u8>>>,
    /// Bytes that the first copy failed to give and another one gave.
    filled: AtomicU64,
}

impl Joined {
    pub(super) fn new(copies: Vec<Copy>) -> Self {
        let len = copies.iter().map(|c| c.blob.len()).max().unwrap_or(0);
        Self { copies, len, patches: RwLock::default(), filled: AtomicU64::new(0) }
    }

    pub(super) fn filled(&self) -> u64 {
        self.filled.load(Ordering::Relaxed)
    }

    fn patch(&self, at: u64, bytes: &[u8]) {
        if let Ok(mut patches) = self.patches.write() {
            patches.insert(at, bytes.to_vec());
        }
    }

    fn apply(&self, offset: u64, buf: &mut [u8]) {
        let Ok(patches) = self.patches.read() else { return };
        if patches.is_empty() {
            return;
        }
        let end = offset.saturating_add(buf.len() as u64);
        // No patch is longer than an entry.
        for (at, bytes) in patches.range(offset.saturating_sub(LEADER_LEN as u64)..end) {
            for (byte, place) in bytes.iter().zip(*at..) {
                let index = place.checked_sub(offset).and_then(|i| usize::try_from(i).ok());
                if let Some(to) = index.and_then(|i| buf.get_mut(i)) {
                    *to = *byte;
                }
            }
        }
    }

    /// Compares units of one size, one after another from `at` on; takes those that only another copy holds whole.
    fn mend(&self, at: u64, len: usize, unit: usize, good: &dyn Fn(u64, &[u8]) -> bool) -> u64 {
        let Some((first, others)) = self.copies.split_first() else { return 0 };
        let end = at.saturating_add(len as u64);
        let (bytes, missing) = read_around(first.blob.as_ref(), at..end);
        let mut taken = 0u64;
        for (index, place) in (0u64..).zip((at..end).step_by(unit.max(1))) {
            let start = usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(unit);
            let own = bytes.get(start..start.saturating_add(unit));
            let next = place.saturating_add(unit as u64);
            let unread = missing.iter().any(|m| m.start < next && place < m.end);
            if own.is_some_and(|b| !unread && good(index, b)) {
                continue;
            }
            let mut theirs = vec![0; unit];
            let whole =
                |copy: &&Copy, theirs: &mut [u8]| copy.blob.read_exact_at(place, theirs).is_ok() && good(index, theirs);
            if others.iter().any(|copy| whole(&copy, &mut theirs)) {
                self.patch(place, &theirs);
                taken = taken.saturating_add(1);
            }
        }
        taken
    }

    /// Headers, leader record and objects of `chunks` chunks; returns how many came from another copy.
    pub(super) fn mend_metadata(&self, chunks: u64) -> u64 {
        let leader = |_: u64, b: &[u8]| b.first_chunk().is_some_and(|b| Leader::decode(b).is_ok());
        let mut taken = self.mend(LEADER_AT, LEADER_LEN, LEADER_LEN, &leader);
        for chunk in 0..chunks {
            let base = chunk.saturating_mul(CHUNK);
            let header = |_: u64, b: &[u8]| b.first_chunk().is_some_and(|b| ChunkHeader::decode(b, chunk).is_ok());
            taken = taken.saturating_add(self.mend(base, HEADER_LEN, HEADER_LEN, &header));
            for kind in Kind::ALL {
                let object = |index: u64, b: &[u8]| {
                    let object = b.first_chunk().map_or(Object::ZERO, |b| Object::from_bytes(*b));
                    object.check(kind, kind.number(chunk, index)).is_ok()
                };
                let len = usize::try_from(kind.per_chunk()).unwrap_or(0).saturating_mul(OBJECT_LEN);
                let start = base.saturating_add(kind.start());
                taken = taken.saturating_add(self.mend(start, len, OBJECT_LEN, &object));
            }
        }
        taken
    }

    /// Entries of one part of the journal, the first of which should have this log sequence number.
    pub(super) fn mend_entries(&self, part: Part, lsn: u64) -> u64 {
        let Some(address) = part.address else { return 0 };
        let len = usize::try_from(part.count).unwrap_or(0).saturating_mul(ENTRY_LEN);
        let entry = |index: u64, b: &[u8]| {
            b.first_chunk().is_some_and(|b| matches!(slot_of(b, lsn.checked_add(index)), Slot::Good(_)))
        };
        self.mend(address, len, ENTRY_LEN, &entry)
    }
}

impl Blob for Joined {
    fn name(&self) -> &str {
        self.copies.first().map_or("", |c| c.blob.name())
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let mut first = Ok(0);
        for (copy, number) in self.copies.iter().zip(0u32..) {
            match copy.blob.read_at(offset, buf) {
                Ok(n) if n > 0 || buf.is_empty() => {
                    if number > 0 {
                        self.filled.fetch_add(n as u64, Ordering::Relaxed);
                    }
                    self.apply(offset, buf.get_mut(..n).unwrap_or_default());
                    return Ok(n);
                }
                other if number == 0 => first = other,
                _ => {}
            }
        }
        // A copy that ends here is no reason to hide the other one's error.
        match first {
            Ok(_) if offset < self.len => {
                let error = std::io::Error::other("no copy of the disk holds this range");
                Err(ReadError::new(self.name(), offset, buf.len() as u64, &error))
            }
            other => other,
        }
    }

    fn concurrency(&self) -> usize {
        self.copies.iter().map(|c| c.blob.concurrency()).min().unwrap_or(1)
    }

    fn done_with(&self, range: Range<u64>) {
        self.copies.iter().for_each(|c| c.blob.done_with(range.clone()));
    }
}

/// Whether two copies can show the same moment of the same disk; the reason why not.
///
/// Where both hold a leader record it must be the same, and objects that are whole in both must be equal. A leader
/// record counts every commit, so two moments never share one.
pub(super) fn differ(first: &Copy, other: &Copy) -> Option<String> {
    let leader = |copy: &Copy| {
        let mut bytes = [0; LEADER_LEN];
        copy.blob.read_exact_at(LEADER_AT, &mut bytes).ok()?;
        Leader::decode(&bytes).or_else(|e| Leader::correct(&bytes).map(|(l, _)| l).ok_or(e)).ok()
    };
    let (own, theirs) = (leader(first), leader(other));
    if let (Some(own), Some(theirs)) = (own, theirs)
        && own != theirs
    {
        return Some(format!(
            "its last transaction is {} (log sequence number {}), that of the disk {} ({})",
            theirs.head_txid, theirs.head_lsn, own.head_txid, own.head_lsn
        ));
    }
    let chunks = first.blob.len().min(other.blob.len()).div_ceil(CHUNK);
    let (mut same, mut differing) = (u64::from(own.is_some() && own == theirs), 0u64);
    for chunk in 0..chunks.min(1 << 20) {
        let start = chunk.saturating_mul(CHUNK).saturating_add(META_START);
        let (Some(a), Some(b)) = (area(first.blob.as_ref(), start), area(other.blob.as_ref(), start)) else { continue };
        for kind in Kind::ALL {
            let from = usize::try_from(kind.start().saturating_sub(META_START)).unwrap_or(0);
            for index in 0..kind.per_chunk() {
                let at = from.saturating_add(usize::try_from(index).unwrap_or(0).saturating_mul(OBJECT_LEN));
                let object = |bytes: &[u8]| bytes.get(at..)?.first_chunk().map(|b| Object::from_bytes(*b));
                let (Some(x), Some(y)) = (object(&a), object(&b)) else { continue };
                let number = kind.number(chunk, index);
                if x.check(kind, number).is_ok() && y.check(kind, number).is_ok() {
                    if x == y {
                        same = same.saturating_add(1);
                    } else {
                        differing = differing.saturating_add(1);
                    }
                }
            }
        }
    }
    match (same, differing) {
        (_, 1..) => Some(format!("{differing} metadata objects are whole in both and differ")),
        (0, 0) => Some("nothing whole in both shows that it is the same disk".to_owned()),
        _ => None,
    }
}

/// Bytes of a block, for whoever counts what another copy gave.
pub(super) const fn block_range(address: u64) -> Range<u64> {
    address..address.saturating_add(BLOCK)
}
