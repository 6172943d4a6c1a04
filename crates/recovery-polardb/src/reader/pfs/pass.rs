//! One pass over the bytes of files: whoever wants to see them (checksums of pages and log records) looks
//! over the shoulder of whoever copies them, so that each byte is read once.

use recovery_core::{Blob, Context, Result};

use super::file::PfsFile;

/// How much is read at once.
const STEP: u64 = 1 << 20;

/// Sees files go by. Shared by all threads.
pub trait Watch: Sync {
    /// A file begins; `None` when its bytes are of no interest. The path is from the root, '/' in front.
    fn open(&self, path: &str, size: u64) -> Option<Box<dyn FileWatch + '_>>;
}

/// Sees the bytes of one file, in order and without gaps.
pub trait FileWatch {
    /// Bytes at `offset`.
    fn data(&mut self, offset: u64, bytes: &[u8]);
    /// `len` zeros that were never written.
    fn hole(&mut self, offset: u64, len: u64);
    /// `len` bytes that cannot be read.
    fn missing(&mut self, offset: u64, len: u64);
    /// The file ends.
    fn finish(self: Box<Self>);
}

/// One stretch of a file.
#[derive(Debug)]
pub enum Item<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// Zeros that were never written.
    Hole(u64),
    /// Bytes that cannot be read.
    Missing(u64),
}

/// Takes the stretches of a file, in order.
pub type Sink<'a> = dyn FnMut(Item<'_>) -> Result<()> + 'a;

/// What a pass over one file met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Bytes read from the device.
    pub read: u64,
    /// Ranges of the file that cannot be read.
    pub missing: Vec<std::ops::Range<u64>>,
}

/// Reads one file from its beginning to its end. Holes cost nothing.
///
/// # Errors
///
/// What `sink` says, or that the caller asked to stop. Bytes that cannot be read are not errors.
pub fn run(
    file: &PfsFile,
    watch: Option<Box<dyn FileWatch + '_>>,
    sink: &mut Sink<'_>,
    cx: &Context,
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut watch = watch;
    let mut buf = Vec::new();
    for segment in file.segments() {
        let (mut at, end) = (segment.file.start, segment.file.end);
        if segment.device.is_none() {
            let len = end.saturating_sub(at);
            if let Some(w) = &mut watch {
                w.hole(at, len);
            }
            sink(Item::Hole(len))?;
            continue;
        }
        while at < end {
            cx.cancelled()?;
            let next = at.saturating_add(STEP).min(end);
            piece(file, at, next, &mut buf, &mut watch, sink, &mut outcome)?;
            at = next;
        }
    }
    if let Some(w) = watch {
        w.finish();
    }
    Ok(outcome)
}

fn piece(
    file: &PfsFile,
    at: u64,
    next: u64,
    buf: &mut Vec<u8>,
    watch: &mut Option<Box<dyn FileWatch + '_>>,
    sink: &mut Sink<'_>,
    outcome: &mut Outcome,
) -> Result<()> {
    let len = usize::try_from(next.saturating_sub(at)).unwrap_or(0);
    if buf.len() < len {
        buf.resize(len, 0);
    }
    let whole = buf.get_mut(..len).unwrap_or_default();
    if file.read_exact_at(at, whole).is_ok() {
        outcome.read = outcome.read.saturating_add(len as u64);
        if let Some(w) = watch {
            w.data(at, whole);
        }
        sink(Item::Data(whole))?;
        file.done_with(at..next);
        return Ok(());
    }
    let (bytes, missing) = recovery_core::read_around(file, at..next);
    let mut from = at;
    for range in missing.iter().cloned().chain(std::iter::once(next..next)) {
        let slice = |a: u64, b: u64| {
            let index = |x: u64| usize::try_from(x.saturating_sub(at)).unwrap_or(usize::MAX);
            bytes.get(index(a)..index(b)).unwrap_or_default()
        };
        let good = slice(from, range.start);
        if !good.is_empty() {
            outcome.read = outcome.read.saturating_add(good.len() as u64);
            if let Some(w) = watch {
                w.data(from, good);
            }
            sink(Item::Data(good))?;
        }
        let lost = range.end.saturating_sub(range.start);
        if lost > 0 {
            if let Some(w) = watch {
                w.missing(range.start, lost);
            }
            sink(Item::Missing(lost))?;
            outcome.missing.push(range.clone());
        }
        from = range.end;
    }
    Ok(())
}
