//! Bitshuffle under LZ4, the encoding of fixed-width values and of null maps.
//!
//! A stream holds `n` elements of `e` bytes in blocks of `max(128, 8192 / e rounded down to 8)` elements, then one
//! block of the remaining multiple of eight, then what is left as it is. A block is
//!
//! ```text
//! u32 BIG-endian compressed length | LZ4 block of n*e bytes
//! ```
//! and those bytes are a matrix of bits: row `r` of `n/8` bytes holds bit `r % 8` of byte `r / 8` of every element,
//! element `i` at bit `i % 8` of byte `i / 8`. Source: `be/src/util/bitshuffle`, `bshuf_compress_lz4`.

use recovery_core::Cursor;

use super::fault::Fault;

const WHAT: &str = "bitshuffle stream";

/// Elements of a full block.
#[must_use]
pub const fn block_elements(width: usize) -> usize {
    let Some(n) = 8192usize.checked_div(width) else { return 128 };
    let n = n & !7;
    if n < 128 { 128 } else { n }
}

/// Decodes `count` elements of `width` bytes and appends them to `out`; returns how many bytes of the stream were used.
///
/// # Errors
///
/// When the stream is too short for the elements or a block does not decompress to its size.
pub fn decode(stream: &[u8], count: usize, width: usize, out: &mut Vec<u8>) -> Result<usize, Fault> {
    let mut c = Cursor::new(stream, 0);
    let full = block_elements(width);
    let (mut plane, mut matrix) = (Vec::new(), Vec::new());
    let mut left = count;
    // Each block needs its length word and at least one byte in 255 of its output.
    let floor = (count.saturating_mul(width) / 256).min(count);
    if floor > stream.len() {
        return Err(Fault::short(WHAT, 0, floor as u64, stream.len() as u64));
    }
    while left >= 8 {
        let n = if left >= full { full } else { left & !7 };
        let size = n.saturating_mul(width);
        let at = c.offset();
        let len = c.u32_be(WHAT)?;
        let block = c.take(usize::try_from(len).unwrap_or(usize::MAX), WHAT)?;
        matrix.resize(size, 0);
        let got = lz4_flex::block::decompress_into(block, &mut matrix)
            .map_err(|e| Fault::value(WHAT, at, format!("LZ4: {e}")))?;
        if got != size {
            return Err(Fault::value(WHAT, at, format!("a block of {n} elements gave {got} bytes, expected {size}")));
        }
        let start = out.len();
        out.resize(start.saturating_add(size), 0);
        if let Some(to) = out.get_mut(start..) {
            untranspose(&matrix, n, width, &mut plane, to);
        }
        left = left.saturating_sub(n);
    }
    let tail = c.take(left.saturating_mul(width), WHAT)?;
    out.extend_from_slice(tail);
    Ok(stream.len().saturating_sub(c.remaining()))
}

/// Encodes elements of `width` bytes, the inverse of [`decode`].
#[must_use]
pub fn encode(elements: &[u8], width: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let full = block_elements(width);
    let mut rest = elements;
    while let Some(n) = rest.len().checked_div(width).filter(|n| *n >= 8) {
        let n = if n >= full { full } else { n & !7 };
        let Some((block, after)) = rest.split_at_checked(n.saturating_mul(width)) else { break };
        let packed = lz4_flex::block::compress(&transpose(block, n, width));
        out.extend_from_slice(&u32::try_from(packed.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&packed);
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}

fn transpose(block: &[u8], n: usize, width: usize) -> Vec<u8> {
    let row = n / 8;
    let mut out = vec![0u8; block.len()];
    for (i, element) in block.chunks_exact(width).enumerate() {
        for (j, byte) in element.iter().enumerate() {
            for bit in 0..8usize {
                let at = j.saturating_mul(8).saturating_add(bit).saturating_mul(row).saturating_add(i / 8);
                if let Some(cell) = out.get_mut(at) {
                    *cell |= ((byte >> bit) & 1) << (i % 8);
                }
            }
        }
    }
    out
}

/// Exchanges the bits of `mask << shift` in `a` with those of `mask` in `b`.
#[inline(always)]
const fn exchange(a: u64, b: u64, shift: u32, mask: u64) -> (u64, u64) {
    let t = ((a >> shift) ^ b) & mask;
    (a ^ (t << shift), b ^ t)
}

/// Transposes eight words seen as 8x8 cells of `1 << level` bits, repeated over the word.
macro_rules! transpose8 {
    ($w:ident, $s:expr, $m:expr) => {{
        let [a, b, c, d, e, f, g, h] = $w;
        let (s4, s2, s1): (u32, u32, u32) = $s;
        let (m4, m2, m1): (u64, u64, u64) = $m;
        let (a, e) = exchange(a, e, s4, m4);
        let (b, f) = exchange(b, f, s4, m4);
        let (c, g) = exchange(c, g, s4, m4);
        let (d, h) = exchange(d, h, s4, m4);
        let (a, c) = exchange(a, c, s2, m2);
        let (b, d) = exchange(b, d, s2, m2);
        let (e, g) = exchange(e, g, s2, m2);
        let (f, h) = exchange(f, h, s2, m2);
        let (a, b) = exchange(a, b, s1, m1);
        let (c, d) = exchange(c, d, s1, m1);
        let (e, f) = exchange(e, f, s1, m1);
        let (g, h) = exchange(g, h, s1, m1);
        [a, b, c, d, e, f, g, h]
    }};
}

/// In each byte lane: bit `i` of word `b` goes to bit `b` of word `i`.
#[inline(always)]
const fn bits8(w: [u64; 8]) -> [u64; 8] {
    transpose8!(w, (4, 2, 1), (0x0F0F_0F0F_0F0F_0F0F, 0x3333_3333_3333_3333, 0x5555_5555_5555_5555))
}

/// Byte `i` of word `k` goes to byte `k` of word `i`.
#[inline(always)]
const fn bytes8(w: [u64; 8]) -> [u64; 8] {
    transpose8!(w, (32, 16, 8), (0x0000_0000_FFFF_FFFF, 0x0000_FFFF_0000_FFFF, 0x00FF_00FF_00FF_00FF))
}

/// Up to eight bytes as a word.
fn load(bytes: &[u8]) -> u64 {
    let mut word = [0u8; 8];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// One byte of every element, from the eight rows that hold its bits.
fn plane_of(rows: &[u8], row: usize, out: &mut [u8]) {
    let mut split = rows.chunks_exact(row);
    let mut next = || split.next().unwrap_or_default();
    let rows = [next(), next(), next(), next(), next(), next(), next(), next()];
    let [a, b, c, d, e, f, g, h] = rows.map(|row| row.as_chunks::<8>().0.iter());
    let octets = a.zip(b).zip(c.zip(d)).zip(e.zip(f).zip(g.zip(h)));
    let (full, rest) = out.as_chunks_mut::<64>();
    for ((((a, b), (c, d)), ((e, f), (g, h))), to) in octets.zip(full) {
        let words = bytes8(bits8([a, b, c, d, e, f, g, h].map(|w| u64::from_le_bytes(*w))));
        for (cell, word) in to.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *cell = word.to_le_bytes();
        }
    }
    if rest.is_empty() {
        return;
    }
    let words = bytes8(bits8(rows.map(|row| load(row.as_chunks::<8>().1))));
    for (cell, word) in rest.chunks_mut(8).zip(words) {
        let bytes = word.to_le_bytes();
        if let Some(from) = bytes.get(..cell.len()) {
            cell.copy_from_slice(from);
        }
    }
}

/// The elements of a block from its matrix of bits; `n` is a multiple of eight.
fn untranspose(matrix: &[u8], n: usize, width: usize, planes: &mut Vec<u8>, out: &mut [u8]) {
    let row = n / 8;
    if width == 1 {
        return plane_of(matrix, row, out);
    }
    planes.resize(matrix.len(), 0);
    for (rows, plane) in matrix.chunks_exact(n).zip(planes.chunks_exact_mut(n)) {
        plane_of(rows, row, plane);
    }
    match width {
        2 => interleave2(planes, n, out),
        4 => interleave4(planes, n, out),
        8 | 16 | 32 => {
            let group = n.saturating_mul(8);
            for (part, planes) in planes.chunks_exact(group).enumerate() {
                interleave8(planes, n, width, part.saturating_mul(8), out);
            }
        }
        _ => {
            for (j, plane) in planes.chunks_exact(n).enumerate() {
                for (byte, element) in plane.iter().zip(out.chunks_exact_mut(width)) {
                    if let Some(cell) = element.get_mut(j) {
                        *cell = *byte;
                    }
                }
            }
        }
    }
}

fn interleave2(planes: &[u8], n: usize, out: &mut [u8]) {
    let Some((a, b)) = planes.split_at_checked(n) else { return };
    for ((a, b), to) in a.iter().zip(b).zip(out.as_chunks_mut::<2>().0) {
        *to = [*a, *b];
    }
}

fn interleave4(planes: &[u8], n: usize, out: &mut [u8]) {
    let Some((ab, cd)) = planes.split_at_checked(n.saturating_mul(2)) else { return };
    let (Some((a, b)), Some((c, d))) = (ab.split_at_checked(n), cd.split_at_checked(n)) else { return };
    let cells = a.iter().zip(b).zip(c.iter().zip(d));
    for (((a, b), (c, d)), to) in cells.zip(out.as_chunks_mut::<4>().0) {
        *to = [*a, *b, *c, *d];
    }
}

/// Bytes `first..first + 8` of every element of `width` bytes, a multiple of eight.
fn interleave8(planes: &[u8], n: usize, width: usize, first: usize, out: &mut [u8]) {
    let mut split = planes.chunks_exact(n);
    let mut next = || split.next().unwrap_or_default().as_chunks::<8>().0.iter();
    let (a, b, c, d, e, f, g, h) = (next(), next(), next(), next(), next(), next(), next(), next());
    let octets = a.zip(b).zip(c.zip(d)).zip(e.zip(f).zip(g.zip(h)));
    let (step, first) = (width / 8, first / 8);
    let words = out.as_chunks_mut::<8>().0;
    for ((((a, b), (c, d)), ((e, f), (g, h))), to) in octets.zip(words.chunks_exact_mut(width)) {
        let words = bytes8([a, b, c, d, e, f, g, h].map(|w| u64::from_le_bytes(*w)));
        for (cell, word) in to.iter_mut().skip(first).step_by(step).zip(words) {
            *cell = word.to_le_bytes();
        }
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
    fn every_width_and_length_comes_back() {
        let mut seed = 7u64;
        let mut byte = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed.to_le_bytes().last().copied().unwrap_or(0)
        };
        for width in [1usize, 2, 3, 4, 8, 12, 16, 32] {
            for count in [0usize, 1, 7, 8, 9, 63, 64, 72, 128, 136, 1000, 4104, 9001] {
                let data: Vec<u8> = (0..count * width).map(|_| byte()).collect();
                let stream = encode(&data, width);
                let mut out = Vec::new();
                let used = decode(&stream, count, width, &mut out).unwrap();
                assert_eq!((used, &out), (stream.len(), &data), "{width} {count}");
                if count > 0 {
                    assert!(decode(&stream[..stream.len() - 1], count, width, &mut Vec::new()).is_err());
                }
            }
        }
    }
}
