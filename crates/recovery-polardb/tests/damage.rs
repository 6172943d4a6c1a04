//! Systematic damage: every bit, every length, every sector, every file of small disks and clusters.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]

mod common;
mod pg_common;

#[path = "damage/pfs.rs"]
mod pfs;
#[path = "damage/pg.rs"]
mod pg;
