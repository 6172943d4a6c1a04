//! The walk from record to record, with the checks that the server makes, in its order.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use recovery_core::{Blob, Context, Result};

use super::stop::Stop;
use super::{PAGE, WINDOW, WalDir};
use crate::format::pg::wal_page::{self, PageHeader};
use crate::format::pg::wal_record::{self, RecordHeader};
use crate::format::pg::{Lsn, WAL_BLOCK, rmgr};

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
    pub(in crate::reader::pg) fn page_bytes(&mut self, page: Lsn) -> Option<Vec<u8>> {
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
