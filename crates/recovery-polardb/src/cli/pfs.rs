//! `ls`, `stat`, `du`, `cat`, `tree`, `extract`, `journal`, `at`, `undelete`, `repair`, `meta` and `verify`: the file
//! system without its daemon.

mod extract;
mod list;
mod past;
mod repair;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use recovery_core::cli::{Exit, OpenOptions as PathOptions, open_path};
use recovery_core::{Blob, Context, Depth, Error, Mapfile, Reading, Result, Source, Sources, names};
use serde_json::{Value, json};

use crate::PfsSource;
use crate::engine::open_with;
use crate::format::pfs::{JOURNAL_INO, Kind, PAXOS_INO};
use crate::inspect::pfs as inspect;
use crate::model::pfs::{FileSystem, Node};
use crate::reader::pfs::{OpenOptions, Pfs};

/// The verbs of this module.
#[must_use]
pub fn commands() -> Vec<Command> {
    let image =
        || Arg::new("image").value_name("IMAGE[:PATH]").required(true).help("device or image, and a path in it");
    let json = || flag("json", "one JSON document");
    let salvage = || flag("salvage", "passes over damage instead of stopping at it");
    let out = |help: &'static str| {
        Arg::new("out").long("out").value_name("DIR").value_parser(value_parser!(PathBuf)).help(help)
    };
    let verb = |name: &'static str, about: &'static str| {
        Command::new(name).about(about).arg(image()).arg(json()).arg(salvage()).args(common())
    };
    vec![
        verb("ls", "lists a directory of the file system")
            .arg(flag("recursive", "everything below").short('R'))
            .arg(flag("long", "sizes, times, inodes").short('l')),
        verb("stat", "everything known of one file or directory"),
        verb("du", "room taken, by directory"),
        Command::new("cat").about("writes a file to standard output").arg(image()).arg(salvage()).args(common()),
        verb("tree", "the tree below a directory"),
        verb("extract", "copies files out of the image, with a manifest of their sums")
            .arg(
                Arg::new("out")
                    .long("out")
                    .value_name("DIR")
                    .required(true)
                    .value_parser(value_parser!(PathBuf))
                    .help("new directory"),
            )
            .arg(flag("no-verify", "no sums and no checks of pages and log records: the fastest copy")),
        verb("journal", "every transaction that the journal still holds, decoded; JSON Lines with --json"),
        verb("at", "the file system as of an earlier transaction")
            .arg(
                Arg::new("tx")
                    .long("tx")
                    .value_name("N")
                    .required(true)
                    .value_parser(value_parser!(u64))
                    .help("the last transaction that counts"),
            )
            .arg(out("writes it into this new directory").conflicts_with("forward")),
        verb("undelete", "deleted files of which the journal still knows, and whether their blocks are intact")
            .arg(out("writes those that are intact into this new directory")),
        verb("repair", "writes a new image that the engine mounts: headers, journal, lists and nameless files mended")
            .arg(
                Arg::new("into")
                    .long("into")
                    .value_name("NEW.img")
                    .required(true)
                    .value_parser(value_parser!(PathBuf))
                    .help("new file; the device given is never written"),
            ),
        verb("meta", "headers, leader record, journal, objects"),
        verb("verify", "every checksum and every cross-reference"),
    ]
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn common() -> [Arg; 3] {
    [
        Arg::new("also")
            .long("also")
            .value_name("PATH")
            .action(ArgAction::Append)
            .value_parser(value_parser!(PathBuf))
            .help("another copy of the image: gives what this one lacks or holds damaged; repeated"),
        flag("forward", "applies complete transactions behind the head of the journal too"),
        Arg::new("mapfile-in")
            .long("mapfile-in")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("ddrescue mapfile of the image: what it does not call finished is unread, not zero"),
    ]
}

/// Runs one of [`commands`]; `None` when the verb is not of this module.
///
/// # Errors
///
/// For reasons to stop.
pub fn run(
    verb: &str,
    args: &ArgMatches,
    open: &PathOptions,
    out: &mut dyn Write,
    cx: &Context,
) -> Result<Option<Exit>> {
    if !commands().iter().any(|c| c.get_name() == verb) {
        return Ok(None);
    }
    let mut cx = context(args, cx)?;
    if verb == "repair" {
        // A damaged entry costs what it held, not everything behind it; what is lost is said.
        cx.reading = Reading::Salvage;
    }
    let cx = &cx;
    let spec = args.get_one::<String>("image").map_or("", String::as_str);
    let also: Vec<&PathBuf> = args.get_many("also").into_iter().flatten().collect();
    let image = Image::open(spec, &also, open, args.get_flag("forward"), cx)?;
    let exit = match verb {
        "ls" => list::ls(&image, args, out)?,
        "stat" => list::stat(&image, args, out)?,
        "du" => list::du(&image, args, out)?,
        "cat" => extract::cat(&image, out, cx)?,
        "tree" => list::tree(&image, args, out)?,
        "extract" => extract::extract_files(&image, args, out, cx)?,
        "journal" => past::journal(&image, args, out, cx)?,
        "at" => past::at(&image, args, out, cx)?,
        "undelete" => past::undelete(&image, args, out, cx)?,
        "repair" => repair::repair(&image, args, out, cx)?,
        "meta" => meta(&image, args, out)?,
        _ => verify(&image, args, out, cx)?,
    };
    Ok(Some(exit))
}

/// The context with what the verb's own options say.
fn context(args: &ArgMatches, cx: &Context) -> Result<Context> {
    let mut cx = cx.clone();
    if args.get_flag("salvage") {
        cx.reading = Reading::Salvage;
    }
    if let Some(path) = args.try_get_one::<PathBuf>("mapfile-in").ok().flatten() {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::Usage(format!("{}: {e}", names::terminal(&path.display().to_string()))))?;
        let map = Mapfile::parse(&text).map_err(|e| Error::Usage(format!("{}: {e}", path.display())))?;
        cx.mapfile = Some(Arc::new(map));
    }
    Ok(cx)
}

/// Splits `IMAGE:PATH` at the first ':' whose left side is an existing file or device; `./a:b` protects a name that
/// holds a ':'.
#[must_use]
pub fn split_image(spec: &str) -> (&str, &str) {
    let is_image = |p: &str| std::fs::metadata(p).is_ok_and(|m| !m.is_dir());
    let protected = spec.starts_with("./") && is_image(spec);
    let colons = spec.match_indices(':').filter(|_| !protected);
    let split = colons.filter_map(|(i, _)| Some((spec.get(..i)?, spec.get(i.saturating_add(1)..)?)));
    split.into_iter().find(|(left, _)| is_image(left)).unwrap_or((spec, ""))
}

/// An opened image and the path in it that was named.
#[derive(Debug)]
pub struct Image {
    /// The image as a source with one entry.
    pub sources: Sources,
    /// Its files.
    pub source: PfsSource,
    /// The path, without '/' at its ends.
    pub path: String,
}

impl Image {
    /// Opens `IMAGE[:PATH]`.
    ///
    /// # Errors
    ///
    /// When it cannot be opened or is no PFS disk.
    pub fn open(spec: &str, also: &[&PathBuf], open: &PathOptions, forward: bool, cx: &Context) -> Result<Self> {
        let (image, path) = split_image(spec);
        let source = open_path(Path::new(image), open)?;
        let donors = also.iter().map(|p| open_path(p, open)).collect::<Result<Vec<_>>>()?;
        let all = std::iter::once(&source).chain(&donors).map(|s| only_blob(s.as_ref()));
        let pfs = open_with(&all.collect::<Result<Vec<_>>>()?, OpenOptions { forward }, cx)?;
        let sources = Sources { rivals: vec![source], donors };
        Ok(Self { sources, source: PfsSource::new(pfs), path: path.trim_matches('/').to_owned() })
    }

    fn pfs(&self) -> &Pfs {
        self.source.pfs()
    }

    fn files(&self) -> &FileSystem {
        &self.pfs().files
    }

    fn node(&self) -> Result<&Node> {
        let found = self.files().find(self.path.as_bytes());
        found.ok_or_else(|| {
            Error::Usage(format!(
                "/{}: not in {}",
                names::terminal(&self.path),
                names::terminal(self.pfs().device.name())
            ))
        })
    }

    fn exit(&self) -> Exit {
        Exit(inspect::exit(self.pfs()))
    }
}

/// The bytes of a source that is one file or device.
fn only_blob(source: &dyn Source) -> Result<Arc<dyn Blob>> {
    let entry = source.list("", Depth::One).next().transpose()?.filter(|e| !e.is_dir());
    let entry = entry.ok_or_else(|| Error::Usage(format!("{}: not a file or device", source.describe())))?;
    Ok(source.open(&entry)?)
}

fn line(out: &mut dyn Write, text: &str) -> Result<()> {
    writeln!(out, "{text}").map_err(|e| Error::write("output", "write", e))
}

fn print_json(out: &mut dyn Write, value: &Value) -> Result<()> {
    line(out, &value.to_string())
}

fn shown(path: &[u8]) -> String {
    names::terminal(&String::from_utf8_lossy(path)).into_owned()
}

/// A path in JSON: text, and its bytes where it is not UTF-8.
fn put_path(object: &mut serde_json::Map<String, Value>, path: &[u8]) {
    object.insert("path".into(), String::from_utf8_lossy(path).into());
    if std::str::from_utf8(path).is_err() {
        object.insert("path_hex".into(), recovery_core::hex(path).into());
    }
}

fn kind_of(node: &Node) -> &'static str {
    if node.directory { "directory" } else { "file" }
}

fn entry_json(path: &[u8], node: &Node) -> Value {
    let mut object = serde_json::Map::new();
    put_path(&mut object, path);
    object.insert("type".into(), kind_of(node).into());
    object.insert("size".into(), node.size.into());
    object.insert("mtime".into(), node.mtime.into());
    object.insert("inode".into(), node.ino.into());
    object.insert("blocks".into(), node.nblock.into());
    if !node.doubts.is_empty() {
        let doubts: Vec<&str> = node.doubts.iter().map(|d| d.as_str()).collect();
        object.insert("doubts".into(), doubts.into());
    }
    Value::Object(object)
}

/// Seconds since 1970 as `YYYY-MM-DD hh:mm:ss` UTC.
fn time(seconds: u64) -> String {
    let days = seconds / 86400;
    let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    // Civil date from days, after Howard Hinnant's `civil_from_days`.
    let z = days.saturating_add(719_468);
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe.saturating_add(era.saturating_mul(400)).saturating_add(u64::from(month <= 2));
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}")
}

/// One line about damage, where there is any, so that a listing is not taken for more than it is.
fn trouble(image: &Image, out: &mut dyn Write) -> Result<()> {
    match inspect::exit(image.pfs()) {
        0 => Ok(()),
        3 => line(out, "-- damaged, and everything could be read around the damage; `verify` says what and where"),
        _ => line(out, "-- damaged, and something is lost; `verify` says what and where"),
    }
}

fn meta(image: &Image, args: &ArgMatches, out: &mut dyn Write) -> Result<Exit> {
    let pfs = image.pfs();
    let leader = pfs.leader.record().map(|l| {
        json!({
            "num_hosts": l.num_hosts, "max_hosts": l.max_hosts, "tail_txid": l.tail_txid, "head_txid": l.head_txid,
            "tail_offset": l.tail_offset, "head_offset": l.head_offset, "log_size": l.log_size, "head_lsn": l.head_lsn,
        })
    });
    let objects: serde_json::Map<String, Value> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let table = pfs.metadata.table(kind);
            let all = kind.per_chunk().saturating_mul(pfs.geometry.chunks);
            let used = table.used.len() as u64;
            let value = json!({ "used": used, "free": all.saturating_sub(used), "damaged": table.bad.len() });
            (kind.name().replace(' ', "_"), value)
        })
        .collect();
    let ring: Vec<Value> = pfs.ring.known.iter().map(|(i, b)| json!([i, b])).collect();
    let own = |ino| pfs.files.node(ino).map(|n| n.size);
    let value = json!({
        "facts": inspect::facts(pfs),
        "regenerated_headers": pfs.geometry.regenerated,
        "leader": leader,
        "journal": { "size": pfs.ring.size, "blocks": ring, "stripe": pfs.ring.stripe, "inode_size": own(JOURNAL_INO) },
        "paxos_size": own(PAXOS_INO),
        "objects": objects,
    });
    if args.get_flag("json") {
        print_json(out, &value)?;
    } else {
        let text = serde_json::to_string_pretty(&value).map_err(|e| Error::Internal(e.to_string()))?;
        line(out, &text)?;
    }
    Ok(image.exit())
}

fn verify(image: &Image, args: &ArgMatches, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let report = inspect::verify(&image.sources, &image.source, cx)?;
    if args.get_flag("json") {
        let value = serde_json::to_value(&report).map_err(|e| Error::Internal(e.to_string()))?;
        print_json(out, &value)?;
        return Ok(Exit(report.exit));
    }
    let fact = |name: &str| report.facts.pointer(&format!("/pfs/{name}")).map_or_else(String::new, Value::to_string);
    line(
        out,
        &format!(
            "{}: PFS version {}, {} chunks, {} files, {} directories",
            report.verdict.as_str(),
            fact("version"),
            fact("chunks"),
            fact("files"),
            fact("directories")
        ),
    )?;
    for action in &report.if_started {
        line(
            out,
            &format!("if mounted by the engine: {} {}: {}", action.action, shown(action.object.as_bytes()), action.why),
        )?;
    }
    for f in &report.findings {
        let at = f.offset.map_or_else(String::new, |o| format!(" at {o:#x}"));
        let severity = format!("{:?}", f.severity).to_lowercase();
        line(
            out,
            &format!("{} {severity}{at} {}: {}", f.code, shown(f.object.as_bytes()), names::terminal(&f.summary)),
        )?;
    }
    let c = &report.coverage;
    line(
        out,
        &format!(
            "{} bytes verified, {} data without a checksum of its own, {} free, {} damaged, {} unread",
            c.verified, c.parsed, c.free, c.damaged, c.unread
        ),
    )?;
    Ok(Exit(report.exit))
}
