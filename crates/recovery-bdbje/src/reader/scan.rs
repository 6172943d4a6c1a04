//! The walk over all files: what is there, what is damaged, and the figures of the replication stream.

use std::collections::BTreeMap;
use std::ops::Range;

use recovery_core::{Class, Context, Coverage, Cursor, Result as CoreResult, Source, parallel};

use super::log::{Log, LogFile};
use super::resync;
use super::walk::{EntryRef, Walker};
use crate::format::checkpoint::{CkptEnd, RestoreRequired};
use crate::format::database::DbTree;
use crate::format::file_header::FILE_HEADER_SIZE;
use crate::format::txn::{Matchpoint, RollbackEnd, RollbackStart, TxnEnd};
use crate::format::{Entry, EntryType, FormatError, Lsn};
use crate::model::digest::{self, Digests};

/// How many breaks, matchpoints and bad spots of one file are kept; more are counted.
const KEPT: usize = 10_000;

/// Counts over a stretch of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Entries.
    pub entries: u64,
    /// Of these, in the replication stream.
    pub replicated: u64,
    /// Of these, rolled back.
    pub invisible: u64,
    /// First VLSN in file order, rolled-back ones included.
    pub first_vlsn: Option<i64>,
    /// Last VLSN in file order, rolled-back ones included.
    pub last_vlsn: Option<i64>,
    /// First VLSN that is not rolled back.
    pub first_visible: Option<i64>,
    /// Last VLSN that is not rolled back.
    pub last_visible: Option<i64>,
    /// Last visible commit of the stream: its VLSN and place.
    pub last_commit: Option<(i64, Lsn)>,
    /// Its content.
    pub last_commit_end: Option<TxnEnd>,
    /// Last visible sync point.
    pub last_sync: Option<i64>,
    /// Highest dtvlsn of visible commits and aborts.
    pub dtvlsn: Option<i64>,
    /// Visible commits of the stream.
    pub commits: u64,
    /// Visible transactional records.
    pub txn_lns: u64,
    /// Entries by type.
    pub types: [u64; 44],
    /// Bytes by type, headers included.
    pub type_bytes: [u64; 44],
    /// Place of the last entry.
    pub last_entry: Option<u32>,
    /// Last `CkptEnd`.
    pub ckpt_end: Option<Lsn>,
    /// Last `DbTree`.
    pub db_tree: Option<Lsn>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            entries: 0,
            replicated: 0,
            invisible: 0,
            first_vlsn: None,
            last_vlsn: None,
            first_visible: None,
            last_visible: None,
            last_commit: None,
            last_commit_end: None,
            last_sync: None,
            dtvlsn: None,
            commits: 0,
            txn_lns: 0,
            types: [0; 44],
            type_bytes: [0; 44],
            last_entry: None,
            ckpt_end: None,
            db_tree: None,
        }
    }
}

impl Tally {
    /// Entries of one type.
    #[must_use]
    pub fn count(&self, kind: EntryType) -> u64 {
        self.types.get(usize::from(kind.number())).copied().unwrap_or(0)
    }

    /// Adds a stretch that follows this one.
    pub fn append(&mut self, next: &Self) {
        for (a, b) in [
            (&mut self.entries, next.entries),
            (&mut self.replicated, next.replicated),
            (&mut self.invisible, next.invisible),
            (&mut self.commits, next.commits),
            (&mut self.txn_lns, next.txn_lns),
        ] {
            *a = a.saturating_add(b);
        }
        for (a, b) in self.types.iter_mut().zip(next.types).chain(self.type_bytes.iter_mut().zip(next.type_bytes)) {
            *a = a.saturating_add(b);
        }
        self.first_vlsn = self.first_vlsn.or(next.first_vlsn);
        self.last_vlsn = next.last_vlsn.or(self.last_vlsn);
        self.first_visible = self.first_visible.or(next.first_visible);
        self.last_visible = next.last_visible.or(self.last_visible);
        self.last_commit = next.last_commit.or(self.last_commit);
        self.last_commit_end = next.last_commit_end.or(self.last_commit_end);
        self.last_sync = next.last_sync.or(self.last_sync);
        self.dtvlsn = self.dtvlsn.max(next.dtvlsn);
        self.last_entry = next.last_entry.or(self.last_entry);
        self.ckpt_end = next.ckpt_end.or(self.ckpt_end);
        self.db_tree = next.db_tree.or(self.db_tree);
    }
}

/// A stretch that holds no valid entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSpot {
    /// First byte.
    pub offset: u64,
    /// Where the next valid entry begins, or the end of the file.
    pub end: u64,
    /// What is wrong at the first byte.
    pub error: FormatError,
    /// Whether valid entries follow in this file.
    pub resynced: bool,
    /// Whether nothing but zeros follows.
    pub zeros: bool,
    /// Whether it holds the position and size of exactly one entry.
    pub one_entry: bool,
    /// Type of that entry, as far as its header can be believed.
    pub kind: Option<EntryType>,
    /// One wrong bit in its header explains it: the entry was complete, not torn.
    pub flipped: bool,
    /// How far behind their bytes the entries that follow think they stand: bytes that were removed, negative where
    /// bytes were inserted.
    pub shift: i64,
}

/// Where the visible VLSNs do not follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlsnBreak {
    /// VLSN before.
    pub before: i64,
    /// VLSN after.
    pub after: i64,
    /// Place of the entry after.
    pub at: Lsn,
}

/// What the walk over one file found.
#[derive(Clone, Debug, Default)]
pub struct FileScan {
    /// Number.
    pub number: u32,
    /// Path in the source.
    pub name: String,
    /// Length.
    pub len: u64,
    /// Everything before the first bad spot.
    pub front: Tally,
    /// Everything behind it.
    pub behind: Tally,
    /// End of the last valid entry before the first bad spot.
    pub valid_to: u64,
    /// Bad spots.
    pub bad: Vec<BadSpot>,
    /// Bad spots that are not listed.
    pub bad_more: u64,
    /// Breaks of the VLSN sequence within the file.
    pub breaks: Vec<VlsnBreak>,
    /// Places whose previous offset does not name the entry before.
    pub chain: Vec<u64>,
    /// Matchpoints: VLSN and place.
    pub matchpoints: Vec<(i64, Lsn)>,
    /// Rollbacks.
    pub rollback_starts: Vec<(Lsn, RollbackStart)>,
    /// Their ends.
    pub rollback_ends: Vec<(Lsn, RollbackEnd)>,
    /// Reason of a `RestoreRequired` entry, and its place.
    pub restore_required: Option<(u64, String)>,
    /// Items that are not what their type says, although the checksum agrees.
    pub odd: Vec<(u64, FormatError)>,
    /// What the medium did not give.
    pub unread: Vec<Range<u64>>,
    /// What is known of each byte.
    pub coverage: Coverage,
    /// Hash of the content of each visible replicated entry, by VLSN, when asked for.
    pub digests: Digests,
    /// Invisible entries: place and whether they belong to the replication stream.
    pub invisible: Vec<(u64, u64, bool)>,
    /// The file header carries flags, which it never does.
    pub header_flags: bool,
    /// Bytes of erased entries, which have no checksum.
    pub erased: u64,
}

impl FileScan {
    /// The whole file.
    #[must_use]
    pub fn all(&self) -> Tally {
        let mut t = self.front.clone();
        t.append(&self.behind);
        t
    }

    /// First bad spot.
    #[must_use]
    pub fn first_bad(&self) -> Option<&BadSpot> {
        self.bad.first()
    }
}

/// What to do with each entry, beside counting.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScanOptions {
    /// Hash the content of replicated entries, for comparing nodes.
    pub digests: bool,
    /// Decode every item, not only what is needed.
    pub decode: bool,
}

struct Scanner<'s> {
    scan: &'s mut FileScan,
    version: u8,
    options: ScanOptions,
    last_visible: Option<i64>,
    covered: u64,
}

/// Walks over one file.
#[must_use]
pub fn scan_file(file: &LogFile, options: ScanOptions) -> FileScan {
    let mut scan = FileScan {
        number: file.number,
        name: file.name.clone(),
        len: file.len,
        coverage: Coverage::new(file.len),
        ..FileScan::default()
    };
    let mut walker = Walker::new(file.blob.as_ref(), file.len);
    let mut s = Scanner { scan: &mut scan, version: file.version(), options, last_visible: None, covered: 0 };
    let mut at = 0;
    let mut prev = 0u64;
    let mut shift = 0i64;
    while at < file.len {
        let error = match walker.entry(at) {
            Ok(e) if at == 0 && e.header.kind != EntryType::FILE_HEADER => {
                FormatError::BadType { found: e.header.kind.number(), at }
            }
            Ok(e) => {
                if u64::from(e.header.prev) != prev && s.scan.chain.len() < KEPT {
                    s.scan.chain.push(at);
                }
                prev = at.saturating_add_signed(shift);
                at = e.end();
                s.entry(&e);
                continue;
            }
            Err(e) => e,
        };
        s.verified(at);
        let (spot, next) = bad_spot(&mut walker, at, error);
        // The first entry behind damage names an entry that is gone.
        prev = u64::from(next_prev(&mut walker, next).unwrap_or(0));
        shift = spot.shift;
        s.bad(spot);
        at = next;
        s.covered = at;
    }
    s.verified(at);
    scan.digests.shrink();
    scan.unread = walker.unread().to_vec();
    for r in &scan.unread {
        scan.coverage.mark(r.clone(), Class::Unread);
    }
    scan
}

fn next_prev(walker: &mut Walker<'_>, at: u64) -> Option<u32> {
    walker.entry(at).ok().map(|e| e.header.prev)
}

fn bad_spot(walker: &mut Walker<'_>, at: u64, error: FormatError) -> (BadSpot, u64) {
    let window = walker.window(at, 64);
    let header = crate::format::EntryHeader::decode(&mut Cursor::new(window, at)).ok();
    let len = walker.len();
    let zeros = walker.zero_to_end(at);
    let next = if zeros { None } else { resync::next_entry(walker, at, header.map(|h| h.total())) };
    let shift = next.map_or(0, |r| r.shift);
    let next = next.map(|r| r.at);
    let one_entry = next.is_some() && next == header.and_then(|h| at.checked_add(h.total()));
    let end = next.unwrap_or(len);
    let kind = header.map(|h| h.kind);
    let past = matches!(error, FormatError::PastEnd { .. });
    let flipped = past && next.is_none() && one_bit_explains(walker, at);
    (BadSpot { offset: at, end, error, resynced: next.is_some(), zeros, one_entry, kind, flipped, shift }, end)
}

/// Longest tail that is tried.
const TRIED: u64 = 1 << 20;

/// Whether turning one bit of the header around makes a valid entry that ends where the file ends: then nothing was
/// torn off, and the entry was complete.
fn one_bit_explains(walker: &mut Walker<'_>, at: u64) -> bool {
    let left = walker.len().saturating_sub(at);
    let Some(n) = usize::try_from(left).ok().filter(|_| left <= TRIED) else { return false };
    let Some(mut entry) = walker.window(at, n).get(..n).map(<[u8]>::to_vec) else { return false };
    for bit in 0..crate::format::header::MAX_HEADER.min(n).saturating_mul(8) {
        let mask = 1u8 << (bit % 8);
        let Some(byte) = entry.get_mut(bit / 8) else { break };
        *byte ^= mask;
        let fits = crate::format::EntryHeader::decode(&mut Cursor::new(&entry, at))
            .is_ok_and(|h| h.total() == left && crate::format::header::verify(&h, &entry, at).is_ok());
        if fits {
            return true;
        }
        if let Some(byte) = entry.get_mut(bit / 8) {
            *byte ^= mask;
        }
    }
    false
}

impl Scanner<'_> {
    fn verified(&mut self, to: u64) {
        self.scan.coverage.mark(self.covered..to, Class::Verified);
        if self.scan.bad.is_empty() {
            self.scan.valid_to = to;
        }
        self.covered = to;
    }

    fn bad(&mut self, spot: BadSpot) {
        let class = if spot.zeros { Class::Free } else { Class::Damaged };
        self.scan.coverage.mark(spot.offset..spot.end, class);
        if self.scan.bad.len() < KEPT {
            self.scan.bad.push(spot);
        } else {
            self.scan.bad_more = self.scan.bad_more.saturating_add(1);
        }
    }

    #[inline]
    fn entry(&mut self, e: &EntryRef<'_>) {
        let h = &e.header;
        let offset = u32::try_from(e.at).unwrap_or(u32::MAX);
        let lsn = Lsn::new(self.scan.number, offset);
        let t = if self.scan.bad.is_empty() { &mut self.scan.front } else { &mut self.scan.behind };
        // None of these can overflow: they count entries and bytes of one file.
        t.entries = t.entries.wrapping_add(1);
        t.last_entry = Some(offset);
        if let Some(n) = t.types.get_mut(usize::from(h.kind.number())) {
            *n = n.wrapping_add(1);
        }
        if let Some(n) = t.type_bytes.get_mut(usize::from(h.kind.number())) {
            *n = n.wrapping_add(h.total());
        }
        if h.invisible() {
            t.invisible = t.invisible.wrapping_add(1);
            if self.scan.invisible.len() < KEPT {
                self.scan.invisible.push((e.at, h.total(), h.replicated()));
            }
        }
        if e.at == 0 {
            self.scan.header_flags = e.bytes.get(5).is_some_and(|f| *f != 0);
        }
        if let Some(v) = h.stream_vlsn() {
            t.replicated = t.replicated.wrapping_add(1);
            t.first_vlsn = t.first_vlsn.or(Some(v));
            t.last_vlsn = Some(v);
            if !h.invisible() {
                t.first_visible = t.first_visible.or(Some(v));
                t.last_visible = Some(v);
                self.follow(v, lsn);
            }
        }
        self.special(e, lsn);
    }

    #[inline]
    fn follow(&mut self, vlsn: i64, at: Lsn) {
        if let Some(before) = self.last_visible
            && before.checked_add(1) != Some(vlsn)
            && self.scan.breaks.len() < KEPT
        {
            self.scan.breaks.push(VlsnBreak { before, after: vlsn, at });
        }
        self.last_visible = Some(vlsn);
    }

    #[inline]
    fn special(&mut self, e: &EntryRef<'_>, lsn: Lsn) {
        let h = &e.header;
        if h.kind.is_transactional_ln() {
            if !h.invisible() {
                let t = if self.scan.bad.is_empty() { &mut self.scan.front } else { &mut self.scan.behind };
                t.txn_lns = t.txn_lns.wrapping_add(1);
            }
        } else {
            self.marker(e, lsn);
        }
        if self.options.digests && h.replicated() && !h.invisible() {
            self.digest(e);
        } else if self.options.decode
            && let Err(error) = Entry::decode(h.kind, self.version, e.item(), e.item_at())
        {
            self.odd(e.at, error);
        }
    }

    fn odd(&mut self, at: u64, error: FormatError) {
        if self.scan.odd.len() < KEPT {
            self.scan.odd.push((at, error));
        }
    }

    fn marker(&mut self, e: &EntryRef<'_>, lsn: Lsn) {
        let (h, mut c) = (&e.header, Cursor::new(e.item(), e.item_at()));
        let version = self.version;
        let t = if self.scan.bad.is_empty() { &mut self.scan.front } else { &mut self.scan.behind };
        let done = match h.kind {
            EntryType::COMMIT | EntryType::ABORT => TxnEnd::decode(&mut c, version).map(|end| {
                if let (Some(v), false) = (h.stream_vlsn(), h.invisible()) {
                    t.last_sync = Some(v);
                    t.dtvlsn = t.dtvlsn.max(end.dtvlsn);
                    if h.kind == EntryType::COMMIT {
                        t.commits = t.commits.wrapping_add(1);
                        t.last_commit = Some((v, lsn));
                        t.last_commit_end = Some(end);
                    }
                }
            }),
            EntryType::MATCHPOINT => Matchpoint::decode(&mut c).map(|_| {
                if let (Some(v), false) = (h.stream_vlsn(), h.invisible()) {
                    t.last_sync = Some(v);
                    if self.scan.matchpoints.len() < KEPT {
                        self.scan.matchpoints.push((v, lsn));
                    }
                }
            }),
            EntryType::CKPT_END => CkptEnd::decode(&mut c, version).map(|_| t.ckpt_end = Some(lsn)),
            EntryType::DB_TREE => DbTree::decode(&mut c, version).map(|_| t.db_tree = Some(lsn)),
            EntryType::ROLLBACK_START => {
                RollbackStart::decode(&mut c).map(|r| self.scan.rollback_starts.push((lsn, r)))
            }
            EntryType::ROLLBACK_END => RollbackEnd::decode(&mut c).map(|r| self.scan.rollback_ends.push((lsn, r))),
            EntryType::RESTORE_REQUIRED => RestoreRequired::decode(&mut c).map(|r| {
                let why = String::from_utf8_lossy(r.failure.unwrap_or_default()).into_owned();
                self.scan.restore_required = Some((e.at, why));
            }),
            EntryType::ERASED => {
                self.scan.erased = self.scan.erased.saturating_add(h.total());
                self.verified(e.at);
                self.scan.coverage.mark(e.at..e.end(), Class::Parsed);
                self.covered = e.end();
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = done {
            self.odd(e.at, error);
        }
    }

    /// What two nodes must agree on: type, database, transaction, key, data, master; never times and places.
    fn digest(&mut self, e: &EntryRef<'_>) {
        let Some(vlsn) = e.header.vlsn else { return };
        match digest::of(e, self.version) {
            Ok(digest) => self.scan.digests.push(vlsn, digest),
            Err(error) => self.odd(e.at, error),
        }
    }
}

/// What the walk over all files found.
#[derive(Clone, Debug, Default)]
pub struct LogScan {
    /// By number.
    pub files: BTreeMap<u32, FileScan>,
}

/// Walks over all files at once.
///
/// # Errors
///
/// When the caller asked to stop.
pub fn scan_log(log: &Log, options: ScanOptions, cx: &Context) -> CoreResult<LogScan> {
    let files: Vec<&LogFile> = log.files.values().collect();
    cx.progress.begin("reading the log", log.bytes());
    let scans = parallel::map(cx, &files, |_, f| {
        let scan = scan_file(f, options);
        cx.progress.advance(f.len);
        f.blob.done_with(0..f.len);
        scan
    })?;
    Ok(LogScan { files: scans.into_iter().map(|s| (s.number, s)).collect() })
}

/// Files read for the end of a log before giving up on finding a commit.
const TAIL: usize = 64;

/// Walks over the last files of directory `dir` of a source, as many as it takes to find a commit: what the end of a
/// log of any size says, in an instant.
///
/// # Errors
///
/// When the caller asked to stop.
pub fn scan_tail(source: &dyn Source, dir: &str, cx: &Context) -> CoreResult<LogScan> {
    let mut n = 2;
    loop {
        let log = Log::open_last(source, dir, n);
        let scan = scan_log(&log, ScanOptions::default(), cx)?;
        if scan.all().last_commit.is_some() || log.files.len() < n || n >= TAIL {
            return Ok(scan);
        }
        n = n.saturating_mul(4);
    }
}

impl LogScan {
    /// Figures up to the first bad spot of each file, as a walk by headers sees them.
    #[must_use]
    pub fn front(&self) -> Tally {
        let mut all = Tally::default();
        for f in self.files.values() {
            all.append(&f.front);
        }
        all
    }

    /// Figures of everything that can be read.
    #[must_use]
    pub fn all(&self) -> Tally {
        let mut all = Tally::default();
        for f in self.files.values() {
            all.append(&f.front);
            all.append(&f.behind);
        }
        all
    }

    /// Breaks of the visible VLSN sequence, within files and between them.
    #[must_use]
    pub fn breaks(&self) -> Vec<VlsnBreak> {
        let mut out = Vec::new();
        let mut last: Option<i64> = None;
        for f in self.files.values() {
            let all = f.all();
            if let (Some(before), Some(after)) = (last, all.first_visible)
                && before.checked_add(1) != Some(after)
            {
                out.push(VlsnBreak { before, after, at: Lsn::new(f.number, 0) });
            }
            out.extend_from_slice(&f.breaks);
            last = all.last_visible.or(last);
        }
        out
    }

    /// The file in which JE looks for the end of the log: the last one, or the one before when the last holds no more
    /// than a header. Upstream: `LastFileReader.startAtLastGoodFile`.
    #[must_use]
    pub fn last_file(&self) -> Option<&FileScan> {
        let mut files = self.files.values().rev().peekable();
        while let Some(f) = files.next() {
            if f.len > FILE_HEADER_SIZE || files.peek().is_none() {
                return Some(f);
            }
        }
        None
    }

    /// Where JE ends the log: at the first bad entry of the last file.
    #[must_use]
    pub fn je_end(&self) -> Option<Lsn> {
        let f = self.last_file()?;
        Some(Lsn::new(f.number, u32::try_from(f.valid_to).unwrap_or(u32::MAX)))
    }

    /// All bad spots with their files.
    pub fn bad(&self) -> impl Iterator<Item = (&FileScan, &BadSpot)> {
        self.files.values().flat_map(|f| f.bad.iter().map(move |b| (f, b)))
    }

    /// Where the bytes of an entry stand that other entries call by `lsn`: elsewhere only behind bytes that were
    /// inserted or removed.
    #[must_use]
    pub fn stands(&self, lsn: Lsn) -> Lsn {
        let Some(f) = self.files.get(&lsn.file()) else { return lsn };
        let named = u64::from(lsn.offset());
        let spot = f.bad.iter().rev().find(|b| b.resynced && named >= b.end.saturating_add_signed(b.shift));
        let shift = spot.map_or(0, |b| b.shift);
        let at = named.checked_add_signed(shift.saturating_neg()).and_then(|a| u32::try_from(a).ok());
        at.map_or(lsn, |a| Lsn::new(lsn.file(), a))
    }

    /// Whether a place lies in a bad spot, an unreadable range, or a file that is not there.
    #[must_use]
    pub fn destroyed(&self, lsn: Lsn) -> bool {
        let at = u64::from(lsn.offset());
        match self.files.get(&lsn.file()) {
            None => true,
            Some(f) => {
                at >= f.len
                    || f.bad.iter().any(|b| (b.offset..b.end).contains(&at))
                    || f.unread.iter().any(|r| r.contains(&at))
            }
        }
    }
}
