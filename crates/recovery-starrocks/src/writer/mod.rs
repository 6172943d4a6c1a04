//! Writing what a repository needs: table definitions that were lost, and whole small repositories for tests.

pub mod definitions;
pub mod header;
