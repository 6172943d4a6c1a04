//! BITMAP values (stored type OBJECT).
//!
//! ```text
//! u8 kind: 0 empty, 1 u32, 2 Roaring (portable), 3 u64, 4 varint n, n x (u32 high half, Roaring portable),
//!          10 u32 n, n x u64; 12 and 13 are 2 and 4 with CRoaring's native form
//! ```
//! Source: `be/src/types/bitmap_value_detail.h`, `bitmap_value.cpp`.

use recovery_core::Cursor;
use roaring::{RoaringBitmap, RoaringTreemap};

use super::super::fault::Fault;
use super::super::roaring::{native, portable};

const WHAT: &str = "BITMAP value";

/// A decoded BITMAP value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BitmapValue {
    members: RoaringTreemap,
}

impl BitmapValue {
    /// Decodes a stored value.
    ///
    /// # Errors
    ///
    /// When the kind is unknown or the length does not fit it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let mut c = Cursor::new(bytes, 0);
        let mut members = RoaringTreemap::new();
        let kind = c.u8(WHAT)?;
        match kind {
            0 => {}
            1 => drop(members.insert(u64::from(c.u32_le(WHAT)?))),
            3 => drop(members.insert(c.u64_le(WHAT)?)),
            2 | 12 => {
                let map = one(&mut c, kind == 12)?;
                if !map.is_empty() {
                    members = RoaringTreemap::from_bitmaps([(0, map)]);
                }
            }
            4 | 13 => {
                let n = c.varint64(WHAT)?;
                for _ in 0..n {
                    let high = c.u32_le(WHAT)?;
                    let map = one(&mut c, kind == 13)?;
                    if !map.is_empty() {
                        members |= RoaringTreemap::from_bitmaps([(high, map)]);
                    }
                }
            }
            10 => {
                let n = c.u32_le(WHAT)?;
                for _ in 0..n {
                    members.insert(c.u64_le(WHAT)?);
                }
            }
            other => return Err(Fault::value(WHAT, 0, format!("kind {other}"))),
        }
        if !c.is_empty() {
            return Err(Fault::value(WHAT, c.offset(), format!("{} bytes behind the value", c.remaining())));
        }
        Ok(Self { members })
    }

    /// Encodes the value in the portable form that every version reads.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let last = self.members.max();
        let wide = last.is_some_and(|m| m > u64::from(u32::MAX));
        // Writing to a vector cannot fail.
        let put = |out: &mut Vec<u8>, map: &RoaringBitmap| drop(map.serialize_into(out));
        match (self.members.len(), last) {
            (0, _) | (_, None) => out.push(0),
            (1, Some(only)) => match u32::try_from(only) {
                Ok(only) => {
                    out.push(1);
                    out.extend_from_slice(&only.to_le_bytes());
                }
                Err(_) => {
                    out.push(3);
                    out.extend_from_slice(&only.to_le_bytes());
                }
            },
            _ if !wide => {
                out.push(2);
                self.members.bitmaps().for_each(|(_, map)| put(&mut out, map));
            }
            _ => {
                out.push(4);
                let mut n = self.members.bitmaps().count();
                while n >= 0x80 {
                    out.push(n.to_le_bytes()[0] | 0x80);
                    n >>= 7;
                }
                out.push(n.to_le_bytes()[0]);
                for (high, map) in self.members.bitmaps() {
                    out.extend_from_slice(&high.to_le_bytes());
                    put(&mut out, map);
                }
            }
        }
        out
    }

    /// Adds the members of `other`.
    pub fn union(&mut self, other: &Self) {
        self.members |= &other.members;
    }

    /// Number of members.
    #[must_use]
    pub fn cardinality(&self) -> u64 {
        self.members.len()
    }

    /// Members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.members.iter()
    }
}

fn one(c: &mut Cursor<'_>, is_native: bool) -> Result<RoaringBitmap, Fault> {
    let decode = if is_native { native } else { portable };
    let (map, used) = decode(c.rest(), WHAT, c.offset())?;
    c.skip(used, WHAT)?;
    Ok(map)
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
    fn every_kind() {
        for members in [vec![], vec![7], vec![1 << 40], vec![1, 2, 90_000], vec![3, 1 << 33, u64::MAX]] {
            let value = BitmapValue { members: members.iter().copied().collect() };
            let bytes = value.encode();
            let back = BitmapValue::decode(&bytes).unwrap();
            assert_eq!(back.iter().collect::<Vec<_>>(), members);
            assert!(BitmapValue::decode(&bytes[..bytes.len() - 1]).is_err());
        }
        let set = [10, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(BitmapValue::decode(&set).unwrap().iter().collect::<Vec<_>>(), [1, 9]);
        let native = [12, 1, 1, 0, 0, 0, 5, 0, 0, 0];
        assert_eq!(BitmapValue::decode(&native).unwrap().iter().collect::<Vec<_>>(), [5]);
        assert!(BitmapValue::decode(&[99]).is_err());
    }
}
