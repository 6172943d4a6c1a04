//! Bytes and types, without input or output.

pub mod pfs;
pub mod pg;
