//! Writes a MANIFEST: the smallest list of records that current versions accept.
//!
//! One record for the default family, one for each other family, then one for each table or blob file, so that a later
//! flip of a bit costs one file's entry and not the whole state. No tag is written that versions since 6.18 do not know
//! or may not skip.

use serde::{Deserialize, Serialize};

use crate::format::log_frame::FrameWriter;
use crate::format::version_edit::{BlobAddition, BlobGarbage, Field, NewFile, VersionEdit, custom};

/// A version, as data: what a plan keeps and a MANIFEST is made of. Byte strings are hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewVersion {
    /// Number of the MANIFEST itself.
    pub manifest: u64,
    /// Database id.
    pub db_id: Option<String>,
    /// Next free file number.
    pub next_file: u64,
    /// Last sequence number.
    pub last_sequence: u64,
    /// WALs below this are not needed.
    pub min_log: u64,
    /// Highest family id given out.
    pub max_family: u32,
    /// Families in order of their ids.
    pub families: Vec<NewFamily>,
}

/// A family of a new version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewFamily {
    /// Id.
    pub id: u32,
    /// Name as hexadecimal.
    pub name_hex: String,
    /// Name as text, for people.
    pub name: String,
    /// Comparator.
    pub comparator: Option<String>,
    /// WALs below hold nothing of it that is not in tables.
    pub log_number: u64,
    /// Content of tag 8201.
    pub persist_timestamps: Option<String>,
    /// Content of tag 8198.
    pub history_low: Option<String>,
    /// Tables.
    pub tables: Vec<NewTable>,
    /// Blob files.
    pub blobs: Vec<NewBlob>,
}

/// A table of a new version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTable {
    /// Number.
    pub number: u64,
    /// Level.
    pub level: u32,
    /// Epoch number.
    pub epoch: u64,
    /// Size of the file.
    pub size: u64,
    /// Smallest internal key.
    pub smallest: String,
    /// Largest internal key.
    pub largest: String,
    /// Smallest sequence number.
    pub smallest_seqno: u64,
    /// Largest sequence number.
    pub largest_seqno: u64,
    /// Oldest blob file it refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_blob: Option<u64>,
    /// Other custom fields, taken over from the old entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom: Vec<(u32, String)>,
}

/// A blob file of a new version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBlob {
    /// Number.
    pub number: u64,
    /// Records.
    pub count: u64,
    /// Bytes of records.
    pub bytes: u64,
    /// Garbage records.
    pub garbage_count: u64,
    /// Garbage bytes.
    pub garbage_bytes: u64,
}

/// A byte string in a version is no hexadecimal text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plan's {0} is not hexadecimal")]
pub struct NotHex(&'static str);

fn bytes(text: &str, what: &'static str) -> Result<Vec<u8>, NotHex> {
    if !text.len().is_multiple_of(2) {
        return Err(NotHex(what));
    }
    recovery_core::unhex(text).ok_or(NotHex(what))
}

fn optional(text: Option<&String>, what: &'static str) -> Result<Option<Vec<u8>>, NotHex> {
    text.map(|t| bytes(t, what)).transpose()
}

fn head(version: &NewVersion, family: &NewFamily) -> Result<VersionEdit, NotHex> {
    let mut fields = Vec::new();
    if family.id == 0
        && let Some(id) = &version.db_id
    {
        fields.push(Field::DbId(id.clone().into_bytes()));
    }
    if let Some(comparator) = &family.comparator {
        fields.push(Field::Comparator(comparator.clone().into_bytes()));
    }
    if let Some(flag) = optional(family.persist_timestamps.as_ref(), "timestamp flag")? {
        fields.push(Field::PersistTimestamps(flag));
    }
    fields.push(Field::LogNumber(family.log_number));
    if family.id == 0 {
        fields.extend([
            Field::PrevLogNumber(0),
            Field::NextFile(version.next_file),
            Field::MaxFamily(version.max_family),
        ]);
        if version.min_log > 0 {
            fields.push(Field::MinLogToKeep(version.min_log));
        }
        fields.push(Field::LastSequence(version.last_sequence));
    } else {
        fields.extend([Field::Family(family.id), Field::AddFamily(bytes(&family.name_hex, "family name")?)]);
    }
    if let Some(low) = optional(family.history_low.as_ref(), "history timestamp")? {
        fields.push(Field::FullHistoryTsLow(low));
    }
    Ok(VersionEdit { fields })
}

fn table(family: u32, t: &NewTable) -> Result<VersionEdit, NotHex> {
    let mut file = NewFile {
        tag: 103,
        level: t.level,
        number: t.number,
        size: t.size,
        smallest: bytes(&t.smallest, "smallest key")?,
        largest: bytes(&t.largest, "largest key")?,
        smallest_seqno: t.smallest_seqno,
        largest_seqno: t.largest_seqno,
        ..NewFile::default()
    };
    for (tag, value) in &t.custom {
        file.set(*tag, Some(bytes(value, "custom field")?));
    }
    file.set_number(custom::EPOCH, Some(t.epoch));
    file.set_number(custom::OLDEST_BLOB, t.oldest_blob);
    Ok(VersionEdit { fields: with_family(family, Field::NewFile(file)) })
}

fn blob(family: u32, b: &NewBlob) -> VersionEdit {
    let added = BlobAddition { number: b.number, count: b.count, bytes: b.bytes, ..BlobAddition::default() };
    let mut fields = vec![Field::BlobAddition(400, added)];
    if b.garbage_count > 0 {
        let garbage =
            BlobGarbage { number: b.number, count: b.garbage_count, bytes: b.garbage_bytes, ..BlobGarbage::default() };
        fields.push(Field::BlobGarbage(401, garbage));
    }
    fields.extend((family != 0).then_some(Field::Family(family)));
    VersionEdit { fields }
}

fn with_family(family: u32, field: Field) -> Vec<Field> {
    let mut fields = vec![field];
    fields.extend((family != 0).then_some(Field::Family(family)));
    fields
}

/// The bytes of the MANIFEST.
///
/// # Errors
///
/// When a byte string of the version is no hexadecimal text.
pub fn encode(version: &NewVersion) -> Result<Vec<u8>, NotHex> {
    let mut edits = Vec::new();
    for family in &version.families {
        edits.push(head(version, family)?);
    }
    for family in &version.families {
        // Blob files first: tables refer to them, and a record must not name a file that is not known yet.
        for b in &family.blobs {
            edits.push(blob(family.id, b));
        }
        for t in &family.tables {
            edits.push(table(family.id, t)?);
        }
    }
    let (mut out, mut writer) = (Vec::new(), FrameWriter::default());
    for edit in edits {
        writer.record(&edit.encode(), &mut out);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use recovery_core::MemBlob;

    #[test]
    fn what_is_written_reads_back() {
        let key = recovery_core::hex(b"k\x01\x05\0\0\0\0\0\0");
        let t = NewTable {
            number: 9,
            level: 3,
            epoch: 4,
            size: 100,
            smallest: key.clone(),
            largest: key,
            smallest_seqno: 5,
            largest_seqno: 5,
            oldest_blob: Some(8),
            custom: vec![(7, "00ff".into())],
        };
        let version = NewVersion {
            manifest: 12,
            db_id: Some("id".into()),
            next_file: 13,
            last_sequence: 5,
            min_log: 2,
            max_family: 3,
            families: vec![
                NewFamily { comparator: Some("c".into()), ..NewFamily::default() },
                NewFamily {
                    id: 3,
                    name_hex: recovery_core::hex(b"users"),
                    tables: vec![t],
                    blobs: vec![NewBlob { number: 8, count: 2, bytes: 3, garbage_count: 1, garbage_bytes: 1 }],
                    ..NewFamily::default()
                },
            ],
        };
        let bytes = encode(&version).unwrap();
        let m = crate::reader::manifest::read(&MemBlob::new("MANIFEST-000012", bytes), 12, 1 << 20);
        assert!(m.is_whole() && m.opens());
        assert_eq!((m.version.next_file, m.version.last_sequence, m.version.max_family), (13, 5, 3));
        let users = m.version.families.get(&3).unwrap();
        assert_eq!(users.name, b"users");
        let file = users.files.get(&9).unwrap();
        assert_eq!((file.level, file.epoch(), file.oldest_blob()), (3, Some(4), Some(8)));
        assert_eq!(users.blobs.get(&8).unwrap().garbage_count, 1);
        let json = serde_json::to_value(&version).unwrap();
        assert_eq!(serde_json::from_value::<NewVersion>(json).unwrap(), version);
    }
}
