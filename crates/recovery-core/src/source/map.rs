//! Memory-mapped files, for healthy local copies on healthy disks.
//!
//! The one module of the workspace with `unsafe`. A map of a file that another process shortens, or of a disk with a
//! bad sector, ends this process with a signal; that is why `pread` is the default and a map has to be asked for.
#![allow(unsafe_code, reason = "mapping a file is unsafe by nature; see the module text")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use memmap2::Mmap;

use crate::blob::{Blob, MemBlob, ReadError};

/// A file mapped into memory.
#[derive(Debug)]
pub struct MapBlob {
    path: PathBuf,
    memory: MemBlob,
}

impl MapBlob {
    /// Maps a file.
    ///
    /// # Errors
    ///
    /// When it cannot be opened or mapped.
    pub fn open(path: &Path, name: impl Into<String>) -> Result<Self, ReadError> {
        let name = name.into();
        let wrap = |e: io::Error| ReadError::new(name.clone(), 0, 0, &e);
        let file = File::open(path).map_err(wrap)?;
        let empty = file.metadata().map_err(wrap)?.len() == 0;
        let data = if empty {
            Bytes::new()
        } else {
            // SAFETY: the map is private to this process and read-only. The file being changed or shortened by
            // someone else meanwhile is the documented risk that the user took by asking for a map.
            Bytes::from_owner(unsafe { Mmap::map(&file) }.map_err(wrap)?)
        };
        Ok(Self { path: path.to_owned(), memory: MemBlob::new(name, data) })
    }
}

impl Blob for MapBlob {
    fn name(&self) -> &str {
        self.memory.name()
    }

    fn len(&self) -> u64 {
        self.memory.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        self.memory.read_at(offset, buf)
    }

    fn bytes(&self, range: Range<u64>) -> Result<Bytes, ReadError> {
        self.memory.bytes(range)
    }

    fn local_path(&self) -> Option<&Path> {
        Some(&self.path)
    }
}
