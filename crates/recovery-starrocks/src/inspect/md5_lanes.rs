//! MD5 of several inputs at a time.
//!
//! One MD5 is a chain of 64 steps a block, each waiting for the one before, so that a core computes it far below what
//! it can do. Here eight inputs go through the steps side by side, one in each lane of a vector. Vectors are those every
//! x86-64 and ARM64 machine has; results are the ones of the md-5 crate, which tests compare with.

use wide::u32x8;

/// Inputs at a time.
pub(super) const LANES: usize = 8;

/// Bytes of a block.
pub(super) const BLOCK: usize = 64;

/// The state before the first block (RFC 1321, 3.3).
pub(super) const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// The additive constants of the 64 steps (RFC 1321, 3.4).
const K: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

type V = u32x8;

/// One block of every lane: word `i` of all of them is `m[i]`.
#[inline(always)]
fn block(state: [V; 4], m: &[V; 16]) -> [V; 4] {
    let [mut a, mut b, mut c, mut d] = state;
    macro_rules! step {
        ($f:expr, $k:expr, $g:expr, $s:literal) => {{
            let sum = a + $f + V::splat(K[$k]) + m[$g];
            let turned = (sum << $s) | (sum >> (32 - $s));
            (a, d, c, b) = (d, c, b, b + turned);
        }};
    }
    macro_rules! four {
        ($f:expr, $k:expr, [$g0:expr, $g1:expr, $g2:expr, $g3:expr], [$s0:literal, $s1:literal, $s2:literal, $s3:literal]) => {{
            step!($f, $k, $g0, $s0);
            step!($f, $k + 1, $g1, $s1);
            step!($f, $k + 2, $g2, $s2);
            step!($f, $k + 3, $g3, $s3);
        }};
    }
    macro_rules! f {
        () => {
            d ^ (b & (c ^ d))
        };
    }
    macro_rules! g {
        () => {
            c ^ (d & (b ^ c))
        };
    }
    macro_rules! h {
        () => {
            b ^ c ^ d
        };
    }
    macro_rules! i {
        () => {
            c ^ (b | !d)
        };
    }
    four!(f!(), 0, [0, 1, 2, 3], [7, 12, 17, 22]);
    four!(f!(), 4, [4, 5, 6, 7], [7, 12, 17, 22]);
    four!(f!(), 8, [8, 9, 10, 11], [7, 12, 17, 22]);
    four!(f!(), 12, [12, 13, 14, 15], [7, 12, 17, 22]);
    four!(g!(), 16, [1, 6, 11, 0], [5, 9, 14, 20]);
    four!(g!(), 20, [5, 10, 15, 4], [5, 9, 14, 20]);
    four!(g!(), 24, [9, 14, 3, 8], [5, 9, 14, 20]);
    four!(g!(), 28, [13, 2, 7, 12], [5, 9, 14, 20]);
    four!(h!(), 32, [5, 8, 11, 14], [4, 11, 16, 23]);
    four!(h!(), 36, [1, 4, 7, 10], [4, 11, 16, 23]);
    four!(h!(), 40, [13, 0, 3, 6], [4, 11, 16, 23]);
    four!(h!(), 44, [9, 12, 15, 2], [4, 11, 16, 23]);
    four!(i!(), 48, [0, 7, 14, 5], [6, 10, 15, 21]);
    four!(i!(), 52, [12, 3, 10, 1], [6, 10, 15, 21]);
    four!(i!(), 56, [8, 15, 6, 13], [6, 10, 15, 21]);
    four!(i!(), 60, [4, 11, 2, 9], [6, 10, 15, 21]);
    [state[0] + a, state[1] + b, state[2] + c, state[3] + d]
}

/// Runs the next blocks of every lane through its state; as many as the shortest input has whole.
pub(super) fn run(states: &mut [[u32; 4]; LANES], inputs: [&[u8]; LANES]) {
    let [a, b, c, d, e, f, g, h] = inputs.map(|i| i.as_chunks::<BLOCK>().0.iter());
    let words = std::array::from_fn(|w| states.map(|s| s.get(w).copied().unwrap_or(0)));
    let mut state: [V; 4] = words.map(V::new);
    let blocks = a.zip(b).zip(c.zip(d)).zip(e.zip(f).zip(g.zip(h)));
    for (((a, b), (c, d)), ((e, f), (g, h))) in blocks {
        let rows = [a, b, c, d, e, f, g, h].map(|x| x.as_chunks::<4>().0);
        let mut m = [V::ZERO; 16];
        for (i, to) in m.iter_mut().enumerate() {
            *to = V::new(rows.map(|r| r.get(i).map_or(0, |w| u32::from_le_bytes(*w))));
        }
        state = block(state, &m);
    }
    for (word, lanes) in state.map(|v| v.to_array()).iter().enumerate() {
        for (to, from) in states.iter_mut().zip(lanes) {
            if let Some(to) = to.get_mut(word) {
                *to = *from;
            }
        }
    }
}

/// The sum out of a last state.
pub(super) fn sum(state: [u32; 4]) -> [u8; 16] {
    let mut out = [0; 16];
    for (to, word) in out.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *to = word.to_le_bytes();
    }
    out
}

/// What follows the last whole block of an input: the rest of it and its length, in one block or two.
pub(super) fn ending(rest: &[u8], length: u64) -> Vec<u8> {
    let mut out = rest.to_vec();
    out.push(0x80);
    out.resize(out.len().saturating_add(8).next_multiple_of(BLOCK).saturating_sub(8), 0);
    out.extend_from_slice(&length.wrapping_mul(8).to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]
    use md5::{Digest as _, Md5};

    use super::*;

    #[test]
    fn lanes_agree_with_the_crate() {
        for length in (0..200u32).chain([1000, 4095, 4096, 4097, 70_001]) {
            let inputs: Vec<Vec<u8>> = (0..LANES)
                .map(|lane| (0..length).map(|i| i.wrapping_mul(31 + lane as u32).to_le_bytes()[1]).collect())
                .collect();
            let mut states = [START; LANES];
            run(&mut states, std::array::from_fn(|i| &inputs[i][..]));
            let last: Vec<Vec<u8>> =
                inputs.iter().map(|i| ending(&i[i.len() / BLOCK * BLOCK..], i.len() as u64)).collect();
            assert!(last.iter().all(|l| l.len() % BLOCK == 0));
            run(&mut states, std::array::from_fn(|i| &last[i][..]));
            for (input, state) in inputs.iter().zip(states) {
                assert_eq!(sum(state), <[u8; 16]>::from(Md5::digest(input)), "{length}");
            }
        }
    }
}
