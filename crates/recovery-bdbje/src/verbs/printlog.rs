//! `printlog`: the entries themselves.

use std::io::Write;
use std::sync::Arc;

use clap::ArgMatches;
use recovery_core::cli::Exit;
use recovery_core::{Context, Error, Result, Source, hex};
use serde_json::{Value, json};

use super::{broken, json_wanted, set, text};
use crate::format::ln::LnBody;
use crate::format::{Entry, EntryType, Lsn};
use crate::meta::Meta;
use crate::reader::scan::ScanOptions;
use crate::reader::{EntryRef, Log, LogScan, Walker, scan_log};

pub(super) fn run(source: &Arc<dyn Source>, args: &ArgMatches, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let dir = Meta::locate(source.as_ref())?;
    let log = Log::open(source.as_ref(), &dir);
    let scan = scan_log(&log, ScanOptions::default(), cx)?;
    let damaged = scan.bad().any(|(_, b)| b.resynced);
    let exit = Exit(if damaged { 3 } else { 0 });
    if set(args, "vd") || (set(args, "v") && set(args, "d")) {
        super::vlsn::distribution(&scan, out)?;
        return Ok(exit);
    }
    if set(args, "summary") {
        if !json_wanted(args) {
            writeln!(out, "<DbPrintLog>").map_err(broken)?;
        }
        super::summary::run(&log, &scan, json_wanted(args), out, cx)?;
        if !json_wanted(args) {
            writeln!(out, "</DbPrintLog>").map_err(broken)?;
        }
        return Ok(exit);
    }
    let lsn = |name: &str| {
        text(args, name)
            .map(|t| {
                let usage = || Error::Usage(format!("{t}: expected a place such as 0x4/0x79924, or a file number"));
                t.parse::<Lsn>().map_err(|_| usage())
            })
            .transpose()
    };
    let (from, to) = (lsn("start")?.unwrap_or(Lsn(0)), lsn("end")?.unwrap_or(Lsn::NULL));
    if from > to {
        return Err(Error::Usage(format!("-s {from} lies behind -e {to}")));
    }
    let mut kinds = Vec::new();
    for name in args.try_get_many::<String>("type").ok().flatten().into_iter().flatten() {
        kinds.push(EntryType::from_name(name).ok_or_else(|| no_type(name))?);
    }
    let lines = set(args, "jsonl") || json_wanted(args);
    if !lines {
        writeln!(out, "<DbPrintLog>").map_err(broken)?;
    }
    entries(&log, &scan, (from, to), &kinds, lines, out, cx)?;
    if !lines {
        writeln!(out, "</DbPrintLog>").map_err(broken)?;
    }
    Ok(exit)
}

fn no_type(name: &str) -> Error {
    let all: Vec<&str> = (1..=43).filter_map(EntryType::new).map(EntryType::name).collect();
    Error::Usage(format!("--type {name}: expected one of {}", all.join(", ")))
}

fn entries(
    log: &Log,
    scan: &LogScan,
    (from, to): (Lsn, Lsn),
    kinds: &[EntryType],
    lines: bool,
    out: &mut dyn Write,
    cx: &Context,
) -> Result<()> {
    for f in log.files.values() {
        let Some(s) = scan.files.get(&f.number) else { continue };
        if f.number < from.file() || Lsn::new(f.number, 0) >= to {
            continue;
        }
        let mut walker = Walker::new(f.blob.as_ref(), f.len);
        let mut bad = s.bad.iter().peekable();
        let mut at = 0;
        while at < f.len {
            cx.cancelled()?;
            if let Some(b) = bad.next_if(|b| b.offset == at) {
                let place = Lsn::new(f.number, u32::try_from(at).unwrap_or(u32::MAX));
                let (end, why) = (b.end, b.error.to_string());
                if lines {
                    writeln!(out, "{}", json!({"damage": place, "end": end, "why": why})).map_err(broken)?;
                } else {
                    writeln!(out, "<!-- damage at {place} up to {end:#x}: {why} -->").map_err(broken)?;
                }
                at = b.end;
                continue;
            }
            let Ok(e) = walker.entry(at) else { break };
            at = e.end();
            let place = Lsn::new(f.number, u32::try_from(e.at).unwrap_or(u32::MAX));
            if place < from || place >= to || (!kinds.is_empty() && !kinds.contains(&e.header.kind)) {
                continue;
            }
            let value = describe(&e, place, f.version());
            if lines { writeln!(out, "{value}").map_err(broken)? } else { xml(out, &e, place, f.version(), &value)? }
        }
    }
    Ok(())
}

fn xml(out: &mut dyn Write, e: &EntryRef<'_>, place: Lsn, version: u8, value: &Value) -> Result<()> {
    let h = &e.header;
    let kind = if h.kind == EntryType::FILE_HEADER { "-1".to_owned() } else { version.to_string() };
    let prov = match (h.provisional(), h.flags & 0x40 != 0) {
        (true, _) => " prov=\"YES\"",
        (_, true) => " prov=\"BEFORE_CKPT_END\"",
        _ => "",
    };
    let mut more = String::new();
    if h.replicated() {
        more.push_str(" rep=\"true\"");
    }
    if let Some(v) = h.vlsn {
        more.push_str(&format!(" vlsn=\"{v}\""));
    }
    if h.invisible() {
        more.push_str(" invisible=\"true\"");
    }
    let content = value.get("content").cloned().unwrap_or(Value::Null).to_string();
    let content = recovery_core::names::html(&content);
    writeln!(
        out,
        "<entry lsn=\"{place}\" type=\"{}/{kind}\"{prov}{more} prev=\"{:#x}\" size=\"{}\" cksum=\"{}\">{content}</entry>",
        h.kind, h.prev, h.item_size, h.checksum
    )
    .map_err(broken)
}

fn describe(e: &EntryRef<'_>, place: Lsn, version: u8) -> Value {
    let h = &e.header;
    let content = match Entry::decode(h.kind, version, e.item(), e.item_at()) {
        Ok(entry) => content(&entry),
        Err(error) => json!({"error": error.to_string()}),
    };
    json!({"lsn": place, "type": h.kind.name(), "version": version, "flags": h.flags, "prev": h.prev, "size": h.item_size,
        "vlsn": h.vlsn, "provisional": h.provisional(), "replicated": h.replicated(), "invisible": h.invisible(),
        "cksum": h.checksum, "content": content})
}

fn content(entry: &Entry<'_>) -> Value {
    let text = |b: Option<&[u8]>| b.map(|b| String::from_utf8_lossy(b).into_owned());
    match entry {
        Entry::Ln(ln) => {
            let mut v = json!({"db": ln.db, "key": hex(ln.key), "data": ln.data.map(hex), "txn": ln.txn.map(|t| t.id),
                "prev_txn_lsn": ln.txn.map(|t| t.prev), "abort_lsn": ln.abort_lsn.some()});
            if let (LnBody::Name { id, bits, op }, Some(m)) = (&ln.body, v.as_object_mut()) {
                m.insert("name".to_owned(), json!(String::from_utf8_lossy(ln.key)));
                m.insert("id".to_owned(), json!(id));
                m.insert("deleted".to_owned(), json!(bits & 1 != 0));
                m.insert("operation".to_owned(), json!(op.name()));
            }
            if let (LnBody::Map(db, bits), Some(m)) = (&ln.body, v.as_object_mut()) {
                m.insert("id".to_owned(), json!(db.id));
                m.insert("root".to_owned(), json!(db.root.as_ref().map(|r| r.lsn)));
                m.insert("deleted".to_owned(), json!(bits & 1 != 0));
            }
            v
        }
        Entry::Node(n) => {
            let slots: Vec<Value> = n
                .slots
                .iter()
                .map(|s| json!({"key": n.key(s).map(|k| hex(&k)).ok(), "lsn": s.lsn, "state": s.state}))
                .collect();
            json!({"db": n.db, "node": n.id, "level": format!("{:x}", n.level), "root": n.is_root(), "prev_full": n.prev_full.some(), "slots": slots})
        }
        Entry::Commit(t) | Entry::Abort(t) => {
            json!({"txn": t.txn, "time": t.time, "master": t.master, "dtvlsn": t.dtvlsn, "last_lsn": t.last_lsn})
        }
        Entry::CkptStart(c) => json!({"id": c.id, "time": c.time, "invoker": text(c.invoker)}),
        Entry::CkptEnd(c) => {
            json!({"id": c.id, "time": c.time, "invoker": text(c.invoker.as_deref()), "start": c.start, "root": c.root, "first_active": c.first_active})
        }
        Entry::DbTree(t) => {
            json!({"id_db_root": t.id_db.root.as_ref().map(|r| r.lsn), "name_db_root": t.name_db.root.as_ref().map(|r| r.lsn), "flags": t.flags})
        }
        Entry::FileHeader(h) => {
            json!({"file": h.number, "time": h.time, "last_entry_in_prev": h.last_entry_in_prev, "log_version": h.version})
        }
        Entry::Trace(t) => json!({"time": t.time, "message": text(t.message)}),
        Entry::Matchpoint(m) => json!({"time": m.time, "master": m.master}),
        Entry::RollbackStart(r) => {
            json!({"matchpoint_vlsn": r.matchpoint_vlsn, "matchpoint": r.matchpoint, "time": r.time, "txns": r.txns})
        }
        Entry::RollbackEnd(r) => json!({"matchpoint": r.matchpoint, "start": r.start, "time": r.time}),
        Entry::RestoreRequired(r) => json!({"failure": text(r.failure), "time": r.time}),
        Entry::Prepare(p) => json!({"txn": p.txn, "time": p.time}),
        Entry::OldDelta(d) => json!({"db": d.db, "prev_full": d.prev_full, "slots": d.slots.len()}),
        Entry::OldDelete(d) => json!({"db": d.db, "node": d.node}),
        Entry::ImmutableFile => Value::Null,
        Entry::Erased(n) => json!({"erased": n}),
    }
}
