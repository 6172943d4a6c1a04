//! Notices when a store stops answering under a reader that would take it for damage.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use recovery_core::{Blob, ReadError, Result};

use super::load::store_failed;

/// The first failure of a store, shared by the files of a tablet.
#[derive(Debug, Default)]
pub struct Watch(Mutex<Option<ReadError>>);

impl Watch {
    fn note<T>(&self, result: std::result::Result<T, ReadError>) -> std::result::Result<T, ReadError> {
        if let Err(e) = &result
            && store_failed(e)
        {
            self.0.lock().unwrap_or_else(|p| p.into_inner()).get_or_insert_with(|| e.clone());
        }
        result
    }

    /// Nothing read since means anything once a store has failed.
    ///
    /// # Errors
    ///
    /// The first failure.
    pub fn check(&self) -> Result<()> {
        let first = self.0.lock().unwrap_or_else(|p| p.into_inner()).clone();
        first.map_or(Ok(()), |e| Err(e.into()))
    }

    /// The blob, watched.
    #[must_use]
    pub fn over(self: &Arc<Self>, inner: Arc<dyn Blob>) -> Arc<dyn Blob> {
        Arc::new(Watched { inner, watch: Arc::clone(self) })
    }
}

struct Watched {
    inner: Arc<dyn Blob>,
    watch: Arc<Watch>,
}

impl Blob for Watched {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::result::Result<usize, ReadError> {
        self.watch.note(self.inner.read_at(offset, buf))
    }

    fn bytes(&self, range: Range<u64>) -> std::result::Result<Bytes, ReadError> {
        self.watch.note(self.inner.bytes(range))
    }

    fn read_ranges(&self, ranges: &[Range<u64>]) -> Vec<std::result::Result<Bytes, ReadError>> {
        self.inner.read_ranges(ranges).into_iter().map(|r| self.watch.note(r)).collect()
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }

    fn local_path(&self) -> Option<&Path> {
        self.inner.local_path()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Dead;

    impl Blob for Dead {
        fn name(&self) -> &str {
            "dead"
        }

        fn len(&self) -> u64 {
            10
        }

        fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::result::Result<usize, ReadError> {
            let error = std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
            Err(ReadError::new("dead".to_owned(), offset, buf.len() as u64, &error))
        }

        fn bytes(&self, range: Range<u64>) -> std::result::Result<Bytes, ReadError> {
            let mut buf = [0; 1];
            self.read_at(range.start, &mut buf).map(|_| Bytes::new())
        }
    }

    #[test]
    fn the_first_failure_is_kept() {
        let watch = Arc::new(Watch::default());
        let blob = watch.over(Arc::new(Dead));
        assert!(watch.check().is_ok());
        assert!(blob.bytes(3..4).is_err());
        assert_eq!(watch.check().unwrap_err().exit(), 1);
    }
}
