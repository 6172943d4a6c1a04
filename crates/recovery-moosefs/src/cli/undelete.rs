//! `undelete`: what is in the trash, and what the logs removed for good, with the change to go back to.

use std::io::Write;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};
use recovery_core::cli::{Exit, OpenOptions, open_path};
use recovery_core::{Check, Context, Error, Result, Sources, names};
use serde_json::{Map, Value, json};

use super::tree::{attributes, put_text, shown};
use super::wants_json;
use crate::browse::Object;
use crate::case::{branch, decide, job};
use crate::changelog::Op;
use crate::changelog::merge::Entry;
use crate::format::node::Kind;
use crate::model::Model;
use crate::model::load::{LoadOptions, load};
use crate::survey::{Way, survey};
use crate::time::utc;
use crate::trace::{Named, Visitor, trace};

pub(super) fn command() -> Command {
    Command::new("undelete")
        .about("deleted files: those in the trash, and those the logs removed for good, with how to get them back")
        .arg(Arg::new("dir").value_name("DIR").required(true).num_args(1..).value_parser(value_parser!(PathBuf)))
}

/// Collects what each change removes for good.
struct Removed {
    /// What a change may remove: inode, path, the fields of its object.
    candidates: Vec<(u32, Vec<u8>, Map<String, Value>)>,
    found: Vec<Map<String, Value>>,
}

impl Removed {
    fn candidate(&mut self, o: Object<'_>) {
        if o.kind().is_file() {
            let path = o.paths().into_iter().next().unwrap_or_default();
            self.candidates.push((o.inode(), path, attributes(&o)));
        }
    }
}

/// Names that a snapshot is removed with.
const REMOVE: u32 = 0x80;

impl Visitor for Removed {
    fn before(&mut self, model: &Model, line: &[u8], e: &Entry) -> Result<bool> {
        self.candidates.clear();
        let Ok(op) = &e.op else { return Ok(true) };
        match op {
            Op::Unlink { .. } | Op::Purge { .. } | Op::TrashRemove { .. } | Op::Release { .. } => {
                for inode in Named::of(op, line, Some(model.dialect())).inodes {
                    model.object(inode).into_iter().for_each(|o| self.candidate(o));
                }
            }
            Op::Move { to, .. } => {
                let named = Named::of(op, line, None);
                let name = named.names.get(1).map(|n| n.1.as_slice());
                let there = model.object(*to).and_then(|d| d.names().find(|n| Some(n.name) == name));
                there.into_iter().for_each(|n| self.candidate(n.object));
            }
            Op::EmptyTrash { .. } => model.unlinked(false).into_iter().for_each(|o| self.candidate(o)),
            Op::EmptySustained { .. } | Op::FreeInodes { .. } | Op::SesDel { .. } => {
                model.unlinked(true).into_iter().for_each(|o| self.candidate(o));
            }
            Op::Snapshot(s) if s.mode & REMOVE != 0 || s.mode & 1 != 0 => {
                let named = Named::of(op, line, None);
                let name = named.names.first().map(|n| n.1.as_slice());
                let there = model.object(s.parent).and_then(|d| d.names().find(|n| Some(n.name) == name));
                if let Some(n) = there {
                    self.candidate(n.object);
                    model.walk(n.object, &mut |_, o| {
                        self.candidate(o);
                        Ok(())
                    })?;
                }
            }
            _ => {}
        }
        Ok(true)
    }

    fn after(&mut self, model: &Model, _: &[u8], e: &Entry, error: Option<&str>) -> Result<()> {
        if error.is_some() {
            return Ok(());
        }
        for (inode, path, mut fields) in self.candidates.drain(..) {
            if model.object(inode).is_some() {
                continue;
            }
            let mut map = Map::new();
            map.insert("state".to_owned(), json!("removed"));
            put_text(&mut map, "path", &[b"/", path.as_slice()].concat());
            map.insert("change".to_owned(), json!(e.id));
            map.insert("time".to_owned(), json!(e.time));
            map.insert("until".to_owned(), json!(e.id.saturating_sub(1)));
            map.append(&mut fields);
            self.found.push(map);
        }
        Ok(())
    }
}

pub(super) fn run(m: &ArgMatches, open: &OpenOptions, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let dirs: Vec<PathBuf> = m.get_many::<PathBuf>("dir").into_iter().flatten().cloned().collect();
    let rivals = dirs.iter().map(|d| open_path(d, open)).collect::<Result<Vec<_>>>()?;
    let sources = Sources { rivals, ..Sources::default() };
    let mut full = cx.clone();
    full.check = Check::Full;
    let case = decide(survey(&sources, &full)?, None, None, false, &full)?;
    let (Some(built), Some(way)) = (&case.built, &case.way) else {
        return Err(Error::Unusable("nothing can be built from these files: see recover inspect".to_owned()));
    };
    let mut print = |record: Map<String, Value>, text: String| {
        let text = if wants_json(m) { Value::Object(record).to_string() } else { text };
        writeln!(out, "{text}").map_err(|e| Error::write("standard output", "write", e))
    };
    for (sustained, state) in [(false, "trash"), (true, "open")] {
        for o in built.model.unlinked(sustained) {
            let path = o.paths().into_iter().next().unwrap_or_default();
            let gone = o.times().into_iter().max().unwrap_or(0);
            let until = u64::from(gone).saturating_add(o.retention());
            let unknown = o.chunks().iter().filter(|&&c| c != 0 && built.model.chunk(c).is_none()).count();
            let mut map = Map::new();
            map.insert("state".to_owned(), json!(state));
            put_text(&mut map, "path", &[b"/", path.as_slice()].concat());
            map.insert("kept_until".to_owned(), json!(until));
            map.insert("unknown_chunks".to_owned(), json!(unknown));
            map.append(&mut attributes(&o));
            let kept = u32::try_from(until).map_or_else(|_| "for ever".to_owned(), |t| format!("until {}", utc(t)));
            let word = if sustained { "open, goes when it is closed".to_owned() } else { format!("trash {kept}") };
            let holes = if unknown > 0 { format!("  {unknown} chunks unknown") } else { String::new() };
            print(map, format!("{:>10} {:>14}  /{}  ({word}){holes}", o.inode(), o.length(), shown(&path)))?;
        }
    }
    // what the logs removed for good, from the oldest state that leads to the same end
    let reach = way.reach;
    let straight = |w: &&Way| w.reach == reach && w.dialect == way.dialect && branch(&case.survey, w).is_none();
    let oldest = case.ways.iter().filter(straight).min_by_key(|w| w.from);
    let oldest = oldest.unwrap_or(way);
    let base = oldest.base.and_then(|i| case.survey.bases.get(i)).filter(|b| !b.is_new());
    let rules = built.model.dialect();
    let options = LoadOptions { salvage: true, dialect: Some(rules), checksums: false };
    let start = match base {
        None => Some(Model::new_filesystem(rules)),
        Some(b) => cx.pool().install(|| load(b.blob.as_ref(), &options)).ok().map(|l| l.model),
    };
    let mut removed = Removed { candidates: Vec::new(), found: Vec::new() };
    if let Some(model) = start {
        let until = built.model.version().saturating_sub(1);
        trace(model, &job(&case.survey, oldest, rules, until), cx, &mut removed)?;
    }
    let any = !removed.found.is_empty();
    for map in removed.found {
        let field = |k: &str| map.get(k).and_then(Value::as_u64).unwrap_or(0);
        let time = u32::try_from(field("time")).unwrap_or(0);
        let path = map.get("path").and_then(Value::as_str).unwrap_or_default();
        let text = format!(
            "{:>10} {:>14}  {}  (removed for good by change {} at {}: --until {})",
            field("inode"),
            field("length"),
            names::terminal(path),
            field("change"),
            utc(time),
            field("until")
        );
        print(map, text)?;
    }
    if !wants_json(m) {
        let dirs = dirs.iter().map(|d| names::shell(&d.to_string_lossy()).into_owned()).collect::<Vec<_>>().join(" ");
        let trash = built.model.unlinked(false).iter().any(|o| o.kind() == Kind::Trash);
        let mut hints = Vec::new();
        if trash {
            hints.push(
                "# from the trash: start the master, mfsmount -m, move the file of trash/ into trash/undel".to_owned(),
            );
        }
        if any {
            hints.push(format!(
                "# removed for good: recover rescue {dirs} --until ID --into NEWDIR; the report names chunks whose data is gone"
            ));
        }
        for hint in hints {
            print(Map::new(), hint)?;
        }
    }
    Ok(Exit::OK)
}
