//! Roaring bitmaps in the forms the engine stores.
//!
//! The portable form is read by the `roaring` crate. CRoaring's native form, used by bitmap indexes and by the newer
//! BITMAP values, has one leading byte: 1 for a plain array (`u32 count`, then the numbers), 2 for the portable form.
//! Source: CRoaring `roaring_bitmap_serialize`.

use recovery_core::Cursor;
use roaring::RoaringBitmap;

use super::fault::Fault;

/// Decodes the portable form from the front of `bytes`; returns how many bytes it took.
///
/// # Errors
///
/// When the bytes are no such bitmap.
pub fn portable(bytes: &[u8], what: &'static str, at: u64) -> Result<(RoaringBitmap, usize), Fault> {
    let mut rest = bytes;
    let map =
        RoaringBitmap::deserialize_from(&mut rest).map_err(|e| Fault::value(what, at, format!("Roaring: {e}")))?;
    Ok((map, bytes.len().saturating_sub(rest.len())))
}

/// Decodes CRoaring's native form; returns how many bytes it took.
///
/// # Errors
///
/// When the bytes are no such bitmap.
pub fn native(bytes: &[u8], what: &'static str, at: u64) -> Result<(RoaringBitmap, usize), Fault> {
    let mut c = Cursor::new(bytes, at);
    match c.u8(what)? {
        1 => {
            let count = c.u32_le(what)? as usize;
            let numbers = c.take(count.saturating_mul(4), what)?;
            let map = numbers.as_chunks::<4>().0.iter().map(|n| u32::from_le_bytes(*n)).collect();
            Ok((map, bytes.len().saturating_sub(c.remaining())))
        }
        2 => portable(c.rest(), what, at.saturating_add(1)).map(|(map, n)| (map, n.saturating_add(1))),
        other => Err(Fault::value(what, at, format!("bitmap form {other}"))),
    }
}

/// A primary-key delete vector: byte 1, then (if anything is deleted) a portable Roaring bitmap of row ordinals.
///
/// Source: `be/src/storage/del_vector.cpp`.
///
/// # Errors
///
/// When the form byte is not 1 or the bitmap is damaged.
pub fn delete_vector(bytes: &[u8]) -> Result<RoaringBitmap, Fault> {
    const WHAT: &str = "delete vector";
    let mut c = Cursor::new(bytes, 0);
    match c.u8(WHAT)? {
        1 if c.is_empty() => Ok(RoaringBitmap::new()),
        1 => {
            let (map, used) = portable(c.rest(), WHAT, 1)?;
            if used != c.remaining() {
                return Err(Fault::value(WHAT, used as u64, "bytes behind the bitmap"));
            }
            Ok(map)
        }
        other => Err(Fault::value(WHAT, 0, format!("form {other}, expected 1"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::cast_possible_truncation
    )]
    use super::*;

    #[test]
    fn both_native_forms() {
        let (map, used) = native(&[1, 2, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0, 77], "t", 0).unwrap();
        assert_eq!((map.iter().collect::<Vec<_>>(), used), (vec![5, 9], 13));
        let set: RoaringBitmap = (100..5000).collect();
        let mut bytes = vec![2];
        set.serialize_into(&mut bytes).unwrap();
        assert_eq!(native(&bytes, "t", 0).unwrap(), (set.clone(), bytes.len()));
        bytes[0] = 1;
        assert_eq!(delete_vector(&bytes).unwrap(), set);
        assert!(delete_vector(&bytes[..bytes.len() - 1]).is_err());
        assert!(delete_vector(&[1]).unwrap().is_empty());
        assert!(native(&[3], "t", 0).is_err());
    }
}
