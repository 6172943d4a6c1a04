//! Every finding code and loss name, with what it means and what to do.

pub mod pfs;
pub mod pg;
