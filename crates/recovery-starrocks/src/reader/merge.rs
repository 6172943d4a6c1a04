//! The k-way merge of segments that are each sorted by key.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{interleave_record_batch, take};
use arrow::datatypes::SchemaRef;
use arrow::row::{OwnedRow, RowConverter, Rows as KeyRows, SortField};
use recovery_core::{Error, Result};

use super::fold::{Groups, fold};
use crate::model::schema::Column;

/// A batch of one source, filtered; its rows that miss a value are flagged.
pub(super) struct Piece {
    pub(super) batch: RecordBatch,
    pub(super) lost: Option<BooleanArray>,
}

/// A sorted stream of rows, older streams before newer ones.
pub(super) trait Stream: Send {
    fn next(&mut self) -> Result<Option<Piece>>;
    fn name(&self) -> String;
}

struct Source {
    stream: Box<dyn Stream>,
    /// Position of the current piece in the pieces held.
    piece: usize,
    keys: Option<KeyRows>,
    row: usize,
    last: Option<OwnedRow>,
    /// Rows that came before their predecessor.
    unsorted: u64,
}

/// A folded batch.
pub(super) struct Merged {
    pub(super) batch: RecordBatch,
    pub(super) lost: Option<BooleanArray>,
}

/// Merges streams and folds rows with equal keys.
pub(super) struct Merge {
    columns: Vec<Column>,
    key: Vec<usize>,
    schema: SchemaRef,
    converter: RowConverter,
    sources: Vec<Source>,
    heap: BinaryHeap<Reverse<(OwnedRow, usize)>>,
    pieces: Vec<Piece>,
    rows: Vec<(usize, usize)>,
    starts: Vec<u32>,
    current: Option<OwnedRow>,
    chunk: usize,
    salvage: bool,
    /// Fold by the columns' aggregations; otherwise the newest row wins.
    aggregate: bool,
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn internal(e: arrow::error::ArrowError) -> Error {
    Error::Internal(e.to_string())
}

impl Merge {
    /// `columns` describe the batches; `key` are the positions of the key, in sort order.
    pub(super) fn new(
        columns: Vec<Column>,
        key: Vec<usize>,
        schema: SchemaRef,
        streams: Vec<Box<dyn Stream>>,
        chunk: usize,
        aggregate: bool,
        salvage: bool,
    ) -> Result<Self> {
        let fields = key.iter().filter_map(|i| schema.fields().get(*i)).map(|f| SortField::new(f.data_type().clone()));
        let converter = RowConverter::new(fields.collect()).map_err(internal)?;
        let source = |stream| Source { stream, piece: 0, keys: None, row: 0, last: None, unsorted: 0 };
        let sources = streams.into_iter().map(source).collect();
        let mut merge = Self {
            columns,
            key,
            schema,
            converter,
            sources,
            heap: BinaryHeap::new(),
            pieces: Vec::new(),
            rows: Vec::new(),
            starts: Vec::new(),
            current: None,
            chunk,
            salvage,
            aggregate,
        };
        for i in 0..merge.sources.len() {
            merge.advance(i)?;
        }
        Ok(merge)
    }

    fn keys_of(&self, batch: &RecordBatch) -> Result<KeyRows> {
        let columns: Vec<ArrayRef> = self.key.iter().filter_map(|i| batch.columns().get(*i).cloned()).collect();
        self.converter.convert_columns(&columns).map_err(internal)
    }

    /// Puts the next row of source `i` on the heap.
    fn advance(&mut self, i: usize) -> Result<()> {
        loop {
            let Some(source) = self.sources.get_mut(i) else { return Ok(()) };
            if let Some(keys) = source.keys.as_ref().filter(|k| source.row < k.num_rows()) {
                let key = keys.row(source.row).owned();
                if source.last.as_ref().is_some_and(|last| key < *last) {
                    source.unsorted = source.unsorted.saturating_add(1);
                    if !self.salvage {
                        let name = source.stream.name();
                        return Err(Error::Damaged(format!(
                            "{name}: row {} of a batch has a smaller key than the row before it; rows with equal keys cannot be told (--salvage goes on)",
                            source.row
                        )));
                    }
                }
                source.last = Some(key.clone());
                self.heap.push(Reverse((key, i)));
                return Ok(());
            }
            let Some(piece) = source.stream.next()? else {
                source.keys = None;
                return Ok(());
            };
            let keys = self.keys_of(&piece.batch)?;
            self.pieces.push(piece);
            let at = self.pieces.len().saturating_sub(1);
            if let Some(source) = self.sources.get_mut(i) {
                (source.piece, source.keys, source.row) = (at, Some(keys), 0);
            }
        }
    }

    /// The next batch of folded rows.
    pub(super) fn next(&mut self) -> Result<Option<Merged>> {
        while let Some(Reverse((key, i))) = self.heap.pop() {
            if self.current.as_ref() != Some(&key) {
                if self.starts.len() >= self.chunk {
                    let out = self.flush()?;
                    self.begin(key, i)?;
                    return Ok(Some(out));
                }
                self.begin(key, i)?;
            } else {
                self.push(i)?;
            }
        }
        if self.rows.is_empty() { Ok(None) } else { self.flush().map(Some) }
    }

    fn begin(&mut self, key: OwnedRow, i: usize) -> Result<()> {
        let at = u32::try_from(self.rows.len()).map_err(|_| Error::Limit {
            what: "rows with one key".into(),
            needed: self.rows.len() as u64,
            limit: u64::from(u32::MAX),
        })?;
        self.starts.push(at);
        self.current = Some(key);
        self.push(i)
    }

    fn push(&mut self, i: usize) -> Result<()> {
        if let Some(source) = self.sources.get_mut(i) {
            self.rows.push((source.piece, source.row));
            source.row = source.row.saturating_add(1);
        }
        self.advance(i)
    }

    fn flush(&mut self) -> Result<Merged> {
        let rows = std::mem::take(&mut self.rows);
        let groups = Groups::new(std::mem::take(&mut self.starts), u32::try_from(rows.len()).unwrap_or(u32::MAX));
        self.current = None;
        let batches: Vec<&RecordBatch> = self.pieces.iter().map(|p| &p.batch).collect();
        let chunk = interleave_record_batch(&batches, &rows).map_err(internal)?;
        let mut columns = Vec::new();
        for (column, array) in self.columns.iter().zip(chunk.columns()) {
            columns.push(if self.aggregate || column.is_key {
                fold(column, array, &groups)?
            } else {
                take(array, &groups.lasts(), None).map_err(internal)?
            });
        }
        let lost = self.pieces.iter().any(|p| p.lost.is_some()).then(|| {
            let flag = |(piece, row): &(usize, usize)| {
                self.pieces.get(*piece).and_then(|p| p.lost.as_ref()).is_some_and(|l| l.value(*row))
            };
            let flags: Vec<bool> = rows.iter().map(flag).collect();
            if self.aggregate {
                groups.any(&flags)
            } else {
                groups.lasts().values().iter().map(|i| flags.get(*i as usize).copied().unwrap_or(false)).collect()
            }
        });
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(internal)?;
        self.release();
        Ok(Merged { batch, lost: lost.map(BooleanArray::from) })
    }

    /// Forgets the pieces that no source stands in any more.
    fn release(&mut self) {
        let mut keep = vec![None; self.pieces.len()];
        let mut kept = Vec::new();
        let mut pieces: Vec<Option<Piece>> = std::mem::take(&mut self.pieces).into_iter().map(Some).collect();
        for source in self.sources.iter_mut().filter(|s| s.keys.is_some()) {
            let Some(place) = keep.get_mut(source.piece) else { continue };
            let at = *place.get_or_insert_with(|| {
                kept.extend(pieces.get_mut(source.piece).and_then(Option::take));
                kept.len().saturating_sub(1)
            });
            source.piece = at;
        }
        self.pieces = kept;
    }

    /// Rows that stood before a row with a smaller key, by source.
    pub(super) fn unsorted(&self) -> Vec<(String, u64)> {
        self.sources.iter().filter(|s| s.unsorted > 0).map(|s| (s.stream.name(), s.unsorted)).collect()
    }
}
