//! The write-ahead log as a directory of segments, and the walk from record to record.
//!
//! The walk makes the checks the server makes, in its order (`xlogreader.c`: `XLogDecodeNextRecord`,
//! `XLogReaderValidatePageHeader`, `ValidXLogRecordHeader`, `ValidXLogRecord`), so that it ends where recovery ends.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, RwLock};

use recovery_core::{Blob, Context, Depth, Entry, ReadError, Result, Source};

use crate::format::pg::wal_page::{self, PageHeader};
use crate::format::pg::wal_record::{self, RecordHeader};
use crate::format::pg::{Lsn, SegmentSize, WAL_BLOCK, history, rmgr, version};

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

    /// Opens a segment of this timeline; where it has none, the newest older timeline's that the history allows.
    fn open_segment(&self, tli: u32, number: u64) -> Option<(String, Result<Arc<dyn Blob>, ReadError>)> {
        let older = self.segments.range((0, 0)..=(tli, u64::MAX)).rev().filter(|((_, n), _)| *n == number);
        let mut candidates = older.filter(|((t, _), _)| *t == tli || self.is_ancestor(*t, tli));
        let (_, entry) = candidates.next()?;
        Some((entry.name.clone(), self.source.open(entry)))
    }

    fn is_ancestor(&self, old: u32, tli: u32) -> bool {
        self.histories.get(&tli).is_some_and(|h| h.as_ref().is_some_and(|h| h.iter().any(|b| b.timeline == old)))
    }

    /// Name of the segment that holds `lsn`.
    #[must_use]
    pub fn segment_name(&self, tli: u32, lsn: Lsn) -> String {
        self.segment.name(tli, self.segment.number(lsn))
    }

    /// First position behind the last segment of a timeline.
    #[must_use]
    pub fn present_end(&self, tli: u32) -> Lsn {
        let last = self.segments.range((tli, 0)..=(tli, u64::MAX)).next_back();
        last.map_or(Lsn(0), |((_, n), _)| self.segment.start(n.saturating_add(1)))
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

/// Why the walk ended. The texts are those of the server's own log where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named by the sentences of Display")]
pub enum Stop {
    /// The segment file is not there.
    NoSegment { name: String, at: Lsn },
    /// The segment file ends before the page.
    ShortSegment { name: String, at: Lsn, size: u64 },
    /// The medium does not give the page.
    Unreadable { name: String, at: Lsn, message: String },
    /// The page header cannot belong here.
    Page { at: Lsn, what: String, address: Option<Lsn>, zero: bool },
    /// A record's length is impossible: the ordinary end of the log when it is 0.
    Length { at: Lsn, got: u32 },
    /// No such resource manager.
    Manager { at: Lsn, rmid: u8 },
    /// The record does not follow the one before.
    Prev { at: Lsn, found: Lsn },
    /// The next page does not continue the record.
    NoContinuation { at: Lsn, page: Lsn },
    /// The next page continues another record.
    ContinuationLength { at: Lsn, page: Lsn, rem_len: u32, expected: u64 },
    /// The bytes changed since they were written.
    Crc { at: Lsn, end: Lsn, stored: u32, computed: u32 },
    /// The position lies inside a page header or a continued record.
    Offset { at: Lsn },
}

impl Stop {
    /// Where recovery would say that it ended.
    #[must_use]
    pub const fn at(&self) -> Lsn {
        match self {
            Self::NoSegment { at, .. }
            | Self::ShortSegment { at, .. }
            | Self::Unreadable { at, .. }
            | Self::Page { at, .. }
            | Self::Length { at, .. }
            | Self::Manager { at, .. }
            | Self::Prev { at, .. }
            | Self::NoContinuation { at, .. }
            | Self::ContinuationLength { at, .. }
            | Self::Crc { at, .. }
            | Self::Offset { at } => *at,
        }
    }

    /// The stretch of log that is damaged, as far as the stop tells: the record, or the page.
    #[must_use]
    pub const fn extent(&self) -> (Lsn, Lsn) {
        let at = self.at();
        match self {
            Self::Crc { end, .. } => (at, *end),
            Self::NoContinuation { page, .. } | Self::ContinuationLength { page, .. } => (at, page.plus(PAGE)),
            _ => (at, at.page().plus(PAGE)),
        }
    }

    /// Whether the log ends here as logs do: zeros, a recycled segment's old pages, or no further segment.
    #[must_use]
    pub fn ordinary(&self) -> bool {
        match self {
            Self::Length { got, .. } => *got == 0,
            Self::NoSegment { .. } => true,
            Self::Page { at, address, zero, .. } => *zero || address.is_some_and(|a| a < at.page()),
            _ => false,
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSegment { name, .. } => write!(f, "could not find file \"{name}\": No such file or directory"),
            Self::ShortSegment { name, at, size } => write!(f, "{name} ends at byte {size}, before {at}"),
            Self::Unreadable { name, at, message } => write!(f, "{name}: {at} cannot be read: {message}"),
            Self::Page { what, .. } => f.write_str(what),
            Self::Length { at, got } => write!(f, "invalid record length at {at}: wanted 24, got {got}"),
            Self::Manager { at, rmid } => write!(f, "invalid resource manager ID {rmid} at {at}"),
            Self::Prev { at, found } => write!(f, "record with incorrect prev-link {found} at {at}"),
            Self::NoContinuation { page, .. } => write!(f, "there is no contrecord flag at {page}"),
            Self::ContinuationLength { page, rem_len, expected, .. } => {
                write!(f, "invalid contrecord length {rem_len} (expected {expected}) at {page}")
            }
            Self::Crc { at, .. } => write!(f, "incorrect resource manager data checksum in record at {at}"),
            Self::Offset { at } => write!(f, "no record begins at {at}"),
        }
    }
}

/// One record on its way past.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Where it begins.
    pub lsn: Lsn,
    /// Where the next one may begin.
    pub next: Lsn,
    /// Its header.
    pub header: RecordHeader,
    /// All of its bytes.
    pub bytes: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    page: Lsn,
    size: usize,
    info: u16,
    rem_len: u32,
}

/// Reads pages through a window and checks each header once.
struct Pages<'a> {
    wal: &'a WalDir,
    tli: u32,
    open: Option<(u64, String, Arc<dyn Blob>)>,
    buf: Vec<u8>,
    start: Lsn,
    len: usize,
    seen: Option<Seen>,
    newest_tli: u32,
}

impl Pages<'_> {
    fn blob(&mut self, at: Lsn) -> Result<(String, Arc<dyn Blob>), Stop> {
        let number = self.wal.segment.number(at);
        if let Some((n, name, blob)) = &self.open
            && *n == number
        {
            return Ok((name.clone(), Arc::clone(blob)));
        }
        match self.wal.open_segment(self.tli, number) {
            None => Err(Stop::NoSegment { name: self.wal.segment.name(self.tli, number), at }),
            Some((name, Err(e))) => Err(Stop::Unreadable { name, at, message: e.message }),
            Some((name, Ok(blob))) => {
                self.open = Some((number, name.clone(), Arc::clone(&blob)));
                Ok((name, blob))
            }
        }
    }

    /// Brings the page into the window; a page cut by the file's end is filled with zeros.
    fn fill(&mut self, page: Lsn) -> Result<(), Stop> {
        let (name, blob) = self.blob(page)?;
        let from = self.wal.segment.offset(page);
        let size = blob.len().min(self.wal.segment.bytes());
        if from >= size {
            return Err(Stop::ShortSegment { name, at: page, size });
        }
        let want = usize::try_from(size - from).unwrap_or(WINDOW).min(WINDOW);
        let whole = want.next_multiple_of(WAL_BLOCK);
        self.buf.resize(whole.max(self.buf.len()), 0);
        self.len = 0;
        let (now, rest) = self.buf.split_at_mut(want);
        let mut got = whole;
        if blob.read_exact_at(from, now).is_err() {
            // Somewhere in the window is a bad sector: take this page alone.
            let one = want.min(WAL_BLOCK);
            let page_only = now.get_mut(..one).unwrap_or_default();
            if let Err(e) = blob.read_exact_at(from, page_only) {
                return Err(Stop::Unreadable { name, at: page, message: e.message });
            }
            got = WAL_BLOCK;
            if let Some(tail) = self.buf.get_mut(one..WAL_BLOCK) {
                tail.fill(0);
            }
        } else if let Some(tail) = rest.get_mut(..whole - want) {
            tail.fill(0);
        }
        if let Some(window) = self.buf.get_mut(..got) {
            self.wal.apply_patches(page, window);
        }
        (self.start, self.len) = (page, got);
        Ok(())
    }

    fn raw(&mut self, page: Lsn) -> Result<&[u8], Stop> {
        let inside = page >= self.start && page.0.saturating_add(PAGE) <= self.start.0.saturating_add(self.len as u64);
        if !inside || self.len == 0 {
            self.fill(page)?;
        }
        let at = usize::try_from(page.0.saturating_sub(self.start.0)).unwrap_or(usize::MAX);
        Ok(self.buf.get(at..at.saturating_add(WAL_BLOCK)).unwrap_or_default())
    }

    /// The header of a page, checked; remembered for the records that follow on the same page.
    #[inline]
    fn header(&mut self, page: Lsn) -> Result<Seen, Stop> {
        match self.seen {
            Some(seen) if seen.page == page => Ok(seen),
            _ => self.check(page),
        }
    }

    fn check(&mut self, page: Lsn) -> Result<Seen, Stop> {
        let (expect, segment, tli, newest) = (self.wal.expect, self.wal.segment, self.tli, self.newest_tli);
        let bytes = self.raw(page)?;
        let zero = bytes.first_chunk::<24>().is_some_and(|h| *h == [0; 24]);
        let Ok(h) = PageHeader::decode(bytes) else {
            return Err(Stop::Page { at: page, what: format!("no page header at {page}"), address: None, zero });
        };
        let name = || segment.name(tli, segment.number(page));
        let offset = segment.offset(page);
        let fault = |what: String| Stop::Page { at: page, what, address: None, zero };
        let magic_fits = expect.magic.map_or_else(|| wal_page::plausible_magic(h.magic), |m| m == h.magic);
        if !magic_fits {
            return Err(fault(format!(
                "invalid magic number {:04X} in log segment {}, offset {offset}",
                h.magic,
                name()
            )));
        }
        if h.info & !wal_page::ALL_FLAGS != 0 || (offset == 0) != h.long.is_some() {
            return Err(fault(format!("invalid info bits {:04X} in log segment {}, offset {offset}", h.info, name())));
        }
        if let Some(long) = h.long {
            if expect.system_identifier.is_some_and(|id| id != long.system_identifier) {
                let what = "WAL file is from different database system";
                return Err(fault(format!(
                    "{what}: WAL file database system identifier is {}",
                    long.system_identifier
                )));
            }
            if u64::from(long.segment_size) != segment.bytes() || long.block_size as usize != WAL_BLOCK {
                return Err(fault(
                    "WAL file is from different database system: incorrect segment size or XLOG_BLCKSZ in page header"
                        .to_owned(),
                ));
            }
        }
        if h.address != page {
            let what = format!("unexpected pageaddr {} in log segment {}, offset {offset}", h.address, name());
            return Err(Stop::Page { at: page, what, address: Some(h.address), zero });
        }
        if h.tli < newest || h.tli > tli {
            let what = format!(
                "out-of-sequence timeline ID {} (after {newest}) in log segment {}, offset {offset}",
                h.tli,
                name()
            );
            return Err(fault(what));
        }
        let seen = Seen { page, size: h.size(), info: h.info, rem_len: h.rem_len };
        self.newest_tli = h.tli;
        self.seen = Some(seen);
        Ok(seen)
    }
}

/// Walks from record to record.
pub struct Walker<'a> {
    pages: Pages<'a>,
    scratch: Vec<u8>,
    /// Where the next record begins (possibly a page's first byte).
    pub next: Lsn,
    /// Where the record before began; `None` before the first.
    pub prev: Option<Lsn>,
    /// Records given up by a crashed server and marked so by its successor.
    pub overwritten: u64,
    /// Bytes between two records that are not zero: how many places, and the first.
    pub padding: (u64, Option<Lsn>),
    /// Stretches without records: behind a switch to the next segment, and records that were given up.
    pub skipped: Vec<Range<Lsn>>,
}

impl fmt::Debug for Walker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walker").field("next", &self.next).field("prev", &self.prev).finish_non_exhaustive()
    }
}

impl<'a> Walker<'a> {
    /// A walk on a timeline that begins at a record's start; `prev` is checked when given.
    #[must_use]
    pub fn new(wal: &'a WalDir, tli: u32, start: Lsn, prev: Option<Lsn>) -> Self {
        let pages = Pages { wal, tli, open: None, buf: Vec::new(), start: Lsn(0), len: 0, seen: None, newest_tli: 0 };
        Self { pages, scratch: Vec::new(), next: start, prev, overwritten: 0, padding: (0, None), skipped: Vec::new() }
    }

    /// The page as it lies there, corrections applied.
    pub(super) fn page_bytes(&mut self, page: Lsn) -> Option<Vec<u8>> {
        self.pages.raw(page).ok().map(<[u8]>::to_vec)
    }

    /// Moves to the first record that begins on or behind a page.
    ///
    /// # Errors
    ///
    /// When a page header on the way is not one.
    pub fn resync(&mut self, page: Lsn, until: Lsn) -> Result<Option<Lsn>, Stop> {
        let mut page = page;
        self.prev = None;
        while page < until {
            let seen = self.pages.header(page)?;
            let room = (WAL_BLOCK - seen.size) as u64;
            let continued = seen.info & wal_page::CONTRECORD != 0 && seen.info & wal_page::OVERWRITE_CONTRECORD == 0;
            let rest = if continued { u64::from(seen.rem_len) } else { 0 };
            if rest <= room {
                let next = page.plus(seen.size as u64).plus(rest).align8();
                self.next = next;
                return Ok(Some(next));
            }
            page = page.plus(PAGE);
        }
        Ok(None)
    }

    /// Reads the next record.
    ///
    /// # Errors
    ///
    /// Where the log ends or is damaged; the walk then still stands where it stood.
    #[inline]
    pub fn step(&mut self) -> Result<Record<'_>, Stop> {
        loop {
            let page = self.next.page();
            let seen = self.pages.header(page)?;
            let in_page = self.next.in_page();
            let at = if in_page == 0 { page.plus(seen.size as u64) } else { self.next };
            if at.in_page() < seen.size as u64
                || (seen.info & wal_page::CONTRECORD != 0
                    && at.in_page() == seen.size as u64
                    && seen.rem_len > 0
                    && seen.info & wal_page::OVERWRITE_CONTRECORD == 0)
            {
                return Err(Stop::Offset { at });
            }
            let off = usize::try_from(at.in_page()).unwrap_or(0);
            let here = self.pages.raw(page)?.get(off..).unwrap_or_default();
            let room = here.len();
            let total = here.first_chunk::<4>().map_or(0, |b| u32::from_le_bytes(*b));
            let early = (room >= wal_record::HEADER).then(|| RecordHeader::of(here));
            if (total as usize) < wal_record::HEADER {
                return Err(Stop::Length { at, got: total });
            }
            if let Some(h) = early {
                self.valid(at, &h)?;
            }
            if total as usize > room {
                let first = self.pages.raw(page)?.get(off..).unwrap_or_default().to_vec();
                match self.assemble(at, page, total, &first)? {
                    Some(end) => return self.finish_long(at, end),
                    None => continue,
                }
            }
            let end = at.plus(u64::from(total));
            return self.finish_short(at, end, page, off, total as usize);
        }
    }

    fn valid(&self, at: Lsn, h: &RecordHeader) -> Result<(), Stop> {
        if !rmgr::valid(h.rmid, self.pages.wal.expect.major) {
            return Err(Stop::Manager { at, rmid: h.rmid });
        }
        let fits = self.prev.map_or(h.prev < at, |p| p == h.prev);
        if fits { Ok(()) } else { Err(Stop::Prev { at, found: h.prev }) }
    }

    fn after(&mut self, h: &RecordHeader, end: Lsn) -> Lsn {
        let end = end.align8();
        if !h.is_switch() {
            return end;
        }
        let segment = self.pages.wal.segment;
        if segment.offset(end) == 0 {
            return end;
        }
        let next = segment.start(segment.number(end).saturating_add(1));
        self.skipped.push(end..next);
        next
    }

    fn finish_short(&mut self, at: Lsn, end: Lsn, page: Lsn, off: usize, total: usize) -> Result<Record<'_>, Stop> {
        let bytes = self.pages.raw(page)?.get(off..off.saturating_add(total)).unwrap_or_default();
        let header = RecordHeader::of(bytes);
        let computed = wal_record::crc(bytes);
        if computed != header.crc {
            return Err(Stop::Crc { at, end: end.align8(), stored: header.crc, computed });
        }
        let next = self.after(&header, end);
        self.check_padding(page, end);
        (self.next, self.prev) = (next, Some(at));
        // Borrowed again, because the position is set in between.
        let bytes = self.pages.raw(page)?.get(off..off.saturating_add(total)).unwrap_or_default();
        Ok(Record { lsn: at, next, header, bytes })
    }

    fn finish_long(&mut self, at: Lsn, end: Lsn) -> Result<Record<'_>, Stop> {
        let header = RecordHeader::of(&self.scratch);
        self.valid(at, &header)?;
        let computed = wal_record::crc(&self.scratch);
        if computed != header.crc {
            return Err(Stop::Crc { at, end: end.align8(), stored: header.crc, computed });
        }
        let next = self.after(&header, end);
        // The last page is the one read last, and the end is no page's first byte.
        self.check_padding(Lsn(end.0.saturating_sub(1)).page(), end);
        (self.next, self.prev) = (next, Some(at));
        Ok(Record { lsn: at, next, header, bytes: &self.scratch })
    }

    /// No checksum covers the up to seven bytes behind a record; the server writes zeros there.
    #[inline]
    fn check_padding(&mut self, page: Lsn, end: Lsn) {
        let n = end.align8().0.saturating_sub(end.0);
        let at = usize::try_from(end.0.saturating_sub(page.0)).unwrap_or(usize::MAX);
        if n == 0 {
            return;
        }
        let zero = match self.pages.raw(page) {
            Ok(bytes) => bytes.iter().skip(at).take(usize::try_from(n).unwrap_or(0)).all(|b| *b == 0),
            Err(_) => true,
        };
        if !zero {
            self.padding = (self.padding.0.saturating_add(1), self.padding.1.or(Some(end)));
        }
    }

    /// Puts a record together that runs over pages; gives its end, or nothing when it was given up and another begins.
    ///
    /// Grows only as far as pages say that they continue it, whatever its length claims.
    fn assemble(&mut self, at: Lsn, page: Lsn, total: u32, first: &[u8]) -> Result<Option<Lsn>, Stop> {
        self.scratch.clear();
        self.scratch.extend_from_slice(first);
        let total = u64::from(total);
        let mut page = page;
        loop {
            page = page.plus(PAGE);
            let seen = self.pages.header(page)?;
            if seen.info & wal_page::OVERWRITE_CONTRECORD != 0 {
                self.next = page;
                self.overwritten = self.overwritten.saturating_add(1);
                self.skipped.push(at..page);
                return Ok(None);
            }
            if seen.info & wal_page::CONTRECORD == 0 {
                return Err(Stop::NoContinuation { at, page });
            }
            let left = total.saturating_sub(self.scratch.len() as u64);
            if u64::from(seen.rem_len) != left {
                return Err(Stop::ContinuationLength { at, page, rem_len: seen.rem_len, expected: left });
            }
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(WAL_BLOCK - seen.size);
            let bytes = self.pages.raw(page)?;
            let part = bytes.get(seen.size..seen.size.saturating_add(take)).unwrap_or_default();
            self.scratch.extend_from_slice(part);
            if self.scratch.len() as u64 >= total {
                return Ok(Some(page.plus(seen.size as u64).plus(take as u64)));
            }
        }
    }

    /// Walks until a record begins at or behind `until`.
    ///
    /// # Errors
    ///
    /// Only that the caller asked to stop; the end of the log is the value.
    pub fn run(&mut self, until: Lsn, cx: &Context, mut each: impl FnMut(&Record<'_>)) -> Result<Option<Stop>> {
        let mut n = 0u32;
        while self.next < until {
            n = n.wrapping_add(1);
            if n.trailing_zeros() >= 14 {
                cx.cancelled()?;
            }
            match self.step() {
                Ok(record) => each(&record),
                Err(stop) => return Ok(Some(stop)),
            }
        }
        Ok(None)
    }
}
