//! Change logs: grammar of a line, files of lines, and the merger that puts several files into one sequence.
//!
//! ```text
//! <id>: <unix time>|<OPERATION>(<arguments>)[:<results>]\n
//! ```
//! Identifiers ascend by one. Bytes below 0x20, from 0x7F on, and `,` `%` `(` `)` are written as `%XX` with upper-case
//! digits. Source: upstream `mfsmaster/changelog.c`, `restore.c`, `merger.c`.

pub mod file;
mod grammar;
pub mod line;
pub mod merge;
pub mod op;
mod scset;
mod token;

pub use line::{Change, LineError, parse};
pub use op::{Op, Span};

/// Longest line that a master writes and the readers of upstream take.
pub const LONGEST_LINE: usize = 200_000;

/// Undoes the escaping of a name, path or value into `out`.
///
/// A `%` that is not followed by two upper-case hexadecimal digits is kept; the parser does not let one pass.
pub fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut rest = raw;
    while let Some((&b, tail)) = rest.split_first() {
        match (b, tail) {
            (b'%', [h, l, after @ ..]) => match (token::hex_digit(*h), token::hex_digit(*l)) {
                (Some(h), Some(l)) => {
                    out.push(h << 4 | l);
                    rest = after;
                }
                _ => {
                    out.push(b);
                    rest = tail;
                }
            },
            _ => {
                out.push(b);
                rest = tail;
            }
        }
    }
}

/// Escapes a name, path or value as a master writes it.
#[must_use]
pub fn escape(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for &b in name {
        if !(0x20..0x7F).contains(&b) || matches!(b, b',' | b'%' | b'(' | b')') {
            out.push('%');
            for d in [b >> 4, b & 15] {
                out.push(char::from_digit(u32::from(d), 16).unwrap_or('0').to_ascii_uppercase());
            }
        } else {
            out.push(char::from(b));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn escaping_is_undone() {
        let all: Vec<u8> = (0..=255).collect();
        let text = escape(&all);
        assert!(text.contains("%2C%") || text.contains("%2C-"));
        let mut back = Vec::new();
        unescape(text.as_bytes(), &mut back);
        assert_eq!(back, all);
    }
}
