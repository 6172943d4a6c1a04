//! Writes a PFS image from nothing.
//!
//! The real tools read, list and go on writing to such images: every object stands in its place with its number, type
//! and checksum, free ones too, or in the journal as an entry, in any number of transactions.

mod image;
mod memory;
mod objects;

pub use image::{ImageOptions, ImageSink, ImageWriter, JournalLayout, Placement};
pub use memory::MemoryImage;
