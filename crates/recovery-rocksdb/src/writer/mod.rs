//! Writing tables, MANIFESTs and WALs that every RocksDB opens.

pub mod manifest;
mod table;
pub mod wal;

pub use table::{TableWriter, WriterOptions, WrittenTable};
