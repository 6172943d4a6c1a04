//! `__starrocks_snapshot_manifest`: the files of one tablet, as the back end counted them when they were all there.
//!
//! Plain names without MD5 suffix, one a line; the last line may lack its newline; an empty file means no files. The
//! name has no dot, so that older releases do not see it. Source: `SnapshotLoader::_write_snapshot_manifest` in
//! `runtime/snapshot_loader.cpp`.

use super::FormatError;

/// Reads the list.
///
/// # Errors
///
/// When the text is not UTF-8 or a line cannot be a file name.
pub fn decode(bytes: &[u8]) -> Result<Vec<String>, FormatError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| FormatError::new("snapshot manifest", e.valid_up_to() as u64, "not UTF-8"))?;
    let mut names = Vec::new();
    let mut at = 0u64;
    for line in text.split('\n') {
        let name = line.strip_suffix('\r').unwrap_or(line);
        if name.contains('/') || name.contains('\0') || name == ".." || name == "." {
            return Err(FormatError::new("snapshot manifest", at, "a line that cannot be a file name"));
        }
        if !name.is_empty() {
            names.push(name.to_owned());
        }
        at = at.saturating_add(line.len() as u64).saturating_add(1);
    }
    Ok(names)
}

/// Writes the list.
#[must_use]
pub fn encode(names: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    for name in names {
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn round_trip() {
        let names = vec!["0_0_0.dat".to_owned(), "0.hdr".to_owned()];
        assert_eq!(decode(&encode(&names)).unwrap(), names);
        assert_eq!(decode(b"a.dat\nb.dat").unwrap(), ["a.dat", "b.dat"]);
        assert!(decode(b"").unwrap().is_empty());
        assert!(decode(b"../x\n").is_err());
    }
}
