//! `mfsmetarestore`: the flags and progress lines of the old program, the results of this library.
//!
//! `-a [-d DIR]` takes the base and logs of a directory, `-m META -o OUT LOG...` those that are named, `-m META` alone
//! prints the file as text. `-f` takes logs that the old program would not look at (here nothing is left out anyway),
//! `-b` stores the state before an error, `-i` passes over damage in the base, `-x` tells each log, `-xx` each line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recovery_core::{Blob, Context, DirSource, Error, FileBlob, Result, Sources};

use crate::dialect::Dialect;
use crate::inspect::job;
use crate::metadump::{DumpOptions, dump};
use crate::model::store::StoreOptions;
use crate::run::{Built, Job, Log, Stop, Why, build};
use crate::survey::{Survey, survey};

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

pub(crate) fn run(flags: &Flags, out: &mut dyn Write, cx: &Context) -> Result<u8> {
    let mixed = flags.auto && (flags.meta.is_some() || flags.out.is_some() || !flags.logs.is_empty());
    if mixed || (!flags.auto && (flags.meta.is_none() || flags.dir.is_some())) {
        return Err(Error::Usage("metarestore -a [-d DIR]  or  -m META -o OUT LOG...  or  -m META".to_owned()));
    }
    if let (Some(meta), None, false) = (&flags.meta, &flags.out, flags.auto) {
        let blob = FileBlob::open(meta, meta.to_string_lossy())?;
        dump(&blob, &DumpOptions::default(), out)?;
        return Ok(0);
    }
    let (found, target) = if flags.auto { directory(flags, cx)? } else { named(flags, cx)? };
    let mut say = Say { out };
    restore(flags, found, &target, &mut say, cx)
}

struct Say<'a> {
    out: &'a mut dyn Write,
}

impl Say<'_> {
    fn line(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "{text}").map_err(|e| Error::write("standard output", "write", e))
    }
}

/// The quick look of the old program: heads and tails.
fn quick(cx: &Context) -> Context {
    let mut quick = cx.clone();
    quick.check = recovery_core::Check::Structure;
    quick
}

fn directory(flags: &Flags, cx: &Context) -> Result<(Survey, PathBuf)> {
    let dir = flags.dir.clone().unwrap_or_else(|| PathBuf::from("/var/lib/mfs"));
    let sources = Sources::one(Arc::new(DirSource::open(&dir)?));
    Ok((survey(&sources, &quick(cx))?, dir.join("metadata.mfs")))
}

/// Named files are looked at as if they lay in a directory of their own.
fn named(flags: &Flags, cx: &Context) -> Result<(Survey, PathBuf)> {
    let mut all = Survey::default();
    let meta = flags.meta.iter().map(|p| (p, true));
    for (path, is_base) in meta.chain(flags.logs.iter().map(|p| (p, false))) {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let source = Arc::new(DirSource::open(folder)?);
        let one = crate::survey::named(source.as_ref(), &name, is_base, &quick(cx))?;
        all.bases.extend(one.bases);
        all.logs.extend(one.logs);
    }
    let out = flags.out.clone().unwrap_or_default();
    Ok((all, out))
}

fn restore(flags: &Flags, found: Survey, target: &Path, say: &mut Say<'_>, cx: &Context) -> Result<u8> {
    let ways = found.ways(flags.dialect);
    let Some(way) = ways.first() else {
        say.line("can't find valid metadata file")?;
        return Ok(1);
    };
    let Some(dialect) = flags.dialect.or(way.dialect) else {
        return Err(Error::refuse(
            recovery_core::Reason::Ambiguous,
            "nothing tells which product wrote the logs; give --as 1.6, 2, 3 or 4",
        ));
    };
    let name = way.base.and_then(|i| found.bases.get(i)).map(|b| b.entry.name.clone());
    match &name {
        Some(n) => say.line(&format!("file {n} found - loading metadata"))?,
        None => say.line("no metadata file - starting from a new filesystem")?,
    }
    if flags.verbose > 0 {
        for (i, l) in found.logs.iter().enumerate() {
            let what = if way.logs.contains(&i) { "using" } else { "skipping" };
            let show = |id: Option<u64>| id.map_or("???".to_owned(), |v| v.to_string());
            let (a, b) = (show(l.scan.first), show(l.scan.last));
            say.line(&format!("{what} changelog file: {} (changes: {a} - {b})", l.entry.name))?;
        }
    }
    let mut j = job(&found, way, dialect, u64::MAX);
    (j.salvage, j.checksums) = (flags.ignore, false);
    let (built, j) = build_or_scan(j, cx)?;
    let totals = built.model.totals();
    for issue in &built.issues {
        say.line(&issue.text)?;
    }
    say.line(&format!(
        "all inodes: {}\ndirectory inodes: {}\nfile inodes: {}\nchunks: {}",
        totals.inodes, totals.directories, totals.files, totals.chunks
    ))?;
    let last = way.logs.iter().filter_map(|&i| found.logs.get(i)).filter_map(|l| l.scan.last).max().unwrap_or(0);
    say.line(&format!(
        "progress: current change: {last} (first:{} - last:{last} - 100% - ETA:finished)",
        built.base_version
    ))?;
    if let Some(stop) = &built.stop {
        say.line(&describe(stop, &j))?;
        if !flags.best_effort && !flags.ignore {
            say.line(
                "error applying changelogs - fix changelogs manually, or use '-b' to store the state before the error",
            )?;
            return Ok(1);
        }
    }
    say.line(&format!("store metadata into file: {}", target.display()))?;
    store(&built, target, cx)?;
    Ok(0)
}

/// Builds; when the logs branch, reads them whole first, to leave out what was overtaken.
fn build_or_scan(mut j: Job, cx: &Context) -> Result<(Built, Job)> {
    let built = build(&j, cx)?;
    if !matches!(built.stop, Some(Stop::Branch(_))) {
        return Ok((built, j));
    }
    for l in &mut j.logs {
        let jumps = crate::changelog::file::scan_all(l.blob.as_ref())?.jumps;
        l.skip = jumps.iter().map(|j| (j.abandoned, j.at)).collect();
    }
    let again = build(&j, cx)?;
    Ok((again, j))
}

fn describe(stop: &Stop, j: &Job) -> String {
    let name = |log: usize| j.logs.get(log).map_or(String::new(), |l: &Log| l.blob.name().to_owned());
    match stop {
        Stop::Gap(a, b) => format!("hole in change files (entries from {a} to {b} are missing) - add more files"),
        Stop::Branch(id) => format!("two different entries have the id {id}: the change files branch"),
        Stop::Line { id, log, why, text, .. } => match why {
            Why::Unknown => format!("{}:{id}: unknown entry '{}'", name(*log), recovery_core::names::terminal(text)),
            Why::Parse(e) => format!("{}:{id}: {e}", name(*log)),
            Why::Status(s) => format!("{}:{id}: error: {} ({})", name(*log), s.0, s.text()),
        },
    }
}

/// Writes beside the target and renames; an existing file is kept under another name.
fn store(built: &Built, target: &Path, cx: &Context) -> Result<()> {
    let failed = |action: &'static str| move |e| Error::write(target.display(), action, e);
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".recover-part");
    let part = target.with_file_name(name);
    let file = std::fs::File::create(&part).map_err(failed("create"))?;
    let mut out = std::io::BufWriter::with_capacity(1 << 20, file);
    let now = u32::try_from(cx.now_ms / 1000).unwrap_or(u32::MAX);
    let crc = cx.pool().install(|| built.model.store(&mut out, StoreOptions { now })).map_err(failed("write"))?;
    let file = out.into_inner().map_err(|e| Error::write(target.display(), "write", e.into_error()))?;
    file.sync_all().map_err(failed("sync"))?;
    let exists = std::fs::metadata(target).is_ok_and(|m| m.len() > 0);
    if exists {
        let mut n = 0u32;
        let mut old = target.with_extension("mfs.old");
        while old.exists() {
            n = n.saturating_add(1);
            old = target.with_extension(format!("mfs.old.{n}"));
        }
        std::fs::rename(target, &old).map_err(failed("keep the existing file"))?;
    }
    std::fs::rename(&part, target).map_err(failed("rename"))?;
    if !crc.entries.is_empty() {
        std::fs::write(target.with_file_name("metadata.crc"), crc.encode()).map_err(failed("write checksums"))?;
    }
    Ok(())
}

/// Opens one file for the text dump.
pub(crate) fn open(path: &Path) -> Result<Arc<dyn Blob>> {
    Ok(Arc::new(FileBlob::open(path, path.to_string_lossy())?))
}
