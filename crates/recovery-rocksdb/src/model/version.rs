//! Version state: what replaying a MANIFEST gives (upstream `db/version_edit_handler.cc`).

use std::collections::{BTreeMap, BTreeSet};

use crate::format::version_edit::{BlobAddition, Field, NewFile, VersionEdit};

/// A column family of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// Name; it need not be UTF-8.
    pub name: Vec<u8>,
    /// Comparator, where a record names it.
    pub comparator: Option<Vec<u8>>,
    /// WALs below this hold nothing of the family that is not in its tables.
    pub log_number: u64,
    /// Live tables by number.
    pub files: BTreeMap<u64, NewFile>,
    /// Live blob files by number.
    pub blobs: BTreeMap<u64, Blob>,
    /// Content of tag 8201.
    pub persist_timestamps: Option<Vec<u8>>,
    /// Content of tag 8198.
    pub history_low: Option<Vec<u8>>,
}

/// A blob file of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob {
    /// As it was added.
    pub added: BlobAddition,
    /// Garbage records counted since.
    pub garbage_count: u64,
    /// Their bytes.
    pub garbage_bytes: u64,
}

/// What a MANIFEST says, record after record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Database id.
    pub db_id: Option<Vec<u8>>,
    /// Next free file number.
    pub next_file: u64,
    /// Last sequence number.
    pub last_sequence: u64,
    /// WALs below this are not needed.
    pub min_log: u64,
    /// Highest family id given out.
    pub max_family: u32,
    /// Live families.
    pub families: BTreeMap<u32, Family>,
    /// Dropped families: id and name.
    pub dropped: BTreeMap<u32, Vec<u8>>,
    /// Tables that left every level.
    pub deleted: BTreeSet<u64>,
    /// Families that records speak of although none created them: the record that did is lost.
    pub unannounced: BTreeSet<u32>,
    /// Deletions of tables that were in no level: the record that added them is lost.
    pub unknown_deletions: BTreeSet<u64>,
    /// Tracked WALs and their synced sizes.
    pub wals: BTreeSet<u64>,
    /// What each table was made from: the tables that left with the record that brought it.
    pub made_from: BTreeMap<u64, BTreeSet<u64>>,
    /// Every table any record added, as it was added last.
    pub seen: BTreeMap<u64, NewFile>,
}

impl Version {
    /// The empty version: one family, `default`, with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        let default = Family { name: b"default".to_vec(), ..Family::default() };
        Self { families: BTreeMap::from([(0, default)]), ..Self::default() }
    }

    /// Applies one record.
    pub fn apply(&mut self, edit: &VersionEdit) {
        let id = edit.family();
        if self.dropped.contains_key(&id) {
            self.global(edit);
            return;
        }
        for field in &edit.fields {
            match field {
                Field::AddFamily(name) => {
                    let family = self.families.entry(id).or_default();
                    family.name.clone_from(name);
                    self.unannounced.remove(&id);
                    self.max_family = self.max_family.max(id);
                }
                Field::DropFamily => {
                    let name = self.families.remove(&id).map(|f| {
                        self.deleted.extend(f.files.keys());
                        f.name
                    });
                    self.dropped.insert(id, name.unwrap_or_default());
                    self.unannounced.remove(&id);
                    self.global(edit);
                    return;
                }
                _ => {}
            }
        }
        self.global(edit);
        let about_family = |f: &Field| {
            matches!(
                f,
                Field::Comparator(_)
                    | Field::LogNumber(_)
                    | Field::NewFile(_)
                    | Field::DeletedFile(..)
                    | Field::BlobAddition(..)
                    | Field::BlobGarbage(..)
            )
        };
        if !self.families.contains_key(&id) && edit.fields.iter().any(about_family) {
            self.unannounced.insert(id);
            self.families.insert(id, Family::default());
        }
        let Some(family) = self.families.get_mut(&id) else { return };
        for field in &edit.fields {
            match field {
                Field::Comparator(name) => family.comparator = Some(name.clone()),
                Field::LogNumber(n) => family.log_number = family.log_number.max(*n),
                Field::DeletedFile(_, n) => {
                    if family.files.remove(n).is_none() {
                        self.unknown_deletions.insert(*n);
                    }
                    self.deleted.insert(*n);
                }
                Field::PersistTimestamps(b) => family.persist_timestamps = Some(b.clone()),
                Field::FullHistoryTsLow(b) => family.history_low = Some(b.clone()),
                Field::BlobGarbage(_, g) => {
                    if let Some(blob) = family.blobs.get_mut(&g.number) {
                        blob.garbage_count = blob.garbage_count.saturating_add(g.count);
                        blob.garbage_bytes = blob.garbage_bytes.saturating_add(g.bytes);
                    }
                }
                Field::BlobAddition(_, b) => {
                    family.blobs.insert(b.number, Blob { added: b.clone(), ..Blob::default() });
                }
                _ => {}
            }
        }
        let left = |f: &Field| match f {
            Field::DeletedFile(_, n) => Some(*n),
            _ => None,
        };
        let inputs: BTreeSet<u64> = edit.fields.iter().filter_map(left).collect();
        // A table that moves down is deleted and added in one record: additions come last.
        for field in &edit.fields {
            if let Field::NewFile(f) = field {
                self.deleted.remove(&f.number);
                if !inputs.is_empty() && !inputs.contains(&f.number) {
                    self.made_from.insert(f.number, inputs.clone());
                }
                self.seen.insert(f.number, f.clone());
                family.files.insert(f.number, f.clone());
            }
        }
    }

    fn global(&mut self, edit: &VersionEdit) {
        for field in &edit.fields {
            match field {
                Field::DbId(id) => self.db_id = Some(id.clone()),
                Field::NextFile(n) => self.next_file = *n,
                Field::LastSequence(n) => self.last_sequence = self.last_sequence.max(*n),
                Field::MinLogToKeep(n) => self.min_log = self.min_log.max(*n),
                Field::MaxFamily(id) => self.max_family = self.max_family.max(*id),
                _ => {}
            }
        }
    }

    /// The family a live table belongs to.
    #[must_use]
    pub fn family_of(&self, number: u64) -> Option<u32> {
        self.families.iter().find(|(_, f)| f.files.contains_key(&number)).map(|(id, _)| *id)
    }

    /// The family and entry of every live table.
    pub fn files(&self) -> impl Iterator<Item = (u32, &NewFile)> {
        self.families.iter().flat_map(|(id, f)| f.files.values().map(move |file| (*id, file)))
    }

    /// Drops blob files that hold only garbage, as the database does when it saves a version.
    pub fn drop_garbage_blobs(&mut self) {
        for family in self.families.values_mut() {
            family.blobs.retain(|_, b| b.garbage_count < b.added.count);
        }
    }

    /// The smallest log number of a live family: older WALs are not replayed.
    #[must_use]
    pub fn min_log_number(&self) -> u64 {
        self.families.values().map(|f| f.log_number).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn edit(fields: Vec<Field>) -> VersionEdit {
        VersionEdit { fields }
    }

    fn file(number: u64, level: u32) -> Field {
        Field::NewFile(NewFile {
            tag: 103,
            number,
            level,
            smallest: vec![0; 8],
            largest: vec![1; 8],
            ..NewFile::default()
        })
    }

    #[test]
    fn files_move_and_families_go() {
        let mut v = Version::new();
        v.apply(&edit(vec![file(7, 0), Field::LogNumber(6)]));
        v.apply(&edit(vec![Field::Family(1), Field::AddFamily(b"a".to_vec())]));
        v.apply(&edit(vec![Field::Family(1), file(8, 0)]));
        v.apply(&edit(vec![file(7, 6), Field::DeletedFile(0, 7)]));
        assert_eq!(v.families.get(&0).unwrap().files.get(&7).unwrap().level, 6);
        assert!(v.deleted.is_empty());
        v.apply(&edit(vec![Field::Family(1), Field::DropFamily, Field::MaxFamily(1)]));
        assert_eq!(v.dropped.get(&1).unwrap(), b"a");
        assert!(v.deleted.contains(&8) && !v.families.contains_key(&1));
        v.apply(&edit(vec![Field::Family(1), file(9, 0)]));
        assert!(!v.families.contains_key(&1), "a dropped family does not come back");
        v.apply(&edit(vec![Field::Family(3), file(10, 0)]));
        assert!(v.unannounced.contains(&3));
    }
}
