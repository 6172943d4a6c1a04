//! Reading tables and blob files: by position, in parallel, block by block.

pub mod blob;
mod block;
mod index;
pub mod log;
pub mod manifest;
mod scan;
pub(crate) mod table;
pub mod wal;

pub use blob::{BlobFile, BlobWalk};
pub(crate) use block::Sealed;
pub use block::{BlockReader, TableError};
pub use index::TableIndex;
pub(crate) use scan::READ_AHEAD;
pub use scan::{KeyRewrite, TableScan};
pub use table::{TableOptions, TableReader, TableSummary, Tombstone};
