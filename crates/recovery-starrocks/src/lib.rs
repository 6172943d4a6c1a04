//! StarRocks snapshot repositories (BACKUP / RESTORE): prove a backup before it is needed, read its tables with no
//! cluster at all, repair the repository itself.

#![forbid(unsafe_code)]

pub mod apply;
#[cfg(feature = "cli")]
pub mod cli;
pub mod codes;
pub mod copy;
pub mod depot;
pub mod diff;
mod engine;
pub mod estimate;
#[cfg(feature = "arrow")]
pub mod export;
pub mod format;
pub mod inspect;
pub mod model;
pub mod plan;
pub mod prune;
pub mod reader;
pub mod sql;
#[cfg(feature = "store")]
pub mod store;
pub mod writer;

#[cfg(feature = "cli")]
pub use cli::Cli;
pub use engine::{STARROCKS, StarRocks};

/// MD5 in hexadecimal, as file names carry it.
#[must_use]
pub fn md5_hex(bytes: &[u8]) -> String {
    recovery_core::hex(&reader::load::md5_of(bytes))
}
