//! The directories of the lost nodes: what they are, and the text of every file in them.

pub mod conf;
pub mod node;
pub mod runbook;

pub use node::{Node, Options, Role};
