//! `ls`, `stat`, `du`, `cat`, `tree`, `extract`, `meta` and `verify`: the file system without its daemon.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use recovery_core::cli::{Exit, OpenOptions as PathOptions, open_path};
use recovery_core::{Blob, Context, Depth, DirTarget, Error, Mapfile, Reading, Result, Source, Sources, names};
use serde_json::{Value, json};

use crate::PfsSource;
use crate::checks::{Checked, ClusterWatch};
use crate::engine::open_with;
use crate::extract::{self, ExtractOptions, Extracted, Unhashed};
use crate::format::pfs::{BLOCK, JOURNAL_INO, Kind, PAXOS_INO};
use crate::inspect::pfs as inspect;
use crate::model::pfs::{Doubt, FileSystem, Node};
use crate::reader::pfs::{Item, OpenOptions, Pfs, pass};

/// Single blocks are counted by the room they really take, in steps of this.
const SMALL_UNIT: u64 = 128 * 1024;

/// The verbs of this module.
#[must_use]
pub fn commands() -> Vec<Command> {
    let image =
        || Arg::new("image").value_name("IMAGE[:PATH]").required(true).help("device or image, and a path in it");
    let json = || flag("json", "one JSON document");
    let salvage = || flag("salvage", "passes over damage instead of stopping at it");
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
    let cx = &context(args, cx)?;
    let spec = args.get_one::<String>("image").map_or("", String::as_str);
    let also: Vec<&PathBuf> = args.get_many("also").into_iter().flatten().collect();
    let image = Image::open(spec, &also, open, args.get_flag("forward"), cx)?;
    let exit = match verb {
        "ls" => ls(&image, args, out)?,
        "stat" => stat(&image, args, out)?,
        "du" => du(&image, args, out)?,
        "cat" => cat(&image, out, cx)?,
        "tree" => tree(&image, args, out)?,
        "extract" => extract_files(&image, args, out, cx)?,
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

fn listed(image: &Image, recursive: bool) -> Result<Vec<(Vec<u8>, &Node)>> {
    if image.files().is_lost_and_found(&image.path) {
        let lost = image.files().orphans.iter().chain(&image.files().unreachable);
        let nodes = lost.filter_map(|ino| image.files().node(*ino));
        return Ok(nodes.map(|n| (image.files().path(n.ino), n)).collect());
    }
    let node = image.node()?;
    let path = image.files().path(node.ino);
    if !node.directory {
        return Ok(vec![(path, node)]);
    }
    let depth = path.iter().filter(|b| **b == b'/').count().saturating_add(usize::from(path != b"/"));
    let all = image.files().walk(node.ino);
    let near = |p: &[u8]| p.iter().filter(|b| **b == b'/').count() <= depth;
    Ok(all.filter(|(p, _)| recursive || near(p)).collect())
}

fn ls(image: &Image, args: &ArgMatches, out: &mut dyn Write) -> Result<Exit> {
    let entries = listed(image, args.get_flag("recursive"))?;
    if args.get_flag("json") {
        let list: Vec<Value> = entries.iter().map(|(p, n)| entry_json(p, n)).collect();
        print_json(out, &json!({ "entries": list }))?;
        return Ok(image.exit());
    }
    for (path, node) in entries {
        let mark = if node.directory { "/" } else { "" };
        if args.get_flag("long") {
            let kind = if node.directory { 'd' } else { '-' };
            let text = format!("{kind} {:>8} {:>14} {} {}{mark}", node.ino, node.size, time(node.mtime), shown(&path));
            line(out, &text)?;
        } else {
            line(out, &format!("{}{mark}", shown(&path)))?;
        }
    }
    trouble(image, out)?;
    Ok(image.exit())
}

/// One line about damage, where there is any, so that a listing is not taken for more than it is.
fn trouble(image: &Image, out: &mut dyn Write) -> Result<()> {
    match inspect::exit(image.pfs()) {
        0 => Ok(()),
        3 => line(out, "-- damaged, and everything could be read around the damage; `verify` says what and where"),
        _ => line(out, "-- damaged, and something is lost; `verify` says what and where"),
    }
}

fn stat(image: &Image, args: &ArgMatches, out: &mut dyn Write) -> Result<Exit> {
    let node = image.node()?;
    let path = image.files().path(node.ino);
    let mut value = entry_json(&path, node);
    let file = image.source.file(node, &String::from_utf8_lossy(&path));
    let segments: Vec<Value> = file
        .segments()
        .iter()
        .filter_map(|s| s.device.map(|d| json!([s.file.start, s.file.end.saturating_sub(s.file.start), d])))
        .collect();
    if let Value::Object(object) = &mut value {
        object.insert("nlink".into(), node.nlink.into());
        object.insert("atime".into(), node.atime.into());
        object.insert("ctime".into(), node.ctime.into());
        object.insert("btime_us".into(), node.btime.into());
        object.insert("blocks512".into(), node.nblock.saturating_mul(BLOCK / 512).into());
        object.insert("allocated".into(), allocated(node).into());
        if !node.directory {
            object.insert("segments".into(), segments.into());
        }
    }
    if args.get_flag("json") {
        print_json(out, &value)?;
    } else {
        line(out, &format!("path    {}", shown(&path)))?;
        line(out, &format!("type    {}", kind_of(node)))?;
        line(out, &format!("size    {}", node.size))?;
        line(out, &format!("inode   {}  links {}", node.ino, node.nlink))?;
        line(out, &format!("blocks  {} of 4 MiB, {} bytes taken", node.nblock, allocated(node)))?;
        line(out, &format!("modify  {}", time(node.mtime)))?;
        line(out, &format!("change  {}", time(node.ctime)))?;
        line(out, &format!("birth   {}", time(node.btime / 1_000_000)))?;
        for doubt in &node.doubts {
            line(out, &format!("doubt   {}", doubt.as_str()))?;
        }
    }
    Ok(if node.doubts.is_empty() { Exit::OK } else { Exit(4) })
}

/// Room that a file takes: whole blocks, or of a single block the written part in steps of 128 KiB.
fn allocated(node: &Node) -> u64 {
    match node.extents.as_slice() {
        [one] => one.written.div_ceil(SMALL_UNIT).saturating_mul(SMALL_UNIT),
        many => (many.len() as u64).saturating_mul(BLOCK),
    }
}

fn du(image: &Image, args: &ArgMatches, out: &mut dyn Write) -> Result<Exit> {
    let top = image.node()?;
    let base = image.files().path(top.ino);
    let mut sums: BTreeMap<Vec<u8>, (u64, u64, u64)> = BTreeMap::new();
    let mut add = |dir: &[u8], node: &Node| {
        let sum = sums.entry(dir.to_vec()).or_default();
        if !node.directory {
            sum.0 = sum.0.saturating_add(allocated(node));
            sum.1 = sum.1.saturating_add(node.size);
            sum.2 = sum.2.saturating_add(1);
        }
    };
    add(&base, top);
    for (path, node) in image.files().walk(top.ino) {
        if node.directory {
            add(&path, node);
        }
        let mut dir = path.as_slice();
        while dir != base.as_slice() {
            let Some(cut) = dir.iter().rposition(|b| *b == b'/') else { break };
            dir = if cut == 0 { b"/" } else { dir.get(..cut).unwrap_or_default() };
            add(dir, node);
            if dir == base.as_slice() || dir == b"/" {
                break;
            }
        }
    }
    if args.get_flag("json") {
        let list: Vec<Value> = sums
            .iter()
            .map(|(path, (taken, size, files))| {
                let mut object = serde_json::Map::new();
                put_path(&mut object, path);
                object.insert("allocated".into(), (*taken).into());
                object.insert("size".into(), (*size).into());
                object.insert("files".into(), (*files).into());
                Value::Object(object)
            })
            .collect();
        print_json(out, &json!({ "entries": list }))?;
    } else {
        for (path, (taken, size, files)) in &sums {
            line(out, &format!("{taken:>16} {size:>16} {files:>8}  {}", shown(path)))?;
        }
        trouble(image, out)?;
    }
    Ok(image.exit())
}

fn cat(image: &Image, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let node = image.node()?;
    let path = shown(&image.files().path(node.ino));
    if node.directory {
        return Err(Error::Usage(format!("{path}: a directory")));
    }
    let salvage = cx.reading == Reading::Salvage;
    let only_data = |d: &&Doubt| !salvage && **d != Doubt::Data;
    if let Some(doubt) = node.doubts.iter().find(only_data) {
        return Err(Error::Damaged(format!("{path}: {}; --salvage gives what is there", doubt.as_str())));
    }
    let file = image.source.file(node, &path);
    let failed = |e| Error::write("output", "write", e);
    let zeros = vec![0; 1 << 16];
    let fill = |out: &mut dyn Write, mut n: u64| -> Result<()> {
        while n > 0 {
            let part = usize::try_from(n).unwrap_or(usize::MAX).min(zeros.len());
            out.write_all(zeros.get(..part).unwrap_or_default()).map_err(failed)?;
            n = n.saturating_sub(part as u64);
        }
        Ok(())
    };
    let outcome = pass(
        &file,
        None,
        &mut |item: Item<'_>| match item {
            Item::Data(bytes) => out.write_all(bytes).map_err(failed),
            Item::Hole(n) => fill(out, n),
            Item::Missing(n) if salvage => fill(out, n),
            Item::Missing(n) => {
                Err(Error::Damaged(format!("{path}: {n} bytes cannot be read; --salvage gives zeros in their place")))
            }
        },
        cx,
    )?;
    let whole = outcome.missing.is_empty() && node.doubts.is_empty();
    Ok(if whole { Exit::OK } else { Exit(4) })
}

fn tree(image: &Image, args: &ArgMatches, out: &mut dyn Write) -> Result<Exit> {
    let top = image.node()?;
    let base = image.files().path(top.ino);
    if args.get_flag("json") {
        let list: Vec<Value> = image.files().walk(top.ino).map(|(p, n)| entry_json(&p, n)).collect();
        print_json(out, &json!({ "entries": list }))?;
        return Ok(image.exit());
    }
    line(out, &shown(&base))?;
    let depth = |p: &[u8]| p.iter().filter(|b| **b == b'/').count();
    let own = if base == b"/" { 0 } else { depth(&base) };
    for (path, node) in image.files().walk(top.ino) {
        let indent = "  ".repeat(depth(&path).saturating_sub(own));
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let size = if node.directory { "/".to_owned() } else { format!("  {}", node.size) };
        line(out, &format!("{indent}{}{size}", shown(name)))?;
    }
    trouble(image, out)?;
    Ok(image.exit())
}

fn extract_files(image: &Image, args: &ArgMatches, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let options = ExtractOptions { path: image.path.clone(), salvage: args.get_flag("salvage"), below: String::new() };
    let extraction = extract::plan(&image.sources, &image.source, &options)?;
    let to = args.get_one::<PathBuf>("out").ok_or_else(|| Error::Usage("--out DIR is missing".into()))?;
    let target = DirTarget::new(to)?;
    let (done, checked) = if args.get_flag("no-verify") {
        (extract::run(&image.sources, &image.source, extraction, &Unhashed::new(target), None, cx)?, None)
    } else {
        let files: Arc<dyn Source> = Arc::new(image.source.clone());
        let watch = ClusterWatch::new(&files, cx)?;
        let done = extract::run(&image.sources, &image.source, extraction, &target, Some(&watch), cx)?;
        (done, Some(watch.checked()))
    };
    let bad = checked.as_ref().map_or(0, |c| c.bad);
    let exit = if done.spoiled.is_empty() && bad == 0 { image.exit() } else { Exit(4) };
    if args.get_flag("json") {
        print_json(out, &extracted_json(image, &done, checked.as_ref(), to, exit))?;
        return Ok(exit);
    }
    let bytes = done.receipt.files.iter().map(|f| f.size).fold(0, u64::saturating_add);
    let place = shown(to.display().to_string().as_bytes());
    line(out, &format!("{} files, {bytes} bytes in {place}", done.receipt.files.len()))?;
    if let Some(c) = checked.filter(|c| c.pages > 0 || c.records > 0) {
        line(out, &format!("{} pages checked, {} bad; {} log records checked", c.pages, c.bad, c.records))?;
        for p in &c.named {
            line(out, &format!("bad page: {} at {:#x}: {:?}", shown(p.path.as_bytes()), p.offset, p.verdict))?;
        }
    }
    let word = if options.salvage { "written with gaps" } else { "left out" };
    for s in &done.spoiled {
        line(out, &format!("{word}: {}: {}", shown(s.path.as_bytes()), s.why))?;
    }
    let lost = image.files().orphans.len().saturating_add(image.files().unreachable.len());
    if lost > 0 && !options.salvage {
        line(
            out,
            &format!("{lost} deleted or unreachable files are still there: --salvage writes them to lost+found"),
        )?;
    }
    trouble(image, out)?;
    Ok(exit)
}

fn extracted_json(image: &Image, done: &Extracted, checked: Option<&Checked>, to: &Path, exit: Exit) -> Value {
    let bytes = done.receipt.files.iter().map(|f| f.size).fold(0, u64::saturating_add);
    let spoiled: Vec<Value> =
        done.spoiled.iter().map(|s| json!({ "path": s.path, "why": s.why, "size": s.size })).collect();
    let named = |c: &Checked| -> Vec<Value> {
        c.named
            .iter()
            .map(|p| json!({ "path": p.path, "offset": p.offset, "what": format!("{:?}", p.verdict) }))
            .collect()
    };
    let checks = checked.map(|c| {
        json!({
            "pages": c.pages, "new": c.new, "bad": c.bad, "bad_pages": named(c),
            "wal_segments": c.segments, "wal_records": c.records,
        })
    });
    json!({
        "exit": exit.0, "out": to.display().to_string(), "files": done.receipt.files.len(), "bytes": bytes,
        "checks": checks, "spoiled": spoiled,
        "orphans": image.files().orphans.len(), "unreachable": image.files().unreachable.len(),
        "facts": { "pfs": inspect::facts(image.pfs()) },
    })
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
