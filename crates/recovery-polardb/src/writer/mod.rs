//! Writing: images of the file system, for tests and for repair.

pub mod pfs;
