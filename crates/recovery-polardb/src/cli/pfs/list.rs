//! `ls`, `stat`, `du` and `tree`.

use std::collections::BTreeMap;
use std::io::Write;

use clap::ArgMatches;
use recovery_core::Result;
use recovery_core::cli::Exit;
use serde_json::{Value, json};

use super::{Image, entry_json, kind_of, line, print_json, put_path, shown, time, trouble};
use crate::format::pfs::BLOCK;
use crate::model::pfs::Node;

/// Single blocks are counted by the room they really take, in steps of this.
const SMALL_UNIT: u64 = 128 * 1024;

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

pub(super) fn ls(image: &Image, args: &ArgMatches, out: &mut dyn Write) -> Result<Exit> {
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

pub(super) fn stat(image: &Image, args: &ArgMatches, out: &mut dyn Write) -> Result<Exit> {
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

pub(super) fn du(image: &Image, args: &ArgMatches, out: &mut dyn Write) -> Result<Exit> {
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

pub(super) fn tree(image: &Image, args: &ArgMatches, out: &mut dyn Write) -> Result<Exit> {
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
