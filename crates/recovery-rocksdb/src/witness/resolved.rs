//! The merged state.

use std::collections::{BTreeMap, BTreeSet};

use recovery_core::Finding;

use crate::fill::Fill;
use crate::format::key::KeyOrder;
use crate::format::version_edit::NewFile;
use crate::inspect::tables::SalvageFacts;
use crate::model::version::Version;

/// How far the MANIFEST can be believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// There is none.
    #[default]
    None,
    /// It is damaged, cut, or ends early.
    Partial,
    /// Every record is good and the end is where it should be.
    Whole,
}

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Part of the database.
    Live,
    /// Once part of it: consumed by a compaction, of a dropped family, or a second copy.
    Obsolete,
    /// Written and never installed: its content is elsewhere.
    Orphan,
    /// Not the database's.
    Foreign,
    /// Part of the database and not there.
    Missing,
    /// Part of the database and damaged.
    Damaged,
}

impl Class {
    /// The word used in reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Obsolete => "obsolete",
            Self::Orphan => "orphan",
            Self::Foreign => "foreign",
            Self::Missing => "missing",
            Self::Damaged => "damaged",
        }
    }
}

/// A fact and who says so.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Claim {
    /// The fact.
    pub fact: String,
    /// The witnesses.
    pub from: Vec<String>,
}

/// A table of the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveTable {
    /// Its number in the version.
    pub number: u64,
    /// Number in the name of the file that holds it; differs when names were swapped.
    pub on_disk: Option<u64>,
    /// Size.
    pub size: u64,
    /// Level, where a witness knows it.
    pub level: Option<u32>,
    /// Smallest internal key.
    pub smallest: Vec<u8>,
    /// Largest internal key.
    pub largest: Vec<u8>,
    /// Smallest and largest sequence number.
    pub seqnos: (u64, u64),
    /// Whether the smallest sequence number is known.
    pub exact: bool,
    /// Sequence number all its entries take.
    pub global_seqno: Option<u64>,
    /// The MANIFEST's entry.
    pub entry: Option<NewFile>,
    /// Oldest blob file it refers to.
    pub oldest_blob: Option<u64>,
    /// Point entries it should hold, where a witness knows.
    pub entries: Option<u64>,
    /// Range tombstones it should hold, where a witness knows.
    pub tombstones: Option<u64>,
    /// An undamaged copy: number of its source and name there.
    pub donor: Option<(u16, String)>,
    /// WALs that still hold everything the table was flushed from: source, name and number.
    pub wals: Vec<(u16, String, u64)>,
    /// Entries of its lost key ranges that are found elsewhere.
    pub fills: Vec<Fill>,
    /// Whether its file is damaged and has to be rewritten.
    pub damaged: bool,
    /// Whether its keys are stored without their timestamps; the boundaries here carry zeros in their place, as readers
    /// put them back.
    pub stripped: bool,
    /// Who says that it is live.
    pub witness: String,
}

impl LiveTable {
    /// Point entries that are gone for good, after what fills its lost ranges; `salvage` is what its own file still
    /// gives. `None` when something is gone and nobody knows how much.
    #[must_use]
    pub fn lost(&self, salvage: Option<&SalvageFacts>) -> Option<u64> {
        let all = salvage.map_or(self.entries, |s| s.entries_lost(self.entries));
        let ranges = salvage.map_or(1, |s| s.ranges.len());
        let fills = || self.fills.iter().filter(|f| !f.only_tombstones);
        if fills().filter(|f| f.complete).count() >= ranges && ranges > 0 {
            return Some(0);
        }
        let given = fills().map(|f| f.entries).fold(0, u64::saturating_add);
        if given == 0 { all } else { all.map(|n| n.saturating_sub(given).max(1)) }
    }

    /// Range tombstones that are gone for good.
    #[must_use]
    pub fn lost_tombstones(&self, salvage: Option<&SalvageFacts>) -> Option<u64> {
        if self.fills.iter().any(|f| f.complete && (f.only_tombstones || (f.tombstones && salvage.is_none()))) {
            return Some(0);
        }
        match salvage {
            Some(s) => s.range_deletions_lost(self.tombstones),
            None => self.tombstones,
        }
    }
}

/// Puts a timestamp of `size` zeros back into an internal key that was stored without one.
#[must_use]
pub fn pad_timestamp(key: &[u8], size: usize) -> Vec<u8> {
    let (user, tail) = key.split_at_checked(key.len().saturating_sub(8)).unwrap_or((key, &[]));
    [user, &vec![0; size], tail].concat()
}

/// Takes the timestamp of `size` bytes out of an internal key.
#[must_use]
pub fn strip_timestamp(key: &[u8], size: usize) -> Vec<u8> {
    let (user, tail) = key.split_at_checked(key.len().saturating_sub(8)).unwrap_or((key, &[]));
    [user.get(..user.len().saturating_sub(size)).unwrap_or_default(), tail].concat()
}

/// A blob file of a family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlobEntry {
    /// Records.
    pub count: u64,
    /// Bytes of records.
    pub bytes: u64,
    /// Garbage records.
    pub garbage_count: u64,
    /// Garbage bytes.
    pub garbage_bytes: u64,
    /// Whether it is there.
    pub present: bool,
    /// Whether it has to be rewritten.
    pub damaged: bool,
    /// An undamaged copy: number of its source and name there.
    pub donor: Option<(u16, String)>,
}

/// A family of the database.
#[derive(Clone, Debug, Default)]
pub struct ResolvedFamily {
    /// Id.
    pub id: u32,
    /// Name.
    pub name: Vec<u8>,
    /// Whether the name was made up.
    pub unnamed: bool,
    /// Name of the comparator.
    pub comparator: Option<String>,
    /// The comparator, where it is known.
    pub order: Option<KeyOrder>,
    /// WALs below hold nothing of it that is not in tables.
    pub log_number: u64,
    /// Levels the options give it.
    pub levels: u32,
    /// Tables by number.
    pub tables: BTreeMap<u64, LiveTable>,
    /// Blob files by number.
    pub blobs: BTreeMap<u64, BlobEntry>,
    /// Content of tag 8201.
    pub persist_timestamps: Option<Vec<u8>>,
    /// Content of tag 8198.
    pub history_low: Option<Vec<u8>>,
}

impl ResolvedFamily {
    /// The name for people.
    #[must_use]
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

/// The database as all witnesses together describe it.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// The MANIFEST it starts from.
    pub base: Option<u64>,
    /// How far that is believed.
    pub trust: Trust,
    /// What it says.
    pub version: Version,
    /// Database id.
    pub db_id: Option<String>,
    /// Live families.
    pub families: BTreeMap<u32, ResolvedFamily>,
    /// Dropped families.
    pub dropped: BTreeMap<u32, String>,
    /// Class of each table file by the number in its name.
    pub classes: BTreeMap<u64, Class>,
    /// Class of each blob file.
    pub blob_classes: BTreeMap<u64, Class>,
    /// Tables that should be there and are not.
    pub missing: BTreeSet<u64>,
    /// Tables of no known family.
    pub familyless: BTreeSet<u64>,
    /// Last sequence number.
    pub last_sequence: u64,
    /// Next free file number.
    pub next_file: u64,
    /// Records of WALs below a family's log number that a replay must not see, as (family, sequence): needed only when
    /// one WAL holds both flushed and unflushed records of a family.
    pub skip_below: BTreeMap<u32, u64>,
    /// Facts and their witnesses.
    pub claims: Vec<Claim>,
    /// Contradictions and guesses.
    pub findings: Vec<Finding>,
}

impl Resolved {
    /// Notes a fact.
    pub fn claim(&mut self, fact: impl Into<String>, from: impl Into<String>) {
        self.claims.push(Claim { fact: fact.into(), from: vec![from.into()] });
    }

    /// The family that a table belongs to.
    #[must_use]
    pub fn family_of(&self, number: u64) -> Option<u32> {
        self.families.iter().find(|(_, f)| f.tables.contains_key(&number)).map(|(id, _)| *id)
    }
}
