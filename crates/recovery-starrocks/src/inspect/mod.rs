//! Checks, from names to pages, and what they mean for a RESTORE.
//!
//! | level | what | with |
//! |---|---|---|
//! | 1 | names and JSON: `__repo_info`, `__info_*`, `__meta` | always |
//! | 2 | every tablet of the description is there, and every directory belongs to one | always |
//! | 3 | MD5 of every file | `--check full` |
//! | 4 | headers: Adler-32, ids, version chain, list of files; schema against `__meta`; manifests | always |
//! | 5 | segment footers | `--check full` |
//! | 6 | the CRC of every page, row counts, delete vectors | `--check full` |
//! | 7 | every value decoded, the order of keys | `--values` |
//!
//! Levels 3, 5 and 6 are one pass over each byte. `--sample N/T` reads the Nth of T parts of the files; the parts add
//! up to the whole whatever the order, because a file's part follows from its name alone.

mod facts;
pub mod files;
mod heal;
mod many;
mod md5_lanes;
pub mod pages;
mod rivals;
mod snapshots;
mod state;
mod tablets;
#[cfg(feature = "arrow")]
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use md5::{Digest as _, Md5};
use recovery_core::{
    Check, Class, Context, Coverage, Entry, Error, Finding, Report, ReportBuilder, Result, Severity, Source, Sources,
    parallel,
};
use serde::{Deserialize, Serialize};

use crate::codes;
use crate::format::names::{TabletFile, TabletPath};
use crate::model::repository::Named;
use crate::model::schema::TabletSchema;
use crate::reader::load::{self, Loaded};
use crate::reader::overlay::Taken;
use crate::reader::repository::Repository;
use files::{FileState, Job};
use heal::Donor;

pub use snapshots::{SnapshotVerdict, TableVerdict};
pub use tablets::TabletVerdict;

/// Options of `inspect`, `plan` and `rescue`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Which repository, where a location holds several.
    pub repository: Option<String>,
    /// Only these snapshots (`LABEL`).
    pub snapshots: Vec<String>,
    /// Decode every value, too.
    pub values: bool,
    /// Distribution columns of tables whose definition is lost.
    pub distribution: BTreeMap<String, Vec<String>>,
    /// Read only the files of these tables; everything else is looked at by name.
    pub tables: Vec<String>,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Right, or not looked at.
    Keep,
    /// Belongs to nothing that can be restored.
    Debris,
    /// Content right, name wrong: to be kept under the MD5 it has.
    Rename([u8; 16]),
    /// Damaged.
    Damaged,
}

/// The typed result, carried in the report for `plan`.
#[derive(Debug)]
pub struct Inspection {
    /// Number of the copy it is of; the best of several.
    pub number: u16,
    /// The model, healed by other copies where there are any.
    pub loaded: Arc<Loaded>,
    /// Options it was made with.
    pub options: Options,
    /// What one pass found out, by file.
    pub files: BTreeMap<String, FileState>,
    /// What is to become of files that are not simply kept.
    pub fates: BTreeMap<String, Fate>,
    /// Tablets by label and path.
    pub tablets: BTreeMap<(String, TabletPath), TabletVerdict>,
    /// Snapshots, one for every timestamp.
    pub snapshots: Vec<SnapshotVerdict>,
    /// Files of other copies that stand in for lost ones, by the name they have here.
    pub taken: BTreeMap<String, Taken>,
    /// Files of this copy that others stand in for, with their lengths.
    pub replaced: BTreeMap<String, u64>,
    /// Verdicts without the files of other copies, where some are used: what stock RESTORE sees.
    pub as_it_lies: Option<Vec<SnapshotVerdict>>,
    /// Whether everything was read.
    pub complete: bool,
}

impl Inspection {
    /// The source that holds a file, and its name there.
    #[must_use]
    pub fn place(&self, name: &str) -> (u16, String) {
        self.taken.get(name).map_or_else(|| (self.number, name.to_owned()), |t| (t.number, t.entry.name.clone()))
    }

    /// What stock RESTORE would make of the copy as it lies.
    #[must_use]
    pub fn stock(&self) -> &[SnapshotVerdict] {
        self.as_it_lies.as_deref().unwrap_or(&self.snapshots)
    }

    /// Adds a file under the name it has in the source that holds it.
    fn object(&self, report: &mut ReportBuilder, name: &str, class: &str, coverage: Coverage) {
        let (number, name) = self.place(name);
        report.object(number, name, class, coverage);
    }
}

/// Looks at a repository. Of several copies the best is taken; the others, and donors, give what it lost.
///
/// # Errors
///
/// When there is none, or for reasons to stop.
pub fn inspect(sources: &Sources, options: &Options, cx: &Context) -> Result<Report> {
    let mut report = ReportBuilder::new("starrocks", sources, cx.limits.findings);
    let (mut looks, best) = rivals::look(sources, options, cx)?;
    rivals::candidates(&looks, sources, &mut report);
    let Look { inspection: own, findings: before, complete, .. } = looks.swap_remove(best);
    let donors = rivals::donors(looks, sources, &own, options, cx)?;
    let Whole { inspection, findings, complete } = if donors.is_empty() {
        Whole { inspection: own, findings: before, complete }
    } else {
        whole(own, before, &donors, options, cx)?
    };
    if !complete {
        report.incomplete();
    }
    report.findings(findings);
    cover(&inspection, &mut report);
    facts::fill(&inspection, sources, &mut report);
    report.state(Arc::new(inspection));
    Ok(report.finish())
}

/// One copy, looked at by itself.
struct Look {
    inspection: Inspection,
    findings: Vec<Finding>,
    complete: bool,
}

/// The chosen copy with what the others gave.
type Whole = Look;

/// The chosen copy with what others hold in place of what it lost.
fn whole(own: Inspection, before: Vec<Finding>, donors: &[Donor], options: &Options, cx: &Context) -> Result<Whole> {
    let found = heal::find(&own, donors, &options.snapshots, cx)?;
    if found.taken.is_empty() {
        let findings = before;
        strict(&own, options)?;
        let complete = own.complete;
        return Ok(Look { inspection: own, findings, complete });
    }
    let number = own.number;
    let overlay = found.overlay(&own.loaded.repository.source);
    let mut known = own.files;
    known.retain(|name, _| !found.hidden.contains(name) && !found.taken.contains_key(name));
    known.extend(found.states.clone());
    let mut healed = alone(number, &overlay, options, cx, known)?;
    strict(&healed.inspection, options)?;
    let mut findings = heal::settled(before, &healed.findings);
    findings.extend(found.findings(number));
    let source = &own.loaded.repository.source;
    for name in found.hidden.iter().chain(found.taken.keys()) {
        if let Some(entry) = source.stat(name)? {
            healed.inspection.replaced.insert(name.clone(), entry.size);
        }
    }
    healed.inspection.taken = found.taken;
    healed.inspection.as_it_lies = Some(own.snapshots);
    findings.extend(healed.findings.into_iter().map(|f| {
        let (source, object) = healed.inspection.place(&f.object);
        Finding { source, object, ..f }
    }));
    Ok(Look { inspection: healed.inspection, findings, complete: healed.complete })
}

/// Every snapshot asked for must be there.
fn strict(inspection: &Inspection, options: &Options) -> Result<()> {
    let repository = &inspection.loaded.repository;
    for name in &options.snapshots {
        if !repository.listing.snapshots.contains_key(name) {
            return Err(Error::Usage(format!("no snapshot {name:?} in {}", repository.source.describe())));
        }
    }
    Ok(())
}

/// Looks at one copy. What is known of files already is not read again.
fn alone(
    number: u16,
    source: &Arc<dyn Source>,
    options: &Options,
    cx: &Context,
    known: BTreeMap<String, FileState>,
) -> Result<Look> {
    let mut repository = Repository::open(Arc::clone(source), options.repository.as_deref())?;
    if !options.snapshots.is_empty() {
        repository.listing.snapshots.retain(|label, _| options.snapshots.contains(label));
    }
    let loaded = Arc::new(load::load(repository, cx)?);
    let mut inspection = Inspection {
        number,
        loaded,
        options: options.clone(),
        files: known,
        fates: BTreeMap::new(),
        tablets: BTreeMap::new(),
        snapshots: Vec::new(),
        taken: BTreeMap::new(),
        replaced: BTreeMap::new(),
        as_it_lies: None,
        complete: true,
    };
    read_files(&mut inspection, cx)?;
    let findings = judge(&mut inspection).into_iter().map(|f| f.source(number)).collect();
    let complete = inspection.complete;
    Ok(Look { inspection, findings, complete })
}

/// Level 3, 5 and 6.
fn read_files(inspection: &mut Inspection, cx: &Context) -> Result<()> {
    if cx.check == Check::Structure {
        inspection.complete = false;
        return Ok(());
    }
    let loaded = Arc::clone(&inspection.loaded);
    let mut jobs = jobs(&loaded, inspection.options.values);
    if !inspection.options.tables.is_empty() {
        let all = jobs.len();
        let wanted = table_directories(&loaded, &inspection.options.tables);
        jobs.retain(|job| job.file.entry.name.split('/').any(|part| wanted.contains(part)));
        inspection.complete &= jobs.len() == all;
    }
    if let Some((n, t)) = cx.sample {
        let all = jobs.len();
        jobs.retain(|job| in_part(&job.file.entry.name, n, t));
        inspection.complete &= jobs.len() == all;
    }
    jobs.retain(|job| !inspection.files.contains_key(&job.file.entry.name));
    let total = jobs.iter().fold(0u64, |sum, j| sum.saturating_add(j.file.entry.size));
    cx.progress.begin("read", total);
    let done = cx.state_file.as_deref().map(state::Done::open).transpose()?;
    let source = loaded.repository.source.as_ref();
    let stopped = std::sync::Mutex::new(None);
    let first = || stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // What an earlier run has read is not read again.
    jobs.retain(|job| {
        let state = done.as_ref().and_then(|d| d.get(&job.file.entry));
        let Some(state) = state.filter(|s| job.values.is_none() || s.values.is_some()) else { return true };
        cx.progress.advance(job.file.entry.size);
        inspection.files.insert(job.file.entry.name.clone(), state);
        false
    });
    let keep = |job: &Job, state: &FileState| done.as_ref().map_or(Ok(()), |d| d.put(&job.file.entry, state));
    if many::fits(source, &jobs, cx) {
        let states: Vec<std::sync::OnceLock<FileState>> = jobs.iter().map(|_| std::sync::OnceLock::new()).collect();
        many::check(source, &jobs, cx, &|at, state| {
            let state = state?;
            if let (Some(job), Some(slot)) = (jobs.get(at), states.get(at)) {
                keep(job, &state)?;
                let _ = slot.set(state);
            }
            Ok(())
        })?;
        for (job, state) in jobs.into_iter().zip(states) {
            inspection.files.insert(job.file.entry.name, state.into_inner().unwrap_or_default());
        }
        return Ok(());
    }
    let states = parallel::map(cx, &jobs, |_, job| -> Result<FileState> {
        if first().is_some() {
            // The store has failed already; it is not asked about every other file.
            return Ok(FileState::default());
        }
        match files::check(source, job, cx) {
            Ok(state) => keep(job, &state).map(|()| state),
            Err(e) => {
                first().get_or_insert(e);
                Ok(FileState::default())
            }
        }
    })?;
    if let Some(error) = first().take() {
        return Err(error);
    }
    for (job, state) in jobs.into_iter().zip(states) {
        inspection.files.insert(job.file.entry.name, state?);
    }
    Ok(())
}

/// Directory names of tables, by their names in job descriptions.
fn table_directories(loaded: &Loaded, tables: &[String]) -> BTreeSet<String> {
    let of = loaded.snapshots.iter().flat_map(|s| &s.infos).flat_map(|i| &i.info.tables);
    of.filter(|t| tables.contains(&t.name)).map(|t| format!("__tbl_{}", t.id)).collect()
}

/// Whether a file belongs to part `n` of `t`, 1-based.
#[must_use]
pub fn in_part(name: &str, n: u64, t: u64) -> bool {
    let sum: [u8; 16] = Md5::digest(name.as_bytes()).into();
    let number = sum.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
    number.checked_rem(t).is_some_and(|r| r == n.saturating_sub(1))
}

/// Every file of a tablet that was not read whole with its header. Largest first, so that the threads end together.
fn jobs(loaded: &Loaded, values: bool) -> Vec<Job> {
    let mut jobs = Vec::new();
    for dir in loaded.repository.listing.snapshots.values() {
        let snapshot = loaded.snapshots.iter().find(|s| s.label == dir.label);
        for tablet in dir.tablets.values() {
            let checked = snapshot.and_then(|s| s.tablets.get(&tablet.path)).map_or(&[][..], |t| t.checked.as_slice());
            for file in tablet.files.iter().filter(|f| f.file.finished()) {
                if checked.iter().any(|c| c.name == file.file.entry.name) {
                    continue;
                }
                let segment = matches!(file.kind, TabletFile::Segment { .. } | TabletFile::Columns { .. });
                let of = snapshot.and_then(|s| s.tablets.get(&tablet.path)).filter(|_| values && segment);
                let values = of.and_then(|t| schema_of(t, &file.kind));
                jobs.push(Job { file: file.file.clone(), segment, values });
            }
        }
    }
    jobs.sort_by(|a, b| {
        b.file.entry.size.cmp(&a.file.entry.size).then_with(|| a.file.entry.name.cmp(&b.file.entry.name))
    });
    jobs
}

/// The schema a segment was written with.
fn schema_of(tablet: &load::LoadedTablet, kind: &TabletFile) -> Option<Arc<TabletSchema>> {
    let (TabletFile::Segment { rowset, .. } | TabletFile::Columns { rowset, .. }) = kind else { return None };
    let own = tablet.tablet.rowsets.iter().find(|r| r.id == *rowset);
    own.and_then(|r| r.schema.clone()).or_else(|| tablet.tablet.schema.clone())
}

/// Levels 1, 2 and 4, and what the bytes mean for them.
fn judge(inspection: &mut Inspection) -> Vec<Finding> {
    let loaded = Arc::clone(&inspection.loaded);
    let mut findings = loaded.findings.clone();
    for error in &loaded.repository.listing.errors {
        findings.push(load::unreadable(error));
    }
    for stray in &loaded.repository.listing.strays {
        findings.push(foreign(stray));
    }
    let mut proven = true;
    for snapshot in &loaded.snapshots {
        proven &= snapshot.meta.is_none();
        snapshots::judge(inspection, snapshot, &mut findings);
    }
    if !proven {
        findings.push(Finding::new(&codes::NOT_PROVEN, Severity::Note, String::new()).summary(
            "the forms of __meta and of the primary-key meta were read from source, not from a server's files",
        ));
    }
    findings
}

fn foreign(entry: &Entry) -> Finding {
    Finding::new(&codes::FOREIGN_FILE, Severity::Note, entry.name.clone()).effect(0, 0)
}

/// What is known of each byte.
fn cover(inspection: &Inspection, report: &mut ReportBuilder) {
    let loaded = &inspection.loaded;
    let listing = &loaded.repository.listing;
    let whole = |e: &Entry, class| Coverage::all(e.size, class);
    for (name, size) in &inspection.replaced {
        report.object(inspection.number, name.clone(), "damaged", Coverage::all(*size, Class::Damaged));
    }
    if let Some(entry) = &listing.repo_info {
        let class = if loaded.repo_info.is_some() { Class::Parsed } else { Class::Damaged };
        inspection.object(report, &entry.name, "repository", whole(entry, class));
    }
    for stray in &listing.strays {
        report.foreign(inspection.number, stray.name.clone(), "foreign", stray.size);
    }
    for dir in listing.snapshots.values() {
        let snapshot = loaded.snapshots.iter().find(|s| s.label == dir.label);
        for stray in &dir.strays {
            report.foreign(inspection.number, stray.name.clone(), "foreign", stray.size);
        }
        let top = snapshot.map_or(&[][..], |s| s.checked.as_slice());
        for file in dir.infos.iter().chain(&dir.metas) {
            let class = inspection.fates.get(&file.entry.name);
            let bad = snapshot.is_some_and(|s| s.findings.iter().any(|f| f.object == file.entry.name));
            let class_name = if class == Some(&Fate::Debris) { "debris" } else { "definition" };
            inspection.object(report, &file.entry.name, class_name, small(file, top, bad));
        }
        for tablet in dir.tablets.values() {
            let loaded = snapshot.and_then(|s| s.tablets.get(&tablet.path));
            let checked = loaded.map_or(&[][..], |t| t.checked.as_slice());
            if let Some(entry) = &tablet.manifest {
                inspection.object(report, &entry.name, "manifest", whole(entry, Class::Parsed));
            }
            for file in &tablet.files {
                let name = &file.file.entry.name;
                let coverage = if checked.iter().any(|c| &c.name == name) {
                    let broken = loaded.is_some_and(|t| {
                        t.findings.iter().any(|f| f.object == *name && f.severity >= Severity::Damaged)
                    });
                    small(&file.file, checked, broken)
                } else {
                    large(&file.file, inspection.files.get(name))
                };
                let class = match inspection.fates.get(name) {
                    Some(Fate::Debris) => "debris",
                    Some(Fate::Damaged) => "damaged",
                    _ => "live",
                };
                inspection.object(report, name, class, coverage);
            }
        }
    }
}

fn small(file: &Named, checked: &[load::Checked], bad: bool) -> Coverage {
    let of = checked.iter().find(|c| c.name == file.entry.name);
    let class = match of {
        Some(c) if c.md5.is_none() => Class::Unread,
        Some(c) if c.mismatch || bad => Class::Damaged,
        Some(_) if file.finished() => Class::Verified,
        Some(_) => Class::Parsed,
        None => Class::Unread,
    };
    Coverage::all(file.entry.size, class)
}

fn large(file: &Named, state: Option<&FileState>) -> Coverage {
    let size = file.entry.size;
    let mut coverage = Coverage::new(size);
    let Some(state) = state else {
        // A file without a right ending belongs to nothing.
        coverage.mark(0..size, if file.finished() { Class::Unread } else { Class::Free });
        return coverage;
    };
    for (at, len, _) in &state.unreadable {
        coverage.mark(*at..at.saturating_add(*len), Class::Unread);
    }
    let right = state.named_right(file);
    let inside = state.segment.as_ref();
    for page in inside.map_or(&[][..], |s| s.bad.as_slice()) {
        coverage.mark(page.offset..page.offset.saturating_add(page.size), Class::Damaged);
    }
    let localised = inside.is_some_and(|s| s.complaint.is_none() && s.uncovered == 0 && s.lost_columns.is_empty());
    let explained = localised && inside.is_some_and(|s| s.whole() || !s.bad.is_empty());
    coverage.mark(0..size, if right || explained { Class::Verified } else { Class::Damaged });
    coverage
}
