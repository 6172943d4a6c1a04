//! Rows of one logical segment: the file itself, and the files that hold columns written again.

use std::sync::Arc;

use arrow::array::{Array as _, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{and, filter, filter_record_batch, not};
use arrow::datatypes::SchemaRef;
use recovery_core::{Blob, Error, Result};
use roaring::RoaringBitmap;

use super::{ColumnGroup, Losses, RowsetInput, SegmentInput, internal};
use crate::format::segment::{Fault, Why};
use crate::model::schema::TabletSchema;
use crate::reader::expr::Bound;
use crate::reader::merge::{Piece, Stream};
use crate::reader::salvage;
use crate::reader::segment::{ReadOptions, RowLoss, Segment, SegmentRows, fault_error};

/// Rows of one segment after deletes.
pub(super) trait Cursor: Stream {
    fn losses(&mut self) -> Vec<RowLoss>;
}

/// The segments that hold the columns of one logical segment, read in step.
pub(super) struct SegmentCursor {
    name: String,
    parts: Vec<(SegmentRows, Vec<usize>)>,
    schema: SchemaRef,
    pub(super) deletes: Vec<Bound>,
    deleted: Option<RoaringBitmap>,
    losses: Vec<RowLoss>,
    pub(super) shared: Option<Arc<std::sync::Mutex<Losses>>>,
}

impl Stream for SegmentCursor {
    fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            let Some(piece) = self.read()? else { return Ok(None) };
            if piece.batch.num_rows() > 0 {
                return Ok(Some(piece));
            }
        }
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl SegmentCursor {
    fn read(&mut self) -> Result<Option<Piece>> {
        let mut columns = vec![None; self.schema.fields().len()];
        let (mut first, mut rows, mut lost) = (0, 0, None::<BooleanArray>);
        for (part, places) in &mut self.parts {
            let next = part.next_batch()?;
            let mut losses = part.take_losses();
            match &self.shared {
                Some(shared) => shared.lock().unwrap_or_else(|e| e.into_inner()).rows.append(&mut losses),
                None => self.losses.append(&mut losses),
            }
            let Some(next) = next else { return Ok(None) };
            (first, rows) = (next.first, next.batch.num_rows());
            for (place, array) in places.iter().zip(next.batch.columns()) {
                if let Some(cell) = columns.get_mut(*place) {
                    let field = self.schema.field(*place);
                    *cell = Some(crate::reader::segment::fit(array, field.data_type(), &self.name)?);
                }
            }
            lost = match (lost, next.lost) {
                (Some(a), Some(b)) => Some(arrow::compute::or(&a, &b).map_err(internal)?),
                (a, b) => a.or(b),
            };
        }
        let columns: Option<Vec<_>> = columns.into_iter().collect();
        let columns = columns.ok_or_else(|| Error::Internal("a column was not read".into()))?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|e| Error::Damaged(format!("{}: {e}", self.name)))?;
        let Some(keep) = self.keep(&batch, first)? else { return Ok(Some(Piece { batch, lost })) };
        let batch = filter_record_batch(&batch, &keep).map_err(internal)?;
        let lost = lost.map(|l| filter(&l, &keep).map_err(internal)).transpose()?;
        let lost = lost.and_then(|l| l.as_any().downcast_ref::<BooleanArray>().cloned());
        Ok(Some(Piece { batch, lost }))
    }

    /// Rows that no delete removes; `None` when all stay.
    fn keep(&self, batch: &RecordBatch, first: u64) -> Result<Option<BooleanArray>> {
        let mut keep: Option<BooleanArray> = None;
        let mut also = |mask: BooleanArray| -> Result<()> {
            keep = Some(match keep.take() {
                Some(before) => and(&before, &mask).map_err(internal)?,
                None => mask,
            });
            Ok(())
        };
        for delete in &self.deletes {
            also(not(&delete.matches(batch)?).map_err(internal)?)?;
        }
        if let Some(deleted) = self.deleted.as_ref().filter(|d| !d.is_empty()) {
            let row = |i: usize| u32::try_from(first.saturating_add(i as u64)).ok();
            let mask: Vec<bool> = (0..batch.num_rows()).map(|i| !row(i).is_some_and(|r| deleted.contains(r))).collect();
            also(BooleanArray::from(mask))?;
        }
        Ok(keep)
    }
}

impl Cursor for SegmentCursor {
    fn losses(&mut self) -> Vec<RowLoss> {
        std::mem::take(&mut self.losses)
    }
}

/// The tablet's columns as the rowset was written, under their names of today.
pub(super) fn schema_of(rowset: &RowsetInput, schema: &TabletSchema) -> TabletSchema {
    let Some(own) = &rowset.schema else { return schema.clone() };
    let mut stored = schema.clone();
    for column in &mut stored.columns {
        // Without unique ids (a schema from an old `__meta`) the two are one schema.
        let same =
            |c: &&crate::model::Column| c.unique_id == column.unique_id && (c.unique_id >= 0 || c.name == column.name);
        if let Some(then) = own.columns.iter().find(same) {
            let now = std::mem::replace(column, then.clone());
            column.name = now.name;
            column.default_value = now.default_value;
            column.nullable = now.nullable;
        }
    }
    stored
}

fn missing(name: &str) -> Error {
    Error::Damaged(format!("{name}: the file is missing"))
}

fn open_segment(
    blob: &Arc<dyn Blob>,
    rowset: &RowsetInput,
    schema: &TabletSchema,
    salvaging: bool,
) -> Result<Arc<Segment>> {
    match Segment::open(Arc::clone(blob)) {
        Ok(segment) => Ok(Arc::new(segment)),
        Err(fault) if salvaging && !matches!(fault.why, Why::Limit { .. }) => {
            let known = (rowset.segments.len() == 1).then_some(rowset.num_rows).flatten();
            salvage::without_footer(blob, schema, known).map_err(|_| fault_error(blob.name(), "", &fault))
        }
        Err(fault) => Err(fault_error(blob.name(), "", &fault)),
    }
}

/// A schema without unique ids takes those of the segment, column by column.
fn by_position(schema: &TabletSchema, segment: &Segment) -> Option<TabletSchema> {
    if schema.columns.iter().any(|c| c.unique_id >= 0) {
        return None;
    }
    let mut out = schema.clone();
    for (column, meta) in out.columns.iter_mut().zip(&segment.footer().columns) {
        column.unique_id = i64::from(meta.unique_id);
    }
    Some(out)
}

pub(super) fn cursor(
    input: &SegmentInput,
    rowset: &RowsetInput,
    schema: &TabletSchema,
    needed: &[usize],
    read: &SchemaRef,
    options: ReadOptions,
) -> Result<SegmentCursor> {
    let blob = input.blob.as_ref().ok_or_else(|| missing(&input.name))?;
    let base = open_segment(blob, rowset, schema, options.salvage)?;
    let by_place = by_position(schema, &base);
    let schema = by_place.as_ref().unwrap_or(schema);
    // Which file holds which of the columns: 0 is the segment itself.
    let mut owners: Vec<(Arc<Segment>, Vec<usize>)> = vec![(Arc::clone(&base), Vec::new())];
    let mut groups: Vec<&ColumnGroup> = input.groups.iter().collect();
    groups.sort_by_key(|g| std::cmp::Reverse(g.version));
    let mut opened: Vec<(&ColumnGroup, usize)> = Vec::new();
    for (place, i) in needed.iter().enumerate() {
        let id = schema.columns.get(*i).map_or(-1, |c| c.unique_id);
        let owner = match groups.iter().find(|g| g.unique_ids.contains(&id)) {
            None => 0,
            Some(group) => match opened.iter().find(|(g, _)| std::ptr::eq(*g, *group)) {
                Some((_, at)) => *at,
                None => {
                    let blob = group.blob.as_ref().ok_or_else(|| missing(&group.name))?;
                    let segment = open_segment(blob, rowset, schema, false)?;
                    if segment.num_rows() != base.num_rows() {
                        let why = format!("{} rows, its segment has {}", segment.num_rows(), base.num_rows());
                        return Err(fault_error(&group.name, "", &Fault::value("column group", 0, why)));
                    }
                    owners.push((segment, Vec::new()));
                    opened.push((group, owners.len().saturating_sub(1)));
                    owners.len().saturating_sub(1)
                }
            },
        };
        if let Some((_, places)) = owners.get_mut(owner) {
            places.push(place);
        }
    }
    let mut parts = Vec::new();
    for (n, (segment, places)) in owners.into_iter().enumerate() {
        // The segment itself is read even when no column of it is wanted: it has the rows.
        if n == 0 || !places.is_empty() {
            let columns: Vec<usize> = places.iter().filter_map(|p| needed.get(*p).copied()).collect();
            parts.push((segment.rows(schema, &columns, options)?, places));
        }
    }
    Ok(SegmentCursor {
        name: input.name.clone(),
        parts,
        schema: Arc::clone(read),
        deletes: Vec::new(),
        deleted: input.deleted.clone(),
        losses: Vec::new(),
        shared: None,
    })
}
