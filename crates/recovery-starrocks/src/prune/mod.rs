//! Removes snapshots by rules: the one thing here that changes a source.
//!
//! [`plan`](plan()) only looks; its result is read, kept, and given to [`apply`], which removes what it names and nothing
//! else, in an order that leaves no snapshot half there for the server: first the job description, with which the
//! snapshot disappears from SHOW SNAPSHOT, then the definitions, then the content. A journal beside the plan says how
//! far it came, so that a run that was stopped is finished by the next. Snapshots share no files, so nothing of the
//! others is touched.
//!
//! A snapshot without job description may be a backup under way: it is never removed. Neither is one younger than
//! [`MINIMUM_AGE_MS`].

mod apply;
mod rules;

use std::collections::BTreeMap;

use recovery_core::{Context, Entry, Error, Reason, Result, Source};
use serde::{Deserialize, Serialize};

use crate::inspect::Inspection;
use crate::model::repository::SnapshotDir;
use crate::reader::load::{InfoOrigin, LoadedSnapshot};

pub use apply::{Done, apply};
pub use rules::{Rules, Why, duration_ms};

/// Name and version of the plan's form.
pub const SCHEMA: &str = "recover/starrocks-prune/1";

/// A snapshot younger than a day is never removed.
pub const MINIMUM_AGE_MS: i64 = 24 * 3_600_000;

/// A file that is to be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    /// Name in the source.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
    /// Last change, in nanoseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime: Option<i64>,
    /// The store's version tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

impl Victim {
    fn of(entry: &Entry) -> Self {
        Self { name: entry.name.clone(), size: entry.size, mtime: entry.mtime, etag: entry.etag.clone() }
    }

    /// Whether a file is still the one that was looked at.
    fn is(&self, entry: &Entry) -> bool {
        let same = |a: Option<i64>, b: Option<i64>| a.zip(b).is_none_or(|(a, b)| a == b);
        let tagged = self.etag.as_ref().zip(entry.etag.as_ref()).is_none_or(|(a, b)| a == b);
        self.size == entry.size && same(self.mtime, entry.mtime) && tagged
    }
}

/// A snapshot that stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Label.
    pub label: String,
    /// Newest timestamp.
    pub timestamp: String,
    /// Database.
    pub database: String,
    /// Why it stays.
    pub reasons: Vec<String>,
}

/// A snapshot that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Label.
    pub label: String,
    /// Newest timestamp.
    pub timestamp: String,
    /// Database.
    pub database: String,
    /// When it was made, in milliseconds since 1970.
    pub backup_time_ms: i64,
    /// Its directory in the source.
    pub directory: String,
    /// Bytes of everything below.
    pub bytes: u64,
    /// Job descriptions: removed first.
    pub descriptions: Vec<Victim>,
    /// Definitions: removed second.
    pub definitions: Vec<Victim>,
    /// Everything else.
    pub content: Vec<Victim>,
}

impl Removal {
    /// All files in the order they are removed in.
    pub fn files(&self) -> impl Iterator<Item = &Victim> {
        self.descriptions.iter().chain(&self.definitions).chain(&self.content)
    }
}

/// What is to be removed, and what stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrunePlan {
    /// Name and version of this form.
    pub schema: String,
    /// `starrocks`.
    pub engine: String,
    /// Where the repository is.
    pub location: String,
    /// Its directory below the location; empty when the location is the directory.
    pub directory: String,
    /// Its name.
    pub repository: String,
    /// When the plan was made, in milliseconds since 1970.
    pub made_ms: u64,
    /// The rules.
    pub rules: Rules,
    /// What stays, newest first.
    pub keep: Vec<Kept>,
    /// What goes, oldest first.
    pub remove: Vec<Removal>,
    /// Files that go.
    pub files: u64,
    /// Bytes that go.
    pub bytes: u64,
}

/// A snapshot as the rules see it.
struct Seen<'a> {
    snapshot: &'a LoadedSnapshot,
    dir: &'a SnapshotDir,
    timestamp: String,
    database: String,
    time: i64,
    finished: bool,
}

fn seen<'a>(inspection: &'a Inspection, snapshot: &'a LoadedSnapshot) -> Option<Seen<'a>> {
    let dir = inspection.loaded.repository.listing.snapshots.get(&snapshot.label)?;
    let newest = snapshot.infos.iter().max_by_key(|i| i.info.backup_time_ms);
    Some(Seen {
        snapshot,
        dir,
        timestamp: newest.map_or_else(String::new, |i| i.timestamp.clone()),
        database: newest.map_or_else(String::new, |i| i.info.database.clone()),
        time: newest.map_or(0, |i| i.info.backup_time_ms),
        finished: newest.is_some() && snapshot.infos.iter().all(|i| i.origin == InfoOrigin::File),
    })
}

/// Decides what goes. Nothing is changed.
///
/// # Errors
///
/// A usage error when a label does not exist or no rule was given; a refusal when a snapshot named cannot be removed
/// safely.
pub fn plan(inspection: &Inspection, rules: &Rules, cx: &Context) -> Result<PrunePlan> {
    if rules.is_empty() {
        return Err(Error::Usage(
            "say what is kept (--keep-last N, --keep-daily N, --keep-within 30d) or what goes (--snapshot L)".into(),
        ));
    }
    let repository = &inspection.loaded.repository;
    if let Some(error) = repository.listing.errors.first() {
        return Err(error.clone().into());
    }
    let mut all: Vec<Seen<'_>> = inspection.loaded.snapshots.iter().filter_map(|s| seen(inspection, s)).collect();
    all.sort_by(|a, b| (b.time, &b.snapshot.label).cmp(&(a.time, &a.snapshot.label)));
    for name in &rules.snapshots {
        named(&all, name, cx)?;
    }
    let kept = rules.keep(&all, cx);
    let mut out = PrunePlan {
        schema: SCHEMA.to_owned(),
        engine: "starrocks".to_owned(),
        location: location(repository.source.as_ref()),
        directory: repository.listing.base.clone(),
        repository: inspection.loaded.name(),
        made_ms: cx.now_ms,
        rules: rules.clone(),
        keep: Vec::new(),
        remove: Vec::new(),
        files: 0,
        bytes: 0,
    };
    let mut entries: BTreeMap<&str, Vec<Entry>> = BTreeMap::new();
    for (seen, reasons) in all.iter().zip(kept) {
        let label = seen.snapshot.label.clone();
        if reasons.is_empty() {
            entries.insert(&seen.snapshot.label, below(inspection, &seen.dir.dir)?);
        } else {
            let reasons = reasons.into_iter().map(Why::text).collect();
            out.keep.push(Kept { label, timestamp: seen.timestamp.clone(), database: seen.database.clone(), reasons });
        }
    }
    for seen in all.iter().rev() {
        if let Some(files) = entries.get(seen.snapshot.label.as_str()) {
            out.remove.push(removal(seen, files));
        }
    }
    out.files = out.remove.iter().map(|r| r.files().count() as u64).fold(0, u64::saturating_add);
    out.bytes = out.remove.iter().map(|r| r.bytes).fold(0, u64::saturating_add);
    Ok(out)
}

/// Where a source is, the same from any directory.
fn location(source: &dyn Source) -> String {
    let shown = source.describe();
    let whole = source.root().and_then(|root| std::path::absolute(root).ok());
    whole.map_or(shown, |path| path.display().to_string())
}

/// A snapshot that was named must be there and may go.
fn named(all: &[Seen<'_>], name: &str, cx: &Context) -> Result<()> {
    let Some(seen) = all.iter().find(|s| s.snapshot.label == name) else {
        let labels: Vec<&str> = all.iter().map(|s| s.snapshot.label.as_str()).collect();
        return Err(Error::Usage(format!("no snapshot {name:?}; there are: {}", labels.join(", "))));
    };
    let why = if !seen.finished {
        "it has no usable job description, so its backup may still run; `recover rescue` builds a repository without \
         what failed jobs left"
            .to_owned()
    } else if too_young(seen.time, cx) {
        "it is younger than 24 hours".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::refuse(Reason::Unsafe, format!("snapshot {name:?} is not removed: {why}")))
}

fn too_young(time: i64, cx: &Context) -> bool {
    i64::try_from(cx.now_ms).unwrap_or(i64::MAX).saturating_sub(time) < MINIMUM_AGE_MS
}

/// All files below a directory, whatever they are.
fn below(inspection: &Inspection, dir: &str) -> Result<Vec<Entry>> {
    let mut out = Vec::new();
    for entry in inspection.loaded.repository.source.list(dir, recovery_core::Depth::All) {
        let entry = entry?;
        if !entry.is_dir() {
            out.push(entry);
        }
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}

fn removal(seen: &Seen<'_>, files: &[Entry]) -> Removal {
    let (mut descriptions, mut definitions, mut content) = (Vec::new(), Vec::new(), Vec::new());
    for entry in files {
        let below = entry.name.strip_prefix(&seen.dir.dir).unwrap_or(&entry.name).trim_start_matches('/');
        let list = if below.starts_with(crate::format::names::INFO) && !below.contains('/') {
            &mut descriptions
        } else if below.starts_with(crate::format::names::META) && !below.contains('/') {
            &mut definitions
        } else {
            &mut content
        };
        list.push(Victim::of(entry));
    }
    Removal {
        label: seen.snapshot.label.clone(),
        timestamp: seen.timestamp.clone(),
        database: seen.database.clone(),
        backup_time_ms: seen.time,
        directory: seen.dir.dir.clone(),
        bytes: files.iter().fold(0, |sum, e| sum.saturating_add(e.size)),
        descriptions,
        definitions,
        content,
    }
}
