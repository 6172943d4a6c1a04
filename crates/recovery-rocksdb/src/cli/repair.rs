//! `repair`: in place of `ldb repair`, at the same path. The new database is built beside the old one and takes its
//! place in one step; the old one stays whole.

use std::fs::{self, File, OpenOptions as FileOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};
use recovery_core::cli::{Exit, OpenOptions, accepted, open};
use recovery_core::{
    Blob, Context, Depth, DirTarget, Entries, Entry, Error, LockHolder, ReadError, RealFs, Reason, Recover, Result,
    Source, Sources, Verdict, names,
};
use rustix::fs::{CWD, FlockOperation, RenameFlags, fcntl_lock, renameat_with};
use serde_json::{Value, json};

use super::common;

pub(super) fn command() -> Command {
    let value = |name: &'static str, form: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(form).help(help)
    };
    Command::new("repair")
        .about("In place of `ldb repair`: builds the repaired database beside, exchanges the two, keeps the old one whole as DIR.before-repair")
        .args([
            value("db", "DIR", "The database directory; no process may have it open").required(true),
            value("accept", "LOSS[:MAX]", "Agree to a loss by its name, up to so many records").action(ArgAction::Append),
            value("also", "PATH", "A donor: may heal, is never chosen").action(ArgAction::Append),
            common::wal(),
            common::name_family(),
            Arg::new("table-family")
                .long("table-family")
                .value_name("NUMBER=NAME")
                .action(ArgAction::Append)
                .help("The column family of a table that nothing gives one"),
        ])
}

/// Places of a repair.
struct Places {
    db: PathBuf,
    parent: PathBuf,
    /// Where the new database is built; for a moment the old one's name.
    new: PathBuf,
    /// Where the old one stays.
    before: PathBuf,
}

impl Places {
    fn of(db: &str) -> Result<Self> {
        let db = fs::canonicalize(db).map_err(|e| Error::write(names::terminal(db), "find", e))?;
        let parent = db.parent().map(Path::to_owned);
        let (Some(parent), Some(name)) = (parent, db.file_name().map(std::ffi::OsStr::to_owned)) else {
            return Err(Error::Usage(format!("--db={}: not the name of a directory", db.display())));
        };
        let beside = |ending: &str| {
            let mut name = name.clone();
            name.push(ending);
            parent.join(name)
        };
        Ok(Self { new: beside(".new-repair"), before: beside(".before-repair"), db, parent })
    }

    fn check(&self) -> Result<()> {
        let meta = |path: &Path| fs::metadata(path).map_err(|e| Error::write(path.display(), "open", e));
        let (db, parent) = (meta(&self.db)?, meta(&self.parent)?);
        if !db.is_dir() {
            return Err(Error::Usage(format!("--db={}: not a directory", self.db.display())));
        }
        if db.dev() != parent.dev() {
            return Err(self.mount_point());
        }
        if self.before.symlink_metadata().is_ok() {
            let message = format!(
                "{}: is there from an earlier repair; move it away first, it is never overwritten",
                self.before.display()
            );
            return Err(Error::refuse(Reason::TargetNotEmpty, message));
        }
        Ok(())
    }

    fn mount_point(&self) -> Error {
        let message = format!(
            "{}: is a mount point and cannot change places with another directory; use: recover rescue {} --into NEWDIR",
            self.db.display(),
            names::shell(&self.db.display().to_string())
        );
        Error::refuse(Reason::Unsafe, message)
    }

    /// A run that was cut off between the exchange and the naming of the old database: only the name is missing.
    fn is_half_done(&self) -> bool {
        let result = |path: &Path| path.join(".recover").join("RECEIPT.json").is_file();
        self.new.is_dir() && !result(&self.new) && result(&self.db)
    }

    fn exchange(&self) -> Result<()> {
        let wrap = |action| move |e: rustix::io::Errno| Error::write(self.db.display(), action, e.into());
        match renameat_with(CWD, &self.new, CWD, &self.db, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(rustix::io::Errno::BUSY | rustix::io::Errno::XDEV) => return Err(self.mount_point()),
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
                let message = format!(
                    "{}: this file system cannot exchange two directories; the repaired database is at {}",
                    self.db.display(),
                    self.new.display()
                );
                return Err(Error::unsupported(message));
            }
            Err(e) => return Err(wrap("exchange with the repaired database")(e)),
        }
        self.sync()
    }

    fn keep_old(&self) -> Result<()> {
        fs::rename(&self.new, &self.before).map_err(|e| Error::write(self.before.display(), "rename", e))?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        File::open(&self.parent).and_then(|d| d.sync_all()).map_err(|e| Error::write(self.parent.display(), "sync", e))
    }

    fn undo(&self) -> Vec<String> {
        let shell = |path: &Path| names::shell(&path.display().to_string()).into_owned();
        let (db, before) = (shell(&self.db), shell(&self.before));
        vec![format!("undo: mv {db} {db}.repaired && mv {before} {db}")]
    }
}

/// Holds the database's lock as RocksDB does: a record lock on the whole of `LOCK`. Closing any descriptor of that file
/// would give it up, so nothing else in this process may open it: see [`Held`].
fn lock(db: &Path) -> Result<(File, bool)> {
    let path = db.join("LOCK");
    let is_new = path.symlink_metadata().is_err();
    let wrap = |e| Error::write(path.display(), "open", e);
    let file = FileOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(wrap)?;
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        let message = format!("{}: LOCK is held by a running process; stop it first", db.display());
        Error::refuse(Reason::Locked, message)
    })?;
    Ok((file, is_new))
}

/// Gives the lock up, and takes a `LOCK` away that was not there before, wherever the old database is now.
fn unlock(places: &Places, (file, is_new): (File, bool)) {
    let inode = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let ours = file.metadata().map(inode).ok();
    for path in [&places.db, &places.before, &places.new].map(|dir| dir.join("LOCK")) {
        if is_new && ours.is_some() && path.symlink_metadata().map(inode).ok() == ours {
            // An empty file that stays behind harms nobody.
            let _ = fs::remove_file(path);
        }
    }
}

/// The database while this process holds its lock: everything but `LOCK`.
struct Held(Arc<dyn Source>);

impl Source for Held {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn list(&self, dir: &str, depth: Depth) -> Entries<'_> {
        Box::new(self.0.list(dir, depth).filter(|e| !e.as_ref().is_ok_and(|e| e.name == "LOCK")))
    }

    fn stat(&self, name: &str) -> std::result::Result<Option<Entry>, ReadError> {
        if name == "LOCK" { Ok(None) } else { self.0.stat(name) }
    }

    fn open(&self, entry: &Entry) -> std::result::Result<Arc<dyn Blob>, ReadError> {
        self.0.open(entry)
    }

    fn local_path(&self, entry: &Entry) -> Option<PathBuf> {
        self.0.local_path(entry)
    }

    fn root(&self) -> Option<&Path> {
        self.0.root()
    }

    fn lock_holder(&self, _: &str) -> Option<LockHolder> {
        None
    }
}

pub(super) fn run(
    engine: &dyn Recover,
    args: &ArgMatches,
    options: &OpenOptions,
    out: &mut dyn Write,
    cx: &Context,
) -> Result<Exit> {
    let db = args.get_one::<String>("db").map_or("", String::as_str);
    let places = Places::of(db)?;
    if places.is_half_done() {
        places.keep_old()?;
        return answer(args, out, &places, Exit(3), &json!({"finished": "an earlier repair"}), &[]);
    }
    places.check()?;
    let held = lock(&places.db)?;
    let done = locked(engine, args, options, &places, cx);
    unlock(&places, held);
    let (exit, facts, lines) = done?;
    answer(args, out, &places, exit, &facts, &lines)
}

/// The repair itself, with the lock held: its exit code, what to say as JSON and in words.
fn locked(
    engine: &dyn Recover,
    args: &ArgMatches,
    options: &OpenOptions,
    places: &Places,
    cx: &Context,
) -> Result<(Exit, Value, Vec<String>)> {
    let source: Arc<dyn Source> = Arc::new(Held(open(engine, &places.db.display().to_string(), options)?));
    let mut sources = Sources::one(source);
    for donor in args.get_many::<String>("also").into_iter().flatten() {
        sources.donors.push(open(engine, donor, options)?);
    }
    let value = super::options_of(args)?;
    let report = engine.inspect(&sources, &value, cx)?;
    if report.verdict == Verdict::Sound {
        let text = "sound: there is nothing to repair, nothing was changed";
        return Ok((Exit::OK, json!({"verdict": "sound", "changed": false}), vec![text.to_owned()]));
    }
    let plan = engine.plan(&sources, &report, &value, cx)?;
    plan.check_consents(&accepted(args)?)?;
    let target = DirTarget::with(&places.new, Arc::new(RealFs::like(Some(&places.db))))?;
    let receipt = engine.apply(&sources, &plan, &target, cx)?;
    let result: Arc<dyn Source> = open(engine, &places.new.display().to_string(), options)?;
    let verified = engine.verify(&result, &receipt, cx)?;
    if !matches!(verified.verdict, Verdict::Sound | Verdict::Unverified) {
        let message = format!("{}: the result is {}", places.new.display(), verified.verdict.as_str());
        return Err(Error::Internal(message));
    }
    places.exchange()?;
    places.keep_old()?;
    let exit = if plan.losses.is_empty() { Exit(3) } else { Exit(4) };
    let facts = json!({
        "verdict": report.verdict.as_str(), "changed": true, "losses": plan.losses, "before": places.before,
        "files": receipt.files.len(),
    });
    let mut lines =
        vec![format!("{}: repaired; the old database is whole in {}", places.db.display(), places.before.display())];
    for loss in &plan.losses {
        lines.push(format!("  lost: {} ({}): {} records", loss.summary, loss.name, loss.records));
    }
    Ok((exit, facts, lines))
}

fn answer(
    args: &ArgMatches,
    out: &mut dyn Write,
    places: &Places,
    exit: Exit,
    facts: &Value,
    lines: &[String],
) -> Result<Exit> {
    let changed = exit != Exit::OK;
    let next = if changed { places.undo() } else { Vec::new() };
    if args.get_flag("json") {
        let document = json!({
            "schema": "recover/rocksdb-repair/1", "exit": exit.0, "db": places.db, "repair": facts, "next": next,
        });
        common::put(out, format!("{document}\n").as_bytes())?;
        return Ok(exit);
    }
    let mut text: Vec<String> = lines.to_vec();
    text.extend(next);
    common::put(out, format!("{}\n", text.join("\n")).as_bytes())?;
    Ok(exit)
}
