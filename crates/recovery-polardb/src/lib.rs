//! Recovery of a PolarDB for PostgreSQL cluster of which only the shared disk is left.
//!
//! The disk is read as it lies there, without the engine's daemon, without root and without a mount:
//! the file system on it (PFS) with its journal replayed in memory, and the PostgreSQL cluster inside.
#![forbid(unsafe_code)]

pub mod apply;
pub mod checks;
#[cfg(feature = "cli")]
pub mod cli;
pub mod codes;
mod engine;
pub mod extract;
pub mod format;
pub mod inspect;
pub mod model;
pub mod plan;
pub mod reader;
pub mod rebuild;
mod source;
pub mod writer;

pub use engine::{Model, PolarDb};
pub use source::{PfsSource, probe};
