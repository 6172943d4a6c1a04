//! `log`: change logs, decoded and filtered.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Arg, ArgMatches, Command, value_parser};
use recovery_core::cli::{Exit, OpenOptions, open_path};
use recovery_core::{Check, Context, DirSource, Error, Result, Source, Sources, names};
use serde_json::{Map, Value, json};

use super::tree::{put_text, shown};
use super::wants_json;
use crate::case::{branch, job};
use crate::changelog::file::LineReader;
use crate::changelog::line::{body, line_id};
use crate::changelog::merge::Entry;
use crate::changelog::{LineError, Op};
use crate::dialect::Dialect;
use crate::model::Model;
use crate::model::load::{LoadOptions, load};
use crate::survey::{Survey, Way, survey};
use crate::time::{Point, utc};
use crate::trace::{Named, Visitor, trace};

pub(super) fn command() -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("log")
        .about("change logs, decoded, with the paths they touch; a directory is followed from its oldest state")
        .arg(text("path", "P", "only changes of this path, or below it"))
        .arg(text("inode", "N", "only changes that name this inode").value_parser(value_parser!(u32)))
        .arg(text("session", "N", "only changes of this session").value_parser(value_parser!(u32)))
        .arg(text("op", "OP", "only this operation, such as UNLINK").action(clap::ArgAction::Append))
        .arg(text("from", "ID|TIME", "from this change or time on"))
        .arg(text("to", "ID|TIME", "up to this change or time, inclusive"))
        .arg(Arg::new("paths").value_name("DIR|LOG").required(true).num_args(1..).value_parser(value_parser!(PathBuf)))
}

struct Filter {
    path: Option<Vec<u8>>,
    inode: Option<u32>,
    session: Option<u32>,
    ops: Vec<String>,
    from: Option<Point>,
    to: Option<Point>,
}

impl Filter {
    fn new(m: &ArgMatches) -> Result<Self> {
        let point = |name: &str| m.get_one::<String>(name).map(|s| s.parse()).transpose();
        let path = m.get_one::<String>("path").map(|p| {
            let parts: Vec<&str> = p.split('/').filter(|p| !p.is_empty()).collect();
            format!("/{}", parts.join("/")).into_bytes()
        });
        Ok(Self {
            path,
            inode: m.get_one("inode").copied(),
            session: m.get_one("session").copied(),
            ops: m.get_many::<String>("op").into_iter().flatten().map(|o| o.to_ascii_uppercase()).collect(),
            from: point("from")?,
            to: point("to")?,
        })
    }

    fn passes(&self, id: u64, time: u32, word: &str, named: &Named, paths: &[Vec<u8>]) -> bool {
        let after = match self.from {
            None => true,
            Some(Point::Id(from)) => id >= from,
            Some(Point::Time(from)) => time >= from,
        };
        let before = match self.to {
            None => true,
            Some(Point::Id(to)) => id <= to,
            Some(Point::Time(to)) => time <= to,
        };
        let below = |p: &Vec<u8>, top: &Vec<u8>| {
            top.len() <= 1 || p == top || p.strip_prefix(top.as_slice()).is_some_and(|r| r.first() == Some(&b'/'))
        };
        after
            && before
            && (self.ops.is_empty() || self.ops.iter().any(|o| o == word))
            && self.inode.is_none_or(|i| named.inodes.contains(&i) || named.names.iter().any(|(p, _)| *p == i))
            && self.session.is_none_or(|s| named.session == Some(s))
            && self.path.as_ref().is_none_or(|top| paths.iter().any(|p| below(p, top)))
    }
}

/// One change on its way to the reader.
struct Shown<'a> {
    id: u64,
    time: u32,
    line: &'a [u8],
    file: &'a str,
    at: u64,
    named: Named,
    paths: Vec<Vec<u8>>,
    error: Option<String>,
}

struct Printer<'a> {
    out: &'a mut dyn Write,
    json: bool,
    filter: Filter,
    dialect: Option<Dialect>,
    files: Vec<String>,
    pending: Option<(Named, Vec<Vec<u8>>)>,
    /// Lines that cannot be read or applied.
    bad: u64,
}

/// The text of a change behind `<id>: <time>|`.
fn change(line: &[u8]) -> &[u8] {
    let bar = line.iter().position(|&b| b == b'|').map_or(0, |p| p.saturating_add(1));
    line.get(bar..).unwrap_or_default()
}

impl Printer<'_> {
    fn show(&mut self, s: &Shown<'_>) -> Result<()> {
        let text = change(s.line);
        let word_len = text.iter().take_while(|b| b.is_ascii_uppercase() || **b == b'_').count();
        let word = String::from_utf8_lossy(text.get(..word_len).unwrap_or_default()).into_owned();
        if s.error.is_some() {
            self.bad = self.bad.saturating_add(1);
        } else if !self.filter.passes(s.id, s.time, &word, &s.named, &s.paths) {
            return Ok(());
        }
        let written = if self.json {
            writeln!(self.out, "{}", Value::Object(record(s, &word, text)))
        } else {
            let mut paths: Vec<String> = s.paths.iter().map(|p| shown(p)).collect();
            paths.dedup();
            let paths = if paths.is_empty() { String::new() } else { format!("  {}", paths.join(" -> ")) };
            let error = s.error.as_ref().map(|e| format!("  !! {e}")).unwrap_or_default();
            writeln!(self.out, "{} {} {}{paths}{error}", s.id, utc(s.time), shown(text))
        };
        written.map_err(|e| Error::write("standard output", "write", e))
    }
}

fn record(s: &Shown<'_>, word: &str, text: &[u8]) -> Map<String, Value> {
    let mut map = Map::new();
    let fields = [
        ("id", json!(s.id)),
        ("time", json!(s.time)),
        ("utc", json!(utc(s.time))),
        ("op", json!(word)),
        ("change", json!(String::from_utf8_lossy(text))),
        ("file", json!(s.file)),
        ("offset", json!(s.at)),
    ];
    map.extend(fields.map(|(k, v)| (k.to_owned(), v)));
    if !s.named.inodes.is_empty() {
        map.insert("inodes".to_owned(), json!(s.named.inodes));
    }
    let names: Vec<Value> = s
        .named
        .names
        .iter()
        .map(|(parent, name)| {
            let mut one = Map::new();
            one.insert("parent".to_owned(), json!(parent));
            put_text(&mut one, "name", name);
            Value::Object(one)
        })
        .collect();
    if !names.is_empty() {
        map.insert("names".to_owned(), json!(names));
    }
    for (i, path) in s.paths.iter().enumerate() {
        let key = if i == 0 { "path".to_owned() } else { format!("path{}", i.saturating_add(1)) };
        put_text(&mut map, &key, path);
    }
    if let Some(session) = s.named.session {
        map.insert("session".to_owned(), json!(session));
    }
    if let Some(chunk) = s.named.chunk {
        map.insert("chunk".to_owned(), json!(format!("{chunk:016X}")));
    }
    if let Some(error) = &s.error {
        map.insert("error".to_owned(), json!(error));
    }
    map
}

impl Visitor for Printer<'_> {
    fn before(&mut self, model: &Model, line: &[u8], e: &Entry) -> Result<bool> {
        let named = e.op.as_ref().map(|op| Named::of(op, line, self.dialect)).unwrap_or_default();
        let paths = named.paths(model);
        self.pending = Some((named, paths));
        let past = match self.filter.to {
            Some(Point::Id(to)) => e.id > to,
            _ => false,
        };
        Ok(!past)
    }

    fn after(&mut self, _: &Model, line: &[u8], e: &Entry, error: Option<&str>) -> Result<()> {
        let (named, paths) = self.pending.take().unwrap_or_default();
        let file = self.files.get(e.input).cloned().unwrap_or_default();
        let error = error.map(str::to_owned);
        self.show(&Shown { id: e.id, time: e.time, line, file: &file, at: e.at, named, paths, error })
    }
}

pub(super) fn run(m: &ArgMatches, open: &OpenOptions, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let paths: Vec<PathBuf> = m.get_many::<PathBuf>("paths").into_iter().flatten().cloned().collect();
    let mut printer = Printer {
        out,
        json: wants_json(m),
        filter: Filter::new(m)?,
        dialect: None,
        files: Vec::new(),
        pending: None,
        bad: 0,
    };
    let (dirs, files): (Vec<_>, Vec<_>) = paths.iter().partition(|p| p.is_dir());
    if !dirs.is_empty() && !files.is_empty() {
        return Err(Error::Usage("name directories, or log files, not both".to_owned()));
    }
    let mut full = cx.clone();
    full.check = Check::Full;
    if dirs.is_empty() {
        for file in files {
            one_file(&mut printer, file, &full)?;
        }
    } else {
        let rivals = dirs.iter().map(|d| open_path(d, open)).collect::<Result<Vec<_>>>()?;
        let sources = Sources { rivals, ..Sources::default() };
        directories(&mut printer, survey(&sources, &full)?, &full)?;
    }
    Ok(Exit(if printer.bad == 0 { 0 } else { 4 }))
}

/// Follows the logs from the oldest state on; where they cannot be followed further, from the next one.
fn directories(p: &mut Printer<'_>, found: Survey, cx: &Context) -> Result<()> {
    let ways = found.ways(None, u64::MAX);
    let mut usable: Vec<&Way> = ways.iter().filter(|w| w.dialect.is_some()).collect();
    usable.sort_by_key(|w| w.from);
    let mut next = 0u64;
    for way in usable {
        let Some(dialect) = way.dialect else { continue };
        if way.from < next || (way.from == next && next > 0) {
            continue;
        }
        let Some(model) = start(&found, way, dialect, cx) else { continue };
        p.dialect = Some(dialect);
        let first = model.version();
        lines(p, &found, way, &|id| next <= id && id < first)?;
        p.files = way.logs.iter().filter_map(|&i| found.logs.get(i)).map(|l| l.entry.name.clone()).collect();
        let until = branch(&found, way).map_or(u64::MAX, |b| b.saturating_sub(1));
        let model = trace(model, &job(&found, way, dialect, until), cx, p)?;
        next = model.version();
    }
    let Some(way) = ways.first() else {
        return lines(p, &found, &Way::default(), &|id| id >= next);
    };
    lines(p, &found, way, &|id| id >= next)
}

fn start(found: &Survey, way: &Way, dialect: Dialect, cx: &Context) -> Option<Model> {
    let Some(base) = way.base.and_then(|i| found.bases.get(i)).filter(|b| !b.is_new()) else {
        return Some(Model::new_filesystem(dialect));
    };
    let options = LoadOptions { salvage: true, dialect: Some(dialect), checksums: false };
    cx.pool().install(|| load(base.blob.as_ref(), &options)).ok().map(|l| l.model)
}

/// Lines as they stand in the files, without paths; ids that stand in several files once.
fn lines(p: &mut Printer<'_>, found: &Survey, way: &Way, wanted: &dyn Fn(u64) -> bool) -> Result<()> {
    let mut order: Vec<usize> = (0..found.logs.len()).collect();
    order.sort_by_key(|&i| found.logs.get(i).and_then(|l| l.scan.first));
    let mut next = 0u64;
    for log in order.into_iter().filter_map(|i| found.logs.get(i)) {
        let skip = crate::case::skipped(log, way);
        let mut reader = LineReader::new(log.blob.as_ref());
        while let Some(line) = reader.next_line()? {
            let overtaken = skip.iter().any(|&(a, b)| a <= line.at && line.at < b);
            match line_id(line.text).filter(|_| !overtaken) {
                Some((id, at)) if wanted(id) && id >= next => {
                    next = id.saturating_add(1);
                    plain(p, id, at, line.text, &log.entry.name, line.at)?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn plain(p: &mut Printer<'_>, id: u64, at: usize, text: &[u8], file: &str, offset: u64) -> Result<()> {
    let (time, named, error) = match body(text, at) {
        Ok((time, op)) => {
            let unknown = matches!(op, Op::Unknown { .. }).then(|| "unknown operation".to_owned());
            (time, Named::of(&op, text, p.dialect), unknown)
        }
        Err(e) => (0, Named::default(), Some(reason(&e))),
    };
    p.show(&Shown { id, time, line: text, file, at: offset, named, paths: Vec::new(), error })
}

fn reason(e: &LineError) -> String {
    e.to_string()
}

/// A log by itself.
fn one_file(p: &mut Printer<'_>, path: &Path, cx: &Context) -> Result<()> {
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let source: Arc<dyn Source> = Arc::new(DirSource::open(folder)?);
    let found = crate::survey::named(source.as_ref(), &name, false, cx)?;
    p.dialect = found.log_dialect();
    if p.filter.path.is_some() {
        let text = "--path needs a directory: the paths of a log are known only together with its metadata file";
        return Err(Error::Usage(text.to_owned()));
    }
    if let Some(log) = found.logs.first() {
        let mut reader = LineReader::new(log.blob.as_ref());
        while let Some(line) = reader.next_line()? {
            cx.cancelled()?;
            match line_id(line.text) {
                Some((id, at)) => plain(p, id, at, line.text, &log.entry.name, line.at)?,
                None if line.text.is_empty() => {}
                None => {
                    p.bad = p.bad.saturating_add(1);
                    let text = format!("# {}: {} bytes at offset {} are no line", name, line.text.len(), line.at);
                    let record =
                        json!({"file": name, "offset": line.at, "length": line.text.len(), "error": "no line"});
                    let text = if p.json { record.to_string() } else { names::terminal(&text).into_owned() };
                    writeln!(p.out, "{text}").map_err(|e| Error::write("standard output", "write", e))?;
                }
            }
        }
    }
    Ok(())
}
