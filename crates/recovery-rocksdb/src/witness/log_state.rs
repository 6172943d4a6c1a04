//! What the info log, replayed in order, says the database looked like.
//!
//! The events tell of every table that was installed, moved and consumed, so their replay gives the same version as the
//! MANIFEST, unless the log begins later than the database or its last lines were not yet written out.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::info_log::{Event, Located, TableCreation};

/// A table as the log knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoggedTable {
    /// Its creation, when the log tells of it.
    pub creation: Option<TableCreation>,
    /// Level it was last seen on.
    pub level: Option<u32>,
    /// Whether it was installed.
    pub installed: bool,
    /// Whether a compaction consumed it, or it was deleted.
    pub consumed: bool,
    /// Sequence number given to it at ingestion.
    pub global_seqno: Option<u64>,
    /// Where the last statement about it stands.
    pub witness: String,
}

impl LoggedTable {
    /// Whether the log says the table is part of the last version.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.installed && !self.consumed
    }
}

/// A blob file as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedBlob {
    /// Records.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
    /// Family.
    pub family: String,
}

/// The state the log gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Whether there was any log at all.
    pub present: bool,
    /// Names by id, with the place that says so; dropped families included.
    pub families: BTreeMap<u32, (String, String)>,
    /// Families dropped.
    pub dropped: BTreeSet<u32>,
    /// Tables by number.
    pub tables: BTreeMap<u64, LoggedTable>,
    /// Blob files by number.
    pub blobs: BTreeMap<u64, LoggedBlob>,
    /// By family name: WALs below hold nothing unflushed.
    pub log_numbers: BTreeMap<String, u64>,
    /// By family name: the largest sequence number that a flush wrote out.
    pub flushed_to: BTreeMap<String, u64>,
    /// Database id.
    pub db_id: Option<String>,
    /// Directories of the tables when it was last opened.
    pub table_dirs: BTreeSet<String>,
    /// Directory of the WALs when it was last opened.
    pub wal_dir: Option<String>,
    /// What each table was made from by a finished compaction.
    pub made_from: BTreeMap<u64, BTreeSet<u64>>,
    open_jobs: BTreeMap<u64, Vec<u64>>,
    compactions: BTreeMap<u64, Vec<(u32, u64)>>,
    memtables: BTreeMap<String, u64>,
    at_flush: BTreeMap<u64, BTreeMap<String, u64>>,
}

impl LogState {
    /// Replays one log file; files must come oldest first.
    pub fn replay(&mut self, object: &str, events: &[Located]) {
        self.present = true;
        for located in events {
            self.event(&format!("{object}:{}", located.line), &located.event);
        }
    }

    fn event(&mut self, at: &str, event: &Event) {
        match event {
            Event::Opened => {
                self.open_jobs.clear();
                self.compactions.clear();
                self.at_flush.clear();
                self.table_dirs.clear();
            }
            Event::TablesIn(dir) => drop(self.table_dirs.insert(dir.trim_end_matches('/').to_owned())),
            Event::WalsIn(dir) => self.wal_dir = Some(dir.trim_end_matches('/').to_owned()),
            Event::DbId(id) => self.db_id = Some(id.clone()),
            Event::Family { name, id, log_number } => {
                self.families.insert(*id, (name.clone(), at.to_owned()));
                self.dropped.remove(id);
                if let Some(n) = log_number {
                    self.raise_log_number(name, *n);
                }
            }
            Event::Dropped { id } => {
                self.dropped.insert(*id);
            }
            Event::Memtable { family, log } => {
                self.memtables.insert(family.clone(), *log);
            }
            Event::Table(creation) => self.created(at, creation),
            Event::Blob { number, count, bytes, family } => {
                let blob = LoggedBlob { count: *count, bytes: *bytes, family: family.clone() };
                self.blobs.insert(*number, blob);
            }
            Event::FlushStarted { job } => drop(self.at_flush.insert(*job, self.memtables.clone())),
            Event::FlushFinished { job } => self.flushed(at, *job),
            Event::RecoveryFinished { job } => {
                for number in self.open_jobs.remove(job).unwrap_or_default() {
                    self.install(at, number, 0);
                }
            }
            Event::CompactionStarted { job, inputs } => drop(self.compactions.insert(*job, inputs.clone())),
            Event::CompactionFinished { job, level, outputs, files_by_level } => {
                if self.aborted(*job, *level, *outputs, files_by_level) {
                    self.compactions.remove(job);
                    self.open_jobs.remove(job);
                } else {
                    self.compacted(at, *job, *level);
                }
            }
            Event::Moved { number, level } => self.install(at, *number, *level),
            Event::Ingested { number, level, sequence } => {
                self.install(at, *number, *level);
                if let Some(table) = self.tables.get_mut(number) {
                    table.global_seqno = Some(*sequence);
                }
            }
            Event::TableDeleted { number } => {
                let table = self.tables.entry(*number).or_default();
                table.consumed = true;
                table.witness = at.to_owned();
            }
        }
    }

    fn created(&mut self, at: &str, creation: &TableCreation) {
        self.open_jobs.entry(creation.job).or_default().push(creation.number);
        let table = self.tables.entry(creation.number).or_default();
        table.creation = Some(creation.clone());
        table.witness = at.to_owned();
    }

    fn install(&mut self, at: &str, number: u64, level: u32) {
        let table = self.tables.entry(number).or_default();
        table.installed = true;
        table.level = Some(level);
        table.witness = at.to_owned();
    }

    fn raise_log_number(&mut self, family: &str, log: u64) {
        let known = self.log_numbers.entry(family.to_owned()).or_default();
        *known = (*known).max(log);
    }

    fn flushed(&mut self, at: &str, job: u64) {
        let memtables = self.at_flush.remove(&job).unwrap_or_default();
        for number in self.open_jobs.remove(&job).unwrap_or_default() {
            self.install(at, number, 0);
            let Some(creation) = self.tables.get(&number).and_then(|t| t.creation.clone()) else { continue };
            if let Some((_, largest)) = creation.seqnos {
                let to = self.flushed_to.entry(creation.family.clone()).or_default();
                *to = (*to).max(largest);
            }
            if let Some(log) = memtables.get(&creation.family) {
                self.raise_log_number(&creation.family, *log);
            }
        }
    }

    /// Whether a compaction ended without being installed: a shutdown or an error writes the same line as success, and
    /// only the number of tables left on the input levels tells them apart. Taking an abandoned compaction for a
    /// finished one would throw its inputs away.
    fn aborted(&self, job: u64, level: u32, outputs: Option<u64>, files_by_level: &[u64]) -> bool {
        let Some(inputs) = self.compactions.get(&job).filter(|i| !i.is_empty()) else { return false };
        let numbers: BTreeSet<u64> = inputs.iter().map(|(_, n)| *n).collect();
        let family = |n: &u64| self.tables.get(n).and_then(|t| t.creation.as_ref()).map(|c| c.family.as_str());
        let ours = numbers.iter().find_map(family);
        let known_on = |level: u32| {
            let live = self.tables.iter().filter(|(n, t)| {
                let here = t.is_live() && t.level == Some(level) && family(n) == ours;
                here && !numbers.contains(n)
            });
            live.count().saturating_add(inputs.iter().filter(|(l, _)| *l == level).count()) as u64
        };
        let now_on = |level: u32| usize::try_from(level).ok().and_then(|l| files_by_level.get(l)).copied();
        let levels: BTreeSet<u32> = inputs.iter().map(|(l, _)| *l).collect();
        let unchanged = |l: &u32| now_on(*l).is_some_and(|now| now >= known_on(*l));
        let exact = |l: &u32| now_on(*l) == Some(known_on(*l));
        let rewrites_its_own_level = levels.len() == 1 && levels.contains(&level);
        match outputs {
            Some(0) => levels.iter().all(unchanged),
            _ => !rewrites_its_own_level && levels.iter().all(exact),
        }
    }

    fn compacted(&mut self, at: &str, job: u64, level: u32) {
        let inputs = self.compactions.remove(&job).unwrap_or_default();
        let numbers: BTreeSet<u64> = inputs.iter().map(|(_, n)| *n).collect();
        for number in numbers.iter().copied() {
            let table = self.tables.entry(number).or_default();
            table.consumed = true;
            table.witness = at.to_owned();
        }
        for number in self.open_jobs.remove(&job).unwrap_or_default() {
            if !numbers.is_empty() {
                self.made_from.insert(number, numbers.clone());
            }
            self.install(at, number, level);
        }
    }

    /// The newest WAL that a memtable was begun with.
    #[must_use]
    pub fn newest_memtable(&self) -> u64 {
        self.memtables.values().copied().max().unwrap_or(0)
    }

    /// The id of a family that is not dropped.
    #[must_use]
    pub fn id_of(&self, name: &str) -> Option<u32> {
        self.families.iter().find(|(id, (n, _))| n == name && !self.dropped.contains(id)).map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn table(number: u64, job: u64) -> Event {
        let seqnos = Some((number, number + 1));
        Event::Table(Box::new(TableCreation {
            number,
            job,
            family: "default".into(),
            seqnos,
            ..TableCreation::default()
        }))
    }

    #[test]
    fn inputs_die_when_the_compaction_is_installed_and_not_before() {
        let mut state = LogState::default();
        let mut say = |events: Vec<Event>| {
            let located: Vec<_> = events.into_iter().map(|event| Located { line: 1, event }).collect();
            state.replay("LOG", &located);
            state.clone()
        };
        let memtable = Event::Memtable { family: "default".into(), log: 8 };
        let s = say(vec![memtable, Event::FlushStarted { job: 2 }, table(9, 2)]);
        assert!(!s.tables.get(&9).unwrap().is_live());
        let s = say(vec![Event::FlushFinished { job: 2 }]);
        assert!(s.tables.get(&9).unwrap().is_live());
        assert_eq!((s.log_numbers.get("default"), s.flushed_to.get("default")), (Some(&8), Some(&10)));
        let s = say(vec![Event::CompactionStarted { job: 3, inputs: vec![(0, 9)] }, table(12, 3)]);
        assert!(s.tables.get(&9).unwrap().is_live() && !s.tables.get(&12).unwrap().is_live());
        let outputs = Some(0);
        let s = say(vec![Event::CompactionFinished { job: 3, level: 6, outputs, files_by_level: vec![1, 0] }]);
        assert!(s.tables.get(&9).unwrap().is_live(), "an abandoned compaction consumes nothing");
        say(vec![Event::CompactionStarted { job: 3, inputs: vec![(0, 9)] }, table(12, 3)]);
        let outputs = Some(1);
        let s = say(vec![Event::CompactionFinished { job: 3, level: 6, outputs, files_by_level: vec![0, 0] }]);
        assert!(!s.tables.get(&9).unwrap().is_live() && s.tables.get(&12).unwrap().is_live());
        assert_eq!(s.tables.get(&12).unwrap().level, Some(6));
    }
}
