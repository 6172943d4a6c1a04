//! Names for nodes that lost theirs: from the lines of the logs, and a directory for the rest.

use hashbrown::HashMap;
use recovery_core::{Blob, Result};

use crate::changelog::file::LineReader;
use crate::changelog::line::{body, line_id};
use crate::changelog::{Op, unescape};
use crate::format::node::Kind;
use crate::model::arena::NONE;
use crate::model::{Model, Outcome, Status};

/// The directory for nodes whose names nobody knows.
const LOST: &[u8] = b"lost+found";

/// The last names the logs give to some inodes before a change.
fn names(logs: &[&dyn Blob], wanted: &[u32], before: u64) -> Result<HashMap<u32, (u64, u32, Vec<u8>)>> {
    let mut out: HashMap<u32, (u64, u32, Vec<u8>)> = HashMap::new();
    let mut name = Vec::new();
    for log in logs {
        let mut reader = LineReader::new(*log);
        while let Some(line) = reader.next_line()? {
            let Some((id, at)) = line_id(line.text).filter(|l| l.0 < before && line.terminated) else { continue };
            let Ok((_, op)) = body(line.text, at) else { continue };
            let (inode, parent, span, gone) = match op {
                Op::Create { parent, name, inode, .. }
                | Op::Symlink { parent, name, inode, .. }
                | Op::Link { inode, parent, name } => (inode, parent, name, false),
                Op::Move { to, new_name, inode, .. } if inode > 0 => (inode, to, new_name, false),
                Op::Unlink { parent, name, inode } => (inode, parent, name, true),
                _ => continue,
            };
            if wanted.binary_search(&inode).is_err() {
                continue;
            }
            unescape(span.of(line.text), &mut name);
            let known = out.get(&inode);
            if known.is_some_and(|k| k.0 > id) {
                continue;
            }
            if !gone {
                out.insert(inode, (id, parent, name.clone()));
            } else if known.is_some_and(|k| k.1 == parent && k.2 == name) {
                out.remove(&inode);
            }
        }
    }
    Ok(out)
}

/// Gives nodes back the names that the logs know; how many.
pub(crate) fn name_orphans(model: &mut Model, orphans: &mut Vec<u32>, logs: &[&dyn Blob]) -> Result<u64> {
    orphans.sort_unstable();
    let known = names(logs, orphans, model.version())?;
    let mut hints: Vec<(u64, u32, u32, Vec<u8>)> =
        known.into_iter().map(|(inode, (id, parent, name))| (id, inode, parent, name)).collect();
    hints.sort_unstable();
    let mut named = Vec::new();
    for (_, inode, parent, name) in hints {
        let free = super::replay::valid_name(&name) && model.lookup(parent, &name).is_none();
        let fits = model.directory(parent).is_ok() && !is_below(model, parent, inode);
        if free && fits && rename(model, inode, parent, &name).is_ok() {
            named.push(inode);
        }
    }
    orphans.retain(|i| !named.contains(i));
    Ok(named.len() as u64)
}

/// Whether a directory is `above` or lies below it.
fn is_below(model: &Model, dir: u32, above: u32) -> bool {
    let mut at = dir;
    for _ in 0..=model.totals().directories {
        if at == above {
            return true;
        }
        match model.node(at) {
            Ok(n) if n.parents != NONE => at = model.edges.get(n.parents).parent,
            _ => return false,
        }
    }
    true
}

/// Moves the only name of a node; no times change.
fn rename(model: &mut Model, inode: u32, parent: u32, name: &[u8]) -> Outcome {
    let edge = model.node(inode)?.parents;
    let old = model.edges.get(edge).parent;
    if edge == NONE || old == 0 {
        return Err(Status::ENOENT);
    }
    let before: Vec<(u32, crate::model::Node)> =
        [old, parent].into_iter().map(|i| model.node(i).map(|n| (i, *n))).collect::<Outcome<_>>()?;
    model.remove_edge(0, edge)?;
    model.link(0, parent, inode, name)?;
    for (i, was) in before {
        let n = model.node_mut(i)?;
        (n.mtime, n.ctime, n.eattr) = (was.mtime, was.ctime, was.eattr);
    }
    Ok(())
}

/// Puts nodes that still have no name but `lost_node_<inode>` into a directory of their own; how many.
pub(crate) fn lost_and_found(model: &mut Model, orphans: &[u32]) -> Outcome<u64> {
    let mut left: Vec<(u32, Vec<u8>)> = Vec::new();
    for &inode in orphans {
        let Ok(n) = model.node(inode) else { continue };
        let e = model.edges.get(n.parents);
        let name = model.edge_text(e).to_vec();
        if n.parents != NONE && e.parent == 1 && name.starts_with(format!("lost_node_{inode}").as_bytes()) {
            left.push((inode, name));
        }
    }
    if left.is_empty() {
        return Ok(0);
    }
    let root = *model.node(1)?;
    let dir = match model.lookup(1, LOST).map(|e| model.edges.get(e).child) {
        Some(dir) if model.directory(dir).is_ok() => dir,
        Some(_) => return Ok(0),
        None => model.create_node(root.mtime, 1, LOST, Kind::Directory, 0o700, 0, 0, 0, false)?,
    };
    let count = left.len() as u64;
    for (inode, name) in left {
        rename(model, inode, dir, &name)?;
    }
    let n = model.node_mut(1)?;
    (n.mtime, n.ctime) = (root.mtime, root.ctime);
    Ok(count)
}
