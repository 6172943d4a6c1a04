//! Why a walk over the log ended.

use std::fmt;

use super::PAGE;
use crate::format::pg::Lsn;

/// Why the walk ended. The texts are those of the server's own log where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named by the sentences of Display")]
pub enum Stop {
    /// The segment file is not there.
    NoSegment { name: String, at: Lsn },
    /// The segment file ends before the page.
    ShortSegment { name: String, at: Lsn, size: u64 },
    /// The medium does not give the page.
    Unreadable { name: String, at: Lsn, message: String },
    /// The page header cannot belong here.
    Page { at: Lsn, what: String, address: Option<Lsn>, zero: bool },
    /// A record's length is impossible: the ordinary end of the log when it is 0.
    Length { at: Lsn, got: u32 },
    /// No such resource manager.
    Manager { at: Lsn, rmid: u8 },
    /// The record does not follow the one before.
    Prev { at: Lsn, found: Lsn },
    /// The next page does not continue the record.
    NoContinuation { at: Lsn, page: Lsn },
    /// The next page continues another record.
    ContinuationLength { at: Lsn, page: Lsn, rem_len: u32, expected: u64 },
    /// The bytes changed since they were written.
    Crc { at: Lsn, end: Lsn, stored: u32, computed: u32 },
    /// The position lies inside a page header or a continued record.
    Offset { at: Lsn },
}

impl Stop {
    /// Where recovery would say that it ended.
    #[must_use]
    pub const fn at(&self) -> Lsn {
        match self {
            Self::NoSegment { at, .. }
            | Self::ShortSegment { at, .. }
            | Self::Unreadable { at, .. }
            | Self::Page { at, .. }
            | Self::Length { at, .. }
            | Self::Manager { at, .. }
            | Self::Prev { at, .. }
            | Self::NoContinuation { at, .. }
            | Self::ContinuationLength { at, .. }
            | Self::Crc { at, .. }
            | Self::Offset { at } => *at,
        }
    }

    /// The stretch of log that is damaged, as far as the stop tells: the record, or the page.
    #[must_use]
    pub const fn extent(&self) -> (Lsn, Lsn) {
        let at = self.at();
        match self {
            Self::Crc { end, .. } => (at, *end),
            Self::NoContinuation { page, .. } | Self::ContinuationLength { page, .. } => (at, page.plus(PAGE)),
            _ => (at, at.page().plus(PAGE)),
        }
    }

    /// Whether the log ends here as logs do: zeros, a recycled segment's old pages, or no further segment.
    #[must_use]
    pub fn ordinary(&self) -> bool {
        match self {
            Self::Length { got, .. } => *got == 0,
            Self::NoSegment { .. } => true,
            Self::Page { at, address, zero, .. } => *zero || address.is_some_and(|a| a < at.page()),
            _ => false,
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSegment { name, .. } => write!(f, "could not find file \"{name}\": No such file or directory"),
            Self::ShortSegment { name, at, size } => write!(f, "{name} ends at byte {size}, before {at}"),
            Self::Unreadable { name, at, message } => write!(f, "{name}: {at} cannot be read: {message}"),
            Self::Page { what, .. } => f.write_str(what),
            Self::Length { at, got } => write!(f, "invalid record length at {at}: wanted 24, got {got}"),
            Self::Manager { at, rmid } => write!(f, "invalid resource manager ID {rmid} at {at}"),
            Self::Prev { at, found } => write!(f, "record with incorrect prev-link {found} at {at}"),
            Self::NoContinuation { page, .. } => write!(f, "there is no contrecord flag at {page}"),
            Self::ContinuationLength { page, rem_len, expected, .. } => {
                write!(f, "invalid contrecord length {rem_len} (expected {expected}) at {page}")
            }
            Self::Crc { at, .. } => write!(f, "incorrect resource manager data checksum in record at {at}"),
            Self::Offset { at } => write!(f, "no record begins at {at}"),
        }
    }
}
