//! Carries a plan out: descriptions, definitions, content, one snapshot after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use recovery_core::{Context, Depth, Entry, Error, Reason, Result, Source};
use serde::{Deserialize, Serialize};

use super::{PrunePlan, Removal, SCHEMA, Victim, too_young};
use crate::depot::Remover;
use crate::format::names;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Snapshots removed in this run.
    pub snapshots: u64,
    /// Files removed in this run.
    pub files: u64,
    /// Bytes removed in this run.
    pub bytes: u64,
    /// Snapshots that an earlier run had removed.
    pub before: u64,
}

/// How far the removal of a snapshot came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Stage {
    /// Its files are being removed; some may be gone.
    Begun,
    /// All of them are gone.
    Gone,
}

#[derive(Serialize, Deserialize)]
struct Line {
    plan: String,
    label: String,
    stage: Stage,
}

/// One JSON object a line; each line is on the medium before what it announces is done.
struct Journal {
    file: File,
    path: String,
    plan: String,
    stages: BTreeMap<String, Stage>,
}

impl Journal {
    fn open(path: &Path, plan: &PrunePlan) -> Result<Self> {
        let shown = path.display().to_string();
        let failed = |e| Error::write(&shown, "open the journal", e);
        let text = serde_json::to_vec(plan).map_err(|e| Error::Internal(e.to_string()))?;
        let digest = crate::md5_hex(&text);
        let mut stages = BTreeMap::new();
        if path.exists() {
            for line in fs::read(path).map_err(failed)?.split(|b| *b == b'\n') {
                // The last line of a run that was killed may be cut; what it announced was not begun.
                if let Ok(line) = serde_json::from_slice::<Line>(line)
                    && line.plan == digest
                {
                    let stage = stages.entry(line.label).or_insert(line.stage);
                    *stage = line.stage.max(*stage);
                }
            }
        }
        let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        file.write_all(b"\n").map_err(failed)?;
        Ok(Self { file, path: shown, plan: digest, stages })
    }

    fn write(&mut self, label: &str, stage: Stage) -> Result<()> {
        let line = Line { plan: self.plan.clone(), label: label.to_owned(), stage };
        let mut text = serde_json::to_vec(&line).map_err(|e| Error::Internal(e.to_string()))?;
        text.push(b'\n');
        let failed = |e| Error::write(&self.path, "write", e);
        self.file.write_all(&text).and_then(|()| self.file.sync_all()).map_err(failed)?;
        self.stages.insert(label.to_owned(), stage);
        Ok(())
    }
}

/// Removes what a plan names. `source` is the repository as it is now, `journal` the file that says how far an earlier
/// run came.
///
/// # Errors
///
/// A refusal when the repository is no longer what the plan was made from; an error when something cannot be removed:
/// run it again then.
pub fn apply(
    plan: &PrunePlan,
    source: &std::sync::Arc<dyn Source>,
    remover: &dyn Remover,
    journal: &Path,
    cx: &Context,
) -> Result<Done> {
    check_plan(plan, source.as_ref())?;
    let mut journal = Journal::open(journal, plan)?;
    // Everything is looked at before anything is removed.
    let mut there = Vec::new();
    for removal in &plan.remove {
        there.push(check(removal, source.as_ref(), journal.stages.get(&removal.label).copied(), cx)?);
    }
    let mut done = Done::default();
    for (removal, there) in plan.remove.iter().zip(there) {
        if journal.stages.get(&removal.label) == Some(&Stage::Gone) {
            done.before = done.before.saturating_add(1);
            continue;
        }
        cx.cancelled()?;
        journal.write(&removal.label, Stage::Begun)?;
        remove(removal, &there, remover, &mut done)?;
        journal.write(&removal.label, Stage::Gone)?;
        done.snapshots = done.snapshots.saturating_add(1);
    }
    Ok(done)
}

fn changed(what: String) -> Error {
    Error::refuse(Reason::InputChanged, format!("{what}; make a new plan"))
}

fn check_plan(plan: &PrunePlan, source: &dyn Source) -> Result<()> {
    if plan.schema != SCHEMA || plan.engine != "starrocks" {
        return Err(Error::Usage(format!("this is no plan of prune: its schema is {:?}", plan.schema)));
    }
    let here = super::location(source);
    if plan.location != here {
        return Err(changed(format!("the plan is for {}, this is {here}", plan.location)));
    }
    Ok(())
}

/// Compares a snapshot with the plan; gives the names that are there. Once its removal has begun, files may be missing.
fn check(removal: &Removal, source: &dyn Source, stage: Option<Stage>, cx: &Context) -> Result<BTreeSet<String>> {
    let last = removal.directory.rsplit('/').next().unwrap_or_default();
    if names::label(last) != Some(removal.label.as_str()) {
        return Err(Error::Usage(format!("the plan is damaged: {} is not the place of a snapshot", removal.directory)));
    }
    if too_young(removal.backup_time_ms, cx) {
        let message = format!("snapshot {:?} is not removed: it is younger than 24 hours", removal.label);
        return Err(Error::refuse(Reason::Unsafe, message));
    }
    let planned: BTreeMap<&str, &Victim> = removal.files().map(|v| (v.name.as_str(), v)).collect();
    let mut there = BTreeSet::new();
    for entry in source.list(&removal.directory, Depth::All) {
        let entry: Entry = entry?;
        if entry.is_dir() {
            continue;
        }
        match planned.get(entry.name.as_str()) {
            None => return Err(changed(format!("{} is not in the plan", entry.name))),
            Some(victim) if !victim.is(&entry) => return Err(changed(format!("{} has changed", entry.name))),
            Some(_) => drop(there.insert(entry.name)),
        }
    }
    if stage.is_none() && there.len() < planned.len() {
        let gone = planned.keys().find(|n| !there.contains(**n)).copied().unwrap_or_default();
        return Err(changed(format!("{gone} is gone")));
    }
    Ok(there)
}

fn remove(removal: &Removal, there: &BTreeSet<String>, remover: &dyn Remover, done: &mut Done) -> Result<()> {
    for group in [&removal.descriptions, &removal.definitions, &removal.content] {
        let mut directories: BTreeSet<String> = BTreeSet::new();
        for victim in group.iter().filter(|v| there.contains(&v.name)) {
            if remover.remove(&victim.name)? {
                done.files = done.files.saturating_add(1);
                done.bytes = done.bytes.saturating_add(victim.size);
            }
            let above = victim.name.rsplit_once('/').map_or("", |(above, _)| above);
            directories.insert(above.to_owned());
        }
        let directories: Vec<String> = directories.into_iter().collect();
        // The next group is not begun before this one is gone for good.
        remover.settle(&directories)?;
    }
    let mut all: BTreeSet<&str> = removal.files().filter_map(|v| v.name.rsplit_once('/').map(|(a, _)| a)).collect();
    all.insert(&removal.directory);
    for directory in all.iter().rev() {
        remover.tidy(directory, &removal.directory);
    }
    Ok(())
}
