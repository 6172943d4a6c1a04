//! The state that replay builds.

pub mod transactions;
pub mod version;
