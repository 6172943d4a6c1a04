//! Which product line wrote a file or a log.
//!
//! The product version stands in no header. It decides how arguments are read, which identifiers are handed out, in
//! which order tables are written and which section versions a result has.

use std::fmt;
use std::str::FromStr;

/// A product line of MooseFS with one set of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// 1.5 and 1.6: flat files, separate restore program.
    V16,
    /// 2.0: sections, goals instead of storage classes.
    V2,
    /// 3.0: storage classes made of label masks.
    V3,
    /// 4.x: storage classes made of label expressions, erasure coding, patterns.
    V4,
}

impl Dialect {
    /// Every dialect, oldest first.
    pub const ALL: [Self; 4] = [Self::V16, Self::V2, Self::V3, Self::V4];

    /// Whether metadata files have no sections.
    #[must_use]
    pub const fn is_flat(self) -> bool {
        matches!(self, Self::V16)
    }

    /// Whether the trash retention of a node counts hours (3.x and later) and not seconds.
    #[must_use]
    pub const fn retention_in_hours(self) -> bool {
        matches!(self, Self::V3 | Self::V4)
    }

    /// Number of lists the trash is split into.
    #[must_use]
    pub const fn trash_buckets(self) -> u32 {
        if self.retention_in_hours() { 4096 } else { 1 }
    }

    /// Number of lists the sustained files are split into.
    #[must_use]
    pub const fn sustained_buckets(self) -> u32 {
        if self.retention_in_hours() { 256 } else { 1 }
    }

    /// Identifier of the first change of a new filesystem.
    #[must_use]
    pub const fn first_change(self) -> u64 {
        if self.is_flat() { 0 } else { 1 }
    }

    /// The name used on the command line and in reports: `1.6`, `2`, `3`, `4`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V16 => "1.6",
            Self::V2 => "2",
            Self::V3 => "3",
            Self::V4 => "4",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "1.5" | "1.6" => Ok(Self::V16),
            "2" | "2.0" => Ok(Self::V2),
            "3" | "3.0" => Ok(Self::V3),
            "4" => Ok(Self::V4),
            other => Err(format!("unknown dialect {other:?}: one of 1.6, 2, 3, 4 is expected")),
        }
    }
}
