//! Puts the page in place: whole or not at all, never over something that is not such a page, never into a source.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use recovery_core::{Error, Result};

use super::HEAD;

/// Writes the page to `path`.
///
/// # Errors
/// [`Error::Usage`] where the file exists and is no report of ours, or would lie in one of the sources.
pub(crate) fn save(path: &Path, text: &str, sources: &[PathBuf]) -> Result<()> {
    allowed(path, sources)?;
    let name = path.file_name().ok_or_else(|| Error::Usage(format!("--report {}: no file name", path.display())))?;
    let mut staged = name.to_os_string();
    staged.push(format!(".{}.part", std::process::id()));
    let staged = path.with_file_name(staged);
    let wrap = |what| move |e| Error::write(path.display().to_string(), what, e);
    let put = || -> std::io::Result<()> {
        let mut file = File::options().write(true).create_new(true).open(&staged)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    let done = put().map_err(wrap("write")).and_then(|()| fs::rename(&staged, path).map_err(wrap("rename")));
    if done.is_err() {
        // What is left of a failed attempt is ours alone.
        let _ = fs::remove_file(&staged);
    }
    done
}

/// Refuses places where a page must not go, before anything is read for it.
pub(crate) fn allowed(path: &Path, sources: &[PathBuf]) -> Result<()> {
    if let Ok(mut file) = File::open(path) {
        let mut begin = vec![0; HEAD.len()];
        let ours = file.read_exact(&mut begin).is_ok() && begin == HEAD.as_bytes();
        if !ours {
            return Err(Error::Usage(format!(
                "--report {}: the file exists and is not a report; name a new one",
                path.display()
            )));
        }
    }
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(parent) = parent.canonicalize() else {
        return Err(Error::Usage(format!("--report {}: its directory does not exist", path.display())));
    };
    for source in sources.iter().filter_map(|s| s.canonicalize().ok()).filter(|s| s.is_dir()) {
        if parent.starts_with(&source) {
            return Err(Error::Usage(format!(
                "--report {}: that lies in {}, which is only read; name a file elsewhere",
                path.display(),
                source.display()
            )));
        }
    }
    Ok(())
}
