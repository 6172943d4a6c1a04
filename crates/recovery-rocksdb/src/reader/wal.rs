//! Reads a write-ahead log: records, what they write, how the file ends.

use std::collections::BTreeMap;

use recovery_core::{Blob, Context, Error, parallel};

use super::log::{Damage, EndKind, Event, LogWalker, Why};
use crate::format::write_batch::{BatchError, DataKind, Record, WriteBatch};

/// Compression type of compressed WALs.
const ZSTD: u32 = 7;

/// Tag of the mark that begins a prepared section of write-committed transactions.
const WRITE_COMMITTED: u8 = 0x09;

/// What a WAL writes to one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilyUse {
    /// Data records.
    pub entries: u64,
    /// Records whose repetition would change what is read: merges, single deletions, range deletions.
    pub not_repeatable: u64,
    /// First sequence number.
    pub first: u64,
    /// Last sequence number.
    pub last: u64,
}

impl FamilyUse {
    fn add(&mut self, more: &Self) {
        self.entries = self.entries.saturating_add(more.entries);
        self.not_repeatable = self.not_repeatable.saturating_add(more.not_repeatable);
        self.first = self.first.min(more.first);
        self.last = self.last.max(more.last);
    }
}

/// A record whose checksum is right and whose batch is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadBatch {
    /// Offset of the record.
    pub at: u64,
    /// Offset behind it.
    pub end: u64,
    /// What is wrong.
    pub error: BatchError,
}

/// A two-phase commit mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A transaction was prepared.
    Prepared(Prepared),
    /// A transaction was committed or rolled back.
    Resolved {
        /// Transaction id.
        id: Vec<u8>,
        /// Whether it was committed.
        commit: bool,
    },
}

/// One prepared transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Transaction id as the application gave it.
    pub id: Vec<u8>,
    /// WAL it was prepared in.
    pub log: u64,
    /// Offset of the record.
    pub at: u64,
    /// Data records.
    pub entries: u64,
}

/// Everything a pass over one WAL gives.
#[derive(Clone, Debug)]
pub struct WalSummary {
    /// Its number.
    pub number: u64,
    /// Its size.
    pub size: u64,
    /// Good batches.
    pub records: u64,
    /// Data records in them.
    pub entries: u64,
    /// Sequence of the first batch.
    pub first_sequence: Option<u64>,
    /// Last sequence used.
    pub last_sequence: Option<u64>,
    /// By family.
    pub families: BTreeMap<u32, FamilyUse>,
    /// Damage in file order.
    pub damage: Vec<Damage>,
    /// Sequence numbers the damage took, for each element of `damage`: first missing and first present again.
    pub gaps: Vec<Gap>,
    /// Records that are no write batch.
    pub bad_batches: Vec<BadBatch>,
    /// How the file ends.
    pub end: EndKind,
    /// Where.
    pub end_at: u64,
    /// Timestamp sizes.
    pub timestamp_sizes: BTreeMap<u32, u16>,
    /// Two-phase commit marks in order.
    pub marks: Vec<Mark>,
    /// Whether batches take one sequence number each instead of one an entry: write-prepared and write-unprepared
    /// transactions do.
    pub per_batch: bool,
    /// Whether the log is compressed.
    pub compressed: bool,
    /// Whether it is written in recyclable form.
    pub recycles: bool,
    /// What this log says the one before it was: number, size, last sequence.
    pub predecessor: Option<(u64, u64, u64)>,
    /// Records behind the first damage, and their entries: what point-in-time recovery gives up.
    pub after_damage: (u64, u64),
    /// Ranges the medium did not give.
    pub unread: Vec<std::ops::Range<u64>>,
}

/// Sequence numbers around a damaged range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Sequence expected next before the damage, if a record came before.
    pub from: Option<u64>,
    /// Sequence of the first record behind it, if one comes.
    pub to: Option<u64>,
}

impl Gap {
    /// Number of sequence numbers lost, where both ends are known.
    #[must_use]
    pub fn lost(&self) -> Option<u64> {
        self.to?.checked_sub(self.from?)
    }
}

impl WalSummary {
    /// Whether anything in it is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        !self.damage.is_empty() || !self.bad_batches.is_empty() || self.end == EndKind::Damaged
    }

    /// The word for its end used in reports.
    #[must_use]
    pub fn end_word(&self) -> &'static str {
        match self.end {
            _ if self.is_damaged() => "damaged",
            EndKind::Clean | EndKind::ZeroTail => "clean",
            EndKind::Torn => "torn",
            EndKind::Recycled => "recycled",
            EndKind::Damaged => "damaged",
        }
    }

    /// Offset of the first damage.
    #[must_use]
    pub fn first_damage(&self) -> Option<u64> {
        let frame = self.damage.first().map(|d| d.at);
        let batch = self.bad_batches.first().map(|b| b.at);
        match (frame, batch) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// A good batch handed to a visitor.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Offset of its record.
    pub at: u64,
    /// Offset behind it.
    pub end: u64,
    /// The payload.
    pub payload: &'a [u8],
    /// The batch.
    pub batch: WriteBatch<'a>,
    /// Whether damage came before it in this file.
    pub after_damage: bool,
}

struct Scan {
    out: WalSummary,
    next_sequence: Option<u64>,
    batch: Vec<(u32, FamilyUse)>,
}

impl Scan {
    #[inline]
    fn note(&mut self, kind: DataKind, family: u32, sequence: u64) {
        let usage = match self.batch.iter_mut().rev().find(|(id, _)| *id == family) {
            Some((_, usage)) => usage,
            None => {
                self.batch.push((family, FamilyUse { first: sequence, ..FamilyUse::default() }));
                let Some((_, usage)) = self.batch.last_mut() else { return };
                usage
            }
        };
        usage.entries = usage.entries.saturating_add(1);
        usage.not_repeatable = usage.not_repeatable.saturating_add(u64::from(kind.must_not_repeat()));
        usage.last = usage.last.max(sequence);
    }

    /// Reads the whole batch once: counts, families, transaction marks.
    fn batch(&mut self, at: u64, batch: &WriteBatch<'_>) -> Result<(), BatchError> {
        self.batch.clear();
        let marks = self.out.marks.len();
        let result = self.records(at, batch);
        if result.is_err() {
            self.out.marks.truncate(marks);
        }
        result
    }

    fn records(&mut self, at: u64, batch: &WriteBatch<'_>) -> Result<(), BatchError> {
        let (mut found, mut section) = (0u32, None);
        let mut sequence = batch.sequence;
        for record in batch.records() {
            match record? {
                Record::Data { kind, family, .. } => {
                    found = found.saturating_add(1);
                    self.note(kind, family, sequence);
                    sequence = sequence.saturating_add(1);
                }
                Record::BeginPrepare { tag } => {
                    self.out.per_batch |= tag != WRITE_COMMITTED;
                    section = Some(found);
                }
                Record::EndPrepare(id) => {
                    let entries = u64::from(found.saturating_sub(section.take().unwrap_or(0)));
                    let log = self.out.number;
                    self.out.marks.push(Mark::Prepared(Prepared { id: id.to_vec(), log, at, entries }));
                }
                Record::Commit(id) | Record::CommitWithTimestamp { id, .. } => {
                    self.out.marks.push(Mark::Resolved { id: id.to_vec(), commit: true });
                }
                Record::Rollback(id) => self.out.marks.push(Mark::Resolved { id: id.to_vec(), commit: false }),
                Record::LogData(_) | Record::Noop => {}
            }
        }
        if found == batch.count { Ok(()) } else { Err(BatchError::Count { stored: batch.count, found }) }
    }

    fn good(&mut self, batch: &WriteBatch<'_>) {
        let out = &mut self.out;
        for (id, usage) in self.batch.drain(..) {
            match out.families.get_mut(&id) {
                None => {
                    out.families.insert(id, usage);
                }
                Some(sum) => sum.add(&usage),
            }
        }
        out.records = out.records.saturating_add(1);
        out.entries = out.entries.saturating_add(u64::from(batch.count));
        out.first_sequence.get_or_insert(batch.sequence);
        let next = batch.sequence.saturating_add(u64::from(batch.count));
        let last = next.saturating_sub(1).max(batch.sequence);
        out.last_sequence = Some(out.last_sequence.map_or(last, |l| l.max(last)));
        for gap in out.gaps.iter_mut().rev().take_while(|g| g.to.is_none()) {
            gap.to = Some(batch.sequence);
        }
        if out.is_damaged() {
            out.after_damage.0 = out.after_damage.0.saturating_add(1);
            out.after_damage.1 = out.after_damage.1.saturating_add(u64::from(batch.count));
        }
        self.next_sequence = Some(next);
    }

    fn gap(&mut self) {
        let from = self.next_sequence;
        self.out.gaps.push(Gap { from, to: None });
    }
}

/// Reads `blob` as WAL `number`, giving every good batch to `visit`; `limit` bounds one record.
///
/// # Errors
///
/// When the visitor fails; damage is in the summary.
pub fn scan<E>(
    blob: &dyn Blob,
    number: u64,
    limit: usize,
    mut visit: impl FnMut(&Batch<'_>) -> Result<(), E>,
) -> Result<WalSummary, E> {
    let mut walker = LogWalker::new(blob, Some(number), limit);
    let mut scan = Scan { out: empty(number, blob.len()), next_sequence: None, batch: Vec::new() };
    scan.walk(&mut walker, &mut visit)?;
    scan.finish(&walker);
    Ok(scan.out)
}

/// Bytes of log that one thread checks at a time; whole blocks.
const PART: u64 = 128 * crate::format::log_frame::BLOCK as u64;

/// As [`scan`] without a visitor, on all threads of the context: no record crosses a block, so the log is cut at blocks,
/// and records that reach over a cut belong to the part they begin in. From the first thing that is not as it should be
/// the log is read on by one thread.
///
/// # Errors
///
/// When the caller asked to stop; damage is in the summary.
pub fn summarize(blob: &dyn Blob, number: u64, limit: usize, cx: &Context) -> Result<WalSummary, Error> {
    let len = blob.len();
    let check = |_: &Batch<'_>| cx.cancelled();
    if len < PART.saturating_mul(2) || cx.limits.threads < 2 {
        return scan(blob, number, limit, check);
    }
    // The first record says whether the log is compressed or recyclable.
    let mut head = LogWalker::new(blob, Some(number), limit);
    drop(head.next_event());
    let starts: Vec<u64> = (0..len.div_ceil(PART)).map(|n| n.saturating_mul(PART)).collect();
    let parts = parallel::map(cx, &starts, |_, start| {
        let range = *start..start.saturating_add(PART).min(len);
        let mut walker = LogWalker::part(blob, Some(number), limit, range, &head);
        let mut scan = Scan { out: empty(number, len), next_sequence: None, batch: Vec::new() };
        let mut resume = None;
        let walked = scan.walk(&mut walker, &mut |batch: &Batch<'_>| {
            resume = Some(batch.end);
            cx.cancelled()
        });
        walked.map(|()| {
            scan.out.recycles = walker.recycles();
            Part { scan, lead_end: walker.lead_end(), resume: resume.or(walker.lead_end()) }
        })
    })?;
    let mut all = Scan { out: empty(number, len), next_sequence: None, batch: Vec::new() };
    let mut at = 0;
    for (start, part) in starts.iter().zip(parts) {
        let part = part?;
        let joins = part.lead_end.map_or(at <= *start, |end| end == at || (part.scan.out.records == 0 && end <= at));
        let clean =
            !part.scan.out.is_damaged() && part.scan.out.end == EndKind::Clean && part.scan.out.unread.is_empty();
        if !joins || !clean {
            break;
        }
        at = part.resume.unwrap_or(at).max(at);
        all.join(part.scan);
    }
    let mut rest = LogWalker::resume(blob, Some(number), limit, at, &head);
    all.walk(&mut rest, &mut |_| cx.cancelled())?;
    all.finish(&rest);
    Ok(all.out)
}

/// What one thread made of its part.
struct Part {
    scan: Scan,
    lead_end: Option<u64>,
    resume: Option<u64>,
}

impl Scan {
    fn walk<E>(
        &mut self,
        walker: &mut LogWalker<'_>,
        visit: &mut impl FnMut(&Batch<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(event) = walker.next_event() {
            match event {
                Event::Record { at, end, data } => {
                    let after_damage = self.out.is_damaged();
                    let read = WriteBatch::parse(data).and_then(|b| self.batch(at, &b).map(|()| b));
                    match read {
                        Ok(batch) => {
                            self.good(&batch);
                            visit(&Batch { at, end, payload: data, batch, after_damage })?;
                        }
                        Err(error) => {
                            self.gap();
                            self.out.bad_batches.push(BadBatch { at, end, error });
                        }
                    }
                }
                Event::Damage(damage) => {
                    self.gap();
                    self.out.damage.push(damage);
                }
                Event::Compression { at, kind } => {
                    self.out.compressed = true;
                    if kind != ZSTD {
                        // Every record behind it fails to decompress and is reported; this says why.
                        self.gap();
                        self.out.damage.push(Damage { at, end: at.saturating_add(11), why: Why::Compression });
                    }
                }
                Event::TimestampSizes(sizes) => self.out.timestamp_sizes.extend(sizes),
                Event::Predecessor { number, size, last_sequence } => {
                    self.out.predecessor = Some((number, size, last_sequence));
                }
                Event::Ignored { .. } => {}
                Event::End { at, kind } => (self.out.end_at, self.out.end) = (at, kind),
            }
        }
        Ok(())
    }

    fn finish(&mut self, walker: &LogWalker<'_>) {
        self.out.recycles |= walker.recycles();
        self.out.unread = walker.unread().to_vec();
    }

    /// Appends what a later part of the same log gave; both are without damage.
    fn join(&mut self, later: Self) {
        let (out, more) = (&mut self.out, later.out);
        out.records = out.records.saturating_add(more.records);
        out.entries = out.entries.saturating_add(more.entries);
        out.first_sequence = out.first_sequence.or(more.first_sequence);
        out.last_sequence = out.last_sequence.max(more.last_sequence);
        for (id, usage) in more.families {
            out.families.entry(id).and_modify(|sum| sum.add(&usage)).or_insert(usage);
        }
        out.timestamp_sizes.extend(more.timestamp_sizes);
        out.marks.extend(more.marks);
        out.per_batch |= more.per_batch;
        out.compressed |= more.compressed;
        out.recycles |= more.recycles;
        out.predecessor = more.predecessor.or(out.predecessor);
        self.next_sequence = later.next_sequence.or(self.next_sequence);
    }
}

fn empty(number: u64, size: u64) -> WalSummary {
    WalSummary {
        number,
        size,
        records: 0,
        entries: 0,
        first_sequence: None,
        last_sequence: None,
        families: BTreeMap::new(),
        damage: Vec::new(),
        gaps: Vec::new(),
        bad_batches: Vec::new(),
        end: EndKind::Clean,
        end_at: 0,
        timestamp_sizes: BTreeMap::new(),
        marks: Vec::new(),
        per_batch: false,
        compressed: false,
        recycles: false,
        predecessor: None,
        after_damage: (0, 0),
        unread: Vec::new(),
    }
}
