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
pub mod pages;
mod snapshots;
mod state;
mod tablets;
#[cfg(feature = "arrow")]
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use md5::{Digest as _, Md5};
use recovery_core::{
    Check, Class, Context, Coverage, Entry, Error, Finding, Report, ReportBuilder, Result, Severity, Sources, parallel,
};
use serde::{Deserialize, Serialize};

use crate::codes;
use crate::format::names::{TabletFile, TabletPath};
use crate::model::repository::Named;
use crate::model::schema::TabletSchema;
use crate::reader::load::{self, Loaded};
use crate::reader::repository::Repository;
use files::{FileState, Job};

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
    /// The model.
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
}

/// Looks at a repository.
///
/// # Errors
///
/// When there is none, or for reasons to stop.
pub fn inspect(sources: &Sources, options: &Options, cx: &Context) -> Result<Report> {
    let mut report = ReportBuilder::new("starrocks", sources, cx.limits.findings);
    let mut rivals = sources.rivals.iter();
    let Some(source) = rivals.next() else { return Err(Error::Usage("no repository was given".into())) };
    if rivals.next().is_some() {
        return Err(Error::unsupported("several copies of one repository at once; inspect each by itself"));
    }
    if !sources.donors.is_empty() {
        return Err(Error::unsupported("donors of a StarRocks repository (--also)"));
    }
    let mut repository = Repository::open(Arc::clone(source), options.repository.as_deref())?;
    if !options.snapshots.is_empty() {
        for name in &options.snapshots {
            if !repository.listing.snapshots.contains_key(name) {
                return Err(Error::Usage(format!("no snapshot {name:?} in {}", source.describe())));
            }
        }
        repository.listing.snapshots.retain(|label, _| options.snapshots.contains(label));
    }
    let loaded = Arc::new(load::load(repository, cx)?);
    let mut inspection = Inspection {
        loaded,
        options: options.clone(),
        files: BTreeMap::new(),
        fates: BTreeMap::new(),
        tablets: BTreeMap::new(),
        snapshots: Vec::new(),
    };
    read_files(&mut inspection, &mut report, cx)?;
    let findings = judge(&mut inspection);
    report.findings(findings);
    cover(&inspection, &mut report);
    facts::fill(&inspection, &mut report);
    report.state(Arc::new(inspection));
    Ok(report.finish())
}

/// Level 3, 5 and 6.
fn read_files(inspection: &mut Inspection, report: &mut ReportBuilder, cx: &Context) -> Result<()> {
    if cx.check == Check::Structure {
        report.incomplete();
        return Ok(());
    }
    let loaded = Arc::clone(&inspection.loaded);
    let mut jobs = jobs(&loaded, inspection.options.values);
    if let Some((n, t)) = cx.sample {
        let all = jobs.len();
        jobs.retain(|job| in_part(&job.file.entry.name, n, t));
        if jobs.len() < all {
            report.incomplete();
        }
    }
    let total = jobs.iter().fold(0u64, |sum, j| sum.saturating_add(j.file.entry.size));
    cx.progress.begin("read", total);
    let done = cx.state_file.as_deref().map(state::Done::open).transpose()?;
    let source = loaded.repository.source.as_ref();
    let stopped = std::sync::Mutex::new(None);
    let first = || stopped.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let states = parallel::map(cx, &jobs, |_, job| -> Result<FileState> {
        if first().is_some() {
            // The store has failed already; it is not asked about every other file.
            return Ok(FileState::default());
        }
        let known = done.as_ref().and_then(|d| d.get(&job.file.entry));
        if let Some(state) = known.filter(|s| job.values.is_none() || s.values.is_some()) {
            cx.progress.advance(job.file.entry.size);
            return Ok(state);
        }
        let state = match files::check(source, job, cx) {
            Ok(state) => state,
            Err(e) => {
                first().get_or_insert(e);
                return Ok(FileState::default());
            }
        };
        if let Some(done) = &done {
            done.put(&job.file.entry, &state)?;
        }
        Ok(state)
    })?;
    if let Some(error) = first().take() {
        return Err(error);
    }
    for (job, state) in jobs.into_iter().zip(states) {
        inspection.files.insert(job.file.entry.name, state?);
    }
    Ok(())
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
    if let Some(entry) = &listing.repo_info {
        let class = if loaded.repo_info.is_some() { Class::Parsed } else { Class::Damaged };
        report.object(0, entry.name.clone(), "repository", whole(entry, class));
    }
    for stray in &listing.strays {
        report.foreign(0, stray.name.clone(), "foreign", stray.size);
    }
    for dir in listing.snapshots.values() {
        let snapshot = loaded.snapshots.iter().find(|s| s.label == dir.label);
        for stray in &dir.strays {
            report.foreign(0, stray.name.clone(), "foreign", stray.size);
        }
        let top = snapshot.map_or(&[][..], |s| s.checked.as_slice());
        for file in dir.infos.iter().chain(&dir.metas) {
            let class = inspection.fates.get(&file.entry.name);
            let bad = snapshot.is_some_and(|s| s.findings.iter().any(|f| f.object == file.entry.name));
            let class_name = if class == Some(&Fate::Debris) { "debris" } else { "definition" };
            report.object(0, file.entry.name.clone(), class_name, small(file, top, bad));
        }
        for tablet in dir.tablets.values() {
            let loaded = snapshot.and_then(|s| s.tablets.get(&tablet.path));
            let checked = loaded.map_or(&[][..], |t| t.checked.as_slice());
            if let Some(entry) = &tablet.manifest {
                report.object(0, entry.name.clone(), "manifest", whole(entry, Class::Parsed));
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
                report.object(0, name.clone(), class, coverage);
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
