//! A regular file or block device, read with `pread`.
//!
//! `pread` and not a memory map: a bad sector under a map is a signal that ends the process, under `pread` it is an
//! error that becomes a finding.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, Mode, OFlags};
use rustix::io::ReadWriteFlags;

use super::spindle::{self, Spindle};
use super::{Depth, Entries, Entry, EntryKind, LockHolder, Source, lock_holder};
use crate::blob::{Blob, ReadError};

/// An open file or block device.
#[derive(Debug)]
pub struct FileBlob {
    file: File,
    path: PathBuf,
    name: String,
    len: u64,
    spindle: Option<Arc<Spindle>>,
    /// Whether the last read found its bytes in the system's cache.
    warm: AtomicBool,
}

/// Opens for reading without touching the access time where the system allows it, and without hanging on a pipe.
fn open_quietly(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let open = |flags| rustix::fs::open(path, flags, Mode::empty());
    // Only the owner may ask for NOATIME; anyone else is refused and reads the ordinary way.
    let fd = open(flags | OFlags::NOATIME).or_else(|_| open(flags))?;
    Ok(File::from(fd))
}

fn length_of(file: &File) -> io::Result<u64> {
    let meta = file.metadata()?;
    let kind = meta.file_type();
    if kind.is_block_device() {
        return rustix::fs::seek(file, rustix::fs::SeekFrom::End(0)).map_err(io::Error::from);
    }
    if kind.is_file() {
        return Ok(meta.len());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a regular file nor a block device"))
}

impl FileBlob {
    /// Opens a regular file or block device; `name` is what messages call it.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, or is neither.
    pub fn open(path: &Path, name: impl Into<String>) -> Result<Self, ReadError> {
        let name = name.into();
        let wrap = |e: io::Error| ReadError::new(name.clone(), 0, 0, &e);
        let file = open_quietly(path).map_err(wrap)?;
        let len = length_of(&file).map_err(wrap)?;
        let spindle = spindle::of(&file);
        Ok(Self { file, path: path.to_owned(), name, len, spindle, warm: AtomicBool::new(false) })
    }
}

impl Blob for FileBlob {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        // What the cache already holds comes without waiting; that also tells whether it was there before us.
        let cached = rustix::io::preadv2(&self.file, &mut [IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT);
        let warm = cached.is_ok_and(|n| n == buf.len());
        self.warm.store(warm, Ordering::Relaxed);
        if warm {
            return Ok(buf.len());
        }
        loop {
            let read = match &self.spindle {
                Some(spindle) => spindle.read_at(&self.file, buf, offset),
                None => self.file.read_at(buf, offset),
            };
            match read {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(ReadError::new(&self.name, offset, buf.len() as u64, &e)),
                Ok(n) => return Ok(n),
            }
        }
    }

    fn local_path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn done_with(&self, range: Range<u64>) {
        // What others had in the cache is theirs; only what this read brought in is dropped.
        if self.warm.load(Ordering::Relaxed) {
            return;
        }
        let len = std::num::NonZeroU64::new(range.end.saturating_sub(range.start));
        // Advice only: a file system that does not know it loses nothing.
        let _ = rustix::fs::fadvise(&self.file, range.start, len, Advice::DontNeed);
    }
}

/// One file or device seen as a source with a single entry.
#[derive(Clone, Debug)]
pub struct FileSource {
    path: PathBuf,
    name: String,
}

impl FileSource {
    /// A source whose only entry is the file at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = path.file_name().map_or_else(|| "file".to_owned(), |n| n.to_string_lossy().into_owned());
        Self { path, name }
    }

    /// The name of the only entry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Source for FileSource {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn list(&self, dir: &str, _: Depth) -> Entries<'_> {
        if !dir.is_empty() {
            return Box::new(std::iter::empty());
        }
        Box::new(self.stat(&self.name).transpose().into_iter())
    }

    fn stat(&self, name: &str) -> Result<Option<Entry>, ReadError> {
        if name != self.name {
            return Ok(None);
        }
        match std::fs::metadata(&self.path) {
            Ok(meta) => {
                let mut entry = entry_of(name.to_owned(), &meta);
                if meta.file_type().is_block_device() {
                    entry.kind = EntryKind::File;
                    entry.size = FileBlob::open(&self.path, name)?.len();
                }
                Ok(Some(entry))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(ReadError::new(name, 0, 0, &e)),
        }
    }

    fn open(&self, _: &Entry) -> Result<Arc<dyn Blob>, ReadError> {
        Ok(Arc::new(FileBlob::open(&self.path, &self.name)?))
    }

    fn local_path(&self, _: &Entry) -> Option<PathBuf> {
        Some(self.path.clone())
    }

    fn root(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn lock_holder(&self, _: &str) -> Option<LockHolder> {
        lock_holder(&self.path)
    }
}

/// Describes a file by its metadata.
pub(super) fn entry_of(name: String, meta: &std::fs::Metadata) -> Entry {
    let kind = match meta.file_type() {
        t if t.is_file() => EntryKind::File,
        t if t.is_dir() => EntryKind::Directory,
        _ => EntryKind::Other,
    };
    let mtime = meta.mtime().checked_mul(1_000_000_000).and_then(|s| s.checked_add(meta.mtime_nsec()));
    Entry {
        name,
        raw: None,
        kind,
        size: meta.len(),
        mtime,
        mode: Some(meta.mode() & 0o7777),
        inode: Some((meta.dev(), meta.ino())),
        etag: None,
    }
}
