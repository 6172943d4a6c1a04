//! Several logs as one sequence of changes.
//!
//! Lines are taken in the order of their ids, from whichever file has them. Duplicates are compared as texts; two
//! different texts for one id are a branch. What is no line is passed over, lines in the wrong order are put right.

use std::collections::BTreeMap;

use recovery_core::{Blob, ReadError};
use xxhash_rust::xxh3::xxh3_64;

use super::LineError;
use super::file::LineReader;
use super::line::{body, line_id};
use super::op::Op;

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
    /// Lines read ahead, by id.
    ahead: BTreeMap<u64, Held>,
    finished: bool,
}

impl Source<'_> {
    fn overtaken(&self, at: u64) -> bool {
        self.input.skip.iter().any(|&(a, b)| a <= at && at < b)
    }
}

/// Puts several logs into one sequence.
pub struct Merger<'b> {
    sources: Vec<Source<'b>>,
    next: u64,
    hashes: Vec<(u64, u64)>,
    end: Option<End>,
    /// Lines that are no lines: input, offset, length.
    pub garbage: Vec<(usize, u64, u64)>,
    until: u64,
}

impl std::fmt::Debug for Merger<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merger").field("next", &self.next).field("end", &self.end).finish_non_exhaustive()
    }
}

enum Step {
    Taken,
    Nothing,
}

impl<'b> Merger<'b> {
    /// Merges `inputs` from the change `first` on, up to and including `until`.
    #[must_use]
    pub fn new(inputs: Vec<Input<'b>>, first: u64, until: u64) -> Self {
        let sources = inputs
            .into_iter()
            .map(|input| Source { reader: LineReader::new(input.blob), input, ahead: BTreeMap::new(), finished: false })
            .collect();
        Self { sources, next: first, hashes: vec![(u64::MAX, 0); MEMORY], end: None, garbage: Vec::new(), until }
    }

    /// Why the sequence ended; `None` while it goes on.
    #[must_use]
    pub const fn ended(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Fills a batch; false when the sequence is at its end.
    ///
    /// # Errors
    ///
    /// When the medium fails.
    pub fn fill(&mut self, batch: &mut Batch) -> Result<bool, ReadError> {
        batch.clear();
        while self.end.is_none() && batch.entries.len() < BATCH && batch.text.len() < BATCH_BYTES {
            if self.next > self.until {
                self.end = Some(End::Done);
                break;
            }
            if self.run(batch)? {
                continue;
            }
            self.search(batch)?;
        }
        Ok(!batch.entries.is_empty())
    }

    /// Takes lines from one file as long as they follow each other and no other file has lines waiting.
    fn run(&mut self, batch: &mut Batch) -> Result<bool, ReadError> {
        let [source] = self.sources.as_mut_slice() else { return Ok(false) };
        if !source.ahead.is_empty() || source.finished {
            return Ok(false);
        }
        let mut taken = false;
        while batch.entries.len() < BATCH && self.next <= self.until {
            let Some(line) = source.reader.next_line()? else {
                source.finished = true;
                return Ok(taken);
            };
            let Some((id, at)) = line_id(line.text) else {
                note_garbage(&mut self.garbage, 0, line.at, line.text, line.terminated);
                continue;
            };
            if !line.terminated && !source.input.use_rest {
                continue;
            }
            let plain = !source.input.skip.iter().any(|&(a, b)| a <= line.at && line.at < b);
            if id == self.next && plain {
                push(batch, 0, id, at, line.text, line.at, line.terminated);
                remember(&mut self.hashes, id, line.text);
                self.next = self.next.saturating_add(1);
                taken = true;
            } else if id < self.next {
                if conflicts(&self.hashes, id, line.text) && plain {
                    self.end = Some(End::Branch(id));
                    return Ok(true);
                }
            } else if plain {
                let held = Held { text: line.text.to_vec(), at: line.at, terminated: line.terminated };
                source.ahead.insert(id, held);
                return Ok(taken);
            }
        }
        Ok(taken)
    }

    /// Looks for the next line in all files.
    fn search(&mut self, batch: &mut Batch) -> Result<(), ReadError> {
        for i in 0..self.sources.len() {
            self.advance(i)?;
            if self.end.is_some() {
                return Ok(());
            }
        }
        if let Step::Taken = self.take(batch) {
            return Ok(());
        }
        if self.end.is_some() {
            return Ok(());
        }
        let later = self.sources.iter().filter_map(|s| s.ahead.first_key_value().map(|e| *e.0)).min();
        self.end = Some(match later {
            Some(id) => End::Gap(self.next, id.saturating_sub(1)),
            None => End::Done,
        });
        Ok(())
    }

    /// Reads a file ahead until it has the next line, or enough others.
    fn advance(&mut self, index: usize) -> Result<(), ReadError> {
        let next = self.next;
        let Some(source) = self.sources.get_mut(index) else { return Ok(()) };
        while let Some(entry) = source.ahead.first_entry().filter(|e| *e.key() < next) {
            let (id, held) = entry.remove_entry();
            if conflicts(&self.hashes, id, &held.text) && held.terminated {
                self.end = Some(End::Branch(id));
                return Ok(());
            }
        }
        while !source.finished && !source.ahead.contains_key(&next) && source.ahead.len() < AHEAD {
            let Some(line) = source.reader.next_line()? else {
                source.finished = true;
                return Ok(());
            };
            let (at, terminated) = (line.at, line.terminated);
            let Some((id, _)) = line_id(line.text) else {
                note_garbage(&mut self.garbage, index, at, line.text, terminated);
                continue;
            };
            if !terminated && !source.input.use_rest {
                continue;
            }
            let text = line.text.to_vec();
            if source.overtaken(at) {
                continue;
            }
            if id < next {
                if terminated && conflicts(&self.hashes, id, &text) {
                    self.end = Some(End::Branch(id));
                    return Ok(());
                }
                continue;
            }
            if let Some(other) = source.ahead.get(&id)
                && other.text != text
                && terminated
                && other.terminated
            {
                self.end = Some(End::Branch(id));
                return Ok(());
            }
            source.ahead.insert(id, Held { text, at, terminated });
        }
        Ok(())
    }

    /// Takes the next line from the files that have it.
    fn take(&mut self, batch: &mut Batch) -> Step {
        let mut best: Option<(usize, Held)> = None;
        for (i, source) in self.sources.iter_mut().enumerate() {
            let Some(held) = source.ahead.remove(&self.next) else { continue };
            best = match best {
                None => Some((i, held)),
                Some((j, other)) if other.text == held.text => Some((j, if other.terminated { other } else { held })),
                // a torn copy gives way to a whole one
                Some((j, other)) if !held.terminated => Some((j, other)),
                Some((_, other)) if !other.terminated => Some((i, held)),
                // a damaged copy gives way to one that can be read
                Some((j, other)) if super::parse(&held.text).is_err() => Some((j, other)),
                Some((_, other)) if super::parse(&other.text).is_err() => Some((i, held)),
                Some(_) => {
                    self.end = Some(End::Branch(self.next));
                    return Step::Nothing;
                }
            };
        }
        let Some((input, held)) = best else { return Step::Nothing };
        let at = line_id(&held.text).map_or(0, |l| l.1);
        push(batch, input, self.next, at, &held.text, held.at, held.terminated);
        remember(&mut self.hashes, self.next, &held.text);
        self.next = self.next.saturating_add(1);
        Step::Taken
    }
}

#[inline]
fn push(batch: &mut Batch, input: usize, id: u64, at: usize, text: &[u8], offset: u64, terminated: bool) {
    let start = batch.text.len();
    batch.text.extend_from_slice(text);
    let (time, op) = match body(text, at) {
        Ok((time, op)) => (time, Ok(op)),
        Err(e) => (0, Err(e)),
    };
    batch.entries.push(Entry { start, end: batch.text.len(), id, time, input, at: offset, terminated, op });
}

fn note_garbage(list: &mut Vec<(usize, u64, u64)>, input: usize, at: u64, text: &[u8], terminated: bool) {
    if terminated && !text.is_empty() && list.len() < 1 << 16 {
        list.push((input, at, text.len() as u64));
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

fn conflicts(hashes: &[(u64, u64)], id: u64, text: &[u8]) -> bool {
    hashes.get(slot(id)).is_some_and(|&(known, hash)| known == id && hash != xxh3_64(text))
}
