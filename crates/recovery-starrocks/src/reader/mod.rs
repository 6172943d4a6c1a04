//! Reading a repository: lazy, by position, parallel where the format allows.

#[cfg(feature = "arrow")]
pub mod arrow_type;
#[cfg(feature = "arrow")]
pub mod expr;
#[cfg(feature = "arrow")]
mod flat;
#[cfg(feature = "arrow")]
mod fold;
#[cfg(feature = "arrow")]
mod leaf;
pub mod load;
#[cfg(feature = "arrow")]
mod merge;
#[cfg(feature = "arrow")]
mod node;
pub mod overlay;
pub mod repository;
#[cfg(feature = "arrow")]
pub mod salvage;
#[cfg(feature = "arrow")]
pub mod segment;
#[cfg(feature = "arrow")]
mod sink;
#[cfg(feature = "arrow")]
pub mod table;
#[cfg(feature = "arrow")]
pub mod text;
pub mod watch;

#[cfg(feature = "arrow")]
pub use segment::{ReadOptions, Segment, SegmentRows};
#[cfg(feature = "arrow")]
pub use table::{ColumnGroup, Losses, RowsetInput, SegmentInput, Selection, TabletInput, TabletReader};
