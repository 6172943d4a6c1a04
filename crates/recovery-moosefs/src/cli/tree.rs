//! `ls`, `stat`, `find`, `du`, `chunks`: a metadata file as a tree.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Arg, ArgMatches, Command, value_parser};
use recovery_core::cli::{Exit, OpenOptions, open_path};
use recovery_core::{Blob, Context, Error, FileBlob, Result, Sources, names};
use serde_json::{Map, Value, json};

use super::wants_json;
use crate::browse::{Object, Opened, open_directory, open_file};
use crate::format::node::Kind;
use crate::time::utc;

pub(super) fn commands() -> Vec<Command> {
    let verb = |name: &'static str, about: &'static str| {
        Command::new(name)
            .about(about)
            .arg(
                Arg::new("metadata")
                    .value_name("METADATA")
                    .required(true)
                    .value_parser(value_parser!(PathBuf))
                    .help("a metadata file, or a data directory: the state it leads to"),
            )
            .arg(Arg::new("path").value_name("PATH").default_value("/").help("from the root, or inode:N"))
    };
    vec![
        verb("ls", "the names in a directory of a metadata file"),
        verb("stat", "everything a metadata file knows about one object"),
        verb("find", "all paths below a directory of a metadata file"),
        verb("du", "objects, bytes and chunks below each name of a directory"),
        verb("chunks", "the chunks of a file, or of all files below a directory"),
    ]
}

/// Opens a file, or what a directory leads to.
pub(super) fn opened(path: &Path, open: &OpenOptions, cx: &Context) -> Result<Opened> {
    if path.is_dir() {
        return open_directory(&Sources::one(open_path(path, open)?), cx);
    }
    let blob: Arc<dyn Blob> = Arc::new(FileBlob::open(path, path.to_string_lossy())?);
    open_file(&blob, cx)
}

pub(super) fn run(verb: &str, m: &ArgMatches, open: &OpenOptions, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let file = m.get_one::<PathBuf>("metadata").cloned().unwrap_or_default();
    let state = opened(&file, open, cx)?;
    let path = m.get_one::<String>("path").map_or("/", String::as_str);
    let object = match path.strip_prefix("inode:") {
        Some(n) => n.parse().ok().and_then(|n| state.model.object(n)),
        None => state.model.resolve(&bytes(path)),
    };
    let object =
        object.ok_or_else(|| Error::Usage(format!("{path}: there is no such object in {}", file.display())))?;
    let mut show = Show { out, json: wants_json(m), state: &state };
    for note in &state.notes {
        let text = names::terminal(note).into_owned();
        show.record(json!({"note": note}), &format!("# {text}"))?;
    }
    match verb {
        "ls" => show.ls(object, path)?,
        "stat" => show.stat(object)?,
        "find" => show.find(object)?,
        "du" => show.du(object)?,
        _ => show.chunks(object)?,
    }
    Ok(Exit(if state.notes.is_empty() { 0 } else { 4 }))
}

/// A path argument: text, or `hex:...`.
fn bytes(path: &str) -> Vec<u8> {
    let digits = path.strip_prefix("hex:").filter(|d| d.len() % 2 == 0);
    let decoded = digits.and_then(|d| {
        d.as_bytes()
            .chunks(2)
            .map(|p| std::str::from_utf8(p).ok().and_then(|p| u8::from_str_radix(p, 16).ok()))
            .collect::<Option<Vec<u8>>>()
    });
    decoded.unwrap_or_else(|| path.as_bytes().to_vec())
}

/// Text for JSON: lossy, with the bytes beside it where they are no UTF-8.
pub(super) fn put_text(map: &mut Map<String, Value>, key: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => map.insert(key.to_owned(), json!(text)),
        Err(_) => {
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            map.insert(format!("{key}_hex"), json!(hex));
            map.insert(key.to_owned(), json!(String::from_utf8_lossy(bytes)))
        }
    };
}

/// Text for a terminal.
pub(super) fn shown(bytes: &[u8]) -> String {
    names::terminal(&String::from_utf8_lossy(bytes)).into_owned()
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "directory",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Block => "block device",
        Kind::Char => "character device",
        Kind::Socket => "socket",
        Kind::Trash => "file in the trash",
        Kind::Sustained => "unlinked open file",
    }
}

fn mode_text(o: &Object<'_>) -> String {
    let mut text = String::with_capacity(10);
    text.push(match o.kind() {
        Kind::File | Kind::Trash | Kind::Sustained => '-',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        Kind::Fifo => 'p',
        Kind::Block => 'b',
        Kind::Char => 'c',
        Kind::Socket => 's',
    });
    let mode = o.mode();
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn eattr_names(eattr: u8) -> Vec<&'static str> {
    const NAMES: [&str; 8] =
        ["noowner", "noattrcache", "noentrycache", "nodatacache", "snapshot", "undeletable", "appendonly", "immutable"];
    NAMES.iter().enumerate().filter(|(bit, _)| eattr >> bit & 1 != 0).map(|(_, name)| *name).collect()
}

fn class_text(o: &Object<'_>) -> String {
    o.class_name().map_or_else(|| o.class().to_string(), shown)
}

/// The fields every record of an object has.
pub(super) fn attributes(o: &Object<'_>) -> Map<String, Value> {
    let [atime, mtime, ctime] = o.times();
    let (uid, gid) = o.owner();
    let mut map = Map::new();
    let fields = [
        ("inode", json!(o.inode())),
        ("type", json!(kind_name(o.kind()))),
        ("mode", json!(format!("{:04o}", o.mode()))),
        ("uid", json!(uid)),
        ("gid", json!(gid)),
        ("length", json!(o.length())),
        ("atime", json!(atime)),
        ("mtime", json!(mtime)),
        ("ctime", json!(ctime)),
        ("class", json!(o.class())),
        ("retention", json!(o.retention())),
        ("eattr", json!(eattr_names(o.eattr().0))),
    ];
    map.extend(fields.map(|(k, v)| (k.to_owned(), v)));
    if let Some(name) = o.class_name() {
        put_text(&mut map, "class_name", name);
    }
    if let Some(target) = o.target() {
        put_text(&mut map, "target", target);
    }
    if let Some((major, minor)) = o.device() {
        map.insert("device".to_owned(), json!([major, minor]));
    }
    map
}

/// Sums over a tree.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    objects: u64,
    directories: u64,
    files: u64,
    chunks: u64,
    bytes: u64,
}

impl Sums {
    fn add(&mut self, o: &Object<'_>) {
        self.objects = self.objects.saturating_add(1);
        self.directories = self.directories.saturating_add(u64::from(o.kind() == Kind::Directory));
        self.files = self.files.saturating_add(u64::from(o.kind() == Kind::File));
        self.chunks = self.chunks.saturating_add(o.chunks().iter().filter(|&&c| c != 0).count() as u64);
        self.bytes = self.bytes.saturating_add(o.length());
    }
}

struct Show<'a> {
    out: &'a mut dyn Write,
    json: bool,
    state: &'a Opened,
}

impl Show<'_> {
    fn record(&mut self, value: Value, text: &str) -> Result<()> {
        let written = if self.json { writeln!(self.out, "{value}") } else { writeln!(self.out, "{text}") };
        written.map_err(|e| Error::write("standard output", "write", e))
    }

    fn line(&mut self, path_key: &str, path: &[u8], o: &Object<'_>, wide: bool) -> Result<()> {
        let mut map = Map::new();
        put_text(&mut map, path_key, path);
        map.extend(attributes(o));
        let (uid, gid) = o.owner();
        let arrow = o.target().map(|t| format!(" -> {}", shown(t))).unwrap_or_default();
        let size = o.device().map_or_else(|| o.length().to_string(), |(a, b)| format!("{a},{b}"));
        let text = if wide {
            format!(
                "{:>10} {} {:>3} {uid:>6} {gid:>6} {size:>12} {} {:<8} {}{arrow}",
                o.inode(),
                mode_text(o),
                o.links(),
                utc(o.times()[1]),
                class_text(o),
                shown(path)
            )
        } else {
            shown(path)
        };
        self.record(Value::Object(map), &text)
    }

    fn ls(&mut self, o: Object<'_>, path: &str) -> Result<()> {
        if o.kind() != Kind::Directory {
            return self.line("name", path.as_bytes(), &o, true);
        }
        let mut all: Vec<_> = o.names().collect();
        all.sort_unstable_by_key(|n| n.name);
        for n in all {
            self.line("name", n.name, &n.object, true)?;
        }
        Ok(())
    }

    fn find(&mut self, o: Object<'_>) -> Result<()> {
        let start = o.paths().into_iter().next().unwrap_or_default();
        let prefix = if start.is_empty() { b"/".to_vec() } else { [b"/", start.as_slice(), b"/"].concat() };
        let state = self.state;
        state.model.walk(o, &mut |path, o| self.line("path", &[prefix.as_slice(), path].concat(), &o, false))
    }

    fn du(&mut self, top: Object<'_>) -> Result<()> {
        let state = self.state;
        let mut total = Sums::default();
        total.add(&top);
        let mut all: Vec<_> = top.names().collect();
        all.sort_unstable_by_key(|n| n.name);
        if !self.json {
            let head = ["OBJECTS", "DIRECTORIES", "FILES", "CHUNKS", "BYTES"].map(|h| format!("{h:>12}")).join(" ");
            self.record(Value::Null, &format!("{head}  NAME"))?;
        }
        for n in all {
            let mut sums = Sums::default();
            sums.add(&n.object);
            state.model.walk(n.object, &mut |_, o| {
                sums.add(&o);
                Ok(())
            })?;
            self.sums(n.name, &sums)?;
            total = Sums {
                objects: total.objects.saturating_add(sums.objects),
                directories: total.directories.saturating_add(sums.directories),
                files: total.files.saturating_add(sums.files),
                chunks: total.chunks.saturating_add(sums.chunks),
                bytes: total.bytes.saturating_add(sums.bytes),
            };
        }
        self.sums(b".", &total)
    }

    fn sums(&mut self, name: &[u8], s: &Sums) -> Result<()> {
        let mut map = Map::new();
        put_text(&mut map, "name", name);
        let numbers = [
            ("objects", s.objects),
            ("directories", s.directories),
            ("files", s.files),
            ("chunks", s.chunks),
            ("bytes", s.bytes),
        ];
        map.extend(numbers.map(|(k, v)| (k.to_owned(), json!(v))));
        let text = numbers.map(|(_, v)| format!("{v:>12}")).join(" ");
        self.record(Value::Object(map), &format!("{text}  {}", shown(name)))
    }

    fn chunks(&mut self, top: Object<'_>) -> Result<()> {
        let start = top.paths().into_iter().next().unwrap_or_default();
        let path = [b"/", start.as_slice()].concat();
        if top.kind() != Kind::Directory {
            return self.chunks_of(&path, &top);
        }
        let prefix = if start.is_empty() { path } else { [path.as_slice(), b"/"].concat() };
        let state = self.state;
        state.model.walk(top, &mut |path, o| self.chunks_of(&[prefix.as_slice(), path].concat(), &o))
    }

    fn chunks_of(&mut self, path: &[u8], o: &Object<'_>) -> Result<()> {
        for (index, &id) in o.chunks().iter().enumerate().filter(|(_, id)| **id != 0) {
            let known = self.state.model.chunk(id);
            let mut map = Map::new();
            put_text(&mut map, "path", path);
            map.insert("inode".to_owned(), json!(o.inode()));
            map.insert("index".to_owned(), json!(index));
            map.insert("chunk".to_owned(), json!(format!("{id:016X}")));
            let text = match known {
                Some((version, flags, locked)) => {
                    let version = version & 0x7FFF_FFFF;
                    let file = format!("chunk_{id:016X}_{version:08X}.mfs");
                    map.insert("version".to_owned(), json!(version));
                    map.insert("file".to_owned(), json!(file));
                    map.insert("archived".to_owned(), json!(flags & 1 != 0));
                    map.insert("locked_until".to_owned(), json!(locked));
                    format!("{index:>6}  {file}  {}", shown(path))
                }
                None => {
                    map.insert("version".to_owned(), Value::Null);
                    format!("{index:>6}  chunk {id:016X} is not in the chunk table  {}", shown(path))
                }
            };
            self.record(Value::Object(map), &text)?;
        }
        Ok(())
    }

    fn stat(&mut self, o: Object<'_>) -> Result<()> {
        let mut map = Map::new();
        map.insert("schema".to_owned(), json!("recover/moosefs-stat/1"));
        let mut paths: Vec<Value> = Vec::new();
        for p in o.paths() {
            let mut one = Map::new();
            put_text(&mut one, "path", &[b"/", p.as_slice()].concat());
            paths.push(Value::Object(one));
        }
        map.insert("paths".to_owned(), json!(paths));
        map.extend(attributes(&o));
        map.insert("links".to_owned(), json!(o.links()));
        map.insert("winattr".to_owned(), json!(o.eattr().1));
        let chunks = o.chunks();
        if o.kind().is_file() {
            let used = chunks.iter().filter(|&&c| c != 0).count();
            let unknown = chunks.iter().filter(|&&c| c != 0 && self.state.model.chunk(c).is_none()).count();
            map.insert("chunks".to_owned(), json!({"entries": chunks.len(), "used": used, "unknown": unknown}));
        }
        let xattrs: Vec<Value> = o
            .xattrs()
            .map(|(name, value)| {
                let mut one = Map::new();
                put_text(&mut one, "name", name);
                one.insert("bytes".to_owned(), json!(value.len()));
                Value::Object(one)
            })
            .collect();
        map.insert("xattrs".to_owned(), json!(xattrs));
        for (key, default) in [("acl", false), ("default_acl", true)] {
            if let Some(a) = o.acl(default) {
                let named: Vec<Value> = a
                    .entries
                    .iter()
                    .enumerate()
                    .map(|(i, e)| {
                        let who = if i < usize::from(a.users) { "user" } else { "group" };
                        json!({who: e.id, "perm": e.perm})
                    })
                    .collect();
                let value = json!({"user": a.user, "group": a.group, "other": a.other, "mask": a.mask, "named": named});
                map.insert(key.to_owned(), value);
            }
        }
        if let Some(q) = o.quota() {
            map.insert("quota".to_owned(), json!({"flags": q.flags, "exceeded": q.exceeded, "grace": q.grace}));
        }
        let mut text = String::new();
        for (key, value) in map.iter().filter(|(k, _)| *k != "schema") {
            let value = match (key.as_str(), value) {
                ("atime" | "mtime" | "ctime", v) => utc(v.as_u64().and_then(|v| u32::try_from(v).ok()).unwrap_or(0)),
                ("mode", _) => format!("{:04o} {}", o.mode(), mode_text(&o)),
                (_, Value::String(s)) => names::terminal(s).into_owned(),
                (_, Value::Array(list)) if list.is_empty() => continue,
                (_, other) => names::terminal(&other.to_string()).into_owned(),
            };
            text.push_str(&format!("{key:>12}  {value}\n"));
        }
        self.record(Value::Object(map), text.trim_end())
    }
}
