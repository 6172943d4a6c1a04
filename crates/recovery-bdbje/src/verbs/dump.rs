//! `dump`: live records as JSON Lines.

use std::io::Write;
use std::sync::Arc;

use clap::ArgMatches;
use recovery_core::cli::Exit;
use recovery_core::{Context, Error, Reading, Result, Source};

use super::{broken, set, text};
use crate::format::packed;
use crate::inspect::node;
use crate::meta::Meta;
use crate::model::records::RecordRef;
use crate::model::{Batch, Environment, Problem, Role, env};
use crate::reader::log::Log;
use crate::reader::scan::{ScanOptions, scan_file};

/// Bytes that the lines of a bottom node are first expected to take.
const LINES: usize = 160 << 10;

pub(super) fn hex_into(line: &mut Vec<u8>, bytes: &[u8]) {
    hex_simd::encode_append(bytes, line, hex_simd::AsciiCase::Lower);
}

fn line(buf: &mut Vec<u8>, db: &str, key: &[u8], data: &[u8], vlsn: Option<i64>, extra: &str) {
    buf.extend_from_slice(b"{\"db\":");
    buf.extend_from_slice(db.as_bytes());
    buf.extend_from_slice(b",\"key\":\"");
    hex_into(buf, key);
    buf.extend_from_slice(b"\",\"data\":\"");
    hex_into(buf, data);
    buf.extend_from_slice(b"\",\"vlsn\":");
    match vlsn {
        Some(v) => buf.extend_from_slice(v.to_string().as_bytes()),
        None => buf.extend_from_slice(b"null"),
    }
    buf.extend_from_slice(extra.as_bytes());
    buf.extend_from_slice(b"}\n");
}

fn quoted(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}

pub(super) fn run(source: &Arc<dyn Source>, args: &ArgMatches, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let only = text(args, "db");
    if set(args, "salvage") || cx.reading == Reading::Salvage {
        return salvage(source, only, out, cx);
    }
    let role = if text(args, "as") == Some("replica") { Role::Replica } else { Role::Standalone };
    let env = open_strictly(source, role, cx)?;
    if let Some(name) = only.filter(|n| !env.names.contains_key(*n)) {
        let all: Vec<&str> = env.names.keys().map(String::as_str).collect();
        return Err(Error::Usage(format!("--db {name}: {} has {}", source.describe(), all.join(", "))));
    }
    for (name, id) in env.names.iter().filter(|(n, _)| only.is_none_or(|o| o == *n)) {
        let Some(db) = env.databases.get(id) else { continue };
        let (shown, mut problems) = (quoted(name), Vec::new());
        let damaged = |p: &Problem| Error::Damaged(format!("{name}: {p}; --salvage passes over it"));
        let each = |buf: &mut Vec<u8>, r: RecordRef<'_>| {
            if buf.is_empty() {
                buf.reserve(LINES);
            }
            line(buf, &shown, r.key, r.data, r.vlsn, if r.open { ",\"open\":true" } else { "" });
        };
        let mut sink = |lines: Vec<u8>, found: Vec<Problem>| match found.first() {
            Some(p) => Err(damaged(p)),
            None => out.write_all(&lines).map_err(broken),
        };
        env.visit(db, cx, &each, &mut sink, &mut problems)?;
        if let Some(p) = problems.first() {
            return Err(damaged(p));
        }
    }
    Ok(Exit::OK)
}

/// Reads only what JE itself would: the last file to its end, then what the trees lead to.
pub(super) fn open_strictly(source: &Arc<dyn Source>, role: Role, cx: &Context) -> Result<Environment> {
    let dir = Meta::locate(source.as_ref())?;
    let log = Log::open(source.as_ref(), &dir);
    if let Some(f) =
        log.files.values().find(|f| f.foreign_version().is_some() || f.header.is_some_and(|h| h.number != f.number))
    {
        return Err(Error::Damaged(format!(
            "{}: wrong number or version in the header; --salvage goes by the entries",
            f.name
        )));
    }
    let mut tail = log.clone();
    while let Some(last) = tail.last() {
        let Some(f) = tail.files.get(&last) else { break };
        if f.len > crate::format::file_header::FILE_HEADER_SIZE || tail.files.len() == 1 {
            let scan = scan_file(f, ScanOptions::default());
            if let Some(b) = scan.bad.iter().find(|b| b.resynced) {
                return Err(Error::Damaged(format!(
                    "{}: {} at {:#x}, and {} valid entries follow; --salvage reads them",
                    f.name, b.error, b.offset, scan.behind.entries
                )));
            }
            let end = crate::format::Lsn::new(last, u32::try_from(scan.valid_to).unwrap_or(u32::MAX));
            tail = tail.cut(end);
            break;
        }
        tail.files.remove(&last);
    }
    let (ckpt, tree) = env::last_checkpoint(&tail);
    let env = Environment::open(tail, ckpt, tree, role, cx)?;
    match env.problems.first() {
        Some(p) => Err(Error::Damaged(format!("{p}; --salvage passes over it"))),
        None => Ok(env),
    }
}

fn salvage(source: &Arc<dyn Source>, only: Option<&str>, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let n = node::read(source, 0, false, cx)?;
    let mut lost = 0u64;
    if let Some(s) = &n.scavenged {
        for (name, found) in s.databases.iter().filter(|(n, _)| only.is_none_or(|o| o == *n)) {
            let (shown, dups) = (quoted(name), found.config.duplicates());
            let mut done = Ok(());
            let mut buf = Vec::new();
            let failed = found.each(n.true_log(), true, &mut |k, v, version, doubt| {
                let stale = !doubt && found.keys.get(k).is_some_and(|known| known.stale().is_some());
                let extra = if doubt {
                    ",\"in_doubt\":true"
                } else if stale {
                    ",\"stale\":true"
                } else {
                    ""
                };
                let (k, v) = if dups { packed::split_two_part(k).unwrap_or((k, v)) } else { (k, v) };
                line(&mut buf, &shown, k, v, version.vlsn, extra);
                if buf.len() > 1 << 20 && done.is_ok() {
                    done = out.write_all(&buf).map_err(broken);
                    buf.clear();
                }
            });
            done?;
            out.write_all(&buf).map_err(broken)?;
            let [_, _, _, gone] = found.counts();
            lost = lost.saturating_add(failed.len() as u64).saturating_add(gone);
        }
    } else if let Some(env) = &n.je {
        for (name, id) in env.names.iter().filter(|(n, _)| only.is_none_or(|o| o == *n)) {
            let Some(db) = env.databases.get(id) else { continue };
            let shown = quoted(name);
            let mut sink = |b: Batch| {
                let mut buf = Vec::new();
                b.records.iter().for_each(|r| line(&mut buf, &shown, &r.key, &r.data, r.vlsn, ""));
                out.write_all(&buf).map_err(broken)
            };
            env.records(db, cx, &mut sink, &mut Vec::new())?;
        }
    }
    Ok(Exit(if lost > 0 || n.unaccounted > 0 {
        4
    } else if n.damaged() {
        3
    } else {
        0
    }))
}
