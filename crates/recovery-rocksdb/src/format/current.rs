//! The file `CURRENT`: exactly `MANIFEST-NNNNNN\n` (upstream `db/version_set.cc`, `GetCurrentManifestPath`).
//!
//! Anything else makes the database refuse to open: no newline, more than a line, another name.

use super::file_name::{FileKind, FileName};

/// Longest content that is looked at; the real one has 16 bytes or a few more.
pub const MAX_LEN: u64 = 4096;

/// Why `CURRENT` names no MANIFEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CurrentError {
    /// No bytes.
    #[error("CURRENT is empty, expected MANIFEST-NNNNNN and a newline")]
    Empty,
    /// The newline at the end is missing.
    #[error("CURRENT does not end in a newline")]
    NoNewline,
    /// The content is no MANIFEST name.
    #[error("CURRENT does not hold the name of a MANIFEST")]
    NotAName,
}

/// The number of the MANIFEST that `bytes` name.
///
/// # Errors
///
/// When the database itself would refuse the content.
pub fn parse(bytes: &[u8]) -> Result<u64, CurrentError> {
    let Some((last, name)) = bytes.split_last() else { return Err(CurrentError::Empty) };
    if *last != b'\n' {
        return Err(CurrentError::NoNewline);
    }
    let name = std::str::from_utf8(name).map_err(|_| CurrentError::NotAName)?;
    match FileName::parse(name) {
        FileName { kind: FileKind::Manifest, number: Some(number) } => Ok(number),
        _ => Err(CurrentError::NotAName),
    }
}

/// The content that names MANIFEST `number`.
#[must_use]
pub fn encode(number: u64) -> Vec<u8> {
    let mut name = super::file_name::manifest(number).into_bytes();
    name.push(b'\n');
    name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_flip_is_noticed_or_names_another_number() {
        let good = encode(5);
        assert_eq!(parse(&good), Ok(5));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            if let Some(b) = bad.get_mut(bit / 8) {
                *b ^= 1 << (bit % 8);
            }
            assert_ne!(parse(&bad), Ok(5));
        }
        assert_eq!(parse(b""), Err(CurrentError::Empty));
        assert_eq!(parse(b"MANIFEST-000005"), Err(CurrentError::NoNewline));
        assert_eq!(parse(b"MANIFEST-000005\n\n"), Err(CurrentError::NotAName));
    }
}
