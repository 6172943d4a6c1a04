//! PostgreSQL's directories, read over any [`Source`](recovery_core::Source): a local directory or a PFS image.

pub mod cluster;
pub mod files;
pub mod pages;
pub mod slots;
pub mod slru;
pub mod wal;
pub mod wal_heal;
pub mod wal_scan;
pub mod wal_summary;

pub use cluster::{Cluster, find_clusters};
pub use files::read_small;
