//! The checksum of every PFS structure: the CRC-32C polynomial, started at `0xFFFF_FFFE`
//! (not `0xFFFF_FFFF`), without a final inversion.
//!
//! Two ways of use: over a whole structure with its checksum field taken as zero ([`of_struct`]),
//! and over the bytes before the field ([`of_prefix`], the leader record only).
//! Source: `pfs_util.cc`, `crc32c` and `crc32c_compute`.

use std::collections::HashMap;

/// `crc32c_append` works on inverted registers, so the inverse of the start value goes in.
const START: u32 = !0xFFFF_FFFE;

/// Checksum over `bytes` as they are.
#[must_use]
pub fn of_prefix(bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(START, bytes)
}

/// Checksum over `bytes` with the four bytes at `field` taken as zero.
#[must_use]
#[inline]
pub fn of_struct(bytes: &[u8], field: usize) -> u32 {
    const COPIED: usize = 256;
    let mut copy = [0; COPIED];
    if let Some(whole) = copy.get_mut(..bytes.len()) {
        // One run over a copy is cheaper than three short ones; every structure on the disk fits.
        whole.copy_from_slice(bytes);
        if let Some(stored) = whole.get_mut(field..field.saturating_add(4)) {
            stored.fill(0);
            return !crc32c::crc32c_append(START, whole);
        }
    }
    let (before, rest) = bytes.split_at_checked(field).unwrap_or((bytes, &[]));
    let after = rest.get(4..).unwrap_or(&[]);
    let crc = crc32c::crc32c_append(START, before);
    !crc32c::crc32c_append(crc32c::crc32c_append(crc, &[0; 4]), after)
}

/// Which single bit must be turned to make a structure agree with its checksum.
///
/// A checksum is linear: turning bit `b` changes it by a value that depends on `b` alone, so the
/// difference between the stored and the computed checksum names the bit. CRC-32C has a Hamming
/// distance of at least four at these lengths, so the answer is unique if one bit is wrong; bytes
/// that are wrong all over look like one wrong bit once in some millions.
#[derive(Debug)]
pub struct Corrector {
    bits: HashMap<u32, usize>,
}

impl Corrector {
    /// For structures of `len` bytes whose checksum field at `field` is taken as zero.
    #[must_use]
    pub fn of_struct(len: usize, field: usize) -> Self {
        let free = |byte: usize| byte < field || byte >= field.saturating_add(4);
        let mut this = Self::over(len, free);
        this.add_field(field);
        this
    }

    /// For structures whose checksum stands at `len`, behind the bytes that it covers.
    #[must_use]
    pub fn of_prefix(len: usize) -> Self {
        let mut this = Self::over(len, |_| true);
        this.add_field(len);
        this
    }

    fn over(len: usize, covered: impl Fn(usize) -> bool) -> Self {
        let mut bits = HashMap::new();
        let mut probe = vec![0u8; len];
        for byte in (0..len).filter(|b| covered(*b)) {
            for bit in 0..8 {
                if let Some(b) = probe.get_mut(byte) {
                    *b = 1 << bit;
                }
                bits.insert(!crc32c::crc32c_append(!0, &probe), byte * 8 + bit);
            }
            if let Some(b) = probe.get_mut(byte) {
                *b = 0;
            }
        }
        Self { bits }
    }

    /// A wrong bit in the checksum field itself shows as a difference of that one bit.
    fn add_field(&mut self, field: usize) {
        for bit in 0..32 {
            self.bits.insert(1 << bit, field * 8 + bit);
        }
    }

    /// The bit (counted from the first byte, least significant first) whose turning explains the
    /// difference, or `None` when no single bit does.
    #[must_use]
    pub fn bit(&self, stored: u32, computed: u32) -> Option<usize> {
        self.bits.get(&(stored ^ computed)).copied()
    }

    /// Turns that bit in `bytes`.
    #[must_use]
    pub fn correct<const N: usize>(&self, bytes: &[u8; N], stored: u32, computed: u32) -> Option<([u8; N], usize)> {
        let bit = self.bit(stored, computed)?;
        let mut fixed = *bytes;
        let byte = fixed.get_mut(bit / 8)?;
        *byte ^= 1 << (bit % 8);
        Some((fixed, bit))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_bitwise_definition() {
        let data = b"PolarDB file system";
        let mut register = 0xFFFF_FFFEu32;
        for byte in data {
            register ^= u32::from(*byte);
            for _ in 0..8 {
                register = if register & 1 == 1 { register >> 1 ^ 0x82F6_3B78 } else { register >> 1 };
            }
        }
        assert_eq!(of_prefix(data), register);
    }

    #[test]
    fn every_single_bit_is_found_again() {
        let corrector = Corrector::of_struct(128, 36);
        let mut good: [u8; 128] = std::array::from_fn(|i| u8::try_from(i * 7 % 251).unwrap());
        let crc = of_struct(&good, 36);
        good[36..40].copy_from_slice(&crc.to_le_bytes());
        for bit in 0..128 * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            let stored = u32::from_le_bytes(bad[36..40].try_into().unwrap());
            let (fixed, at) = corrector.correct(&bad, stored, of_struct(&bad, 36)).unwrap();
            assert_eq!((fixed, at), (good, bit));
        }
    }

    #[test]
    fn two_wrong_bits_are_not_mistaken_for_one() {
        let corrector = Corrector::of_struct(128, 36);
        let good = [0u8; 128];
        let crc = of_struct(&good, 36);
        for (a, b) in [(0, 1), (5, 900), (511, 512), (40, 1023)] {
            let mut bad = good;
            bad[a / 8] ^= 1 << (a % 8);
            bad[b / 8] ^= 1 << (b % 8);
            assert_eq!(corrector.bit(crc, of_struct(&bad, 36)), None);
        }
    }
}
