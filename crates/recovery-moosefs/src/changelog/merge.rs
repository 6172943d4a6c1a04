//! Several logs as one sequence of changes.
//!
//! Lines are taken in the order of their ids, from whichever file has them. Duplicates are compared as texts; two
//! different texts for one id are a branch. What is no line is passed over, lines in the wrong order are put right.

use std::collections::BTreeMap;

use recovery_core::{Blob, ReadError};
use xxhash_rust::xxh3::xxh3_64;

use super::LineError;
use super::file::{Line, LineReader};
use super::line::{body, line_id};
use super::op::Op;
use crate::model::names::NameHasher;

/// Lines of a batch.
const BATCH: usize = 1 << 14;
/// Bytes of a batch.
const BATCH_BYTES: usize = 1 << 21;
/// How many lines ahead a missing one is looked for.
const AHEAD: usize = 1 << 13;
/// How many applied lines are remembered for comparison.
const MEMORY: usize = 1 << 16;

/// A log to merge.
pub struct Input<'b> {
    /// The bytes.
    pub blob: &'b dyn Blob,
    /// Ranges of the file that are not used: lines that were overtaken when the ids went back.
    pub skip: &'b [(u64, u64)],
    /// Whether an unterminated last line counts.
    pub use_rest: bool,
}

impl std::fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("blob", &self.blob.name()).field("use_rest", &self.use_rest).finish()
    }
}

/// One change in a [`Batch`].
#[derive(Debug)]
pub struct Entry {
    start: usize,
    end: usize,
    /// Identifier.
    pub id: u64,
    /// Time.
    pub time: u32,
    /// Which input it came from.
    pub input: usize,
    /// Offset in that file.
    pub at: u64,
    /// Whether the line ends with a newline.
    pub terminated: bool,
    /// Hash of the directory and the first name, where the merger hashes names and the name is not escaped.
    pub(crate) hash: Option<u32>,
    /// What is done, or why the line cannot be read.
    pub op: Result<Op, LineError>,
}

/// Some changes, with their text.
#[derive(Debug, Default)]
pub struct Batch {
    text: Vec<u8>,
    /// The changes in order.
    pub entries: Vec<Entry>,
}

impl Batch {
    /// The line of an entry.
    #[must_use]
    #[inline]
    pub fn line(&self, e: &Entry) -> &[u8] {
        self.text.get(e.start..e.end).unwrap_or_default()
    }

    fn has_room(&self) -> bool {
        self.entries.len() < BATCH && self.text.len() < BATCH_BYTES
    }

    fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
    }
}

/// Why the sequence ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// No file has more.
    Done,
    /// The ids from the first to the second are nowhere; later ones are there.
    Gap(u64, u64),
    /// Two different lines have this id.
    Branch(u64),
}

#[derive(Debug)]
struct Held {
    text: Vec<u8>,
    at: u64,
    terminated: bool,
}

struct Source<'b> {
    reader: LineReader<'b>,
    input: Input<'b>,
    /// Id of the line the reader stands at.
    head: Option<u64>,
    /// Length of the `<id>: ` of that line.
    prefix: usize,
    /// Lines read ahead, by id.
    ahead: BTreeMap<u64, Held>,
}

impl Source<'_> {
    /// Goes to the next line that counts.
    fn advance(&mut self, number: usize, garbage: &mut Vec<(usize, u64, u64)>) -> Result<(), ReadError> {
        self.head = None;
        while self.reader.advance()? {
            let line = self.reader.line();
            let Some((id, prefix)) = line_id(line.text) else {
                note_garbage(garbage, number, &line);
                continue;
            };
            let counts = line.terminated || self.input.use_rest;
            if counts && !self.input.skip.iter().any(|&(a, b)| a <= line.at && line.at < b) {
                (self.head, self.prefix) = (Some(id), prefix);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Puts the line at which the reader stands aside; its id if another text was there.
    fn hold(&mut self) -> Option<u64> {
        let id = self.head?;
        let line = self.reader.line();
        let whole = line.terminated;
        let held = Held { text: line.text.to_vec(), at: line.at, terminated: whole };
        let other = self.ahead.insert(id, held)?;
        (other.terminated && whole && self.ahead.get(&id).is_some_and(|h| h.text != other.text)).then_some(id)
    }
}

/// Puts several logs into one sequence.
///
/// Lines that stand in order are taken from the readers as they are. Only where no reader stands at the next id are
/// lines read ahead and kept, in the hope that it comes behind them.
pub struct Merger<'b> {
    sources: Vec<Source<'b>>,
    started: bool,
    first: u64,
    next: u64,
    hashes: Vec<(u64, u64)>,
    end: Option<End>,
    /// Lines that are no lines: input, offset, length.
    pub garbage: Vec<(usize, u64, u64)>,
    until: u64,
    hasher: Option<NameHasher>,
}

impl std::fmt::Debug for Merger<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merger").field("next", &self.next).field("end", &self.end).finish_non_exhaustive()
    }
}

impl<'b> Merger<'b> {
    /// Merges `inputs` from the change `first` on, up to and including `until`.
    #[must_use]
    pub fn new(inputs: Vec<Input<'b>>, first: u64, until: u64) -> Self {
        let source = |input: Input<'b>| {
            let reader = LineReader::new(input.blob);
            Source { reader, input, head: None, prefix: 0, ahead: BTreeMap::new() }
        };
        Self {
            sources: inputs.into_iter().map(source).collect(),
            started: false,
            first,
            next: first,
            hashes: vec![(u64::MAX, 0); MEMORY],
            end: None,
            garbage: Vec::new(),
            until,
            hasher: None,
        }
    }

    /// Also hashes the names that are looked up, so that the thread that applies changes need not.
    pub(crate) const fn hash_names(&mut self, hasher: NameHasher) {
        self.hasher = Some(hasher);
    }

    /// Why the sequence ended; `None` while it goes on.
    #[must_use]
    pub const fn ended(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Goes on behind missing changes.
    pub(crate) fn resume(&mut self, next: u64) {
        self.next = self.next.max(next);
        self.end = None;
    }

    /// Fills a batch; false when the sequence is at its end.
    ///
    /// # Errors
    ///
    /// When the medium fails.
    pub fn fill(&mut self, batch: &mut Batch) -> Result<bool, ReadError> {
        batch.clear();
        if !self.started {
            self.started = true;
            for (i, s) in self.sources.iter_mut().enumerate() {
                s.advance(i, &mut self.garbage)?;
            }
        }
        while self.end.is_none() && batch.has_room() {
            if self.next > self.until {
                self.end = Some(End::Done);
            } else if !self.run(batch)? && !self.pass_old()? && !self.take(batch)? {
                self.search()?;
            }
        }
        Ok(!batch.entries.is_empty())
    }

    /// Takes lines from one file while no other has lines of the same ids; false if there are none.
    fn run(&mut self, batch: &mut Batch) -> Result<bool, ReadError> {
        let mut at_next = self.sources.iter().enumerate().filter(|(_, s)| s.head == Some(self.next));
        let (Some((i, _)), None) = (at_next.next(), at_next.next()) else { return Ok(false) };
        let others = self.sources.iter().enumerate().filter(|(j, _)| *j != i).filter_map(|(_, s)| s.head);
        let held = self.sources.iter().filter_map(|s| s.ahead.first_key_value().map(|e| *e.0));
        let barrier = others.chain(held).min().unwrap_or(u64::MAX).min(self.until.saturating_add(1));
        let Some(source) = self.sources.get_mut(i) else { return Ok(false) };
        let before = self.next;
        while source.head == Some(self.next) && self.next < barrier && batch.has_room() {
            let line = source.reader.line();
            push(batch, self.hasher, i, self.next, source.prefix, line.text, line.at, line.terminated);
            remember(&mut self.hashes, self.next, line.text);
            self.next = self.next.saturating_add(1);
            source.advance(i, &mut self.garbage)?;
        }
        Ok(self.next > before)
    }

    /// Compares lines that were taken already with what was taken, and passes them; false if there are none.
    fn pass_old(&mut self) -> Result<bool, ReadError> {
        let (first, next) = (self.first, self.next);
        let mut any = false;
        for (i, s) in self.sources.iter_mut().enumerate() {
            while let Some(id) = s.head.filter(|&id| id < next) {
                let line = s.reader.line();
                if id >= first && line.terminated && differs(&self.hashes, id, line.text) {
                    self.end = Some(End::Branch(id));
                    return Ok(true);
                }
                any = true;
                s.advance(i, &mut self.garbage)?;
            }
            while let Some(entry) = s.ahead.first_entry().filter(|e| *e.key() < next) {
                let (id, held) = entry.remove_entry();
                if id >= first && held.terminated && differs(&self.hashes, id, &held.text) {
                    self.end = Some(End::Branch(id));
                    return Ok(true);
                }
                any = true;
            }
        }
        Ok(any)
    }

    /// Takes the next line from the files that have it; false if none stands at it or holds it.
    fn take(&mut self, batch: &mut Batch) -> Result<bool, ReadError> {
        let mut best: Option<(usize, Held)> = None;
        for (i, source) in self.sources.iter_mut().enumerate() {
            loop {
                let held = match source.ahead.remove(&self.next) {
                    Some(held) => held,
                    None if source.head == Some(self.next) => {
                        let line = source.reader.line();
                        let held = Held { text: line.text.to_vec(), at: line.at, terminated: line.terminated };
                        source.advance(i, &mut self.garbage)?;
                        held
                    }
                    None => break,
                };
                best = match best {
                    None => Some((i, held)),
                    Some(other) => match better(other, (i, held)) {
                        Some(chosen) => Some(chosen),
                        None => {
                            self.end = Some(End::Branch(self.next));
                            return Ok(true);
                        }
                    },
                };
            }
        }
        let Some((input, held)) = best else { return Ok(false) };
        let at = line_id(&held.text).map_or(0, |l| l.1);
        push(batch, self.hasher, input, self.next, at, &held.text, held.at, held.terminated);
        remember(&mut self.hashes, self.next, &held.text);
        self.next = self.next.saturating_add(1);
        Ok(true)
    }

    /// Reads ahead until a reader stands at the next line; where none does, the sequence ends.
    fn search(&mut self) -> Result<(), ReadError> {
        for (i, s) in self.sources.iter_mut().enumerate() {
            while s.ahead.len() < AHEAD && s.head.is_some() {
                if s.head.is_some_and(|id| id <= self.next) {
                    return Ok(());
                }
                if let Some(id) = s.hold() {
                    self.end = Some(End::Branch(id));
                    return Ok(());
                }
                s.advance(i, &mut self.garbage)?;
            }
        }
        let held = self.sources.iter().filter_map(|s| s.ahead.first_key_value().map(|e| *e.0));
        let later = held.chain(self.sources.iter().filter_map(|s| s.head)).min();
        self.end = Some(match later {
            Some(id) => End::Gap(self.next, id.saturating_sub(1)),
            None => End::Done,
        });
        Ok(())
    }
}

/// The copy of a line to be used: a whole one before a torn one, one that can be read before a damaged one. `None` if
/// two good ones differ.
fn better(a: (usize, Held), b: (usize, Held)) -> Option<(usize, Held)> {
    let good = |h: &Held| super::parse(&h.text).is_ok();
    if a.1.text == b.1.text {
        return Some(if a.1.terminated { a } else { b });
    }
    match (a.1.terminated, b.1.terminated) {
        (_, false) => Some(a),
        (false, _) => Some(b),
        _ if !good(&b.1) => Some(a),
        _ if !good(&a.1) => Some(b),
        _ => None,
    }
}

#[inline]
#[expect(clippy::too_many_arguments, reason = "the parts of a line")]
fn push(
    batch: &mut Batch,
    hasher: Option<NameHasher>,
    input: usize,
    id: u64,
    at: usize,
    text: &[u8],
    offset: u64,
    terminated: bool,
) {
    let start = batch.text.len();
    batch.text.extend_from_slice(text);
    let (time, op) = match body(text, at) {
        Ok((time, op)) => (time, Ok(op)),
        Err(e) => (0, Err(e)),
    };
    let hash = hasher.zip(op.as_ref().ok()).and_then(|(hasher, op)| {
        let (parent, name) = match op {
            Op::Create { parent, name, .. } | Op::Unlink { parent, name, .. } | Op::Symlink { parent, name, .. } => {
                (*parent, name.of(text))
            }
            Op::Move { from, name, .. } => (*from, name.of(text)),
            _ => return None,
        };
        (!name.contains(&b'%')).then(|| hasher.hash(parent, name))
    });
    batch.entries.push(Entry { start, end: batch.text.len(), id, time, input, at: offset, terminated, hash, op });
}

#[cold]
fn note_garbage(list: &mut Vec<(usize, u64, u64)>, input: usize, line: &Line<'_>) {
    if line.terminated && !line.text.is_empty() && list.len() < 1 << 16 {
        list.push((input, line.at, line.text.len() as u64));
    }
}

fn slot(id: u64) -> usize {
    usize::try_from(id % MEMORY as u64).unwrap_or(0)
}

#[inline]
fn remember(hashes: &mut [(u64, u64)], id: u64, text: &[u8]) {
    if let Some(slot) = hashes.get_mut(slot(id)) {
        *slot = (id, xxh3_64(text));
    }
}

/// Whether a line whose id was taken before has another text. One so far behind that its text is not remembered cannot
/// be vouched for: readers advance together, so its file went back.
fn differs(hashes: &[(u64, u64)], id: u64, text: &[u8]) -> bool {
    hashes.get(slot(id)).is_none_or(|&(known, hash)| known != id || hash != xxh3_64(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use recovery_core::MemBlob;

    fn log(ids: impl IntoIterator<Item = u64>) -> String {
        ids.into_iter().map(|i| format!("{i}: 1700000000|ACCESS({i})\n")).collect()
    }

    /// Ids in the order in which they come out, from which file the last came, and the end.
    fn merged(files: &[String], first: u64) -> (Vec<u64>, Option<End>) {
        let blobs: Vec<MemBlob> = files.iter().map(|f| MemBlob::new("log", f.clone().into_bytes())).collect();
        let inputs = blobs.iter().map(|b| Input { blob: b, skip: &[], use_rest: false }).collect();
        let mut m = Merger::new(inputs, first, u64::MAX);
        let (mut batch, mut ids) = (Batch::default(), Vec::new());
        while m.fill(&mut batch).unwrap() {
            ids.extend(batch.entries.iter().map(|e| e.id));
        }
        (ids, m.ended().cloned())
    }

    #[test]
    fn files_in_any_order_overlapping_and_interleaved() {
        let all: Vec<u64> = (5..40_000).collect();
        let files = [log(30_000..40_000), log(0..20_000), log(15_000..31_000), log((1_000..39_000).step_by(3))];
        assert_eq!(merged(&files, 5), (all.clone(), Some(End::Done)));
        let files = [log((0..40_000).filter(|i| i % 2 == 0)), log((0..40_000).filter(|i| i % 2 == 1))];
        assert_eq!(merged(&files, 5), (all, Some(End::Done)));
    }

    #[test]
    fn lines_out_of_order_are_put_right() {
        let ids = (0..1000).map(|i| i ^ 3);
        assert_eq!(merged(&[log(ids)], 0), ((0..1000).collect(), Some(End::Done)));
    }

    #[test]
    fn holes_and_branches_end_the_sequence() {
        assert_eq!(merged(&[log(0..10), log(15..20)], 0), ((0..10).collect(), Some(End::Gap(10, 14))));
        assert_eq!(merged(&[log(15..20)], 10), (Vec::new(), Some(End::Gap(10, 14))));
        let other = log(0..20).replace("7: 1700000000|ACCESS(7)", "7: 1700000000|ACCESS(9)");
        assert_eq!(merged(&[log(0..20), other.clone()], 0).1, Some(End::Branch(7)));
        // the base holds change 7 already: nobody asks
        assert_eq!(merged(&[log(0..20), other.clone()], 10), ((10..20).collect(), Some(End::Done)));
        assert_eq!(merged(&[log(0..10) + &other], 0).1, Some(End::Branch(7)));
    }

    #[test]
    fn a_file_that_goes_back_further_than_is_remembered_is_a_branch() {
        let back = log(0..100_000) + &log(20_000..90_000).replace("1700000000", "1800000000");
        assert_eq!(merged(&[back], 0), ((0..100_000).collect(), Some(End::Branch(20_000))));
    }
}
