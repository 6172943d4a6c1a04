//! `--state FILE`: what an inspection has already read, so that it can go on where it was stopped.
//!
//! One JSON object a line. A line counts only while name, size, modification time and etag of the file are the same.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::sync::Mutex;

use recovery_core::{Entry, Error, Result};
use serde::{Deserialize, Serialize};

use super::files::FileState;

#[derive(Serialize, Deserialize)]
struct Line {
    name: String,
    size: u64,
    mtime: Option<i64>,
    etag: Option<String>,
    state: FileState,
}

/// The results of earlier runs, and the file that new ones are added to.
#[derive(Debug)]
pub(super) struct Done {
    known: HashMap<String, (u64, Option<i64>, Option<String>, FileState)>,
    out: Mutex<File>,
    path: String,
}

impl Done {
    /// Opens or makes the file.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let failed = |e| Error::write(&shown, "open the state file", e);
        let mut known = HashMap::new();
        if path.exists() {
            let file = File::open(path).map_err(failed)?;
            for line in BufReader::new(file).split(b'\n') {
                let line = line.map_err(failed)?;
                // The last line of a run that was killed may be cut.
                if let Ok(line) = serde_json::from_slice::<Line>(&line) {
                    known.insert(line.name, (line.size, line.mtime, line.etag, line.state));
                }
            }
        }
        let mut out = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        // Whatever a cut line left is closed off, so that the next one stands alone.
        out.write_all(b"\n").map_err(failed)?;
        Ok(Self { known, out: Mutex::new(out), path: shown })
    }

    /// The result for a file that has not changed since.
    #[must_use]
    pub(super) fn get(&self, entry: &Entry) -> Option<FileState> {
        let (size, mtime, etag, state) = self.known.get(&entry.name)?;
        let same = *size == entry.size && *mtime == entry.mtime && *etag == entry.etag;
        same.then(|| state.clone())
    }

    /// Keeps a result.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(super) fn put(&self, entry: &Entry, state: &FileState) -> Result<()> {
        // What could not be read may be readable next time.
        if !state.unreadable.is_empty() {
            return Ok(());
        }
        let line = Line {
            name: entry.name.clone(),
            size: entry.size,
            mtime: entry.mtime,
            etag: entry.etag.clone(),
            state: state.clone(),
        };
        let mut text = serde_json::to_vec(&line).map_err(|e| Error::Internal(e.to_string()))?;
        text.push(b'\n');
        let mut out = self.out.lock().map_err(|_| Error::Internal("the state file's lock is poisoned".into()))?;
        out.write_all(&text).map_err(|e| Error::write(&self.path, "write", e))
    }
}
