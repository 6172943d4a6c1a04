//! HLL values.
//!
//! ```text
//! u8 kind: 0 empty
//!          1 explicit: u8 n, n x u64 hashes
//!          2 sparse:   u32 n, n x (u16 register, u8 value)
//!          3 full:     16384 register bytes
//! ```
//! Source: `be/src/types/hll.cpp`, `HyperLogLog::deserialize`.

use std::collections::{BTreeMap, BTreeSet};

use recovery_core::Cursor;

use super::super::fault::Fault;

/// Registers of the sketch.
pub const REGISTERS: usize = 16_384;

/// Bits of a hash that choose its register.
const PRECISION: u32 = 14;

/// Hashes that the explicit form may hold.
const EXPLICIT: usize = 160;

/// Registers beyond which the full form is written.
const SPARSE: usize = 4_096;

/// A decoded HLL value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hll {
    /// The hashes themselves, few of them.
    Explicit(BTreeSet<u64>),
    /// Registers that are not zero.
    Registers(BTreeMap<u16, u8>),
}

const WHAT: &str = "HLL value";

impl Hll {
    /// Decodes a stored value.
    ///
    /// # Errors
    ///
    /// When the kind is unknown or the length does not fit it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let mut c = Cursor::new(bytes, 0);
        let hll = match c.u8(WHAT)? {
            0 => Self::Explicit(BTreeSet::new()),
            1 => {
                let n = c.u8(WHAT)?;
                let mut hashes = BTreeSet::new();
                for _ in 0..n {
                    hashes.insert(c.u64_le(WHAT)?);
                }
                Self::Explicit(hashes)
            }
            2 => {
                let n = c.u32_le(WHAT)?;
                let mut registers = BTreeMap::new();
                for _ in 0..n {
                    let at = c.offset();
                    let (register, value) = (c.u16_le(WHAT)?, c.u8(WHAT)?);
                    if usize::from(register) >= REGISTERS {
                        return Err(Fault::value(WHAT, at, format!("register {register} of {REGISTERS}")));
                    }
                    if value != 0 {
                        registers.insert(register, value);
                    }
                }
                Self::Registers(registers)
            }
            3 => {
                let all = c.take(REGISTERS, WHAT)?;
                let kept = (0u16..).zip(all).filter(|(_, value)| **value != 0);
                Self::Registers(kept.map(|(register, value)| (register, *value)).collect())
            }
            other => return Err(Fault::value(WHAT, 0, format!("kind {other}"))),
        };
        if !c.is_empty() {
            return Err(Fault::value(WHAT, c.offset(), format!("{} bytes behind the value", c.remaining())));
        }
        Ok(hll)
    }

    /// Encodes the value in the form the engine would choose.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Explicit(hashes) if hashes.is_empty() => vec![0],
            Self::Explicit(hashes) => {
                let mut out = vec![1, u8::try_from(hashes.len()).unwrap_or(u8::MAX)];
                hashes.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
                out
            }
            Self::Registers(registers) if registers.len() <= SPARSE => {
                let mut out = vec![2];
                out.extend_from_slice(&u32::try_from(registers.len()).unwrap_or(u32::MAX).to_le_bytes());
                for (register, value) in registers {
                    out.extend_from_slice(&register.to_le_bytes());
                    out.push(*value);
                }
                out
            }
            Self::Registers(registers) => {
                let mut out = vec![3];
                out.extend((0u16..).take(REGISTERS).map(|r| registers.get(&r).copied().unwrap_or(0)));
                out
            }
        }
    }

    /// Adds everything `other` has seen.
    pub fn union(&mut self, other: &Self) {
        if let (Self::Explicit(mine), Self::Explicit(theirs)) = (&mut *self, other) {
            mine.extend(theirs);
            if mine.len() <= EXPLICIT {
                return;
            }
        }
        let mut registers = self.registers();
        for (register, value) in other.registers() {
            let cell = registers.entry(register).or_insert(0);
            *cell = (*cell).max(value);
        }
        *self = Self::Registers(registers);
    }

    fn registers(&self) -> BTreeMap<u16, u8> {
        match self {
            Self::Registers(registers) => registers.clone(),
            Self::Explicit(hashes) => {
                let mut registers = BTreeMap::new();
                for hash in hashes {
                    let register = u16::try_from(hash % REGISTERS as u64).unwrap_or(0);
                    let rest = (hash >> PRECISION) | (1 << (u64::BITS - PRECISION));
                    let value = u8::try_from(rest.trailing_zeros().saturating_add(1)).unwrap_or(u8::MAX);
                    let cell = registers.entry(register).or_insert(0);
                    *cell = value.max(*cell);
                }
                registers
            }
        }
    }

    /// Estimate of the number of distinct values, exact for the explicit form.
    #[must_use]
    pub fn cardinality(&self) -> u64 {
        let Self::Registers(registers) = self else {
            return match self {
                Self::Explicit(hashes) => hashes.len() as u64,
                Self::Registers(_) => 0,
            };
        };
        let m = REGISTERS as f64;
        let zeros = REGISTERS.saturating_sub(registers.values().filter(|v| **v != 0).count()) as f64;
        let sum: f64 = zeros + registers.values().filter(|v| **v != 0).map(|v| 2f64.powi(-i32::from(*v))).sum::<f64>();
        let alpha = 0.7213 / (1.0 + 1.079 / m);
        let raw = alpha * m * m / sum;
        let estimate = if raw <= m * 2.5 && zeros != 0.0 {
            m * (m / zeros).ln()
        } else if raw < 72_000.0 {
            let bias = 5.9119e-18 * raw.powi(4) - 1.4253e-12 * raw.powi(3) + 1.2940e-7 * raw.powi(2) - 5.2921e-3 * raw
                + 83.3216;
            raw - raw * (bias / 100.0)
        } else {
            raw
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, saturating")]
        let rounded = (estimate + 0.5) as u64;
        rounded
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

    fn mix(i: u64) -> u64 {
        let x = (i ^ (i >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9).wrapping_add(i << 17);
        (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) ^ (x >> 31)
    }

    #[test]
    fn union_grows_through_the_forms() {
        let of = |range: std::ops::Range<u64>| Hll::Explicit(range.map(|i| mix(i + 1)).collect());
        let mut all = of(0..100);
        all.union(&of(50..150));
        assert_eq!(all.cardinality(), 150);
        assert_eq!(Hll::decode(&all.encode()).unwrap(), all);
        for i in 1..200 {
            all.union(&of(i * 100..i * 100 + 100));
        }
        let estimate = all.cardinality() as f64;
        assert!((estimate - 20_000.0).abs() < 1_000.0, "{estimate}");
        assert_eq!(Hll::decode(&all.encode()).unwrap(), all);
        assert!(Hll::decode(&[4]).is_err());
        assert!(Hll::decode(&[1, 2, 0]).is_err());
    }
}
