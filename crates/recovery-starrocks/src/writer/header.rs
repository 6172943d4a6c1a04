//! Tablet headers with fewer segments than they named: a rowset that lost a file goes on with what is left of it, so
//! that a back end can load the tablet. Fields that are not known here stay as they were.

use prost::Message as _;
use prost::encoding::encode_varint;
use recovery_core::Cursor;

use crate::format::FormatError;
use crate::format::tablet_header::{ColumnPb, RowsetMetaPb, TabletMetaPb, TabletSchemaPb};
use crate::model::schema::{Column, TabletSchema};

/// `TabletMetaPB`: tablet_id, rs_metas, inc_rs_metas, tablet_uid.
const TABLET_ID: u64 = 3;
const ROWSETS: u64 = 10;
const INCREMENTAL: u64 = 11;
const TABLET_UID: u64 = 14;

/// A field of a message: its number and its bytes, key included.
struct Field<'a> {
    number: u64,
    whole: &'a [u8],
    value: &'a [u8],
}

fn fields(bytes: &[u8]) -> Result<Vec<Field<'_>>, FormatError> {
    let bad = |at: u64| FormatError::new("protobuf", at, "a field that breaks off");
    let mut out = Vec::new();
    let mut c = Cursor::new(bytes, 0);
    while !c.is_empty() {
        let rest = c.rest();
        let at = c.offset();
        let key = c.varint64("field key").map_err(|_| bad(at))?;
        match key & 7 {
            0 => drop(c.varint64("field value").map_err(|_| bad(at))?),
            1 => c.skip(8, "field value").map_err(|_| bad(at))?,
            5 => c.skip(4, "field value").map_err(|_| bad(at))?,
            2 => {
                let n = c.varint64("field length").map_err(|_| bad(at))?;
                c.skip(usize::try_from(n).map_err(|_| bad(at))?, "field value").map_err(|_| bad(at))?;
            }
            _ => return Err(bad(at)),
        }
        let used = rest.len().saturating_sub(c.rest().len());
        let whole = rest.get(..used).unwrap_or_default();
        let mut inner = Cursor::new(whole, 0);
        let _ = inner.varint64("field key");
        if key & 7 == 2 {
            let _ = inner.varint64("field length");
        }
        out.push(Field { number: key >> 3, whole, value: inner.rest() });
    }
    Ok(out)
}

fn put_int(out: &mut Vec<u8>, number: u64, value: i64) {
    encode_varint(number << 3, out);
    encode_varint(value.cast_unsigned(), out);
}

fn put_message(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    encode_varint((number << 3) | 2, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// What is left of a rowset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remains {
    /// Segments.
    pub segments: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// A rowset with fewer segments.
fn shrink(message: &[u8], left: Remains) -> Result<Vec<u8>, FormatError> {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    // num_rows, total, data and index size, empty, num_segments
    let changed = [
        (11, signed(left.rows)),
        (12, signed(left.bytes)),
        (13, signed(left.bytes)),
        (14, 0),
        (17, i64::from(left.segments == 0)),
        (22, signed(left.segments)),
    ];
    let mut out = Vec::with_capacity(message.len());
    for field in fields(message)?.iter().filter(|f| !changed.iter().any(|(n, _)| *n == f.number)) {
        out.extend_from_slice(field.whole);
    }
    for (number, value) in changed {
        put_int(&mut out, number, value);
    }
    Ok(out)
}

/// A `TabletMetaPB` in which rowsets that lost files hold what is left of them, and versions that no rowset covers
/// have an empty one.
///
/// # Errors
///
/// When the message cannot be taken apart.
pub fn without_lost(
    body: &[u8],
    remains: &dyn Fn(&str) -> Option<Remains>,
    empty: &[(i64, i64)],
) -> Result<Vec<u8>, FormatError> {
    let mut out = Vec::with_capacity(body.len());
    let mut model = None;
    for field in fields(body)? {
        // Copies of visible rowsets for clones name the same files.
        if field.number == INCREMENTAL {
            continue;
        }
        if field.number != ROWSETS {
            out.extend_from_slice(field.whole);
            continue;
        }
        let bad = |e: prost::DecodeError| FormatError::new("rowset", 0, e.to_string());
        let rowset = RowsetMetaPb::decode(field.value).map_err(bad)?;
        match remains(rowset.rowset_id.as_deref().unwrap_or_default()) {
            Some(left) => put_message(&mut out, ROWSETS, &shrink(field.value, left)?),
            None => out.extend_from_slice(field.whole),
        }
        model = Some(rowset);
    }
    for (start, end) in empty {
        let model = model.clone().unwrap_or_default();
        put_message(&mut out, ROWSETS, &blank(&model, *start, *end).encode_to_vec());
    }
    Ok(out)
}

/// An empty rowset. Its id continues no counter of a back end; RESTORE gives every rowset a new one.
fn blank(model: &RowsetMetaPb, start: i64, end: i64) -> RowsetMetaPb {
    let id = format!("02{:014x}{:016x}{:016x}", 0x00ff_ffff_0000_u64.saturating_add(start.unsigned_abs()), 0, end);
    RowsetMetaPb {
        deprecated_rowset_id: Some(0),
        partition_id: model.partition_id,
        tablet_id: model.tablet_id,
        tablet_schema_hash: model.tablet_schema_hash,
        rowset_type: Some(1),
        rowset_state: Some(2),
        start_version: Some(start),
        end_version: Some(end),
        num_rows: Some(0),
        total_disk_size: Some(0),
        data_disk_size: Some(0),
        index_disk_size: Some(0),
        empty: Some(true),
        creation_time: model.creation_time,
        tablet_uid: model.tablet_uid,
        num_segments: Some(0),
        rowset_id: Some(id),
        segments_overlap: Some(2),
        ..RowsetMetaPb::default()
    }
}

/// A rowset of a header that is made anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRowset {
    /// Id; none for an empty one.
    pub id: Option<String>,
    /// First version.
    pub start: i64,
    /// Last version.
    pub end: i64,
    /// What is in it.
    pub remains: Remains,
}

/// The ids of a tablet whose header is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Table.
    pub table: i64,
    /// Physical partition.
    pub partition: i64,
    /// Tablet.
    pub tablet: i64,
    /// Schema hash of its index.
    pub schema_hash: i32,
    /// Seconds since 1970.
    pub created: i64,
}

/// A `TabletMetaPB` like a sibling's, with other rowsets.
///
/// # Errors
///
/// When the sibling's message cannot be taken apart.
pub fn like_sibling(sibling: &[u8], ids: Ids, rowsets: &[NewRowset]) -> Result<Vec<u8>, FormatError> {
    let mut out = Vec::with_capacity(sibling.len());
    for field in fields(sibling)? {
        match field.number {
            TABLET_ID => put_int(&mut out, TABLET_ID, ids.tablet),
            ROWSETS | INCREMENTAL | TABLET_UID => {}
            _ => out.extend_from_slice(field.whole),
        }
    }
    put_rowsets(&mut out, ids, rowsets);
    Ok(out)
}

/// A `TabletMetaPB` from a schema alone.
#[must_use]
pub fn from_schema(schema: &TabletSchema, ids: Ids, rowsets: &[NewRowset]) -> Vec<u8> {
    let meta = TabletMetaPb {
        table_id: Some(ids.table),
        partition_id: Some(ids.partition),
        tablet_id: Some(ids.tablet),
        schema_hash: Some(ids.schema_hash),
        shard_id: Some(0),
        creation_time: Some(ids.created),
        cumulative_layer_point: Some(-1),
        tablet_state: Some(1),
        schema: Some(schema_message(schema)),
        ..TabletMetaPb::default()
    };
    let mut out = meta.encode_to_vec();
    put_rowsets(&mut out, ids, rowsets);
    out
}

fn put_rowsets(out: &mut Vec<u8>, ids: Ids, rowsets: &[NewRowset]) {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    for r in rowsets {
        let model = RowsetMetaPb {
            partition_id: Some(ids.partition),
            tablet_id: Some(ids.tablet),
            tablet_schema_hash: Some(ids.schema_hash),
            creation_time: Some(ids.created),
            ..RowsetMetaPb::default()
        };
        let mut rowset = blank(&model, r.start, r.end);
        if let Some(id) = &r.id {
            rowset.rowset_id = Some(id.clone());
            rowset.num_rows = Some(signed(r.remains.rows));
            rowset.total_disk_size = Some(signed(r.remains.bytes));
            rowset.data_disk_size = Some(signed(r.remains.bytes));
            rowset.num_segments = Some(signed(r.remains.segments));
            rowset.empty = Some(r.remains.segments == 0);
            // Nothing says whether its segments overlap.
            rowset.segments_overlap = Some(if r.remains.segments > 1 { 1 } else { 2 });
        }
        put_message(out, ROWSETS, &rowset.encode_to_vec());
    }
}

fn schema_message(schema: &TabletSchema) -> TabletSchemaPb {
    let next = schema.columns.iter().map(|c| c.unique_id).max().unwrap_or(0).saturating_add(1);
    TabletSchemaPb {
        keys_type: Some(match schema.keys {
            crate::model::KeysType::Duplicate => 0,
            crate::model::KeysType::Unique => 1,
            crate::model::KeysType::Aggregate => 2,
            crate::model::KeysType::Primary => 10,
        }),
        column: (0i64..).zip(&schema.columns).map(|(i, c)| column_message(c, i)).collect(),
        num_short_key_columns: Some(i32::try_from(schema.short_key_columns.max(1)).unwrap_or(1)),
        num_rows_per_row_block: Some(1024),
        next_column_unique_id: u32::try_from(next.max(schema.next_unique_id)).ok(),
        compression_type: Some(if schema.compression > 0 { schema.compression } else { 5 }),
        sort_key_idxes: schema.sort_key.clone(),
        ..TabletSchemaPb::default()
    }
}

fn column_message(c: &Column, place: i64) -> ColumnPb {
    use crate::model::ColumnType as T;
    let small = |n: i64| i32::try_from(n).ok();
    // Text is counted with its declared length, everything else by its width.
    let length = match c.kind {
        T::Char | T::Varchar | T::Varbinary => c.length.max(1),
        T::TinyInt | T::Boolean => 1,
        T::SmallInt => 2,
        T::DateV1 => 3,
        T::Int | T::Float | T::Date | T::Decimal32 => 4,
        T::DecimalV1 => 12,
        T::LargeInt | T::DecimalV2 | T::Decimal128 => 16,
        T::Hll => 16_387,
        T::Decimal256 | T::Int256 => 32,
        T::Array | T::Map | T::Struct | T::Object | T::Percentile | T::Json => 24,
        _ => 8,
    };
    let indexed = if matches!(c.kind, T::Varchar | T::Varbinary) { length.min(20) } else { length };
    ColumnPb {
        unique_id: small(if c.unique_id < 0 { place } else { c.unique_id }),
        name: Some(c.name.clone()),
        kind: Some(c.kind.name().to_owned()),
        is_key: Some(c.is_key),
        aggregation: Some(c.aggregation.name().to_owned()),
        is_nullable: Some(c.nullable),
        default_value: c.default_value.clone(),
        precision: c.precision.map(i32::from),
        frac: c.scale.map(i32::from),
        length: small(length),
        index_length: small(indexed),
        is_bf_column: Some(c.is_bloom_filter),
        has_bitmap_index: Some(c.has_bitmap_index),
        visible: Some(c.visible),
        children_columns: c.children.iter().map(|c| column_message(c, -1)).collect(),
        is_auto_increment: Some(c.is_auto_increment),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn rowset(id: &str, start: i64, end: i64, rows: i64, segments: i64) -> RowsetMetaPb {
        RowsetMetaPb {
            rowset_id: Some(id.into()),
            start_version: Some(start),
            end_version: Some(end),
            num_rows: Some(rows),
            num_segments: Some(segments),
            rowset_state: Some(2),
            ..RowsetMetaPb::default()
        }
    }

    #[test]
    fn lost_segments_leave_everything_else_as_it_was() {
        let meta = TabletMetaPb {
            tablet_id: Some(7),
            rs_metas: vec![rowset("a", 0, 1, 0, 0), rowset("b", 2, 2, 10, 2), rowset("c", 3, 3, 5, 1)],
            ..TabletMetaPb::default()
        };
        let mut body = meta.encode_to_vec();
        // A field of a later release.
        put_message(&mut body, 4000, b"later");
        let out =
            without_lost(&body, &|id| (id == "b").then_some(Remains { segments: 1, rows: 4, bytes: 99 }), &[(4, 6)])
                .unwrap();
        assert!(out.windows(5).any(|w| w == b"later"));
        let new = TabletMetaPb::decode(&out[..]).unwrap();
        assert_eq!(new.rs_metas.len(), 4);
        assert_eq!(
            (new.rs_metas[0].clone(), new.rs_metas[2].clone()),
            (meta.rs_metas[0].clone(), meta.rs_metas[2].clone())
        );
        let b = &new.rs_metas[1];
        assert_eq!((b.num_rows, b.num_segments, b.empty, b.end_version), (Some(4), Some(1), Some(false), Some(2)));
        let last = &new.rs_metas[3];
        assert_eq!((last.start_version, last.end_version, last.num_segments), (Some(4), Some(6), Some(0)));
    }

    #[test]
    fn broken_messages_are_errors() {
        assert!(without_lost(&[0x0a, 0x05, 0x01], &|_| None, &[]).is_err());
        assert!(fields(&[0x0f]).is_err());
    }
}
