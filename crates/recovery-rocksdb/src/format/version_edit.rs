//! Version edit: one logical record of a MANIFEST (upstream `db/version_edit.{h,cc}`).
//!
//! A list of `(varint32 tag, fields)` until the record ends. Tags with bit 13 (8192) set are length-prefixed and may be
//! skipped by readers that do not know them; any other unknown tag makes the database refuse to open.
//!
//! | tag  | field                 | layout                                                                        |
//! | ---: | --------------------- | ----------------------------------------------------------------------------- |
//! |    1 | comparator            | string                                                                        |
//! |    2 | log number            | varint64                                                                      |
//! |    3 | next file number      | varint64                                                                      |
//! |    4 | last sequence         | varint64                                                                      |
//! |    5 | compact cursor        | varint32 level, string                                                        |
//! |    6 | deleted file          | varint32 level, varint64 number                                               |
//! |    7 | new file (LevelDB)    | level, number, size, smallest, largest                                        |
//! |    9 | previous log number   | varint64                                                                      |
//! |   10 | min log to keep       | varint64                                                                      |
//! |  100 | new file 2            | as 7, smallest and largest sequence                                           |
//! |  102 | new file 3            | as 100 with a path id after the number                                        |
//! |  103 | new file 4            | as 100, then `(varint32 tag, string)*` ended by tag 1                         |
//! |  200 | column family         | varint32                                                                      |
//! |  201 | add family            | string                                                                        |
//! |  202 | drop family           | nothing                                                                       |
//! |  203 | max column family     | varint32                                                                      |
//! |  300 | in atomic group       | varint32 records that still follow                                            |
//! |  400 | blob file             | number, count, bytes, method, checksum, `(varint32 tag, string)*`, varint32 0 |
//! |  401 | blob garbage          | number, count, bytes, `(varint32 tag, string)*`, varint32 0                   |
//! | 8193 | database id           | string                                                                        |
//!
//! The fields are kept in the order they stand in, so that encoding gives back what was decoded.

use recovery_core::{Cursor, Short, VarintError};

use super::coding::{put_lenstr, put_varint};

/// Custom field tags of tag 103 (upstream `NewFileCustomTag`).
pub mod custom {
    /// End of the list.
    pub const END: u32 = 1;
    /// Oldest blob file the table refers to, varint64.
    pub const OLDEST_BLOB: u32 = 4;
    /// Creation time, varint64.
    pub const CREATION_TIME: u32 = 6;
    /// Checksum of the whole file.
    pub const FILE_CHECKSUM: u32 = 7;
    /// Name of the function that made it.
    pub const FILE_CHECKSUM_NAME: u32 = 8;
    /// Unique id, two fixed64.
    pub const UNIQUE_ID: u32 = 12;
    /// Epoch number, varint64: orders the tables of level 0.
    pub const EPOCH: u32 = 13;
    /// User-defined timestamps are stored (absent) or not (0).
    pub const TIMESTAMPS_PERSISTED: u32 = 16;
    /// Path id, one byte.
    pub const PATH_ID: u32 = 65;
    /// A reader that does not know a tag with this bit must stop.
    pub const MUST_UNDERSTAND: u32 = 64;
}

/// A table added to a level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewFile {
    /// Tag it was written with: 7, 100, 102 or 103.
    pub tag: u32,
    /// Level.
    pub level: u32,
    /// File number.
    pub number: u64,
    /// Path id (tag 102).
    pub path_id: u32,
    /// Size in bytes.
    pub size: u64,
    /// Smallest internal key.
    pub smallest: Vec<u8>,
    /// Largest internal key.
    pub largest: Vec<u8>,
    /// Smallest sequence number.
    pub smallest_seqno: u64,
    /// Largest sequence number.
    pub largest_seqno: u64,
    /// Custom fields in order, without the end mark.
    pub custom: Vec<(u32, Vec<u8>)>,
}

impl NewFile {
    fn field(&self, tag: u32) -> Option<&[u8]> {
        self.custom.iter().find(|(t, _)| *t == tag).map(|(_, v)| v.as_slice())
    }

    fn number_field(&self, tag: u32) -> Option<u64> {
        Cursor::new(self.field(tag)?, 0).varint64("custom field").ok()
    }

    /// Epoch number.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.number_field(custom::EPOCH)
    }

    /// Oldest blob file the table refers to.
    #[must_use]
    pub fn oldest_blob(&self) -> Option<u64> {
        self.number_field(custom::OLDEST_BLOB)
    }

    /// Function name and checksum of the whole file, when one was recorded.
    #[must_use]
    pub fn file_checksum(&self) -> Option<(&[u8], &[u8])> {
        let name = self.field(custom::FILE_CHECKSUM_NAME)?;
        let sum = self.field(custom::FILE_CHECKSUM)?;
        (!sum.is_empty() && name != b"Unknown").then_some((name, sum))
    }

    /// Whether timestamps are in the keys; true unless written otherwise.
    #[must_use]
    pub fn timestamps_persisted(&self) -> bool {
        self.field(custom::TIMESTAMPS_PERSISTED) != Some(&[0])
    }

    /// Path the file lies in: 0 is the database directory or the first of its paths.
    #[must_use]
    pub fn path(&self) -> u32 {
        self.field(custom::PATH_ID).and_then(|v| v.first()).map_or(self.path_id, |b| u32::from(*b))
    }

    /// Sets or removes a custom field.
    pub fn set(&mut self, tag: u32, value: Option<Vec<u8>>) {
        self.custom.retain(|(t, _)| *t != tag);
        if let Some(value) = value {
            let at = self.custom.iter().position(|(t, _)| *t > tag).unwrap_or(self.custom.len());
            self.custom.insert(at, (tag, value));
        }
    }

    /// Sets or removes a custom field that holds a number.
    pub fn set_number(&mut self, tag: u32, value: Option<u64>) {
        self.set(
            tag,
            value.map(|v| {
                let mut out = Vec::new();
                put_varint(&mut out, v);
                out
            }),
        );
    }
}

/// A blob file that became part of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlobAddition {
    /// File number.
    pub number: u64,
    /// Number of records.
    pub count: u64,
    /// Bytes of all records, headers included.
    pub bytes: u64,
    /// Name of the checksum function.
    pub method: Vec<u8>,
    /// Checksum of the file.
    pub checksum: Vec<u8>,
    /// Custom fields.
    pub custom: Vec<(u32, Vec<u8>)>,
}

/// Garbage counted in a blob file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlobGarbage {
    /// File number.
    pub number: u64,
    /// Records no table refers to any more.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Custom fields.
    pub custom: Vec<(u32, Vec<u8>)>,
}

/// One field of a version edit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// 1: comparator of the family.
    Comparator(Vec<u8>),
    /// 2: WALs below this hold nothing of the family that is not in tables.
    LogNumber(u64),
    /// 3: next free file number.
    NextFile(u64),
    /// 4: last sequence number.
    LastSequence(u64),
    /// 5: where the next compaction of a level begins.
    CompactCursor(u32, Vec<u8>),
    /// 6: a table left a level.
    DeletedFile(u32, u64),
    /// 7, 100, 102, 103: a table entered a level.
    NewFile(NewFile),
    /// 9: obsolete second log.
    PrevLogNumber(u64),
    /// 10: WALs below this are not needed by any family.
    MinLogToKeep(u64),
    /// 200: the family the record is about.
    Family(u32),
    /// 201: the family is created under this name.
    AddFamily(Vec<u8>),
    /// 202: the family is dropped.
    DropFamily,
    /// 203: highest family id ever given out.
    MaxFamily(u32),
    /// 300: part of an atomic group; so many records follow.
    AtomicGroup(u32),
    /// 400 or, as older versions wrote it, 8194.
    BlobAddition(u32, BlobAddition),
    /// 401 or 8195.
    BlobGarbage(u32, BlobGarbage),
    /// 8193: database id.
    DbId(Vec<u8>),
    /// 8196: WAL addition, old form.
    WalAdditionOld(u64, Vec<(u32, u64)>),
    /// 8197: WAL deletion, old form.
    WalDeletionOld(u64),
    /// 8198: timestamps below this are trimmed.
    FullHistoryTsLow(Vec<u8>),
    /// 8199: WAL addition.
    WalAddition(Vec<u8>),
    /// 8200: WALs below the number are gone.
    WalDeletion(Vec<u8>),
    /// 8201: whether user-defined timestamps are persisted.
    PersistTimestamps(Vec<u8>),
    /// Any other tag with bit 13.
    Ignorable(u32, Vec<u8>),
}

/// Why a version edit cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It ends inside a field.
    #[error(transparent)]
    Short(#[from] Short),
    /// A number does not fit.
    #[error(transparent)]
    Varint(#[from] VarintError),
    /// A tag that must be understood and is not.
    #[error("version edit: tag {tag} at {at:#x} is unknown")]
    Tag {
        /// Offset of the tag.
        at: u64,
        /// The tag.
        tag: u32,
    },
    /// A custom field of a table that must be understood and is not.
    #[error("version edit: custom field {tag} of table {number} at {at:#x} is unknown and may not be skipped")]
    Custom {
        /// Offset.
        at: u64,
        /// File number.
        number: u64,
        /// Custom tag.
        tag: u32,
    },
    /// An internal key without its eight last bytes.
    #[error("version edit: a boundary key of table {number} has {len} bytes, an internal key has at least 8")]
    Key {
        /// File number.
        number: u64,
        /// Bytes found.
        len: usize,
    },
    /// A level that no database has.
    #[error("version edit: level {level} of table {number} does not exist")]
    Level {
        /// File number.
        number: u64,
        /// Level.
        level: u32,
    },
}

/// Levels above this are refused: upstream allows any `num_levels`, nobody uses more than a dozen.
pub const MAX_LEVEL: u32 = 63;

/// A decoded record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionEdit {
    /// Its fields in order.
    pub fields: Vec<Field>,
}

fn lenstr(c: &mut Cursor<'_>, field: &'static str) -> Result<Vec<u8>, EditError> {
    let n = c.varint32(field)?;
    Ok(c.take_u64(u64::from(n), field)?.to_vec())
}

fn customs(c: &mut Cursor<'_>, end: u32) -> Result<Vec<(u32, Vec<u8>)>, EditError> {
    let mut out = Vec::new();
    loop {
        let tag = c.varint32("custom tag")?;
        if tag == end {
            return Ok(out);
        }
        out.push((tag, lenstr(c, "custom field")?));
    }
}

fn put_customs(out: &mut Vec<u8>, fields: &[(u32, Vec<u8>)], end: u32) {
    for (tag, value) in fields {
        put_varint(out, u64::from(*tag));
        put_lenstr(out, value);
    }
    put_varint(out, u64::from(end));
}

fn new_file(c: &mut Cursor<'_>, tag: u32) -> Result<NewFile, EditError> {
    let mut f = NewFile { tag, level: c.varint32("level")?, number: c.varint64("file number")?, ..NewFile::default() };
    if tag == 102 {
        f.path_id = c.varint32("path id")?;
    }
    f.size = c.varint64("file size")?;
    f.smallest = lenstr(c, "smallest key")?;
    f.largest = lenstr(c, "largest key")?;
    if tag != 7 {
        f.smallest_seqno = c.varint64("smallest sequence")?;
        f.largest_seqno = c.varint64("largest sequence")?;
    }
    if tag == 103 {
        let at = c.offset();
        f.custom = customs(c, custom::END)?;
        let known = [custom::PATH_ID];
        if let Some((tag, _)) = f.custom.iter().find(|(t, _)| t & custom::MUST_UNDERSTAND != 0 && !known.contains(t)) {
            return Err(EditError::Custom { at, number: f.number, tag: *tag });
        }
    }
    for key in [&f.smallest, &f.largest] {
        if key.len() < 8 {
            return Err(EditError::Key { number: f.number, len: key.len() });
        }
    }
    if f.level > MAX_LEVEL {
        return Err(EditError::Level { number: f.number, level: f.level });
    }
    Ok(f)
}

fn blob_addition(c: &mut Cursor<'_>) -> Result<BlobAddition, EditError> {
    Ok(BlobAddition {
        number: c.varint64("blob file number")?,
        count: c.varint64("blob count")?,
        bytes: c.varint64("blob bytes")?,
        method: lenstr(c, "checksum method")?,
        checksum: lenstr(c, "checksum value")?,
        custom: customs(c, 0)?,
    })
}

fn blob_garbage(c: &mut Cursor<'_>) -> Result<BlobGarbage, EditError> {
    Ok(BlobGarbage {
        number: c.varint64("blob file number")?,
        count: c.varint64("garbage count")?,
        bytes: c.varint64("garbage bytes")?,
        custom: customs(c, 0)?,
    })
}

fn wal_addition_old(c: &mut Cursor<'_>) -> Result<Field, EditError> {
    let number = c.varint64("wal number")?;
    let mut fields = Vec::new();
    loop {
        match c.varint32("wal addition tag")? {
            1 => return Ok(Field::WalAdditionOld(number, fields)),
            tag => fields.push((tag, c.varint64("wal size")?)),
        }
    }
}

fn field(c: &mut Cursor<'_>) -> Result<Field, EditError> {
    let at = c.offset();
    let tag = c.varint32("version edit tag")?;
    Ok(match tag {
        1 => Field::Comparator(lenstr(c, "comparator")?),
        2 => Field::LogNumber(c.varint64("log number")?),
        3 => Field::NextFile(c.varint64("next file number")?),
        4 => Field::LastSequence(c.varint64("last sequence")?),
        5 => Field::CompactCursor(c.varint32("level")?, lenstr(c, "compact cursor")?),
        6 => Field::DeletedFile(c.varint32("level")?, c.varint64("deleted file number")?),
        7 | 100 | 102 | 103 => Field::NewFile(new_file(c, tag)?),
        9 => Field::PrevLogNumber(c.varint64("previous log number")?),
        10 => Field::MinLogToKeep(c.varint64("min log number")?),
        200 => Field::Family(c.varint32("column family")?),
        201 => Field::AddFamily(lenstr(c, "family name")?),
        202 => Field::DropFamily,
        203 => Field::MaxFamily(c.varint32("max column family")?),
        300 => Field::AtomicGroup(c.varint32("atomic group")?),
        400 | 8194 => Field::BlobAddition(tag, blob_addition(c)?),
        401 | 8195 => Field::BlobGarbage(tag, blob_garbage(c)?),
        8193 => Field::DbId(lenstr(c, "database id")?),
        8196 => wal_addition_old(c)?,
        8197 => Field::WalDeletionOld(c.varint64("wal number")?),
        8198 => Field::FullHistoryTsLow(lenstr(c, "history timestamp")?),
        8199 => Field::WalAddition(lenstr(c, "wal addition")?),
        8200 => Field::WalDeletion(lenstr(c, "wal deletion")?),
        8201 => Field::PersistTimestamps(lenstr(c, "persist timestamps")?),
        tag if tag & 8192 != 0 => Field::Ignorable(tag, lenstr(c, "ignorable field")?),
        tag => return Err(EditError::Tag { at, tag }),
    })
}

fn put_field(out: &mut Vec<u8>, field: &Field) {
    let number = |out: &mut Vec<u8>, tag: u32, value: u64| {
        put_varint(out, u64::from(tag));
        put_varint(out, value);
    };
    let string = |out: &mut Vec<u8>, tag: u32, value: &[u8]| {
        put_varint(out, u64::from(tag));
        put_lenstr(out, value);
    };
    match field {
        Field::Comparator(s) => string(out, 1, s),
        Field::LogNumber(n) => number(out, 2, *n),
        Field::NextFile(n) => number(out, 3, *n),
        Field::LastSequence(n) => number(out, 4, *n),
        Field::CompactCursor(level, key) => {
            number(out, 5, u64::from(*level));
            put_lenstr(out, key);
        }
        Field::DeletedFile(level, n) => {
            number(out, 6, u64::from(*level));
            put_varint(out, *n);
        }
        Field::NewFile(f) => put_new_file(out, f),
        Field::PrevLogNumber(n) => number(out, 9, *n),
        Field::MinLogToKeep(n) => number(out, 10, *n),
        Field::Family(id) => number(out, 200, u64::from(*id)),
        Field::AddFamily(s) => string(out, 201, s),
        Field::DropFamily => put_varint(out, 202),
        Field::MaxFamily(id) => number(out, 203, u64::from(*id)),
        Field::AtomicGroup(n) => number(out, 300, u64::from(*n)),
        Field::BlobAddition(tag, b) => {
            number(out, *tag, b.number);
            put_varint(out, b.count);
            put_varint(out, b.bytes);
            put_lenstr(out, &b.method);
            put_lenstr(out, &b.checksum);
            put_customs(out, &b.custom, 0);
        }
        Field::BlobGarbage(tag, b) => {
            number(out, *tag, b.number);
            put_varint(out, b.count);
            put_varint(out, b.bytes);
            put_customs(out, &b.custom, 0);
        }
        Field::DbId(s) => string(out, 8193, s),
        Field::WalAdditionOld(n, fields) => {
            number(out, 8196, *n);
            for (tag, value) in fields {
                number(out, *tag, *value);
            }
            put_varint(out, 1);
        }
        Field::WalDeletionOld(n) => number(out, 8197, *n),
        Field::FullHistoryTsLow(s) => string(out, 8198, s),
        Field::WalAddition(s) => string(out, 8199, s),
        Field::WalDeletion(s) => string(out, 8200, s),
        Field::PersistTimestamps(s) => string(out, 8201, s),
        Field::Ignorable(tag, s) => string(out, *tag, s),
    }
}

fn put_new_file(out: &mut Vec<u8>, f: &NewFile) {
    put_varint(out, u64::from(f.tag));
    put_varint(out, u64::from(f.level));
    put_varint(out, f.number);
    if f.tag == 102 {
        put_varint(out, u64::from(f.path_id));
    }
    put_varint(out, f.size);
    put_lenstr(out, &f.smallest);
    put_lenstr(out, &f.largest);
    if f.tag != 7 {
        put_varint(out, f.smallest_seqno);
        put_varint(out, f.largest_seqno);
    }
    if f.tag == 103 {
        put_customs(out, &f.custom, custom::END);
    }
}

impl VersionEdit {
    /// Decodes one logical record.
    ///
    /// # Errors
    ///
    /// Where the database would refuse the record.
    pub fn decode(bytes: &[u8]) -> Result<Self, EditError> {
        let mut c = Cursor::new(bytes, 0);
        let mut fields = Vec::new();
        while !c.is_empty() {
            fields.push(field(&mut c)?);
        }
        Ok(Self { fields })
    }

    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for field in &self.fields {
            put_field(&mut out, field);
        }
        out
    }

    /// The family the record is about.
    #[must_use]
    pub fn family(&self) -> u32 {
        self.fields.iter().rev().find_map(|f| if let Field::Family(id) = f { Some(*id) } else { None }).unwrap_or(0)
    }

    /// Records that follow in the same atomic group, when the record is in one.
    #[must_use]
    pub fn atomic_group(&self) -> Option<u32> {
        self.fields.iter().find_map(|f| if let Field::AtomicGroup(n) = f { Some(*n) } else { None })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use super::*;

    pub(crate) fn sample() -> VersionEdit {
        let mut file = NewFile {
            tag: 103,
            level: 3,
            number: 12,
            size: 4096,
            smallest: b"a\x01\x01\0\0\0\0\0\0".to_vec(),
            largest: b"z\x01\x09\0\0\0\0\0\0".to_vec(),
            smallest_seqno: 1,
            largest_seqno: 9,
            ..NewFile::default()
        };
        file.set_number(custom::EPOCH, Some(7));
        file.set_number(custom::OLDEST_BLOB, Some(3));
        file.set(custom::PATH_ID, Some(vec![1]));
        VersionEdit {
            fields: vec![
                Field::DbId(b"id".to_vec()),
                Field::Comparator(b"leveldb.BytewiseComparator".to_vec()),
                Field::PersistTimestamps(vec![1]),
                Field::LogNumber(300),
                Field::PrevLogNumber(0),
                Field::NextFile(1 << 40),
                Field::MaxFamily(4),
                Field::MinLogToKeep(2),
                Field::LastSequence(99),
                Field::CompactCursor(2, b"key".to_vec()),
                Field::DeletedFile(0, 9),
                Field::NewFile(file),
                Field::NewFile(NewFile { tag: 7, smallest: vec![0; 8], largest: vec![1; 8], ..NewFile::default() }),
                Field::NewFile(NewFile {
                    tag: 102,
                    path_id: 2,
                    smallest: vec![0; 8],
                    largest: vec![1; 8],
                    ..NewFile::default()
                }),
                Field::BlobAddition(400, BlobAddition { number: 5, count: 6, bytes: 7, ..BlobAddition::default() }),
                Field::BlobGarbage(401, BlobGarbage { number: 5, count: 1, bytes: 2, ..BlobGarbage::default() }),
                Field::WalAdditionOld(8, vec![(2, 99)]),
                Field::WalDeletionOld(8),
                Field::FullHistoryTsLow(b"ts".to_vec()),
                Field::WalAddition(vec![1, 2]),
                Field::WalDeletion(vec![3]),
                Field::Ignorable(8203, vec![9]),
                Field::Family(2),
                Field::AddFamily(b"users".to_vec()),
                Field::DropFamily,
                Field::AtomicGroup(3),
            ],
        }
    }

    #[test]
    fn every_field_comes_back() {
        let edit = sample();
        let bytes = edit.encode();
        let again = VersionEdit::decode(&bytes).unwrap();
        assert_eq!(again, edit);
        assert_eq!(again.encode(), bytes);
        assert_eq!((again.family(), again.atomic_group()), (2, Some(3)));
        let Field::NewFile(f) = &again.fields[11] else { panic!("order") };
        assert_eq!((f.epoch(), f.oldest_blob(), f.path()), (Some(7), Some(3), 1));
    }

    #[test]
    fn no_cut_panics_and_unknown_tags_are_named() {
        let bytes = sample().encode();
        for len in 0..bytes.len() {
            let _ = VersionEdit::decode(&bytes[..len]);
        }
        assert_eq!(VersionEdit::decode(&[50]), Err(EditError::Tag { at: 0, tag: 50 }));
        let mut must = Vec::new();
        let mut f = NewFile { tag: 103, smallest: vec![0; 8], largest: vec![0; 8], ..NewFile::default() };
        f.set(66, Some(vec![]));
        put_field(&mut must, &Field::NewFile(f));
        assert!(matches!(VersionEdit::decode(&must), Err(EditError::Custom { tag: 66, .. })));
    }
}
