//! Reading, lazily and by position.

pub mod pfs;
pub mod pg;
