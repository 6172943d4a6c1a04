//! A tablet of a snapshot: its schema, its visible rowsets and their files.

use std::sync::Arc;

use recovery_core::Entry;
use roaring::RoaringBitmap;

use super::schema::{DeletePredicate, TabletSchema};
use crate::format::names::TabletPath;

/// Where the description of a tablet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `<tablet>.hdr`
    Header,
    /// `meta` of a primary-key tablet.
    PrimaryMeta,
    /// Guessed from file names and a sibling's schema; versions and deletes are not known.
    Guessed,
}

/// A tablet.
#[derive(Clone, Debug)]
pub struct Tablet {
    /// Its ids by the path.
    pub path: TabletPath,
    /// Where this description came from.
    pub origin: Origin,
    /// Table id in the header.
    pub table_id: Option<i64>,
    /// Tablet id in the header.
    pub tablet_id: Option<i64>,
    /// Schema hash in the header.
    pub schema_hash: Option<i32>,
    /// Schema; none where neither header nor sibling has one.
    pub schema: Option<Arc<TabletSchema>>,
    /// Visible rowsets in version order.
    pub rowsets: Vec<Rowset>,
    /// Version the rowsets reach without a gap.
    pub version: i64,
    /// First version that is missing although a later one is there.
    pub gap: Option<i64>,
}

impl Tablet {
    /// Rows that are stored, deleted ones of primary-key tables not counted.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rowsets
            .iter()
            .map(|r| {
                let deleted = r.segments.iter().filter_map(|s| s.deleted.as_ref()).map(RoaringBitmap::len);
                r.num_rows.unwrap_or(0).saturating_sub(deleted.fold(0, u64::saturating_add))
            })
            .fold(0, u64::saturating_add)
    }
}

/// A visible rowset.
#[derive(Clone, Debug)]
pub struct Rowset {
    /// Rowset id.
    pub id: String,
    /// First version.
    pub start: i64,
    /// Last version.
    pub end: i64,
    /// Rows stored, as the header says.
    pub num_rows: Option<u64>,
    /// A DELETE.
    pub delete: Option<DeletePredicate>,
    /// Schema at write time, where the header keeps it.
    pub schema: Option<Arc<TabletSchema>>,
    /// Segments in order.
    pub segments: Vec<SegmentFile>,
    /// Whether the segments are encrypted.
    pub encrypted: bool,
}

/// A segment of a rowset.
#[derive(Clone, Debug)]
pub struct SegmentFile {
    /// Number in the rowset.
    pub number: u32,
    /// Name without ending.
    pub name: String,
    /// The file; none when it is missing.
    pub entry: Option<Entry>,
    /// Rows deleted in a primary-key tablet.
    pub deleted: Option<RoaringBitmap>,
    /// Columns that stand in files of their own, newest first.
    pub groups: Vec<GroupFile>,
}

/// A `.cols` file.
#[derive(Clone, Debug)]
pub struct GroupFile {
    /// Unique ids of its columns.
    pub unique_ids: Vec<i64>,
    /// Version that wrote it.
    pub version: i64,
    /// Name without ending.
    pub name: String,
    /// The file; none when it is missing.
    pub entry: Option<Entry>,
}
