//! Java's `DataInput`/`DataOutput` primitives as the front end uses them: big-endian numbers and `Text` (a 32-bit
//! byte length, then UTF-8). Source: `common/io/Text.java`.

use recovery_core::Cursor;
use serde_json::Value;

use super::FormatError;

/// Reads values in order; every error says where.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Reader<'a> {
    /// Over `bytes`, whose first byte lies at `base` in the file.
    #[must_use]
    pub const fn new(bytes: &'a [u8], base: u64) -> Self {
        Self { cursor: Cursor::new(bytes, base) }
    }

    /// Where the next value stands.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.cursor.offset()
    }

    /// Bytes left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.cursor.remaining()
    }

    /// The same reader `n` bytes on.
    pub(crate) fn skipped(&self, n: usize) -> Option<Self> {
        let mut cursor = self.cursor;
        cursor.skip(n, "skipped").ok()?;
        Some(Self { cursor })
    }

    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool, FormatError> {
        let at = self.offset();
        match self.cursor.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(FormatError::new(field, at, format!("a boolean is 0 or 1, found {other}"))),
        }
    }

    pub(crate) fn i16(&mut self, field: &'static str) -> Result<i16, FormatError> {
        Ok(self.cursor.i16_be(field)?)
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, FormatError> {
        Ok(self.cursor.i32_be(field)?)
    }

    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, FormatError> {
        Ok(self.cursor.i64_be(field)?)
    }

    pub(crate) fn f64(&mut self, field: &'static str) -> Result<f64, FormatError> {
        Ok(f64::from_bits(self.cursor.u64_be(field)?))
    }

    /// A count of items of at least `least` bytes each; refused when they cannot fit into what is left.
    pub(crate) fn count(&mut self, field: &'static str, least: usize) -> Result<usize, FormatError> {
        let at = self.offset();
        let n = self.i32(field)?;
        let bound = self.remaining() / least.max(1);
        usize::try_from(n).ok().filter(|n| *n <= bound).ok_or_else(|| {
            FormatError::new(field, at, format!("a count of {n} does not fit the {} bytes left", self.remaining()))
        })
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, FormatError> {
        let at = self.offset();
        let n = self.count(field, 1)?;
        let bytes = self.cursor.take(n, field)?;
        std::str::from_utf8(bytes).map_err(|_| FormatError::new(field, at, "not UTF-8"))
    }

    pub(crate) fn json(&mut self, field: &'static str) -> Result<Value, FormatError> {
        let at = self.offset();
        let text = self.text(field)?;
        serde_json::from_str(text).map_err(|e| FormatError::new(field, at, format!("not JSON: {e}")))
    }
}

/// Writes values in order.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(crate) fn bool(&mut self, v: bool) {
        self.out.push(u8::from(v));
    }
    pub(crate) fn i16(&mut self, v: i16) {
        self.out.extend_from_slice(&v.to_be_bytes());
    }
    pub(crate) fn i32(&mut self, v: i32) {
        self.out.extend_from_slice(&v.to_be_bytes());
    }
    pub(crate) fn i64(&mut self, v: i64) {
        self.out.extend_from_slice(&v.to_be_bytes());
    }
    pub(crate) fn f64(&mut self, v: f64) {
        self.out.extend_from_slice(&v.to_bits().to_be_bytes());
    }
    pub(crate) fn count(&mut self, n: usize) -> Result<(), FormatError> {
        let n = i32::try_from(n)
            .map_err(|_| FormatError::new("count", self.out.len() as u64, "more items than 32 bits hold"))?;
        self.i32(n);
        Ok(())
    }
    pub(crate) fn text(&mut self, text: &str) -> Result<(), FormatError> {
        self.count(text.len())?;
        self.out.extend_from_slice(text.as_bytes());
        Ok(())
    }
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), FormatError> {
        self.text(&value.to_string())
    }
    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }
}
