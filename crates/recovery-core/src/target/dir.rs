//! A new directory on this machine.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::{
    Begun, Done, Fs, FsFile, JOURNAL_NAME, OWN_DIR, Output, PLAN_NAME, RECEIPT_NAME, RealFs, SUMS_NAME, Target,
};
use crate::error::{Error, Reason, Result};
use crate::names;
use crate::plan::Plan;
use crate::receipt::{How, Placed, Receipt};

/// How many finished steps may be forgotten by a power cut; they are then done again.
const JOURNAL_BATCH: usize = 64;

/// Stages beside (or, in a mount point, inside) a directory that does not exist yet or is empty.
#[derive(Debug)]
pub struct DirTarget {
    path: PathBuf,
    fs: Arc<dyn Fs>,
    in_place: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    journal: Option<Box<dyn FsFile>>,
    unsynced: usize,
    directories: BTreeSet<PathBuf>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("unsynced", &self.unsynced).finish_non_exhaustive()
    }
}

impl DirTarget {
    /// A target at `path`.
    ///
    /// # Errors
    ///
    /// When the path has no parent directory, or names no directory.
    pub fn new(path: impl AsRef<Path>) -> Result<Self> {
        Self::with(path, Arc::new(RealFs::default()))
    }

    /// A target at `path` whose changes go through `fs`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with(path: impl AsRef<Path>, fs: Arc<dyn Fs>) -> Result<Self> {
        let path =
            std::path::absolute(path.as_ref()).map_err(|e| Error::write(path.as_ref().display(), "resolve", e))?;
        let parent = path.parent().filter(|_| path.file_name().is_some());
        let parent = parent.ok_or_else(|| Error::Usage(format!("{}: not the name of a directory", path.display())))?;
        let above = std::fs::metadata(parent).map_err(|e| Error::write(parent.display(), "open", e))?;
        let in_place = match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => meta.dev() != above.dev(),
            Ok(_) => {
                let message = format!("{}: exists and is not a directory; name a new one", path.display());
                return Err(Error::refuse(Reason::TargetNotEmpty, message));
            }
            Err(_) => false,
        };
        Ok(Self { path, fs, in_place, state: Mutex::default() })
    }

    /// Where the result will be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the result is built.
    #[must_use]
    pub fn staging(&self) -> PathBuf {
        if self.in_place {
            return self.path.join(OWN_DIR).join("part");
        }
        let mut name = std::ffi::OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(".recover-part");
        self.path.with_file_name(name)
    }

    fn own(&self, name: &str) -> PathBuf {
        if self.in_place { self.path.join(OWN_DIR).join(name) } else { self.staging().join(OWN_DIR).join(name) }
    }

    fn finished(&self, name: &str) -> PathBuf {
        self.path.join(OWN_DIR).join(name)
    }

    fn staged(&self, to: &str) -> Result<PathBuf> {
        Ok(self.staging().join(names::relative_path(to)?))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a directory and those above it, down from the staging area.
    fn make_dirs(&self, dir: &Path, mode: Option<u32>) -> Result<()> {
        let staging = self.staging();
        let mut state = self.state();
        if state.directories.contains(dir) {
            return Ok(());
        }
        let below = dir.strip_prefix(&staging).unwrap_or(Path::new(""));
        let mut at = staging;
        for part in below.components() {
            state.directories.insert(at.clone());
            at.push(part);
            if at.symlink_metadata().is_ok_and(|m| m.is_dir()) {
                continue;
            }
            let mode = mode.filter(|_| at == dir);
            self.fs.mkdir(&at, mode).map_err(|e| Error::write(at.display(), "make directory", e))?;
        }
        state.directories.insert(at);
        Ok(())
    }

    /// Makes room for a file: its directory, and no leftover of an earlier run in its place.
    fn clear(&self, to: &str) -> Result<PathBuf> {
        let path = self.staged(to)?;
        if let Some(dir) = path.parent() {
            self.make_dirs(dir, None)?;
        }
        if path.symlink_metadata().is_ok() {
            self.fs.remove(&path).map_err(|e| Error::write(path.display(), "remove leftover", e))?;
        }
        Ok(path)
    }

    fn write_own(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.own(name);
        let part = self.own(&format!("{name}.part"));
        let wrap = |action| move |e| Error::write(name, action, e);
        if part.symlink_metadata().is_ok() {
            self.fs.remove(&part).map_err(wrap("remove leftover"))?;
        }
        let mut file = self.fs.create(&part, None).map_err(wrap("create"))?;
        file.write_all(bytes).and_then(|()| file.sync()).map_err(wrap("write"))?;
        self.fs.rename(&part, &path).map_err(wrap("rename"))?;
        let dir = path.parent().unwrap_or(&self.path);
        self.fs.sync_dir(dir).map_err(wrap("sync directory"))
    }

    /// Refuses a place that holds anything.
    ///
    /// # Errors
    ///
    /// A refusal, or when the place cannot be listed.
    pub fn check_empty(&self) -> Result<()> {
        let mut entries = match std::fs::read_dir(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| Error::write(self.path.display(), "list", e))?,
        };
        // A fresh file system holds lost+found; our own directory is a leftover of a run that never got to its plan.
        let ours = |name: &std::ffi::OsStr| self.in_place && (name == "lost+found" || name == OWN_DIR);
        if entries.all(|e| e.is_ok_and(|e| ours(&e.file_name()))) {
            return Ok(());
        }
        let message = format!("{}: not empty; name a new directory, nothing is ever overwritten", self.path.display());
        Err(Error::refuse(Reason::TargetNotEmpty, message))
    }

    /// Tries with one file what the plan means to do with many.
    fn can_link(&self, sample: &Path) -> bool {
        let trial = self.own("trial");
        // A run that was cut off here may have left it.
        let _ = self.fs.remove(&trial);
        let could = self.fs.link(sample, &trial).is_ok() || self.fs.clone_file(sample, &trial, None).is_ok();
        could && self.fs.remove(&trial).is_ok()
    }

    fn check_space(&self, plan: &Plan, sample: Option<&Path>) -> Result<()> {
        let parent = self.path.parent().unwrap_or(&self.path);
        let place = if self.in_place { &self.path } else { parent };
        let Ok(stat) = rustix::fs::statvfs(place) else { return Ok(()) };
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let linked = sample.is_some_and(|s| self.can_link(s));
        let copies = if linked { 0 } else { plan.cost.link };
        let needed = plan.cost.free_needed.saturating_add(copies);
        if free < needed {
            let what = format!("{}: free space in bytes", place.display());
            return Err(Error::Limit { what, needed, limit: free });
        }
        Ok(())
    }

    fn start(&self, plan: &Plan, sample: Option<&Path>) -> Result<()> {
        let mut dirs = vec![self.staging(), self.staging().join(OWN_DIR)];
        if self.in_place {
            dirs = vec![self.path.join(OWN_DIR), self.staging()];
        }
        for dir in &dirs {
            if !dir.is_dir() {
                self.fs.mkdir(dir, None).map_err(|e| Error::write(dir.display(), "make directory", e))?;
            }
        }
        if let Err(e) = self.check_space(plan, sample) {
            for dir in dirs.iter().rev() {
                // Nothing is in them yet.
                let _ = self.fs.rmdir(dir);
            }
            return Err(e);
        }
        let text = serde_json::to_vec(plan).map_err(|e| Error::Internal(format!("plan: {e}")))?;
        self.write_own(PLAN_NAME, &text)
    }

    /// The steps that an earlier run finished, as far as their files are really there.
    fn replay_journal(&self) -> Vec<Done> {
        let text = std::fs::read(self.own(JOURNAL_NAME)).unwrap_or_default();
        let lines = text.split_inclusive(|b| *b == b'\n').filter(|l| l.ends_with(b"\n"));
        let done = lines.filter_map(|l| serde_json::from_slice::<Done>(l).ok());
        let there = |d: &Done| {
            let path = self.staged(&d.placed.path).ok()?;
            let meta = path.symlink_metadata().ok()?;
            (meta.is_file() && meta.len() == d.placed.size).then_some(())
        };
        done.filter(|d| there(d).is_some()).collect()
    }

    fn open_journal(&self) -> Result<()> {
        let path = self.own(JOURNAL_NAME);
        // A torn last line must not swallow the next one.
        let torn = std::fs::read(&path).is_ok_and(|t| !t.is_empty() && !t.ends_with(b"\n"));
        let mut file = self.fs.append(&path).map_err(|e| Error::write(JOURNAL_NAME, "open", e))?;
        if torn {
            file.write_all(b"\n").map_err(|e| Error::write(JOURNAL_NAME, "write", e))?;
        }
        self.state().journal = Some(file);
        Ok(())
    }

    /// Syncs every directory of the result, also those that only an earlier, cut-off run has written to.
    fn sync_directories(&self, receipt: &Receipt) -> Result<()> {
        let staging = self.staging();
        let mut dirs = self.state().directories.clone();
        for file in &receipt.files {
            let below = Path::new(&file.path).ancestors().skip(1);
            dirs.extend(below.map(|d| staging.join(d)));
        }
        dirs.insert(staging);
        // Deepest first: a directory is durable before the entry that leads to it.
        let mut dirs: Vec<PathBuf> = dirs.into_iter().collect();
        dirs.sort_by_key(|d| std::cmp::Reverse(d.components().count()));
        for dir in dirs {
            self.fs.sync_dir(&dir).map_err(|e| Error::write(dir.display(), "sync directory", e))?;
        }
        Ok(())
    }

    fn commit_beside(&self) -> Result<()> {
        let staging = self.staging();
        self.fs.rename(&staging, &self.path).map_err(|e| Error::write(self.path.display(), "rename into place", e))?;
        let parent = self.path.parent().unwrap_or(&self.path);
        self.fs.sync_dir(parent).map_err(|e| Error::write(parent.display(), "sync directory", e))
    }

    /// Moves the staged entries into the mount point; an entry file, and the directory that holds one, last.
    fn commit_inside(&self, last: &[String]) -> Result<()> {
        let staging = self.staging();
        let wrap = |action| move |e| Error::write(self.path.display(), action, e);
        let entries = std::fs::read_dir(&staging).map_err(wrap("list"))?;
        let mut names: Vec<_> = entries.filter_map(|e| e.ok().map(|e| e.file_name())).collect();
        let is_last = |name: &std::ffi::OsStr| last.iter().any(|l| l.split('/').next().is_some_and(|f| name == f));
        names.sort_by_key(|n| (is_last(n), n.clone()));
        for name in names {
            if is_last(&name) {
                // Everything else is durable in its place before the entry file shows up.
                self.fs.sync_dir(&self.path).map_err(wrap("sync directory"))?;
            }
            self.fs.rename(&staging.join(&name), &self.path.join(&name)).map_err(wrap("move into place"))?;
        }
        self.fs.sync_dir(&self.path).map_err(wrap("sync directory"))?;
        self.fs.rmdir(&staging).map_err(wrap("remove staging directory"))
    }
}

fn last_of(plan: &Plan) -> Vec<String> {
    plan.steps.iter().filter(|s| s.is_last()).map(|s| s.to().to_owned()).collect()
}

struct Hashing<'a> {
    file: &'a mut dyn FsFile,
    hash: Sha256,
    size: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.file.write(buf)?;
        self.hash.update(buf.get(..n).unwrap_or_default());
        self.size = self.size.saturating_add(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Output for Hashing<'_> {
    fn hole(&mut self, n: u64) -> io::Result<()> {
        self.file.hole(n)?;
        self.size = self.size.saturating_add(n);
        let zeros = [0; 65536];
        let mut left = n;
        while left > 0 {
            let part = zeros.get(..usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len())).unwrap_or(&zeros);
            self.hash.update(part);
            left = left.saturating_sub(part.len() as u64);
        }
        Ok(())
    }
}

impl Target for DirTarget {
    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn found_plan(&self) -> Result<Option<Plan>> {
        for path in [self.finished(PLAN_NAME), self.own(PLAN_NAME)] {
            match std::fs::read(&path) {
                Ok(text) => return Ok(serde_json::from_slice(&text).ok()),
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(e) => return Err(Error::write(path.display(), "read", e)),
            }
        }
        Ok(None)
    }

    fn begin(&self, plan: &Plan, sample: Option<&Path>) -> Result<Begun> {
        let refuse = |message: String| Err(Error::refuse(Reason::TargetNotEmpty, message));
        if let Some(found) = self.found_plan()? {
            if found.digest()? != plan.digest()? {
                return refuse(format!(
                    "{}: holds the work of another plan; finish that one, or name another directory",
                    self.path.display()
                ));
            }
            if !self.staging().exists() {
                let text = std::fs::read(self.finished(RECEIPT_NAME));
                let text = text.map_err(|e| Error::write(self.path.display(), "read receipt", e))?;
                let receipt = serde_json::from_slice(&text).map_err(|e| Error::Internal(format!("receipt: {e}")))?;
                return Ok(Begun::Complete(Box::new(receipt)));
            }
            if self.in_place && self.own(RECEIPT_NAME).is_file() {
                // The earlier run was cut off while it moved the finished entries in.
                self.commit_inside(&last_of(plan))?;
                return self.begin(plan, sample);
            }
            let done = self.replay_journal();
            self.open_journal()?;
            return Ok(Begun::Resumed(done));
        }
        self.check_empty()?;
        self.start(plan, sample)?;
        self.open_journal()?;
        Ok(Begun::Fresh)
    }

    fn mkdir(&self, to: &str, mode: Option<u32>) -> Result<()> {
        let path = self.staged(to)?;
        self.make_dirs(&path, mode)
    }

    fn place(&self, from: &Path, to: &str, may_link: bool, mode: Option<u32>) -> Result<Option<How>> {
        let path = self.clear(to)?;
        if may_link && self.fs.link(from, &path).is_ok() {
            return Ok(Some(How::Linked));
        }
        Ok(self.fs.clone_file(from, &path, mode).is_ok().then_some(How::Cloned))
    }

    fn create(
        &self,
        to: &str,
        mode: Option<u32>,
        fill: &mut dyn FnMut(&mut dyn Output) -> Result<()>,
    ) -> Result<Placed> {
        let path = self.clear(to)?;
        let wrap = |action| move |e| Error::write(names::terminal(to), action, e);
        let mut file = self.fs.create(&path, mode).map_err(wrap("create"))?;
        let mut out = Hashing { file: file.as_mut(), hash: Sha256::new(), size: 0 };
        fill(&mut out)?;
        let (size, sum) = (out.size, crate::hex(&out.hash.finalize()));
        file.sync().map_err(wrap("make durable"))?;
        Ok(Placed { path: to.to_owned(), size, how: How::Written, sha256: Some(sum) })
    }

    fn done(&self, done: &Done) -> Result<()> {
        let mut line = serde_json::to_vec(done).map_err(|e| Error::Internal(format!("journal: {e}")))?;
        line.push(b'\n');
        let mut state = self.state();
        state.unsynced = state.unsynced.saturating_add(1);
        let sync = state.unsynced >= JOURNAL_BATCH;
        let Some(journal) = state.journal.as_mut() else {
            return Err(Error::Internal("a step was done before the target was begun".to_owned()));
        };
        let wrap = |e| Error::write(JOURNAL_NAME, "write", e);
        journal.write_all(&line).map_err(wrap)?;
        if sync {
            journal.sync().map_err(wrap)?;
            state.unsynced = 0;
        }
        Ok(())
    }

    fn commit(&self, receipt: &Receipt, last: &[String]) -> Result<()> {
        if let Some(mut journal) = self.state().journal.take() {
            journal.sync().map_err(|e| Error::write(JOURNAL_NAME, "sync", e))?;
        }
        self.sync_directories(receipt)?;
        let text = serde_json::to_vec_pretty(receipt).map_err(|e| Error::Internal(format!("receipt: {e}")))?;
        self.write_own(SUMS_NAME, receipt.sums().as_bytes())?;
        self.write_own(RECEIPT_NAME, &text)?;
        if self.in_place { self.commit_inside(last) } else { self.commit_beside() }
    }
}
