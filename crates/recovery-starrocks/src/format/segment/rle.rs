//! The hybrid of runs and bit-packed groups that Parquet uses too.
//!
//! ```text
//! varint h, h even: h/2 copies of one value, stored in ceil(width/8) bytes
//! varint h, h odd:  (h/2)*8 values of `width` bits, least significant bit first
//! ```
//! Only bit width 1 occurs in segments (BOOLEAN values and null maps). Source: `be/src/util/rle_encoding.h`.

use arrow::array::BooleanBufferBuilder;
use arrow::buffer::BooleanBuffer;
use recovery_core::Cursor;

use super::fault::Fault;

const WHAT: &str = "run-length stream";

/// Decodes `count` bits.
///
/// # Errors
///
/// When the stream ends before `count` bits, or a run is empty or no bit.
pub fn decode_bits(stream: &[u8], count: usize) -> Result<BooleanBuffer, Fault> {
    let mut c = Cursor::new(stream, 0);
    // Memory grows with the bits decoded, an eighth of a byte each; a run costs nothing in the stream.
    let mut out = BooleanBufferBuilder::new(count.min(1 << 20));
    while out.len() < count {
        let at = c.offset();
        let left = count.saturating_sub(out.len());
        let header = c.varint32(WHAT)?;
        let n = usize::try_from(header >> 1).unwrap_or(usize::MAX);
        if n == 0 {
            return Err(Fault::value(WHAT, at, "an empty run"));
        }
        if header & 1 == 0 {
            let value = c.u8(WHAT)?;
            if value > 1 {
                return Err(Fault::value(WHAT, at, format!("the value {value} does not fit one bit")));
            }
            out.append_n(n.min(left), value == 1);
        } else {
            // The writer may have cut the last group short.
            let bytes = c.take(n.min(left.div_ceil(8)), WHAT)?;
            let bits = left.min(bytes.len().saturating_mul(8));
            out.append_packed_range(0..bits, bytes);
        }
    }
    Ok(out.finish())
}

/// Encodes bits as bit-packed groups only.
#[must_use]
pub fn encode_bits(bits: &[bool]) -> Vec<u8> {
    let mut out = Vec::new();
    if bits.is_empty() {
        return out;
    }
    let groups = bits.len().div_ceil(8);
    let mut header = (groups << 1) | 1;
    while header >= 0x80 {
        out.push(header.to_le_bytes()[0] | 0x80);
        header >>= 7;
    }
    out.push(header.to_le_bytes()[0]);
    for group in bits.chunks(8) {
        out.push(group.iter().enumerate().fold(0, |byte, (i, bit)| byte | (u8::from(*bit) << i)));
    }
    out
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
    fn runs_and_groups() {
        // 10 zeros, then one group 0b00000101, then 3 ones
        let stream = [20, 0, 3, 5, 6, 1];
        let bits: Vec<bool> = decode_bits(&stream, 21).unwrap().iter().collect();
        let mut want = vec![false; 10];
        want.extend([true, false, true, false, false, false, false, false, true, true, true]);
        assert_eq!(bits, want);
        assert!(decode_bits(&stream, 22).is_err());
        assert!(decode_bits(&[0, 0], 1).is_err());
        assert!(decode_bits(&[4, 2], 1).is_err());
    }

    #[test]
    fn a_run_claims_no_more_than_asked() {
        let bits = decode_bits(&[0xFE, 0xFF, 0xFF, 0xFF, 0x0F, 1], 3).unwrap();
        assert_eq!(bits.len(), 3);
    }
}
