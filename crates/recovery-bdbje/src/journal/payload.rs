//! The content of a journal record: an operation code (big-endian, 16 bits) and its payload.
//!
//! What was written last is JSON in a text preceded by its length; older operations are a plain text or number in such a
//! text, or a binary form of their own, which is kept as bytes. Upstream: `journal/JournalEntity`, `io/Text`.

use recovery_core::Cursor;
use serde::de::IgnoredAny;

/// The time of the leader, eight bytes.
const TIMESTAMP: i16 = 70;

/// A record taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation<'a> {
    /// Operation code; `None` where the record is too short for one.
    pub code: Option<i16>,
    /// What follows the code.
    pub payload: &'a [u8],
}

impl<'a> Operation<'a> {
    /// Takes a record apart.
    #[must_use]
    pub fn of(value: &'a [u8]) -> Self {
        let mut c = Cursor::new(value, 0);
        match c.i16_be("operation code") {
            Ok(code) => Self { code: Some(code), payload: c.rest() },
            Err(_) => Self { code: None, payload: value },
        }
    }

    /// Decodes the payload.
    #[must_use]
    pub fn decode(&self) -> Payload<'a> {
        if let (Some(TIMESTAMP), Ok(bytes)) = (self.code, <[u8; 8]>::try_from(self.payload)) {
            return Payload::Number(i64::from_be_bytes(bytes));
        }
        match text(self.payload) {
            Some(text) if is_json(text) => Payload::Json(text),
            Some(text) => Payload::Text(text),
            None => Payload::Binary(self.payload),
        }
    }
}

/// A decoded payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// A text that is JSON.
    Json(&'a str),
    /// Any other text.
    Text(&'a str),
    /// A number in a binary form.
    Number(i64),
    /// Anything else.
    Binary(&'a [u8]),
}

/// The one text of which a payload consists.
#[must_use]
pub fn text(payload: &[u8]) -> Option<&str> {
    let (length, rest) = payload.split_first_chunk::<4>()?;
    let fits = usize::try_from(i32::from_be_bytes(*length)).is_ok_and(|n| n == rest.len());
    std::str::from_utf8(rest).ok().filter(|_| fits)
}

/// Whether a text is one JSON value.
#[must_use]
pub fn is_json(text: &str) -> bool {
    let first = text.trim_start().bytes().next();
    first.is_some_and(|b| matches!(b, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'))
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Appends a JSON text as it is, so that no number and no member changes, but on one line.
pub fn put_json(out: &mut Vec<u8>, json: &str) {
    // Line ends in JSON stand between values only: within a string they are escaped.
    out.extend(json.trim().bytes().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { b }));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;

    fn record(code: i16, payload: &[u8]) -> Vec<u8> {
        [&code.to_be_bytes()[..], payload].concat()
    }

    fn text_of(s: &str) -> Vec<u8> {
        [&(s.len() as i32).to_be_bytes()[..], s.as_bytes()].concat()
    }

    #[test]
    fn payloads_are_told_apart() {
        let decode = |v: &[u8]| format!("{:?}", Operation::of(v).decode());
        assert_eq!(decode(&record(0, &text_of("10036"))), "Json(\"10036\")");
        assert_eq!(decode(&record(12001, &text_of("{\"t\":37}"))), "Json(\"{\\\"t\\\":37}\")");
        assert_eq!(decode(&record(2, &text_of("db 1"))), "Text(\"db 1\")");
        assert_eq!(decode(&record(2, &text_of(""))), "Text(\"\")");
        assert_eq!(decode(&record(70, &5i64.to_be_bytes())), "Number(5)");
        assert_eq!(decode(&record(10, &[0, 0, 0, 9, 1])), "Binary([0, 0, 0, 9, 1])");
        assert_eq!(decode(&record(10, &[0, 0, 0, 1, 0xff])), "Binary([0, 0, 0, 1, 255])");
        assert_eq!(decode(&[7]), "Binary([7])");
        assert_eq!(Operation::of(&[7]).code, None);
    }

    #[test]
    fn json_is_written_as_it_is() {
        let mut out = Vec::new();
        put_json(&mut out, " {\"a\":1e400,\r\n\"a\":12345678901234567890123}\n");
        assert_eq!(String::from_utf8(out).unwrap(), "{\"a\":1e400,  \"a\":12345678901234567890123}");
    }
}
