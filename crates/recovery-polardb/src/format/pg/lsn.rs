//! Places in the write-ahead log: LSN, segment size, segment file names.
//!
//! Upstream: `src/include/access/xlogdefs.h`, `xlog_internal.h` (`XLogFileName`, `XLogFromFileName`).

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A byte position in the log since the cluster was made, written `hi/lo` in hexadecimal.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Whether the position is set at all (0/0 means "none" everywhere in PostgreSQL).
    #[must_use]
    pub const fn is_set(self) -> bool {
        self.0 != 0
    }

    /// First byte of the WAL page the position lies on.
    #[must_use]
    pub const fn page(self) -> Self {
        Self(self.0 & !(super::WAL_BLOCK as u64 - 1))
    }

    /// Offset in its WAL page.
    #[must_use]
    pub const fn in_page(self) -> u64 {
        self.0 & (super::WAL_BLOCK as u64 - 1)
    }

    /// The next position at which a record may begin.
    #[must_use]
    pub const fn align8(self) -> Self {
        Self(self.0.saturating_add(7) & !7)
    }

    /// The position `n` bytes on.
    #[must_use]
    pub const fn plus(self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Text that is not an LSN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an LSN (expected two hexadecimal numbers, as in 0/1E001F8)")]
pub struct NotAnLsn(pub String);

impl FromStr for Lsn {
    type Err = NotAnLsn;

    fn from_str(text: &str) -> Result<Self, NotAnLsn> {
        let half = |s: &str| {
            let fine = (1..=8).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_hexdigit());
            if fine { u32::from_str_radix(s, 16).ok() } else { None }
        };
        text.split_once('/')
            .and_then(|(hi, lo)| Some(Self(u64::from(half(hi)?) << 32 | u64::from(half(lo)?))))
            .ok_or_else(|| NotAnLsn(text.to_owned()))
    }
}

/// Size of a WAL segment file: a power of two from 1 MiB to 1 GiB.
///
/// PostgreSQL's default is 16 MiB, PolarDB's 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// PostgreSQL's default.
    pub const VANILLA: Self = Self(16 << 20);

    /// Accepts what the server accepts.
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= 1 << 20 && bytes <= 1 << 30 { Some(Self(bytes)) } else { None }
    }

    /// Size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0 as u64
    }

    /// Number of the segment that holds `lsn`.
    #[must_use]
    pub const fn number(self, lsn: Lsn) -> u64 {
        lsn.0 >> self.0.trailing_zeros()
    }

    /// Offset of `lsn` in its segment.
    #[must_use]
    pub const fn offset(self, lsn: Lsn) -> u64 {
        lsn.0 & (self.bytes() - 1)
    }

    /// First position of segment `number`; saturates for numbers no server can reach.
    #[must_use]
    pub const fn start(self, number: u64) -> Lsn {
        Lsn(number.saturating_mul(self.bytes()))
    }

    /// File name of segment `number` on timeline `tli`.
    #[must_use]
    pub fn name(self, tli: u32, number: u64) -> String {
        let per_id = 0x1_0000_0000 / self.bytes();
        format!("{tli:08X}{:08X}{:08X}", number / per_id, number % per_id)
    }

    /// Timeline and number of the segment called `name`; `None` for other names and for numbers impossible at this size.
    #[must_use]
    pub fn parse(self, name: &str) -> Option<(u32, u64)> {
        let (tli, log, seg) = parse_segment_name(name)?;
        let per_id = 0x1_0000_0000 / self.bytes();
        (u64::from(seg) < per_id).then(|| (tli, u64::from(log) * per_id + u64::from(seg)))
    }
}

/// The three numbers of a segment file name (timeline, log id, segment), whatever the segment size.
#[must_use]
pub fn parse_segment_name(name: &str) -> Option<(u32, u32, u32)> {
    let fine = name.len() == 24 && name.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    let part = |r: std::ops::Range<usize>| name.get(r).and_then(|p| u32::from_str_radix(p, 16).ok());
    if fine { Some((part(0..8)?, part(8..16)?, part(16..24)?)) } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_and_back() {
        let lsn: Lsn = "0/1E001F8".parse().unwrap();
        assert_eq!(lsn, Lsn(0x1e0_01f8));
        assert_eq!(lsn.to_string(), "0/1E001F8");
        assert_eq!(Lsn(u64::MAX).to_string(), "FFFFFFFF/FFFFFFFF");
        for bad in ["", "1", "/", "0/", "0/123456789", "x/1", "+1/2"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names() {
        let one = SegmentSize::new(1 << 20).unwrap();
        assert_eq!(one.name(1, 0x19), "000000010000000000000019");
        assert_eq!(one.parse("000000010000000100000FFF"), Some((1, 0x1fff)));
        assert_eq!(one.parse("000000010000000100001000"), None);
        assert_eq!(one.name(1, 0x1fff), "000000010000000100000FFF");
        let big = SegmentSize::new(1 << 30).unwrap();
        assert_eq!(big.name(3, 9), "000000030000000200000001");
        assert_eq!(big.number(Lsn(0x4080_ebe0)), 1);
        assert_eq!(SegmentSize::new(3 << 20), None);
        assert_eq!(SegmentSize::new(1 << 31), None);
        assert_eq!(parse_segment_name("00000001000000000000001e"), None);
    }
}
