//! One segment file.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options, nullif};
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use rayon::prelude::*;
use recovery_core::{Blob, Context, Error, Reading, Result};

use super::arrow_type;
use super::node::{Lost, Node};
use crate::format::segment::index::PageRef;
use crate::format::segment::proto::{ColumnMeta, PagePointer, SegmentFooter};
use crate::format::segment::{Codec, Fault, RawPage, Why, footer};
use crate::model::schema::{Column, TabletSchema};

/// How to read.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// Rows of a batch at most.
    pub batch_rows: usize,
    /// Bytes a page may take when decompressed and decoded.
    pub page_limit: u64,
    /// Deepest nesting.
    pub nesting: u32,
    /// Pass over damaged pages; their rows are named.
    pub salvage: bool,
    /// Bytes fetched at once where pages of a column lie one behind the other.
    pub read_ahead: u64,
    /// Text that is not UTF-8 gets replacement characters instead of being an error.
    pub lossy_text: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            batch_rows: 8192,
            page_limit: 1 << 30,
            nesting: 100,
            salvage: false,
            read_ahead: 1 << 20,
            lossy_text: false,
        }
    }
}

impl ReadOptions {
    /// With the bounds and the reading of a context.
    #[must_use]
    pub fn of(cx: &Context) -> Self {
        let salvage = cx.reading == Reading::Salvage;
        let page_limit = cx.limits.record.min(cx.limits.memory);
        Self { page_limit, nesting: cx.limits.nesting, salvage, lossy_text: salvage, ..Self::default() }
    }
}

/// An opened segment: its footer was read and its checksum is right.
pub struct Segment {
    blob: Arc<dyn Blob>,
    footer: SegmentFooter,
    data_end: u64,
    /// Pages of a segment without its footer, by the number that stands in the column's meta.
    found: Option<Vec<Vec<PageRef>>>,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment").field("blob", &self.blob).field("rows", &self.footer.num_rows).finish_non_exhaustive()
    }
}

fn read(blob: &dyn Blob, range: std::ops::Range<u64>) -> Result<Bytes, Fault> {
    let at = range.start;
    blob.bytes(range).map_err(|e| Fault { what: "segment", page: None, at, why: Why::Unreadable(e.to_string()) })
}

impl Segment {
    /// Reads the footer.
    ///
    /// # Errors
    ///
    /// When it is not there or damaged.
    pub fn open(blob: Arc<dyn Blob>) -> Result<Self, Fault> {
        let len = blob.len();
        // One read serves most files.
        let tail_at = len.saturating_sub(16 << 10);
        let tail = read(&*blob, tail_at..len)?;
        let last = tail.slice(tail.len().saturating_sub(12)..);
        let trailer = footer::Trailer::decode(&last, len)?;
        let end = len.saturating_sub(footer::TRAILER);
        let start = end.saturating_sub(u64::from(trailer.length));
        let message = if start >= tail_at {
            let within = |x: u64| usize::try_from(x.saturating_sub(tail_at)).unwrap_or(usize::MAX);
            tail.slice(within(start)..within(end))
        } else {
            read(&*blob, start..end)?
        };
        let footer = footer::decode(trailer, &message, start)?;
        Ok(Self { blob, footer, data_end: start, found: None })
    }

    /// A segment whose footer is lost, with one made up from the pages that were found.
    pub(crate) fn with_pages(blob: Arc<dyn Blob>, footer: SegmentFooter, found: Vec<Vec<PageRef>>) -> Self {
        let data_end = blob.len();
        Self { blob, footer, data_end, found: Some(found) }
    }

    /// Pages that were found without an index; `None` when the segment has its footer.
    pub(crate) fn found(&self) -> Option<&[Vec<PageRef>]> {
        self.found.as_deref()
    }

    /// Name of the file.
    #[must_use]
    pub fn name(&self) -> &str {
        self.blob.name()
    }

    /// The footer.
    #[must_use]
    pub fn footer(&self) -> &SegmentFooter {
        &self.footer
    }

    /// Offset of the footer message, the end of all pages.
    #[must_use]
    pub fn data_end(&self) -> u64 {
        self.data_end
    }

    /// Rows.
    #[must_use]
    pub fn num_rows(&self) -> u64 {
        self.footer.num_rows
    }

    pub(crate) fn blob(&self) -> &Arc<dyn Blob> {
        &self.blob
    }

    /// Checks that a page could lie where a pointer says.
    pub(crate) fn check_pointer(&self, pointer: PagePointer) -> Result<(), Fault> {
        if pointer.size < 8 || pointer.end() > self.data_end {
            let why = format!("{} bytes at {:#x}, pages end at {:#x}", pointer.size, pointer.offset, self.data_end);
            return Err(Fault::value("page pointer", pointer.offset, why));
        }
        Ok(())
    }

    /// Reads a page and checks its frame.
    ///
    /// # Errors
    ///
    /// When it lies outside the file, cannot be read or is damaged.
    pub fn page(&self, pointer: PagePointer) -> Result<RawPage, Fault> {
        self.check_pointer(pointer)?;
        RawPage::check(&read(&*self.blob, pointer.offset..pointer.end())?, pointer.offset)
    }

    /// Reads a page and its decompressed body.
    ///
    /// # Errors
    ///
    /// As [`page`](Self::page), and when the body does not decompress.
    pub fn page_body(&self, pointer: PagePointer, codec: Codec, limit: u64) -> Result<(RawPage, Bytes), Fault> {
        let page = self.page(pointer)?;
        let body = page.decompressed(codec, limit)?;
        Ok((page, body))
    }

    /// The stored column that is `column` of a schema; `None` when the segment is older than the column.
    ///
    /// Columns are matched by unique id (`be/src/storage/rowset/segment.cpp`, `Segment::_create_column_readers`).
    #[must_use]
    pub fn column(&self, column: &Column) -> Option<&ColumnMeta> {
        self.footer.columns.iter().find(|c| i64::from(c.unique_id) == column.unique_id)
    }

    /// Reads rows of the columns at `selected` positions of `schema`.
    ///
    /// # Errors
    ///
    /// When an index is damaged, a type is not known, or a default value cannot be made.
    pub fn rows(
        self: &Arc<Self>,
        schema: &TabletSchema,
        selected: &[usize],
        options: ReadOptions,
    ) -> Result<SegmentRows> {
        let mut columns = Vec::new();
        let mut fields = Vec::new();
        for i in selected {
            let column = schema.columns.get(*i).ok_or_else(|| Error::Internal(format!("no column {i}")))?;
            let mut field = arrow_type::field(column, options.nesting)?;
            let node = match self.column(column) {
                Some(meta) => Node::stored(self, meta, column, options).map_err(|f| self.error(&column.name, &f))?,
                None => Node::absent(column, field.data_type())?,
            };
            if options.salvage {
                field = field.with_nullable(true);
            }
            fields.push(field);
            columns.push(node);
        }
        Ok(SegmentRows {
            segment: Arc::clone(self),
            schema: Arc::new(Schema::new(fields)),
            columns,
            row: 0,
            options,
            losses: Vec::new(),
        })
    }

    /// A fault as a reason to stop.
    pub(crate) fn error(&self, column: &str, fault: &Fault) -> Error {
        fault_error(self.name(), column, fault)
    }
}

/// A fault in a column as a reason to stop.
pub(crate) fn fault_error(name: &str, column: &str, fault: &Fault) -> Error {
    let place = if column.is_empty() { String::new() } else { format!(" column {column:?}:") };
    match &fault.why {
        Why::Unsupported(_) => Error::unsupported(format!("{name}:{place} {fault}")),
        Why::Limit { need, limit } => {
            Error::Limit { what: format!("{name}:{place} {}", fault.what), needed: *need, limit: *limit }
        }
        _ => Error::Damaged(format!("{name}:{place} {fault}")),
    }
}

/// Rows that a salvaging read could not give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowLoss {
    /// File.
    pub object: String,
    /// Column.
    pub column: String,
    /// First row and the row behind the last, in the segment.
    pub rows: std::ops::Range<u64>,
    /// What was found there.
    pub fault: Fault,
    /// The rows were rebuilt from this structure, and nothing is lost.
    pub healed_by: Option<&'static str>,
}

/// Rows of a batch, and which of them have a value missing.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Ordinal of the first row in its segment.
    pub first: u64,
    /// The rows.
    pub batch: RecordBatch,
    /// With salvage: set for each row of which at least one column was unreadable; that value stands as NULL.
    pub lost: Option<BooleanArray>,
}

/// Reads the rows of a segment, batch by batch.
pub struct SegmentRows {
    segment: Arc<Segment>,
    schema: SchemaRef,
    columns: Vec<Node>,
    row: u64,
    options: ReadOptions,
    losses: Vec<RowLoss>,
}

impl std::fmt::Debug for SegmentRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentRows").field("segment", &self.segment).field("row", &self.row).finish_non_exhaustive()
    }
}

impl SegmentRows {
    /// Schema of the batches.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What a salvaging read has passed over so far.
    pub fn take_losses(&mut self) -> Vec<RowLoss> {
        std::mem::take(&mut self.losses)
    }

    /// The next batch.
    ///
    /// # Errors
    ///
    /// The first damage met, unless salvaging.
    pub fn next_batch(&mut self) -> Result<Option<Rows>> {
        let left = self.segment.num_rows().saturating_sub(self.row);
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(self.options.batch_rows.max(1));
        if n == 0 {
            return Ok(None);
        }
        let first = self.row;
        let segment = &self.segment;
        let work = |(i, node): (usize, &mut Node)| -> Result<(ArrayRef, Lost)> {
            let mut lost = Lost::default();
            let array = node.read(n, &mut lost);
            array
                .map(|a| (a, lost))
                .map_err(|f| segment.error(self.schema.fields().get(i).map_or("", |f| f.name()), &f))
        };
        let inside = rayon::current_thread_index().is_some() && self.columns.len() > 1;
        let arrays: Result<Vec<(ArrayRef, Lost)>> = if inside {
            self.columns.par_iter_mut().enumerate().map(work).collect()
        } else {
            self.columns.iter_mut().enumerate().map(work).collect()
        };
        let mut flags: Option<Vec<bool>> = None;
        let mut columns = Vec::new();
        let schema = Arc::clone(&self.schema);
        for ((array, lost), field) in arrays?.into_iter().zip(schema.fields()) {
            let nested = field.data_type().is_nested();
            let mut gone = (nested && !lost.parts.is_empty()).then(|| vec![false; n]);
            for part in lost.parts {
                if let Some(gone) = gone.as_mut().filter(|_| part.healed_by.is_none()) {
                    gone.get_mut(part.rows.clone()).unwrap_or_default().fill(true);
                }
                if part.healed_by.is_none() {
                    let flags = flags.get_or_insert_with(|| vec![false; n]);
                    flags.get_mut(part.rows.clone()).unwrap_or_default().fill(true);
                }
                let absolute = |x: usize| first.saturating_add(x as u64);
                let rows = absolute(part.rows.start)..absolute(part.rows.end);
                self.note_loss(field.name(), rows, part.fault, part.healed_by);
            }
            let array = match gone {
                // What is left of a list or map without some of its parts is not its value.
                Some(gone) => nullif(&array, &BooleanArray::from(gone)).map_err(|e| Error::Internal(e.to_string()))?,
                None => array,
            };
            columns.push(fit(&array, field.data_type(), self.segment.name())?);
        }
        self.row = self.row.saturating_add(n as u64);
        let options = RecordBatchOptions::new().with_row_count(Some(n));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|e| Error::Damaged(format!("{}: {e}", self.segment.name())))?;
        Ok(Some(Rows { first, batch, lost: flags.map(BooleanArray::from) }))
    }

    fn note_loss(&mut self, column: &str, rows: std::ops::Range<u64>, fault: Fault, healed_by: Option<&'static str>) {
        if let Some(last) = self.losses.iter_mut().rev().find(|l| l.column == column)
            && last.rows.end == rows.start
            && last.fault == fault
        {
            last.rows.end = rows.end;
            return;
        }
        let object = self.segment.name().to_owned();
        self.losses.push(RowLoss { object, column: column.to_owned(), rows, fault, healed_by });
    }
}

/// Values in the type the schema has now, where the segment was written with an older one.
pub(crate) fn fit(array: &ArrayRef, wanted: &arrow::datatypes::DataType, name: &str) -> Result<ArrayRef> {
    if array.data_type() == wanted {
        return Ok(Arc::clone(array));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, wanted, &options).map_err(|e| Error::Damaged(format!("{name}: {e}")))
}
