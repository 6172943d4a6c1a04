//! What a column is in Arrow.
//!
//! | StarRocks | Arrow |
//! |---|---|
//! | TINYINT ... BIGINT | Int8 ... Int64 |
//! | LARGEINT | Decimal256(39, 0): no Arrow integer is 128 bits wide |
//! | FLOAT, DOUBLE, BOOLEAN | Float32, Float64, Boolean |
//! | CHAR, VARCHAR, JSON | Utf8 |
//! | VARBINARY, HLL, BITMAP, PERCENTILE | Binary, as stored |
//! | DATE | Date32 |
//! | DATETIME | Timestamp(Microsecond), without a zone |
//! | DECIMAL | Decimal128(27, 9); DECIMAL32/64/128 by their precision and scale; DECIMAL256 as Decimal256 |
//! | ARRAY, MAP, STRUCT | List, Map, Struct |
//!
//! Every field carries the engine's type name in its metadata under [`TYPE_KEY`].

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use recovery_core::{Error, Result};

use crate::model::schema::{Column, ColumnType, TabletSchema};

/// Metadata key of the engine's type name.
pub const TYPE_KEY: &str = "starrocks.type";

/// The Arrow type of a column.
///
/// # Errors
///
/// When a complex column lacks children, or nests deeper than `depth`.
pub fn data_type(column: &Column, depth: u32) -> Result<DataType> {
    use ColumnType as T;
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Error::unsupported(format!("column {:?}: nested too deep", column.name)));
    };
    let child = |i: usize| {
        column.children.get(i).ok_or_else(|| {
            Error::Damaged(format!(
                "column {:?}: {} without its child {i} in the schema",
                column.name,
                column.kind.name()
            ))
        })
    };
    let decimal = |most: u8| (column.precision.unwrap_or(most).clamp(1, most), column.scale.unwrap_or(0).min(most));
    let scale = |s: u8| i8::try_from(s).unwrap_or(0);
    Ok(match column.kind {
        T::Unknown => {
            let kind = column.unknown_type.as_deref().unwrap_or("?");
            return Err(Error::unsupported(format!(
                "column {:?} of type {kind} (--columns reads the others)",
                column.name
            )));
        }
        T::TinyInt => DataType::Int8,
        T::SmallInt => DataType::Int16,
        T::Int => DataType::Int32,
        T::BigInt => DataType::Int64,
        T::UnsignedTinyInt => DataType::UInt8,
        T::UnsignedSmallInt => DataType::UInt16,
        T::UnsignedInt => DataType::UInt32,
        T::UnsignedBigInt => DataType::UInt64,
        T::LargeInt => DataType::Decimal256(39, 0),
        T::Int256 => DataType::Decimal256(76, 0),
        T::Float => DataType::Float32,
        T::Double => DataType::Float64,
        T::Boolean => DataType::Boolean,
        T::Char | T::Varchar | T::Json => DataType::Utf8,
        T::Varbinary | T::Hll | T::Object | T::Percentile => DataType::Binary,
        T::Date | T::DateV1 => DataType::Date32,
        T::Datetime | T::DatetimeV1 => DataType::Timestamp(TimeUnit::Microsecond, None),
        T::DecimalV1 | T::DecimalV2 => DataType::Decimal128(27, 9),
        T::Decimal32 | T::Decimal64 | T::Decimal128 => {
            let (p, s) = decimal(38);
            DataType::Decimal128(p.max(s), scale(s))
        }
        T::Decimal256 => {
            let (p, s) = decimal(76);
            DataType::Decimal256(p.max(s), scale(s))
        }
        T::Array => DataType::List(Arc::new(field_named(child(0)?, "item", depth)?)),
        T::Map => {
            let key = field_named(child(0)?, "key", depth)?.with_nullable(false);
            let value = field_named(child(1)?, "value", depth)?;
            let entries = DataType::Struct(Fields::from(vec![key, value]));
            DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
        }
        T::Struct => {
            child(0)?;
            let fields = column.children.iter().map(|c| field_named(c, &c.name, depth)).collect::<Result<Vec<_>>>()?;
            DataType::Struct(Fields::from(fields))
        }
    })
}

fn field_named(column: &Column, name: &str, depth: u32) -> Result<Field> {
    // Inner values may be NULL whatever the schema says: writers differ.
    let field = Field::new(name, data_type(column, depth)?, true);
    let metadata = HashMap::from([(TYPE_KEY.to_owned(), column.kind.name().to_owned())]);
    Ok(field.with_metadata(metadata))
}

/// The Arrow field of a column.
///
/// # Errors
///
/// As [`data_type`].
pub fn field(column: &Column, depth: u32) -> Result<Field> {
    Ok(field_named(column, &column.name, depth)?.with_nullable(column.nullable))
}

/// The Arrow schema of a tablet's columns.
///
/// # Errors
///
/// As [`data_type`].
pub fn schema(tablet: &TabletSchema, depth: u32) -> Result<Schema> {
    tablet.columns.iter().map(|c| field(c, depth)).collect::<Result<Vec<_>>>().map(Schema::new)
}
