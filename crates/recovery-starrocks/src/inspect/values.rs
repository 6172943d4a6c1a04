//! Level 7: every value of a segment decoded, rows counted, the order of the key checked.

use std::sync::Arc;

use recovery_core::{Blob, Context, Error, Reading};

use super::files::Values;
use crate::model::schema::{ColumnType, TabletSchema};
use crate::reader::segment::{ReadOptions, Segment};
use crate::reader::table::KeyOrder;

/// Decodes a segment by the schema it was written with.
///
/// # Errors
///
/// When the caller asked to stop.
pub(super) fn decode(blob: &Arc<dyn Blob>, schema: &TabletSchema, cx: &Context) -> recovery_core::Result<Values> {
    let mut out = Values::default();
    let mut cx = cx.clone();
    cx.reading = Reading::Strict;
    let options = ReadOptions::of(&cx);
    let segment = match Segment::open(Arc::clone(blob)) {
        Ok(segment) => Arc::new(segment),
        // The footer has its own finding.
        Err(_) => return Ok(out),
    };
    let stored = |i: &usize| schema.columns.get(*i).is_some_and(|c| segment.column(c).is_some());
    let all: Vec<usize> = (0..schema.columns.len()).filter(stored).collect();
    let known = |i: &usize| schema.columns.get(*i).is_some_and(|c| c.kind != ColumnType::Unknown);
    out.unknown =
        all.iter().filter(|i| !known(i)).filter_map(|i| schema.columns.get(*i)).map(|c| c.name.clone()).collect();
    // A column at a time: what is wrong with one says nothing about the others, and memory stays that of one.
    for i in all.iter().filter(|i| known(i)) {
        cx.cancelled()?;
        let name = schema.columns.get(*i).map_or_else(String::new, |c| c.name.clone());
        match read(&segment, schema, &[*i], options, &cx, &mut None) {
            Ok(rows) => out.rows = out.rows.max(rows),
            Err(Error::Unsupported { .. }) => out.unknown.push(name),
            Err(e @ (Error::Damaged(_) | Error::Limit { .. } | Error::Usage(_))) => {
                out.faults.push((name, e.to_string()));
            }
            Err(e) => return Err(e),
        }
        out.columns = out.columns.saturating_add(1);
    }
    let mut order = KeyOrder::of(schema)?;
    let key = order.as_ref().map(|o| o.columns.clone()).unwrap_or_default();
    let whole = key.iter().all(|k| all.contains(k)) && out.faults.is_empty();
    if order.is_some() && whole && !key.is_empty() {
        match read(&segment, schema, &key, options, &cx, &mut order) {
            Ok(_) => out.unsorted = order.map_or(0, |o| o.unsorted),
            Err(Error::Unsupported { .. } | Error::Damaged(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(out)
}

fn read(
    segment: &Arc<Segment>,
    schema: &TabletSchema,
    columns: &[usize],
    options: ReadOptions,
    cx: &Context,
    order: &mut Option<KeyOrder>,
) -> recovery_core::Result<u64> {
    let mut reader = segment.rows(schema, columns, options)?;
    let mut rows = 0u64;
    while let Some(next) = reader.next_batch()? {
        cx.cancelled()?;
        rows = rows.saturating_add(next.batch.num_rows() as u64);
        if let Some(order) = order {
            order.see(next.batch.columns())?;
        }
    }
    Ok(rows)
}
