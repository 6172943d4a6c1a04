//! Crash at every operation: what a kill or a power cut leaves of `apply`, and whether the same plan then finishes.
//!
//! [`RecordingFs`] performs every change and writes it down. [`sweep`] replays every prefix of the record into a fresh
//! directory in three ways: as a killed process leaves it (everything that was done is there), as a power cut at its
//! worst leaves it (only what was made durable is there), and with the last write torn in half.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use recovery_core::{Context, DirTarget, Error, Fs, FsFile, Output, Plan, RealFs, Recover, Sources};

/// One change to the file system, paths below the recording's base.
#[derive(Clone, Debug)]
enum Op {
    Mkdir(PathBuf),
    Create(PathBuf),
    Write(PathBuf, Vec<u8>),
    Sync(PathBuf),
    Link(PathBuf, PathBuf),
    Rename(PathBuf, PathBuf),
    SyncDir(PathBuf),
    Remove(PathBuf),
    Rmdir(PathBuf),
}

/// Performs changes below a base directory and records them.
#[derive(Clone, Debug)]
pub struct RecordingFs {
    base: PathBuf,
    ops: Arc<Mutex<Vec<Op>>>,
}

impl RecordingFs {
    /// Records changes below `base`.
    #[must_use]
    pub fn new(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into(), ops: Arc::default() }
    }

    fn note(&self, op: Op) {
        self.ops.lock().unwrap_or_else(PoisonError::into_inner).push(op);
    }

    fn below(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.base).unwrap_or(path).to_owned()
    }
}

struct RecordedFile {
    inner: Box<dyn FsFile>,
    path: PathBuf,
    fs: RecordingFs,
}

impl Write for RecordedFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.fs.note(Op::Write(self.path.clone(), buf.get(..n).unwrap_or_default().to_vec()));
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Output for RecordedFile {
    fn hole(&mut self, n: u64) -> io::Result<()> {
        self.inner.hole(n)?;
        self.fs.note(Op::Write(self.path.clone(), vec![0; usize::try_from(n).map_err(io::Error::other)?]));
        Ok(())
    }
}

impl FsFile for RecordedFile {
    fn sync(&mut self) -> io::Result<()> {
        self.inner.sync()?;
        self.fs.note(Op::Sync(self.path.clone()));
        Ok(())
    }
}

impl Fs for RecordingFs {
    fn mkdir(&self, path: &Path, mode: Option<u32>) -> io::Result<()> {
        RealFs::default().mkdir(path, mode)?;
        self.note(Op::Mkdir(self.below(path)));
        Ok(())
    }

    fn create(&self, path: &Path, mode: Option<u32>) -> io::Result<Box<dyn FsFile>> {
        let inner = RealFs::default().create(path, mode)?;
        self.note(Op::Create(self.below(path)));
        Ok(Box::new(RecordedFile { inner, path: self.below(path), fs: self.clone() }))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let new = !path.exists();
        let inner = RealFs::default().append(path)?;
        if new {
            self.note(Op::Create(self.below(path)));
        }
        Ok(Box::new(RecordedFile { inner, path: self.below(path), fs: self.clone() }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs::default().link(from, to)?;
        self.note(Op::Link(from.to_owned(), self.below(to)));
        Ok(())
    }

    fn clone_file(&self, _: &Path, _: &Path, _: Option<u32>) -> io::Result<()> {
        // Copies are recorded byte by byte; a clone would hide them.
        Err(io::ErrorKind::Unsupported.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs::default().rename(from, to)?;
        self.note(Op::Rename(self.below(from), self.below(to)));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.note(Op::SyncDir(self.below(path)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFs::default().remove(path)?;
        self.note(Op::Remove(self.below(path)));
        Ok(())
    }

    fn rmdir(&self, path: &Path) -> io::Result<()> {
        RealFs::default().rmdir(path)?;
        self.note(Op::Rmdir(self.below(path)));
        Ok(())
    }
}

/// A file or directory of the modelled disk.
#[derive(Clone, Debug)]
enum Node {
    Dir,
    File { data: Vec<u8>, durable: usize },
    Linked(PathBuf),
}

/// Entries by the directory they stand in and their name.
type Entries = BTreeMap<(usize, OsString), usize>;

/// A model of a disk: what a running system sees, and what would be there after a power cut. Node 0 is the base.
#[derive(Clone, Debug)]
struct Disk {
    nodes: Vec<Node>,
    seen: Entries,
    kept: Entries,
}

impl Disk {
    fn new() -> Self {
        Self { nodes: vec![Node::Dir], seen: Entries::new(), kept: Entries::new() }
    }

    fn find(&self, path: &Path) -> Option<usize> {
        path.iter().try_fold(0, |dir, name| self.seen.get(&(dir, name.to_owned())).copied())
    }

    fn key(&self, path: &Path) -> Option<(usize, OsString)> {
        Some((self.find(path.parent()?)?, path.file_name()?.to_owned()))
    }

    fn add(&mut self, path: &Path, node: Node) {
        if let Some(key) = self.key(path) {
            self.nodes.push(node);
            self.seen.insert(key, self.nodes.len().saturating_sub(1));
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Mkdir(p) => self.add(p, Node::Dir),
            Op::Create(p) => self.add(p, Node::File { data: Vec::new(), durable: 0 }),
            Op::Link(from, p) => self.add(p, Node::Linked(from.clone())),
            Op::Write(p, bytes) => {
                if let Some(Node::File { data, .. }) = self.node(p) {
                    data.extend_from_slice(bytes);
                }
            }
            Op::Sync(p) => {
                if let Some(Node::File { data, durable }) = self.node(p) {
                    *durable = data.len();
                }
            }
            Op::Remove(p) | Op::Rmdir(p) => drop(self.key(p).and_then(|k| self.seen.remove(&k))),
            Op::Rename(from, to) => {
                let node = self.key(from).and_then(|k| self.seen.remove(&k));
                if let (Some(key), Some(node)) = (self.key(to), node) {
                    self.seen.insert(key, node);
                }
            }
            Op::SyncDir(dir) => self.sync_dir(dir),
        }
    }

    fn node(&mut self, path: &Path) -> Option<&mut Node> {
        self.find(path).and_then(|i| self.nodes.get_mut(i))
    }

    /// A directory's entries become durable: those that are there, and the absence of those that are not.
    fn sync_dir(&mut self, dir: &Path) {
        let Some(dir) = self.find(dir) else { return };
        self.kept.retain(|(d, _), _| *d != dir);
        self.kept.extend(self.seen.iter().filter(|((d, _), _)| *d == dir).map(|(k, i)| (k.clone(), *i)));
    }

    /// Writes the disk out below `base`; `torn` halves the data of the file written last.
    fn write_out(&self, base: &Path, power_cut: bool, torn: Option<&Path>) -> io::Result<()> {
        let torn = torn.and_then(|t| self.find(t));
        self.write_dir(0, base, power_cut, torn)
    }

    fn write_dir(&self, dir: usize, at: &Path, power_cut: bool, torn: Option<usize>) -> io::Result<()> {
        let entries = if power_cut { &self.kept } else { &self.seen };
        for ((_, name), index) in entries.iter().filter(|((d, _), _)| *d == dir) {
            let to = at.join(name);
            match self.nodes.get(*index) {
                Some(Node::Dir) => {
                    std::fs::create_dir(&to)?;
                    self.write_dir(*index, &to, power_cut, torn)?;
                }
                Some(Node::Linked(from)) => std::fs::hard_link(from, &to)?,
                Some(Node::File { data, durable }) => {
                    let whole = if power_cut { *durable } else { data.len() };
                    let len = if torn == Some(*index) { whole / 2 } else { whole };
                    std::fs::write(&to, data.get(..len).unwrap_or_default())?;
                }
                None => {}
            }
        }
        Ok(())
    }
}

/// Every file below a directory with its bytes, the tool's own directory left out.
fn tree(base: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    fn walk(at: &Path, prefix: &str, into: &mut BTreeMap<String, Option<Vec<u8>>>) {
        for entry in std::fs::read_dir(at).into_iter().flatten().filter_map(Result::ok) {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if name == recovery_core::OWN_DIR {
                continue;
            }
            if entry.path().is_dir() {
                walk(&entry.path(), &format!("{name}/"), into);
                into.insert(name, None);
            } else {
                into.insert(name, std::fs::read(entry.path()).ok());
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(base, "", &mut files);
    files
}

/// Applies the plan once while recording, then replays every prefix and applies the plan again on what is left.
///
/// At most `most` prefixes are tried, spread over the whole record; all of them when there are fewer.
///
/// # Panics
///
/// When a prefix shows a result that is not whole, or the second run does not finish with the same result.
pub fn sweep(engine: &dyn Recover, sources: &Sources, plan: &Plan, most: usize) {
    let place = tempfile::tempdir().expect("temporary directory");
    let cx = Context::with_threads(1);
    let fs = RecordingFs::new(place.path());
    let target = DirTarget::with(place.path().join("result"), Arc::new(fs.clone())).expect("target");
    engine.apply(sources, plan, &target, &cx).expect("the undisturbed run");
    let whole = tree(&place.path().join("result"));
    assert!(!whole.is_empty(), "the result is empty");
    let ops = fs.ops.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let every = ops.len().div_ceil(most.max(1)).max(1);
    let mut disk = Disk::new();
    let mut tried = 0u64;
    for (i, op) in ops.iter().enumerate() {
        disk.apply(op);
        if i % every != 0 && i.saturating_add(1) != ops.len() {
            continue;
        }
        let last = if let Op::Write(path, _) = op { Some(path.as_path()) } else { None };
        for (power_cut, torn) in [(false, None), (true, None), (false, last)] {
            let after = format!("after operation {i} of {} ({op:.60?}), power cut: {power_cut}", ops.len());
            check(engine, sources, plan, &disk, (power_cut, torn), &whole, &cx)
                .unwrap_or_else(|e| panic!("{after}: {e}"));
            tried = tried.saturating_add(1);
        }
    }
    println!("{} crash: {} operations, {tried} states tried", engine.engine(), ops.len());
}

fn check(
    engine: &dyn Recover,
    sources: &Sources,
    plan: &Plan,
    disk: &Disk,
    (power_cut, torn): (bool, Option<&Path>),
    whole: &BTreeMap<String, Option<Vec<u8>>>,
    cx: &Context,
) -> Result<(), String> {
    let place = tempfile::tempdir().map_err(|e| e.to_string())?;
    disk.write_out(place.path(), power_cut, torn).map_err(|e| e.to_string())?;
    let result = place.path().join("result");
    if result.exists() && tree(&result) != *whole {
        return Err("a result is visible and not whole".to_owned());
    }
    let again = DirTarget::new(&result).and_then(|target| engine.apply(sources, plan, &target, cx));
    match again {
        Ok(_) if tree(&result) == *whole => Ok(()),
        Ok(_) => Err("the second run gives another result".to_owned()),
        Err(Error::Refusal(r)) => Err(format!("the second run refuses: {}", r.message)),
        Err(e) => Err(format!("the second run fails: {e}")),
    }
}
