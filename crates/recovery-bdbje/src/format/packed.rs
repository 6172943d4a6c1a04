//! The primitive encodings.
//!
//! | name | bytes |
//! |---|---|
//! | packed number | one signed byte `b` when -119 <= b <= 119; otherwise `abs(b) - 119` further bytes, little-endian, to which 119 is added; the sign is that of `b` |
//! | byte array | packed length, then the bytes; -1 is null |
//! | packed LSN | packed 64-bit number; null is the byte `ff` |
//! | tuple int, long | big-endian with the top bit flipped, so that bytes sort as numbers |
//! | tuple string | modified UTF-8, then `00` |
//!
//! Upstream: `util/PackedInteger`, `log/LogUtils`, `bind/tuple/TupleInput` and `TupleOutput`.

use recovery_core::Cursor;

use super::{FormatError, Lsn, Result};

const EDGE: i64 = 119;

/// A packed number of at most 64 bits.
///
/// # Errors
///
/// When the bytes end inside it.
#[inline]
pub fn long(c: &mut Cursor<'_>, field: &'static str) -> Result<i64> {
    let b = i64::from(c.i8(field)?);
    if (-EDGE..=EDGE).contains(&b) {
        return Ok(b);
    }
    let n = usize::try_from(b.unsigned_abs()).unwrap_or(usize::MAX).saturating_sub(119);
    let bytes = c.take(n, field)?;
    let m = bytes.iter().rev().fold(0u64, |m, &x| (m << 8) | u64::from(x)).cast_signed();
    Ok(if b > 0 { m.wrapping_add(EDGE) } else { m.wrapping_neg().wrapping_sub(EDGE) })
}

/// A packed number of at most 32 bits.
///
/// # Errors
///
/// When the bytes end inside it or the number is wider.
#[inline]
pub fn int(c: &mut Cursor<'_>, field: &'static str) -> Result<i32> {
    let at = c.offset();
    let wide = long(c, field)?;
    i32::try_from(wide).map_err(|_| FormatError::Invalid { field, at, found: wide })
}

/// A count that cannot exceed the bytes that are left, each item taking at least `min` bytes.
///
/// # Errors
///
/// When it is negative or larger than the rest could hold.
#[inline]
pub fn count(c: &mut Cursor<'_>, min: usize, field: &'static str) -> Result<usize> {
    let at = c.offset();
    let n = long(c, field)?;
    let max = c.remaining() / min.max(1);
    match usize::try_from(n) {
        Ok(u) if u <= max => Ok(u),
        _ => Err(FormatError::Invalid { field, at, found: n }),
    }
}

/// A byte array; `None` is null.
///
/// # Errors
///
/// When the length is below -1 or the bytes end before.
#[inline]
pub fn bytes<'a>(c: &mut Cursor<'a>, field: &'static str) -> Result<Option<&'a [u8]>> {
    let at = c.offset();
    match long(c, field)? {
        -1 => Ok(None),
        n if n >= 0 => Ok(Some(c.take_u64(n.unsigned_abs(), field)?)),
        n => Err(FormatError::Invalid { field, at, found: n }),
    }
}

/// A packed LSN.
///
/// # Errors
///
/// When the bytes end inside it.
#[inline]
pub fn lsn(c: &mut Cursor<'_>, field: &'static str) -> Result<Lsn> {
    Ok(Lsn(long(c, field)?.cast_unsigned()))
}

/// Appends a packed number, in the fewest bytes, as JE does.
pub fn put_long(out: &mut Vec<u8>, v: i64) {
    if (-EDGE..=EDGE).contains(&v) {
        out.push(low_byte(v));
        return;
    }
    let m = if v > 0 { v.wrapping_sub(EDGE) } else { v.wrapping_add(EDGE).wrapping_neg() }.cast_unsigned();
    let n = (8 - usize::try_from(m.leading_zeros() / 8).unwrap_or(0)).max(1);
    let lead = EDGE.wrapping_add(i64::try_from(n).unwrap_or(8));
    out.push(low_byte(if v > 0 { lead } else { lead.wrapping_neg() }));
    out.extend(m.to_le_bytes().into_iter().take(n));
}

/// The two's-complement low byte.
#[inline]
fn low_byte(v: i64) -> u8 {
    let [b, ..] = v.to_le_bytes();
    b
}

/// Appends a length or count.
pub fn put_len(out: &mut Vec<u8>, n: usize) {
    put_long(out, i64::try_from(n).unwrap_or(i64::MAX));
}

/// Appends a byte array; `None` is null.
pub fn put_bytes(out: &mut Vec<u8>, v: Option<&[u8]>) {
    match v {
        None => put_long(out, -1),
        Some(b) => {
            put_len(out, b.len());
            out.extend_from_slice(b);
        }
    }
}

/// Appends a packed LSN.
pub fn put_lsn(out: &mut Vec<u8>, v: Lsn) {
    put_long(out, v.0.cast_signed());
}

/// Splits a two-part key: *first || second || length of first*, the length being a packed number written back to
/// front, so that it is read from the last byte on.
///
/// # Errors
///
/// When the length is not one the bytes can hold.
pub fn split_two_part(whole: &[u8]) -> Result<(&[u8], &[u8])> {
    let (first, size) = reverse(whole)?;
    let rest = whole.len().checked_sub(size).and_then(|end| whole.get(..end)).unwrap_or_default();
    usize::try_from(first).ok().and_then(|n| rest.split_at_checked(n)).ok_or(FormatError::Invalid {
        field: "length of the first part of a two-part key",
        at: 0,
        found: first,
    })
}

fn reverse(whole: &[u8]) -> Result<(i64, usize)> {
    let bad = |found| FormatError::Invalid { field: "packed number written back to front", at: 0, found };
    let (&last, before) = whole.split_last().ok_or_else(|| bad(0))?;
    let b = i64::from(last.cast_signed());
    if (-EDGE..=EDGE).contains(&b) {
        return Ok((b, 1));
    }
    let n = usize::try_from(b.unsigned_abs()).unwrap_or(usize::MAX).saturating_sub(119);
    let bytes = before.len().checked_sub(n).and_then(|s| before.get(s..)).filter(|_| n <= 8).ok_or_else(|| bad(b))?;
    let m = bytes.iter().fold(0u64, |m, &x| (m << 8) | u64::from(x)).cast_signed();
    Ok((if b > 0 { m.wrapping_add(EDGE) } else { m.wrapping_neg().wrapping_sub(EDGE) }, n + 1))
}

/// Joins two parts as [`split_two_part`] takes them apart.
#[must_use]
pub fn join_two_part(first: &[u8], second: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(first.len().saturating_add(second.len()).saturating_add(5));
    out.extend_from_slice(first);
    out.extend_from_slice(second);
    let mut len = Vec::with_capacity(5);
    put_len(&mut len, first.len());
    out.extend(len.iter().rev());
    out
}

/// Reads a tuple int.
///
/// # Errors
///
/// When the bytes end inside it.
pub fn tuple_int(c: &mut Cursor<'_>, field: &'static str) -> Result<i32> {
    Ok((c.u32_be(field)? ^ 0x8000_0000).cast_signed())
}

/// Reads a tuple long.
///
/// # Errors
///
/// When the bytes end inside it.
pub fn tuple_long(c: &mut Cursor<'_>, field: &'static str) -> Result<i64> {
    Ok((c.u64_be(field)? ^ (1 << 63)).cast_signed())
}

/// Reads a tuple string, `None` when it is the null string.
///
/// # Errors
///
/// When no terminator follows.
pub fn tuple_string(c: &mut Cursor<'_>, field: &'static str) -> Result<Option<String>> {
    let rest = c.rest();
    if let [0xff, 0, ..] = rest {
        c.skip(2, field)?;
        return Ok(None);
    }
    let end = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
    let text = String::from_utf8_lossy(c.take(end, field)?).into_owned();
    c.skip(1, field)?;
    Ok(Some(text))
}

/// Appends a tuple int.
pub fn put_tuple_int(out: &mut Vec<u8>, v: i32) {
    out.extend_from_slice(&(v.cast_unsigned() ^ 0x8000_0000).to_be_bytes());
}

/// Appends a tuple long.
pub fn put_tuple_long(out: &mut Vec<u8>, v: i64) {
    out.extend_from_slice(&(v.cast_unsigned() ^ (1 << 63)).to_be_bytes());
}

/// Appends a tuple string.
pub fn put_tuple_string(out: &mut Vec<u8>, v: &str) {
    out.extend_from_slice(v.as_bytes());
    out.push(0);
}

/// The number in an 8-byte sortable key, as journal databases use them.
#[must_use]
pub fn long_key(key: &[u8]) -> Option<i64> {
    let b: [u8; 8] = key.try_into().ok()?;
    Some((u64::from_be_bytes(b) ^ (1 << 63)).cast_signed())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_as_the_specification_writes_them() {
        let enc = |v| {
            let mut o = Vec::new();
            put_long(&mut o, v);
            o
        };
        assert_eq!(enc(119), [119]);
        assert_eq!(enc(120), [0x78, 1]);
        assert_eq!(enc(-120), [0x88, 1]);
        assert_eq!(enc(0x10001), [0x79, 0x8a, 0xff]);
        assert_eq!(enc(128), [0x78, 0x09]);
        assert_eq!(enc(-257), [0x88, 0x8a]);
        assert_eq!(enc(Lsn::NULL.0.cast_signed()), [0xff]);
    }

    #[test]
    fn a_packed_number_at_the_edge_of_its_type() {
        for v in [i64::MAX, i64::MIN, i64::MIN + 1, -119, 119, 0, 1 << 32] {
            let mut o = Vec::new();
            put_long(&mut o, v);
            assert_eq!(long(&mut Cursor::new(&o, 0), "n").unwrap(), v);
        }
    }

    proptest! {
        #[test]
        fn packed_numbers_come_back(v in any::<i64>(), shift in 0u32..63) {
            let v = v >> shift;
            let mut o = Vec::new();
            put_long(&mut o, v);
            let mut c = Cursor::new(&o, 0);
            prop_assert_eq!(long(&mut c, "n").unwrap(), v);
            prop_assert!(c.is_empty());
        }

        #[test]
        fn two_part_keys_come_back(a in proptest::collection::vec(any::<u8>(), 0..400), b in proptest::collection::vec(any::<u8>(), 0..40)) {
            let whole = join_two_part(&a, &b);
            prop_assert_eq!(split_two_part(&whole).unwrap(), (&a[..], &b[..]));
        }

        #[test]
        fn two_part_keys_never_panic(a in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = split_two_part(&a);
        }
    }
}
