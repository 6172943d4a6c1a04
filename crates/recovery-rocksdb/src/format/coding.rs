//! The primitive encodings under every RocksDB structure.
//!
//! | name          | encoding                                                        |
//! | ------------- | --------------------------------------------------------------- |
//! | fixed16/32/64 | little-endian                                                   |
//! | varint32/64   | LEB128, low group first, at most 5 / 10 bytes                   |
//! | zig-zag       | `(n << 1) ^ (n >> 63)`, then varint64                           |
//! | lenstr        | varint32 length, then that many bytes                           |
//!
//! Upstream: `util/coding.h`, `util/coding.cc`.
//!
//! These functions are the inner loop of every scan: they work on plain slices, return the value and the number of
//! bytes it took, and say `None` for a short or overlong encoding. Structures with named fields are decoded through
//! [`recovery_core::Cursor`], whose errors carry the place.

/// Decodes a varint32 at the head of `bytes`: the value and the bytes it took.
///
/// `None` when the encoding is cut, longer than five bytes, or does not fit 32 bits.
#[inline]
#[must_use]
pub fn varint32(bytes: &[u8]) -> Option<(u32, usize)> {
    match bytes {
        [a, ..] if *a < 0x80 => Some((u32::from(*a), 1)),
        [a, b, ..] if *b < 0x80 => Some((u32::from(*a & 0x7f) | u32::from(*b) << 7, 2)),
        _ => {
            let (value, used) = varint64(bytes)?;
            if used > 5 {
                return None;
            }
            Some((u32::try_from(value).ok()?, used))
        }
    }
}

/// Decodes a varint64 at the head of `bytes`: the value and the bytes it took.
///
/// `None` when the encoding is cut, longer than ten bytes, or does not fit 64 bits.
#[inline]
#[must_use]
pub fn varint64(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        let group = u64::from(byte & 0x7f);
        if index == 9 && group > 1 {
            return None;
        }
        value |= group << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// Undoes the zig-zag step of a signed varint.
#[inline]
#[must_use]
pub fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ (value & 1).cast_signed().wrapping_neg()
}

/// Splits a length-prefixed string off the head of `bytes`: the string and what follows it.
#[inline]
#[must_use]
pub fn lenstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, used) = varint32(bytes)?;
    bytes.get(used..)?.split_at_checked(usize::try_from(length).ok()?)
}

/// The fixed32 at the head of `bytes`.
#[inline]
#[must_use]
pub fn fixed32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<4>().map(|b| u32::from_le_bytes(*b))
}

/// The fixed64 at the head of `bytes`.
#[inline]
#[must_use]
pub fn fixed64(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b))
}

/// Appends a varint64 (a varint32 has the same bytes).
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends a zig-zag varint.
pub fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, (value << 1 ^ value >> 63).cast_unsigned());
}

/// Appends a length-prefixed string.
pub fn put_lenstr(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Lowercase hexadecimal, the form of binary values in dumps and messages.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len().saturating_mul(2));
    put_hex(&mut out, bytes);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends lowercase hexadecimal.
pub fn put_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: [[u8; 2]; 256] = hex_table();
    out.reserve(bytes.len().saturating_mul(2));
    for byte in bytes {
        if let Some(pair) = DIGITS.get(usize::from(*byte)) {
            out.extend_from_slice(pair);
        }
    }
}

#[allow(clippy::indexing_slicing)] // evaluated at compile time: an index out of range would not build
const fn hex_table() -> [[u8; 2]; 256] {
    let digits = b"0123456789abcdef";
    let mut table = [[0_u8; 2]; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = [digits[i >> 4], digits[i & 15]];
        i += 1;
    }
    table
}

/// Reads lowercase or uppercase hexadecimal.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    bytes.chunks_exact(2).map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn overlong_and_cut_varints_are_refused() {
        assert_eq!(varint64(&[0x80; 11]), None);
        assert_eq!(varint64(&[0xff, 0xff]), None);
        assert_eq!(varint64(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]), None);
        assert_eq!(varint64(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), Some((u64::MAX, 10)));
        assert_eq!(varint32(&[0xff, 0xff, 0xff, 0xff, 0x1f]), None);
        assert_eq!(varint32(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Some((u32::MAX, 5)));
        assert_eq!(varint32(&[]), None);
    }

    proptest! {
        #[test]
        fn varints_come_back(value: u64, signed: i64, tail: Vec<u8>) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let used = out.len();
            out.extend_from_slice(&tail);
            prop_assert_eq!(varint64(&out), Some((value, used)));
            prop_assert_eq!(varint32(&out), u32::try_from(value).ok().map(|v| (v, used)));
            out.clear();
            put_zigzag(&mut out, signed);
            prop_assert_eq!(zigzag(varint64(&out).unwrap().0), signed);
        }

        #[test]
        fn strings_come_back(value: Vec<u8>, tail: Vec<u8>) {
            let mut out = Vec::new();
            put_lenstr(&mut out, &value);
            out.extend_from_slice(&tail);
            prop_assert_eq!(lenstr(&out), Some((&value[..], &tail[..])));
            prop_assert_eq!(unhex(&hex(&value)), Some(value));
        }
    }
}
