//! `journal`, `at` and `undelete`: what the ring still knows of earlier times.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ArgMatches;
use recovery_core::cli::Exit;
use recovery_core::{Context, DirTarget, Error, Result, hex};
use serde_json::{Value, json};

use super::{Image, entry_json, line, print_json, put_path, shown, time};
use crate::PfsSource;
use crate::extract::{self, ExtractOptions};
use crate::format::pfs::{Kind, NONE, Object};
use crate::model::pfs::FileSystem;
use crate::reader::pfs::{Act, Deleted, Logged, Pfs, Span, Story, Transaction, deleted};

pub(super) fn journal(image: &Image, args: &ArgMatches, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let pfs = image.pfs();
    let as_json = args.get_flag("json");
    let (mut story, _) = Story::begin(pfs, cx)?;
    let mut show = |t: &Transaction, story: &mut Story| -> Result<()> {
        let acts = story.apply(t);
        if as_json { print_json(out, &transaction_json(t, &acts)) } else { print_transaction(out, t, &acts) }
    };
    let span = pfs.history(cx, &mut |t| show(&t, &mut story))?;
    for t in pfs.uncommitted() {
        show(&t, &mut story)?;
    }
    if !as_json {
        let whole = if span.whole() { "the whole life of the file system" } else { "older ones were overwritten" };
        let text = match span.first_txid {
            0 => "-- the journal holds no transaction".to_owned(),
            first => format!("-- transactions {first} to {}: {whole}; {} damaged entries", span.last_txid, span.gaps),
        };
        line(out, &text)?;
    }
    Ok(image.exit())
}

fn lsns(t: &Transaction) -> (u64, u64) {
    let lsn = |l: Option<&Logged>| l.map_or(0, |l| l.entry.lsn);
    (lsn(t.entries.first()), lsn(t.entries.last()))
}

fn print_transaction(out: &mut dyn Write, t: &Transaction, acts: &[Act]) -> Result<()> {
    let (first, last) = lsns(t);
    let what = acts.iter().map(act_text).collect::<Vec<_>>().join("; ");
    let cut = if t.missing > 0 { format!(" ({} entries missing)", t.missing) } else { String::new() };
    line(out, &format!("tx {} lsn {first}-{last} {}{cut}: {what}", t.txid, t.fate.as_str()))?;
    for l in &t.entries {
        let corrected = if l.corrected.is_some() { " (one bit corrected)" } else { "" };
        line(out, &format!("  {} {}{corrected}", l.entry.lsn, object_text(&l.entry.object)))?;
    }
    Ok(())
}

fn act_text(act: &Act) -> String {
    let kind = |directory: bool| if directory { "directory" } else { "file" };
    match act {
        Act::Create { path, directory, .. } => format!("create {} {}", kind(*directory), shown(path)),
        Act::Unlink { path, directory, .. } => format!("unlink {} {}", kind(*directory), shown(path)),
        Act::Release { ino } => format!("release inode {ino}"),
        Act::Rename { from, to, .. } => format!("rename {} to {}", shown(from), shown(to)),
        Act::Resize { path, from, to, .. } => format!("resize {} from {from} to {to}", shown(path)),
        Act::Allocate { path, blocks, .. } => format!("allocate {blocks} blocks for {}", shown(path)),
        Act::Free { ino, blocks } => format!("free {blocks} blocks of inode {ino}"),
        Act::Write { path, blocks, .. } => format!("write into {blocks} blocks of {}", shown(path)),
    }
}

fn act_json(act: &Act) -> Value {
    let mut object = serde_json::Map::new();
    let mut put = |act: &str, ino: u64| {
        object.insert("act".into(), act.into());
        object.insert("inode".into(), ino.into());
    };
    let (name, ino) = match act {
        Act::Create { ino, .. } => ("create", *ino),
        Act::Unlink { ino, .. } => ("unlink", *ino),
        Act::Release { ino } => ("release", *ino),
        Act::Rename { ino, .. } => ("rename", *ino),
        Act::Resize { ino, .. } => ("resize", *ino),
        Act::Allocate { ino, .. } => ("allocate", *ino),
        Act::Free { ino, .. } => ("free", *ino),
        Act::Write { ino, .. } => ("write", *ino),
    };
    put(name, ino);
    match act {
        Act::Create { path, directory, .. } | Act::Unlink { path, directory, .. } => {
            put_path(&mut object, path);
            object.insert("type".into(), if *directory { "directory" } else { "file" }.into());
        }
        Act::Rename { from, to, .. } => {
            put_path(&mut object, from);
            object.insert("to".into(), String::from_utf8_lossy(to).into());
            if std::str::from_utf8(to).is_err() {
                object.insert("to_hex".into(), hex(to).into());
            }
        }
        Act::Resize { path, from, to, .. } => {
            put_path(&mut object, path);
            object.insert("from_size".into(), (*from).into());
            object.insert("to_size".into(), (*to).into());
        }
        Act::Allocate { path, blocks, .. } | Act::Write { path, blocks, .. } => {
            put_path(&mut object, path);
            object.insert("blocks".into(), (*blocks).into());
        }
        Act::Free { blocks, .. } => {
            object.insert("blocks".into(), (*blocks).into());
        }
        Act::Release { .. } => {}
    }
    Value::Object(object)
}

fn transaction_json(t: &Transaction, acts: &[Act]) -> Value {
    let (first, last) = lsns(t);
    let entries: Vec<Value> = t.entries.iter().map(logged_json).collect();
    json!({
        "txid": t.txid, "first_lsn": first, "last_lsn": last, "state": t.fate.as_str(),
        "missing_entries": t.missing, "acts": acts.iter().map(act_json).collect::<Vec<_>>(), "entries": entries,
    })
}

fn number(value: u64) -> Value {
    if value == NONE { Value::Null } else { value.into() }
}

fn logged_json(l: &Logged) -> Value {
    let o = &l.entry.object;
    let mut value = json!({
        "lsn": l.entry.lsn, "offset": l.at, "corrected_bit": l.corrected,
        "kind": o.kind().map_or("unknown", Kind::name), "number": o.number(), "used": o.used(),
        "next": o.next(), "prev": o.prev(),
    });
    let more = match o.kind() {
        Some(Kind::BlockTag) => {
            let t = o.tag();
            json!({"inode": t.ino, "file_block": t.blkid, "device_block": crate::format::pfs::block_of_tag(o.number()),
                "discard": t.dstatus, "hole_offset": t.holeoff, "hole_length": t.holelen})
        }
        Some(Kind::Direntry) => {
            let d = o.direntry();
            let end = d.name.iter().position(|b| *b == 0).unwrap_or(d.name.len());
            let name = d.name.get(..end).unwrap_or_default();
            json!({"name": String::from_utf8_lossy(name), "name_hex": std::str::from_utf8(name).err().map(|_| hex(name)),
                "inode": number(d.ino), "directory": number(d.dirino), "extension": d.extdeno})
        }
        Some(Kind::Inode) => {
            let i = o.inode();
            json!({"type": inode_kind(o), "entry": number(i.deno), "nlink": i.nlink, "blocks": i.nblock, "size": i.size,
                "atime": i.atime, "ctime": i.ctime, "mtime": i.mtime, "btime_us": i.btime})
        }
        None => Value::Null,
    };
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more.into_iter().filter(|(k, v)| !(k == "name_hex" && v.is_null())));
    }
    value
}

fn inode_kind(o: &Object) -> &'static str {
    use crate::format::pfs::InodeKind;
    match o.inode().kind {
        InodeKind::None => "free",
        InodeKind::File => "file",
        InodeKind::Directory => "directory",
        InodeKind::Other(_) => "unknown",
    }
}

fn object_text(o: &Object) -> String {
    let state = if o.used() { "used" } else { "free" };
    let head = format!("{} {} {state}", o.kind().map_or("object", Kind::name), o.number());
    match o.kind() {
        Some(Kind::BlockTag) => {
            let t = o.tag();
            format!("{head} inode {} block {} written {} discard {}", t.ino, t.blkid, t.written(), t.dstatus)
        }
        Some(Kind::Direntry) if o.used() => {
            let d = o.direntry();
            let end = d.name.iter().position(|b| *b == 0).unwrap_or(d.name.len());
            let name = shown(d.name.get(..end).unwrap_or_default());
            if d.is_extension() {
                format!("{head} continues {} with {name:?}", d.ino)
            } else {
                format!("{head} {name:?} inode {} in {}", d.ino, d.dirino)
            }
        }
        Some(Kind::Inode) => {
            let i = o.inode();
            let deno = if i.deno == NONE { "none".to_owned() } else { i.deno.to_string() };
            format!(
                "{head} {} size {} blocks {} entry {deno} modified {}",
                inode_kind(o),
                i.size,
                i.nblock,
                time(i.mtime)
            )
        }
        _ => head,
    }
}

/// The disk with another tree.
fn with_tree(image: &Image, files: FileSystem) -> PfsSource {
    let mut pfs = Pfs::clone(image.pfs());
    pfs.files = files;
    PfsSource::new(Arc::new(pfs))
}

pub(super) fn at(image: &Image, args: &ArgMatches, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let txid = *args.get_one::<u64>("tx").ok_or_else(|| Error::Usage("--tx N is missing".into()))?;
    let past = image.pfs().at(txid, cx)?;
    let source = with_tree(image, past.files);
    if let Some(to) = args.get_one::<PathBuf>("out") {
        let exit = if past.overwritten.is_empty() && past.unknown == 0 { image.exit() } else { Exit(4) };
        return write_out(image, &source, to, args, out, cx, exit);
    }
    let exit = image.exit();
    let files = &source.pfs().files;
    let top = files.find(image.path.as_bytes()).ok_or_else(|| {
        Error::Usage(format!("/{}: not there as of transaction {txid}", recovery_core::names::terminal(&image.path)))
    })?;
    let mut list: Vec<_> = files.walk(top.ino).collect();
    if !top.directory {
        list.push((files.path(top.ino), top));
    }
    if args.get_flag("json") {
        let entries: Vec<Value> = list
            .iter()
            .map(|(path, node)| {
                let mut value = entry_json(path, node);
                if let Value::Object(object) = &mut value {
                    let lost = past.overwritten.get(&node.ino);
                    object.insert("intact".into(), lost.is_none().into());
                    object.extend(lost.map(|l| ("overwritten".to_owned(), json!(l))));
                }
                value
            })
            .collect();
        let value = json!({
            "txid": txid, "oldest_txid": past.span.first_txid.saturating_sub(1), "newest_txid": past.span.last_txid,
            "unknown_objects": past.unknown, "entries": entries,
        });
        print_json(out, &value)?;
        return Ok(exit);
    }
    for (path, node) in &list {
        let mark = if node.directory { "/" } else { "" };
        let doubt = node.doubts.iter().map(|d| format!("  [{}]", d.as_str())).collect::<String>();
        line(out, &format!("{:>8} {:>14} {} {}{mark}{doubt}", node.ino, node.size, time(node.mtime), shown(path)))?;
    }
    line(out, &format!("-- as of transaction {txid}; contents as they are now: PFS keeps no history of data"))?;
    if past.unknown > 0 {
        line(out, &format!("-- {} metadata objects of that time are not in the journal any more", past.unknown))?;
    }
    Ok(exit)
}

/// Extracts a tree; files that are overwritten or damaged only with `--salvage`.
fn write_out(
    image: &Image,
    source: &PfsSource,
    to: &PathBuf,
    args: &ArgMatches,
    out: &mut dyn Write,
    cx: &Context,
    exit: Exit,
) -> Result<Exit> {
    let salvage = args.get_flag("salvage");
    let options = ExtractOptions { path: image.path.clone(), salvage, below: String::new() };
    let extraction = extract::plan(&image.sources, source, &options)?;
    let target = DirTarget::new(to)?;
    let done = extract::run(&image.sources, source, extraction, &target, None, cx)?;
    let bytes = done.receipt.files.iter().map(|f| f.size).fold(0, u64::saturating_add);
    if args.get_flag("json") {
        let spoiled: Vec<Value> =
            done.spoiled.iter().map(|s| json!({ "path": s.path, "why": s.why, "size": s.size })).collect();
        let value = json!({
            "exit": exit.0, "out": to.display().to_string(), "files": done.receipt.files.len(), "bytes": bytes,
            "spoiled": spoiled,
        });
        print_json(out, &value)?;
        return Ok(exit);
    }
    let place = shown(to.display().to_string().as_bytes());
    line(out, &format!("{} files, {bytes} bytes in {place}", done.receipt.files.len()))?;
    let word = if salvage { "written as it is" } else { "left out (--salvage writes it)" };
    for s in &done.spoiled {
        line(out, &format!("{word}: {}: {}", shown(s.path.as_bytes()), s.why))?;
    }
    Ok(exit)
}

pub(super) fn undelete(image: &Image, args: &ArgMatches, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let pfs = image.pfs();
    let (mut list, span) = deleted(pfs, cx)?;
    if !image.path.is_empty() {
        let below = format!("/{}/", image.path).into_bytes();
        list.retain(|d| d.path.get(1..) == Some(image.path.as_bytes()) || d.path.starts_with(&below));
    }
    if let Some(to) = args.get_one::<PathBuf>("out") {
        let whole = Image { path: String::new(), sources: image.sources.clone(), source: image.source.clone() };
        let source = with_tree(image, pfs.tree_of(&list));
        return write_out(&whole, &source, to, args, out, cx, image.exit());
    }
    if args.get_flag("json") {
        print_json(out, &deleted_json(&list, span))?;
        return Ok(image.exit());
    }
    for d in &list {
        let mark = if d.directory { "/" } else { "" };
        let state = match (d.directory, d.overwritten.len(), d.extents.len()) {
            (true, ..) => String::new(),
            (_, 0, _) => "  intact".to_owned(),
            (_, lost, all) => format!("  overwritten: {lost} of {all} blocks were given away since"),
        };
        line(out, &format!("tx {:<8} {:>14} {} {}{mark}{state}", d.txid, d.size, time(d.mtime), shown(&d.path)))?;
    }
    let whole = list.iter().filter(|d| !d.directory && d.intact()).count();
    let files = list.iter().filter(|d| !d.directory).count();
    line(out, &format!("-- {files} deleted files, {whole} of them intact; --out DIR writes those"))?;
    if !span.whole() {
        line(
            out,
            &format!("-- what was deleted before transaction {} is not in the journal any more", span.first_txid),
        )?;
    }
    Ok(image.exit())
}

fn deleted_json(list: &[Deleted], span: Span) -> Value {
    let files: Vec<Value> = list
        .iter()
        .map(|d| {
            let mut object = serde_json::Map::new();
            put_path(&mut object, &d.path);
            let blocks: Vec<u64> = d.extents.iter().map(|e| e.block).collect();
            let more = json!({
                "type": if d.directory { "directory" } else { "file" }, "size": d.size, "inode": d.ino,
                "mtime": d.mtime, "btime_us": d.btime, "txid": d.txid, "lsn": d.lsn, "blocks": blocks,
                "intact": d.intact(), "overwritten": d.overwritten,
            });
            if let Value::Object(more) = more {
                object.extend(more);
            }
            Value::Object(object)
        })
        .collect();
    json!({
        "oldest_txid": span.first_txid, "newest_txid": span.last_txid, "whole_history": span.whole(), "files": files,
    })
}
