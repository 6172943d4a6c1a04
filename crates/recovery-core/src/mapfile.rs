//! GNU ddrescue mapfiles: which parts of a rescued image were never read from the dying disk.
//!
//! A mapfile is text: comment lines begin with `#`; the first other line is the current position and status; every
//! further line is `position size status`, numbers in C notation. Status `+` is finished; `?` not tried, `*` not
//! trimmed, `/` not scraped and `-` bad sector are all bytes that the image does not hold.
//! (GNU ddrescue manual, section "Mapfile structure".)

use std::ops::Range;

/// The ranges of an image that hold real bytes and those that do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapfile {
    unread: Vec<Range<u64>>,
}

/// A mapfile that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mapfile line {line}: {problem}")]
pub struct MapfileError {
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u64::from_str_radix(text.get(1..)?, 8).ok(),
        None => text.parse().ok(),
    }
}

impl Mapfile {
    /// Reads the text of a mapfile.
    ///
    /// # Errors
    ///
    /// When a line is not of the documented form.
    pub fn parse(text: &str) -> Result<Self, MapfileError> {
        let mut lines = (1..).zip(text.lines()).filter(|(_, l)| !l.starts_with('#') && !l.trim().is_empty());
        let bad = |line: usize, problem: &str| MapfileError { line, problem: problem.to_owned() };
        lines.next().ok_or_else(|| bad(1, "no status line"))?;
        let mut unread = Vec::new();
        for (line, text) in lines {
            let words: Vec<&str> = text.split_whitespace().collect();
            let [position, size, status] = words.as_slice() else {
                return Err(bad(line, "expected position, size and status"));
            };
            let start = number(position).ok_or_else(|| bad(line, "the position is not a number"))?;
            let size = number(size).ok_or_else(|| bad(line, "the size is not a number"))?;
            let end = start.checked_add(size).ok_or_else(|| bad(line, "the range is larger than 64 bits"))?;
            match *status {
                "+" => {}
                "?" | "*" | "/" | "-" => unread.push(start..end),
                other => return Err(bad(line, &format!("unknown status {other:?}"))),
            }
        }
        Ok(Self { unread })
    }

    /// The ranges that the image does not hold.
    #[must_use]
    pub fn unread(&self) -> &[Range<u64>] {
        &self.unread
    }

    /// Whether any byte of the range is missing.
    #[must_use]
    pub fn touches(&self, range: &Range<u64>) -> bool {
        self.unread.iter().any(|r| r.start < range.end && range.start < r.end)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_ddrescue_writes() {
        let text = "# Mapfile. Created by GNU ddrescue version 1.27\n# current_pos  current_status  current_pass\n\
                    0x00120000     ?               1\n#      pos        size  status\n\
                    0x00000000  0x00117000  +\n0x00117000  0x00000200  -\n0x00117200  0x00001000  /\n";
        let map = Mapfile::parse(text).unwrap();
        assert_eq!(map.unread(), [0x117000..0x117200, 0x117200..0x118200]);
        assert!(map.touches(&(0x1171ff..0x117200)));
        assert!(!map.touches(&(0..0x117000)));
    }

    #[test]
    fn says_which_line_is_wrong() {
        assert_eq!(Mapfile::parse("0 + 1\n0 5 x\n").unwrap_err().line, 2);
        assert_eq!(Mapfile::parse("").unwrap_err().line, 1);
        assert!(Mapfile::parse("0 +\n0xffffffffffffffff 2 -\n").is_err());
    }
}
