//! What a repository holds, independent of how it was written.

pub mod meta_schema;
pub mod repository;
pub mod schema;
pub mod table;
pub mod tablet;

pub use schema::{Aggregation, Column, ColumnType, DeletePredicate, InList, KeysType, SharedSchema, TabletSchema};
