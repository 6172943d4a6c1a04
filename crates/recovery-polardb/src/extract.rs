//! Copies files out of a PFS disk: sparse, in parallel, in the order in which they lie on the device, with a
//! manifest of SHA-256 sums, and resumable: the same command goes on where a killed one stopped.

use std::io::Write;
use std::path::PathBuf;

use recovery_core::{
    Begun, Context, DirTarget, Done, Error, Fs, How, Output, Placed, Plan, RealFs, Receipt, Result, Sources, Step,
    Target, WriteStep, apply, names,
};
use serde_json::{Value, json};

use crate::PfsSource;
use crate::format::pfs::{JOURNAL_INO, PAXOS_INO};
use crate::inspect::pfs::ENGINE;
use crate::model::pfs::{Doubt, LOST_AND_FOUND, Node};
use crate::reader::pfs::{Item, Watch, pass};

/// What is extracted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtractOptions {
    /// File or directory inside the image; empty for everything.
    pub path: String,
    /// Also writes files of which a part is damaged or missing, and what has no place in the tree.
    pub salvage: bool,
    /// Directory of the result into which everything goes; empty for the result itself.
    pub below: String,
}

/// A file that was left out, or written with gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoiled {
    /// Path in the image.
    pub path: String,
    /// Why.
    pub why: String,
    /// Its size.
    pub size: u64,
}

/// The decision what to copy.
#[derive(Clone, Debug)]
pub struct Extraction {
    /// What to do.
    pub plan: Plan,
    /// Files left out, or written although they are damaged.
    pub spoiled: Vec<Spoiled>,
}

/// Decides what to copy. `sources` holds the image as source 0.
///
/// # Errors
///
/// When the path is not in the image.
pub fn plan(sources: &Sources, source: &PfsSource, options: &ExtractOptions) -> Result<Extraction> {
    let files = &source.pfs().files;
    let wanted = options.path.trim_matches('/');
    let json = json!({ "extract": wanted, "salvage": options.salvage, "below": options.below });
    let mut this = Planner {
        extraction: Extraction { plan: Plan::new(ENGINE, json, sources), spoiled: Vec::new() },
        salvage: options.salvage,
    };
    if !options.below.is_empty() {
        this.mkdir(&options.below);
    }
    let lost = files.is_lost_and_found(wanted);
    if !lost {
        let node = files.find(wanted.as_bytes()).ok_or_else(|| {
            Error::Usage(format!("/{}: not in {}", names::terminal(wanted), source.pfs().device.name()))
        })?;
        let base = files.path(node.ino);
        if node.directory {
            for (path, node) in files.walk(node.ino) {
                this.take(&path, base_len(&base), node, &options.below);
            }
        } else {
            let parent = base.iter().rposition(|b| *b == b'/').unwrap_or(0);
            this.take(&base, parent, node, &options.below);
        }
    }
    if lost || (options.salvage && wanted.is_empty()) {
        for ino in files.orphans.iter().chain(&files.unreachable) {
            let Some(node) = files.node(*ino) else { continue };
            let path = files.path(*ino);
            this.mkdir(&join(&options.below, LOST_AND_FOUND));
            this.take(&path, 0, node, &options.below);
            for (path, node) in files.walk(*ino) {
                this.take(&path, 0, node, &options.below);
            }
        }
    }
    let mut extraction = this.extraction;
    extraction.plan.steps.sort_by_key(|s| match s {
        Step::Mkdir { .. } => None,
        Step::Write(w) => w.args.get("block").and_then(Value::as_u64).or(Some(u64::MAX)),
        _ => Some(u64::MAX),
    });
    let image = sources.first().map(|s| (0, image_name(s.as_ref())));
    extraction.plan.seal(sources, image.as_slice())?;
    extraction.plan.result = json!({ "left_out_or_damaged": extraction.spoiled.len() });
    Ok(extraction)
}

fn base_len(base: &[u8]) -> usize {
    if base == b"/" { 0 } else { base.len() }
}

/// Name of the only entry of an image's source.
fn image_name(source: &dyn recovery_core::Source) -> String {
    let mut entries = source.list("", recovery_core::Depth::One);
    entries.find_map(std::result::Result::ok).map_or_else(String::new, |e| e.name)
}

fn join(below: &str, path: &str) -> String {
    let path = path.trim_start_matches('/');
    if below.is_empty() { path.to_owned() } else { format!("{below}/{path}") }
}

struct Planner {
    extraction: Extraction,
    salvage: bool,
}

impl Planner {
    fn mkdir(&mut self, to: &str) {
        let step = Step::Mkdir { to: to.to_owned(), mode: Some(0o700) };
        if !self.extraction.plan.steps.contains(&step) {
            self.extraction.plan.steps.push(step);
        }
    }

    /// Adds one file or directory; `cut` bytes of its path belong to what was asked for.
    fn take(&mut self, path: &[u8], cut: usize, node: &Node, below: &str) {
        if matches!(node.ino, PAXOS_INO | JOURNAL_INO) {
            return;
        }
        let shown = String::from_utf8_lossy(path).into_owned();
        let relative = String::from_utf8_lossy(path.get(cut..).unwrap_or_default()).into_owned();
        let to = join(below, &safe(&relative, node.ino));
        if node.directory {
            self.mkdir(&to);
            return;
        }
        if !node.doubts.is_empty() {
            let why: Vec<&str> = node.doubts.iter().map(|d| d.as_str()).collect();
            self.extraction.spoiled.push(Spoiled { path: shown, why: why.join(", "), size: node.size });
            if !self.salvage {
                return;
            }
        }
        let block = node.extents.first().map(|e| e.block);
        let args = json!({ "ino": node.ino, "block": block, "path": String::from_utf8_lossy(path) });
        let what = "file".to_owned();
        let step = WriteStep { to, what, size: node.size, args, mode: Some(0o600), last: false };
        self.extraction.plan.steps.push(Step::Write(step));
    }
}

/// A path whose every part can be written: what is not text or not allowed is escaped.
fn safe(path: &str, ino: u64) -> String {
    let parts = path.split('/').filter(|p| !p.is_empty()).enumerate().map(|(depth, p)| {
        let own = depth == 0 && p == recovery_core::OWN_DIR;
        let odd = p.contains('\u{fffd}');
        match names::component(p) {
            Ok(p) if !own && !odd => p.to_owned(),
            _ if odd => format!("{}~ino-{ino}", names::escaped_component(p)),
            _ => names::escaped_component(p),
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Writes the bytes of one step that [`plan`] made, past the eyes of `watch`.
///
/// # Errors
///
/// When the target cannot be written, or, unless `salvage`, a part of the file cannot be read.
pub fn make(
    source: &PfsSource,
    step: &WriteStep,
    watch: Option<&dyn Watch>,
    salvage: bool,
    out: &mut dyn Output,
    cx: &Context,
) -> Result<Vec<std::ops::Range<u64>>> {
    let ino = step.args.get("ino").and_then(Value::as_u64);
    let node = ino.and_then(|i| source.pfs().files.node(i));
    let node = node.ok_or_else(|| Error::Internal(format!("{}: the plan names no inode of this image", step.to)))?;
    let path = step.args.get("path").and_then(Value::as_str).unwrap_or(&step.to);
    let file = source.file(node, path);
    let watch = watch.and_then(|w| w.open(path, node.size));
    let failed = |e| Error::write(&step.to, "write", e);
    let mut sink = |item: Item<'_>| match item {
        Item::Data(bytes) => write_sparse(out, bytes).map_err(failed),
        Item::Hole(n) => out.hole(n).map_err(failed),
        Item::Missing(n) if salvage => out.hole(n).map_err(failed),
        Item::Missing(n) => Err(Error::Damaged(format!(
            "{path}: {n} bytes cannot be read; --salvage writes the rest of the file and lists what is missing"
        ))),
    };
    Ok(pass(&file, watch, &mut sink, cx)?.missing)
}

/// Pages of zeros become holes.
fn write_sparse(out: &mut dyn Output, bytes: &[u8]) -> std::io::Result<()> {
    const RUN: usize = 64 * 1024;
    let is_zero = |b: &[u8]| {
        let (parts, rest) = b.as_chunks::<64>();
        parts.iter().all(|p| *p == [0; 64]) && rest.iter().all(|x| *x == 0)
    };
    let mut rest = bytes;
    while !rest.is_empty() {
        let zero = |r: &[u8]| r.len() >= RUN && is_zero(r.get(..RUN).unwrap_or_default());
        let mut n = 0usize;
        let begins_zero = zero(rest);
        while let Some(next) = rest.get(n..).filter(|r| !r.is_empty() && zero(r) == begins_zero) {
            n = n.saturating_add(RUN.min(next.len()));
        }
        let (part, tail) = rest.split_at(n.min(rest.len()));
        if begins_zero {
            out.hole(part.len() as u64)?;
        } else {
            out.write_all(part)?;
        }
        rest = tail;
    }
    Ok(())
}

/// What was extracted.
#[derive(Clone, Debug)]
pub struct Extracted {
    /// What was written.
    pub receipt: Receipt,
    /// Files left out, or written with gaps.
    pub spoiled: Vec<Spoiled>,
}

/// Carries out an extraction into a new directory.
///
/// # Errors
///
/// When the target is not new, cannot be written, or (unless salvaging) a file cannot be read.
pub fn run(
    sources: &Sources,
    source: &PfsSource,
    extraction: Extraction,
    target: &dyn Target,
    watch: Option<&dyn Watch>,
    cx: &Context,
) -> Result<Extracted> {
    let Extraction { plan, mut spoiled } = extraction;
    let salvage = plan.options.get("salvage").and_then(Value::as_bool).unwrap_or(false);
    let gaps = std::sync::Mutex::new(Vec::new());
    let make = |step: &WriteStep, out: &mut dyn Output| {
        let missing = make(source, step, watch, salvage, out, cx)?;
        if !missing.is_empty() {
            let bytes = missing.iter().fold(0u64, |n, r| n.saturating_add(r.end.saturating_sub(r.start)));
            let why = format!("{bytes} bytes in {} ranges cannot be read: {missing:?}", missing.len());
            let gap = Spoiled { path: format!("/{}", step.to), why, size: step.size };
            gaps.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(gap);
        }
        Ok(())
    };
    let receipt = apply::run(sources, &plan, target, cx, &make)?;
    let known = |s: &Spoiled| spoiled.iter().any(|k| k.path == s.path && k.why != Doubt::Data.as_str());
    let mut found: Vec<Spoiled> = gaps.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.retain(|s| !known(s));
    spoiled.retain(|s| !found.iter().any(|f| f.path == s.path));
    spoiled.extend(found);
    spoiled.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Extracted { receipt, spoiled })
}

/// A directory target that computes no sums: for the fastest copy.
#[derive(Debug)]
pub struct Unhashed {
    inner: DirTarget,
    staging: PathBuf,
    fs: RealFs,
}

impl Unhashed {
    /// Wraps a target.
    #[must_use]
    pub fn new(inner: DirTarget) -> Self {
        let staging = inner.staging();
        Self { inner, staging, fs: RealFs::default() }
    }
}

struct Counting<'a> {
    out: &'a mut dyn Output,
    size: u64,
}

impl Write for Counting<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        let n = self.out.write(buf)?;
        self.size = self.size.saturating_add(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

impl Output for Counting<'_> {
    fn hole(&mut self, n: u64) -> std::io::Result<()> {
        self.size = self.size.saturating_add(n);
        self.out.hole(n)
    }
}

impl Target for Unhashed {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn found_plan(&self) -> Result<Option<Plan>> {
        self.inner.found_plan()
    }

    fn begin(&self, plan: &Plan, sample: Option<&std::path::Path>) -> Result<Begun> {
        self.inner.begin(plan, sample)
    }

    fn mkdir(&self, to: &str, mode: Option<u32>) -> Result<()> {
        self.inner.mkdir(to, mode)
    }

    fn place(&self, from: &std::path::Path, to: &str, may_link: bool, mode: Option<u32>) -> Result<Option<How>> {
        self.inner.place(from, to, may_link, mode)
    }

    fn create(
        &self,
        to: &str,
        mode: Option<u32>,
        fill: &mut dyn FnMut(&mut dyn Output) -> Result<()>,
    ) -> Result<Placed> {
        let path = self.staging.join(names::relative_path(to)?);
        let wrap = |action| move |e| Error::write(names::terminal(to), action, e);
        if let Some((dir, _)) = to.rsplit_once('/') {
            self.inner.mkdir(dir, None)?;
        }
        if path.symlink_metadata().is_ok() {
            self.fs.remove(&path).map_err(wrap("remove leftover"))?;
        }
        let mut file = self.fs.create(&path, mode).map_err(wrap("create"))?;
        let size = {
            let mut out = Counting { out: file.as_mut(), size: 0 };
            fill(&mut out)?;
            out.size
        };
        file.sync().map_err(wrap("make durable"))?;
        Ok(Placed { path: to.to_owned(), size, how: How::Written, sha256: None })
    }

    fn done(&self, done: &Done) -> Result<()> {
        self.inner.done(done)
    }

    fn commit(&self, receipt: &Receipt, last: &[String]) -> Result<()> {
        self.inner.commit(receipt, last)
    }
}
