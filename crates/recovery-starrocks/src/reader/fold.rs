//! Folding rows with equal keys.
//!
//! A chunk holds rows in key order, rows with equal keys side by side from the oldest to the newest; `starts` has the
//! first row of each group. Source: `be/src/storage/column_aggregate_func.cpp`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, PrimitiveBuilder, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, i256,
};
use arrow::row::{RowConverter, SortField};
use recovery_core::{Error, Result};

use crate::format::segment::Fault;
use crate::format::segment::objects::{BitmapValue, Hll, Percentile};
use crate::model::schema::{Aggregation, Column};

/// Groups of a chunk: where each begins, and where the last ends.
pub(super) struct Groups {
    starts: Vec<u32>,
    end: u32,
}

impl Groups {
    pub(super) fn new(starts: Vec<u32>, end: u32) -> Self {
        Self { starts, end }
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    fn ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        let ends = self.starts.iter().skip(1).copied().chain(std::iter::once(self.end));
        self.starts.iter().zip(ends).map(|(from, to)| *from as usize..to as usize)
    }

    fn all_single(&self) -> bool {
        self.starts.len() == self.end as usize
    }

    pub(super) fn firsts(&self) -> UInt32Array {
        UInt32Array::from(self.starts.clone())
    }

    pub(super) fn lasts(&self) -> UInt32Array {
        self.ranges().map(|r| u32::try_from(r.end.saturating_sub(1)).unwrap_or(0)).collect::<Vec<u32>>().into()
    }

    /// Per group: whether any of its rows is flagged.
    pub(super) fn any(&self, flags: &[bool]) -> Vec<bool> {
        self.ranges().map(|r| flags.get(r).unwrap_or_default().contains(&true)).collect()
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn arrow_error(e: arrow::error::ArrowError) -> Error {
    Error::Internal(e.to_string())
}

/// One value for each group.
pub(super) fn fold(column: &Column, array: &ArrayRef, groups: &Groups) -> Result<ArrayRef> {
    if groups.all_single() {
        return Ok(Arc::clone(array));
    }
    let pick = |rows: UInt32Array| take(array, &rows, None).map_err(arrow_error);
    match &column.aggregation {
        Aggregation::Replace => pick(groups.lasts()),
        Aggregation::None if column.is_key => pick(groups.firsts()),
        // Value columns of unique tables need not name the aggregation they have.
        Aggregation::None => pick(groups.lasts()),
        Aggregation::ReplaceIfNotNull => {
            let newest = |r: std::ops::Range<usize>| {
                let last = r.end.saturating_sub(1);
                r.rev().find(|i| array.is_valid(*i)).unwrap_or(last)
            };
            pick(groups.ranges().map(|r| u32::try_from(newest(r)).unwrap_or(0)).collect::<Vec<u32>>().into())
        }
        Aggregation::Min | Aggregation::Max => extreme(array, groups, column.aggregation == Aggregation::Max),
        Aggregation::Sum => sum(column, array, groups),
        Aggregation::HllUnion => objects(column, array, groups, Hll::decode, Hll::union, Hll::encode),
        Aggregation::BitmapUnion => {
            objects(column, array, groups, BitmapValue::decode, BitmapValue::union, BitmapValue::encode)
        }
        Aggregation::PercentileUnion => {
            objects(column, array, groups, Percentile::decode, Percentile::union, Percentile::encode)
        }
        Aggregation::Other(name) => Err(Error::unsupported(format!(
            "column {:?} with the aggregation {name} (--columns reads the others)",
            column.name
        ))),
    }
}

fn extreme(array: &ArrayRef, groups: &Groups, largest: bool) -> Result<ArrayRef> {
    let converter = RowConverter::new(vec![SortField::new(array.data_type().clone())]).map_err(arrow_error)?;
    let rows = converter.convert_columns(std::slice::from_ref(array)).map_err(arrow_error)?;
    let best = |r: std::ops::Range<usize>| {
        let first = r.start;
        let present = r.filter(|i| array.is_valid(*i));
        let best = present.reduce(|a, b| {
            let b_wins = if largest { rows.row(b) > rows.row(a) } else { rows.row(b) < rows.row(a) };
            if b_wins { b } else { a }
        });
        u32::try_from(best.unwrap_or(first)).unwrap_or(0)
    };
    let rows = UInt32Array::from(groups.ranges().map(best).collect::<Vec<u32>>());
    take(array, &rows, None).map_err(arrow_error)
}

fn add<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    groups: &Groups,
    add: impl Fn(T::Native, T::Native) -> T::Native,
) -> ArrayRef {
    let values = array.as_primitive::<T>();
    let mut out = PrimitiveBuilder::<T>::with_capacity(groups.len()).with_data_type(array.data_type().clone());
    for range in groups.ranges() {
        let present = range.filter(|i| values.is_valid(*i)).map(|i| values.value(i));
        out.append_option(present.reduce(&add));
    }
    Arc::new(out.finish())
}

/// Sums wrap around as the engine's do.
fn sum(column: &Column, array: &ArrayRef, groups: &Groups) -> Result<ArrayRef> {
    Ok(match array.data_type() {
        DataType::Int8 => add::<Int8Type>(array, groups, i8::wrapping_add),
        DataType::Int16 => add::<Int16Type>(array, groups, i16::wrapping_add),
        DataType::Int32 => add::<Int32Type>(array, groups, i32::wrapping_add),
        DataType::Int64 => add::<Int64Type>(array, groups, i64::wrapping_add),
        DataType::Float32 => add::<Float32Type>(array, groups, |a, b| a + b),
        DataType::Float64 => add::<Float64Type>(array, groups, |a, b| a + b),
        DataType::Decimal128(..) => add::<Decimal128Type>(array, groups, i128::wrapping_add),
        // LARGEINT has 128 bits in the engine, whatever holds it here.
        DataType::Decimal256(..) if column.kind == crate::model::ColumnType::LargeInt => {
            let narrow = |v: i256| i128::from_le_bytes(*v.to_le_bytes().first_chunk().unwrap_or(&[0; 16]));
            add::<Decimal256Type>(array, groups, |a, b| i256::from_i128(narrow(a).wrapping_add(narrow(b))))
        }
        DataType::Decimal256(..) => add::<Decimal256Type>(array, groups, i256::wrapping_add),
        other => return Err(Error::unsupported(format!("column {:?}: SUM of {other}", column.name))),
    })
}

fn objects<T>(
    column: &Column,
    array: &ArrayRef,
    groups: &Groups,
    decode: impl Fn(&[u8]) -> Result<T, Fault>,
    union: impl Fn(&mut T, &T),
    encode: impl Fn(&T) -> Vec<u8>,
) -> Result<ArrayRef> {
    let DataType::Binary = array.data_type() else {
        return Err(Error::unsupported(format!("column {:?}: a union of {}", column.name, array.data_type())));
    };
    let values = array.as_binary::<i32>();
    let mut out = BinaryBuilder::new();
    for range in groups.ranges() {
        let mut present = range.filter(|i| values.is_valid(*i));
        let (Some(first), second) = (present.next(), present.next()) else {
            out.append_null();
            continue;
        };
        let Some(second) = second else {
            out.append_value(values.value(first));
            continue;
        };
        let get =
            |i: usize| decode(values.value(i)).map_err(|f| Error::Damaged(format!("column {:?}: {f}", column.name)));
        let mut all = get(first)?;
        for i in std::iter::once(second).chain(present) {
            union(&mut all, &get(i)?);
        }
        out.append_value(encode(&all));
    }
    Ok(Arc::new(out.finish()))
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
    use arrow::array::{Int64Array, StringArray};

    fn folded(aggregation: Aggregation, array: ArrayRef) -> ArrayRef {
        let mut column = Column::new(1, "v", ColumnType::BigInt);
        column.aggregation = aggregation;
        fold(&column, &array, &Groups::new(vec![0, 3, 4], 6)).unwrap()
    }

    #[test]
    fn every_aggregation_of_scalars() {
        let array: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), None, Some(7), Some(1), Some(3), None]));
        let get = |a: Aggregation| folded(a, Arc::clone(&array)).as_primitive::<Int64Type>().iter().collect::<Vec<_>>();
        assert_eq!(get(Aggregation::Sum), [Some(12), Some(1), Some(3)]);
        assert_eq!(get(Aggregation::Min), [Some(5), Some(1), Some(3)]);
        assert_eq!(get(Aggregation::Max), [Some(7), Some(1), Some(3)]);
        assert_eq!(get(Aggregation::Replace), [Some(7), Some(1), None]);
        assert_eq!(get(Aggregation::ReplaceIfNotNull), [Some(7), Some(1), Some(3)]);
        let text: ArrayRef = Arc::new(StringArray::from(vec!["b", "a", "c", "x", "y", "z"]));
        assert_eq!(folded(Aggregation::Max, text).as_string::<i32>().value(0), "c");
        let nulls: ArrayRef = Arc::new(Int64Array::from(vec![None; 6]));
        assert_eq!(folded(Aggregation::Sum, nulls).null_count(), 3);
    }

    #[test]
    fn unions_of_bitmaps() {
        let one = |n: u32| [&[1u8][..], &n.to_le_bytes()].concat();
        let values: Vec<Vec<u8>> = (0..6).map(|i| one(i / 2)).collect();
        let array: ArrayRef = Arc::new(arrow::array::BinaryArray::from_iter_values(&values));
        let out = folded(Aggregation::BitmapUnion, array);
        let members = |i| BitmapValue::decode(out.as_binary::<i32>().value(i)).unwrap().iter().collect::<Vec<_>>();
        assert_eq!((members(0), members(1), members(2)), (vec![0, 1], vec![1], vec![2]));
    }
}
