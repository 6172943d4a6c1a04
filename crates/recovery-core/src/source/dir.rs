//! A directory on this machine.
//!
//! Symbolic links are followed only while they stay below the directory; a link that leads out is an
//! [`EntryKind::Outward`] entry unless the caller mapped its target.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::file::entry_of;
use super::{Depth, Entries, Entry, EntryKind, FileBlob, LockHolder, Source, lock_holder};
use crate::blob::{Blob, ReadError};

/// Deepest nesting of directories that a recursive listing enters.
const MAX_DEPTH: usize = 64;

/// How a directory is read.
#[derive(Clone, Debug, Default)]
pub struct DirOptions {
    /// Where outward links lead instead: a link target below the first path is looked for below the second.
    pub map: Vec<(PathBuf, PathBuf)>,
    /// Opens files through memory maps (only with the `mmap` feature).
    pub mmap: bool,
}

/// A directory on this machine, read without writing a byte.
#[derive(Clone, Debug)]
pub struct DirSource {
    root: PathBuf,
    shown: String,
    options: DirOptions,
}

impl DirSource {
    /// Opens a directory.
    ///
    /// # Errors
    ///
    /// When it does not exist, cannot be entered, or is no directory.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        Self::with(path, DirOptions::default())
    }

    /// Opens a directory with options.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn with(path: impl AsRef<Path>, options: DirOptions) -> Result<Self, ReadError> {
        let path = path.as_ref();
        let shown = path.display().to_string();
        let wrap = |e: io::Error| ReadError::new(shown.clone(), 0, 0, &e);
        let root = path.canonicalize().map_err(wrap)?;
        std::fs::read_dir(&root).map_err(wrap)?;
        Ok(Self { root, shown, options })
    }

    /// The directory's path without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Where a name of this source really lies: below the root, below a mapped place, or out of bounds.
    fn locate(&self, relative: &Path) -> io::Result<Place> {
        if relative.components().any(|c| !matches!(c, Component::Normal(_))) {
            return Ok(Place::Outward(relative.display().to_string()));
        }
        let path = self.root.join(relative);
        match path.canonicalize() {
            Ok(real) if real.starts_with(&self.root) => Ok(Place::Inside(real)),
            Ok(real) => Ok(self.mapped(&real).unwrap_or_else(|| Place::Outward(real.display().to_string()))),
            Err(e) if path.symlink_metadata().is_ok_and(|m| m.is_symlink()) => {
                let text = std::fs::read_link(&path).unwrap_or_default();
                let lost = || Place::Dangling(format!("{}: {e}", text.display()));
                Ok(self.mapped(&text).unwrap_or_else(lost))
            }
            Err(e) => Err(e),
        }
    }

    fn mapped(&self, target: &Path) -> Option<Place> {
        self.options.map.iter().find_map(|(old, new)| {
            let new = new.canonicalize().ok()?;
            let real = match target.strip_prefix(old) {
                Ok(below) => new.join(below).canonicalize().ok()?,
                Err(_) if target.starts_with(&new) => target.to_owned(),
                Err(_) => return None,
            };
            real.starts_with(&new).then_some(Place::Inside(real))
        })
    }

    fn entry(&self, relative: &Path) -> Result<Option<Entry>, ReadError> {
        let (name, raw) = name_of(relative);
        let wrap = |e: &io::Error| ReadError::new(name.clone(), 0, 0, e);
        let mut entry = match self.locate(relative) {
            Ok(Place::Inside(real)) => entry_of(name.clone(), &std::fs::metadata(real).map_err(|e| wrap(&e))?),
            Ok(Place::Outward(to)) => Entry { kind: EntryKind::Outward(to), ..Entry::file(name.clone(), 0) },
            Ok(Place::Dangling(to)) => Entry { kind: EntryKind::Dangling(to), ..Entry::file(name.clone(), 0) },
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
            Err(e) => return Err(wrap(&e)),
        };
        entry.raw = raw;
        Ok(Some(entry))
    }

    fn children(&self, dir: &Path) -> Result<Vec<PathBuf>, ReadError> {
        let (name, _) = name_of(dir);
        let wrap = |e: io::Error| ReadError::new(name.clone(), 0, 0, &e);
        let real = match self.locate(dir) {
            Ok(Place::Inside(real)) => real,
            Ok(_) => return Ok(Vec::new()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(wrap(e)),
        };
        let entries = match std::fs::read_dir(real) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            other => other.map_err(wrap)?,
        };
        let mut names =
            entries.map(|e| e.map(|e| dir.join(e.file_name()))).collect::<Result<Vec<_>, _>>().map_err(wrap)?;
        names.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
        Ok(names)
    }
}

enum Place {
    Inside(PathBuf),
    Outward(String),
    Dangling(String),
}

/// The '/'-separated name, and the exact bytes when they are not UTF-8.
fn name_of(relative: &Path) -> (String, Option<Vec<u8>>) {
    let bytes = relative.as_os_str().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), Some(bytes.to_vec())),
    }
}

fn relative(entry: &Entry) -> PathBuf {
    match &entry.raw {
        Some(raw) => PathBuf::from(std::ffi::OsString::from_vec(raw.clone())),
        None => PathBuf::from(&entry.name),
    }
}

/// Walks depth first, one directory in memory at a time for each level.
struct Walk<'a> {
    source: &'a DirSource,
    stack: Vec<std::vec::IntoIter<PathBuf>>,
    entered: BTreeSet<(u64, u64)>,
    depth: Depth,
    failed: Option<ReadError>,
}

impl Walk<'_> {
    fn enter(&mut self, dir: &Path, inode: Option<(u64, u64)>) {
        // A link back to a directory already entered would walk in circles.
        if inode.is_some_and(|i| !self.entered.insert(i)) || self.stack.len() >= MAX_DEPTH {
            return;
        }
        match self.source.children(dir) {
            Ok(children) => self.stack.push(children.into_iter()),
            Err(e) => self.failed = Some(e),
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(e) = self.failed.take() {
                return Some(Err(e));
            }
            let Some(path) = self.stack.last_mut()?.next() else {
                self.stack.pop();
                continue;
            };
            match self.source.entry(&path) {
                Ok(None) => {}
                Ok(Some(entry)) => {
                    if self.depth == Depth::All && entry.is_dir() {
                        self.enter(&path, entry.inode);
                    }
                    return Some(Ok(entry));
                }
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

impl Source for DirSource {
    fn describe(&self) -> String {
        self.shown.clone()
    }

    fn list(&self, dir: &str, depth: Depth) -> Entries<'_> {
        let mut walk = Walk { source: self, stack: Vec::new(), entered: BTreeSet::new(), depth, failed: None };
        let start = Path::new(dir.trim_end_matches('/'));
        let inode = if dir.is_empty() { std::fs::metadata(&self.root).ok() } else { None };
        walk.enter(start, inode.map(|m| (m.dev(), m.ino())));
        Box::new(walk)
    }

    fn stat(&self, name: &str) -> Result<Option<Entry>, ReadError> {
        self.entry(Path::new(name))
    }

    fn open(&self, entry: &Entry) -> Result<Arc<dyn Blob>, ReadError> {
        let path = self.local_path(entry).ok_or_else(|| {
            ReadError::new(&entry.name, 0, 0, &io::Error::new(io::ErrorKind::NotFound, "not below the source"))
        })?;
        #[cfg(feature = "mmap")]
        if self.options.mmap {
            return Ok(Arc::new(super::MapBlob::open(&path, &entry.name)?));
        }
        Ok(Arc::new(FileBlob::open(&path, &entry.name)?))
    }

    fn local_path(&self, entry: &Entry) -> Option<PathBuf> {
        match self.locate(&relative(entry)) {
            Ok(Place::Inside(real)) => Some(real),
            _ => None,
        }
    }

    fn root(&self) -> Option<&Path> {
        Some(&self.root)
    }

    fn lock_holder(&self, name: &str) -> Option<LockHolder> {
        lock_holder(&self.root.join(OsStr::new(name)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(source: &DirSource, depth: Depth) -> Vec<String> {
        source.list("", depth).map(|e| e.unwrap().name).collect()
    }

    #[test]
    fn links_are_followed_only_below_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("in"), dir.path().join("out"));
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(root.join("sub/a"), b"a").unwrap();
        std::fs::write(outside.join("secret"), b"s").unwrap();
        symlink("sub/a", root.join("inner")).unwrap();
        symlink(outside.join("secret"), root.join("outer")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("..", root.join("sub/up")).unwrap();
        let source = DirSource::open(&root).unwrap();
        let kind = |n: &str| source.stat(n).unwrap().unwrap().kind;
        assert_eq!(kind("inner"), EntryKind::File);
        assert!(matches!(kind("outer"), EntryKind::Outward(_)));
        assert!(matches!(kind("loop"), EntryKind::Dangling(_)));
        assert_eq!(kind("sub/up"), EntryKind::Directory);
        assert!(source.open(&source.stat("outer").unwrap().unwrap()).is_err());
        assert!(source.open_name("../out/secret").unwrap().is_none());
        assert_eq!(names(&source, Depth::All), ["inner", "loop", "outer", "sub", "sub/a", "sub/up"]);
        let options = DirOptions { map: vec![(outside.clone(), outside)], mmap: false };
        let mapped = DirSource::with(&root, options).unwrap();
        assert_eq!(mapped.stat("outer").unwrap().unwrap().kind, EntryKind::File);
    }

    #[test]
    fn a_directory_linked_into_itself_ends() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        symlink("../../a", dir.path().join("a/b/again")).unwrap();
        let source = DirSource::open(dir.path()).unwrap();
        assert!(names(&source, Depth::All).len() < 8);
    }

    #[test]
    fn names_that_are_not_text_can_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let odd = OsStr::from_bytes(b"odd\xff\nname");
        std::fs::write(dir.path().join(odd), b"x").unwrap();
        let source = DirSource::open(dir.path()).unwrap();
        let entry = source.list("", Depth::One).next().unwrap().unwrap();
        assert_eq!(entry.raw.as_deref(), Some(odd.as_bytes()));
        assert_eq!(source.open(&entry).unwrap().len(), 1);
    }
}
