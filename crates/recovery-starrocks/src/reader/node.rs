//! A column as it is stored: values, or children of a list, map or struct.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Fields, Int8Type, Int32Type};
use recovery_core::{Error, Result};

use super::flat::Flat;
use super::leaf::{Leaf, LostPart};
use super::segment::{ReadOptions, Segment};
use super::sink::Target;
use super::{arrow_type, text};
use crate::format::segment::Fault;
use crate::format::segment::proto::ColumnMeta;
use crate::model::schema::{Column, ColumnType};

/// What of a batch could not be read.
#[derive(Debug, Default)]
pub(super) struct Lost {
    pub(super) parts: Vec<LostPart>,
}

/// A reader of one column.
#[derive(Debug)]
pub(super) enum Node {
    Leaf(Box<Leaf>),
    List(Box<List>),
    Struct {
        flags: Option<Box<Leaf>>,
        fields: Vec<Node>,
        types: Fields,
    },
    /// JSON with paths in columns of their own.
    Flat(Box<Flat>),
    /// A column younger than the segment: one value for every row.
    Absent(ArrayRef),
}

/// A list or map: sizes and concatenated elements.
#[derive(Debug)]
pub(super) struct List {
    flags: Option<Leaf>,
    sizes: Leaf,
    items: Vec<Node>,
    data_type: DataType,
    /// Elements read so far.
    element: u64,
    /// A size page was lost: where the elements of the next row begin is taken from the page footer.
    astray: bool,
    salvage: bool,
}

fn kind_of(meta: &ColumnMeta) -> Result<ColumnType, Fault> {
    let code = meta.type_code;
    ColumnType::from_code(code).ok_or_else(|| Fault::unsupported("column type", 0, format!("type code {code}")))
}

fn child(meta: &ColumnMeta, i: usize) -> Result<&ColumnMeta, Fault> {
    let n = meta.children.len();
    meta.children.get(i).ok_or_else(|| Fault::value("column meta", 0, format!("child {i} of {n} is missing")))
}

impl Node {
    /// A column stored in the segment.
    pub(super) fn stored(
        segment: &Arc<Segment>,
        meta: &ColumnMeta,
        column: &Column,
        options: ReadOptions,
    ) -> Result<Self, Fault> {
        Self::build(segment, meta, column, Some(segment.num_rows()), options, options.nesting)
    }

    fn build(
        segment: &Arc<Segment>,
        meta: &ColumnMeta,
        column: &Column,
        rows: Option<u64>,
        options: ReadOptions,
        depth: u32,
    ) -> Result<Self, Fault> {
        let Some(depth) = depth.checked_sub(1) else { return Err(Fault::value("column meta", 0, "nested too deep")) };
        let kind = kind_of(meta)?;
        let schema_child = |i: usize| {
            column
                .children
                .get(i)
                .ok_or_else(|| Fault::value("schema", 0, format!("{:?} has no child {i}", column.name)))
        };
        let flags = |at: usize| -> Result<Option<Leaf>, Fault> {
            if !meta.is_nullable {
                return Ok(None);
            }
            let meta = child(meta, at)?;
            Leaf::new(segment, meta, Target::flags(kind_of(meta)?), rows, options).map(Some)
        };
        let expect = |n: usize| {
            let n = n.saturating_add(usize::from(meta.is_nullable));
            if meta.children.len() == n {
                return Ok(());
            }
            Err(Fault::value(
                "column meta",
                0,
                format!("{} with {} children, expected {n}", kind.name(), meta.children.len()),
            ))
        };
        let data_type =
            || arrow_type::data_type(column, depth).map_err(|e| Fault::unsupported("column type", 0, e.to_string()));
        let below = |i: usize| {
            Self::build(
                segment,
                child(meta, i)?,
                schema_child(i)?,
                child(meta, i)?.num_rows.filter(|n| *n > 0),
                options,
                depth,
            )
        };
        let complex = matches!(kind, ColumnType::Array | ColumnType::Map | ColumnType::Struct);
        if complex && column.kind != kind {
            return Err(Fault::value(
                "column meta",
                0,
                format!("stored as {}, the schema says {}", kind.name(), column.kind.name()),
            ));
        }
        match kind {
            ColumnType::Array | ColumnType::Map => {
                let n: usize = if kind == ColumnType::Array { 1 } else { 2 };
                expect(n.saturating_add(1))?;
                let sizes = child(meta, meta.children.len().saturating_sub(1))?;
                let int = Target::of(ColumnType::Int, &Column::new(0, "sizes", ColumnType::Int))?;
                Ok(Self::List(Box::new(List {
                    flags: flags(n)?,
                    sizes: Leaf::new(segment, sizes, int, rows, options)?,
                    items: (0..n).map(below).collect::<Result<_, _>>()?,
                    data_type: data_type()?,
                    element: 0,
                    astray: false,
                    salvage: options.salvage,
                })))
            }
            ColumnType::Struct => {
                let n = column.children.len();
                expect(n)?;
                let fields = (0..n)
                    .map(|i| Self::build(segment, child(meta, i)?, schema_child(i)?, rows, options, depth))
                    .collect::<Result<_, _>>()?;
                let DataType::Struct(types) = data_type()? else {
                    return Err(Fault::value("schema", 0, "a struct without fields"));
                };
                Ok(Self::Struct { flags: flags(n)?.map(Box::new), fields, types })
            }
            ColumnType::Json if meta.json_meta.as_ref().is_some_and(|j| j.is_flat) => {
                Ok(Self::Flat(Box::new(Flat::new(segment, meta, rows, options)?)))
            }
            _ => Ok(Self::Leaf(Box::new(Leaf::new(segment, meta, Target::of(kind, column)?, rows, options)?))),
        }
    }

    /// A column that the segment does not have: its default, or NULL.
    pub(super) fn absent(column: &Column, data_type: &DataType) -> Result<Self> {
        let one = match &column.default_value {
            Some(value) => text::parse(column, value)?,
            None if column.nullable => new_null_array(data_type, 1),
            None => {
                return Err(Error::Damaged(format!(
                    "column {:?} is not in the segment, has no default value and may not be NULL",
                    column.name
                )));
            }
        };
        Ok(Self::Absent(one))
    }

    /// Reads the next `n` rows.
    pub(super) fn read(&mut self, n: usize, lost: &mut Lost) -> Result<ArrayRef, Fault> {
        match self {
            Self::Leaf(leaf) => leaf.read(n, &mut lost.parts),
            Self::List(list) => list.read(n, lost),
            Self::Flat(flat) => flat.read(n, lost),
            Self::Absent(one) => repeat(one, n),
            Self::Struct { flags, fields, types } => {
                let nulls = read_flags(flags.as_deref_mut(), n, lost)?;
                let mut columns = Vec::new();
                for (node, field) in fields.iter_mut().zip(types.iter()) {
                    columns.push(fitted(node.read(n, lost)?, field)?);
                }
                let array = StructArray::try_new(types.clone(), columns, nulls);
                array.map(|a| Arc::new(a) as ArrayRef).map_err(|e| Fault::value("struct", 0, e.to_string()))
            }
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "arrays are counted references")]
fn fitted(array: ArrayRef, field: &Field) -> Result<ArrayRef, Fault> {
    super::segment::fit(&array, field.data_type(), field.name())
        .map_err(|e| Fault::value("child column", 0, e.to_string()))
}

fn repeat(one: &ArrayRef, n: usize) -> Result<ArrayRef, Fault> {
    if one.is_null(0) {
        return Ok(new_null_array(one.data_type(), n));
    }
    let zeros = arrow::array::UInt32Array::from(vec![0; n]);
    arrow::compute::take(one, &zeros, None).map_err(|e| Fault::value("default value", 0, e.to_string()))
}

fn read_flags(flags: Option<&mut Leaf>, n: usize, lost: &mut Lost) -> Result<Option<NullBuffer>, Fault> {
    flags_of(flags, n, &mut lost.parts)
}

/// Rows that are not NULL by their flags; none where all are.
pub(super) fn flags_of(
    flags: Option<&mut Leaf>,
    n: usize,
    parts: &mut Vec<LostPart>,
) -> Result<Option<NullBuffer>, Fault> {
    let Some(flags) = flags else { return Ok(None) };
    let array = flags.read(n, parts)?;
    let valid = |i: usize, null: bool| !array.is_null(i) && !null;
    let bits: BooleanBuffer = match array.data_type() {
        DataType::Boolean => array.as_boolean().values().iter().enumerate().map(|(i, b)| valid(i, b)).collect(),
        _ => array.as_primitive::<Int8Type>().values().iter().enumerate().map(|(i, b)| valid(i, *b != 0)).collect(),
    };
    let nulls = NullBuffer::new(bits);
    Ok((nulls.null_count() > 0).then_some(nulls))
}

impl List {
    fn read(&mut self, n: usize, lost: &mut Lost) -> Result<ArrayRef, Fault> {
        let nulls = read_flags(self.flags.as_mut(), n, lost)?;
        let mut offsets = vec![0i32];
        let mut pieces: Vec<Vec<ArrayRef>> = vec![Vec::new(); self.items.len()];
        let mut done = 0usize;
        let mut total = 0i32;
        if n == 0 {
            // A list of lists may have no inner list at all in a batch; its elements still have their type.
            self.take_items(0, 0, &offsets, &mut pieces, lost)?;
        }
        // Sizes are read up to a page's end at a time, so that a lost page does not carry away its successors.
        while done < n {
            let mut parts = Vec::new();
            let before = self.sizes.position();
            let sizes = self.sizes.read(n.saturating_sub(done), &mut parts)?;
            if sizes.is_empty() {
                return Err(Fault::value("size column", 0, "ends too early"));
            }
            let sizes = sizes.as_primitive::<Int32Type>();
            let gone = |i: usize| parts.iter().any(|p| p.rows.contains(&i));
            let mut run = 0u64;
            for (i, size) in sizes.values().iter().enumerate() {
                let row = done.saturating_add(i);
                let size = if gone(i) { 0 } else { *size };
                let size = u32::try_from(size).map_err(|_| {
                    Fault::value("size column", 0, format!("row {}: size {size}", before.saturating_add(i as u64)))
                })?;
                if self.astray && !gone(i) {
                    // Everything of this batch behind a lost page is given up: its elements cannot be told apart.
                    let fault = parts
                        .first()
                        .map_or_else(|| Fault::value("size column", 0, "an earlier page is lost"), |p| p.fault.clone());
                    lost.parts.push(LostPart { rows: row..row.saturating_add(1), fault, healed_by: None });
                    offsets.push(total);
                    continue;
                }
                if gone(i) {
                    self.astray = true;
                }
                run = run.saturating_add(u64::from(size));
                total = i32::try_from(size).ok().and_then(|s| total.checked_add(s)).ok_or_else(|| {
                    Fault::value("size column", 0, "more than 2^31 elements in one batch (take fewer rows)")
                })?;
                offsets.push(total);
            }
            for mut part in parts {
                part.rows = done.saturating_add(part.rows.start)..done.saturating_add(part.rows.end);
                lost.parts.push(part);
            }
            self.take_items(run, done, &offsets, &mut pieces, lost)?;
            done = done.saturating_add(sizes.len());
        }
        self.assemble(offsets, pieces, nulls)
    }

    /// Reads `run` elements of every item column; rows of lost elements are lost.
    fn take_items(
        &mut self,
        run: u64,
        _first: usize,
        offsets: &[i32],
        pieces: &mut [Vec<ArrayRef>],
        lost: &mut Lost,
    ) -> Result<(), Fault> {
        let run = usize::try_from(run).unwrap_or(usize::MAX);
        let whole = |o: i32| usize::try_from(o).unwrap_or(0);
        let start = whole(offsets.last().copied().unwrap_or(0));
        let start = start.saturating_sub(run);
        for (node, pieces) in self.items.iter_mut().zip(pieces) {
            let mut inner = Lost::default();
            pieces.push(node.read(run, &mut inner)?);
            for part in inner.parts {
                let element = |x: usize| start.saturating_add(x);
                let (from, to) = (element(part.rows.start), element(part.rows.end));
                // Rows that have an element in the range.
                let row_of = |e: usize| offsets.partition_point(|o| whole(*o) <= e).saturating_sub(1);
                let rows = row_of(from)..row_of(to.saturating_sub(1)).saturating_add(1);
                lost.parts.push(LostPart { rows, fault: part.fault, healed_by: part.healed_by });
            }
        }
        self.element = self.element.saturating_add(run as u64);
        Ok(())
    }

    fn assemble(
        &self,
        offsets: Vec<i32>,
        pieces: Vec<Vec<ArrayRef>>,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, Fault> {
        let wrong = |e: arrow::error::ArrowError| Fault::value("list", 0, e.to_string());
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let mut items = Vec::new();
        for parts in pieces {
            let refs: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            items.push(match (refs.len(), parts.first()) {
                (1, Some(only)) => Arc::clone(only),
                _ => arrow::compute::concat(&refs).map_err(wrong)?,
            });
        }
        match &self.data_type {
            DataType::List(field) => {
                let item = items.pop().ok_or_else(|| Fault::value("list", 0, "no elements"))?;
                let array =
                    ListArray::try_new(Arc::clone(field), offsets, fitted(item, field)?, nulls).map_err(wrong)?;
                Ok(Arc::new(array))
            }
            DataType::Map(field, sorted) => {
                let DataType::Struct(types) = field.data_type() else {
                    return Err(Fault::value("map", 0, "entries are no struct"));
                };
                let mut items =
                    items.into_iter().zip(types.iter()).map(|(a, f)| fitted(a, f)).collect::<Result<Vec<_>, _>>()?;
                if let Some(keys) = items.first_mut().filter(|k| self.salvage && k.null_count() > 0) {
                    // Rows with a lost key are named as lost and become NULL as a whole.
                    let data = keys.to_data().into_builder().nulls(None).build().map_err(wrong)?;
                    *keys = arrow::array::make_array(data);
                }
                let entries = StructArray::try_new(types.clone(), items, None).map_err(wrong)?;
                let array = MapArray::try_new(Arc::clone(field), offsets, entries, nulls, *sorted).map_err(wrong)?;
                Ok(Arc::new(array))
            }
            other => Err(Fault::value("list", 0, format!("{other} where a list belongs"))),
        }
    }
}
