//! Segment cases: the file, its schema and its rows.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use recovery_core::{Blob, MemBlob};
use recovery_starrocks::model::schema::{Aggregation, Column, ColumnType, KeysType, TabletSchema};
use recovery_starrocks::reader::{ReadOptions, Segment, text};
use serde_json::Value;

pub struct Case {
    pub data: Vec<u8>,
    pub schema: TabletSchema,
    pub rows: Vec<String>,
}

impl Case {
    pub fn blob(&self) -> Arc<dyn Blob> {
        Arc::new(MemBlob::new("segment.dat", self.data.clone()))
    }
}

/// Lines of a file that may be compressed.
pub fn lines(folder: &Path, name: &str) -> Vec<String> {
    let plain = std::fs::read(folder.join(name));
    let bytes = plain
        .unwrap_or_else(|_| zstd::decode_all(&std::fs::read(folder.join(format!("{name}.zst"))).unwrap()[..]).unwrap());
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

pub fn column(json: &Value, id: i64) -> Column {
    let mut column =
        Column::new(id, json["name"].as_str().unwrap(), ColumnType::from_name(json["type"].as_str().unwrap()).unwrap());
    column.is_key = json["key"].as_bool().unwrap_or(false);
    column.nullable = json["nullable"].as_bool().unwrap_or(false);
    column.length = json["length"].as_i64().unwrap_or(0);
    column.precision = json["precision"].as_u64().map(|p| p as u8);
    column.scale = json["scale"].as_u64().map(|p| p as u8);
    column.aggregation = Aggregation::from_name(json["agg"].as_str().unwrap_or(""));
    column.children = json["children"].as_array().into_iter().flatten().map(|c| self::column(c, 0)).collect();
    column
}

/// Columns with the unique ids the segment was written with.
pub fn schema(json: &Value, ids: &[i64]) -> TabletSchema {
    let columns = json.as_array().unwrap().iter().zip(ids).map(|(c, id)| column(c, *id)).collect();
    TabletSchema { keys: KeysType::Duplicate, columns, ..TabletSchema::default() }
}

pub fn load_case(folder: &Path) -> Case {
    let data = std::fs::read(folder.join("segment.dat")).unwrap();
    let json: Value = serde_json::from_slice(&std::fs::read(folder.join("schema.json")).unwrap()).unwrap();
    let footer = Segment::open(Arc::new(MemBlob::new("s", data.clone()))).unwrap();
    let ids: Vec<i64> = footer.footer().columns.iter().map(|c| i64::from(c.unique_id)).collect();
    assert_eq!(ids.len(), json.as_array().unwrap().len());
    Case { data, schema: schema(&json, &ids), rows: lines(folder, "rows.jsonl") }
}

pub fn render(batch: &RecordBatch, row: usize) -> Vec<String> {
    let schema = batch.schema();
    let cell = |(field, array): (&Arc<arrow::datatypes::Field>, &arrow::array::ArrayRef)| {
        let mut out = Vec::new();
        text::json(&mut out, field, array, row).unwrap();
        String::from_utf8(out).unwrap()
    };
    schema.fields().iter().zip(batch.columns()).map(cell).collect()
}

pub fn rows_of(
    segment: &Arc<Segment>,
    schema: &TabletSchema,
    options: ReadOptions,
) -> recovery_core::Result<Vec<Vec<String>>> {
    let all: Vec<usize> = (0..schema.columns.len()).collect();
    let mut rows = segment.rows(schema, &all, options)?;
    let mut out = Vec::new();
    while let Some(next) = rows.next_batch()? {
        out.extend((0..next.batch.num_rows()).map(|row| render(&next.batch, row)));
    }
    Ok(out)
}

/// The elements of a JSON array as they are written, numbers of any size included.
pub fn cells(array: &str) -> Vec<&str> {
    let inner = array.trim().strip_prefix('[').unwrap().strip_suffix(']').unwrap();
    let (mut out, mut depth, mut quoted, mut escaped, mut start) = (Vec::new(), 0, false, false, 0);
    for (i, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                out.push(inner[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    if !inner.trim().is_empty() {
        out.push(inner[start..].trim());
    }
    out
}

/// Whether a rendered value is the recorded one; maps are recorded as pairs, structs by position.
pub fn same(column: &Column, got: &str, want: &str) -> bool {
    if column.kind == ColumnType::LargeInt {
        return got.trim_matches('"') == want;
    }
    let got: Value = serde_json::from_str(got).unwrap_or_else(|e| panic!("{got}: {e}"));
    let want: Value = serde_json::from_str(want).unwrap();
    equal(column, &got, &want)
}

fn equal(column: &Column, got: &Value, want: &Value) -> bool {
    match (column.kind, got, want) {
        (_, Value::Null, w) => w.is_null(),
        (ColumnType::Map, Value::Object(map), Value::Array(pairs)) => {
            map.len() == pairs.len()
                && map.iter().zip(pairs).all(|((k, v), pair)| {
                    let key = pair[0].as_str().map_or_else(|| pair[0].to_string(), str::to_owned);
                    *k == key && equal(&column.children[1], v, &pair[1])
                })
        }
        (ColumnType::Struct, Value::Object(map), Value::Array(values)) => {
            map.len() == values.len()
                && map.values().zip(values).zip(&column.children).all(|((g, w), c)| equal(c, g, w))
        }
        (ColumnType::Array, Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(g, w)| equal(&column.children[0], g, w))
        }
        (ColumnType::Float | ColumnType::Double, Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => got == want,
    }
}
