//! Copies a snapshot to another repository: only what is missing there, every MD5 checked on the way.
//!
//! Order as the back ends and the front end upload: files of tablets, `__meta`, `__info_*`. Until the last one is there
//! the server sees no snapshot, so a copy that was stopped is begun again and goes on where it was. Nothing in the
//! files names the repository; only the label stands in `__info` (`backup/BackupJobInfo.java`) and is rewritten when
//! it changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use md5::{Digest as _, Md5};
use recovery_core::{Context, Depth, Entry, Error, Reason, Result, Source, hex, parallel};
use serde_json::{Value, json};

use crate::depot::Depot;
use crate::format::info::RepoInfo;
use crate::format::names::{self, Timestamp};
use crate::inspect::{Fate, Inspection};
use crate::model::repository::Ending;
use crate::reader::load::{InfoOrigin, LoadedInfo, LoadedSnapshot, md5_of, read_small};
use crate::reader::repository::Repository;

/// Bytes read at a time.
const PIECE: u64 = 4 << 20;

/// What is to be copied, and how it is called there.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `LABEL` or `LABEL@TIMESTAMP`.
    pub snapshot: String,
    /// The label there; the same without it.
    pub label: Option<String>,
    /// The repository there, where the place holds several, or is new and shall be called otherwise.
    pub repository: Option<String>,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Directory of the repository in the place; empty when the place is the directory.
    pub directory: String,
    /// Name of the repository there.
    pub repository: String,
    /// Label there.
    pub label: String,
    /// Timestamp of the snapshot.
    pub timestamp: String,
    /// Files written.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Files that were there already.
    pub kept: u64,
    /// Bytes of them.
    pub kept_bytes: u64,
}

impl Copied {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"repository": self.repository, "directory": self.directory, "label": self.label,
            "timestamp": self.timestamp, "files": self.files, "bytes": self.bytes, "kept_files": self.kept,
            "kept_bytes": self.kept_bytes})
    }
}

/// A file of the copy: where it lies, its name there, the MD5 it must have.
struct Item {
    entry: Entry,
    to: String,
    md5: Option<[u8; 16]>,
}

/// Where a repository is in a place.
struct Home {
    directory: String,
    name: String,
    /// Whether `__repo_info` must be written.
    new: bool,
    /// Files of the label that are there.
    there: BTreeMap<String, u64>,
}

/// Copies a snapshot. `inspection` is a look at the repository it is in, made for its names and definitions.
///
/// # Errors
///
/// A refusal when the snapshot is unfinished or not restorable, or another one has its label there; an error when a file
/// does not have the MD5 in its name, or cannot be read or written.
pub fn copy(inspection: &Inspection, to: &dyn Depot, request: &Request, cx: &Context) -> Result<Copied> {
    let (snapshot, info) = inspection.loaded.find(&request.snapshot)?;
    refuse_broken(inspection, snapshot, info)?;
    let label = request.label.as_deref().unwrap_or(&snapshot.label);
    check_label(label)?;
    let home = home(inspection, to, request, label)?;
    let base = if home.directory.is_empty() { String::new() } else { format!("{}/", home.directory) };
    let there = format!("{base}{}{label}", names::SNAPSHOT);
    let (items, last) = items(inspection, snapshot, info, &there, cx)?;
    let description = description(inspection, info, label, cx)?;
    let described = format!("{there}/{}{}.{}", names::INFO, info.timestamp, hex(&md5_of(&description)));
    no_other(&home, &there, &items, &last, &described)?;
    let mut done = Copied {
        directory: home.directory.clone(),
        repository: home.name.clone(),
        label: label.to_owned(),
        timestamp: info.timestamp.clone(),
        ..Copied::default()
    };
    if home.new {
        let now = Timestamp::from_millis(i64::try_from(cx.now_ms).unwrap_or(0));
        let created = format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            now.year, now.month, now.day, now.hour, now.minute, now.second
        );
        let text = RepoInfo { name: home.name.clone(), create_time: Some(created) }.encode();
        add_bytes(to, &format!("{base}{}", names::REPO_INFO), text)?;
    }
    let source = inspection.loaded.repository.source.as_ref();
    send(source, to, &items, &home, &mut done, cx)?;
    send(source, to, &last, &home, &mut done, cx)?;
    if home.there.contains_key(&described) {
        done.kept = done.kept.saturating_add(1);
    } else {
        done.files = done.files.saturating_add(1);
        done.bytes = done.bytes.saturating_add(description.len() as u64);
        add_bytes(to, &described, description)?;
    }
    Ok(done)
}

fn refuse_broken(inspection: &Inspection, snapshot: &LoadedSnapshot, info: &LoadedInfo) -> Result<()> {
    let verdict = inspection.snapshots.iter().find(|s| s.label == snapshot.label && s.timestamp == info.timestamp);
    let verdict = verdict.ok_or_else(|| Error::Internal("the snapshot was not looked at".into()))?;
    let place = || recovery_core::names::shell(&inspection.loaded.repository.source.describe()).into_owned();
    let first = verdict.tables.iter().find_map(|t| t.damaged.first().and_then(|d| d.1.first()));
    if let Some(why) = verdict.problems.first().or(first) {
        let message = format!(
            "snapshot {}: {why}; a copy would be no better: recover rescue {} --into NEWDIR, and copy from there",
            snapshot.label,
            place()
        );
        return Err(Error::refuse(Reason::Unsafe, message));
    }
    if info.origin != InfoOrigin::File || !verdict.finished {
        return Err(Error::refuse(Reason::Unsafe, format!("snapshot {}: the job did not finish", snapshot.label)));
    }
    Ok(())
}

/// A label as BACKUP takes it: letters, digits, `_`, `-`; others only where the snapshot has them already.
fn check_label(label: &str) -> Result<()> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ':' | '.');
    if label.is_empty() || label.chars().count() > 128 || !label.chars().all(fits) || label.starts_with('.') {
        return Err(Error::Usage(format!(
            "--label {label:?}: the server takes letters, digits, '_' and '-', at most 128 of them"
        )));
    }
    recovery_core::names::component(label).map(drop)
}

/// Finds or founds the repository in the place.
fn home(inspection: &Inspection, to: &dyn Depot, request: &Request, label: &str) -> Result<Home> {
    let place = to.describe();
    let last = place.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let own = names::repository(last).map(|(_, name)| name.to_owned());
    let named = request.repository.clone();
    let source_name = || named.clone().unwrap_or_else(|| inspection.loaded.name());
    let fresh = || match &own {
        Some(name) => (String::new(), name.clone()),
        None => (format!("{}{}", inspection.loaded.prefix(), source_name()), source_name()),
    };
    recovery_core::names::component(&source_name())?;
    let found = match to.source()? {
        None => None,
        Some(source) => match Repository::open(source, named.as_deref()) {
            Ok(repository) => Some(repository),
            // Another repository may be founded beside those that are there.
            Err(Error::Unusable(_)) => None,
            Err(Error::Usage(_)) if named.is_some() => None,
            Err(e) => return Err(e),
        },
    };
    let Some(repository) = found else {
        let (directory, name) = fresh();
        return Ok(Home { directory, name, new: true, there: BTreeMap::new() });
    };
    let listing = &repository.listing;
    if let Some(error) = listing.errors.first() {
        return Err(error.clone().into());
    }
    let directory = listing.base.clone();
    let name = listing.directory_name.clone().or(own).unwrap_or_else(source_name);
    let at = if directory.is_empty() { String::new() } else { format!("{directory}/") };
    let mut there = BTreeMap::new();
    for entry in repository.source.list(&format!("{at}{}{label}", names::SNAPSHOT), Depth::All) {
        let entry = entry?;
        if entry.is_file() {
            there.insert(entry.name, entry.size);
        }
    }
    Ok(Home { directory, name, new: listing.repo_info.is_none(), there })
}

/// Files of the tablets, and the definitions. Debris is left behind.
fn items(
    inspection: &Inspection,
    snapshot: &LoadedSnapshot,
    info: &LoadedInfo,
    there: &str,
    cx: &Context,
) -> Result<(Vec<Item>, Vec<Item>)> {
    let listing = &inspection.loaded.repository.listing;
    let gone = || Error::Internal("the snapshot is not in the listing".into());
    let dir = listing.snapshots.get(&snapshot.label).ok_or_else(gone)?;
    let moved = |name: &str| format!("{there}{}", name.strip_prefix(&dir.dir).unwrap_or(name));
    let wanted = crate::plan::tablet_paths(snapshot, &info.info);
    let mut items = Vec::new();
    for tablet in dir.tablets.values().filter(|t| wanted.contains(&t.path)) {
        if let Some(entry) = &tablet.manifest {
            items.push(Item { entry: entry.clone(), to: moved(&entry.name), md5: None });
        }
        for file in &tablet.files {
            cx.cancelled()?;
            let kept = inspection.fates.get(&file.file.entry.name).is_none_or(|f| *f == Fate::Keep);
            if let (Ending::Md5(sum), true) = (&file.file.ending, kept) {
                let to = moved(&file.file.entry.name);
                items.push(Item { entry: file.file.entry.clone(), to, md5: Some(*sum) });
            }
        }
    }
    let meta = snapshot.meta.as_ref().ok_or_else(gone)?;
    let file = &meta.file;
    let last = vec![Item { entry: file.entry.clone(), to: moved(&file.entry.name), md5: file.md5() }];
    Ok((items, last))
}

/// The job description under its new label.
fn description(inspection: &Inspection, info: &LoadedInfo, label: &str, cx: &Context) -> Result<Vec<u8>> {
    let file = info.file.as_ref().ok_or_else(|| Error::Internal("a description without file".into()))?;
    if info.info.name == label {
        return Ok(read_small(inspection.loaded.repository.source.as_ref(), &file.entry, cx)?.to_vec());
    }
    let mut renamed = info.info.clone();
    label.clone_into(&mut renamed.name);
    if let Some(tree) = renamed.raw.as_object_mut() {
        tree.insert("name".into(), json!(label));
    }
    Ok(renamed.encode())
}

/// Refuses when the label there holds something else.
fn no_other(home: &Home, there: &str, items: &[Item], last: &[Item], described: &str) -> Result<()> {
    let sizes: BTreeMap<&str, u64> = items.iter().chain(last).map(|i| (i.to.as_str(), i.entry.size)).collect();
    for (name, size) in &home.there {
        let below = name.strip_prefix(there).unwrap_or(name).trim_start_matches('/');
        let top = !below.contains('/');
        let ours = name == described || sizes.get(name.as_str()) == Some(size);
        let under_way = name.ends_with(".part");
        let wrong = sizes.contains_key(name.as_str()) || (top && !under_way);
        if !ours && wrong {
            let message = format!(
                "{name}: the other repository has another snapshot under this label; give a new one with --label"
            );
            return Err(Error::refuse(Reason::TargetNotEmpty, message));
        }
    }
    Ok(())
}

fn send(
    source: &dyn Source,
    to: &dyn Depot,
    items: &[Item],
    home: &Home,
    done: &mut Copied,
    cx: &Context,
) -> Result<()> {
    let (there, missing): (Vec<&Item>, Vec<&Item>) = items.iter().partition(|i| home.there.contains_key(&i.to));
    let total = |list: &[&Item]| list.iter().fold(0u64, |sum, i| sum.saturating_add(i.entry.size));
    done.kept = done.kept.saturating_add(there.len() as u64);
    done.kept_bytes = done.kept_bytes.saturating_add(total(&there));
    cx.progress.begin("copy", total(&missing));
    let first: Mutex<Option<Error>> = Mutex::new(None);
    let failed = || first.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    parallel::map(cx, &missing, |_, item| {
        if failed().is_some() {
            return;
        }
        if let Err(error) = send_one(source, to, item, cx) {
            failed().get_or_insert(error);
        }
    })?;
    if let Some(error) = failed().take() {
        return Err(error);
    }
    done.files = done.files.saturating_add(missing.len() as u64);
    done.bytes = done.bytes.saturating_add(total(&missing));
    Ok(())
}

fn send_one(source: &dyn Source, to: &dyn Depot, item: &Item, cx: &Context) -> Result<()> {
    let blob = source.open(&item.entry)?;
    let (mut at, mut hash, mut checked) = (0u64, Md5::new(), false);
    let len = item.entry.size;
    to.add(&item.to, len, &mut || {
        cx.cancelled()?;
        if at >= len {
            let sum: [u8; 16] = std::mem::take(&mut hash).finalize().into();
            if let Some(stored) = item.md5.filter(|m| !checked && *m != sum) {
                return Err(Error::Damaged(format!(
                    "{}: its MD5 is {}, its name says {}; nothing was copied of it (`recover inspect` says more)",
                    item.entry.name,
                    hex(&sum),
                    hex(&stored)
                )));
            }
            checked = true;
            return Ok(None);
        }
        let end = at.saturating_add(PIECE).min(len);
        let piece: Bytes = blob.bytes(at..end)?;
        hash.update(&piece);
        cx.progress.advance(end.saturating_sub(at));
        at = end;
        Ok(Some(piece))
    })
}

fn add_bytes(to: &dyn Depot, name: &str, bytes: Vec<u8>) -> Result<()> {
    let size = bytes.len() as u64;
    let mut left = Some(Bytes::from(bytes));
    to.add(name, size, &mut || Ok(left.take()))
}

/// A look at a repository that a copy can be made from: names, definitions, headers.
///
/// # Errors
///
/// As an inspection.
pub fn look(source: Arc<dyn Source>, options: &crate::inspect::Options, cx: &Context) -> Result<Arc<Inspection>> {
    let mut cx = cx.clone();
    cx.check = recovery_core::Check::Structure;
    let report = crate::inspect::inspect(&recovery_core::Sources::one(source), options, &cx)?;
    report.state().ok_or_else(|| Error::Internal("the report carries no state".into()))
}
