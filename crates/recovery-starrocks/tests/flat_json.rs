//! JSON columns whose paths are stored as columns of their own come back as whole values.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _};
use recovery_core::{Blob, MemBlob};
use recovery_starrocks::format::segment::proto::{
    BTreeMeta, ColumnIndex, ColumnMeta, DataPageFooter, JsonMeta, OrdinalIndex, PageFooter, PagePointer, SegmentFooter,
    encoding, page_kind,
};
use recovery_starrocks::format::segment::{bitshuffle, fixed, footer, page, strings};
use recovery_starrocks::model::schema::{Column, ColumnType, TabletSchema};
use recovery_starrocks::reader::{ReadOptions, Segment};
use serde_json::{Value, json};

const ROWS: usize = 5;

/// A column of one page at the end of `file`.
fn leaf(file: &mut Vec<u8>, name: &str, kind: ColumnType, code: i32, mut body: Vec<u8>, nulls: &[bool]) -> ColumnMeta {
    let mut map = 0;
    if !nulls.is_empty() {
        let flags: Vec<u8> = (0..8).map(|i| u8::from(nulls.get(i).copied().unwrap_or(false))).collect();
        let packed = bitshuffle::encode(&flags, 1);
        map = packed.len() as u32;
        body.extend_from_slice(&packed);
    }
    let data = DataPageFooter {
        first_ordinal: 0,
        num_values: ROWS as u64,
        nullmap_size: map,
        corresponding_element_ordinal: None,
        format_version: Some(2),
        null_encoding: Some(0),
    };
    let footer = PageFooter {
        kind: page_kind::DATA,
        uncompressed_size: body.len() as u32,
        data: Some(data),
        ..PageFooter::default()
    };
    let bytes = page::encode(&body, &footer);
    let root = PagePointer { offset: file.len() as u64, size: bytes.len() as u32 };
    file.extend_from_slice(&bytes);
    let ordinal = Some(OrdinalIndex { root: Some(BTreeMeta { root_page: Some(root), is_root_data_page: true }) });
    ColumnMeta {
        type_code: kind.code(),
        encoding: code,
        compression: 2,
        is_nullable: !nulls.is_empty(),
        indexes: vec![ColumnIndex { kind: 1, ordinal, ..ColumnIndex::default() }],
        name: Some(name.as_bytes().to_vec()),
        ..ColumnMeta::default()
    }
}

fn segment() -> (Vec<u8>, ColumnMeta) {
    let mut file = Vec::new();
    // Row 1 is NULL; row 3 is no object; row 4 is empty but for one path.
    let flags = fixed::encode_bit_shuffle(&[0, 1, 0, 0, 0], 1);
    let ints: Vec<u8> = [5i64, 0, -6, 0, 0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let words = strings::encode_plain([&b"Rome"[..], b"", b"", b"", b"Oslo"]);
    let whole: [&[u8]; ROWS] = [&[0x1a], &[], &[0x18], &[], &[]];
    let big: Vec<u8> = [u128::from(u64::MAX), 0, 1, 0, 0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let rest: [&[u8]; ROWS] = [&[0x0b, 7, 1, 0x41, b'x', 0x35, 3], &[0], &[], &[0x34], &[0x0a]];
    let mut children = vec![leaf(&mut file, "nulls", ColumnType::TinyInt, encoding::BIT_SHUFFLE, flags, &[])];
    let nulls = |present: [bool; ROWS]| present.map(|p| !p);
    children.push(leaf(
        &mut file,
        "a",
        ColumnType::BigInt,
        encoding::BIT_SHUFFLE,
        fixed::encode_bit_shuffle(&ints, 8),
        &nulls([true, false, true, false, false]),
    ));
    children.push(leaf(
        &mut file,
        "b.city",
        ColumnType::Varchar,
        encoding::PLAIN,
        words,
        &nulls([true, false, false, false, true]),
    ));
    children.push(leaf(
        &mut file,
        "b.\"c.d\"",
        ColumnType::Json,
        encoding::PLAIN,
        strings::encode_plain(whole),
        &nulls([true, false, true, false, false]),
    ));
    children.push(leaf(
        &mut file,
        "u",
        ColumnType::LargeInt,
        encoding::BIT_SHUFFLE,
        fixed::encode_bit_shuffle(&big, 16),
        &nulls([true, false, false, false, false]),
    ));
    children.push(leaf(&mut file, "remain", ColumnType::Json, encoding::PLAIN, strings::encode_plain(rest), &[]));
    let meta = ColumnMeta {
        unique_id: 7,
        type_code: ColumnType::Json.code(),
        encoding: 1,
        compression: 2,
        is_nullable: true,
        children,
        json_meta: Some(JsonMeta { format_version: 1, is_flat: true, has_remain: true }),
        ..ColumnMeta::default()
    };
    (file, meta)
}

fn read(mut file: Vec<u8>, meta: ColumnMeta, options: ReadOptions) -> Vec<Option<Value>> {
    let footer = SegmentFooter { version: 2, columns: vec![meta], num_rows: ROWS as u64, short_key_page: None };
    file.extend_from_slice(&footer::encode(&footer));
    let blob: Arc<dyn Blob> = Arc::new(MemBlob::new("segment", file));
    let segment = Arc::new(Segment::open(blob).unwrap());
    let mut column = Column::new(7, "j", ColumnType::Json);
    column.nullable = true;
    let schema = TabletSchema { columns: vec![column], ..TabletSchema::default() };
    let mut rows = segment.rows(&schema, &[0], options).unwrap();
    let mut out = Vec::new();
    while let Some(next) = rows.next_batch().unwrap() {
        let texts = next.batch.column(0).as_string::<i32>().clone();
        out.extend((0..texts.len()).map(|i| texts.is_valid(i).then(|| serde_json::from_str(texts.value(i)).unwrap())));
    }
    out
}

#[test]
fn values_are_put_together() {
    let (file, meta) = segment();
    let expected = vec![
        Some(json!({"x": 5, "a": 5, "b": {"city": "Rome", "c.d": true}, "u": u64::MAX})),
        None,
        Some(json!({"a": -6, "b": {"c.d": null}})),
        Some(json!(4)),
        Some(json!({"b": {"city": "Oslo"}})),
    ];
    assert_eq!(read(file.clone(), meta.clone(), ReadOptions::default()), expected);
    let small = ReadOptions { batch_rows: 2, ..ReadOptions::default() };
    assert_eq!(read(file, meta, small), expected);
}

/// A damaged page of one path costs its rows, and they are NULL, never a value with a part missing.
#[test]
fn a_lost_path_loses_the_value() {
    let (mut file, meta) = segment();
    let at = meta.children[1].indexes[0].ordinal.unwrap().root.unwrap().root_page.unwrap().offset as usize;
    file[at + 3] ^= 1;
    let options = ReadOptions { salvage: true, ..ReadOptions::default() };
    assert_eq!(read(file, meta, options), vec![None; ROWS]);
}
