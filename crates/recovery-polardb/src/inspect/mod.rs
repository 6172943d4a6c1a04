//! Looking for damage, without changing a byte.

pub mod pfs;
pub mod pg;
