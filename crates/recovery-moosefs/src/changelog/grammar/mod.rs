//! The arguments and results of the operations, by what they change.

pub(crate) mod data;
pub(crate) mod names;
pub(crate) mod sessions;
pub(crate) mod tables;
