//! Batches as Parquet, Arrow, CSV or JSON Lines.

use std::io::Write;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use recovery_core::{Error, Result};

use super::Format;
use crate::reader::text;

/// Writes batches in one of the formats.
pub struct Writer<W: Write + Send> {
    inner: Inner<W>,
    schema: SchemaRef,
}

enum Inner<W: Write + Send> {
    Parquet(Box<parquet::arrow::ArrowWriter<W>>),
    Arrow(Box<arrow::ipc::writer::FileWriter<W>>),
    Csv(Box<csv::Writer<W>>),
    Jsonl(W),
}

impl<W: Write + Send> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("schema", &self.schema).finish_non_exhaustive()
    }
}

pub(super) fn failed(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::write("export", "write rows", std::io::Error::other(e))
}

/// Rows of a Parquet row group, which the writer holds in memory.
const ROW_GROUP: usize = 128 << 10;

impl<W: Write + Send> Writer<W> {
    /// A writer of rows of `schema`.
    ///
    /// # Errors
    ///
    /// When the schema cannot be written or `out` does not take the head.
    pub fn new(format: Format, schema: SchemaRef, out: W) -> Result<Self> {
        let inner = match format {
            Format::Parquet => {
                let level = parquet::basic::ZstdLevel::default();
                let properties = parquet::file::properties::WriterProperties::builder()
                    .set_compression(parquet::basic::Compression::ZSTD(level))
                    .set_max_row_group_row_count(Some(ROW_GROUP))
                    .build();
                let writer = parquet::arrow::ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties));
                Inner::Parquet(Box::new(writer.map_err(failed)?))
            }
            Format::Arrow => {
                Inner::Arrow(Box::new(arrow::ipc::writer::FileWriter::try_new(out, &schema).map_err(failed)?))
            }
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                writer.write_record(schema.fields().iter().map(|f| f.name().as_bytes())).map_err(failed)?;
                Inner::Csv(Box::new(writer))
            }
            Format::Jsonl => Inner::Jsonl(out),
        };
        Ok(Self { inner, schema })
    }

    /// Writes the rows of a batch.
    ///
    /// # Errors
    ///
    /// When `out` does not take them.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match &mut self.inner {
            Inner::Parquet(w) => w.write(batch).map_err(failed),
            Inner::Arrow(w) => w.write(batch).map_err(failed),
            Inner::Csv(w) => {
                let mut cell = Vec::new();
                for row in 0..batch.num_rows() {
                    for (field, array) in self.schema.fields().iter().zip(batch.columns()) {
                        cell.clear();
                        text::csv(&mut cell, field, array, row).map_err(failed)?;
                        w.write_field(&cell).map_err(failed)?;
                    }
                    w.write_record(None::<&[u8]>).map_err(failed)?;
                }
                Ok(())
            }
            Inner::Jsonl(w) => {
                let mut lines = Vec::new();
                for row in 0..batch.num_rows() {
                    text::object(&mut lines, batch, row).map_err(failed)?;
                    lines.push(b'\n');
                }
                w.write_all(&lines).map_err(failed)
            }
        }
    }

    /// Writes what is still held, and the end of the file.
    ///
    /// # Errors
    ///
    /// When `out` does not take it.
    pub fn finish(self) -> Result<()> {
        match self.inner {
            Inner::Parquet(w) => w.close().map(drop).map_err(failed),
            Inner::Arrow(mut w) => w.finish().map_err(failed),
            Inner::Csv(mut w) => w.flush().map_err(failed),
            Inner::Jsonl(mut w) => w.flush().map_err(failed),
        }
    }
}
