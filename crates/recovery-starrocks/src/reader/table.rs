//! A tablet: its rowsets put together by the key model.
//!
//! * duplicate: all rows, rowset by rowset;
//! * unique: of rows with equal keys the one of the highest version, then segment, then position;
//! * aggregate: value columns folded in that order;
//! * primary: all rows that no delete vector names, columns replaced by column groups.
//!
//! A delete predicate removes rows of rowsets whose end version is not above its own, before merging
//! (`be/src/storage/delete_predicates.cpp`).

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use recovery_core::{Blob, Error, Result};
use roaring::RoaringBitmap;

use super::arrow_type;
use super::expr::{Bound, Expr};
use super::merge::{Merge, Piece, Stream};
use super::segment::{ReadOptions, RowLoss};
use super::watch::Watch;
use crate::model::schema::{DeletePredicate, KeysType, TabletSchema};

mod cursor;
mod order;

pub(crate) use order::KeyOrder;

use cursor::{Cursor, cursor, schema_of};
use order::sort_key;

/// Columns of a segment that were written again into a file of their own (delta column group).
#[derive(Clone, Debug)]
pub struct ColumnGroup {
    /// Columns it replaces.
    pub unique_ids: Vec<i64>,
    /// Version that wrote it; the newest wins.
    pub version: i64,
    /// Name of the file.
    pub name: String,
    /// The file; `None` when it is missing.
    pub blob: Option<Arc<dyn Blob>>,
}

/// A segment of a rowset.
#[derive(Clone, Debug)]
pub struct SegmentInput {
    /// Name of the file.
    pub name: String,
    /// The file; `None` when it is missing.
    pub blob: Option<Arc<dyn Blob>>,
    /// Rows that newer rows have replaced (primary-key tables).
    pub deleted: Option<RoaringBitmap>,
    /// Columns replaced since.
    pub groups: Vec<ColumnGroup>,
}

impl SegmentInput {
    /// A segment as it is.
    #[must_use]
    pub fn new(blob: Arc<dyn Blob>) -> Self {
        Self { name: blob.name().to_owned(), blob: Some(blob), deleted: None, groups: Vec::new() }
    }
}

/// A rowset.
#[derive(Clone, Debug, Default)]
pub struct RowsetInput {
    /// Its id.
    pub rowset_id: String,
    /// First version.
    pub start: i64,
    /// Last version.
    pub end: i64,
    /// Rows, where the header says; used when a segment has lost its footer.
    pub num_rows: Option<u64>,
    /// The schema at write time, where the header keeps it.
    pub schema: Option<Arc<TabletSchema>>,
    /// The DELETE it stands for.
    pub delete: Option<DeletePredicate>,
    /// Its segments by number.
    pub segments: Vec<SegmentInput>,
}

/// A tablet to read.
#[derive(Clone, Debug, Default)]
pub struct TabletInput {
    /// Its id.
    pub id: i64,
    /// Its schema.
    pub schema: Arc<TabletSchema>,
    /// Its rowsets.
    pub rowsets: Vec<RowsetInput>,
    /// Notices when the store behind its files fails; files are opened [`over`](Watch::over) it.
    pub watch: Arc<Watch>,
}

/// What a read gave up, or mended.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    /// Pages, by segment, column and rows.
    pub rows: Vec<RowLoss>,
    /// Files that are missing or cannot be opened, with the reason and the versions that stood in them.
    pub files: Vec<(String, String)>,
    /// Files that are damaged without a row being lost, with what is wrong.
    pub mended: Vec<(String, String)>,
    /// Segments that are not sorted by their key, and rows out of order.
    pub unsorted: Vec<(String, u64)>,
    /// Rows left out because a value of theirs was lost.
    pub dropped: u64,
}

impl Losses {
    /// Whether nothing was lost.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.iter().all(|l| l.healed_by.is_some()) && self.files.is_empty() && self.unsorted.is_empty()
    }
}

/// What of a tablet is read.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Positions of the columns in the tablet's schema.
    pub columns: Vec<usize>,
    /// Only rows that satisfy it.
    pub filter: Option<Expr>,
    /// With salvage: keep rows of which a value was lost, with NULL in its place.
    pub keep_lost: bool,
}

impl Selection {
    /// All visible columns, all rows.
    #[must_use]
    pub fn all(schema: &TabletSchema) -> Self {
        let columns = schema.columns.iter().enumerate().filter(|(_, c)| c.visible).map(|(i, _)| i).collect();
        Self { columns, filter: None, keep_lost: false }
    }

    /// The visible columns of these names, in this order.
    ///
    /// # Errors
    ///
    /// When there is no such column.
    pub fn of(schema: &TabletSchema, names: &[String]) -> Result<Self> {
        let mut selection = Self::all(schema);
        if !names.is_empty() {
            let at = |name: &String| -> Result<usize> {
                let column = super::expr::find(schema, name)?;
                let same = schema.columns.iter().position(|c| std::ptr::eq(c, column));
                same.ok_or_else(|| Error::Internal("a column without a position".into()))
            };
            selection.columns = names.iter().map(at).collect::<Result<_>>()?;
        }
        Ok(selection)
    }
}

/// Reads a tablet as record batches.
pub struct TabletReader {
    output: SchemaRef,
    /// Positions in the columns read that make the output.
    project: Vec<usize>,
    filter: Option<Bound>,
    state: State,
    losses: Losses,
    keep_lost: bool,
    watch: Arc<Watch>,
    failed: bool,
}

enum State {
    Chain { sources: std::vec::IntoIter<Box<dyn Cursor>>, current: Option<Box<dyn Cursor>> },
    Merge(Box<Merge>, Arc<std::sync::Mutex<Losses>>),
}

impl std::fmt::Debug for TabletReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TabletReader").field("schema", &self.output).finish_non_exhaustive()
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn internal(e: ArrowError) -> Error {
    Error::Internal(e.to_string())
}

impl TabletReader {
    /// Opens a tablet.
    ///
    /// # Errors
    ///
    /// When a segment is missing or damaged (unless salvaging), a name of the selection does not exist, or the tablet
    /// uses something not supported.
    pub fn open(tablet: &TabletInput, selection: &Selection, options: ReadOptions) -> Result<Self> {
        let opened = Self::start(tablet, selection, options);
        // What a failing store did not give would pass for damage.
        tablet.watch.check()?;
        opened
    }

    fn start(tablet: &TabletInput, selection: &Selection, options: ReadOptions) -> Result<Self> {
        let schema = &*tablet.schema;
        let needed = needed_columns(tablet, selection)?;
        let project = selection.columns.iter().map(|c| {
            needed.iter().position(|n| n == c).ok_or_else(|| Error::Internal("a selected column is not read".into()))
        });
        let project = project.collect::<Result<Vec<_>>>()?;
        let fields = needed.iter().filter_map(|i| schema.columns.get(*i)).map(|c| {
            let field = arrow_type::field(c, options.nesting)?;
            Ok(if options.salvage { field.with_nullable(true) } else { field })
        });
        let read: SchemaRef = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
        let output = Arc::new(read.project(&project).map_err(internal)?);
        let filter = selection.filter.as_ref().map(|f| f.bind(schema)).transpose()?;
        let shared = Arc::new(std::sync::Mutex::new(Losses::default()));
        let merging = matches!(schema.keys, KeysType::Unique | KeysType::Aggregate);
        let mut losses = Losses::default();
        let mut cursors: Vec<Box<dyn Cursor>> = Vec::new();
        let mut rowsets: Vec<&RowsetInput> = tablet.rowsets.iter().collect();
        rowsets.sort_by_key(|r| (r.start, r.end));
        let total: usize = rowsets.iter().map(|r| r.segments.len()).sum();
        let mut options = options;
        if merging && total > 8 {
            // All segments are open at once.
            options.batch_rows = options.batch_rows.min(1024);
            options.read_ahead = options.read_ahead.min(128 << 10);
        }
        for rowset in &rowsets {
            let deletes = deletes_for(rowset, &rowsets, schema)?;
            let stored = schema_of(rowset, schema);
            for segment in &rowset.segments {
                match cursor(segment, rowset, &stored, &needed, &read, options) {
                    Ok(mut cursor) => {
                        cursor.deletes.clone_from(&deletes);
                        cursor.shared = merging.then(|| Arc::clone(&shared));
                        cursors.push(Box::new(cursor));
                    }
                    Err(error @ (Error::Damaged(_) | Error::Read(_))) if options.salvage => {
                        // A store that fails once is not asked for every other file.
                        tablet.watch.check()?;
                        losses.files.push((segment.name.clone(), error.to_string()));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let state = if merging {
            let columns = needed.iter().filter_map(|i| schema.columns.get(*i).cloned()).collect();
            let key = sort_key(schema);
            let key = key.iter().filter_map(|k| needed.iter().position(|n| n == k)).collect();
            let streams = cursors.into_iter().map(|c| c as Box<dyn Stream>).collect();
            let aggregate = schema.keys == KeysType::Aggregate;
            let merge =
                Merge::new(columns, key, Arc::clone(&read), streams, options.batch_rows, aggregate, options.salvage)?;
            State::Merge(Box::new(merge), shared)
        } else {
            State::Chain { sources: cursors.into_iter(), current: None }
        };
        Ok(Self {
            output,
            project,
            filter,
            state,
            losses,
            keep_lost: selection.keep_lost,
            watch: Arc::clone(&tablet.watch),
            failed: false,
        })
    }

    /// Schema of the batches.
    #[must_use]
    pub fn arrow_schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    /// What was given up; complete after the last batch.
    #[must_use]
    pub fn losses(&mut self) -> Losses {
        let mut losses = std::mem::take(&mut self.losses);
        match &mut self.state {
            State::Merge(merge, shared) => {
                losses.unsorted = merge.unsorted();
                losses.rows.append(&mut shared.lock().unwrap_or_else(|e| e.into_inner()).rows);
            }
            State::Chain { current: Some(cursor), .. } => losses.rows.append(&mut cursor.losses()),
            State::Chain { .. } => {}
        }
        losses
    }

    fn next_piece(&mut self) -> Result<Option<Piece>> {
        match &mut self.state {
            State::Merge(merge, _) => Ok(merge.next()?.map(|m| Piece { batch: m.batch, lost: m.lost })),
            State::Chain { sources, current } => loop {
                if let Some(cursor) = current {
                    let piece = cursor.next()?;
                    self.losses.rows.append(&mut cursor.losses());
                    if piece.is_some() {
                        return Ok(piece);
                    }
                }
                *current = sources.next();
                if current.is_none() {
                    return Ok(None);
                }
            },
        }
    }

    /// The next batch.
    ///
    /// # Errors
    ///
    /// The first damage met, unless salvaging; a store that fails.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let next = self.advance();
        self.watch.check()?;
        next
    }

    fn advance(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let Some(Piece { mut batch, lost }) = self.next_piece()? else { return Ok(None) };
            if let Some(lost) = lost.filter(|l| !self.keep_lost && l.true_count() > 0) {
                self.losses.dropped = self.losses.dropped.saturating_add(lost.true_count() as u64);
                batch = filter_record_batch(&batch, &not(&lost).map_err(internal)?).map_err(internal)?;
            }
            if let Some(filter) = &self.filter {
                let keep = filter.matches(&batch)?;
                batch = filter_record_batch(&batch, &keep).map_err(internal)?;
            }
            if batch.num_rows() > 0 {
                return batch.project(&self.project).map(Some).map_err(internal);
            }
        }
    }
}

impl Iterator for TabletReader {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_batch().map_err(|e| ArrowError::ExternalError(Box::new(e))).transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

impl RecordBatchReader for TabletReader {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }
}

/// Columns to read: what is selected, what conditions need, and the whole key where rows are merged.
fn needed_columns(tablet: &TabletInput, selection: &Selection) -> Result<Vec<usize>> {
    let schema = &*tablet.schema;
    let mut names = Vec::new();
    if let Some(filter) = &selection.filter {
        filter.columns(&mut names);
    }
    for rowset in &tablet.rowsets {
        if let Some(delete) = rowset.delete.as_ref().map(Expr::of_delete).transpose()?.flatten() {
            delete.columns(&mut names);
        }
    }
    let mut needed: Vec<usize> = Vec::new();
    let mut add = |i: usize| {
        if !needed.contains(&i) {
            needed.push(i);
        }
    };
    if matches!(schema.keys, KeysType::Unique | KeysType::Aggregate) {
        sort_key(schema).into_iter().for_each(&mut add);
    }
    for name in &names {
        let column = super::expr::find(schema, name)?;
        schema.columns.iter().position(|c| std::ptr::eq(c, column)).into_iter().for_each(&mut add);
    }
    selection.columns.iter().copied().for_each(&mut add);
    needed.sort_unstable();
    Ok(needed)
}

/// Delete predicates that apply to a rowset.
fn deletes_for(rowset: &RowsetInput, all: &[&RowsetInput], schema: &TabletSchema) -> Result<Vec<Bound>> {
    let mut out = Vec::new();
    for other in all.iter().filter(|o| o.delete.is_some() && rowset.end <= o.end) {
        if let Some(expr) = other.delete.as_ref().map(Expr::of_delete).transpose()?.flatten() {
            let named = |e: Error| match e {
                Error::Usage(why) => {
                    Error::unsupported(format!("the delete predicate of version {}: {why}", other.end))
                }
                other => other,
            };
            out.push(expr.bind(schema).map_err(named)?);
        }
    }
    Ok(out)
}
