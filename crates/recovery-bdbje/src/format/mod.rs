//! Bytes of a JE log and their meaning. Pure: no I/O, no clock.
//!
//! A log file is a plain sequence of entries; see [`header`] for the frame around each of them, [`Entry`] for what
//! may lie inside. Every decoder has its encoder beside it, and encoding what was decoded gives the same bytes.

pub mod checkpoint;
pub mod database;
pub mod entry;
pub mod file_header;
pub mod group;
pub mod header;
pub mod ln;
pub mod node;
pub mod old;
pub mod packed;
pub mod txn;
pub mod types;
pub mod vlsn_index;

use std::fmt;

use recovery_core::Short;
use serde::{Serialize, Serializer};

pub use entry::Entry;
pub use header::EntryHeader;
pub use types::EntryType;

/// Lowest log version that is read (JE 3.3).
pub const MIN_LOG_VERSION: u8 = 6;
/// Highest log version that is read (JE 18.3).
pub const MAX_LOG_VERSION: u8 = 17;

/// Place of an entry in the log: file number and byte offset in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// No place.
    pub const NULL: Self = Self(u64::MAX);

    /// The place at `offset` of file `file`.
    #[must_use]
    pub const fn new(file: u32, offset: u32) -> Self {
        Self(((file as u64) << 32) | offset as u64)
    }

    /// Number of the log file.
    #[must_use]
    pub const fn file(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Byte offset in the file.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half of 64 bits")]
    pub const fn offset(self) -> u32 {
        self.0 as u32
    }

    /// Whether it names no place. The file number of all ones marks JE's transient LSNs, which are no place either.
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.file() == u32::MAX
    }

    /// `None` for no place.
    #[must_use]
    pub const fn some(self) -> Option<Self> {
        if self.is_null() { None } else { Some(self) }
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.file(), self.offset())
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

impl std::str::FromStr for Lsn {
    type Err = FormatError;

    /// `0xF/0xO`, `F/O` in hex, or a file number alone in hex.
    fn from_str(s: &str) -> Result<Self, FormatError> {
        let hex = |t: &str| u32::from_str_radix(t.trim().trim_start_matches("0x"), 16).ok();
        let parsed = match s.split_once('/') {
            Some((file, offset)) => hex(file).zip(hex(offset)),
            None => hex(s).map(|f| (f, 0)),
        };
        parsed.map(|(f, o)| Self::new(f, o)).ok_or(FormatError::Invalid { field: "LSN", at: 0, found: 0 })
    }
}

/// Bytes that are not what the format says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end inside a field.
    #[error(transparent)]
    Short(#[from] Short),
    /// The entry type is none of the format's.
    #[error("entry type {found} at {at:#x} is not between 1 and 43")]
    BadType {
        /// The byte found.
        found: u8,
        /// Offset of the entry.
        at: u64,
    },
    /// The item size is negative.
    #[error("item size {found} at {at:#x} is negative")]
    NegativeSize {
        /// The number found.
        found: i32,
        /// Offset of the entry.
        at: u64,
    },
    /// The entry reaches past the end of its file.
    #[error("the entry at {at:#x} ends at {end:#x}, past the end of its file at {len:#x}")]
    PastEnd {
        /// Offset of the entry.
        at: u64,
        /// Where it would end.
        end: u64,
        /// Length of the file.
        len: u64,
    },
    /// The checksum does not agree.
    #[error("checksum of the entry at {at:#x}: stored {stored:#010x}, computed {computed:#010x}")]
    Checksum {
        /// Offset of the entry.
        at: u64,
        /// What the entry says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A field has a value the format does not know.
    #[error("{field} at {at:#x} has the value {found}, which the format does not allow")]
    Invalid {
        /// Name of the field.
        field: &'static str,
        /// Its offset.
        at: u64,
        /// The value.
        found: i64,
    },
    /// The item is longer than what its fields need.
    #[error("{left} bytes are left over at {at:#x} behind the last field")]
    Leftover {
        /// Where the fields end.
        at: u64,
        /// How many bytes are left.
        left: u64,
    },
    /// The log version is not one that is read.
    #[error("log version {0} is not supported (6 to 17 are)")]
    Version(i64),
    /// A medium did not give the bytes.
    #[error("bytes {start:#x}..{end:#x} cannot be read")]
    Unread {
        /// First unreadable byte.
        start: u64,
        /// End of the unreadable bytes.
        end: u64,
    },
}

impl FormatError {
    /// A few words for tables.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Short(_) => "short header",
            Self::BadType { .. } => "bad type",
            Self::NegativeSize { .. } => "negative size",
            Self::PastEnd { .. } => "entry past end of file",
            Self::Checksum { .. } => "checksum",
            Self::Invalid { .. } => "invalid field",
            Self::Leftover { .. } => "left-over bytes",
            Self::Version(_) => "log version",
            Self::Unread { .. } => "unreadable",
        }
    }
}

/// What decoders return.
pub type Result<T, E = FormatError> = std::result::Result<T, E>;
