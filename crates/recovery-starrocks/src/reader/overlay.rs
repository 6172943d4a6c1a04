//! One copy of a repository with files of other copies in place of those it lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recovery_core::{Blob, Depth, Entries, Entry, EntryKind, LockHolder, ReadError, Source};

/// A file of another copy.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Number of the source, as the report counts them.
    pub number: u16,
    /// The source.
    pub source: Arc<dyn Source>,
    /// Its entry there.
    pub entry: Entry,
}

/// A source that shows files of other sources under its own names. Nothing is written anywhere.
#[derive(Debug)]
pub struct Overlay {
    base: Arc<dyn Source>,
    taken: BTreeMap<String, Taken>,
    hidden: BTreeSet<String>,
}

impl Overlay {
    /// `taken` by the name it has from now on; `hidden` are names of `base` that are no longer shown.
    #[must_use]
    pub fn new(base: Arc<dyn Source>, taken: BTreeMap<String, Taken>, hidden: BTreeSet<String>) -> Self {
        Self { base, taken, hidden }
    }

    fn shown(name: &str, taken: &Taken) -> Entry {
        Entry { name: name.to_owned(), raw: None, kind: EntryKind::File, ..taken.entry.clone() }
    }

    fn own(&self, name: &str) -> bool {
        !self.hidden.contains(name) && !self.taken.contains_key(name)
    }

    /// Entries below `dir` that the base does not have: files taken and, for a flat listing, directories above them.
    fn added(&self, dir: &str, depth: Depth) -> Vec<Entry> {
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let mut out: Vec<Entry> = Vec::new();
        let mut directories = BTreeSet::new();
        for (name, taken) in self.taken.range(prefix.clone()..) {
            let Some(below) = name.strip_prefix(&prefix) else { break };
            match (depth, below.split_once('/')) {
                (Depth::One, Some((first, _))) => {
                    directories.insert(format!("{prefix}{first}"));
                }
                _ => out.push(Self::shown(name, taken)),
            }
        }
        let missing = |name: &String| !matches!(self.base.stat(name), Ok(Some(_)));
        out.extend(directories.into_iter().filter(missing).map(Entry::directory));
        out
    }
}

impl Source for Overlay {
    fn describe(&self) -> String {
        self.base.describe()
    }

    fn list(&self, dir: &str, depth: Depth) -> Entries<'_> {
        let added = self.added(dir, depth);
        let own = self.base.list(dir, depth).filter(|e| e.as_ref().map_or(true, |e| self.own(&e.name)));
        Box::new(own.chain(added.into_iter().map(Ok)))
    }

    fn stat(&self, name: &str) -> Result<Option<Entry>, ReadError> {
        match self.taken.get(name) {
            Some(taken) => Ok(Some(Self::shown(name, taken))),
            None if self.hidden.contains(name) => Ok(None),
            None => self.base.stat(name),
        }
    }

    fn open(&self, entry: &Entry) -> Result<Arc<dyn Blob>, ReadError> {
        match self.taken.get(&entry.name) {
            Some(taken) => taken.source.open(&taken.entry),
            None => self.base.open(entry),
        }
    }

    fn local_path(&self, entry: &Entry) -> Option<PathBuf> {
        match self.taken.get(&entry.name) {
            Some(taken) => taken.source.local_path(&taken.entry),
            None => self.base.local_path(entry),
        }
    }

    fn root(&self) -> Option<&Path> {
        self.base.root()
    }

    fn lock_holder(&self, name: &str) -> Option<LockHolder> {
        self.base.lock_holder(name)
    }
}
