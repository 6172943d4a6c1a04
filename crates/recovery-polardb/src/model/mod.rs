//! The state that replay builds.

pub mod pfs;
