//! RocksDB: repair without loss, block by block.
//!
//! For the person whose database does not open, and for the engineer who wants to read its files without it.
//!
//! A database is a directory: tables (`*.sst`) hold sorted entries and never change, write-ahead logs (`*.log`) hold
//! what is not in tables yet, and a MANIFEST says which tables belong to which family and level. Losing the MANIFEST, or
//! one bit of a table, makes the engine refuse the whole; nearly everything is still there. The modules:
//!
//! * [`mod@format`]: bytes to types and back, one structure a file;
//! * [`reader`]: tables, logs, MANIFESTs and blob files by position, past damage where that is asked for;
//! * [`salvage`]: every good block of a damaged table, the key ranges that are lost, verification;
//! * [`inspect`], [`witness`], [`placement`]: a directory as all its witnesses describe it together;
//! * [`dump`]: tables and logs merged into the rows a reader would see;
//! * [`RocksDb`]: all of it behind the interface of the command line.
//!
//! Reading a table, every block checked before it is used:
//!
//! ```
//! use std::sync::Arc;
//! use recovery_core::MemBlob;
//! use recovery_rocksdb::format::{InternalKey, SequenceNumber, ValueType};
//! use recovery_rocksdb::reader::{TableOptions, TableReader};
//! use recovery_rocksdb::writer::{TableWriter, WriterOptions};
//!
//! let mut file = Vec::new();
//! let mut writer = TableWriter::new(&mut file, WriterOptions::default());
//! let key = InternalKey::new(b"user:17", SequenceNumber(42), ValueType::Value);
//! writer.add(key.as_bytes(), b"Ada")?;
//! writer.finish()?;
//!
//! let table = TableReader::open(Arc::new(MemBlob::new("000042.sst", file)), TableOptions::default())?;
//! assert_eq!(table.properties().num_entries, Some(1));
//! let mut scan = table.scan()?;
//! while scan.advance()? {
//!     assert_eq!((scan.key(), scan.value()), (key.as_bytes(), &b"Ada"[..]));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Taking what is good out of a table that lost its end, with footer, index and properties:
//!
//! ```
//! # use std::sync::Arc;
//! # use recovery_core::{Blob, Context, MemBlob};
//! # use recovery_rocksdb::format::{InternalKey, KeyOrder, SequenceNumber, ValueType};
//! # use recovery_rocksdb::reader::TableOptions;
//! # use recovery_rocksdb::writer::{TableWriter, WriterOptions};
//! use recovery_rocksdb::salvage::Salvaged;
//!
//! # let mut file = Vec::new();
//! # let mut writer = TableWriter::new(&mut file, WriterOptions { block_size: 256, ..WriterOptions::default() });
//! # for n in 0..100_u64 {
//! #     let key = InternalKey::new(format!("user:{n:03}").as_bytes(), SequenceNumber(n), ValueType::Value);
//! #     writer.add(key.as_bytes(), b"some value")?;
//! # }
//! # writer.finish()?;
//! file.truncate(file.len() / 2);
//! let blob: Arc<dyn Blob> = Arc::new(MemBlob::new("000042.sst", file));
//! let salvaged = Salvaged::run(&blob, &TableOptions::default(), None, &Context::default())?;
//! assert!(salvaged.entries() > 40 && !salvaged.lost.is_empty());
//!
//! let mut rewritten = Vec::new();
//! let table = salvaged.write_table(&mut rewritten, &KeyOrder::Bytewise)?;
//! assert_eq!(table.summary.points, salvaged.entries());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod codes;
pub mod dump;
pub mod format;
pub mod inspect;
pub mod model;
pub mod placement;
pub mod reader;
pub mod salvage;
pub mod witness;
pub mod writer;

mod apply;
#[cfg(feature = "cli")]
pub mod cli;
mod compare;
mod engine;
pub mod fill;
mod merging;
mod plan;
mod rewrite;

pub use engine::{EngineOptions, RocksDb, WalMode};
