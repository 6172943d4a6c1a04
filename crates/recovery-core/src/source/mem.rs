//! A source in memory: for tests, for fuzzing, for embedders that already hold the bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::{Depth, Entries, Entry, Source};
use crate::blob::{Blob, MemBlob, ReadError};

/// Names and bytes.
#[derive(Clone, Debug, Default)]
pub struct MemSource {
    files: BTreeMap<String, Bytes>,
}

impl MemSource {
    /// A source of these files; names are '/'-separated paths.
    #[must_use]
    pub fn new<N: Into<String>, B: Into<Bytes>>(files: impl IntoIterator<Item = (N, B)>) -> Self {
        Self { files: files.into_iter().map(|(n, b)| (n.into(), b.into())).collect() }
    }

    /// Adds or replaces a file.
    pub fn insert(&mut self, name: impl Into<String>, data: impl Into<Bytes>) {
        self.files.insert(name.into(), data.into());
    }

    /// Takes a file away.
    pub fn remove(&mut self, name: &str) -> Option<Bytes> {
        self.files.remove(name)
    }

    /// The files themselves.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<String, Bytes> {
        &self.files
    }

    fn directories(&self) -> BTreeSet<&str> {
        let parents = |name: &'_ str| name.match_indices('/').map(|(i, _)| i).collect::<Vec<_>>();
        self.files.keys().flat_map(|n| parents(n).into_iter().filter_map(move |i| n.get(..i))).collect()
    }
}

impl Source for MemSource {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn list(&self, dir: &str, depth: Depth) -> Entries<'_> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{}/", dir.trim_end_matches('/')) };
        let files = self.files.iter().map(|(n, b)| Entry::file(n.as_str(), b.len() as u64));
        let mut entries: Vec<Entry> = files.chain(self.directories().into_iter().map(Entry::directory)).collect();
        entries.retain(|e| {
            let below = e.name.strip_prefix(&prefix).filter(|r| !r.is_empty());
            below.is_some_and(|rest| depth == Depth::All || !rest.contains('/'))
        });
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Box::new(entries.into_iter().map(Ok))
    }

    fn stat(&self, name: &str) -> Result<Option<Entry>, ReadError> {
        if let Some(data) = self.files.get(name) {
            return Ok(Some(Entry::file(name, data.len() as u64)));
        }
        Ok(self.directories().contains(name).then(|| Entry::directory(name)))
    }

    fn open(&self, entry: &Entry) -> Result<Arc<dyn Blob>, ReadError> {
        match self.files.get(&entry.name) {
            Some(data) => Ok(Arc::new(MemBlob::new(&entry.name, data.clone()))),
            None => Err(ReadError::new(&entry.name, 0, 0, &std::io::ErrorKind::NotFound.into())),
        }
    }
}
