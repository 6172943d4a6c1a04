//! The rows of a family: tables, memtable entries and tombstones merged into what a reader would see.
//!
//! [`FamilyView`] holds the inputs, wherever they come from (a version and its WALs, salvaged tables, files chosen by
//! hand). Rows come in key order. The key space is cut into shards of a few megabytes at separators of the tables'
//! indexes; shards are merged in parallel and handed on in order, so memory is bounded by the shards under way.

mod cover;
mod json;
mod merge;
mod open;
mod operator;
mod rows;
mod spill;
mod view;

pub use json::JsonRows;
pub(crate) use merge::Input;
pub use open::{DatabaseView, OpenOptions};
pub use operator::MergeOperator;
pub use rows::{Row, RowColumn, RowValue};
pub use view::{BlobSet, Bound, FamilyView, InternalEntry, RowOptions, Shard, ViewTable};
