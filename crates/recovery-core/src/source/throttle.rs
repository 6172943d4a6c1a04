//! A source that reads no faster than a given rate, for a disk that others still use or that is dying.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Depth, Entries, Entry, LockHolder, Source};
use crate::blob::{Blob, ReadError};

/// Wraps a source and limits the bytes read from all its blobs together.
#[derive(Clone, Debug)]
pub struct ThrottledSource {
    inner: Arc<dyn Source>,
    pace: Arc<Pace>,
}

#[derive(Debug)]
struct Pace {
    bytes_per_second: u64,
    free_at: Mutex<Instant>,
}

impl Pace {
    /// Books `bytes` and sleeps until their turn.
    fn wait(&self, bytes: u64) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.max(1));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let start = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let start = (*free_at).max(Instant::now());
            *free_at = start.checked_add(cost).unwrap_or(start);
            start
        };
        std::thread::sleep(start.saturating_duration_since(Instant::now()));
    }
}

impl ThrottledSource {
    /// Limits `inner` to this many bytes a second.
    #[must_use]
    pub fn new(inner: Arc<dyn Source>, bytes_per_second: u64) -> Self {
        Self { inner, pace: Arc::new(Pace { bytes_per_second, free_at: Mutex::new(Instant::now()) }) }
    }
}

impl Source for ThrottledSource {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn list(&self, dir: &str, depth: Depth) -> Entries<'_> {
        self.inner.list(dir, depth)
    }

    fn stat(&self, name: &str) -> Result<Option<Entry>, ReadError> {
        self.inner.stat(name)
    }

    fn open(&self, entry: &Entry) -> Result<Arc<dyn Blob>, ReadError> {
        Ok(Arc::new(ThrottledBlob { inner: self.inner.open(entry)?, pace: Arc::clone(&self.pace) }))
    }

    fn local_path(&self, entry: &Entry) -> Option<std::path::PathBuf> {
        self.inner.local_path(entry)
    }

    fn root(&self) -> Option<&std::path::Path> {
        self.inner.root()
    }

    fn lock_holder(&self, name: &str) -> Option<LockHolder> {
        self.inner.lock_holder(name)
    }
}

struct ThrottledBlob {
    inner: Arc<dyn Blob>,
    pace: Arc<Pace>,
}

impl Blob for ThrottledBlob {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        self.pace.wait(buf.len() as u64);
        self.inner.read_at(offset, buf)
    }

    fn concurrency(&self) -> usize {
        1
    }

    fn local_path(&self) -> Option<&std::path::Path> {
        self.inner.local_path()
    }
}
