//! Files of change lines: names, heads, tails, whole scans.

use recovery_core::{Blob, ReadError};

use super::LONGEST_LINE;
use super::line::line_id;

/// Bytes read at once.
pub(crate) const BLOCK: usize = 1 << 20;

/// Whether upstream takes a file of this name for a change log: the family and the number.
#[must_use]
pub fn log_name(name: &str) -> Option<(&'static str, u32)> {
    for family in ["changelog_ml_back", "changelog_ml", "changelog"] {
        let rest = name.strip_prefix(family).and_then(|r| r.strip_prefix('.')).and_then(|r| r.strip_suffix(".mfs"));
        if let Some(number) = rest
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
        {
            return Some((family, number.parse().unwrap_or(u32::MAX)));
        }
    }
    None
}

/// How a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tail {
    /// With a newline, or there is nothing at all.
    Clean,
    /// Inside a line.
    Torn,
    /// With zero bytes behind the last line.
    Nul,
    /// With something that is no line.
    Garbage,
}

impl Tail {
    /// The name used in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Torn => "torn",
            Self::Nul => "nul",
            Self::Garbage => "garbage",
        }
    }
}

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Offset of the first byte.
    pub at: u64,
    /// Bytes.
    pub len: u64,
}

/// The ids went back: the file was continued from an earlier state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// Highest id before the jump.
    pub from: u64,
    /// Id that was written again.
    pub to: u64,
    /// Offset of the line that was written again.
    pub at: u64,
    /// Offset of the first line that is overtaken by it.
    pub abandoned: u64,
    /// Highest id behind the jump, up to the next one.
    pub reach: u64,
}

impl Jump {
    /// Whether what stands behind the jump leads no further than what it overtakes, when the logs lead to `last`.
    #[must_use]
    pub const fn falls_short(&self, last: u64) -> bool {
        self.reach < self.from && last <= self.from
    }
}

/// What is known about a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogScan {
    /// Length of the file.
    pub size: u64,
    /// Id of the first line.
    pub first: Option<u64>,
    /// Highest id of a complete line.
    pub last: Option<u64>,
    /// Lines; 0 when only head and tail were read.
    pub lines: u64,
    /// Ids that are missing between first and last, as ranges that include both ends.
    pub gaps: Vec<(u64, u64)>,
    /// Lines that are no lines.
    pub garbage: Vec<Range>,
    /// Places at which the ids go back.
    pub jumps: Vec<Jump>,
    /// Whether neighbouring lines stand in the wrong order.
    pub unordered: u64,
    /// How the file ends.
    pub tail: Tail,
    /// The bytes behind the last complete line.
    pub rest: Range,
    /// Whether the last, unterminated line is one by the grammar.
    pub rest_parses: bool,
    /// Id of the unterminated line, if it has one.
    pub rest_id: Option<u64>,
    /// Whether all of the file was read.
    pub complete: bool,
    /// What the original program takes for the last id: 0 makes it drop the whole file.
    pub upstream_last: u64,
    /// First id as the original program reads it.
    pub upstream_first: u64,
    /// Whether the first line has the form of 1.6, where that can be told.
    pub sample: Vec<u8>,
}

impl LogScan {
    fn new(size: u64) -> Self {
        Self {
            size,
            first: None,
            last: None,
            lines: 0,
            gaps: Vec::new(),
            garbage: Vec::new(),
            jumps: Vec::new(),
            unordered: 0,
            tail: Tail::Clean,
            rest: Range { at: size, len: 0 },
            rest_parses: false,
            rest_id: None,
            complete: false,
            upstream_last: 0,
            upstream_first: 0,
            sample: Vec::new(),
        }
    }

    /// Takes in the bytes behind the last newline.
    fn end(&mut self, at: u64, rest: &[u8]) {
        self.rest = Range { at, len: rest.len() as u64 };
        let text = rest.strip_suffix(b"\r").unwrap_or(rest);
        self.tail = if rest.is_empty() {
            Tail::Clean
        } else if rest.iter().all(|&b| b == 0) {
            Tail::Nul
        } else if line_id(text).is_some() || rest.iter().all(u8::is_ascii_digit) {
            Tail::Torn
        } else {
            Tail::Garbage
        };
        self.rest_id = line_id(text).map(|l| l.0);
        self.rest_parses = super::parse(text).is_ok_and(|c| !c.op.has_unchecked_results());
    }
}

/// What the original program reads as first and last id: see `changelog.c` (`changelog_findfirstversion`,
/// `changelog_findlastversion`).
fn upstream(blob: &dyn Blob, scan: &mut LogScan) -> Result<(), ReadError> {
    let head = blob.bytes(0..blob.len().min(50))?;
    scan.upstream_first = digits(&head).unwrap_or(0);
    let window = blob.len().min(200_000);
    let tail = blob.bytes(blob.len().saturating_sub(window)..blob.len())?;
    let Some(body) = tail.strip_suffix(b"\n") else { return Ok(()) };
    let start = body.iter().rposition(|&b| b == b'\n').map(|p| p.saturating_add(1));
    // a file of exactly one line is handled by 2.x and later, not by 1.6
    let line = match start {
        Some(s) => body.get(s..).unwrap_or_default(),
        None if window == blob.len() => body,
        None => return Ok(()),
    };
    scan.upstream_last = digits(line).unwrap_or(0);
    Ok(())
}

fn digits(line: &[u8]) -> Option<u64> {
    let n = line.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, rest) = line.split_at(n);
    if n == 0 || rest.first() != Some(&b':') {
        return None;
    }
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// Reads only the beginning and the end of a log.
///
/// # Errors
///
/// When the medium fails.
pub fn heads_and_tails(blob: &dyn Blob) -> Result<LogScan, ReadError> {
    let mut scan = LogScan::new(blob.len());
    upstream(blob, &mut scan)?;
    if blob.len() <= 4 * BLOCK as u64 {
        let mut full = scan_all(blob)?;
        full.complete = true;
        return Ok(full);
    }
    let head = blob.bytes(0..BLOCK as u64)?;
    for line in head.split(|&b| b == b'\n') {
        if let Some((id, _)) = line_id(line) {
            scan.first = Some(id);
            scan.sample = line.iter().take(256).copied().collect();
            break;
        }
    }
    let from = blob.len().saturating_sub(2 * BLOCK as u64);
    let tail = blob.bytes(from..blob.len())?;
    let last = tail.iter().rposition(|&b| b == b'\n').map_or(0, |p| p.saturating_add(1));
    let (lines, rest) = tail.split_at(last);
    scan.last = lines.split(|&b| b == b'\n').skip(1).filter_map(|l| line_id(l).map(|i| i.0)).max();
    scan.end(from.saturating_add(last as u64), rest);
    Ok(scan)
}

/// Reads a whole log.
///
/// # Errors
///
/// When the medium fails.
pub fn scan_all(blob: &dyn Blob) -> Result<LogScan, ReadError> {
    let mut scan = LogScan::new(blob.len());
    upstream(blob, &mut scan)?;
    scan.complete = true;
    let mut order = Order::default();
    let mut reader = LineReader::new(blob);
    while let Some(line) = reader.next_line()? {
        let at = line.at;
        let text = line.text;
        if !line.terminated {
            scan.end(at, text);
            break;
        }
        if text.is_empty() {
            continue;
        }
        match line_id(text) {
            Some((id, _)) => {
                scan.lines = scan.lines.saturating_add(1);
                if scan.first.is_none() {
                    scan.first = Some(id);
                    scan.sample = text.iter().take(256).copied().collect();
                }
                scan.last = Some(scan.last.map_or(id, |l| l.max(id)));
                order.see(&mut scan, id, at, text);
            }
            None if text.iter().all(|&b| b == 0) => scan.tail = Tail::Nul,
            None => scan.garbage.push(Range { at, len: text.len() as u64 }),
        }
    }
    if scan.lines == 0 && scan.tail == Tail::Clean && !scan.garbage.is_empty() {
        scan.tail = Tail::Garbage;
    }
    order.finish(&mut scan);
    Ok(scan)
}

/// Follows the ids of a file: holes, lines in the wrong order, jumps back.
#[derive(Default)]
struct Order {
    next: Option<u64>,
    /// Holes that a later line may still fill, with the offset behind them.
    open: Vec<(u64, u64)>,
    /// Id, offset and hash of recent lines, for the place from which a jump overtakes.
    recent: std::collections::VecDeque<(u64, u64, u64)>,
}

impl Order {
    fn see(&mut self, scan: &mut LogScan, id: u64, at: u64, text: &[u8]) {
        let hash = xxhash_rust::xxh3::xxh3_64(text);
        if self.next.is_some_and(|n| id < n) && self.recent.iter().any(|r| (r.0, r.2) == (id, hash)) {
            // the same line again
            return;
        }
        self.recent.push_back((id, at, hash));
        if self.recent.len() > 1 << 16 {
            self.recent.pop_front();
        }
        let Some(next) = self.next else {
            self.next = Some(id.saturating_add(1));
            return;
        };
        if let Some(j) = scan.jumps.last_mut() {
            j.reach = j.reach.max(id);
        }
        if id == next {
            self.next = Some(id.saturating_add(1));
        } else if id > next {
            self.open.push((next, id.saturating_sub(1)));
            self.next = Some(id.saturating_add(1));
        } else if let Some(i) = self.open.iter().position(|&(a, b)| a <= id && id <= b) {
            scan.unordered = scan.unordered.saturating_add(1);
            let (a, b) = self.open.swap_remove(i);
            if a < id {
                self.open.push((a, id.saturating_sub(1)));
            }
            if id < b {
                self.open.push((id.saturating_add(1), b));
            }
        } else {
            let abandoned = self.recent.iter().find(|r| r.0 >= id).map_or(at, |r| r.1);
            scan.jumps.push(Jump { from: next.saturating_sub(1), to: id, at, abandoned, reach: id });
            self.next = Some(id.saturating_add(1));
            self.open.retain(|&(_, b)| b < id);
        }
    }

    fn finish(mut self, scan: &mut LogScan) {
        self.open.sort_unstable();
        scan.gaps = self.open;
    }
}

/// One line of a log.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The text without newline and carriage return.
    pub text: &'a [u8],
    /// Offset in the file.
    pub at: u64,
    /// Whether a newline follows.
    pub terminated: bool,
}

/// Reads a log line by line, in blocks, without copying lines.
///
/// A line longer than any master writes comes in pieces, of which only the last is terminated.
pub struct LineReader<'b> {
    blob: &'b dyn Blob,
    buf: Vec<u8>,
    /// Where the next line begins.
    at: usize,
    /// Where the current line begins and how long it is.
    line: (usize, usize),
    terminated: bool,
    start: u64,
    done: bool,
}

impl std::fmt::Debug for LineReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineReader").field("blob", &self.blob.name()).field("at", &self.start).finish_non_exhaustive()
    }
}

impl<'b> LineReader<'b> {
    /// From the beginning of a log.
    #[must_use]
    pub fn new(blob: &'b dyn Blob) -> Self {
        Self { blob, buf: Vec::new(), at: 0, line: (0, 0), terminated: false, start: 0, done: false }
    }

    /// The next line; the unterminated rest of the file comes last.
    ///
    /// # Errors
    ///
    /// When the medium fails.
    #[inline]
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>, ReadError> {
        Ok(if self.advance()? { Some(self.line()) } else { None })
    }

    /// Goes to the next line; false behind the last one.
    ///
    /// # Errors
    ///
    /// When the medium fails.
    #[inline]
    pub fn advance(&mut self) -> Result<bool, ReadError> {
        let mut searched = 0usize;
        loop {
            let rest = self.buf.get(self.at..).unwrap_or_default();
            if let Some(n) = memchr::memchr(b'\n', rest.get(searched..).unwrap_or_default()) {
                let end = searched.saturating_add(n);
                self.line = (self.at, end);
                self.terminated = true;
                self.at = self.at.saturating_add(end).saturating_add(1);
                return Ok(true);
            }
            searched = rest.len();
            if self.done {
                self.line = (self.at, searched);
                self.terminated = false;
                self.at = self.at.saturating_add(searched);
                return Ok(searched > 0);
            }
            self.fill()?;
        }
    }

    /// The line [`advance`](Self::advance) went to.
    #[must_use]
    #[inline]
    pub fn line(&self) -> Line<'_> {
        let (from, len) = self.line;
        let text = self.buf.get(from..from.saturating_add(len)).unwrap_or_default();
        let text = if self.terminated { text.strip_suffix(b"\r").unwrap_or(text) } else { text };
        Line { text, at: self.start.saturating_add(from as u64), terminated: self.terminated }
    }

    fn fill(&mut self) -> Result<(), ReadError> {
        self.buf.drain(..self.at.min(self.buf.len()));
        self.start = self.start.saturating_add(self.at as u64);
        self.at = 0;
        let have = self.buf.len();
        let from = self.start.saturating_add(have as u64);
        let left = self.blob.len().saturating_sub(from);
        if left == 0 || have > LONGEST_LINE.saturating_mul(64) {
            self.done = true;
            return Ok(());
        }
        let want = BLOCK.min(usize::try_from(left).unwrap_or(BLOCK));
        self.buf.resize(have.saturating_add(want), 0);
        if let Some(space) = self.buf.get_mut(have..) {
            self.blob.read_exact_at(from, space)?;
        }
        Ok(())
    }
}
