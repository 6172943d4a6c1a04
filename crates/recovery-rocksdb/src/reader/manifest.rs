//! Reads a whole MANIFEST, also a damaged one.

use recovery_core::{Blob, Cursor};

use super::log::{Damage, EndKind, Event, LogWalker, Why};
use crate::format::version_edit::{EditError, Field, VersionEdit};
use crate::model::version::Version;

/// A record that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Bytes that hold no record.
    Frame(Damage),
    /// A record whose checksum is right and whose content is not.
    Edit {
        /// Offset of the record.
        at: u64,
        /// Offset behind it.
        end: u64,
        /// What is wrong.
        error: EditError,
    },
}

impl Fault {
    /// Range of bytes.
    #[must_use]
    pub const fn range(&self) -> (u64, u64) {
        match self {
            Self::Frame(d) => (d.at, d.end),
            Self::Edit { at, end, .. } => (*at, *end),
        }
    }
}

/// What one MANIFEST says.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its number.
    pub number: u64,
    /// Its size.
    pub size: u64,
    /// Records read.
    pub records: u64,
    /// Faults in file order.
    pub faults: Vec<Fault>,
    /// Offset behind the last record.
    pub end_at: u64,
    /// How the file ends.
    pub end: EndKind,
    /// The state all readable records give.
    pub version: Version,
    /// The state before the first fault: what an open that tolerates the fault would give.
    pub prefix: Option<Version>,
    /// The records of an atomic group that the file ends inside; void for the database.
    pub void_group: Vec<VersionEdit>,
    /// Every edit in order with its offset.
    pub edits: Vec<(u64, u64)>,
    /// Ranges the medium did not give.
    pub unread: Vec<std::ops::Range<u64>>,
}

impl Manifest {
    /// Whether every record is good and the last one whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.faults.is_empty() && self.void_group.is_empty() && !matches!(self.end, EndKind::Torn | EndKind::Damaged)
    }

    /// Whether the database's own open would accept it.
    #[must_use]
    pub fn opens(&self) -> bool {
        self.faults.is_empty() && self.records > 0 && self.version.next_file > 0 && self.version.unannounced.is_empty()
    }
}

struct Replay {
    version: Version,
    prefix: Option<Version>,
    group: Vec<VersionEdit>,
    faulty: bool,
}

impl Replay {
    fn apply(&mut self, edit: VersionEdit) {
        match edit.atomic_group() {
            Some(0) => {
                self.group.push(edit);
                for edit in self.group.drain(..) {
                    self.version.apply(&edit);
                }
            }
            Some(_) => self.group.push(edit),
            None => {
                // A record outside ends a group whose other records are lost: what was read of it is still true.
                for edit in self.group.drain(..) {
                    self.version.apply(&edit);
                }
                self.version.apply(&edit);
            }
        }
    }

    fn fault(&mut self) {
        if !self.faulty {
            self.faulty = true;
            self.prefix = Some(self.version.clone());
        }
    }
}

/// Reads `blob` as MANIFEST `number`; `limit` bounds one record.
#[must_use]
pub fn read(blob: &dyn Blob, number: u64, limit: usize) -> Manifest {
    let mut walker = LogWalker::new(blob, None, limit);
    let mut replay = Replay { version: Version::new(), prefix: None, group: Vec::new(), faulty: false };
    let (mut records, mut faults, mut edits) = (0u64, Vec::new(), Vec::new());
    let (mut end_at, mut end) = (0, EndKind::Clean);
    while let Some(event) = walker.next_event() {
        match event {
            Event::Record { at, end, data } => match VersionEdit::decode(data) {
                Ok(edit) => {
                    records = records.saturating_add(1);
                    edits.push((at, end));
                    replay.apply(edit);
                }
                Err(error) => {
                    replay.fault();
                    faults.push(Fault::Edit { at, end, error });
                }
            },
            Event::Damage(damage) => {
                replay.fault();
                faults.push(Fault::Frame(damage));
            }
            Event::End { at, kind } => (end_at, end) = (at, kind),
            Event::Compression { at, .. } => {
                replay.fault();
                faults.push(Fault::Frame(Damage { at, end: at.saturating_add(11), why: Why::Type(9) }));
            }
            Event::TimestampSizes(_) | Event::Predecessor { .. } | Event::Ignored { .. } => {}
        }
    }
    let unread = walker.unread().to_vec();
    let mut version = replay.version;
    version.drop_garbage_blobs();
    Manifest {
        number,
        size: blob.len(),
        records,
        faults,
        end_at,
        end,
        version,
        prefix: replay.prefix,
        void_group: replay.group,
        edits,
        unread,
    }
}

/// The WAL number of a tag-8199 or 8200 field.
#[must_use]
pub fn wal_number(field: &Field) -> Option<u64> {
    match field {
        Field::WalAddition(bytes) | Field::WalDeletion(bytes) => Cursor::new(bytes, 0).varint64("wal number").ok(),
        Field::WalAdditionOld(n, _) | Field::WalDeletionOld(n) => Some(*n),
        _ => None,
    }
}
