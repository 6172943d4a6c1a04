//! What to do to make a repository whole: decides, touches nothing.
//!
//! Every good file is taken by link under the name it has (or should have). What is lost is built anew: `__repo_info`,
//! `__info_*`, `__meta`, the checksum of a header. What failed uploads and aborted jobs left stays behind. A tablet that
//! lost files goes on without them, a partition where that cannot be done is left out; both by name, with consent.

mod mend;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use recovery_core::{Context, Error, Plan, Reason, Report, Result, Sources, Step, WriteStep, hex};
use serde_json::{Map, Value, json};

use self::mend::{Mended, Mender, Wanted};
use crate::codes;
use crate::format::info::{Info, RepoInfo};
use crate::format::meta_json::{Form, Meta};
use crate::format::names::{self, TabletFile, TabletPath, Timestamp};
use crate::format::tablet_header::Frame;
use crate::inspect::{Fate, Inspection, SnapshotVerdict, TableVerdict};
use crate::model::repository::{SnapshotDir, TabletDir};
use crate::model::schema::{KeysType, TabletSchema};
use crate::reader::load::{InfoOrigin, LoadedInfo, LoadedSnapshot, base_index, md5_of, read_small};
use crate::writer::definitions::{self, Given};

/// Makes the plan.
///
/// # Errors
///
/// When the report is not of this engine, or nothing can be saved.
pub fn plan(sources: &Sources, report: &Report, options: &Value, cx: &Context) -> Result<Plan> {
    let inspection: Arc<Inspection> = report
        .state()
        .ok_or_else(|| Error::Internal("the report carries no inspection of a StarRocks repository".into()))?;
    if !report.complete && cx.check == recovery_core::Check::Full && cx.sample.is_some() {
        return Err(Error::refuse(Reason::Unsafe, "a plan needs a look at everything: leave out --sample"));
    }
    let mut plan = Plan::new("starrocks", options.clone(), sources);
    plan.exit = report.exit;
    let mut maker = Maker {
        inspection: &inspection,
        sources,
        cx,
        plan: &mut plan,
        left: 0,
        base: String::new(),
        more: Vec::new(),
        kept: Vec::new(),
        mended: BTreeMap::new(),
    };
    maker.repository();
    for snapshot in &inspection.loaded.snapshots {
        maker.snapshot(snapshot)?;
    }
    let (left, base, more, kept) =
        (maker.left, maker.base.clone(), std::mem::take(&mut maker.more), std::mem::take(&mut maker.kept));
    plan.result = json!({"repository": name_of(&inspection), "directory": base, "left_behind": left});
    plan.next = next(&inspection, &kept);
    plan.seal(sources, &more)?;
    Ok(plan)
}

/// The name both the directory and the file inside should have.
fn name_of(inspection: &Inspection) -> String {
    let inside = inspection.loaded.repo_info.as_ref().map(|i| i.name.clone());
    inside.unwrap_or_else(|| inspection.loaded.name())
}

fn next(inspection: &Inspection, kept: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    let listing = &inspection.loaded.repository.listing;
    if listing.base.is_empty() {
        out.push(format!(
            "put the result in place as <location>/{}{}",
            inspection.loaded.prefix(),
            name_of(inspection)
        ));
    }
    for s in inspection.snapshots.iter().filter(|s| kept.contains(&s.label)) {
        out.push(format!("recover starrocks restore-sql NEWDIR --snapshot {}", recovery_core::names::shell(&s.label)));
    }
    out
}

struct Maker<'a> {
    inspection: &'a Inspection,
    sources: &'a Sources,
    cx: &'a Context,
    plan: &'a mut Plan,
    left: u64,
    base: String,
    more: Vec<(u16, String)>,
    /// Labels that are in the result.
    kept: Vec<String>,
    /// Tablets of the snapshot at hand that go on without what they lost.
    mended: BTreeMap<TabletPath, Mended>,
}

impl Maker<'_> {
    fn repository(&mut self) {
        let loaded = &self.inspection.loaded;
        let listing = &loaded.repository.listing;
        let name = name_of(self.inspection);
        self.base = if listing.base.is_empty() { String::new() } else { format!("{}{name}", loaded.prefix()) };
        let to = self.under(names::REPO_INFO);
        match (&loaded.repo_info, &listing.repo_info) {
            (Some(_), Some(entry)) => self.link(&entry.name, to, entry.size),
            _ => {
                let now = i64::try_from(self.cx.now_ms).unwrap_or(0);
                let time = Timestamp::from_millis(now);
                let created = format!(
                    "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
                    time.year, time.month, time.day, time.hour, time.minute, time.second
                );
                let text = RepoInfo { name, create_time: Some(created) }.encode();
                self.write(to, "repository", &text, false);
            }
        }
        for stray in listing.strays.iter().filter(|e| e.is_file()) {
            let to = self.moved(&stray.name);
            self.link(&stray.name, to, stray.size);
        }
    }

    fn under(&self, name: &str) -> String {
        if self.base.is_empty() { name.to_owned() } else { format!("{}/{name}", self.base) }
    }

    /// The path of a source name in the result: the same, below the result's directory.
    fn moved(&self, name: &str) -> String {
        let old = &self.inspection.loaded.repository.listing.base;
        let below =
            if old.is_empty() { Some(name) } else { name.strip_prefix(old.as_str()).and_then(|n| n.strip_prefix('/')) };
        self.under(below.unwrap_or(name))
    }

    /// Takes a file: by link where it lies in a local directory, else by copying it from its store.
    fn link(&mut self, object: &str, to: String, size: u64) {
        let (source, object) = self.inspection.place(object);
        let local = self.sources.get(source).is_some_and(|s| s.root().is_some());
        self.plan.steps.push(if local {
            Step::Link { source, object, to, size }
        } else {
            Step::Copy { source, object, to, size, range: None, mode: None, last: false }
        });
    }

    fn write(&mut self, to: String, what: &str, bytes: &[u8], last: bool) {
        // Text where it is text, so that a plan can be read.
        let args = std::str::from_utf8(bytes).map_or_else(|_| json!({"hex": hex(bytes)}), |text| json!({"text": text}));
        let size = bytes.len() as u64;
        self.plan.steps.push(Step::Write(WriteStep { to, what: what.to_owned(), size, args, mode: None, last }));
    }

    fn snapshot(&mut self, snapshot: &LoadedSnapshot) -> Result<()> {
        let loaded = &self.inspection.loaded;
        let Some(dir) = loaded.repository.listing.snapshots.get(&snapshot.label) else { return Ok(()) };
        for stray in dir.strays.iter().filter(|e| e.is_file()) {
            let to = self.moved(&stray.name);
            self.link(&stray.name, to, stray.size);
        }
        let mut kept: BTreeSet<TabletPath> = BTreeSet::new();
        self.mended.clear();
        let mut infos = Vec::new();
        for info in &snapshot.infos {
            let verdict =
                self.inspection.snapshots.iter().find(|v| v.label == snapshot.label && v.timestamp == info.timestamp);
            let Some(verdict) = verdict else { continue };
            let mut repaired = info.info.clone();
            let changed = self.drop_damaged(snapshot, verdict, &mut repaired);
            infos.push((info, repaired, changed));
        }
        let meta = self.definitions(snapshot, dir, &mut infos)?;
        infos.retain(|(_, info, changed)| !info.tables.is_empty() || !changed);
        if infos.is_empty() || !meta {
            let bytes =
                dir.tablets.values().flat_map(|t| &t.files).fold(0u64, |s, f| s.saturating_add(f.file.entry.size));
            let summary = format!("snapshot {}: nothing of it can be made restorable", snapshot.label);
            // Steps for its definitions, if any were made, would leave a snapshot without content.
            let prefix = format!("{}/", self.moved(&snapshot.dir));
            self.plan.steps.retain(|s| !s.to().starts_with(&prefix));
            self.plan.lose(codes::LOSS_SNAPSHOT.name, summary, 0, bytes);
            return Ok(());
        }
        for (_, info, _) in &infos {
            kept.extend(tablet_paths(snapshot, info));
        }
        let mended = std::mem::take(&mut self.mended);
        for tablet in mended.values() {
            self.mended(dir.tablets.get(&tablet.path), tablet);
        }
        for (path, tablet) in &dir.tablets {
            if mended.contains_key(path) {
                continue;
            }
            if kept.contains(path) {
                self.tablet(tablet)?;
            } else {
                self.left = self.left.saturating_add(tablet.files.len() as u64);
            }
        }
        self.kept.push(snapshot.label.clone());
        for (loaded, info, changed) in infos {
            self.description(snapshot, loaded, &info, changed);
        }
        Ok(())
    }

    /// Mends what lost files, and takes out partitions where that cannot be done. Says whether the description changed.
    fn drop_damaged(&mut self, snapshot: &LoadedSnapshot, verdict: &SnapshotVerdict, info: &mut Info) -> bool {
        let mut gone: BTreeSet<(String, String)> = BTreeSet::new();
        let mut changed = false;
        for table in &verdict.tables {
            for name in &table.damaged_partitions {
                if let Some(mended) = self.mend(snapshot, table, name, info) {
                    changed |= self.go_on(snapshot, table, name, mended, info);
                } else {
                    self.give_up(snapshot, table, name, info);
                    gone.insert((table.name.clone(), name.clone()));
                }
            }
        }
        if gone.is_empty() {
            return changed;
        }
        info.remove_partitions(&|t, p| gone.contains(&(t.name.clone(), p.name.clone())));
        true
    }

    /// Every damaged tablet of a partition as it can go on; none where one of them cannot.
    fn mend(
        &self,
        snapshot: &LoadedSnapshot,
        verdict: &TableVerdict,
        partition: &str,
        info: &Info,
    ) -> Option<Vec<(Mended, String)>> {
        let mender = Mender { inspection: self.inspection, snapshot, cx: self.cx };
        let table = info.tables.iter().find(|t| t.name == verdict.name)?;
        let of = table.partitions.iter().find(|p| p.name == partition)?;
        let mut out = Vec::new();
        for physical in &of.physical {
            for index in &physical.indexes {
                for tablet in &index.tablets {
                    let Some((path, why)) = verdict.damaged.iter().find(|(p, _)| p.tablet == tablet.id) else {
                        continue;
                    };
                    let judged = snapshot.tablet(path).map(|t| t.tablet.path);
                    let judged = judged.and_then(|p| self.inspection.tablets.get(&(snapshot.label.clone(), p)));
                    if judged.is_some_and(|v| v.healable) {
                        continue;
                    }
                    let created = info.backup_time_ms / 1000;
                    let mended = mender.mend(&Wanted { physical, index, path: *path, created })?;
                    out.push((mended, why.first().cloned().unwrap_or_default()));
                }
            }
        }
        (!out.is_empty()).then_some(out)
    }

    /// Takes mended tablets over. Says whether the description changed.
    fn go_on(
        &mut self,
        snapshot: &LoadedSnapshot,
        table: &TableVerdict,
        partition: &str,
        mended: Vec<(Mended, String)>,
        info: &mut Info,
    ) -> bool {
        let mut changed = false;
        for (tablet, why) in mended {
            let older = match table.keys {
                Some(KeysType::Unique) => "; older rows of the same keys come back",
                Some(KeysType::Aggregate) => "; what it added to rows of the same keys is missing",
                _ => "",
            };
            let summary = format!(
                "snapshot {}, table {}, partition {partition}, tablet {}: {why}{older}",
                snapshot.label, table.name, tablet.path.tablet
            );
            self.plan.lose(tablet.loss(), summary, tablet.rows, tablet.bytes);
            changed |= info.change_files(tablet.path.tablet, &|names| tablet.manifest(names));
            self.mended.insert(tablet.path, tablet);
        }
        changed
    }

    fn give_up(&mut self, snapshot: &LoadedSnapshot, table: &TableVerdict, name: &str, info: &Info) {
        let partition = info.tables.iter().find(|t| t.name == table.name);
        let partition = partition.and_then(|t| t.partitions.iter().find(|p| p.name == *name));
        let (mut rows, mut bytes) = (0u64, 0u64);
        for physical in partition.iter().flat_map(|p| &p.physical) {
            for tablet in physical.indexes.iter().flat_map(|i| &i.tablets) {
                let of = self.inspection.tablets.iter().find(|((label, path), _)| {
                    *label == snapshot.label && path.table == table.id && path.tablet == tablet.id
                });
                rows = rows.saturating_add(of.map_or(0, |(_, v)| v.rows));
                bytes = bytes.saturating_add(of.map_or(0, |(_, v)| v.bytes));
            }
        }
        let why = table.damaged.first().and_then(|d| d.1.first()).cloned().unwrap_or_default();
        let summary = format!("snapshot {}, table {}, partition {name}: {why}", snapshot.label, table.name);
        self.plan.lose(codes::LOSS_PARTITION.name, summary, rows, bytes);
    }

    /// A tablet that goes on without what it lost.
    fn mended(&mut self, dir: Option<&TabletDir>, tablet: &Mended) {
        let to = self.moved(&tablet.dir);
        self.write(
            format!("{to}/{}", mend::header_name(tablet.path.tablet, &tablet.header)),
            "header",
            &tablet.header,
            false,
        );
        for (name, base, size, sum) in &tablet.segments {
            self.link(name, format!("{to}/{base}.{sum}"), *size);
        }
        let Some(dir) = dir else { return };
        let manifest =
            self.inspection.loaded.snapshots.iter().find_map(|s| s.tablets.get(&tablet.path)?.manifest.clone());
        if let (Some(entry), Some(names)) = (&dir.manifest, manifest) {
            self.more.push(self.inspection.place(&entry.name));
            let bytes = crate::format::snapshot_manifest::encode(&tablet.manifest(&names));
            self.write(format!("{to}/{}", names::MANIFEST), "manifest", &bytes, false);
        }
        for file in &dir.files {
            let name = &file.file.entry.name;
            let kept = matches!(file.kind, TabletFile::ColumnGroups(_));
            if tablet.segments.iter().any(|s| s.0 == *name) {
                continue;
            }
            if kept && self.inspection.fates.get(name).is_none_or(|f| *f == Fate::Keep) {
                self.link(name, self.moved(name), file.file.entry.size);
            } else {
                self.left = self.left.saturating_add(1);
            }
        }
    }

    /// `__meta`: kept, renamed or built. Says whether there is one.
    fn definitions(
        &mut self,
        snapshot: &LoadedSnapshot,
        dir: &SnapshotDir,
        infos: &mut [(&LoadedInfo, Info, bool)],
    ) -> Result<bool> {
        let place = self.moved(&snapshot.dir);
        if let Some(meta) = &snapshot.meta {
            let checked = snapshot.checked.iter().find(|c| c.name == meta.file.entry.name);
            let Some(sum) = checked.and_then(|c| c.md5) else { return Ok(false) };
            self.link(&meta.file.entry.name, format!("{place}/{}.{}", names::META, hex(&sum)), meta.file.entry.size);
            self.left = self.left.saturating_add(dir.metas.len().saturating_sub(1) as u64);
            return Ok(true);
        }
        let Some((_, newest, _)) = infos.last() else { return Ok(false) };
        let (form, tree, dropped) = self.build_meta(snapshot, newest);
        for (_, info, changed) in infos.iter_mut() {
            if info.tables.iter().any(|t| dropped.contains(&t.name)) {
                info.remove_partitions(&|t, _| dropped.contains(&t.name));
                *changed = true;
            }
        }
        if tree.is_empty() {
            return Ok(false);
        }
        let meta = Meta { form, tree: json!({"tblNameMap": tree}) };
        let bytes = meta.encode().map_err(|e| Error::Internal(format!("building __meta: {e}")))?;
        self.write(format!("{place}/{}.{}", names::META, hex(&md5_of(&bytes))), "definitions", &bytes, false);
        Ok(true)
    }

    fn build_meta(&mut self, snapshot: &LoadedSnapshot, info: &Info) -> (Form, Map<String, Value>, BTreeSet<String>) {
        let loaded = Arc::clone(&self.inspection.loaded);
        let others: Vec<_> = loaded.snapshots.iter().filter_map(|s| s.meta.as_ref()).collect();
        let form = match (info.starrocks_meta_version, others.first()) {
            (Some(v), _) if v >= 4 => Form::Json,
            (Some(_), _) => Form::Binary,
            (None, Some(other)) => other.meta.form,
            (None, None) if loaded.prefix() == names::Prefix::Palo => Form::Binary,
            _ => Form::Json,
        };
        let (mut out, mut dropped) = (Map::new(), BTreeSet::new());
        for table in &info.tables {
            let donor = others.iter().rev().filter(|o| o.meta.form == form).find_map(|o| {
                let tables = o.meta.tree.get("tblNameMap")?.as_object()?;
                let same = |t: &&Value| t.get("id").and_then(Value::as_i64) == Some(table.id);
                definitions::adapt(tables.values().find(same)?, table)
            });
            if let Some(tree) = donor {
                out.insert(table.name.clone(), tree);
                continue;
            }
            if let Some(tree) = self.build_table(snapshot, info, table, form) {
                out.insert(table.name.clone(), tree);
            } else {
                dropped.insert(table.name.clone());
            }
        }
        (form, out, dropped)
    }

    fn build_table(
        &mut self,
        snapshot: &LoadedSnapshot,
        info: &Info,
        table: &crate::format::info::InfoTable,
        form: Form,
    ) -> Option<Value> {
        let base = table
            .partitions
            .iter()
            .flat_map(|p| &p.physical)
            .flat_map(|p| &p.indexes)
            .find(|i| i.name == table.name)
            .map_or_else(|| base_index(snapshot, table.id), |i| i.id);
        let mut schemas: BTreeMap<i64, Arc<TabletSchema>> = BTreeMap::new();
        for (path, tablet) in snapshot.tablets.iter().filter(|(p, _)| p.table == table.id) {
            if let Some(schema) = &tablet.tablet.schema {
                schemas.insert(path.index, Arc::clone(schema));
            }
        }
        let empty = Vec::new();
        let columns = self.inspection.options.distribution.get(&table.name).unwrap_or(&empty);
        let created = info.backup_time_ms / 1000;
        let given = Given { form, table, base, schemas: &schemas, distribution: columns, created };
        let bytes = snapshot.tablets.iter().filter(|(p, _)| p.table == table.id);
        let bytes = bytes.filter_map(|(p, _)| self.inspection.tablets.get(&(snapshot.label.clone(), *p)));
        let (rows, bytes) = bytes.fold((0u64, 0u64), |(r, b), v| (r.saturating_add(v.rows), b.saturating_add(v.bytes)));
        let label = &snapshot.label;
        if table.partitions.len() > 1 || table.partitions.is_empty() || !schemas.contains_key(&base) {
            let summary = format!(
                "snapshot {label}, table {}: {} partitions, and no definition of it in any snapshot",
                table.name,
                table.partitions.len()
            );
            self.plan.lose(codes::LOSS_BOUNDS.name, summary, rows, bytes);
            return None;
        }
        if definitions::guesses_distribution(&given) {
            let summary = format!("snapshot {label}, table {}: distribution columns taken to be the key", table.name);
            self.plan.lose(codes::LOSS_DISTRIBUTION.name, summary, 0, 0);
        }
        let summary = format!("snapshot {label}, table {}: built from its tablet headers", table.name);
        let tree = definitions::build(&given);
        self.plan.lose(codes::LOSS_PROPERTIES.name, summary, 0, 0);
        tree
    }

    fn tablet(&mut self, tablet: &crate::model::repository::TabletDir) -> Result<()> {
        let dir = self.moved(&tablet.dir);
        if let Some(entry) = &tablet.manifest {
            self.link(&entry.name, format!("{dir}/{}", names::MANIFEST), entry.size);
        }
        let reseal: BTreeSet<&str> = self
            .inspection
            .loaded
            .snapshots
            .iter()
            .filter_map(|s| s.tablets.get(&tablet.path)?.reseal.as_deref())
            .collect();
        for file in &tablet.files {
            let name = &file.file.entry.name;
            match self.inspection.fates.get(name) {
                Some(Fate::Debris | Fate::Damaged) => self.left = self.left.saturating_add(1),
                Some(Fate::Rename(sum)) => {
                    self.link(name, format!("{dir}/{}.{}", file.file.base, hex(sum)), file.file.entry.size);
                }
                _ if reseal.contains(name.as_str()) => self.reseal(&dir, &file.file)?,
                _ => self.link(name, self.moved(name), file.file.entry.size),
            }
        }
        Ok(())
    }

    /// A header with a right content and a wrong frame: the frame is made anew.
    fn reseal(&mut self, dir: &str, file: &crate::model::repository::Named) -> Result<()> {
        let bytes = read_small(self.inspection.loaded.repository.source.as_ref(), &file.entry, self.cx)?;
        let frame = Frame::split(&bytes).map_err(|e| Error::Damaged(format!("{}: {e}", file.entry.name)))?;
        let sealed = Frame::seal(frame.body);
        self.more.push(self.inspection.place(&file.entry.name));
        self.write(format!("{dir}/{}.{}", file.base, hex(&md5_of(&sealed))), "header", &sealed, false);
        Ok(())
    }

    fn description(&mut self, snapshot: &LoadedSnapshot, loaded: &LoadedInfo, info: &Info, changed: bool) {
        let place = self.moved(&snapshot.dir);
        if let (Some(file), false, true) = (&loaded.file, changed, loaded.origin != InfoOrigin::Rebuilt) {
            let checked = snapshot.checked.iter().find(|c| c.name == file.entry.name);
            if let Some(sum) = checked.and_then(|c| c.md5) {
                let to = format!("{place}/{}{}.{}", names::INFO, loaded.timestamp, hex(&sum));
                let (source, object) = self.inspection.place(&file.entry.name);
                self.plan.steps.push(Step::Copy {
                    source,
                    object,
                    to,
                    size: file.entry.size,
                    range: None,
                    mode: file.entry.mode,
                    last: true,
                });
                return;
            }
        }
        let bytes = info.encode();
        let to = format!("{place}/{}{}.{}", names::INFO, loaded.timestamp, hex(&md5_of(&bytes)));
        self.write(to, "description", &bytes, true);
    }
}

/// The directories of a description's tablets.
pub(crate) fn tablet_paths(snapshot: &LoadedSnapshot, info: &Info) -> BTreeSet<TabletPath> {
    let mut out = BTreeSet::new();
    for table in &info.tables {
        for physical in table.partitions.iter().flat_map(|p| &p.physical) {
            for index in &physical.indexes {
                for tablet in &index.tablets {
                    let path = TabletPath {
                        database: info.database_id,
                        table: table.id,
                        partition: physical.id,
                        index: index.id,
                        tablet: tablet.id,
                    };
                    out.extend(snapshot.tablet(&path).map(|t| t.tablet.path));
                }
            }
        }
    }
    out
}
