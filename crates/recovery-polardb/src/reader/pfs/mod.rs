//! A PFS disk, read without writing a byte: journal replay in memory, healing of damaged metadata.
//!
//! [`Pfs::open`] does in this order what a mount does, but never stops at damage:
//! headers, leader record, the objects in place, the journal's own place, replay of what is live,
//! healing of damaged objects (journal history, correction of one bit, the layout that `mkfs`
//! makes), and the tree ([`FileSystem`](crate::model::pfs::FileSystem)).

mod behind;
mod copies;
mod deleted;
mod device;
mod file;
mod geometry;
mod heal;
mod history;
mod live;
mod metadata;
mod open;
mod pass;
mod past;
mod rebuild;
mod replay;
mod ring;
mod tracker;

pub use copies::{Copy, mapfile_beside};
pub use deleted::{Act, Deleted, Story, deleted};
pub use device::{Device, MaskedBlob};
pub use file::{PfsFile, Segment};
pub use geometry::Geometry;
pub use history::{Fate, Logged, Span, Transaction, TransactionSink};
pub use live::live_writer;
pub use metadata::{Bad, ChunkState, Held, Metadata, Origin, Table};
pub use open::{LeaderState, OpenOptions, Pfs};
pub use pass::{FileWatch, Item, Outcome, Sink, Watch, run as pass};
pub use past::Past;
pub use replay::Replayed;
pub use ring::Ring;
pub use tracker::Tracker;
