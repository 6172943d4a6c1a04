//! A named set of blobs: a directory, one file, a device, an image, an object-store prefix, memory.

mod dir;
mod faulty;
mod file;
mod lock;
#[cfg(feature = "mmap")]
mod map;
mod mem;
mod spindle;
mod throttle;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::blob::{Blob, ReadError};

pub use dir::{DirOptions, DirSource};
pub use faulty::{Fault, FaultySource};
pub use file::{FileBlob, FileSource};
pub use lock::{LockHolder, lock_holder};
#[cfg(feature = "mmap")]
pub use map::MapBlob;
pub use mem::MemSource;
pub use throttle::ThrottledSource;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// Bytes that can be opened.
    File,
    /// A directory (or a prefix that behaves as one).
    Directory,
    /// A symbolic link that leads out of the source; it is reported, never followed. Holds the link's text.
    Outward(String),
    /// A symbolic link that leads nowhere, or in circles.
    Dangling(String),
    /// A socket, a pipe, a character device.
    Other,
}

/// One name in a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path below the source's root, parts separated by '/'. Lossy where the name is not UTF-8: see [`raw`](Self::raw).
    pub name: String,
    /// The exact bytes of the path, only when it is not UTF-8.
    pub raw: Option<Vec<u8>>,
    /// What it is.
    pub kind: EntryKind,
    /// Length in bytes.
    pub size: u64,
    /// Last change, in nanoseconds since 1970-01-01 UTC.
    pub mtime: Option<i64>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Device and inode number, which tell two names of one file.
    pub inode: Option<(u64, u64)>,
    /// The object store's version tag.
    pub etag: Option<String>,
}

impl Entry {
    /// A plain file entry of a source that knows only names and sizes.
    #[must_use]
    pub fn file(name: impl Into<String>, size: u64) -> Self {
        Self {
            name: name.into(),
            raw: None,
            kind: EntryKind::File,
            size,
            mtime: None,
            mode: None,
            inode: None,
            etag: None,
        }
    }

    /// A plain directory entry.
    #[must_use]
    pub fn directory(name: impl Into<String>) -> Self {
        Self { kind: EntryKind::Directory, ..Self::file(name, 0) }
    }

    /// The last part of the path.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    /// Whether this is a file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.kind == EntryKind::File
    }

    /// Whether this is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind == EntryKind::Directory
    }
}

/// How deep a listing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The directory's own entries.
    One,
    /// Everything below it.
    All,
}

/// The iterator that [`Source::list`] gives.
pub type Entries<'a> = Box<dyn Iterator<Item = Result<Entry, ReadError>> + Send + 'a>;

/// A named set of blobs that can be listed and opened, never written.
pub trait Source: Send + Sync + 'static {
    /// What the user would call it: a path, an address. Holds no secrets.
    fn describe(&self) -> String;

    /// The entries of `dir` ("" for the root), sorted by name within each directory.
    ///
    /// A part that cannot be listed is an `Err` item; the iteration goes on behind it. Names are below the source's
    /// root, not below `dir`. A `dir` that does not exist gives nothing.
    fn list(&self, dir: &str, depth: Depth) -> Entries<'_>;

    /// Looks one name up.
    ///
    /// # Errors
    ///
    /// When the medium fails; a name that is not there is `Ok(None)`.
    fn stat(&self, name: &str) -> Result<Option<Entry>, ReadError>;

    /// Opens a file.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    fn open(&self, entry: &Entry) -> Result<Arc<dyn Blob>, ReadError>;

    /// Opens a file by its name.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be opened; a name that is not there, or is not a file, is `Ok(None)`.
    fn open_name(&self, name: &str) -> Result<Option<Arc<dyn Blob>>, ReadError> {
        match self.stat(name)? {
            Some(entry) if entry.is_file() => self.open(&entry).map(Some),
            _ => Ok(None),
        }
    }

    /// Path of an entry on this machine, when it has one that a hard link or a clone can be made from.
    fn local_path(&self, entry: &Entry) -> Option<PathBuf> {
        let _ = entry;
        None
    }

    /// Path of the source's root on this machine, when it is a local directory or file.
    fn root(&self) -> Option<&Path> {
        None
    }

    /// The live process that holds a lock on `name`, as far as the system tells without taking the lock.
    fn lock_holder(&self, name: &str) -> Option<LockHolder> {
        let _ = name;
        None
    }
}

impl fmt::Debug for dyn Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({:?})", self.describe())
    }
}

/// What a verb works on: rival copies of one thing, and donors that may heal but are never chosen.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The PATHs of the command line: rival copies of one thing.
    pub rivals: Vec<Arc<dyn Source>>,
    /// The `--also` paths.
    pub donors: Vec<Arc<dyn Source>>,
}

impl Sources {
    /// A single source without donors.
    #[must_use]
    pub fn one(source: Arc<dyn Source>) -> Self {
        Self { rivals: vec![source], donors: Vec::new() }
    }

    /// Rivals, then donors: the numbering used by findings, inputs and steps.
    pub fn all(&self) -> impl Iterator<Item = (u16, &Arc<dyn Source>)> {
        (0u16..).zip(self.rivals.iter().chain(&self.donors))
    }

    /// The source with this number.
    #[must_use]
    pub fn get(&self, index: u16) -> Option<&Arc<dyn Source>> {
        self.rivals.iter().chain(&self.donors).nth(usize::from(index))
    }

    /// The first rival.
    #[must_use]
    pub fn first(&self) -> Option<&Arc<dyn Source>> {
        self.rivals.first()
    }
}
