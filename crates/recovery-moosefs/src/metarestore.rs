//! `mfsmetarestore`: the flags and lines of the old program, the decisions of this library.
//!
//! `-a [-d DIR]` takes the base and logs of a directory, `-m META -o OUT LOG...` those that are named, `-m META [LOG...]`
//! prints the state as text. `-f` takes logs that the old program would not look at (here nothing is left out anyway),
//! `-b` stores the state before an error, `-i` passes over damage in the base, `-x` tells each log and each change,
//! `-xx` also the version each change meets. Exit codes are those of the old program: 0, or 1 and nothing stored.
//!
//! Everything goes to standard output; the old program writes the lines about loading to standard error.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recovery_core::{Check, Context, DirSource, Error, FileBlob, MemBlob, Reason, Result, Sources, names};

use crate::case::{Case, decide, job};
use crate::changelog::merge::{Batch, Input, Merger};
use crate::dialect::Dialect;
use crate::metadump::{DumpOptions, dump};
use crate::model::Model;
use crate::model::store::StoreOptions;
use crate::run::{Built, Stop, Why, build};
use crate::survey::{CrcState, Survey, survey};

/// The command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    pub(crate) auto: bool,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) meta: Option<PathBuf>,
    pub(crate) out: Option<PathBuf>,
    pub(crate) logs: Vec<PathBuf>,
    pub(crate) best_effort: bool,
    pub(crate) ignore: bool,
    pub(crate) verbose: u8,
    pub(crate) dialect: Option<Dialect>,
}

const USAGE: &str = "metarestore -a [-d DIR]  or  -m META -o OUT LOG...  or  -m META [LOG...]";

pub(crate) fn run(flags: &Flags, out: &mut dyn Write, cx: &Context) -> Result<u8> {
    let mixed = flags.auto && (flags.meta.is_some() || flags.out.is_some() || !flags.logs.is_empty());
    if mixed || (!flags.auto && (flags.meta.is_none() || flags.dir.is_some())) {
        return Err(Error::Usage(USAGE.to_owned()));
    }
    if let (Some(meta), None, []) = (&flags.meta, &flags.out, flags.logs.as_slice()) {
        dump(&FileBlob::open(meta, meta.to_string_lossy())?, &DumpOptions::default(), out)?;
        return Ok(0);
    }
    let paths = Paths::new(flags);
    // heads and tails tell what healthy files lead to; what is not healthy is read whole
    let mut case = examine(flags, &paths, Check::Structure, cx)?;
    if case.built.as_ref().is_none_or(|b| b.stop.is_some() || !b.garbage.is_empty() || case.branch.is_some()) {
        case = examine(flags, &paths, Check::Full, cx)?;
    }
    Restore { flags, paths: &paths, case: &case, out }.run(cx)
}

/// Where the files lie.
struct Paths {
    dir: Option<PathBuf>,
    logs: Vec<PathBuf>,
    meta: Option<PathBuf>,
    target: Option<PathBuf>,
}

impl Paths {
    fn new(flags: &Flags) -> Self {
        let dir = flags.auto.then(|| flags.dir.clone().unwrap_or_else(|| PathBuf::from("/var/lib/mfs")));
        let target = dir.as_ref().map(|d| d.join("metadata.mfs")).or_else(|| flags.out.clone());
        Self { dir, logs: flags.logs.clone(), meta: flags.meta.clone(), target }
    }

    fn base(&self, name: &str) -> String {
        let path = self.dir.as_ref().map(|d| d.join(name)).or_else(|| self.meta.clone());
        path.unwrap_or_default().display().to_string()
    }

    fn log(&self, survey: &Survey, i: usize) -> String {
        let name = survey.logs.get(i).map_or("", |l| l.entry.name.as_str());
        let path = self.dir.as_ref().map(|d| d.join(name)).or_else(|| self.logs.get(i).cloned());
        path.unwrap_or_default().display().to_string()
    }
}

fn examine(flags: &Flags, paths: &Paths, check: Check, cx: &Context) -> Result<Case> {
    let mut how = cx.clone();
    how.check = check;
    let found = match &paths.dir {
        Some(dir) => {
            let sources = Sources::one(Arc::new(DirSource::open(dir)?));
            crate::plan::refuse_if_locked(&sources)?;
            survey(&sources, &how)?
        }
        None => named(flags, &how)?,
    };
    decide(found, flags.dialect, None, false, cx)
}

/// Named files are looked at as if they lay in a directory of their own.
fn named(flags: &Flags, cx: &Context) -> Result<Survey> {
    let mut all = Survey::default();
    let meta = flags.meta.iter().map(|p| (p, true));
    for (path, is_base) in meta.chain(flags.logs.iter().map(|p| (p, false))) {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let source = Arc::new(DirSource::open(folder)?);
        let one = crate::survey::named(source.as_ref(), &name, is_base, cx)?;
        all.bases.extend(one.bases);
        all.logs.extend(one.logs);
    }
    Ok(all)
}

struct Restore<'a> {
    flags: &'a Flags,
    paths: &'a Paths,
    case: &'a Case,
    out: &'a mut dyn Write,
}

impl Restore<'_> {
    fn say(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "{text}").map_err(|e| Error::write("standard output", "write", e))
    }

    fn run(&mut self, cx: &Context) -> Result<u8> {
        let case = self.case;
        let Some(way) = &case.way else {
            let why: Vec<String> = case
                .survey
                .bases
                .iter()
                .filter_map(|b| b.outline.as_ref().err().map(|e| format!("{}: {e}", self.paths.base(&b.entry.name))))
                .collect();
            for line in why {
                self.say(&line)?;
            }
            self.say("can't find backed up metadata file !!!")?;
            return Ok(1);
        };
        let Some(built) = &case.built else {
            return Err(Error::refuse(
                Reason::Ambiguous,
                "nothing tells which product wrote the logs; give --as 1.6, 2, 3 or 4",
            ));
        };
        self.base()?;
        for section in [
            "loading objects (files,directories,etc.)",
            "loading names",
            "loading deletion timestamps",
            "loading chunks data",
            "checking filesystem consistency",
            "connecting files and chunks",
        ] {
            self.say(&format!("{section} ... ok"))?;
        }
        if !self.sound(built)? {
            return Ok(1);
        }
        if self.flags.verbose > 0 {
            self.tell_logs(&way.logs)?;
            self.tell_changes(built, cx)?;
        }
        self.tell_passed(built)?;
        let unused = way.logs.is_empty();
        let last = way.logs.iter().filter_map(|&i| case.survey.logs.get(i)).filter_map(|l| l.scan.last).max();
        let stopped = self.stopped(built)?;
        if stopped && !self.flags.best_effort {
            return Ok(1);
        }
        let last = last.unwrap_or(0);
        let reached = if unused { 0 } else { built.model.version().saturating_sub(1) };
        self.say(&format!(
            "progress: current change: {reached} (first:{} - last:{last} - 100% - ETA:finished)",
            built.base_version
        ))?;
        if unused && !stopped {
            self.say(&format!("no log has a change from {} on: the metadata file is complete", built.base_version))?;
        }
        if stopped {
            let behind = self.last_anywhere().saturating_add(1).saturating_sub(built.model.version());
            self.say(&format!("{behind} changes from {} on are not in the result", built.model.version()))?;
        }
        self.finish(built, cx)
    }

    fn last_anywhere(&self) -> u64 {
        self.case.survey.logs.iter().filter_map(|l| l.scan.last).max().unwrap_or(0)
    }

    /// Which base is taken, where that is not the one the old program would take.
    fn base(&mut self) -> Result<()> {
        let text = match self.case.base() {
            None => {
                "no metadata file can be used - the logs start with the first change, starting from a new filesystem"
                    .to_owned()
            }
            Some(_) if self.paths.dir.is_none() => return Ok(()),
            Some(b) if b.entry.name == "metadata.mfs.back" => return Ok(()),
            Some(b) => {
                let there = self.case.survey.bases.iter().any(|o| o.entry.name == "metadata.mfs.back");
                let why = if there { "leads less far" } else { "not found" };
                format!("file 'metadata.mfs.back' {why} - will try '{}' instead", b.entry.name)
            }
        };
        self.say(&text)
    }

    /// Whether the base may be used: without `-i`, no record of it may be lost.
    fn sound(&mut self, built: &Built) -> Result<bool> {
        let name = self.case.base().map(|b| self.paths.base(&b.entry.name)).unwrap_or_default();
        let mut bad = false;
        for issue in &built.issues {
            bad |= !issue.kind.keeps_everything();
            self.say(&format!("{name}: {}", names::terminal(&issue.text)))?;
        }
        if let Some(b) = self.case.base().filter(|b| b.crc == CrcState::Bad) {
            bad = true;
            for (section, ..) in &b.crc_bad {
                let section = crate::format::outer::section_name(section);
                self.say(&format!("{name}: section {section} does not match metadata.crc"))?;
            }
        }
        let ids = self.case.survey.metaids();
        if ids.len() > 1 {
            bad = true;
            self.say(&format!("metadata files of {} filesystems lie here", ids.len()))?;
        }
        if let Some(later) = self.case.later() {
            let (name, version) = (self.paths.base(&later.entry.name), later.version().unwrap_or(0));
            bad = true;
            self.say(&format!("{name}: damaged, but has a later state (version {version})"))?;
        }
        if bad && !self.flags.ignore {
            self.say(&format!("can't use metadata file: {name} (use -i to pass over what is lost)"))?;
            return Ok(false);
        }
        Ok(true)
    }

    fn tell_logs(&mut self, used: &[usize]) -> Result<()> {
        for (i, l) in self.case.survey.logs.iter().enumerate() {
            let what = if used.contains(&i) { "using" } else { "skipping" };
            let show = |id: Option<u64>| id.map_or("???".to_owned(), |v| v.to_string());
            let (path, a, z) = (self.paths.log(&self.case.survey, i), show(l.scan.first), show(l.scan.last));
            self.say(&format!("{what} changelog file: {path} (changes: {a} - {z})"))?;
        }
        Ok(())
    }

    /// The applied changes, read once more.
    fn tell_changes(&mut self, built: &Built, cx: &Context) -> Result<()> {
        let Some(way) = &self.case.way else { return Ok(()) };
        let Some(until) = built.model.version().checked_sub(1).filter(|_| built.applied > 0) else { return Ok(()) };
        let j = job(&self.case.survey, way, built.model.dialect(), until);
        let inputs = j.logs.iter().map(|l| Input { blob: l.blob.as_ref(), skip: &l.skip, use_rest: l.use_rest });
        let mut merger = Merger::new(inputs.collect(), built.base_version, until);
        let mut batch = Batch::default();
        while merger.fill(&mut batch)? {
            cx.cancelled()?;
            for e in &batch.entries {
                let log = way.logs.get(e.input).copied().unwrap_or(usize::MAX);
                let file = self.paths.log(&self.case.survey, log);
                let line = String::from_utf8_lossy(batch.line(e));
                let change = line.trim_start_matches(|c: char| c.is_ascii_digit());
                let change = names::terminal(change);
                if self.flags.verbose > 1 {
                    let id = e.id;
                    let before = id.saturating_sub(1);
                    self.say(&format!(
                        "filename: {file} ; current meta version: {id} ; previous changeid: {before} ; current changeid: {id} ; change data{change}"
                    ))?;
                }
                self.say(&format!("{file}: change{change}"))?;
            }
        }
        Ok(())
    }

    /// What the old program would have stopped at, or dropped, and was passed over.
    fn tell_passed(&mut self, built: &Built) -> Result<()> {
        let Some(way) = &self.case.way else { return Ok(()) };
        let name = |r: &Self, n: usize| r.paths.log(&r.case.survey, way.logs.get(n).copied().unwrap_or(usize::MAX));
        for &(log, at, len) in &built.garbage {
            let file = name(self, log);
            self.say(&format!("{file}: {len} bytes at offset {at} are no change - passed over"))?;
        }
        for &log in &built.torn {
            let file = name(self, log);
            self.say(&format!("{file}: the last line is incomplete - left out"))?;
        }
        for c in &built.conflicts {
            self.say(&format!(
                "change {}: lock on inode {} against one of session {} - granted, as by the master",
                c.change, c.inode, c.session
            ))?;
        }
        Ok(())
    }

    /// Says why replay ended early, if it did.
    fn stopped(&mut self, built: &Built) -> Result<bool> {
        let branch = self.case.branch.filter(|&id| built.model.version() <= id).map(Stop::Branch);
        let Some(stop) = built.stop.clone().or(branch) else { return Ok(false) };
        let text = match &stop {
            Stop::Branch(id) => format!("two different entries have the id {id} - the change files branch"),
            Stop::Gap(a, b) => {
                let (before, after) = self.beside(*a, *b);
                format!("hole in change files (entries from {before}:{a} to {after}:{b} are missing) - add more files")
            }
            Stop::Line { id, log, why, text, .. } => {
                let logs = self.case.way.as_ref().map(|w| w.logs.as_slice()).unwrap_or_default();
                let file = self.paths.log(&self.case.survey, logs.get(*log).copied().unwrap_or(usize::MAX));
                match why {
                    Why::Unknown => {
                        let entry = text.split_once('|').map_or(text.as_str(), |t| t.1);
                        self.say(&format!("{file}:{id}: unknown entry '{}'", names::terminal(entry)))?;
                        format!("{file}:{id}: error: 32 (Data mismatch)")
                    }
                    Why::Parse(e) => format!("{file}:{id}: {e}"),
                    Why::Status(s) => format!("{file}:{id}: error: {} ({})", s.0, s.text()),
                }
            }
        };
        self.say(&text)?;
        if !self.flags.best_effort {
            self.say("nothing is stored; -b stores the state before this change")?;
        }
        Ok(true)
    }

    /// The files that hold the changes beside a hole.
    fn beside(&self, a: u64, b: u64) -> (String, String) {
        let with = |id: u64| {
            let ids = self.case.survey.ids();
            let i = ids.iter().find(|r| r.0 <= id && id <= r.1).map(|r| r.2);
            i.map_or("(no file)".to_owned(), |i| self.paths.log(&self.case.survey, i))
        };
        (a.checked_sub(1).map_or("(no file)".to_owned(), with), with(b.saturating_add(1)))
    }

    fn finish(&mut self, built: &Built, cx: &Context) -> Result<u8> {
        let now = u32::try_from(cx.now_ms / 1000).unwrap_or(u32::MAX);
        let (rules, product) = crate::plan::dialects(self.case, self.flags.dialect, cx)?;
        let own = self.case.base().is_some_and(|b| b.entry.name == "metadata.mfs") && self.paths.dir.is_some();
        if own && built.applied == 0 && built.issues.is_empty() && product.is_none() && rules == built.model.dialect() {
            self.say("nothing to do: metadata.mfs is the state to start from")?;
            return Ok(0);
        }
        let other;
        let mut model = &built.model;
        if let (true, Some(way)) = (rules != model.dialect(), &self.case.way) {
            let until = model.version().saturating_sub(1);
            other = build(&job(&self.case.survey, way, rules, until), cx)?.model;
            model = &other;
        }
        let converted;
        if let Some(want) = product {
            converted = crate::apply::convert(model, want, now)?;
            model = &converted;
        }
        let Some(target) = &self.paths.target else {
            let mut bytes = Vec::new();
            let stored = cx.pool().install(|| model.store(&mut bytes, StoreOptions { now }));
            stored.map_err(|e| Error::Internal(e.to_string()))?;
            dump(&MemBlob::new("the restored state", bytes), &DumpOptions::default(), self.out)?;
            return Ok(0);
        };
        self.say(&format!("store metadata into file: {}", target.display()))?;
        store(model, target, self.paths.dir.is_some(), now, cx)?;
        Ok(0)
    }
}

/// Writes beside the target and renames; what was there is kept under another name.
fn store(model: &Model, target: &Path, sums: bool, now: u32, cx: &Context) -> Result<()> {
    let failed = |action: &'static str| move |e| Error::write(target.display(), action, e);
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".recover-part");
    let part = target.with_file_name(name);
    let file = std::fs::File::create(&part).map_err(failed("create"))?;
    let mut out = std::io::BufWriter::with_capacity(1 << 16, file);
    let crc = cx.pool().install(|| model.store(&mut out, StoreOptions { now })).map_err(failed("write"))?;
    let file = out.into_inner().map_err(|e| Error::write(target.display(), "write", e.into_error()))?;
    file.sync_all().map_err(failed("sync"))?;
    keep(target).map_err(failed("keep the existing file"))?;
    std::fs::rename(&part, target).map_err(failed("rename"))?;
    if sums && !crc.entries.is_empty() {
        let beside = target.with_file_name("metadata.crc");
        keep(&beside).map_err(failed("keep the existing checksums"))?;
        std::fs::write(&beside, crc.encode()).map_err(failed("write checksums"))?;
    }
    Ok(())
}

/// Moves a file that is there and not empty to `NAME.old`, `NAME.old.1` and so on.
fn keep(path: &Path) -> std::io::Result<()> {
    if !std::fs::metadata(path).is_ok_and(|m| m.len() > 0) {
        return Ok(());
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".old");
    let first = path.with_file_name(&name);
    let mut old = first.clone();
    let mut n = 0u32;
    while old.exists() {
        n = n.saturating_add(1);
        let mut numbered = name.clone();
        numbered.push(format!(".{n}"));
        old = path.with_file_name(numbered);
    }
    std::fs::rename(path, old)
}
