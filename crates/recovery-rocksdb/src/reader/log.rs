//! Walks a log file (WAL or MANIFEST), assembles logical records, and finds the next good record after damage.
//!
//! The file is read once, in windows of a few blocks; memory does not depend on its length. After a bad physical
//! record the walk first trusts the record's own length, then tries every following byte of the block, then the next
//! block. Upstream drops the rest of the block instead, up to 32 KiB of good records for one bad byte.

use std::ops::Range;

use bytes::Bytes;
use recovery_core::{Blob, ReadError};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use crate::format::log_frame::{self, BLOCK, HEADER, Part, Physical, RecordType, Reject};

/// Blocks read at once.
const WINDOW: u64 = 32 * BLOCK as u64;
const BLOCK_U64: u64 = BLOCK as u64;

/// Why bytes of a log hold no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A checksum does not fit.
    Checksum {
        /// As stored.
        stored: u32,
        /// As computed.
        computed: u32,
    },
    /// A length reaches past the block.
    Length {
        /// Length in the header.
        length: u16,
        /// Bytes there are.
        room: usize,
    },
    /// An unknown type byte.
    Type(u8),
    /// Zero bytes before the end of the log.
    Zeros,
    /// The beginning of a logical record without its end.
    Unfinished,
    /// The end of a logical record without its beginning.
    Headless,
    /// The compressed stream cannot be decoded.
    Compression,
    /// A logical record above the limit.
    TooLong,
    /// The medium did not give the bytes.
    Unread,
    /// Bytes behind the last record that are neither zero nor records.
    TailGarbage,
    /// The header of the last record is damaged; its payload is whole.
    Header,
    /// A record of another log in a file that does not recycle logs.
    LogNumber,
}

impl Why {
    /// A phrase for messages.
    #[must_use]
    pub fn phrase(&self) -> String {
        match self {
            Self::Checksum { stored, computed } => {
                format!("record checksum is {stored:#010x}, its bytes give {computed:#010x}")
            }
            Self::Length { length, room } => format!("record length is {length}, the block has room for {room}"),
            Self::Type(byte) => format!("record type {byte} is unknown"),
            Self::Zeros => "zero bytes where a record was expected".to_owned(),
            Self::Unfinished => "the record's last part is missing".to_owned(),
            Self::Headless => "the record's first part is missing".to_owned(),
            Self::Compression => "the compressed stream cannot be decoded".to_owned(),
            Self::TooLong => "the record is longer than the limit".to_owned(),
            Self::Unread => "the medium did not give the bytes".to_owned(),
            Self::TailGarbage => "bytes behind the last record are neither zero nor records".to_owned(),
            Self::Header => "the record's header is damaged".to_owned(),
            Self::LogNumber => "the record names another log".to_owned(),
        }
    }
}

/// A run of bytes that hold no complete logical record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// First byte.
    pub at: u64,
    /// Byte behind the last one.
    pub end: u64,
    /// What was found first.
    pub why: Why,
}

/// How a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndKind {
    /// With its last record.
    Clean,
    /// With zero bytes to the end of the file: preallocated space.
    ZeroTail,
    /// Inside a record: the end of the file came first.
    Torn,
    /// With records of the log whose file was recycled.
    Recycled,
    /// With damage after which nothing readable comes.
    Damaged,
}

/// One step of a walk.
#[derive(Debug)]
pub enum Event<'a> {
    /// A complete logical record.
    Record {
        /// Offset of its first physical record.
        at: u64,
        /// Offset behind its last physical record.
        end: u64,
        /// Its payload, decompressed.
        data: &'a [u8],
    },
    /// The log is compressed from here on.
    Compression {
        /// Offset.
        at: u64,
        /// Compression type; 7 is ZSTD, the only one supported.
        kind: u32,
    },
    /// Timestamp sizes by family.
    TimestampSizes(Vec<(u32, u16)>),
    /// What the log before this one was when this one was created.
    Predecessor {
        /// Its file number.
        number: u64,
        /// Its size.
        size: u64,
        /// Its last sequence number.
        last_sequence: u64,
    },
    /// A physical record whose type asks unknowing readers to skip it.
    Ignored {
        /// Offset.
        at: u64,
        /// Type byte.
        kind: u8,
    },
    /// Damage; the walk goes on behind it.
    Damage(Damage),
    /// The end; there are no more events.
    End {
        /// Offset of the first byte that belongs to no record.
        at: u64,
        /// How.
        kind: EndKind,
    },
}

enum Next {
    Physical { at: u64, kind: RecordType, payload: Range<usize>, end: u64 },
    Bad { at: u64, end: u64, why: Why },
    End { at: u64, kind: EndKind },
}

struct Pending {
    at: u64,
    end: u64,
    why: Why,
}

/// Lending iterator over a log file.
pub struct LogWalker<'b> {
    blob: &'b dyn Blob,
    len: u64,
    number: Option<u32>,
    limit: usize,
    window: Bytes,
    window_at: u64,
    at: u64,
    recycles: bool,
    any: bool,
    compressed: bool,
    partial: Option<u64>,
    partial_end: u64,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    decoder: Option<Decoder<'static>>,
    pending: Option<Pending>,
    queued: Option<Next>,
    skip_orphans: bool,
    done: bool,
    unread: Vec<Range<u64>>,
    /// Set on walks over a part of a log: where that ends. Such a walk ends at the first thing that is not as it should
    /// be, since what to make of it depends on what comes before and behind.
    stop: Option<u64>,
    /// The walk began inside a logical record perhaps, and has met none of its own yet.
    lead: bool,
    /// Offset behind the last part of a record that began before the walk.
    lead_end: Option<u64>,
}

impl std::fmt::Debug for LogWalker<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWalker").field("at", &self.at).field("len", &self.len).finish_non_exhaustive()
    }
}

impl<'b> LogWalker<'b> {
    /// A walk over `blob`; `number` is the log's file number for WALs, `limit` bounds one logical record.
    #[must_use]
    pub fn new(blob: &'b dyn Blob, number: Option<u64>, limit: usize) -> Self {
        Self {
            blob,
            len: blob.len(),
            // The field keeps the low half of the number; upstream compares just that.
            number: number.map(|n| u32::try_from(n & u64::from(u32::MAX)).unwrap_or(0)),
            limit,
            window: Bytes::new(),
            window_at: 0,
            at: 0,
            recycles: false,
            any: false,
            compressed: false,
            partial: None,
            partial_end: 0,
            buffer: Vec::new(),
            scratch: Vec::new(),
            decoder: None,
            pending: None,
            queued: None,
            skip_orphans: false,
            done: false,
            unread: Vec::new(),
            stop: None,
            lead: false,
            lead_end: None,
        }
    }

    /// A walk over the records that begin in `range`, whose start is the start of a block. A record's last part may lie
    /// behind it; parts of a record that began before are passed over. Anything wrong ends the walk with
    /// [`EndKind::Damaged`].
    pub(crate) fn part(blob: &'b dyn Blob, number: Option<u64>, limit: usize, range: Range<u64>, as_in: &Self) -> Self {
        let mut walker = Self::resume(blob, number, limit, range.start, as_in);
        walker.stop = Some(range.end);
        walker.lead = range.start > 0;
        walker
    }

    /// A walk that goes on at the boundary `at` between two records, in a log whose beginning `as_in` has walked.
    pub(crate) fn resume(blob: &'b dyn Blob, number: Option<u64>, limit: usize, at: u64, as_in: &Self) -> Self {
        Self {
            at,
            any: as_in.any && at > 0,
            recycles: as_in.recycles && at > 0,
            compressed: as_in.compressed && at > 0,
            decoder: if as_in.compressed && at > 0 { Decoder::new().ok() } else { None },
            ..Self::new(blob, number, limit)
        }
    }

    /// Offset behind the last part of a record that began before this walk.
    pub(crate) const fn lead_end(&self) -> Option<u64> {
        self.lead_end
    }

    /// Ends a walk over a part.
    fn give_up(&mut self, at: u64, kind: EndKind) -> Next {
        self.at = self.len;
        Next::End { at, kind }
    }

    /// Whether the log was written in recyclable form.
    #[must_use]
    pub const fn recycles(&self) -> bool {
        self.recycles
    }

    /// Ranges the medium did not give.
    #[must_use]
    pub fn unread(&self) -> &[Range<u64>] {
        &self.unread
    }

    /// Makes the window hold the block at `at`; an unreadable block becomes zeros and is noted.
    fn load(&mut self, at: u64) -> Range<usize> {
        let block_at = at / BLOCK_U64 * BLOCK_U64;
        let block_end = block_at.saturating_add(BLOCK_U64).min(self.len);
        let window_end = self.window_at.saturating_add(self.window.len() as u64);
        if at < self.window_at || block_end > window_end || self.window.is_empty() {
            self.window_at = block_at;
            let end = block_at.saturating_add(WINDOW).min(self.len);
            self.window = match self.blob.bytes(block_at..end) {
                Ok(bytes) => bytes,
                Err(_) => self.load_in_blocks(block_at, end),
            };
        }
        let rel = |p: u64| usize::try_from(p.saturating_sub(self.window_at)).unwrap_or(usize::MAX);
        rel(at)..rel(block_end)
    }

    fn load_in_blocks(&mut self, from: u64, to: u64) -> Bytes {
        const PIECE: u64 = 4096;
        let mut out = Vec::new();
        let mut at = from;
        while at < to {
            let end = at.saturating_add(PIECE).min(to);
            match self.blob.bytes(at..end) {
                Ok(bytes) => out.extend_from_slice(&bytes),
                Err(ReadError { .. }) => {
                    let gap = usize::try_from(end - at).unwrap_or(0);
                    out.resize(out.len().saturating_add(gap), 0);
                    match self.unread.last_mut() {
                        Some(last) if last.end == at => last.end = end,
                        _ => self.unread.push(at..end),
                    }
                }
            }
            at = end;
        }
        Bytes::from(out)
    }

    fn slice(&self, range: Range<usize>) -> &[u8] {
        self.window.get(range).unwrap_or_default()
    }

    fn is_unread(&self, at: u64, end: u64) -> bool {
        self.unread.iter().any(|r| r.start < end && at < r.end)
    }

    /// Whether a decoded record belongs to this log.
    fn ours(&self, record: &Physical<'_>) -> bool {
        match (record.log_number, self.number) {
            (Some(stored), Some(ours)) => stored == ours,
            _ => true,
        }
    }

    /// The next physical record, bad range, or end.
    fn physical(&mut self) -> Next {
        loop {
            if self.at >= self.len {
                return Next::End { at: self.len, kind: EndKind::Clean };
            }
            if self.stop.is_some_and(|stop| self.at >= stop) && self.partial.is_none() {
                return self.give_up(self.at, EndKind::Clean);
            }
            let range = self.load(self.at);
            let start = range.start;
            let at = self.at;
            let decoded = log_frame::decode(self.slice(range.clone()))
                .map(|r| (self.ours(&r), r.log_number.is_some(), r.kind, r.size, r.payload.len()));
            if let Ok((true, recyclable, kind, size, length)) = decoded {
                self.recycles |= recyclable;
                self.any = true;
                let end = at.saturating_add(size as u64);
                self.at = end;
                let payload_start = start.saturating_add(size.saturating_sub(length));
                return Next::Physical { at, kind, payload: payload_start..payload_start.saturating_add(length), end };
            }
            let last_block = self.window_at.saturating_add(range.end as u64) >= self.len;
            let window = self.window.clone();
            let bytes = window.get(range).unwrap_or_default();
            let block_end = at.saturating_add(bytes.len() as u64);
            if let Some(stop) = self.stop {
                match log_frame::decode(bytes) {
                    Err(Reject::NoHeader) if bytes.iter().all(|b| *b == 0) => {
                        self.at = block_end;
                        continue;
                    }
                    Err(Reject::Zero) if self.partial.is_none() && self.is_zero(at, stop) => {
                        return self.give_up(at, EndKind::ZeroTail);
                    }
                    _ => return self.give_up(at, EndKind::Damaged),
                }
            }
            match log_frame::decode(bytes) {
                Ok(record) => {
                    if !self.ours(&record) {
                        if !self.any || self.recycles {
                            return self.recycled_or_bad(at, Why::LogNumber);
                        }
                        return self.bad(at, Why::LogNumber);
                    }
                    self.recycles |= record.log_number.is_some();
                    self.any = true;
                    let end = at.saturating_add(record.size as u64);
                    self.at = end;
                    let payload_start = start.saturating_add(record.size.saturating_sub(record.payload.len()));
                    let payload = payload_start..payload_start.saturating_add(record.payload.len());
                    return Next::Physical { at, kind: record.kind, payload, end };
                }
                Err(Reject::NoHeader) if !last_block || bytes.iter().all(|b| *b == 0) => {
                    self.at = block_end;
                }
                Err(Reject::NoHeader) => return self.tail(at, bytes),
                Err(Reject::Zero) if bytes.iter().all(|b| *b == 0) && self.zeros_to_end(block_end) => {
                    let unread = self.is_unread(at, self.len);
                    if unread {
                        let why = Why::Unread;
                        self.at = self.len;
                        return Next::Bad { at, end: self.len, why };
                    }
                    self.at = self.len;
                    return Next::End { at, kind: EndKind::ZeroTail };
                }
                Err(Reject::Length { .. }) if last_block => return self.tail(at, bytes),
                Err(reject) => {
                    let why = match reject {
                        Reject::Zero | Reject::NoHeader => Why::Zeros,
                        Reject::Type(t) => Why::Type(t),
                        Reject::Length { length, room } => Why::Length { length, room },
                        Reject::Checksum { stored, computed } => Why::Checksum { stored, computed },
                    };
                    let ours_damaged = log_frame::stored_log_number(bytes) == self.number
                        || log_frame::is_record_with_wrong_header(bytes, self.number);
                    if self.recycles && !ours_damaged {
                        return self.recycled_or_bad(at, why);
                    }
                    return self.bad(at, why);
                }
            }
        }
    }

    /// A record reaches past the end of the file: torn, unless its header is what is damaged.
    fn tail(&mut self, at: u64, bytes: &[u8]) -> Next {
        if self.is_unread(at, self.len) {
            return self.bad(at, Why::Unread);
        }
        let number = if self.recycles { self.number } else { None };
        if log_frame::is_record_with_wrong_header(bytes, number) {
            return self.bad(at, Why::Header);
        }
        match self.find_record(at.saturating_add(1), at) {
            Some(found) => {
                self.at = found;
                Next::Bad { at, end: found, why: Why::Length { length: 0, room: bytes.len() } }
            }
            // A record that was being written when the power went has the header of a type that some writer makes.
            None if bytes.get(6).is_some_and(|kind| !RecordType::from_byte(*kind).is_some_and(is_written)) => {
                self.at = self.len;
                Next::Bad { at, end: self.len, why: Why::TailGarbage }
            }
            None => {
                self.at = self.len;
                Next::End { at, kind: EndKind::Torn }
            }
        }
    }

    fn zeros_to_end(&mut self, at: u64) -> bool {
        self.is_zero(at, self.len)
    }

    fn is_zero(&mut self, mut at: u64, end: u64) -> bool {
        while at < end.min(self.len) {
            let range = self.load(at);
            let size = range.len() as u64;
            if size == 0 || self.slice(range).iter().any(|b| *b != 0) {
                return false;
            }
            at = at.saturating_add(size);
        }
        true
    }

    /// In a recycled file: the old log's bytes begin here, unless a record of ours still comes.
    fn recycled_or_bad(&mut self, at: u64, why: Why) -> Next {
        match self.find_record(at.saturating_add(1), at) {
            Some(found) => {
                self.at = found;
                Next::Bad { at, end: found, why }
            }
            None => {
                self.at = self.len;
                Next::End { at, kind: EndKind::Recycled }
            }
        }
    }

    fn bad(&mut self, at: u64, why: Why) -> Next {
        let why = if self.is_unread(at, at.saturating_add(HEADER as u64)) { Why::Unread } else { why };
        let end = self.find_record(at.saturating_add(1), at).unwrap_or(self.len);
        self.at = end;
        Next::Bad { at, end, why }
    }

    /// Whether bytes that begin like this are worth a checksum when looking for the next record. Types that readers
    /// skip are left out: they would make every second byte of random data a candidate.
    fn candidate(&self, bytes: &[u8]) -> bool {
        let Some(kind) = bytes.get(6) else { return false };
        match kind {
            1..=4 => !self.recycles,
            5..=8 => (self.recycles || !self.any) && log_frame::stored_log_number(bytes) == self.number,
            _ => false,
        }
    }

    /// Offset of the first good physical record at or behind `from`; the record at `bad_at` is asked first where it
    /// believes it ends, so that a log kept inside a value is not taken for the log.
    fn find_record(&mut self, from: u64, bad_at: u64) -> Option<u64> {
        if from > bad_at {
            let range = self.load(bad_at);
            let bytes = self.slice(range);
            if let Some(&[e, f, kind]) = bytes.get(4..7).and_then(|s| s.first_chunk::<3>()) {
                let recyclable = RecordType::from_byte(kind).is_some_and(|(_, r)| r);
                let head = if recyclable { log_frame::RECYCLABLE_HEADER } else { HEADER };
                let size = head.saturating_add(usize::from(u16::from_le_bytes([e, f])));
                let rest = bytes.get(size..).unwrap_or_default();
                if size < bytes.len() && self.candidate(rest) && log_frame::decode(rest).is_ok() {
                    return Some(bad_at.saturating_add(size as u64));
                }
            }
        }
        let mut at = from;
        while at < self.len {
            let range = self.load(at);
            let bytes = self.slice(range);
            let mut i = 0usize;
            while let Some(rest) = bytes.get(i..).filter(|r| r.len() >= HEADER) {
                if self.candidate(rest) && log_frame::decode(rest).is_ok() {
                    return Some(at.saturating_add(i as u64));
                }
                i += 1;
            }
            let next = at.saturating_add(bytes.len() as u64);
            if next <= at {
                return None;
            }
            at = next;
        }
        None
    }

    fn damaged(&mut self, at: u64, end: u64, why: Why) {
        match &mut self.pending {
            Some(p) => p.end = p.end.max(end),
            None => self.pending = Some(Pending { at, end, why }),
        }
    }

    fn drop_partial(&mut self, why: Why) {
        if let Some(start) = self.partial.take() {
            let end = self.partial_end;
            self.damaged(start, end, why);
        }
        self.buffer.clear();
    }

    /// Takes the pending damage out as an event.
    fn flush(&mut self) -> Option<Event<'static>> {
        let p = self.pending.take()?;
        Some(Event::Damage(Damage { at: p.at, end: p.end, why: p.why }))
    }

    /// The next event; `None` after [`Event::End`].
    pub fn next_event(&mut self) -> Option<Event<'_>> {
        if self.done {
            return None;
        }
        loop {
            let next = match self.queued.take() {
                Some(next) => next,
                None => self.physical(),
            };
            match next {
                Next::Bad { at, end, why } => {
                    let (at, why) = match self.partial.take() {
                        Some(start) => (start, why),
                        None => (at, why),
                    };
                    self.buffer.clear();
                    self.skip_orphans = true;
                    self.damaged(at, end, why);
                }
                Next::End { at, kind } => return Some(self.end(at, kind)),
                Next::Physical { at, kind: RecordType::Data(part), payload, end } => {
                    let starts = matches!(part, Part::Full | Part::First);
                    if starts && self.partial.is_some() {
                        self.drop_partial(Why::Unfinished);
                    }
                    if starts && self.pending.is_some() {
                        self.queued = Some(Next::Physical { at, kind: RecordType::Data(part), payload, end });
                        self.skip_orphans = false;
                        return self.flush();
                    }
                    if let Some(range) = self.data(at, part, payload, end) {
                        return Some(self.record(range));
                    }
                }
                Next::Physical { at, kind, payload, end } => {
                    if self.pending.is_some() {
                        self.queued = Some(Next::Physical { at, kind, payload, end });
                        return self.flush();
                    }
                    if let Some(event) = self.special(at, kind, payload) {
                        return Some(event);
                    }
                }
            }
        }
    }

    fn end(&mut self, at: u64, kind: EndKind) -> Event<'static> {
        if let Some(start) = self.partial.take() {
            self.buffer.clear();
            if self.pending.is_none() && matches!(kind, EndKind::Clean | EndKind::Torn | EndKind::ZeroTail) {
                self.done = true;
                return Event::End { at: start, kind: EndKind::Torn };
            }
            self.damaged(start, at, Why::Unfinished);
        }
        if self.pending.is_some() {
            let damaged_to_end = self.pending.as_ref().is_some_and(|p| p.end >= at);
            let kind = if damaged_to_end && matches!(kind, EndKind::Clean) { EndKind::Damaged } else { kind };
            self.queued = Some(Next::End { at, kind });
            if let Some(event) = self.flush() {
                return event;
            }
        }
        self.done = true;
        Event::End { at, kind }
    }

    /// Handles one data part; returns the place of a complete record.
    fn data(
        &mut self,
        at: u64,
        part: Part,
        payload: Range<usize>,
        end: u64,
    ) -> Option<(u64, u64, Option<Range<usize>>)> {
        match part {
            Part::Full | Part::First => {
                self.skip_orphans = false;
                self.lead = false;
                if part == Part::Full && !self.compressed {
                    return Some((at, end, Some(payload)));
                }
                self.buffer.clear();
                self.partial = Some(at);
                if let Some(decoder) = &mut self.decoder
                    && decoder.reinit().is_err()
                {
                    self.partial = None;
                    self.damaged(at, end, Why::Compression);
                    return None;
                }
            }
            Part::Middle | Part::Last if self.partial.is_none() && self.lead => {
                self.lead_end = Some(end);
                return None;
            }
            Part::Middle | Part::Last if self.partial.is_none() => {
                self.damaged(at, end, Why::Headless);
                return None;
            }
            Part::Middle | Part::Last => {}
        }
        self.partial_end = end;
        if let Err(why) = self.append(payload) {
            let start = self.partial.take().unwrap_or(at);
            self.buffer.clear();
            self.damaged(start, end, why);
            return None;
        }
        if matches!(part, Part::Full | Part::Last) {
            let start = self.partial.take().unwrap_or(at);
            return Some((start, end, None));
        }
        None
    }

    fn append(&mut self, payload: Range<usize>) -> Result<(), Why> {
        let bytes = self.window.get(payload).unwrap_or_default();
        match &mut self.decoder {
            Some(decoder) if self.compressed => {
                inflate(decoder, bytes, &mut self.buffer, &mut self.scratch, self.limit)
            }
            _ => {
                if self.buffer.len().saturating_add(bytes.len()) > self.limit {
                    return Err(Why::TooLong);
                }
                self.buffer.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn record(&self, (at, end, range): (u64, u64, Option<Range<usize>>)) -> Event<'_> {
        let data = match range {
            Some(range) => self.slice(range),
            None => &self.buffer,
        };
        Event::Record { at, end, data }
    }

    fn special(&mut self, at: u64, kind: RecordType, payload: Range<usize>) -> Option<Event<'static>> {
        let bytes = self.window.get(payload).unwrap_or_default();
        let mut c = recovery_core::Cursor::new(bytes, at);
        match kind {
            RecordType::SetCompression => {
                let kind = c.u32_le("compression type").ok()?;
                self.compressed = true;
                self.decoder = Decoder::new().ok();
                Some(Event::Compression { at, kind })
            }
            RecordType::TimestampSizes => {
                let mut sizes = Vec::with_capacity(bytes.len() / 6);
                while let (Ok(family), Ok(size)) = (c.u32_le("family"), c.u16_le("timestamp size")) {
                    sizes.push((family, size));
                }
                Some(Event::TimestampSizes(sizes))
            }
            RecordType::Predecessor => {
                let number = c.u64_le("predecessor number").ok()?;
                let size = c.u64_le("predecessor size").ok()?;
                let last_sequence = c.u64_le("predecessor sequence").ok()?;
                Some(Event::Predecessor { number, size, last_sequence })
            }
            RecordType::Ignorable(kind) => Some(Event::Ignored { at, kind }),
            RecordType::Data(_) => None,
        }
    }
}

/// Appends what `bytes` decompress to; the stream's state lives on to the next piece of the same logical record.
fn inflate(
    decoder: &mut Decoder<'static>,
    bytes: &[u8],
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
    limit: usize,
) -> Result<(), Why> {
    scratch.resize(128 * 1024, 0);
    let mut input = InBuffer::around(bytes);
    loop {
        let before = input.pos();
        let mut output = OutBuffer::around(scratch.as_mut_slice());
        decoder.run(&mut input, &mut output).map_err(|_| Why::Compression)?;
        let produced = output.as_slice();
        if out.len().saturating_add(produced.len()) > limit {
            return Err(Why::TooLong);
        }
        let full = produced.len() == 128 * 1024;
        let idle = produced.is_empty() && input.pos() == before;
        out.extend_from_slice(produced);
        if (input.pos() >= bytes.len() && !full) || idle {
            return Ok(());
        }
    }
}
/// Whether any known writer makes records of this type.
fn is_written((kind, _): (RecordType, bool)) -> bool {
    !matches!(kind, RecordType::Ignorable(_))
}
