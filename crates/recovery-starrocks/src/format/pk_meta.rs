//! `meta`: the snapshot of a primary-key tablet.
//!
//! ```text
//! RowsetMetaPB * n | delete vectors | delta column group lists | TabletMetaPB | SnapshotMetaFooterPB
//!     | u64 offset of the footer | u64 file length
//! ```
//! The two trailing numbers are big-endian; everything else stands at offsets the footer gives. No checksum covers
//! any of it: only the MD5 in the file's name does. A delete vector is one byte 1, then, if anything is deleted, a
//! Roaring bitmap in the portable form. Sources: `storage/snapshot_meta.cpp`, `storage/del_vector.cpp`,
//! `gensrc/proto/snapshot.proto`.

use std::ops::Range;

use prost::Message;
use recovery_core::Cursor;
use roaring::RoaringBitmap;

use super::FormatError;
use super::tablet_header::{ColumnGroupListPb, RowsetMetaPb, TabletMetaPb, message};

/// `SnapshotMetaFooterPB`. The id and version lists end with one element that says nothing.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FooterPb {
    /// Format version.
    #[prost(int32, optional, tag = "1")]
    pub format_version: Option<i32>,
    /// 1 incremental, 2 full.
    #[prost(int32, optional, tag = "2")]
    pub snapshot_type: Option<i32>,
    /// Version of the snapshot.
    #[prost(int64, optional, tag = "3")]
    pub snapshot_version: Option<i64>,
    /// Offsets of rowset metas; the last is their end.
    #[prost(int64, repeated, packed = "false", tag = "4")]
    pub rowset_meta_offsets: Vec<i64>,
    /// Segment of each delete vector.
    #[prost(int64, repeated, packed = "false", tag = "5")]
    pub delvec_segids: Vec<i64>,
    /// Offsets of delete vectors; the last is their end.
    #[prost(int64, repeated, packed = "false", tag = "6")]
    pub delvec_offsets: Vec<i64>,
    /// Version of each delete vector.
    #[prost(int64, repeated, packed = "false", tag = "7")]
    pub delvec_versions: Vec<i64>,
    /// Offset of the tablet meta.
    #[prost(int64, optional, tag = "8")]
    pub tablet_meta_offset: Option<i64>,
    /// Segment of each delta column group list.
    #[prost(int64, repeated, packed = "false", tag = "9")]
    pub dcg_segids: Vec<i64>,
    /// Offsets of delta column group lists; the last is their end.
    #[prost(int64, repeated, packed = "false", tag = "10")]
    pub dcg_offsets: Vec<i64>,
}

/// The deleted rows of one segment.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteVector {
    /// `rowset_seg_id` of the rowset plus number of the segment.
    pub segment: u32,
    /// Version that made it.
    pub version: i64,
    /// Row ordinals.
    pub rows: RoaringBitmap,
}

/// Columns of one segment that stand in files of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentGroups {
    /// `rowset_seg_id` of the rowset plus number of the segment.
    pub segment: u32,
    /// The groups, newest first.
    pub list: ColumnGroupListPb,
}

/// A parsed `meta`.
#[derive(Clone, Debug, PartialEq)]
pub struct PrimaryMeta {
    /// The footer.
    pub footer: FooterPb,
    /// Rowsets.
    pub rowsets: Vec<RowsetMetaPb>,
    /// Delete vectors.
    pub delete_vectors: Vec<DeleteVector>,
    /// Delta column groups.
    pub groups: Vec<SegmentGroups>,
    /// The tablet.
    pub tablet: TabletMetaPb,
}

fn bad(at: u64, message: impl Into<String>) -> FormatError {
    FormatError::new("primary-key meta", at, message)
}

/// The pieces between neighbouring offsets; each must lie inside `0..end` and not run backwards.
fn pieces(offsets: &[i64], end: usize) -> Result<Vec<Range<usize>>, FormatError> {
    let mut out = Vec::with_capacity(offsets.len().saturating_sub(1));
    for (from, to) in offsets.iter().zip(offsets.iter().skip(1)) {
        let range = usize::try_from(*from).ok().zip(usize::try_from(*to).ok());
        match range {
            Some((from, to)) if from <= to && to <= end => out.push(from..to),
            _ => return Err(bad(0, format!("a piece from {from} to {to} is not inside 0..{end}"))),
        }
    }
    Ok(out)
}

fn segment_id(ids: &[i64], at: usize) -> Result<u32, FormatError> {
    ids.get(at)
        .and_then(|id| u32::try_from(*id).ok())
        .ok_or_else(|| bad(0, format!("piece {at} has no usable segment id")))
}

/// One delete vector.
///
/// # Errors
///
/// When the flag or the bitmap is wrong.
pub fn delete_vector(bytes: &[u8], at: u64) -> Result<RoaringBitmap, FormatError> {
    match bytes.split_first() {
        None => Ok(RoaringBitmap::new()),
        Some((1, [])) => Ok(RoaringBitmap::new()),
        Some((1, rest)) => RoaringBitmap::deserialize_from(rest)
            .map_err(|e| bad(at, format!("a delete vector does not hold a Roaring bitmap: {e}"))),
        Some((flag, _)) => Err(bad(at, format!("a delete vector starts with 1, found {flag}"))),
    }
}

impl PrimaryMeta {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// When lengths, offsets or messages are wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let length = bytes.len() as u64;
        let Some(tail_at) = bytes.len().checked_sub(16) else {
            return Err(bad(0, format!("{length} bytes are too few for a trailer of 16")));
        };
        let mut tail = Cursor::new(bytes.get(tail_at..).unwrap_or_default(), tail_at as u64);
        let footer_at = tail.u64_be("footer offset")?;
        let stored = tail.u64_be("file length")?;
        if stored != length {
            return Err(bad(tail_at as u64 + 8, format!("stored file length {stored}, found {length}")));
        }
        let footer_at = usize::try_from(footer_at)
            .ok()
            .filter(|at| *at <= tail_at)
            .ok_or_else(|| bad(tail_at as u64, format!("footer offset {footer_at} is outside the file")))?;
        let at = |range: &Range<usize>| bytes.get(range.clone()).unwrap_or_default();
        let footer: FooterPb = message(at(&(footer_at..tail_at)), "primary-key footer", footer_at as u64)?;

        let rowsets = pieces(&footer.rowset_meta_offsets, footer_at)?
            .iter()
            .map(|r| message::<RowsetMetaPb>(at(r), "rowset meta", r.start as u64))
            .collect::<Result<Vec<_>, _>>()?;
        let mut delete_vectors = Vec::new();
        for (i, r) in pieces(&footer.delvec_offsets, footer_at)?.iter().enumerate() {
            delete_vectors.push(DeleteVector {
                segment: segment_id(&footer.delvec_segids, i)?,
                version: footer.delvec_versions.get(i).copied().unwrap_or(0),
                rows: delete_vector(at(r), r.start as u64)?,
            });
        }
        let mut groups = Vec::new();
        for (i, r) in pieces(&footer.dcg_offsets, footer_at)?.iter().enumerate() {
            let list = message(at(r), "delta column group list", r.start as u64)?;
            groups.push(SegmentGroups { segment: segment_id(&footer.dcg_segids, i)?, list });
        }
        let tablet_at = footer
            .tablet_meta_offset
            .and_then(|o| usize::try_from(o).ok())
            .filter(|o| *o <= footer_at)
            .ok_or_else(|| bad(footer_at as u64, "the footer names no place for the tablet meta"))?;
        let tablet = message(at(&(tablet_at..footer_at)), "tablet meta", tablet_at as u64)?;
        Ok(Self { footer, rowsets, delete_vectors, groups, tablet })
    }

    /// Writes the file; offsets and terminators are made anew.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut footer = FooterPb {
            format_version: self.footer.format_version,
            snapshot_type: self.footer.snapshot_type,
            snapshot_version: self.footer.snapshot_version,
            ..FooterPb::default()
        };
        let here = |out: &Vec<u8>| i64::try_from(out.len()).unwrap_or(i64::MAX);
        for rowset in &self.rowsets {
            footer.rowset_meta_offsets.push(here(&out));
            out.extend(rowset.encode_to_vec());
        }
        footer.rowset_meta_offsets.push(here(&out));
        for vector in &self.delete_vectors {
            footer.delvec_segids.push(i64::from(vector.segment));
            footer.delvec_versions.push(vector.version);
            footer.delvec_offsets.push(here(&out));
            out.push(1);
            if !vector.rows.is_empty() {
                // Writing into a vector cannot fail.
                let _ = vector.rows.serialize_into(&mut out);
            }
        }
        footer.delvec_offsets.push(here(&out));
        footer.delvec_segids.push(-1);
        footer.delvec_versions.push(-1);
        for group in &self.groups {
            footer.dcg_segids.push(i64::from(group.segment));
            footer.dcg_offsets.push(here(&out));
            out.extend(group.list.encode_to_vec());
        }
        footer.dcg_offsets.push(here(&out));
        footer.dcg_segids.push(-1);
        footer.tablet_meta_offset = Some(here(&out));
        out.extend(self.tablet.encode_to_vec());
        let footer_at = out.len() as u64;
        out.extend(footer.encode_to_vec());
        let length = (out.len() as u64).saturating_add(16);
        out.extend_from_slice(&footer_at.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out
    }
}
