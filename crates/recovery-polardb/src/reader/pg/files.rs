//! Small files, read whole.

use bytes::Bytes;
use recovery_core::{ReadError, Source};

/// Reads a file of at most `most` bytes (the rest is left out); `None` when it is not there.
///
/// # Errors
///
/// When it is there and cannot be read.
pub fn read_small(source: &dyn Source, name: &str, most: u64) -> Result<Option<Bytes>, ReadError> {
    match source.open_name(name)? {
        Some(blob) => blob.bytes(0..blob.len().min(most)).map(Some),
        None => Ok(None),
    }
}

/// Joins two parts of a path, either of which may be empty.
#[must_use]
pub fn join(a: &str, b: &str) -> String {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => b.to_owned(),
        (_, true) => a.to_owned(),
        _ => format!("{a}/{b}"),
    }
}
