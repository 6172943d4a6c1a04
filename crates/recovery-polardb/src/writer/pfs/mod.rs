//! Writes a PFS image from nothing, or a whole one from what was read of a damaged one.
//!
//! The real tools read, list and go on writing to such images: every object stands in its place with its number, type
//! and checksum, free ones too, or in the journal as an entry, in any number of transactions.

mod image;
mod memory;
mod objects;
mod repair;

pub use image::{ImageOptions, ImageSink, ImageWriter, JournalLayout, Placement};
pub use memory::MemoryImage;
pub use repair::{Repaired, copy_device, repair};
