//! Verbs over a cluster: what `pg_controldata`, `pg_waldump` and `pg_checksums` say, on an image or a directory, whatever state it is in.

mod wal;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};
use recovery_core::cli::{Exit, OpenOptions, open_path};
use recovery_core::{Context, Error, Result, Source, names};
use serde_json::{Value, json};

use super::pfs::split_image;
use crate::engine::Seen;
use crate::format::pg::control::ControlFile;
use crate::format::pg::page::Verdict;
use crate::format::pg::time;
use crate::inspect::pg as inspect;
use crate::reader::pg::cluster::{Cluster, find_clusters};
use crate::reader::pg::pages::{PageRules, relations, verify};

pub use wal::record_text;

/// The verbs of this module.
#[must_use]
pub fn commands() -> Vec<Command> {
    let path = || {
        Arg::new("path").value_name("PATH").required(true).help("IMAGE:DIR, IMAGE, or a directory that holds a cluster")
    };
    let json = || flag("json", "JSON");
    let lsn = |name: &'static str, help: &'static str| Arg::new(name).long(name).value_name("LSN").help(help);
    vec![
        Command::new("control").about("the control file, as pg_controldata shows it").arg(path()).arg(json()),
        Command::new("wal")
            .about("the write-ahead log, as pg_waldump shows it")
            .arg(path())
            .arg(json())
            .arg(flag("stats", "counts by resource manager instead of records"))
            .arg(lsn("start", "first record; the redo point when left out"))
            .arg(lsn("end", "stop there"))
            .arg(
                Arg::new("timeline")
                    .long("timeline")
                    .value_name("N")
                    .value_parser(clap::value_parser!(u32))
                    .help("timeline"),
            ),
        Command::new("pages").about("every data page, as pg_checksums checks it").arg(path()).arg(json()),
        Command::new("slots").about("the replication slots and the log they need").arg(path()).arg(json()),
    ]
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// Runs one of [`commands`]; `None` when the verb is not of this module.
///
/// # Errors
///
/// For reasons to stop.
pub fn run(
    verb: &str,
    args: &ArgMatches,
    open: &OpenOptions,
    out: &mut dyn Write,
    cx: &Context,
) -> Result<Option<Exit>> {
    if !commands().iter().any(|c| c.get_name() == verb) {
        return Ok(None);
    }
    let spec = args.get_one::<String>("path").map_or("", String::as_str);
    let cluster = find(spec, open, cx)?;
    let exit = match verb {
        "control" => control(&cluster, args, out)?,
        "wal" => wal::wal(&cluster, args, out, cx)?,
        "pages" => pages(&cluster, args, out, cx)?,
        _ => slots(cluster, args, out)?,
    };
    Ok(Some(exit))
}

/// The cluster that `PATH` names, or the only one in it.
fn find(spec: &str, open: &OpenOptions, cx: &Context) -> Result<Cluster> {
    let (image, dir) = split_image(spec);
    let source = open_path(Path::new(image), open)?;
    let files: Arc<dyn Source> = Seen::of(&source, &[], cx)?.files();
    let dir = dir.trim_matches('/');
    let all = find_clusters(&files)?;
    let shown = || all.iter().map(|c| format!("/{}", c.root)).collect::<Vec<_>>().join(", ");
    if !dir.is_empty() {
        let root = dir.to_owned();
        let there = files.stat(dir)?.is_some_and(|e| e.is_dir());
        return if there {
            Ok(Cluster { source: files, root })
        } else {
            Err(Error::Usage(format!(
                "/{}: not a directory in {}; clusters: {}",
                names::terminal(dir),
                names::terminal(image),
                shown()
            )))
        };
    }
    match all.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::Unusable(format!("{}: no PostgreSQL cluster in it", names::terminal(spec)))),
        _ => Err(Error::Usage(format!(
            "{}: several clusters: {}; name one as IMAGE:DIR",
            names::terminal(spec),
            shown()
        ))),
    }
}

fn line(out: &mut dyn Write, text: &str) -> Result<()> {
    writeln!(out, "{text}").map_err(|e| Error::write("output", "write", e))
}

fn control(cluster: &Cluster, args: &ArgMatches, out: &mut dyn Write) -> Result<Exit> {
    let found = cluster.control();
    let Some(d) = found.any() else {
        return Err(Error::Damaged(format!(
            "{}: {found:?}; recover inspect tells what the log says instead",
            cluster.path("global/pg_control")
        )));
    };
    let trusted = found.trusted().is_some();
    if args.get_flag("json") {
        let mut v = serde_json::to_value(&d.control).map_err(|e| Error::Internal(e.to_string()))?;
        if let Some(o) = v.as_object_mut() {
            o.insert("crc".into(), json!({"stored": d.stored, "computed": d.computed, "good": d.crc_ok()}));
            o.insert("mock_authentication_nonce".into(), recovery_core::hex(&d.control.nonce).into());
        }
        line(out, &v.to_string())?;
    } else {
        if !trusted {
            line(
                out,
                &format!(
                    "# WARNING: checksum {:08x}, computed {:08x}: the values below may be wrong",
                    d.stored, d.computed
                ),
            )?;
        }
        for (label, value) in controldata(&d.control) {
            line(out, &format!("{:<38}{value}", format!("{label}:")))?;
        }
    }
    let good = matches!(found, crate::reader::pg::cluster::ControlFound::Good(_));
    Ok(Exit(if good {
        0
    } else if trusted {
        3
    } else {
        4
    }))
}

/// Label and value of each line of `pg_controldata`, in its order.
#[must_use]
pub fn controldata(c: &ControlFile) -> Vec<(&'static str, String)> {
    let p = &c.checkpoint_copy;
    let on = |b: bool| if b { "on" } else { "off" }.to_owned();
    let redo_file = c.segment_size().map_or_else(|| "???".to_owned(), |s| s.name(p.this_tli, s.number(p.redo)));
    let mut out = vec![
        ("pg_control version number", c.pg_control_version.to_string()),
        ("Catalog version number", c.catalog_version.to_string()),
        ("Database system identifier", c.system_identifier.to_string()),
        ("Database cluster state", c.state.to_string()),
        ("pg_control last modified", time::ctime(c.time)),
        ("Latest checkpoint location", c.checkpoint.to_string()),
        ("Latest checkpoint's REDO location", p.redo.to_string()),
        ("Latest checkpoint's REDO WAL file", redo_file),
        ("Latest checkpoint's TimeLineID", p.this_tli.to_string()),
        ("Latest checkpoint's PrevTimeLineID", p.prev_tli.to_string()),
        ("Latest checkpoint's full_page_writes", on(p.full_page_writes)),
        ("Latest checkpoint's NextXID", format!("{}:{}", p.next_xid >> 32, p.next_xid32())),
        ("Latest checkpoint's NextOID", p.next_oid.to_string()),
        ("Latest checkpoint's NextMultiXactId", p.next_multi.to_string()),
        ("Latest checkpoint's NextMultiOffset", p.next_multi_offset.to_string()),
        ("Latest checkpoint's oldestXID", p.oldest_xid.to_string()),
        ("Latest checkpoint's oldestXID's DB", p.oldest_xid_db.to_string()),
        ("Latest checkpoint's oldestActiveXID", p.oldest_active_xid.to_string()),
        ("Latest checkpoint's oldestMultiXid", p.oldest_multi.to_string()),
        ("Latest checkpoint's oldestMulti's DB", p.oldest_multi_db.to_string()),
        ("Latest checkpoint's oldestCommitTsXid", p.oldest_commit_ts_xid.to_string()),
        ("Latest checkpoint's newestCommitTsXid", p.newest_commit_ts_xid.to_string()),
        ("Time of latest checkpoint", time::ctime(p.time)),
        ("Fake LSN counter for unlogged rels", c.unlogged_lsn.to_string()),
        ("Minimum recovery ending location", c.min_recovery_point.to_string()),
        ("Min recovery ending loc's timeline", c.min_recovery_tli.to_string()),
        ("Backup start location", c.backup_start.to_string()),
        ("Backup end location", c.backup_end.to_string()),
        ("End-of-backup record required", if c.backup_end_required { "yes" } else { "no" }.to_owned()),
        ("wal_level setting", crate::inspect::pg::wal_level(c.wal_level).to_owned()),
        ("wal_log_hints setting", on(c.wal_log_hints)),
        ("max_connections setting", c.max_connections.to_string()),
        ("max_worker_processes setting", c.max_worker_processes.to_string()),
    ];
    out.extend(c.max_wal_senders.map(|n| ("max_wal_senders setting", n.to_string())));
    out.extend([
        ("max_prepared_xacts setting", c.max_prepared_xacts.to_string()),
        ("max_locks_per_xact setting", c.max_locks_per_xact.to_string()),
        ("track_commit_timestamp setting", on(c.track_commit_timestamp)),
        ("Maximum data alignment", c.max_align.to_string()),
        ("Database block size", c.blcksz.to_string()),
        ("Blocks per segment of large relation", c.relseg_size.to_string()),
        ("WAL block size", c.xlog_blcksz.to_string()),
        ("Bytes per WAL segment", c.xlog_seg_size.to_string()),
        ("Maximum length of identifiers", c.name_data_len.to_string()),
        ("Maximum columns in an index", c.index_max_keys.to_string()),
        ("Maximum size of a TOAST chunk", c.toast_max_chunk_size.to_string()),
        ("Size of a large-object chunk", c.loblksize.to_string()),
        ("Date/time type storage", "64-bit integers".to_owned()),
    ]);
    let by = |b: bool| if b { "by value" } else { "by reference" }.to_owned();
    out.extend(c.float4_by_val.map(|b| ("Float4 argument passing", by(b))));
    out.push(("Float8 argument passing", by(c.float8_by_val)));
    out.push(("Data page checksum version", c.data_checksum_version.to_string()));
    out.push(("Mock authentication nonce", recovery_core::hex(&c.nonce)));
    out
}

fn pages(cluster: &Cluster, args: &ArgMatches, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let found = cluster.control();
    let control = found.any().map(|d| &d.control);
    let version = control.map_or(1, |c| c.data_checksum_version);
    let files = relations(cluster)?.files;
    let relseg_size = control.map_or(131_072, |c| c.relseg_size);
    let totals =
        verify(&cluster.source, &files, PageRules { checksums: version != 0, relseg_size, wal_end: None }, cx)?;
    let json_wanted = args.get_flag("json");
    let mut list = Vec::new();
    for b in &totals.list {
        let name = files.get(b.file).map_or("", |f| f.entry.name.as_str());
        let (stored, computed, why) = match b.verdict {
            Some(Verdict::Checksum { stored, computed }) => (Some(stored), Some(computed), "checksum"),
            Some(Verdict::NotZero) => (None, None, "not zero although never initialised"),
            Some(_) => (None, None, "impossible header"),
            None => (None, None, "unreadable"),
        };
        if json_wanted {
            list.push(json!({"file": name, "index": b.index, "block": b.block, "lsn": b.lsn, "why": why, "stored": stored, "computed": computed}));
        } else {
            let what = match (stored, computed) {
                (Some(s), Some(c)) => format!(
                    "checksum verification failed in file \"{}\", block {}: calculated checksum {c:X} but block contains {s:X}",
                    names::terminal(name),
                    b.index
                ),
                _ => format!("file \"{}\", block {}: {why}", names::terminal(name), b.index),
            };
            line(out, &what)?;
        }
    }
    let cut: Vec<Value> = totals
        .cut
        .iter()
        .filter_map(|(i, odd)| Some(json!({"file": files.get(*i)?.entry.name, "odd_bytes": odd})))
        .collect();
    if json_wanted {
        let v = json!({
            "files": totals.files, "pages": totals.pages, "new": totals.new, "bad": totals.bad,
            "data_checksum_version": version, "list": list, "cut": cut,
        });
        line(out, &v.to_string())?;
    } else {
        for c in &cut {
            line(out, &format!("file ends inside a page: {c}"))?;
        }
        line(
            out,
            &format!(
                "Files scanned:   {}\nBlocks scanned:  {}\nBad checksums:  {}\nData checksum version: {version}",
                totals.files, totals.pages, totals.bad
            ),
        )?;
    }
    Ok(Exit(if totals.bad > 0 || !cut.is_empty() { 4 } else { 0 }))
}

fn slots(cluster: Cluster, args: &ArgMatches, out: &mut dyn Write) -> Result<Exit> {
    let list = inspect::slots_of(cluster);
    let bad =
        list.iter().any(|s| s.get("state").and_then(Value::as_str).is_some_and(|s| s != "good" && s != "leftover"));
    if args.get_flag("json") {
        line(out, &json!({ "slots": list }).to_string())?;
    } else {
        line(
            out,
            &format!(
                "{:<24} {:<9} {:<17} {:<17} {:<25} state",
                "name", "type", "restart_lsn", "apply_lsn", "needs segment"
            ),
        )?;
        for s in &list {
            let text = |k: &str| s.get(k).and_then(Value::as_str).unwrap_or("-").to_owned();
            let name = names::terminal(&text("name")).into_owned();
            line(
                out,
                &format!(
                    "{name:<24} {:<9} {:<17} {:<17} {:<25} {}",
                    text("type"),
                    text("restart_lsn"),
                    text("apply_lsn"),
                    text("needs_segment"),
                    text("state")
                ),
            )?;
        }
    }
    Ok(Exit(if bad { 4 } else { 0 }))
}
