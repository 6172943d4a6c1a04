//! The state that replaying a log builds.

pub mod digest;
pub mod env;
pub mod group;
pub mod records;
pub mod replay;
pub mod scavenge;
pub mod tree;

pub use env::{Database, Environment, Role};
pub use group::Group;
pub use records::{Batch, Record};
pub use scavenge::{Scavenged, scavenge};

use crate::format::{FormatError, Lsn};

/// Something that the tree or the log names and that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at {lsn}: {error}")]
pub struct Problem {
    /// What was to be read there.
    pub what: String,
    /// Its place.
    pub lsn: Lsn,
    /// Database, when known.
    pub db: Option<i64>,
    /// Key, when it is a record.
    pub key: Option<Vec<u8>>,
    /// Why it cannot be read.
    pub error: FormatError,
}

impl Problem {
    /// A problem outside any record.
    #[must_use]
    pub fn new(what: impl Into<String>, lsn: Lsn, db: Option<i64>, error: FormatError) -> Self {
        Self { what: what.into(), lsn, db, key: None, error }
    }
}
