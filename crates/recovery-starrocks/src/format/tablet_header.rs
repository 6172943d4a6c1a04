//! `<tablet>.hdr` and `<tablet>.dcgs_snapshot`: a frame of 40 bytes around a protobuf message.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic, 0 |
//! | 8 | 4 | version, 1 |
//! | 12 | 8 | file length: 40 + protobuf length |
//! | 20 | 4 | unused, 0 |
//! | 24 | 8 | protobuf length |
//! | 32 | 4 | Adler-32 of the protobuf |
//! | 36 | 4 | flag, 0 |
//! | 40 | n | protobuf |
//!
//! Little-endian. The checksum covers the protobuf only; of the frame, magic, version and the two lengths are
//! compared with what they must be, 8 bytes (20 to 24 and 36 to 40) are covered by nothing but the MD5 in the name.
//! Sources: `storage/protobuf_file.cpp`, `gensrc/proto/olap_file.proto`, `gensrc/proto/tablet_schema.proto`.

use prost::Message;

use super::FormatError;
use crate::model::schema;

mod frame;

pub use frame::{FRAME, Frame};

/// Most messages of one kind that a file may hold before it is refused: each costs some hundred bytes of memory.
const MOST_MESSAGES: usize = 4_000_000;

/// `TabletMetaPB`.
#[derive(Clone, PartialEq, Message)]
pub struct TabletMetaPb {
    /// Table id.
    #[prost(int64, optional, tag = "1")]
    pub table_id: Option<i64>,
    /// Partition id.
    #[prost(int64, optional, tag = "2")]
    pub partition_id: Option<i64>,
    /// Tablet id.
    #[prost(int64, optional, tag = "3")]
    pub tablet_id: Option<i64>,
    /// Schema hash.
    #[prost(int32, optional, tag = "4")]
    pub schema_hash: Option<i32>,
    /// Shard directory on the back end.
    #[prost(int32, optional, tag = "5")]
    pub shard_id: Option<i32>,
    /// Seconds since 1970.
    #[prost(int64, optional, tag = "6")]
    pub creation_time: Option<i64>,
    /// Compaction point.
    #[prost(int64, optional, tag = "7")]
    pub cumulative_layer_point: Option<i64>,
    /// 0 not ready, 1 running, 2 tombstoned, 3 stopped, 4 shut down.
    #[prost(int32, optional, tag = "8")]
    pub tablet_state: Option<i32>,
    /// Schema.
    #[prost(message, optional, tag = "9")]
    pub schema: Option<TabletSchemaPb>,
    /// Rowsets.
    #[prost(message, repeated, tag = "10")]
    pub rs_metas: Vec<RowsetMetaPb>,
    /// Incremental rowsets, kept for clones; copies of visible ones.
    #[prost(message, repeated, tag = "11")]
    pub inc_rs_metas: Vec<RowsetMetaPb>,
    /// Being restored.
    #[prost(bool, optional, tag = "13")]
    pub in_restore_mode: Option<bool>,
    /// Identity of the replica.
    #[prost(message, optional, tag = "14")]
    pub tablet_uid: Option<UidPb>,
    /// Versions of a primary-key tablet.
    #[prost(message, optional, tag = "50")]
    pub updates: Option<TabletUpdatesPb>,
}

/// `PUniqueId`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct UidPb {
    /// High word.
    #[prost(int64, optional, tag = "1")]
    pub hi: Option<i64>,
    /// Low word.
    #[prost(int64, optional, tag = "2")]
    pub lo: Option<i64>,
}

/// `TabletSchemaPB`.
#[derive(Clone, PartialEq, Message)]
pub struct TabletSchemaPb {
    /// 0 duplicate, 1 unique, 2 aggregate, 10 primary.
    #[prost(int32, optional, tag = "1")]
    pub keys_type: Option<i32>,
    /// Columns.
    #[prost(message, repeated, tag = "2")]
    pub column: Vec<ColumnPb>,
    /// Columns of the short key.
    #[prost(int32, optional, tag = "3")]
    pub num_short_key_columns: Option<i32>,
    /// Rows between two short keys.
    #[prost(int32, optional, tag = "4")]
    pub num_rows_per_row_block: Option<i32>,
    /// Bloom filter error rate.
    #[prost(double, optional, tag = "6")]
    pub bf_fpp: Option<f64>,
    /// Next unique id.
    #[prost(uint32, optional, tag = "7")]
    pub next_column_unique_id: Option<u32>,
    /// Compression of new segments.
    #[prost(int32, optional, tag = "10")]
    pub compression_type: Option<i32>,
    /// Sort key as positions.
    #[prost(uint32, repeated, packed = "false", tag = "11")]
    pub sort_key_idxes: Vec<u32>,
    /// Version of the schema.
    #[prost(int32, optional, tag = "12")]
    pub schema_version: Option<i32>,
    /// Sort key as unique ids.
    #[prost(uint32, repeated, packed = "false", tag = "13")]
    pub sort_key_unique_ids: Vec<u32>,
    /// Id of the schema.
    #[prost(int64, optional, tag = "50")]
    pub id: Option<i64>,
}

/// `ColumnPB`.
#[derive(Clone, PartialEq, Message)]
pub struct ColumnPb {
    /// Identity across schema changes.
    #[prost(int32, optional, tag = "1")]
    pub unique_id: Option<i32>,
    /// Name.
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
    /// Type name.
    #[prost(string, optional, tag = "3")]
    pub kind: Option<String>,
    /// Key column.
    #[prost(bool, optional, tag = "4")]
    pub is_key: Option<bool>,
    /// Aggregation name.
    #[prost(string, optional, tag = "5")]
    pub aggregation: Option<String>,
    /// May be NULL.
    #[prost(bool, optional, tag = "6")]
    pub is_nullable: Option<bool>,
    /// Default value as text.
    #[prost(bytes = "vec", optional, tag = "7")]
    pub default_value: Option<Vec<u8>>,
    /// Decimal precision.
    #[prost(int32, optional, tag = "8")]
    pub precision: Option<i32>,
    /// Decimal scale.
    #[prost(int32, optional, tag = "9")]
    pub frac: Option<i32>,
    /// Declared length.
    #[prost(int32, optional, tag = "10")]
    pub length: Option<i32>,
    /// Length in the short key.
    #[prost(int32, optional, tag = "11")]
    pub index_length: Option<i32>,
    /// Bloom filter column.
    #[prost(bool, optional, tag = "12")]
    pub is_bf_column: Option<bool>,
    /// Bitmap index column.
    #[prost(bool, optional, tag = "15")]
    pub has_bitmap_index: Option<bool>,
    /// Visible to queries.
    #[prost(bool, optional, tag = "16")]
    pub visible: Option<bool>,
    /// Children of complex types.
    #[prost(message, repeated, tag = "17")]
    pub children_columns: Vec<ColumnPb>,
    /// Filled by the engine.
    #[prost(bool, optional, tag = "18")]
    pub is_auto_increment: Option<bool>,
}

/// `RowsetMetaPB`.
#[derive(Clone, PartialEq, Message)]
pub struct RowsetMetaPb {
    /// Old numeric id, 0 today.
    #[prost(int64, optional, tag = "1")]
    pub deprecated_rowset_id: Option<i64>,
    /// Partition id.
    #[prost(int64, optional, tag = "2")]
    pub partition_id: Option<i64>,
    /// Tablet id.
    #[prost(int64, optional, tag = "3")]
    pub tablet_id: Option<i64>,
    /// Schema hash.
    #[prost(int32, optional, tag = "5")]
    pub tablet_schema_hash: Option<i32>,
    /// 0 alpha, 1 beta.
    #[prost(int32, optional, tag = "6")]
    pub rowset_type: Option<i32>,
    /// 0 prepared, 1 committed, 2 visible.
    #[prost(int32, optional, tag = "7")]
    pub rowset_state: Option<i32>,
    /// First version.
    #[prost(int64, optional, tag = "8")]
    pub start_version: Option<i64>,
    /// Last version.
    #[prost(int64, optional, tag = "9")]
    pub end_version: Option<i64>,
    /// Rows stored.
    #[prost(int64, optional, tag = "11")]
    pub num_rows: Option<i64>,
    /// Bytes on disk.
    #[prost(int64, optional, tag = "12")]
    pub total_disk_size: Option<i64>,
    /// Bytes of data.
    #[prost(int64, optional, tag = "13")]
    pub data_disk_size: Option<i64>,
    /// Bytes of indexes.
    #[prost(int64, optional, tag = "14")]
    pub index_disk_size: Option<i64>,
    /// A DELETE.
    #[prost(message, optional, tag = "16")]
    pub delete_predicate: Option<DeletePredicatePb>,
    /// No rows.
    #[prost(bool, optional, tag = "17")]
    pub empty: Option<bool>,
    /// Whether it is a DELETE.
    #[prost(bool, optional, tag = "19")]
    pub delete_flag: Option<bool>,
    /// Seconds since 1970.
    #[prost(int64, optional, tag = "20")]
    pub creation_time: Option<i64>,
    /// Identity of the replica.
    #[prost(message, optional, tag = "21")]
    pub tablet_uid: Option<UidPb>,
    /// Segment files.
    #[prost(int64, optional, tag = "22")]
    pub num_segments: Option<i64>,
    /// Rowset id.
    #[prost(string, optional, tag = "23")]
    pub rowset_id: Option<String>,
    /// 0 unknown, 1 overlapping, 2 not overlapping.
    #[prost(int32, optional, tag = "51")]
    pub segments_overlap: Option<i32>,
    /// First segment id in a primary-key tablet.
    #[prost(uint32, optional, tag = "52")]
    pub rowset_seg_id: Option<u32>,
    /// `.del` files.
    #[prost(uint32, optional, tag = "53")]
    pub num_delete_files: Option<u32>,
    /// `.upt` files.
    #[prost(uint32, optional, tag = "57")]
    pub num_update_files: Option<u32>,
    /// Schema at write time, where it is kept.
    #[prost(message, optional, tag = "60")]
    pub tablet_schema: Option<TabletSchemaPb>,
    /// Keys of encrypted segments.
    #[prost(bytes = "vec", repeated, tag = "64")]
    pub segment_encryption_metas: Vec<Vec<u8>>,
}

/// `DeletePredicatePB`.
#[derive(Clone, PartialEq, Message)]
pub struct DeletePredicatePb {
    /// Version, or -1.
    #[prost(int32, optional, tag = "1")]
    pub version: Option<i32>,
    /// Conditions as text.
    #[prost(string, repeated, tag = "2")]
    pub sub_predicates: Vec<String>,
    /// Lists.
    #[prost(message, repeated, tag = "3")]
    pub in_predicates: Vec<InPredicatePb>,
}

/// `InPredicatePB`.
#[derive(Clone, PartialEq, Message)]
pub struct InPredicatePb {
    /// Column name.
    #[prost(string, optional, tag = "1")]
    pub column_name: Option<String>,
    /// NOT IN.
    #[prost(bool, optional, tag = "2")]
    pub is_not_in: Option<bool>,
    /// Values as text.
    #[prost(string, repeated, tag = "3")]
    pub values: Vec<String>,
}

/// `TabletUpdatesPB`.
#[derive(Clone, PartialEq, Message)]
pub struct TabletUpdatesPb {
    /// Edit versions; one in a full snapshot.
    #[prost(message, repeated, tag = "1")]
    pub versions: Vec<EditVersionMetaPb>,
    /// The version that is applied.
    #[prost(message, optional, tag = "2")]
    pub apply_version: Option<EditVersionPb>,
    /// Next segment id.
    #[prost(uint32, optional, tag = "3")]
    pub next_rowset_id: Option<u32>,
    /// Next log entry.
    #[prost(uint64, optional, tag = "4")]
    pub next_log_id: Option<u64>,
}

/// `EditVersionMetaPB`.
#[derive(Clone, PartialEq, Message)]
pub struct EditVersionMetaPb {
    /// Version.
    #[prost(message, optional, tag = "1")]
    pub version: Option<EditVersionPb>,
    /// Seconds since 1970.
    #[prost(int64, optional, tag = "2")]
    pub creation_time: Option<i64>,
    /// `rowset_seg_id` of the rowsets that are visible.
    #[prost(uint32, repeated, packed = "false", tag = "3")]
    pub rowsets: Vec<u32>,
}

/// `EditVersion`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct EditVersionPb {
    /// Visible version.
    #[prost(int64, optional, tag = "1")]
    pub major: Option<i64>,
    /// Compactions since.
    #[prost(int64, optional, tag = "2")]
    pub minor: Option<i64>,
}

/// `DeltaColumnGroupListPB`.
#[derive(Clone, PartialEq, Message)]
pub struct ColumnGroupListPb {
    /// Groups.
    #[prost(message, repeated, tag = "1")]
    pub dcgs: Vec<ColumnGroupPb>,
    /// Version of each.
    #[prost(int64, repeated, packed = "false", tag = "2")]
    pub versions: Vec<i64>,
}

/// `DeltaColumnGroupPB`.
#[derive(Clone, PartialEq, Message)]
pub struct ColumnGroupPb {
    /// Unique ids, one list a file.
    #[prost(message, repeated, tag = "1")]
    pub column_ids: Vec<ColumnIdsPb>,
    /// File names.
    #[prost(string, repeated, tag = "2")]
    pub column_files: Vec<String>,
}

/// `DeltaColumnGroupColumnIdsPB`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ColumnIdsPb {
    /// Unique ids.
    #[prost(uint32, repeated, packed = "false", tag = "1")]
    pub ids: Vec<u32>,
}

/// `DeltaColumnGroupSnapshotPB`, the content of `.dcgs_snapshot`.
#[derive(Clone, PartialEq, Message)]
pub struct ColumnGroupSnapshotPb {
    /// Tablet of each list.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub tablet_id: Vec<i64>,
    /// Rowset of each list.
    #[prost(string, repeated, tag = "2")]
    pub rowset_id: Vec<String>,
    /// Segment of each list.
    #[prost(uint32, repeated, packed = "false", tag = "3")]
    pub segment_id: Vec<u32>,
    /// The lists.
    #[prost(message, repeated, tag = "4")]
    pub dcg_lists: Vec<ColumnGroupListPb>,
}

/// Decodes a message after bounding how many sub-messages it can make: an empty one costs two bytes in the file
/// and hundreds in memory.
pub(crate) fn message<M: Message + Default>(bytes: &[u8], what: &'static str, at: u64) -> Result<M, FormatError> {
    if bytes.len() / 2 > MOST_MESSAGES {
        let fields = count_fields(bytes);
        if fields > MOST_MESSAGES {
            return Err(FormatError::new(what, at, format!("{fields} fields: more than this reader takes")));
        }
    }
    M::decode(bytes).map_err(|e| FormatError::new(what, at, format!("not a valid message: {e}")))
}

fn count_fields(mut bytes: &[u8]) -> usize {
    use prost::encoding::{DecodeContext, decode_key, skip_field};
    let mut n = 0usize;
    while !bytes.is_empty() {
        let Ok((tag, wire)) = decode_key(&mut bytes) else { break };
        if skip_field(wire, tag, &mut bytes, DecodeContext::default()).is_err() {
            break;
        }
        n = n.saturating_add(1);
    }
    n
}

impl TabletMetaPb {
    /// Reads the message of a frame.
    ///
    /// # Errors
    ///
    /// When it is not a valid message.
    pub fn read(frame: &Frame<'_>) -> Result<Self, FormatError> {
        message(frame.body, "tablet header", FRAME as u64)
    }
}

impl ColumnGroupSnapshotPb {
    /// Reads a `.dcgs_snapshot` file.
    ///
    /// # Errors
    ///
    /// When frame or message are wrong.
    pub fn decode_file(bytes: &[u8]) -> Result<Self, FormatError> {
        message(Frame::split(bytes)?.check()?, "delta column groups", FRAME as u64)
    }
}

impl TabletSchemaPb {
    /// The typed schema.
    ///
    /// # Errors
    ///
    /// When a key model, column type or number is not known.
    pub fn to_schema(&self) -> Result<schema::TabletSchema, FormatError> {
        let code = self.keys_type.unwrap_or(0);
        let keys = schema::KeysType::from_code(code)
            .ok_or_else(|| FormatError::new("tablet schema", 0, format!("keys type {code} is not known")))?;
        let columns = self.column.iter().map(|c| c.to_column()).collect::<Result<Vec<_>, _>>()?;
        let by_id = |id: &u32| columns.iter().position(|c| c.unique_id == i64::from(*id));
        let sort_key = if self.sort_key_idxes.is_empty() {
            self.sort_key_unique_ids.iter().filter_map(by_id).filter_map(|p| u32::try_from(p).ok()).collect()
        } else {
            self.sort_key_idxes.clone()
        };
        Ok(schema::TabletSchema {
            keys,
            sort_key,
            short_key_columns: u32::try_from(self.num_short_key_columns.unwrap_or(0)).unwrap_or(0),
            rows_per_block: u32::try_from(self.num_rows_per_row_block.unwrap_or(1024)).unwrap_or(1024),
            compression: self.compression_type.unwrap_or(5),
            next_unique_id: i64::from(self.next_column_unique_id.unwrap_or(0)),
            version: self.schema_version.unwrap_or(0),
            id: self.id.unwrap_or(0),
            columns,
        })
    }
}

impl ColumnPb {
    fn to_column(&self) -> Result<schema::Column, FormatError> {
        let name = self.name.clone().unwrap_or_default();
        let kind = self.kind.as_deref().unwrap_or("");
        let known = schema::ColumnType::from_name(kind).filter(|k| *k != schema::ColumnType::Unknown);
        let unknown_type = known.is_none().then(|| kind.to_owned());
        let kind = known.unwrap_or(schema::ColumnType::Unknown);
        Ok(schema::Column {
            unique_id: i64::from(self.unique_id.unwrap_or(-1)),
            kind,
            is_key: self.is_key.unwrap_or(false),
            nullable: self.is_nullable.unwrap_or(false),
            aggregation: schema::Aggregation::from_name(self.aggregation.as_deref().unwrap_or("NONE")),
            default_value: self.default_value.clone(),
            precision: self.precision.and_then(|v| u8::try_from(v).ok()),
            scale: self.frac.and_then(|v| u8::try_from(v).ok()),
            length: i64::from(self.length.unwrap_or(0)),
            index_length: i64::from(self.index_length.unwrap_or(0)),
            visible: self.visible.unwrap_or(true),
            has_bitmap_index: self.has_bitmap_index.unwrap_or(false),
            is_bloom_filter: self.is_bf_column.unwrap_or(false),
            is_auto_increment: self.is_auto_increment.unwrap_or(false),
            unknown_type,
            children: self.children_columns.iter().map(Self::to_column).collect::<Result<_, _>>()?,
            name,
        })
    }
}

impl DeletePredicatePb {
    /// The typed predicate.
    #[must_use]
    pub fn to_predicate(&self) -> schema::DeletePredicate {
        schema::DeletePredicate {
            conditions: self.sub_predicates.clone(),
            lists: self
                .in_predicates
                .iter()
                .map(|p| schema::InList {
                    column: p.column_name.clone().unwrap_or_default(),
                    negated: p.is_not_in.unwrap_or(false),
                    values: p.values.clone(),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn sample() -> Vec<u8> {
        let meta = TabletMetaPb {
            tablet_id: Some(7),
            schema: Some(TabletSchemaPb {
                column: vec![ColumnPb { name: Some("k".into()), kind: Some("INT".into()), ..Default::default() }],
                ..Default::default()
            }),
            ..Default::default()
        };
        Frame::seal(&meta.encode_to_vec())
    }

    #[test]
    fn frame_round_trip_and_every_flip() {
        let bytes = sample();
        let frame = Frame::split(&bytes).unwrap();
        assert_eq!(TabletMetaPb::read(&frame).unwrap().tablet_id, Some(7));
        assert_eq!(Frame::seal(frame.check().unwrap()), bytes);
        for bit in 0..bytes.len() * 8 {
            let mut copy = bytes.clone();
            copy[bit / 8] ^= 1 << (bit % 8);
            let uncovered = (20..24).contains(&(bit / 8)) || (36..40).contains(&(bit / 8));
            let ok = Frame::split(&copy).is_ok_and(|f| f.check().is_ok());
            assert_eq!(ok, uncovered, "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(!Frame::split(&bytes[..cut]).is_ok_and(|f| f.check().is_ok()), "cut {cut}");
        }
    }
}
