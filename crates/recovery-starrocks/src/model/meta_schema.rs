//! The physical schema of an index out of `__meta`: what is left to read segments with when no tablet header is.

use serde_json::Value;

use super::schema::{Aggregation, Column, ColumnType, KeysType, TabletSchema};

/// Deepest nesting of types.
const DEEPEST: usize = 32;

fn list<'a>(v: &'a Value, key: &str) -> &'a [Value] {
    v.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    v.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn flag(v: &Value, key: &str) -> bool {
    v.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// The schema of index `id` of a table's tree. Columns without a unique id (before 2.5) get -1: segments are then
/// matched by position. `None` where the tree has no such index or a type is not known.
#[must_use]
pub fn index_schema(table: &Value, id: i64) -> Option<TabletSchema> {
    let meta = table.get("indexIdToMeta")?.get(id.to_string())?;
    let keys = match [text(meta, "keysType"), text(table, "keysType")].into_iter().find(|k| !k.is_empty())? {
        "DUP_KEYS" => KeysType::Duplicate,
        "UNIQUE_KEYS" => KeysType::Unique,
        "AGG_KEYS" => KeysType::Aggregate,
        "PRIMARY_KEYS" => KeysType::Primary,
        _ => return None,
    };
    let columns: Vec<Column> = list(meta, "schema").iter().map(|c| column(c, keys)).collect::<Option<_>>()?;
    if columns.is_empty() {
        return None;
    }
    let sort = list(meta, "sortKeyIdxes").iter().filter_map(|i| u32::try_from(i.as_u64()?).ok());
    Some(TabletSchema { keys, columns, sort_key: sort.collect(), rows_per_block: 1024, ..TabletSchema::default() })
}

fn column(c: &Value, keys: KeysType) -> Option<Column> {
    let id = c.get("uniqueId").and_then(Value::as_i64).unwrap_or(-1);
    let mut out = of_type(c.get("type")?, id, text(c, "name"), 0)?;
    out.is_key = flag(c, "isKey");
    out.nullable = flag(c, "isAllowNull");
    out.is_auto_increment = flag(c, "isAutoIncrement");
    out.default_value = c.get("defaultValue").and_then(Value::as_str).map(|d| d.as_bytes().to_vec());
    let named = Aggregation::from_name(text(c, "aggregationType"));
    let replaced = matches!(keys, KeysType::Unique | KeysType::Primary) && named == Aggregation::None;
    if !out.is_key {
        out.aggregation = if replaced { Aggregation::Replace } else { named };
    }
    Some(out)
}

fn of_type(t: &Value, id: i64, name: &str, depth: usize) -> Option<Column> {
    let depth = depth.checked_add(1).filter(|d| *d <= DEEPEST)?;
    let child = |key: &str, name: &str| of_type(t.get(key)?, -1, name, depth);
    let (kind, children) = match text(t, "clazz") {
        "ArrayType" => (ColumnType::Array, vec![child("itemType", "item")?]),
        "MapType" => (ColumnType::Map, vec![child("keyType", "key")?, child("valueType", "value")?]),
        "StructType" => {
            let field = |f: &Value| of_type(f.get("type")?, -1, text(f, "name"), depth);
            (ColumnType::Struct, list(t, "fields").iter().map(field).collect::<Option<_>>()?)
        }
        _ => (scalar(text(t, "type"))?, Vec::new()),
    };
    let mut column = Column::new(id, name, kind);
    let small = |key: &str| t.get(key).and_then(Value::as_u64).and_then(|n| u8::try_from(n).ok());
    if text(t, "type").starts_with("DECIMAL") {
        (column.precision, column.scale) = (small("precision"), small("scale"));
    }
    column.length = t.get("len").and_then(Value::as_i64).unwrap_or(0);
    column.children = children;
    Some(column)
}

/// The front end's names of primitive types; the segment's own type decides between old and new forms.
fn scalar(name: &str) -> Option<ColumnType> {
    Some(match name {
        "DATE" => ColumnType::Date,
        "DATETIME" => ColumnType::Datetime,
        "DECIMALV2" => ColumnType::DecimalV2,
        other => ColumnType::from_name(other)?,
    })
}
