//! Tablets that lost files: what is left of them is made restorable by a header that names only what is there.

use std::collections::{BTreeMap, BTreeSet};

use recovery_core::{Context, hex};

use crate::codes;
use crate::format::info::{InfoIndex, InfoPhysical};
use crate::format::names::{self, TabletFile, TabletPath};
use crate::format::segment::footer;
use crate::format::tablet_header::Frame;
use crate::inspect::{Fate, Inspection};
use crate::model::repository::TabletDir;
use crate::model::schema::KeysType;
use crate::model::tablet::{Origin, Rowset};
use crate::reader::load::{LoadedSnapshot, LoadedTablet, md5_of, read_small};
use crate::writer::header::{self, Ids, NewRowset, Remains};

/// A tablet as it will be.
pub(super) struct Mended {
    /// Directory in the source.
    pub(super) dir: String,
    /// Where the tablet is.
    pub(super) path: TabletPath,
    /// The sealed header.
    pub(super) header: Vec<u8>,
    /// Segments under the names they will have: name in the source, base name, length, MD5 in the new name.
    pub(super) segments: Vec<(String, String, u64, String)>,
    /// Base names that go.
    pub(super) gone: BTreeSet<String>,
    /// Rows lost at most, and bytes.
    pub(super) rows: u64,
    /// Bytes of files left behind.
    pub(super) bytes: u64,
    /// The header was lost: deletes and the order of loads are not known.
    pub(super) guessed: bool,
}

impl Mended {
    /// Under which consent it goes.
    pub(super) fn loss(&self) -> &'static str {
        if self.guessed { codes::LOSS_HEADER.name } else { codes::LOSS_ROWS.name }
    }

    /// Base names of its header and segments.
    pub(super) fn names(&self) -> Vec<String> {
        let segments = self.segments.iter().map(|s| s.1.clone());
        segments.chain(std::iter::once(format!("{}.hdr", self.path.tablet))).collect()
    }

    /// A list of its files after the change.
    pub(super) fn manifest(&self, names: &[String]) -> Vec<String> {
        let mut out: Vec<String> = names.iter().filter(|n| !self.gone.contains(*n)).cloned().collect();
        out.extend(self.names().into_iter().filter(|n| !names.contains(n)));
        out
    }
}

/// What a tablet of the job description is.
pub(super) struct Wanted<'a> {
    pub(super) physical: &'a InfoPhysical,
    pub(super) index: &'a InfoIndex,
    pub(super) path: TabletPath,
    pub(super) created: i64,
}

pub(super) struct Mender<'a> {
    pub(super) inspection: &'a Inspection,
    pub(super) snapshot: &'a LoadedSnapshot,
    pub(super) cx: &'a Context,
}

impl Mender<'_> {
    /// Makes a tablet restorable without what it lost. `None` where that cannot be done: primary-key tables, column
    /// groups, encrypted rowsets, and where no schema is left.
    pub(super) fn mend(&self, wanted: &Wanted<'_>) -> Option<Mended> {
        let found = self.snapshot.tablet(&wanted.path);
        let path = found.map_or_else(|| self.place(wanted), |t| t.tablet.path);
        let listing = self.inspection.loaded.repository.listing.snapshots.get(&self.snapshot.label)?;
        let dir = listing.tablets.get(&path);
        let schema = found.and_then(|t| t.tablet.schema.clone());
        let schema = schema.or_else(|| self.snapshot.any_schema(path.table, Some(path.index)))?;
        let groups = |t: &LoadedTablet| {
            t.tablet.rowsets.iter().any(|r| r.encrypted || r.segments.iter().any(|s| !s.groups.is_empty()))
        };
        // Files that are bound to the number of a segment.
        let bound =
            |d: &TabletDir| d.files.iter().any(|f| matches!(f.kind, TabletFile::Index | TabletFile::Columns { .. }));
        let broken = |t: &LoadedTablet| t.findings.iter().any(|f| f.code == codes::GROUPS_DAMAGED.code);
        if schema.keys == KeysType::Primary || found.is_some_and(|t| groups(t) || broken(t)) || dir.is_some_and(bound) {
            return None;
        }
        let mut out = Mended {
            dir: dir.map_or_else(|| format!("{}/{}/{path}", self.snapshot.dir, names::CONTENT), |d| d.dir.clone()),
            path,
            header: Vec::new(),
            segments: Vec::new(),
            gone: BTreeSet::new(),
            rows: 0,
            bytes: 0,
            guessed: false,
        };
        let kept = found.filter(|t| t.tablet.origin == Origin::Header);
        let body = match (kept, dir) {
            (Some(tablet), Some(dir)) => self.own(tablet, dir, wanted, &mut out)?,
            _ => self.anew(found.map(AsRef::as_ref), wanted, &schema, &mut out)?,
        };
        out.header = Frame::seal(&body);
        Some(out)
    }

    /// Where the directory of a tablet that is not there would be.
    fn place(&self, wanted: &Wanted<'_>) -> TabletPath {
        let ids = wanted.index.tablets.iter().filter_map(|t| self.snapshot.by_id.get(&t.id));
        let sibling = ids.into_iter().find(|p| p.table == wanted.path.table && p.index == wanted.path.index);
        sibling.map_or(wanted.path, |s| TabletPath { tablet: wanted.path.tablet, ..*s })
    }

    /// Sorts the segments of a rowset into those that stay, renumbered, and those that go.
    fn sift(&self, rowset: &Rowset, out: &mut Mended) -> Option<(Remains, bool)> {
        let mut left = Remains { segments: 0, rows: 0, bytes: 0 };
        let mut changed = false;
        let mut known = 0u64;
        for segment in &rowset.segments {
            let state = segment.entry.as_ref().and_then(|e| self.inspection.files.get(&e.name));
            let bad = |name: &str| matches!(self.inspection.fates.get(name), Some(Fate::Damaged | Fate::Debris));
            let good = segment.entry.as_ref().filter(|e| !bad(&e.name)).zip(state);
            let rows = state.and_then(|s| s.segment.as_ref()).and_then(|s| s.rows);
            let Some((entry, state)) = good else {
                changed = true;
                known = known.saturating_add(rows.unwrap_or(0));
                out.gone.insert(segment.name.clone());
                out.bytes = out.bytes.saturating_add(segment.entry.as_ref().map_or(0, |e| e.size));
                continue;
            };
            let base = format!("{}_{}.dat", rowset.id, left.segments);
            if base != segment.name {
                out.gone.insert(segment.name.clone());
            }
            out.segments.push((entry.name.clone(), base, entry.size, state.md5.clone()?));
            left.segments = left.segments.saturating_add(1);
            left.rows = left.rows.saturating_add(rows?);
            left.bytes = left.bytes.saturating_add(entry.size);
        }
        // What the header counted and is not there any more; without a header, what the footers know.
        let lost = rowset.num_rows.map_or(known, |n| n.saturating_sub(left.rows));
        out.rows = out.rows.saturating_add(if changed { lost } else { 0 });
        Some((left, changed))
    }

    fn own(&self, tablet: &LoadedTablet, dir: &TabletDir, wanted: &Wanted<'_>, out: &mut Mended) -> Option<Vec<u8>> {
        let mut remains: BTreeMap<&str, Remains> = BTreeMap::new();
        for rowset in &tablet.tablet.rowsets {
            let (left, changed) = self.sift(rowset, out)?;
            if changed {
                remains.insert(&rowset.id, left);
            }
        }
        let mut empty = Vec::new();
        let mut next = 0;
        for rowset in &tablet.tablet.rowsets {
            if rowset.start > next {
                empty.push((next, rowset.start.checked_sub(1)?));
            }
            next = rowset.end.checked_add(1)?;
        }
        if next <= wanted.physical.version {
            empty.push((next, wanted.physical.version));
        }
        let header = dir.files.iter().find(|f| f.file.finished() && matches!(f.kind, TabletFile::Header(_)))?;
        let bytes = read_small(self.inspection.loaded.repository.source.as_ref(), &header.file.entry, self.cx).ok()?;
        let frame = Frame::split(&bytes).ok()?;
        header::without_lost(frame.body, &|id| remains.get(id).copied(), &empty).ok()
    }

    fn anew(
        &self,
        tablet: Option<&LoadedTablet>,
        wanted: &Wanted<'_>,
        schema: &crate::model::schema::TabletSchema,
        out: &mut Mended,
    ) -> Option<Vec<u8>> {
        let version = wanted.physical.version.max(1);
        let mut rowsets =
            vec![NewRowset { id: None, start: 0, end: 1, remains: Remains { segments: 0, rows: 0, bytes: 0 } }];
        if let Some(tablet) = tablet {
            out.guessed = true;
            let found = &tablet.tablet.rowsets;
            // Each load made one version at least; leftovers of compactions would be read twice.
            if i64::try_from(found.len()).ok()? > version.saturating_sub(1) {
                return None;
            }
            for (start, rowset) in (2i64..).zip(found) {
                let (remains, _) = self.sift(rowset, out)?;
                rowsets.push(NewRowset { id: Some(rowset.id.clone()), start, end: start, remains });
            }
        }
        match rowsets.last_mut() {
            Some(last) if last.id.is_some() => last.end = version,
            _ if version > 1 => rowsets.push(NewRowset {
                id: None,
                start: 2,
                end: version,
                remains: Remains { segments: 0, rows: 0, bytes: 0 },
            }),
            _ => {}
        }
        let ids = Ids {
            table: out.path.table,
            partition: out.path.partition,
            tablet: out.path.tablet,
            schema_hash: i32::try_from(wanted.index.schema_hash).ok()?,
            created: wanted.created,
        };
        if let Some(sibling) = self.sibling(out.path) {
            return header::like_sibling(&sibling, ids, &rowsets).ok();
        }
        let mut schema = schema.clone();
        // Without any segment the ids are free: their places do.
        if let (true, Some(tablet)) = (schema.columns.iter().all(|c| c.unique_id < 0), tablet) {
            self.number(tablet, &mut schema)?;
        }
        Some(header::from_schema(&schema, ids, &rowsets))
    }

    /// The message of a header of the same index.
    fn sibling(&self, path: TabletPath) -> Option<Vec<u8>> {
        let listing = self.inspection.loaded.repository.listing.snapshots.get(&self.snapshot.label)?;
        let same = |t: &LoadedTablet| {
            let p = t.tablet.path;
            t.tablet.origin == Origin::Header
                && p.table == path.table
                && p.index == path.index
                && p.partition == path.partition
        };
        let sibling = self.snapshot.tablets.values().find(|t| same(t))?;
        let dir = listing.tablets.get(&sibling.tablet.path)?;
        let header = dir.files.iter().find(|f| f.file.finished() && matches!(f.kind, TabletFile::Header(_)))?;
        let bytes = read_small(self.inspection.loaded.repository.source.as_ref(), &header.file.entry, self.cx).ok()?;
        Some(Frame::split(&bytes).ok()?.check().ok()?.to_vec())
    }

    /// Columns without unique ids take those of a segment.
    fn number(&self, tablet: &LoadedTablet, schema: &mut crate::model::schema::TabletSchema) -> Option<()> {
        let entry = tablet.tablet.rowsets.iter().flat_map(|r| &r.segments).find_map(|s| {
            let entry = s.entry.as_ref()?;
            self.inspection.files.get(&entry.name)?.segment.as_ref()?.rows.map(|_| entry)
        })?;
        let blob = self.inspection.loaded.repository.source.open(entry).ok()?;
        let at = blob.len().checked_sub(footer::TRAILER)?;
        let trailer = footer::Trailer::decode(&blob.bytes(at..blob.len()).ok()?, blob.len()).ok()?;
        let start = at.checked_sub(u64::from(trailer.length))?;
        let footer = footer::decode(trailer, &blob.bytes(start..at).ok()?, start).ok()?;
        if footer.columns.len() != schema.columns.len() {
            return None;
        }
        for (column, meta) in schema.columns.iter_mut().zip(&footer.columns) {
            column.unique_id = i64::from(meta.unique_id);
        }
        Some(())
    }
}

/// The name of a sealed header.
pub(super) fn header_name(tablet: i64, bytes: &[u8]) -> String {
    format!("{tablet}.hdr.{}", hex(&md5_of(bytes)))
}
