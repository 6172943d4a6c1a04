//! A bounded window over bytes that knows its place in the file.
//!
//! Every decoder in the workspace reads through a [`Cursor`]: it never reads past its window, and its one error,
//! [`Short`], names the field and the place. A decoder that fails works on a clone, so the caller's cursor still
//! stands where it stood and a scanner can look for the next record.

/// The bytes ended before the field did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: need {need} bytes at {at:#x}, have {have}")]
pub struct Short {
    /// Name of the field that was being read.
    pub field: &'static str,
    /// Offset of the field in the whole object.
    pub at: u64,
    /// Bytes the field needs.
    pub need: u64,
    /// Bytes that are left.
    pub have: u64,
}

/// A variable-length integer could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VarintError {
    /// The bytes ended inside the number.
    #[error(transparent)]
    Short(#[from] Short),
    /// The number does not fit its type.
    #[error("{field}: the variable-length number at {at:#x} does not fit {bits} bits")]
    TooLong {
        /// Name of the field that was being read.
        field: &'static str,
        /// Offset of the number in the whole object.
        at: u64,
        /// Width of the type it was read into.
        bits: u32,
    },
}

/// A position in a window of bytes.
///
/// ```
/// use recovery_core::Cursor;
/// let mut c = Cursor::new(&[1, 0, 0, 0, 7], 0x1000);
/// assert_eq!(c.u32_le("kind").unwrap(), 1);
/// assert_eq!(c.offset(), 0x1004);
/// let short = c.u32_le("length").unwrap_err();
/// assert_eq!(short.to_string(), "length: need 4 bytes at 0x1004, have 1");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    at: u64,
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident: $ty:ty = $from:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// When fewer bytes are left.
        #[inline]
        pub fn $name(&mut self, field: &'static str) -> Result<$ty, Short> {
            self.array(field).map(<$ty>::$from)
        }
    )*};
}

impl<'a> Cursor<'a> {
    /// A cursor over `bytes`, whose first byte lies at `base` in the whole object.
    #[must_use]
    pub const fn new(bytes: &'a [u8], base: u64) -> Self {
        Self { rest: bytes, at: base }
    }

    /// Offset of the next byte in the whole object.
    #[inline]
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.at
    }

    /// Number of bytes left in the window.
    #[inline]
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether the window is used up.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left, without moving.
    #[inline]
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[cold]
    fn short(&self, field: &'static str, need: usize) -> Short {
        Short { field, at: self.at, need: need as u64, have: self.rest.len() as u64 }
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    ///
    /// When fewer bytes are left; the cursor then has not moved.
    #[inline]
    pub fn take(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], Short> {
        let Some((head, tail)) = self.rest.split_at_checked(n) else { return Err(self.short(field, n)) };
        self.rest = tail;
        self.at = self.at.saturating_add(n as u64);
        Ok(head)
    }

    /// The next `n` bytes, `n` being a number read from the input.
    ///
    /// # Errors
    ///
    /// When fewer bytes are left, also when `n` does not fit the machine.
    #[inline]
    pub fn take_u64(&mut self, n: u64, field: &'static str) -> Result<&'a [u8], Short> {
        match usize::try_from(n) {
            Ok(n) => self.take(n, field),
            Err(_) => Err(Short { field, at: self.at, need: n, have: self.rest.len() as u64 }),
        }
    }

    /// A cursor over the next `n` bytes; this one moves behind them.
    ///
    /// # Errors
    ///
    /// When fewer bytes are left.
    #[inline]
    pub fn window(&mut self, n: usize, field: &'static str) -> Result<Cursor<'a>, Short> {
        let at = self.at;
        Ok(Cursor::new(self.take(n, field)?, at))
    }

    /// Moves over `n` bytes.
    ///
    /// # Errors
    ///
    /// When fewer bytes are left.
    #[inline]
    pub fn skip(&mut self, n: usize, field: &'static str) -> Result<(), Short> {
        self.take(n, field).map(drop)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    ///
    /// When fewer bytes are left.
    #[inline]
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Short> {
        let Some((head, tail)) = self.rest.split_first_chunk::<N>() else { return Err(self.short(field, N)) };
        self.rest = tail;
        self.at = self.at.saturating_add(N as u64);
        Ok(*head)
    }

    /// The next byte without moving.
    #[inline]
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fixed! {
        /// One byte.
        u8: u8 = from_le_bytes;
        /// One signed byte.
        i8: i8 = from_le_bytes;
        /// A 16-bit little-endian number.
        u16_le: u16 = from_le_bytes;
        /// A 32-bit little-endian number.
        u32_le: u32 = from_le_bytes;
        /// A 64-bit little-endian number.
        u64_le: u64 = from_le_bytes;
        /// A signed 16-bit little-endian number.
        i16_le: i16 = from_le_bytes;
        /// A signed 32-bit little-endian number.
        i32_le: i32 = from_le_bytes;
        /// A signed 64-bit little-endian number.
        i64_le: i64 = from_le_bytes;
        /// A signed 128-bit little-endian number.
        i128_le: i128 = from_le_bytes;
        /// A 32-bit little-endian floating-point number.
        f32_le: f32 = from_le_bytes;
        /// A 64-bit little-endian floating-point number.
        f64_le: f64 = from_le_bytes;
        /// A 16-bit big-endian number.
        u16_be: u16 = from_be_bytes;
        /// A 32-bit big-endian number.
        u32_be: u32 = from_be_bytes;
        /// A 64-bit big-endian number.
        u64_be: u64 = from_be_bytes;
        /// A signed 16-bit big-endian number.
        i16_be: i16 = from_be_bytes;
        /// A signed 32-bit big-endian number.
        i32_be: i32 = from_be_bytes;
        /// A signed 64-bit big-endian number.
        i64_be: i64 = from_be_bytes;
    }

    /// A LEB128 number of at most 32 bits.
    ///
    /// # Errors
    ///
    /// When the bytes end inside it, or it does not fit; the cursor then has not moved.
    #[inline]
    pub fn varint32(&mut self, field: &'static str) -> Result<u32, VarintError> {
        let mut c = *self;
        let wide = c.varint64(field)?;
        let narrow = u32::try_from(wide).map_err(|_| VarintError::TooLong { field, at: self.at, bits: 32 })?;
        *self = c;
        Ok(narrow)
    }

    /// A LEB128 number of at most 64 bits.
    ///
    /// # Errors
    ///
    /// When the bytes end inside it, or it does not fit; the cursor then has not moved.
    #[inline]
    pub fn varint64(&mut self, field: &'static str) -> Result<u64, VarintError> {
        // Most numbers take one byte.
        if let Some(byte) = self.rest.first().filter(|byte| **byte < 0x80) {
            let value = u64::from(*byte);
            self.skip(1, field)?;
            return Ok(value);
        }
        let mut value = 0u64;
        for (i, &byte) in self.rest.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if i == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * i);
            if byte & 0x80 == 0 {
                self.skip(i + 1, field)?;
                return Ok(value);
            }
        }
        if self.rest.len() < 10 {
            return Err(self.short(field, self.rest.len() + 1).into());
        }
        Err(VarintError::TooLong { field, at: self.at, bits: 64 })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failed_read_does_not_move() {
        let mut c = Cursor::new(&[1, 2, 3], 10);
        assert_eq!(c.u64_le("x"), Err(Short { field: "x", at: 10, need: 8, have: 3 }));
        assert_eq!(c.offset(), 10);
        assert_eq!(c.u16_be("y").unwrap(), 0x0102);
        assert_eq!((c.offset(), c.remaining()), (12, 1));
    }

    #[test]
    fn varints_end_where_they_must() {
        let mut c = Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 9], 0);
        assert_eq!(c.varint64("n").unwrap(), u64::MAX);
        assert_eq!(c.u8("next").unwrap(), 9);
        let mut over = Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], 0);
        assert!(matches!(over.varint64("n"), Err(VarintError::TooLong { bits: 64, .. })));
        let mut wide = Cursor::new(&[0x80, 0x80, 0x80, 0x80, 0x10], 0);
        assert!(matches!(wide.varint32("n"), Err(VarintError::TooLong { bits: 32, .. })));
        assert_eq!(wide.remaining(), 5);
        assert!(matches!(Cursor::new(&[0x80], 0).varint64("n"), Err(VarintError::Short(_))));
    }

    #[test]
    fn a_length_from_the_input_is_compared_before_it_is_used() {
        let mut c = Cursor::new(&[0; 4], 0);
        assert_eq!(c.take_u64(u64::MAX, "body").unwrap_err().need, u64::MAX);
    }
}
