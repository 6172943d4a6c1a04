//! Values as text: defaults and literals in, JSON and CSV out.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use recovery_core::{Error, Result};

use super::arrow_type::{TYPE_KEY, data_type};
use crate::format::segment::Fault;
use crate::format::segment::objects::{BitmapValue, Hll, Percentile};
use crate::model::schema::Column;

/// One value of a column's type from its text, as a default value or a literal has it.
///
/// # Errors
///
/// When the text is no value of the type.
pub fn parse(column: &Column, text: &[u8]) -> Result<ArrayRef> {
    let wanted = data_type(column, 100)?;
    if wanted == DataType::Binary {
        return Ok(Arc::new(BinaryArray::from(vec![text])));
    }
    let not = |why: &str| {
        let shown = String::from_utf8_lossy(text);
        Error::Usage(format!("column {:?}: {shown:?} is no {}{why}", column.name, column.kind.name()))
    };
    let text = std::str::from_utf8(text).map_err(|_| not(": not UTF-8"))?;
    if wanted == DataType::Utf8 {
        return Ok(Arc::new(StringArray::from(vec![text])));
    }
    let trimmed = match wanted {
        DataType::Date32 => text.trim().get(..10).unwrap_or(text),
        _ => text.trim(),
    };
    if let DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) = wanted {
        // Rounding a literal would change what a comparison means.
        let digits = trimmed.split_once('.').map_or(0, |(_, f)| f.trim_end_matches('0').len());
        if digits > usize::try_from(scale).unwrap_or(0) {
            return Err(not(&format!(" with {scale} digits behind the point")));
        }
    }
    if wanted.is_nested() {
        return Err(Error::unsupported(format!(
            "a value of column {:?} ({}) from text",
            column.name,
            column.kind.name()
        )));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let array = StringArray::from(vec![trimmed]);
    cast_with_options(&array, &wanted, &options).map_err(|_| not(""))
}

/// A calendar date of days since 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days.saturating_add(719_468);
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (era.saturating_mul(400) + yoe + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

fn date(out: &mut dyn Write, days: i64) -> io::Result<()> {
    let (y, m, d) = civil(days);
    write!(out, "{y:04}-{m:02}-{d:02}")
}

fn timestamp(out: &mut dyn Write, micros: i64) -> io::Result<()> {
    let (days, rest) = (micros.div_euclid(86_400_000_000), micros.rem_euclid(86_400_000_000));
    date(out, days)?;
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    write!(out, " {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
    if fraction == 0 { Ok(()) } else { write!(out, ".{fraction:06}") }
}

fn decimal(out: &mut dyn Write, digits: &str, scale: i8) -> io::Result<()> {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |d| ("-", d));
    let scale = usize::try_from(scale).unwrap_or(0);
    if scale == 0 {
        return write!(out, "{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = scale.saturating_add(1));
    let (whole, fraction) = padded.split_at(padded.len().saturating_sub(scale));
    write!(out, "{sign}{whole}.{fraction}")
}

fn hex(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    bytes.iter().try_for_each(|b| write!(out, "{b:02x}"))
}

/// Whether a field holds JSON text.
fn is_json(field: &Field) -> bool {
    field.metadata().get(TYPE_KEY).is_some_and(|t| t == "JSON")
}

/// The plain text of a value that is not NULL and has no parts; `false` when it has.
fn plain(out: &mut dyn Write, array: &dyn Array, row: usize) -> io::Result<bool> {
    macro_rules! number {
        ($ty:ty) => {
            write!(out, "{}", array.as_primitive::<$ty>().value(row))?
        };
    }
    match array.data_type() {
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        // Widened, as in JSON: the shortest text of a FLOAT is another number to whoever reads it as DOUBLE.
        DataType::Float32 => write!(out, "{}", f64::from(array.as_primitive::<Float32Type>().value(row)))?,
        DataType::Float64 => number!(Float64Type),
        DataType::Boolean => write!(out, "{}", array.as_boolean().value(row))?,
        DataType::Date32 => date(out, i64::from(array.as_primitive::<Date32Type>().value(row)))?,
        DataType::Timestamp(..) => timestamp(out, array.as_primitive::<TimestampMicrosecondType>().value(row))?,
        DataType::Decimal128(_, scale) => {
            decimal(out, &array.as_primitive::<Decimal128Type>().value(row).to_string(), *scale)?;
        }
        DataType::Decimal256(_, scale) => {
            decimal(out, &array.as_primitive::<Decimal256Type>().value(row).to_string(), *scale)?;
        }
        DataType::Utf8 => out.write_all(array.as_string::<i32>().value(row).as_bytes())?,
        DataType::Binary => hex(out, array.as_binary::<i32>().value(row))?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Writes a value as JSON: integers and floats as numbers (FLOAT widened, which is exact), decimals, integers beyond
/// 64 bits, dates and times as strings, binary values as lowercase hex, JSON as it is, structs and maps as objects.
///
/// # Errors
///
/// When `out` does not take it.
pub fn json(out: &mut dyn Write, field: &Field, array: &dyn Array, row: usize) -> io::Result<()> {
    if array.is_null(row) {
        return out.write_all(b"null");
    }
    match array.data_type() {
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Boolean => plain(out, array, row).map(drop),
        DataType::Float32 => float(out, f64::from(array.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => float(out, array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 if is_json(field) => out.write_all(array.as_string::<i32>().value(row).as_bytes()),
        DataType::Utf8 => quoted(out, array.as_string::<i32>().value(row)),
        DataType::Decimal256(_, 0) => {
            let text = array.as_primitive::<Decimal256Type>().value(row).to_string();
            if text.parse::<i64>().is_ok() { out.write_all(text.as_bytes()) } else { write!(out, "\"{text}\"") }
        }
        DataType::List(item) => {
            let items = array.as_list::<i32>().value(row);
            out.write_all(b"[")?;
            for i in 0..items.len() {
                if i > 0 {
                    out.write_all(b",")?;
                }
                json(out, item, &items, i)?;
            }
            out.write_all(b"]")
        }
        DataType::Struct(fields) => {
            let array = array.as_struct();
            out.write_all(b"{")?;
            for (i, (field, column)) in fields.iter().zip(array.columns()).enumerate() {
                if i > 0 {
                    out.write_all(b",")?;
                }
                quoted(out, field.name())?;
                out.write_all(b":")?;
                json(out, field, column, row)?;
            }
            out.write_all(b"}")
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (DataType::Struct(fields), [keys, values]) = (entries.data_type(), entries.columns()) else {
                return out.write_all(b"null");
            };
            out.write_all(b"{")?;
            for i in 0..entries.len() {
                if i > 0 {
                    out.write_all(b",")?;
                }
                let mut key = Vec::new();
                plain(&mut key, keys, i)?;
                quoted(out, &String::from_utf8_lossy(&key))?;
                out.write_all(b":")?;
                match fields.get(1) {
                    Some(field) => json(out, field, values, i)?,
                    None => out.write_all(b"null")?,
                }
            }
            out.write_all(b"}")
        }
        _ => {
            out.write_all(b"\"")?;
            plain(out, array, row)?;
            out.write_all(b"\"")
        }
    }
}

/// Writes a row as a JSON object.
///
/// # Errors
///
/// When `out` does not take it.
pub fn object(out: &mut dyn Write, batch: &RecordBatch, row: usize) -> io::Result<()> {
    out.write_all(b"{")?;
    for (i, (field, array)) in batch.schema_ref().fields().iter().zip(batch.columns()).enumerate() {
        if i > 0 {
            out.write_all(b",")?;
        }
        quoted(out, field.name())?;
        out.write_all(b":")?;
        json(out, field, array, row)?;
    }
    out.write_all(b"}")
}

fn object_kind(field: &Field) -> Option<&str> {
    let kind = field.metadata().get(TYPE_KEY)?;
    matches!(kind.as_str(), "HLL" | "OBJECT" | "PERCENTILE").then_some(kind.as_str())
}

/// The schema of [`decode_objects`]: HLL, BITMAP and PERCENTILE columns are JSON text.
#[must_use]
pub fn decoded_schema(schema: &SchemaRef) -> SchemaRef {
    let json = |f: &Arc<Field>| match object_kind(f) {
        Some(_) => {
            let metadata = HashMap::from([(TYPE_KEY.to_owned(), "JSON".to_owned())]);
            Arc::new(Field::new(f.name(), DataType::Utf8, f.is_nullable()).with_metadata(metadata))
        }
        None => Arc::clone(f),
    };
    Arc::new(Schema::new(schema.fields().iter().map(json).collect::<Vec<_>>()))
}

/// Replaces HLL, BITMAP and PERCENTILE values by JSON of what they mean: cardinality, members, quantiles.
///
/// # Errors
///
/// When a value cannot be decoded.
pub fn decode_objects(batch: &RecordBatch) -> Result<RecordBatch> {
    let mut columns = Vec::new();
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let Some(kind) = object_kind(field) else {
            columns.push(Arc::clone(array));
            continue;
        };
        let values = array.as_binary::<i32>();
        let mut out = arrow::array::StringBuilder::new();
        for i in 0..values.len() {
            if values.is_null(i) {
                out.append_null();
                continue;
            }
            let json = meaning(kind, values.value(i))
                .map_err(|f| Error::Damaged(format!("column {:?}: {f}", field.name())))?;
            out.append_value(json.to_string());
        }
        columns.push(Arc::new(out.finish()));
    }
    RecordBatch::try_new(decoded_schema(batch.schema_ref()), columns).map_err(|e| Error::Internal(e.to_string()))
}

fn meaning(kind: &str, bytes: &[u8]) -> Result<serde_json::Value, Fault> {
    Ok(match kind {
        "HLL" => serde_json::json!({"cardinality": Hll::decode(bytes)?.cardinality()}),
        "OBJECT" => {
            let bitmap = BitmapValue::decode(bytes)?;
            serde_json::json!({"cardinality": bitmap.cardinality(), "members": bitmap.iter().collect::<Vec<_>>()})
        }
        _ => {
            let digest = Percentile::decode(bytes)?;
            let mut quantiles = serde_json::Map::new();
            for q in [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0] {
                if let Some(value) = digest.quantile(q) {
                    quantiles.insert(q.to_string(), value.into());
                }
            }
            serde_json::json!({"count": digest.count(), "quantiles": quantiles})
        }
    })
}

fn quoted(out: &mut dyn Write, text: &str) -> io::Result<()> {
    Ok(serde_json::to_writer(out, text)?)
}

fn float(out: &mut dyn Write, x: f64) -> io::Result<()> {
    // JSON has no number for these.
    if x.is_finite() { Ok(serde_json::to_writer(out, &x)?) } else { write!(out, "\"{x}\"") }
}

/// Writes a value as the text of a CSV field, without quoting; values with parts as JSON, NULL as `\N`, which is what
/// the engine's own loader takes.
///
/// # Errors
///
/// When `out` does not take it.
pub fn csv(out: &mut dyn Write, field: &Field, array: &dyn Array, row: usize) -> io::Result<()> {
    if array.is_null(row) {
        return out.write_all(b"\\N");
    }
    if plain(out, array, row)? { Ok(()) } else { json(out, field, array, row) }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::cast_possible_truncation
    )]
    use super::*;
    use crate::model::schema::ColumnType;

    fn show(column: &Column, text: &str) -> String {
        let array = parse(column, text.as_bytes()).unwrap();
        let field = super::super::arrow_type::field(column, 9).unwrap();
        let mut out = Vec::new();
        json(&mut out, &field, &array, 0).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_comes_back() {
        let of = |kind| Column::new(1, "c", kind);
        assert_eq!(show(&of(ColumnType::Int), "-7"), "-7");
        assert_eq!(
            show(&of(ColumnType::LargeInt), "170141183460469231731687303715884105727"),
            "\"170141183460469231731687303715884105727\""
        );
        assert_eq!(show(&of(ColumnType::LargeInt), "-5"), "-5");
        assert_eq!(show(&of(ColumnType::Date), "0001-02-03"), "\"0001-02-03\"");
        assert_eq!(show(&of(ColumnType::Datetime), "2012-04-11 23:34:01"), "\"2012-04-11 23:34:01\"");
        assert_eq!(show(&of(ColumnType::Datetime), "2012-04-11 23:34:01.000420"), "\"2012-04-11 23:34:01.000420\"");
        assert_eq!(show(&of(ColumnType::Boolean), "1"), "true");
        let mut decimal = of(ColumnType::Decimal64);
        (decimal.precision, decimal.scale) = (Some(10), Some(3));
        assert_eq!(show(&decimal, "-0.5"), "\"-0.500\"");
        assert!(parse(&decimal, b"0.0001").is_err());
        assert!(parse(&of(ColumnType::Int), b"x").is_err());
    }
}
