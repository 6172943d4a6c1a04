//! Reads the header of a tablet and finds the files of its visible rowsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use recovery_core::{Context, Evidence, Finding, Severity, Source};
use roaring::RoaringBitmap;

use super::{Checked, LoadedTablet, md5_evidence, read_named, read_small, unreadable};
use crate::codes;
use crate::format::names::TabletFile;
use crate::format::pk_meta::PrimaryMeta;
use crate::format::tablet_header::{ColumnGroupListPb, ColumnGroupSnapshotPb, Frame, RowsetMetaPb, TabletMetaPb};
use crate::format::{FormatError, snapshot_manifest};
use crate::model::repository::{TabletDir, TabletEntry};
use crate::model::schema::TabletSchema;
use crate::model::tablet::{GroupFile, Origin, Rowset, SegmentFile, Tablet};

/// Most segments that a rowset may announce; the engine writes a handful.
const MOST_SEGMENTS: i64 = 1 << 20;

/// Column groups by rowset and segment number.
type Groups = BTreeMap<(String, u32), ColumnGroupListPb>;

pub(super) fn read(source: &dyn Source, dir: &TabletDir, cx: &Context) -> LoadedTablet {
    let mut work = Work { source, dir, cx, findings: Vec::new(), checked: Vec::new(), reseal: None };
    let tablet = work.tablet();
    let manifest = work.manifest();
    LoadedTablet { tablet, findings: work.findings, checked: work.checked, manifest, reseal: work.reseal }
}

struct Work<'a> {
    source: &'a dyn Source,
    dir: &'a TabletDir,
    cx: &'a Context,
    findings: Vec<Finding>,
    checked: Vec<Checked>,
    reseal: Option<String>,
}

impl Work<'_> {
    fn tablet(&mut self) -> Tablet {
        let own = self.dir.path.tablet;
        let is_header = |f: &&TabletEntry| f.kind == TabletFile::Header(own);
        let is_primary = |f: &&TabletEntry| f.kind == TabletFile::PrimaryMeta;
        let finished = |f: &&TabletEntry| f.file.finished();
        let headers: Vec<_> = self.dir.files.iter().filter(is_header).filter(finished).cloned().collect();
        let primaries: Vec<_> = self.dir.files.iter().filter(is_primary).filter(finished).cloned().collect();
        let mut best: Option<Tablet> = None;
        for file in headers.iter().chain(&primaries) {
            let tablet = if file.kind == TabletFile::PrimaryMeta { self.primary(file) } else { self.header(file) };
            best = best.or(tablet);
        }
        let segments = self.dir.files.iter().any(|f| matches!(f.kind, TabletFile::Segment { .. }));
        if headers.is_empty() && primaries.is_empty() && segments {
            self.findings.push(
                Finding::new(&codes::HEADER_MISSING, Severity::Lost, self.dir.dir.clone())
                    .evidence(Evidence::Missing { what: format!("{own}.hdr or meta") }),
            );
        }
        best.unwrap_or_else(|| self.guess())
    }

    fn blank(&self, origin: Origin) -> Tablet {
        Tablet {
            path: self.dir.path,
            origin,
            table_id: None,
            tablet_id: None,
            schema_hash: None,
            schema: None,
            rowsets: Vec::new(),
            version: 0,
            gap: None,
        }
    }

    fn read(&mut self, file: &TabletEntry) -> Option<(bytes::Bytes, bool)> {
        let (bytes, checked) = read_named(self.source, &file.file, self.cx);
        let mismatch = checked.mismatch;
        let computed = checked.md5;
        self.checked.push(checked);
        match bytes {
            Ok(bytes) => {
                if let (true, Some(stored), Some(computed)) = (mismatch, file.file.md5(), computed) {
                    let code = if bytes.is_empty() { &codes::EMPTY_FILE } else { &codes::MD5_MISMATCH };
                    self.findings.push(
                        Finding::new(code, Severity::Damaged, file.file.entry.name.clone())
                            .at(0, file.file.entry.size)
                            .evidence(md5_evidence(&stored, &computed)),
                    );
                }
                Some((bytes, mismatch))
            }
            Err(e) => {
                self.findings.push(unreadable(&e));
                None
            }
        }
    }

    fn header(&mut self, file: &TabletEntry) -> Option<Tablet> {
        let (bytes, mismatch) = self.read(file)?;
        let name = &file.file.entry.name;
        let lost = |e: &FormatError| {
            Finding::new(&codes::HEADER_DAMAGED, Severity::Lost, name.clone())
                .at(e.at, 0)
                .summary(format!("{e}; RESTORE fails on it"))
        };
        let frame = match Frame::split(&bytes) {
            Ok(frame) => frame,
            Err(e) => {
                self.findings.push(lost(&e));
                return None;
            }
        };
        let meta = match TabletMetaPb::read(&frame) {
            Ok(meta) => meta,
            Err(e) => {
                self.findings.push(lost(&e));
                return None;
            }
        };
        if let Err(e) = frame.check() {
            // With the right MD5 the header is as it was uploaded: only its checksum is wrong, and if everything it
            // says fits path and files it can be sealed again.
            let fits = !mismatch && meta.tablet_id == Some(self.dir.path.tablet);
            let severity = if fits { Severity::Damaged } else { Severity::Lost };
            self.findings.push(
                Finding::new(&codes::HEADER_DAMAGED, severity, name.clone())
                    .at(e.at, 4)
                    .summary(format!("{e}; RESTORE fails on it"))
                    .evidence(Evidence::checksum("adler32", frame.stored, frame.computed)),
            );
            if !fits {
                return None;
            }
            self.reseal = Some(name.clone());
        } else if mismatch {
            // The protobuf has its own checksum; what differs is in the frame.
            self.reseal = Some(name.clone());
        }
        let groups = self.group_file();
        self.build(Origin::Header, &meta, &meta.rs_metas, &BTreeMap::new(), &groups, None, name)
    }

    fn primary(&mut self, file: &TabletEntry) -> Option<Tablet> {
        let (bytes, mismatch) = self.read(file)?;
        let name = &file.file.entry.name;
        let primary = match PrimaryMeta::decode(&bytes) {
            Ok(primary) => primary,
            Err(e) => {
                self.findings.push(
                    Finding::new(&codes::PRIMARY_DAMAGED, Severity::Lost, name.clone())
                        .at(e.at, 0)
                        .summary(e.to_string()),
                );
                return None;
            }
        };
        if mismatch {
            // Nothing but the MD5 covers the file, so nothing tells which of its bytes are right.
            self.findings.push(
                Finding::new(&codes::PRIMARY_DAMAGED, Severity::Lost, name.clone())
                    .summary("the file parses, but its MD5 is wrong and no other checksum covers it"),
            );
        }
        let vectors: BTreeMap<u32, RoaringBitmap> =
            primary.delete_vectors.iter().map(|v| (v.segment, v.rows.clone())).collect();
        let mut groups = Groups::new();
        for rowset in &primary.rowsets {
            let first = rowset.rowset_seg_id.unwrap_or(0);
            let count = u32::try_from(rowset.num_segments.unwrap_or(0).clamp(0, MOST_SEGMENTS)).unwrap_or(0);
            for group in &primary.groups {
                if let Some(n) = group.segment.checked_sub(first).filter(|n| *n < count) {
                    groups.insert((rowset.rowset_id.clone().unwrap_or_default(), n), group.list.clone());
                }
            }
        }
        let version = primary.footer.snapshot_version;
        self.build(Origin::PrimaryMeta, &primary.tablet, &primary.rowsets, &vectors, &groups, version, name)
    }

    fn group_file(&mut self) -> Groups {
        let own = self.dir.path.tablet;
        let file =
            self.dir.files.iter().find(|f| f.kind == TabletFile::ColumnGroups(own) && f.file.finished()).cloned();
        let Some(file) = file else { return Groups::new() };
        let Some((bytes, _)) = self.read(&file) else { return Groups::new() };
        match ColumnGroupSnapshotPb::decode_file(&bytes) {
            Ok(snapshot) => {
                let keys = snapshot.rowset_id.into_iter().zip(snapshot.segment_id);
                keys.zip(snapshot.dcg_lists).collect()
            }
            Err(e) => {
                self.findings.push(
                    Finding::new(&codes::GROUPS_DAMAGED, Severity::Lost, file.file.entry.name.clone())
                        .at(e.at, 0)
                        .summary(e.to_string()),
                );
                Groups::new()
            }
        }
    }

    fn build(
        &mut self,
        origin: Origin,
        meta: &TabletMetaPb,
        rowsets: &[RowsetMetaPb],
        vectors: &BTreeMap<u32, RoaringBitmap>,
        groups: &Groups,
        snapshot_version: Option<i64>,
        name: &str,
    ) -> Option<Tablet> {
        let damaged = if origin == Origin::Header { &codes::HEADER_DAMAGED } else { &codes::PRIMARY_DAMAGED };
        let schema = match meta.schema.as_ref().map(crate::format::tablet_header::TabletSchemaPb::to_schema) {
            Some(Ok(schema)) => Some(Arc::new(schema)),
            Some(Err(e)) => {
                self.findings.push(Finding::new(damaged, Severity::Lost, name.to_owned()).summary(e.to_string()));
                None
            }
            None => {
                self.findings
                    .push(Finding::new(damaged, Severity::Lost, name.to_owned()).summary("the header holds no schema"));
                None
            }
        };
        let path = self.dir.path;
        if meta.tablet_id.is_some_and(|id| id != path.tablet) || meta.table_id.is_some_and(|id| id != path.table) {
            self.findings.push(
                Finding::new(&codes::TABLET_IDS, Severity::Lost, name.to_owned())
                    .evidence(Evidence::value("tablet_id", meta.tablet_id.unwrap_or(0), path.tablet))
                    .evidence(Evidence::value("table_id", meta.table_id.unwrap_or(0), path.table)),
            );
        }
        let visible = visible(meta, rowsets, origin);
        let (chain, version, gap) = chain(&visible, origin, snapshot_version);
        let rowsets = chain.iter().filter_map(|r| self.rowset(r, vectors, groups, name)).collect();
        Some(Tablet {
            table_id: meta.table_id,
            tablet_id: meta.tablet_id,
            schema_hash: meta.schema_hash,
            schema,
            rowsets,
            version,
            gap,
            ..self.blank(origin)
        })
    }

    fn rowset(
        &mut self,
        r: &RowsetMetaPb,
        vectors: &BTreeMap<u32, RoaringBitmap>,
        groups: &Groups,
        name: &str,
    ) -> Option<Rowset> {
        let id = match (&r.rowset_id, r.deprecated_rowset_id) {
            (Some(id), _) if !id.is_empty() => id.clone(),
            (_, Some(n)) if n > 0 => n.to_string(),
            _ => {
                self.findings.push(
                    Finding::new(&codes::HEADER_DAMAGED, Severity::Lost, name.to_owned())
                        .summary("a rowset without id"),
                );
                return None;
            }
        };
        let count = r.num_segments.unwrap_or(0);
        if !(0..=MOST_SEGMENTS).contains(&count) {
            self.findings.push(
                Finding::new(&codes::HEADER_DAMAGED, Severity::Lost, name.to_owned())
                    .summary(format!("rowset {id} announces {count} segments")),
            );
            return None;
        }
        let first = r.rowset_seg_id.unwrap_or(0);
        let segments = (0..u32::try_from(count).unwrap_or(0))
            .map(|n| self.segment(&id, n, vectors.get(&first.saturating_add(n)), groups.get(&(id.clone(), n))))
            .collect();
        let schema = r.tablet_schema.as_ref().and_then(|s| s.to_schema().ok()).map(Arc::<TabletSchema>::new);
        Some(Rowset {
            start: r.start_version.unwrap_or(0),
            end: r.end_version.unwrap_or(0),
            num_rows: r.num_rows.and_then(|n| u64::try_from(n).ok()),
            delete: r.delete_predicate.as_ref().map(crate::format::tablet_header::DeletePredicatePb::to_predicate),
            encrypted: r.segment_encryption_metas.iter().any(|m| !m.is_empty()),
            schema,
            segments,
            id,
        })
    }

    fn segment(
        &self,
        rowset: &str,
        number: u32,
        deleted: Option<&RoaringBitmap>,
        list: Option<&ColumnGroupListPb>,
    ) -> SegmentFile {
        let name = format!("{rowset}_{number}.dat");
        let groups = list.map_or_else(Vec::new, |list| self.groups(list));
        SegmentFile { number, entry: self.find(&name), name, deleted: deleted.cloned(), groups }
    }

    fn groups(&self, list: &ColumnGroupListPb) -> Vec<GroupFile> {
        let mut out = Vec::new();
        for (i, group) in list.dcgs.iter().enumerate() {
            let version = list.versions.get(i).copied().unwrap_or(0);
            for (ids, name) in group.column_ids.iter().zip(&group.column_files) {
                out.push(GroupFile {
                    unique_ids: ids.ids.iter().map(|id| i64::from(*id)).collect(),
                    version,
                    entry: self.find(name),
                    name: name.clone(),
                });
            }
        }
        out.sort_by_key(|g| std::cmp::Reverse(g.version));
        out
    }

    /// The finished file of a base name; of several, one that is not empty.
    fn find(&self, base: &str) -> Option<recovery_core::Entry> {
        let mut all = self.dir.finished(base).map(|f| &f.file.entry);
        let first = all.next()?;
        Some(if first.size == 0 { all.find(|e| e.size > 0).unwrap_or(first) } else { first }.clone())
    }

    /// Without header: every segment there is, rowsets in the order of their ids, which count up.
    fn guess(&self) -> Tablet {
        let mut rowsets: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for file in self.dir.files.iter().filter(|f| f.file.finished()) {
            if let TabletFile::Segment { rowset, number } = &file.kind {
                rowsets.entry(rowset).or_default().push(*number);
            }
        }
        let rowsets = rowsets
            .into_iter()
            .enumerate()
            .map(|(i, (id, mut numbers))| {
                numbers.sort_unstable();
                numbers.dedup();
                let version = i64::try_from(i).unwrap_or(0).saturating_add(2);
                Rowset {
                    id: id.to_owned(),
                    start: version,
                    end: version,
                    num_rows: None,
                    delete: None,
                    schema: None,
                    segments: numbers.iter().map(|n| self.segment(id, *n, None, None)).collect(),
                    encrypted: false,
                }
            })
            .collect();
        Tablet { rowsets, ..self.blank(Origin::Guessed) }
    }

    fn manifest(&mut self) -> Option<Vec<String>> {
        let entry = self.dir.manifest.as_ref()?;
        self.checked.push(Checked { name: entry.name.clone(), size: entry.size, md5: None, mismatch: false });
        let bytes = match read_small(self.source, entry, self.cx) {
            Ok(bytes) => bytes,
            Err(e) => {
                self.findings.push(unreadable(&e));
                return None;
            }
        };
        match snapshot_manifest::decode(&bytes) {
            Ok(names) => Some(names),
            Err(e) => {
                self.findings.push(
                    Finding::new(&codes::MANIFEST_MISSING, Severity::Damaged, entry.name.clone())
                        .at(e.at, 0)
                        .summary(e.to_string()),
                );
                None
            }
        }
    }
}

/// Rowsets that queries see.
fn visible<'a>(meta: &TabletMetaPb, rowsets: &'a [RowsetMetaPb], origin: Origin) -> Vec<&'a RowsetMetaPb> {
    if origin == Origin::PrimaryMeta {
        let last = meta.updates.as_ref().and_then(|u| u.versions.last());
        let listed = last.map_or(&[][..], |v| v.rowsets.as_slice());
        let shown = |r: &&RowsetMetaPb| listed.is_empty() || listed.contains(&r.rowset_seg_id.unwrap_or(0));
        return rowsets.iter().filter(shown).collect();
    }
    // 2 is "visible"; files from before the state was kept have none.
    rowsets.iter().filter(|r| r.rowset_state.is_none_or(|s| s == 2)).collect()
}

/// The rowsets that cover the versions from 0 without overlap, how far they reach, and the first gap.
fn chain<'a>(
    visible: &[&'a RowsetMetaPb],
    origin: Origin,
    snapshot_version: Option<i64>,
) -> (Vec<&'a RowsetMetaPb>, i64, Option<i64>) {
    let start = |r: &RowsetMetaPb| r.start_version.unwrap_or(0);
    let end = |r: &RowsetMetaPb| r.end_version.unwrap_or(0);
    let mut sorted = visible.to_vec();
    if origin == Origin::PrimaryMeta {
        // Compaction keeps the version of what it merged; there is no chain to walk.
        sorted.sort_by_key(|r| (end(r), r.rowset_seg_id.unwrap_or(0)));
        let last = sorted.last().map_or(0, |r| end(r));
        return (sorted, snapshot_version.unwrap_or(last), None);
    }
    // Of rowsets that begin at one version the widest is the compacted one.
    sorted.sort_by_key(|r| (start(r), std::cmp::Reverse(end(r))));
    // How far a path of adjoining rowsets leads from each version (`VersionGraph::capture_consistent_versions`); of
    // equally good paths the one of wider rowsets.
    let mut best: BTreeMap<i64, (i64, usize)> = BTreeMap::new();
    for (i, r) in sorted.iter().enumerate().rev().filter(|(_, r)| end(r) >= start(r)) {
        let behind = end(r).saturating_add(1);
        let reach = best.get(&behind).map_or(end(r), |b| b.0);
        // Rowsets of one start come narrowest first here, so an equal reach goes to the wider one.
        if best.get(&start(r)).is_none_or(|b| reach >= b.0) {
            best.insert(start(r), (reach, i));
        }
    }
    let mut out: Vec<&RowsetMetaPb> = Vec::new();
    let mut next = sorted.first().map_or(0, |r| start(r).min(0));
    let mut gap = None;
    let mut reached = None;
    // Versions are never read twice: a rowset that reaches back over what is taken already is passed over.
    while let Some((at, (_, i))) = best.range(next..).next() {
        if *at > next && gap.is_none() {
            gap = Some(next);
            reached = Some(next.saturating_sub(1));
        }
        let Some(r) = sorted.get(*i) else { break };
        out.push(r);
        next = end(r).saturating_add(1);
    }
    (out, reached.unwrap_or_else(|| next.saturating_sub(1)), gap)
}
