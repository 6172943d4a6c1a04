//! Checksums of pages and log records, computed while files go by.
//!
//! An extraction reads every byte anyway; [`ClusterWatch`] looks at the same bytes, so the disk is read once. It
//! judges each file by itself: a log record that begins in one segment and ends in the next is left to
//! [`wal_scan`](crate::reader::pg::wal_scan).

use std::sync::{Arc, Mutex, PoisonError};

use recovery_core::{Context, Result, Source};

use crate::format::pg::page::{self, Page, Verdict};
use crate::format::pg::relfile::RelFile;
use crate::format::pg::wal_page::{CONTRECORD, PageHeader, plausible_magic};
use crate::format::pg::wal_record::{self, HEADER, MAX_LENGTH, RecordHeader};
use crate::format::pg::{BLOCK, Lsn, SegmentSize};
use crate::reader::pfs::{FileWatch, Watch};
use crate::reader::pg::cluster::find_clusters;

/// Bad pages named one by one; all are counted.
const MOST_NAMED: usize = 1000;

/// A page whose checksum does not match, or that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPage {
    /// Path of the file.
    pub path: String,
    /// Byte in the file.
    pub offset: u64,
    /// What is wrong.
    pub verdict: Verdict,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Data pages judged.
    pub pages: u64,
    /// Of these, never initialised.
    pub new: u64,
    /// Of these, bad.
    pub bad: u64,
    /// Bad pages, at most a thousand.
    pub named: Vec<BadPage>,
    /// Segments of the log.
    pub segments: u64,
    /// Whole log records whose checksum matches.
    pub records: u64,
    /// Bytes of these.
    pub record_bytes: u64,
    /// Segments that do not go on to their end: path, byte, and what stands there. The end of the log is one of them.
    pub ends: Vec<(String, u64, &'static str)>,
}

#[derive(Clone, Debug)]
struct Rules {
    /// Path of the cluster with '/' at both ends.
    root: String,
    checksums: bool,
    relseg_size: u32,
    segment: Option<SegmentSize>,
}

/// Watches the files of every cluster in a source.
#[derive(Debug)]
pub struct ClusterWatch {
    clusters: Vec<Rules>,
    seen: Mutex<Checked>,
}

impl ClusterWatch {
    /// Finds the clusters and what their control files say of pages and log.
    ///
    /// # Errors
    ///
    /// When the source cannot be listed.
    pub fn new(source: &Arc<dyn Source>, _cx: &Context) -> Result<Self> {
        let clusters = find_clusters(source)?;
        let rules = clusters.iter().filter_map(|c| {
            let control = c.control();
            let control = &control.trusted()?.control;
            let root = if c.root.is_empty() { "/".to_owned() } else { format!("/{}/", c.root) };
            Some(Rules {
                root,
                checksums: control.data_checksum_version != 0,
                relseg_size: control.relseg_size,
                segment: control.segment_size(),
            })
        });
        Ok(Self { clusters: rules.collect(), seen: Mutex::default() })
    }

    /// What was seen so far.
    #[must_use]
    pub fn checked(&self) -> Checked {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, one: Checked) {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |a: &mut u64, b: u64| *a = a.saturating_add(b);
        sum(&mut all.pages, one.pages);
        sum(&mut all.new, one.new);
        sum(&mut all.bad, one.bad);
        sum(&mut all.segments, one.segments);
        sum(&mut all.records, one.records);
        sum(&mut all.record_bytes, one.record_bytes);
        let room = MOST_NAMED.saturating_sub(all.named.len());
        all.named.extend(one.named.into_iter().take(room));
        all.ends.extend(one.ends);
    }
}

impl Watch for ClusterWatch {
    fn open(&self, path: &str, _size: u64) -> Option<Box<dyn FileWatch + '_>> {
        let (rules, rel) = self.clusters.iter().find_map(|r| Some((r, path.strip_prefix(r.root.as_str())?)))?;
        let name = rel.rsplit('/').next()?;
        let judge = if rel.starts_with("base/") || rel.starts_with("global/") || rel.starts_with("pg_tblspc/") {
            let file = RelFile::parse(name).filter(|f| !f.temporary)?;
            let first = file.segment.checked_mul(rules.relseg_size)?;
            Judge::Pages { checksums: rules.checksums, first }
        } else if rel.strip_prefix("pg_wal/") == Some(name) {
            let segment = rules.segment?;
            let (_, number) = segment.parse(name)?;
            Judge::Log(Log::new(segment.start(number)))
        } else {
            return None;
        };
        let seen = Checked { segments: u64::from(matches!(judge, Judge::Log(_))), ..Checked::default() };
        Some(Box::new(OneFile { watch: self, path: path.to_owned(), judge, carry: Vec::new(), at: 0, seen }))
    }
}

enum Judge {
    Pages { checksums: bool, first: u32 },
    Log(Log),
}

/// Cuts what goes by into pages.
struct OneFile<'a> {
    watch: &'a ClusterWatch,
    path: String,
    judge: Judge,
    /// The beginning of a page of which the rest is still to come.
    carry: Vec<u8>,
    /// Byte of the page that comes next.
    at: u64,
    seen: Checked,
}

impl OneFile<'_> {
    fn page(&mut self, page: &Page) {
        let at = self.at;
        self.at = at.saturating_add(BLOCK as u64);
        match &mut self.judge {
            Judge::Pages { checksums, first } => {
                let index = u32::try_from(at / BLOCK as u64).unwrap_or(u32::MAX);
                let verdict = page::verify(page, first.wrapping_add(index), *checksums);
                self.seen.pages = self.seen.pages.saturating_add(1);
                match verdict {
                    Verdict::Good => {}
                    Verdict::New => self.seen.new = self.seen.new.saturating_add(1),
                    verdict => {
                        self.seen.bad = self.seen.bad.saturating_add(1);
                        if self.seen.named.len() < MOST_NAMED {
                            self.seen.named.push(BadPage { path: self.path.clone(), offset: at, verdict });
                        }
                    }
                }
            }
            Judge::Log(log) => log.page(page, at),
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if !self.carry.is_empty() {
            let (part, tail) = rest.split_at(BLOCK.saturating_sub(self.carry.len()).min(rest.len()));
            self.carry.extend_from_slice(part);
            rest = tail;
            if self.carry.len() < BLOCK {
                return;
            }
            let carry = std::mem::take(&mut self.carry);
            if let Some(page) = carry.first_chunk() {
                self.page(page);
            }
        }
        let (pages, tail) = rest.as_chunks::<BLOCK>();
        for page in pages {
            self.page(page);
        }
        self.carry.extend_from_slice(tail);
    }
}

impl FileWatch for OneFile<'_> {
    fn data(&mut self, _offset: u64, bytes: &[u8]) {
        self.feed(bytes);
    }

    fn hole(&mut self, _offset: u64, len: u64) {
        let block = BLOCK as u64;
        let open = (block.saturating_sub(self.carry.len() as u64) % block).min(len);
        let zeros = [0; BLOCK];
        let part = |n: u64| zeros.get(..usize::try_from(n).unwrap_or(0)).unwrap_or_default();
        self.feed(part(open));
        let left = len.saturating_sub(open);
        let whole = left / block;
        if whole > 0 {
            match &mut self.judge {
                Judge::Pages { .. } => {
                    self.seen.pages = self.seen.pages.saturating_add(whole);
                    self.seen.new = self.seen.new.saturating_add(whole);
                }
                Judge::Log(log) => log.stop(self.at, "zeros"),
            }
            self.at = self.at.saturating_add(whole.saturating_mul(block));
        }
        self.feed(part(left % block));
    }

    fn missing(&mut self, offset: u64, len: u64) {
        // What cannot be read is reported by whoever copies; the pages it touches are left out.
        let end = offset.saturating_add(len);
        self.carry.clear();
        if let Judge::Log(log) = &mut self.judge {
            log.stop(offset, "bytes that cannot be read");
        }
        self.at = end.div_ceil(BLOCK as u64).saturating_mul(BLOCK as u64);
        let skip = usize::try_from(self.at.saturating_sub(end)).unwrap_or(0);
        if skip > 0 {
            // The rest of that page comes next: pretend to have its beginning, and take back its judgement.
            self.at = self.at.saturating_sub(BLOCK as u64);
            self.carry = vec![0; BLOCK.saturating_sub(skip)];
        }
    }

    fn finish(mut self: Box<Self>) {
        if let Judge::Log(log) = &mut self.judge {
            self.seen.records = log.records;
            self.seen.record_bytes = log.bytes;
            if let Some((at, what)) = log.end {
                self.seen.ends.push((self.path.clone(), at, what));
            }
        }
        self.watch.add(self.seen);
    }
}

/// Log records of one segment, page by page.
struct Log {
    start: Lsn,
    record: Vec<u8>,
    need: usize,
    /// Bytes of a record of the segment before that are still to be skipped.
    skip: u64,
    begun: bool,
    records: u64,
    bytes: u64,
    end: Option<(u64, &'static str)>,
    done: bool,
}

impl Log {
    fn new(start: Lsn) -> Self {
        Self { start, record: Vec::new(), need: 0, skip: 0, begun: false, records: 0, bytes: 0, end: None, done: false }
    }

    fn stop(&mut self, at: u64, what: &'static str) {
        if !self.done {
            self.done = true;
            self.end = Some((at, what));
        }
    }

    fn page(&mut self, page: &Page, at: u64) {
        if self.done {
            return;
        }
        let Ok(header) = PageHeader::decode(page) else { return self.stop(at, "no page header") };
        if !plausible_magic(header.magic) {
            return self.stop(at, "no log page");
        }
        if header.address != self.start.plus(at) {
            return self.stop(at, "a page of an older segment");
        }
        let continued = header.info & CONTRECORD != 0;
        if !self.begun {
            (self.begun, self.skip) = (true, if continued { u64::from(header.rem_len) } else { 0 });
        } else if self.need > 0 {
            let left = self.need.saturating_sub(self.record.len());
            if !continued || header.rem_len as usize != left {
                return self.stop(at, "a record is not continued");
            }
        }
        let size = header.size();
        self.body(page.get(size..).unwrap_or_default(), at.saturating_add(size as u64));
    }

    fn body(&mut self, body: &[u8], at: u64) {
        let mut pos = 0usize;
        if self.skip > 0 {
            let n = usize::try_from(self.skip).unwrap_or(usize::MAX).min(body.len());
            self.skip = self.skip.saturating_sub(n as u64);
            pos = align(at, n);
        } else if self.need > 0 {
            let n = self.need.saturating_sub(self.record.len()).min(body.len());
            self.record.extend_from_slice(body.get(..n).unwrap_or_default());
            if self.record.len() < self.need {
                return;
            }
            let record = std::mem::take(&mut self.record);
            self.need = 0;
            pos = align(at, n);
            if !self.judge(&record, at) {
                return;
            }
        }
        while let Some(rest) = body.get(pos..).filter(|r| !r.is_empty()) {
            let place = at.saturating_add(pos as u64);
            let length = rest.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
            if (length as usize) < HEADER || length > MAX_LENGTH {
                return self.stop(place, if length == 0 { "no further record" } else { "an impossible record length" });
            }
            let length = length as usize;
            let Some(record) = rest.get(..length) else {
                // The buffer grows with what really comes, not with what the length claims.
                self.record = rest.to_vec();
                self.need = length;
                return;
            };
            if !self.judge(record, place) {
                return;
            }
            pos = align(at, pos.saturating_add(length));
        }
    }

    /// Judges one whole record; `false` when nothing behind it counts.
    fn judge(&mut self, record: &[u8], at: u64) -> bool {
        let header = RecordHeader::of(record);
        if wal_record::crc(record) != header.crc {
            self.stop(at, "a record whose checksum does not match");
            return false;
        }
        self.records = self.records.saturating_add(1);
        self.bytes = self.bytes.saturating_add(record.len() as u64);
        // What follows a switch of segments is padding, whole pages of it.
        self.done |= header.is_switch();
        !self.done
    }
}

/// The next place after `pos` where a record can begin; `at` is the byte of the segment that `pos` counts from.
fn align(at: u64, pos: usize) -> usize {
    let odd = usize::try_from(at.saturating_add(pos as u64) % 8).unwrap_or(0);
    pos.saturating_add(if odd == 0 { 0 } else { 8 - odd })
}
