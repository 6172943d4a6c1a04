//! Encodings of fixed-width values: plain, bit shuffled and frames of reference.

use recovery_core::Cursor;

use super::bitshuffle;
use super::fault::{Fault, Why};

/// Fixed-width values, little-endian as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fixed {
    /// Bytes of a value.
    pub width: usize,
    /// Values back to back.
    pub bytes: Vec<u8>,
}

impl Fixed {
    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len().checked_div(self.width).unwrap_or(0)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Puts a zero at every place where `present` has no bit; `None` when the numbers of bits and values differ.
    #[cfg(feature = "arrow")]
    #[must_use]
    pub fn spread(&self, present: &arrow::buffer::BooleanBuffer) -> Option<Self> {
        let mut bytes = vec![0; present.len().checked_mul(self.width)?];
        let mut source = self.bytes.chunks_exact(self.width);
        for (has, to) in present.iter().zip(bytes.chunks_exact_mut(self.width)) {
            if has {
                to.copy_from_slice(source.next()?);
            }
        }
        source.next().is_none().then_some(Self { width: self.width, bytes })
    }
}

/// Decodes a PLAIN page: `u32 LE count`, then the values.
///
/// # Errors
///
/// When the page is too short.
pub fn decode_plain(body: &[u8], width: usize) -> Result<Fixed, Fault> {
    const WHAT: &str = "plain page";
    let mut c = Cursor::new(body, 0);
    let count = c.u32_le(WHAT)? as usize;
    let bytes = c.take(count.saturating_mul(width), WHAT)?.to_vec();
    Ok(Fixed { width, bytes })
}

/// Decodes a BIT_SHUFFLE page of values of `width` bytes.
///
/// The header is `u32 count, u32 total size with header, u32 count rounded up to 8, u32 element size`; the stream
/// holds the rounded number of elements (`be/src/storage/rowset/bitshuffle_page.h`).
///
/// # Errors
///
/// When the header contradicts itself or `width`, the values would take more than `limit` bytes, or the stream is damaged.
pub fn decode_bit_shuffle(body: &[u8], width: usize, limit: usize) -> Result<Fixed, Fault> {
    const WHAT: &str = "bit shuffle page";
    let mut c = Cursor::new(body, 0);
    let count = c.u32_le(WHAT)? as usize;
    let total = c.u32_le(WHAT)? as usize;
    let rounded = c.u32_le(WHAT)? as usize;
    let stored = c.u32_le(WHAT)? as usize;
    if total > body.len() || total < 16 {
        return Err(Fault::value(WHAT, 4, format!("{total} bytes in a body of {}", body.len())));
    }
    if rounded != count.saturating_add(7) & !7 {
        return Err(Fault::value(WHAT, 8, format!("{rounded} elements for {count} values")));
    }
    // The engine stores unsigned numbers that are small in fewer bytes.
    let narrowed = width == 4 && matches!(stored, 1 | 2);
    if stored != width && !narrowed {
        return Err(Fault::value(WHAT, 12, format!("elements of {stored} bytes, expected {width}")));
    }
    let need = rounded.saturating_mul(width);
    if need > limit {
        return Err(Fault {
            what: WHAT,
            page: None,
            at: 0,
            why: Why::Limit { need: need as u64, limit: limit as u64 },
        });
    }
    let mut bytes = Vec::new();
    bitshuffle::decode(body.get(16..total).unwrap_or_default(), rounded, stored, &mut bytes).map_err(|mut f| {
        f.at = f.at.saturating_add(16);
        f
    })?;
    bytes.truncate(count.saturating_mul(stored));
    if narrowed {
        bytes = widen(&bytes, stored, width);
    }
    Ok(Fixed { width, bytes })
}

fn widen(bytes: &[u8], from: usize, to: usize) -> Vec<u8> {
    let count = bytes.len().checked_div(from).unwrap_or(0);
    let mut out = vec![0; count.saturating_mul(to)];
    for (value, cell) in bytes.chunks_exact(from).zip(out.chunks_exact_mut(to)) {
        if let Some(low) = cell.get_mut(..from) {
            low.copy_from_slice(value);
        }
    }
    out
}

/// Encodes a BIT_SHUFFLE page.
#[must_use]
pub fn encode_bit_shuffle(values: &[u8], width: usize) -> Vec<u8> {
    let count = values.len().checked_div(width).unwrap_or(0);
    let rounded = count.saturating_add(7) & !7;
    let mut padded = values.to_vec();
    padded.resize(rounded.saturating_mul(width), 0);
    let stream = bitshuffle::encode(&padded, width);
    let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let mut out = Vec::with_capacity(stream.len().saturating_add(16));
    for n in [count, stream.len().saturating_add(16), rounded, width] {
        out.extend_from_slice(&word(n));
    }
    out.extend_from_slice(&stream);
    out
}

/// Decodes a FOR page of signed integers of `width` bytes.
///
/// ```text
/// frames | (u8 storage format, u8 bit width) per frame | u8 values per frame | u32 LE count
/// frame: minimum in `width` bytes | values of `bit width` bits, most significant first
/// ```
/// Storage format 0 adds the minimum to each value, 1 sums the values up from the minimum, 2 takes them as they are.
/// Source: `be/src/util/frame_of_reference_coding.cpp`.
///
/// # Errors
///
/// When the frames do not fit their description.
pub fn decode_frames(body: &[u8], width: usize) -> Result<Fixed, Fault> {
    const WHAT: &str = "frame of reference page";
    if !matches!(width, 1..=4 | 8 | 16) {
        return Err(Fault::unsupported(WHAT, 0, format!("values of {width} bytes")));
    }
    let len = body.len();
    let Some(tail) = len.checked_sub(5) else { return Err(Fault::short(WHAT, 0, 5, len as u64)) };
    let mut c = Cursor::new(body.get(tail..).unwrap_or_default(), tail as u64);
    let per_frame = usize::from(c.u8(WHAT)?);
    let count = c.u32_le(WHAT)? as usize;
    if count == 0 {
        return Ok(Fixed { width, bytes: Vec::new() });
    }
    if per_frame == 0 {
        return Err(Fault::value(WHAT, tail as u64, "frames of 0 values"));
    }
    let frames = count.div_ceil(per_frame);
    let Some(table) = frames.checked_mul(2).and_then(|n| tail.checked_sub(n)) else {
        return Err(Fault::short(WHAT, tail as u64, frames as u64, tail as u64));
    };
    let mut descriptions = Cursor::new(body.get(table..tail).unwrap_or_default(), table as u64);
    let mut c = Cursor::new(body.get(..table).unwrap_or_default(), 0);
    let mut bytes = Vec::new();
    let mut left = count;
    for _ in 0..frames {
        let at = descriptions.offset();
        let (format, bits) = (descriptions.u8(WHAT)?, usize::from(descriptions.u8(WHAT)?));
        if bits > width.saturating_mul(8).max(if width == 3 { 32 } else { 0 }) {
            return Err(Fault::value(WHAT, at, format!("values of {bits} bits in a type of {width} bytes")));
        }
        let n = left.min(per_frame);
        left = left.saturating_sub(n);
        let first = if width == 3 { 4 } else { width };
        // A frame of 3-byte values is not proven on real bytes; the engine computes with four.
        let minimum = signed(c.take(if width == 3 { width } else { first }, WHAT)?);
        let packed = c.take(n.saturating_mul(bits).div_ceil(8), WHAT)?;
        let mut reader = Bits { bytes: packed, at: 0 };
        let mut running = minimum;
        for _ in 0..n {
            let delta = reader.take(bits);
            let value = match format {
                0 => minimum.wrapping_add(delta),
                1 => {
                    running = running.wrapping_add(delta);
                    running
                }
                2 => delta,
                other => return Err(Fault::value(WHAT, at, format!("storage format {other}"))),
            };
            bytes.extend_from_slice(value.to_le_bytes().get(..width).unwrap_or_default());
        }
    }
    Ok(Fixed { width, bytes })
}

/// A signed little-endian number of up to 16 bytes.
#[must_use]
pub fn signed(bytes: &[u8]) -> i128 {
    let negative = bytes.last().is_some_and(|b| *b >= 0x80);
    let mut out = if negative { [0xFF; 16] } else { [0; 16] };
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    i128::from_le_bytes(out)
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, bits: usize) -> i128 {
        let mut value = 0u128;
        for _ in 0..bits {
            let byte = self.bytes.get(self.at / 8).copied().unwrap_or(0);
            value = (value << 1) | u128::from((byte >> (7 - self.at % 8)) & 1);
            self.at = self.at.saturating_add(1);
        }
        value.cast_signed()
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
    fn frames_of_each_kind() {
        // values per frame 4: [5,6,8,8] as deltas to 5 with 2 bits, then [100,101] ascending with 1 bit
        let mut page = Vec::new();
        page.extend_from_slice(&5i32.to_le_bytes());
        page.push(0b0001_1111);
        page.extend_from_slice(&100i32.to_le_bytes());
        page.push(0b0100_0000);
        page.extend_from_slice(&[0, 2, 1, 1, 4]);
        page.extend_from_slice(&6u32.to_le_bytes());
        let got = decode_frames(&page, 4).unwrap();
        let values: Vec<i128> = got.bytes.chunks(4).map(signed).collect();
        assert_eq!(values, [5, 6, 8, 8, 100, 101]);
        assert!(decode_frames(&page[1..], 4).is_err());
    }

    #[test]
    fn bit_shuffle_comes_back_and_bounds_hold() {
        let values: Vec<u8> = (0..40u8).collect();
        let page = encode_bit_shuffle(&values, 4);
        assert_eq!(decode_bit_shuffle(&page, 4, 1000).unwrap().bytes, values);
        assert!(decode_bit_shuffle(&page, 8, 1000).is_err());
        assert!(decode_bit_shuffle(&page, 4, 8).is_err());
    }
}
