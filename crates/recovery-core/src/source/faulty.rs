//! A source that fails on purpose: bad sectors, short reads, files that shrink or cannot be opened.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::{Depth, Entries, Entry, Source};
use crate::blob::{Blob, ReadError};

/// What goes wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Reads that touch the range fail with an I/O error.
    Unreadable(Range<u64>),
    /// Every read gives at most this many bytes.
    ShortReads(usize),
    /// The file keeps its length in the listing but ends here when it is read.
    Shrinks(u64),
    /// The file is listed but cannot be opened.
    CannotOpen,
}

/// Wraps a source and injects faults by file name.
#[derive(Clone, Debug)]
pub struct FaultySource {
    inner: Arc<dyn Source>,
    faults: BTreeMap<String, Vec<Fault>>,
    everywhere: Vec<Fault>,
}

impl FaultySource {
    /// A source that behaves like `inner` until faults are added.
    #[must_use]
    pub fn new(inner: Arc<dyn Source>) -> Self {
        Self { inner, faults: BTreeMap::new(), everywhere: Vec::new() }
    }

    /// Adds a fault to one file.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, fault: Fault) -> Self {
        self.faults.entry(name.into()).or_default().push(fault);
        self
    }

    /// Adds a fault to every file.
    #[must_use]
    pub fn with_all(mut self, fault: Fault) -> Self {
        self.everywhere.push(fault);
        self
    }

    fn faults_of(&self, name: &str) -> Vec<Fault> {
        self.faults.get(name).into_iter().flatten().chain(&self.everywhere).cloned().collect()
    }
}

impl Source for FaultySource {
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
        let faults = self.faults_of(&entry.name);
        if faults.contains(&Fault::CannotOpen) {
            return Err(ReadError::new(&entry.name, 0, 0, &io::ErrorKind::PermissionDenied.into()));
        }
        Ok(Arc::new(FaultyBlob { inner: self.inner.open(entry)?, faults }))
    }
}

struct FaultyBlob {
    inner: Arc<dyn Blob>,
    faults: Vec<Fault>,
}

impl Blob for FaultyBlob {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let mut n = buf.len();
        for fault in &self.faults {
            match fault {
                Fault::ShortReads(most) => n = n.min(*most),
                Fault::Shrinks(end) => {
                    n = n.min(usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX));
                }
                Fault::Unreadable(_) | Fault::CannotOpen => {}
            }
        }
        let part = buf.get_mut(..n).unwrap_or_default();
        let end = offset.saturating_add(part.len() as u64);
        let bad = self.faults.iter().any(|f| matches!(f, Fault::Unreadable(r) if r.start < end && offset < r.end));
        if bad {
            // EIO, as a disk with a bad sector gives it.
            let error = io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error());
            return Err(ReadError::new(self.name(), offset, n as u64, &error));
        }
        if part.is_empty() { Ok(0) } else { self.inner.read_at(offset, part) }
    }
}
