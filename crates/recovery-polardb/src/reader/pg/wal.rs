//! The write-ahead log as a directory of segments, and the walk from record to record.
//!
//! The walk makes the checks the server makes, in its order (`xlogreader.c`: `XLogDecodeNextRecord`,
//! `XLogReaderValidatePageHeader`, `ValidXLogRecordHeader`, `ValidXLogRecord`), so that it ends where recovery ends.

mod stop;
mod walk;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, RwLock};

use recovery_core::{Blob, Depth, Entry, ReadError, Source};

use crate::format::pg::wal_page::{self, PageHeader};
use crate::format::pg::{Lsn, SegmentSize, WAL_BLOCK, history, version};

pub use stop::Stop;
pub use walk::{Record, Walker};

/// How much is read at once: small enough for a core's own cache.
const WINDOW: usize = 512 << 10;
const PAGE: u64 = WAL_BLOCK as u64;

/// What pages must say to belong to this log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// System identifier, when known.
    pub system_identifier: Option<u64>,
    /// Page magic, when known.
    pub magic: Option<u16>,
    /// Major version, for the record formats that changed.
    pub major: u32,
}

/// A directory of WAL segments.
pub struct WalDir {
    source: Arc<dyn Source>,
    /// Path of the directory in the source.
    pub dir: String,
    /// Segment size.
    pub segment: SegmentSize,
    /// Segment files by timeline and number.
    pub segments: BTreeMap<(u32, u64), Entry>,
    /// Timeline histories, by timeline; `None` where the file cannot be read or understood.
    pub histories: BTreeMap<u32, Option<Vec<history::Branch>>>,
    /// Files that are no segments: `.partial`, `.backup`, and what does not belong here.
    pub others: Vec<Entry>,
    /// What pages must say.
    pub expect: Expect,
    /// Other copies of the log that show the same moment: source, and path of the directory in it.
    pub donors: Vec<(Arc<dyn Source>, String)>,
    patches: RwLock<BTreeMap<u64, u8>>,
}

impl fmt::Debug for WalDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalDir").field("dir", &self.dir).field("segments", &self.segments.len()).finish_non_exhaustive()
    }
}

impl WalDir {
    /// Lists a directory; the segment size must be known.
    ///
    /// # Errors
    ///
    /// When the directory cannot be listed.
    pub fn open(source: Arc<dyn Source>, dir: &str, segment: SegmentSize, expect: Expect) -> Result<Self, ReadError> {
        let mut wal = Self {
            source,
            dir: dir.to_owned(),
            segment,
            segments: BTreeMap::new(),
            histories: BTreeMap::new(),
            others: Vec::new(),
            expect,
            donors: Vec::new(),
            patches: RwLock::default(),
        };
        let entries: Vec<Entry> = wal.source.list(dir, Depth::One).collect::<Result<_, _>>()?;
        for entry in entries.into_iter().filter(Entry::is_file) {
            let name = entry.file_name();
            if let Some(key) = segment.parse(name) {
                wal.segments.insert(key, entry);
            } else if let Some(tli) = history::timeline_of(name) {
                let text = super::read_small(wal.source.as_ref(), &entry.name, 1 << 20);
                let branches = text.ok().flatten().and_then(|t| history::parse(&String::from_utf8_lossy(&t)).ok());
                wal.histories.insert(tli, branches);
            } else {
                wal.others.push(entry);
            }
        }
        if wal.expect.magic.is_none() {
            wal.expect.magic = wal.common_magic();
        }
        if wal.expect.major == 0 {
            wal.expect.major = wal.expect.magic.and_then(version::of_wal_magic).unwrap_or(15);
        }
        Ok(wal)
    }

    /// The first page header of a segment, when it can be read and looks like one.
    #[must_use]
    pub fn first_header(&self, key: (u32, u64)) -> Option<PageHeader> {
        let blob = self.source.open(self.segments.get(&key)?).ok()?;
        let head = blob.bytes(0..(wal_page::LONG_HEADER as u64).min(blob.len())).ok()?;
        PageHeader::decode(&head).ok().filter(|h| wal_page::plausible_magic(h.magic))
    }

    /// The magic most segments begin with.
    fn common_magic(&self) -> Option<u16> {
        let mut votes: BTreeMap<u16, u32> = BTreeMap::new();
        for key in self.segments.keys().rev().take(32) {
            if let Some(h) = self.first_header(*key) {
                *votes.entry(h.magic).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, n)| *n).map(|(m, _)| m)
    }

    /// The file of a segment on this timeline; where it has none, the newest older timeline's that the history allows.
    #[must_use]
    pub fn file(&self, tli: u32, number: u64) -> Option<&Entry> {
        if let Some(own) = self.segments.get(&(tli, number)) {
            return Some(own);
        }
        let branches = self.histories.get(&tli)?.as_ref()?;
        let older = branches.iter().rev().filter(|b| number <= self.segment.number(b.switch));
        older.filter_map(|b| self.segments.get(&(b.timeline, number))).next()
    }

    fn open_segment(&self, tli: u32, number: u64) -> Option<(String, Result<Arc<dyn Blob>, ReadError>)> {
        let entry = self.file(tli, number)?;
        Some((entry.name.clone(), self.source.open(entry)))
    }

    /// The timeline on which a server that was killed recovers: of the control file's two the newer, as long as its
    /// history is known. (`InitWalRecovery` in upstream's `xlogrecovery.c`.)
    #[must_use]
    pub fn recovery_timeline(&self, checkpoint: u32, min_recovery: u32) -> u32 {
        let known = self.histories.get(&min_recovery).is_some_and(Option::is_some);
        if min_recovery > checkpoint && known { min_recovery } else { checkpoint }
    }

    /// Name of the segment that holds `lsn`.
    #[must_use]
    pub fn segment_name(&self, tli: u32, lsn: Lsn) -> String {
        self.segment.name(tli, self.segment.number(lsn))
    }

    /// First position behind the last segment of a timeline, those it took over from older ones included.
    #[must_use]
    pub fn present_end(&self, tli: u32) -> Lsn {
        let last = |t: u32, most: u64| self.segments.range((t, 0)..=(t, most)).next_back().map(|((_, n), _)| *n);
        let branches = self.histories.get(&tli).and_then(Option::as_ref).into_iter().flatten();
        let older = branches.filter_map(|b| last(b.timeline, self.segment.number(b.switch)));
        let newest = older.chain(last(tli, u64::MAX)).max();
        newest.map_or(Lsn(0), |n| self.segment.start(n.saturating_add(1)))
    }

    /// The unbroken run of segments of a timeline that holds `lsn`: first position, and position behind the last.
    #[must_use]
    pub fn run_around(&self, tli: u32, lsn: Lsn) -> Option<Range<Lsn>> {
        let here = self.segment.number(lsn);
        let has = |n: u64| self.segments.contains_key(&(tli, n));
        if !has(here) {
            return None;
        }
        let mut first = here;
        while first > 0 && has(first - 1) {
            first -= 1;
        }
        let mut last = here;
        while has(last.saturating_add(1)) {
            last = last.saturating_add(1);
        }
        Some(self.segment.start(first)..self.segment.start(last.saturating_add(1)))
    }

    /// Corrections in force: position in the log, and the bits to flip in that byte.
    #[must_use]
    pub fn patches(&self) -> BTreeMap<u64, u8> {
        self.patches.read().map(|p| p.clone()).unwrap_or_default()
    }

    pub(super) fn patch(&self, lsn: u64, flip: u8) {
        if let Ok(mut p) = self.patches.write() {
            let bits = p.entry(lsn).or_default();
            *bits ^= flip;
            if *bits == 0 {
                p.remove(&lsn);
            }
        }
    }

    pub(super) fn apply_patches(&self, start: Lsn, bytes: &mut [u8]) {
        let Ok(patches) = self.patches.read() else { return };
        for (lsn, flip) in patches.range(start.0..start.0.saturating_add(bytes.len() as u64)) {
            let at = usize::try_from(lsn.saturating_sub(start.0)).unwrap_or(usize::MAX);
            if let Some(b) = bytes.get_mut(at) {
                *b ^= flip;
            }
        }
    }

    /// Position at which a record that follows `lsn` really begins: behind the page header.
    #[must_use]
    pub fn record_start(&self, lsn: Lsn) -> Lsn {
        if lsn.in_page() == 0 { lsn.plus(wal_page::header_size(lsn, self.segment) as u64) } else { lsn }
    }
}
