//! Scanning a long stretch of log with all threads.
//!
//! A page header tells where its first record begins, so every thread can start at a piece's first page. The pieces are
//! then joined in order: a piece counts only if it begins at the record the piece before ended with, and its first
//! record points back to that one's last. Where that fails, the piece is walked again from the known place, so the
//! result is that of one walk from the beginning.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use recovery_core::{Context, Result, parallel};

use super::wal::{Stop, WalDir, Walker};
use super::wal_heal;
use super::wal_summary::{Asked, Summary};
use crate::format::pg::Lsn;

/// Smallest piece given to a thread.
const PIECE: u64 = 8 << 20;

/// A log with more corrections than this is not slightly damaged.
const MOST_HEALED: usize = 1000;

/// Where and how a scan ended, and what it saw.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Where it began.
    pub start: Lsn,
    /// Where the first record begins.
    pub first: Option<Lsn>,
    /// Where the last complete record begins.
    pub last: Option<Lsn>,
    /// Position behind the last complete record: the end of recovery.
    pub end: Lsn,
    /// Why it ended there; `None` when the given end was reached.
    pub stop: Option<Stop>,
    /// Records given up by a crashed server and marked so by its successor.
    pub overwritten: u64,
    /// Places where the bytes between two records are not zero, and the first of them.
    pub padding: (u64, Option<Lsn>),
    /// Stretches without records.
    pub skipped: Vec<Range<Lsn>>,
    /// Corrections that were made to go on.
    pub healed: Vec<wal_heal::Healed>,
    /// What the records say.
    pub summary: Summary,
}

/// What a scan looks at.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// Timeline.
    pub tli: u32,
    /// Where the first record begins; a segment's first byte to begin at its first record.
    pub start: Lsn,
    /// Where to stop at the latest.
    pub until: Lsn,
    /// Whether single flipped bits and damaged page headers may be corrected to go on.
    pub heal: bool,
    /// Questions beside the counts.
    pub asked: Option<Arc<Asked>>,
}

struct Piece {
    range: Range<Lsn>,
    first: Option<Lsn>,
    first_prev: Option<Lsn>,
    last: Option<Lsn>,
    end: Lsn,
    stop: Option<Stop>,
    overwritten: u64,
    padding: (u64, Option<Lsn>),
    skipped: Vec<Range<Lsn>>,
    summary: Summary,
}

struct Job<'a> {
    wal: &'a WalDir,
    options: &'a ScanOptions,
    cx: &'a Context,
    done: &'a AtomicBool,
}

impl Job<'_> {
    fn walk(&self, range: Range<Lsn>, mut walker: Walker<'_>) -> Result<Piece> {
        let major = self.wal.expect.major;
        let asked = self.options.asked.as_ref();
        let mut summary = Summary::default();
        let (mut first, mut first_prev) = (None, None);
        let stop = walker.run(range.end, self.cx, |r| {
            if first.is_none() {
                (first, first_prev) = (Some(r.lsn), Some(r.header.prev));
            }
            summary.take(r, major, asked);
        })?;
        let last = if first.is_some() { walker.prev } else { None };
        Ok(Piece {
            range,
            first,
            first_prev,
            last,
            end: walker.next,
            stop,
            overwritten: walker.overwritten,
            padding: walker.padding,
            skipped: walker.skipped,
            summary,
        })
    }

    /// A piece seen from its own first page; nothing when no record can be found there.
    fn guess(&self, range: Range<Lsn>) -> Result<Option<Piece>> {
        if self.done.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut walker = Walker::new(self.wal, self.options.tli, range.start, None);
        match walker.resync(range.start, range.end) {
            Ok(Some(_)) => self.walk(range, walker).map(Some),
            Ok(None) | Err(_) => Ok(None),
        }
    }
}

/// Scans a stretch of log.
///
/// # Errors
///
/// Only that the caller asked to stop: the end of the log, whatever it looks like, is part of the result.
pub fn scan(wal: &WalDir, options: &ScanOptions, cx: &Context) -> Result<Scan> {
    let done = AtomicBool::new(false);
    let job = Job { wal, options, cx, done: &done };
    let mut out = Scan {
        start: options.start,
        first: None,
        last: None,
        end: options.start,
        stop: None,
        overwritten: 0,
        padding: (0, None),
        skipped: Vec::new(),
        healed: Vec::new(),
        summary: Summary::default(),
    };
    let until = options.until.min(wal.present_end(options.tli).max(options.start.plus(1)));
    if options.start.in_page() == 0 {
        match Walker::new(wal, options.tli, options.start, None).resync(options.start, until) {
            Ok(Some(first)) => out.end = first,
            Ok(None) => out.end = until,
            Err(stop) => {
                out.stop = Some(stop);
                return Ok(out);
            }
        }
    }
    let pieces = pieces(out.end, until).take_while(|_| !done.load(Ordering::Relaxed));
    let window = cx.limits.threads.saturating_mul(3).max(2);
    parallel::stream(
        cx,
        pieces,
        window,
        |range| (range.clone(), job.guess(range)),
        |(range, guess)| {
            if done.load(Ordering::Relaxed) || out.end >= range.end {
                return Ok(());
            }
            match guess? {
                Some(piece) if fits(wal, &out, &piece) => join(&mut out, piece),
                _ => {
                    let walker = Walker::new(wal, options.tli, out.end, out.last);
                    let piece = job.walk(range.clone(), walker)?;
                    join(&mut out, piece);
                }
            }
            while let Some(stop) = out.stop.clone() {
                if !options.heal || out.healed.len() >= MOST_HEALED {
                    break;
                }
                let Some(healed) = wal_heal::heal(wal, options.tli, out.end, out.last, &stop) else { break };
                out.healed.push(healed);
                let walker = Walker::new(wal, options.tli, out.end, out.last);
                let piece = job.walk(range.clone(), walker)?;
                join(&mut out, piece);
            }
            if out.stop.is_some() {
                done.store(true, Ordering::Relaxed);
            }
            Ok(())
        },
    )?;
    if out.stop.is_none() && until < options.until {
        let at = out.end.max(until);
        let name = wal.segment_name(options.tli, at);
        out.stop = Some(Stop::NoSegment { name, at });
    }
    Ok(out)
}

fn pieces(start: Lsn, until: Lsn) -> impl Iterator<Item = Range<Lsn>> {
    let mut at = start;
    std::iter::from_fn(move || {
        let next = Lsn((at.0 / PIECE).saturating_add(1).saturating_mul(PIECE)).min(until);
        let piece = at..next;
        at = next;
        (piece.start < piece.end).then_some(piece)
    })
}

fn fits(wal: &WalDir, out: &Scan, piece: &Piece) -> bool {
    match out.last {
        // The first piece is begun at the given record, not at a page: let it be walked from there.
        None => false,
        Some(last) => {
            piece.first == Some(wal.record_start(out.end))
                && piece.first_prev == Some(last)
                && piece.range.start <= out.end
        }
    }
}

fn join(out: &mut Scan, piece: Piece) {
    out.first = out.first.or(piece.first);
    out.last = piece.last.or(out.last);
    out.end = piece.end;
    out.stop = piece.stop;
    out.overwritten = out.overwritten.saturating_add(piece.overwritten);
    out.padding = (out.padding.0.saturating_add(piece.padding.0), out.padding.1.or(piece.padding.1));
    out.skipped.extend(piece.skipped);
    out.summary.append(piece.summary);
}

/// Complete records behind a place where the walk ended: what a server's start would throw away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beyond {
    /// Where the first of them begins.
    pub first: Option<Lsn>,
    /// Position behind the last.
    pub end: Lsn,
    /// How many.
    pub records: u64,
    /// Commits among them.
    pub commits: u64,
    /// Pages that could not be read.
    pub unread: Vec<Range<Lsn>>,
}

/// Looks for complete records behind a break, page by page, to the end of what is present.
///
/// # Errors
///
/// Only that the caller asked to stop.
pub fn beyond(wal: &WalDir, tli: u32, stop: &Stop, cx: &Context) -> Result<Beyond> {
    let mut out = Beyond::default();
    let present = wal.present_end(tli);
    let mut at = match stop {
        Stop::Crc { end, .. } => *end,
        other => other.at().page().plus(8192),
    };
    let mut exact = matches!(stop, Stop::Crc { .. });
    while at < present {
        cx.cancelled()?;
        let mut walker = Walker::new(wal, tli, at, None);
        let found = if exact { Ok(Some(at)) } else { walker.resync(at.page(), present) };
        exact = false;
        if let Err(Stop::Unreadable { at: page, .. }) = &found {
            match out.unread.last_mut() {
                Some(last) if last.end == *page => last.end = page.plus(8192),
                _ => out.unread.push(*page..page.plus(8192)),
            }
        }
        let Ok(Some(_)) = found else {
            at = skip(wal, tli, at);
            continue;
        };
        let mut summary = Summary::default();
        let first = walker.next;
        walker.run(present, cx, |r| summary.take(r, wal.expect.major, None))?;
        if summary.records > 0 {
            out.first.get_or_insert(wal.record_start(first));
            out.end = walker.next;
            out.records = out.records.saturating_add(summary.records);
            out.commits = out.commits.saturating_add(summary.commits);
        }
        at = walker.next.max(at).page().plus(8192);
    }
    Ok(out)
}

/// The next page that could be one: the next page, or the next segment where this one is missing.
fn skip(wal: &WalDir, tli: u32, at: Lsn) -> Lsn {
    let number = wal.segment.number(at);
    if wal.segments.contains_key(&(tli, number)) {
        at.page().plus(8192)
    } else {
        wal.segment.start(number.saturating_add(1))
    }
}

/// Whether nothing but zeros stands from a position to the end of its page: so a log ends that was not cut.
#[must_use]
pub fn rest_is_zero(wal: &WalDir, tli: u32, at: Lsn) -> bool {
    let Some(page) = Walker::new(wal, tli, at, None).page_bytes(at.page()) else { return true };
    let from = usize::try_from(at.in_page()).unwrap_or(0);
    page.iter().skip(from).all(|b| *b == 0)
}
