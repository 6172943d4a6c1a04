//! Many files at a time on each thread, so that their MD5 go through the lanes of a vector side by side.
//!
//! Each thread keeps [`LANES`] files under way and takes the next one when a file ends. What a lane has to give is
//! whatever its chunk still holds in whole blocks; bytes between two chunks that make no block of their own are carried
//! over.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rayon::prelude::*;
use recovery_core::{Context, Result, Source};

use super::files::{FileState, Job, Opened, Pass};
use super::md5_lanes::{BLOCK, LANES, START, ending, run, sum};

/// Bytes read at a time and lane: eight of them stay in a core's cache until page sums and MD5 are done.
const CHUNK: u64 = 128 << 10;

/// Blocks that idle lanes are given at most; what they make of them is nobody's.
const IDLE: &[u8] = &[0; 64 << 10];

/// Takes the result of a file by its place in the list.
pub(super) type Sink<'a> = dyn Fn(usize, Result<FileState>) -> Result<()> + Sync + 'a;

/// Whether lanes are worth it: enough files, none of them behind a store, where waiting counts and not computing.
pub(super) fn fits(source: &dyn Source, jobs: &[Job], cx: &Context) -> bool {
    let Some(first) = jobs.first() else { return false };
    let near = source.open(&first.file.entry).is_ok_and(|blob| (2..=8).contains(&blob.concurrency()));
    near && jobs.len() >= cx.pool().current_num_threads().max(1).saturating_mul(LANES)
}

/// Reads all files, in their order as far as lanes get free.
///
/// # Errors
///
/// The first error of `sink`, or that the caller asked to stop.
pub(super) fn check(source: &dyn Source, jobs: &[Job], cx: &Context, sink: &Sink<'_>) -> Result<()> {
    let given = AtomicUsize::new(0);
    let threads = cx.pool().current_num_threads().max(1);
    cx.pool().install(|| {
        (0..threads).into_par_iter().with_max_len(1).try_for_each(|_| {
            let mut worker = Worker { source, jobs, cx, sink, given: &given, lanes: Default::default() };
            worker.run()
        })
    })
}

/// A file under way.
struct Lane {
    job: usize,
    pass: Box<Pass>,
    state: [u32; 4],
    length: u64,
    /// Bytes of the file to be hashed next, and how many of them are done.
    bytes: Bytes,
    done: usize,
    /// A part of a block that the chunk before ended with.
    carry: Vec<u8>,
    last: bool,
}

impl Lane {
    /// Makes sure that there is a whole block to give. False when the file has come to its end.
    fn fill(&mut self, cx: &Context) -> Result<bool> {
        loop {
            if self.bytes.len().saturating_sub(self.done) >= BLOCK {
                return Ok(true);
            }
            if self.last {
                return Ok(false);
            }
            self.carry.extend_from_slice(self.bytes.get(self.done..).unwrap_or_default());
            self.done = 0;
            match self.pass.next(cx)? {
                Some(bytes) => {
                    self.length = self.length.saturating_add(bytes.len() as u64);
                    self.bytes = self.join(bytes);
                }
                None => {
                    self.last = true;
                    self.bytes = ending(&std::mem::take(&mut self.carry), self.length).into();
                }
            }
        }
    }

    /// A chunk behind what is carried: the carried part becomes a whole block first.
    fn join(&mut self, bytes: Bytes) -> Bytes {
        if self.carry.is_empty() {
            return bytes;
        }
        // The block across the border is hashed by itself; the chunk goes on behind it without being copied.
        let missing = BLOCK.saturating_sub(self.carry.len()).min(bytes.len());
        self.carry.extend_from_slice(bytes.get(..missing).unwrap_or_default());
        if self.carry.len() < BLOCK {
            return Bytes::new();
        }
        let mut states = [START; LANES];
        states[0] = self.state;
        let mut inputs: [&[u8]; LANES] = [IDLE.get(..BLOCK).unwrap_or_default(); LANES];
        inputs[0] = &self.carry;
        run(&mut states, inputs);
        self.state = states[0];
        self.carry.clear();
        bytes.slice(missing..)
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.done..).unwrap_or_default()
    }
}

struct Worker<'a> {
    source: &'a dyn Source,
    jobs: &'a [Job],
    cx: &'a Context,
    sink: &'a Sink<'a>,
    given: &'a AtomicUsize,
    lanes: [Option<Box<Lane>>; LANES],
}

impl Worker<'_> {
    fn run(&mut self) -> Result<()> {
        loop {
            for at in 0..LANES {
                self.supply(at)?;
            }
            if self.lanes.iter().all(Option::is_none) {
                return Ok(());
            }
            self.step();
        }
    }

    /// Gives a lane a whole block: of its file, or of the next one.
    fn supply(&mut self, at: usize) -> Result<()> {
        let Some(slot) = self.lanes.get_mut(at) else { return Ok(()) };
        loop {
            if let Some(lane) = slot {
                match lane.fill(self.cx) {
                    Ok(true) => return Ok(()),
                    Ok(false) => {
                        let Some(lane) = slot.take() else { return Ok(()) };
                        let Some(job) = self.jobs.get(lane.job) else { return Ok(()) };
                        (self.sink)(lane.job, lane.pass.finish(&sum(lane.state), job, self.cx))?;
                    }
                    Err(error) => {
                        let job = lane.job;
                        *slot = None;
                        (self.sink)(job, Err(error))?;
                    }
                }
                continue;
            }
            let number = self.given.fetch_add(1, Ordering::Relaxed);
            let Some(job) = self.jobs.get(number) else { return Ok(()) };
            match Pass::open(self.source, job, CHUNK, self.cx) {
                Ok(Opened::Reading(pass)) => {
                    *slot = Some(Box::new(Lane {
                        job: number,
                        pass,
                        state: START,
                        length: 0,
                        bytes: Bytes::new(),
                        done: 0,
                        carry: Vec::new(),
                        last: false,
                    }));
                }
                Ok(Opened::Done(state)) => (self.sink)(number, Ok(*state))?,
                Err(error) => (self.sink)(number, Err(error))?,
            }
        }
    }

    /// Hashes as many blocks as every lane has.
    fn step(&mut self) {
        let least = self.lanes.iter().flatten().map(|l| l.rest().len() / BLOCK).min().unwrap_or(0);
        let bytes = least.saturating_mul(BLOCK).min(IDLE.len());
        let mut states = [START; LANES];
        let mut inputs: [&[u8]; LANES] = [IDLE.get(..bytes).unwrap_or_default(); LANES];
        for ((lane, state), input) in self.lanes.iter().zip(&mut states).zip(&mut inputs) {
            if let Some(lane) = lane {
                *state = lane.state;
                *input = lane.rest().get(..bytes).unwrap_or_default();
            }
        }
        run(&mut states, inputs);
        for (lane, state) in self.lanes.iter_mut().zip(states) {
            if let Some(lane) = lane {
                lane.state = state;
                lane.done = lane.done.saturating_add(bytes);
            }
        }
    }
}
