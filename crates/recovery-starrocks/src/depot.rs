//! Places that files can be added to, and, apart from that, places that files can be removed from.
//!
//! A [`Depot`] never replaces and never removes a file; `copy` works with one. A [`Remover`] only removes; `prune` is the
//! only caller of one.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use recovery_core::{DirSource, Error, Result, Source, names};

#[cfg(feature = "store")]
use crate::store::writable;

/// Gives the next piece of a file, none behind the last.
pub type Pieces<'a> = dyn FnMut() -> Result<Option<Bytes>> + 'a;

/// A place that takes new files.
pub trait Depot: Send + Sync {
    /// What the user would call it. Holds no secrets.
    fn describe(&self) -> String;

    /// What is there; none where nothing is.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    fn source(&self) -> Result<Option<Arc<dyn Source>>>;

    /// Adds a file of `size` bytes. It is not seen under its name before its last byte is safe; an error of `next` leaves
    /// nothing under the name.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or the name is taken.
    fn add(&self, name: &str, size: u64, next: &mut Pieces<'_>) -> Result<()>;
}

/// A place that files are removed from.
pub trait Remover: Send + Sync {
    /// Removes a file. Says whether it was there.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be removed.
    fn remove(&self, name: &str) -> Result<bool>;

    /// Makes the removals so far lasting.
    ///
    /// # Errors
    ///
    /// When the medium refuses.
    fn settle(&self, directories: &[String]) -> Result<()>;

    /// Removes a directory and those above it up to `top`, where they are empty.
    fn tidy(&self, directory: &str, top: &str);
}

/// A local directory.
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// At this path, which need not be there yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// At a path or a `file://` address.
    fn at(place: &str) -> Self {
        Self::new(place.strip_prefix("file://").unwrap_or(place))
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        Ok(self.root.join(names::relative_path(name)?))
    }
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    let shown = path.display().to_string();
    move |e| Error::write(shown, action, e)
}

fn sync(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|d| d.sync_all()).map_err(failed(directory, "sync"))
}

/// The name of a file under way: as the engine names it.
fn unfinished(path: &Path) -> PathBuf {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let base = name.rsplit_once('.').map_or(name.as_str(), |(base, _)| base);
    path.with_file_name(format!("{base}.part"))
}

impl Depot for Directory {
    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    fn source(&self) -> Result<Option<Arc<dyn Source>>> {
        if !self.root.exists() {
            return Ok(None);
        }
        Ok(Some(Arc::new(DirSource::open(&self.root)?)))
    }

    fn add(&self, name: &str, size: u64, next: &mut Pieces<'_>) -> Result<()> {
        let path = self.path(name)?;
        let above = path.parent().unwrap_or(&self.root).to_owned();
        fs::create_dir_all(&above).map_err(failed(&above, "create directory"))?;
        let part = unfinished(&path);
        let written = (|| {
            let mut file = File::create(&part).map_err(failed(&part, "create"))?;
            let mut done = 0u64;
            while let Some(piece) = next()? {
                file.write_all(&piece).map_err(failed(&part, "write"))?;
                done = done.saturating_add(piece.len() as u64);
            }
            if done != size {
                return Err(Error::Damaged(format!("{name}: {done} bytes came of {size}")));
            }
            file.sync_all().map_err(failed(&part, "sync"))
        })();
        if let Err(error) = written {
            // Nothing of it is of use; what cannot be removed is debris that every check names.
            drop(fs::remove_file(&part));
            return Err(error);
        }
        if path.exists() {
            drop(fs::remove_file(&part));
            let taken = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(Error::write(path.display(), "create", taken));
        }
        fs::rename(&part, &path).map_err(failed(&path, "rename"))?;
        sync(&above)
    }
}

impl Remover for Directory {
    fn remove(&self, name: &str) -> Result<bool> {
        let path = self.path(name)?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(failed(&path, "remove")(e)),
        }
    }

    fn settle(&self, directories: &[String]) -> Result<()> {
        for directory in directories {
            let path = self.path(directory)?;
            if path.is_dir() {
                sync(&path)?;
            }
        }
        Ok(())
    }

    fn tidy(&self, directory: &str, top: &str) {
        let mut at = directory;
        loop {
            let gone = self.path(at).is_ok_and(|p| fs::remove_dir(p).is_ok());
            if !gone || at == top {
                return;
            }
            let Some((above, _)) = at.rsplit_once('/') else { return };
            at = above;
        }
    }
}

/// Opens a place to add files to: a directory, or an address of an object store.
///
/// # Errors
///
/// When the address makes no sense or is of a kind that is not written to.
pub fn open(place: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Box<dyn Depot>> {
    match scheme(place) {
        None | Some("file") => Ok(Box::new(Directory::at(place))),
        Some(_) => Ok(Box::new(writable(place, env)?)),
    }
}

/// Opens a place to remove files from.
///
/// # Errors
///
/// As [`open`].
pub fn open_remover(place: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Box<dyn Remover>> {
    match scheme(place) {
        None | Some("file") => Ok(Box::new(Directory::at(place))),
        Some(_) => Ok(Box::new(writable(place, env)?)),
    }
}

#[cfg(not(feature = "store"))]
fn writable(place: &str, _: &dyn Fn(&str) -> Option<String>) -> Result<Directory> {
    Err(Error::unsupported(format!("{}: this build knows no object stores", names::redact_url(place))))
}

fn scheme(place: &str) -> Option<&str> {
    place.split_once("://").map(|(scheme, _)| scheme)
}
