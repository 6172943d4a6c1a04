//! `wal`: the log as `pg_waldump` shows it.

use std::io::Write;
use std::sync::Arc;

use clap::ArgMatches;
use recovery_core::cli::Exit;
use recovery_core::{Context, Error, Result};
use serde_json::{Value, json};

use super::line;
use crate::format::pg::control::ControlFile;
use crate::format::pg::wal_record::{self, Items};
use crate::format::pg::{Lsn, rmgr, time, xact};
use crate::inspect::pg as inspect;
use crate::reader::pg::cluster::Cluster;
use crate::reader::pg::wal::{Expect, Record, Stop, WalDir, Walker};
use crate::reader::pg::wal_scan::{ScanOptions, beyond, scan};
use crate::reader::pg::wal_summary::layout_of_major;

fn lsn_of(args: &ArgMatches, name: &str) -> Result<Option<Lsn>> {
    let text = args.get_one::<String>(name);
    text.map(|t| t.parse().map_err(|e| Error::Usage(format!("--{name}: {e}")))).transpose()
}

pub(super) fn wal(cluster: &Cluster, args: &ArgMatches, out: &mut dyn Write, cx: &Context) -> Result<Exit> {
    let found = cluster.control();
    let control = found.trusted().map(|d| &d.control);
    let log = match control.and_then(ControlFile::segment_size) {
        Some(size) => {
            let expect = Expect { system_identifier: control.map(|c| c.system_identifier), magic: None, major: 0 };
            Arc::new(WalDir::open(Arc::clone(&cluster.source), &cluster.path("pg_wal"), size, expect)?)
        }
        None => inspect::open_log(cluster)?
            .ok_or_else(|| Error::Unusable("no WAL segment begins with a page header".to_owned()))?,
    };
    let newest = log.segments.keys().map(|(t, _)| *t).max().unwrap_or(1);
    let tli = args
        .get_one::<u32>("timeline")
        .copied()
        .or(control.map(|c| log.recovery_timeline(c.checkpoint_copy.this_tli, c.min_recovery_tli)))
        .unwrap_or(newest);
    let first = log.segments.keys().find(|(t, _)| *t == tli).map(|(_, n)| log.segment.start(*n));
    let redo = control.map(|c| c.checkpoint_copy.redo);
    let start = lsn_of(args, "start")?
        .or(redo)
        .or(first)
        .ok_or_else(|| Error::Unusable(format!("no segment of timeline {tli}")))?;
    let until = lsn_of(args, "end")?.unwrap_or(Lsn(u64::MAX));
    if args.get_flag("stats") {
        return stats(&log, tli, start, until, args, out, cx);
    }
    let mut walker = Walker::new(&log, tli, start, None);
    if start.in_page() == 0 {
        match walker.resync(start, Lsn(u64::MAX)) {
            Ok(_) => {}
            Err(stop) => return end(out, &log, tli, &stop, start, args, cx),
        }
    }
    let json_lines = args.get_flag("json");
    let mut failed = None;
    let major = log.expect.major;
    let stop = walker.run(until, cx, |r| {
        if failed.is_none() {
            let text = if json_lines { record_json(r, major).to_string() } else { record_text(r, major) };
            failed = line(out, &text).err();
        }
    })?;
    if let Some(e) = failed {
        return Err(e);
    }
    match stop {
        Some(stop) => end(out, &log, tli, &stop, walker.next, args, cx),
        None => Ok(Exit::OK),
    }
}

fn end(
    out: &mut dyn Write,
    log: &WalDir,
    tli: u32,
    stop: &Stop,
    at: Lsn,
    args: &ArgMatches,
    cx: &Context,
) -> Result<Exit> {
    let behind = beyond(log, tli, stop, cx)?;
    if !args.get_flag("json") {
        line(out, &format!("# the log ends at {at}: {stop}"))?;
        if behind.records > 0 {
            line(out, &format!("# {} complete records lie behind, up to {}", behind.records, behind.end))?;
        }
    }
    Ok(Exit(if behind.records > 0 { 4 } else { 0 }))
}

/// One record as a line of `pg_waldump`; descriptions beyond the name only for checkpoints, ends of transactions and blocks.
#[must_use]
pub fn record_text(r: &Record<'_>, major: u32) -> String {
    let items = wal_record::items(r.bytes, major).unwrap_or_default();
    let h = &r.header;
    let name = identify(h.rmid, h.info, major);
    let rest = h.tot_len.saturating_sub(items.image_bytes);
    let lsn = |l: Lsn| format!("{:X}/{:08X}", l.0 >> 32, l.0 & 0xffff_ffff);
    let mut text = format!(
        "rmgr: {:<11} len (rec/tot): {rest:>6}/{:>6}, tx: {:>10}, lsn: {}, prev {}, desc: {name} {}",
        rmgr::name(h.rmid),
        h.tot_len,
        h.xid,
        lsn(r.lsn),
        lsn(h.prev),
        describe(r, &items, major),
    );
    for b in &items.blocks {
        let fork = match b.fork {
            0 => "",
            1 => " fork fsm",
            2 => " fork vm",
            _ => " fork init",
        };
        let l = b.relation;
        text.push_str(&format!(
            ", blkref #{}: rel {}/{}/{}{fork} blk {}",
            b.id, l.tablespace, l.database, l.number, b.block
        ));
        if b.image.is_some() {
            text.push_str(" FPW");
        }
    }
    text
}

fn identify(rmid: u8, info: u8, major: u32) -> String {
    rmgr::identify(rmid, info, major).map_or_else(|| format!("UNKNOWN ({info:02X})"), str::to_owned)
}

fn describe(r: &Record<'_>, items: &Items, major: u32) -> String {
    let main = wal_record::main_data(r.bytes, items);
    let h = &r.header;
    if h.rmid == rmgr::XLOG && matches!(h.kind(), rmgr::CHECKPOINT_SHUTDOWN | rmgr::CHECKPOINT_ONLINE) {
        let mut c = recovery_core::Cursor::new(main, 0);
        let Ok(p) = crate::format::pg::checkpoint::CheckPoint::decode(&mut c, layout_of_major(major)) else {
            return String::new();
        };
        return format!(
            "redo {}; tli {}; prev tli {}; fpw {}; xid {}:{}; oid {}; multi {}; offset {}; oldest xid {} in DB {}; \
             oldest multi {} in DB {}; oldest/newest commit timestamp xid: {}/{}; oldest running xid {}; {}",
            p.redo,
            p.this_tli,
            p.prev_tli,
            p.full_page_writes,
            p.next_xid >> 32,
            p.next_xid32(),
            p.next_oid,
            p.next_multi,
            p.next_multi_offset,
            p.oldest_xid,
            p.oldest_xid_db,
            p.oldest_multi,
            p.oldest_multi_db,
            p.oldest_commit_ts_xid,
            p.newest_commit_ts_xid,
            p.oldest_active_xid,
            if h.kind() == rmgr::CHECKPOINT_SHUTDOWN { "shutdown" } else { "online" },
        );
    }
    if h.rmid == rmgr::XACT
        && let Some(end) = xact::End::of(h.info)
        && let Ok(what) = xact::decode(main, h.info, end, major)
    {
        return time::timestamp(what.time);
    }
    String::new()
}

fn record_json(r: &Record<'_>, major: u32) -> Value {
    let items = wal_record::items(r.bytes, major).unwrap_or_default();
    let h = &r.header;
    let blocks: Vec<Value> = items.blocks.iter().map(|b| json!({
        "id": b.id, "tablespace": b.relation.tablespace, "database": b.relation.database, "relation": b.relation.number,
        "fork": b.fork, "block": b.block, "image": b.image.map(|i| i.length),
    })).collect();
    json!({
        "lsn": r.lsn, "prev": h.prev, "next": r.next, "rmgr": rmgr::name(h.rmid), "rmid": h.rmid, "info": h.info,
        "xid": h.xid, "rec_len": h.tot_len.saturating_sub(items.image_bytes), "tot_len": h.tot_len,
        "type": identify(h.rmid, h.info, major), "blocks": blocks,
    })
}

fn stats(
    log: &WalDir,
    tli: u32,
    start: Lsn,
    until: Lsn,
    args: &ArgMatches,
    out: &mut dyn Write,
    cx: &Context,
) -> Result<Exit> {
    let found = scan(log, &ScanOptions { tli, start, until, heal: false, asked: None }, cx)?;
    let managers = found.summary.kinds.managers();
    let (records, bytes, images) = managers.values().fold((0u64, 0u64, 0u64), |s, c| {
        (s.0.saturating_add(c.records), s.1.saturating_add(c.record_bytes), s.2.saturating_add(c.image_bytes))
    });
    if args.get_flag("json") {
        let rows: Vec<Value> = managers.iter().map(|(id, c)| json!({
            "rmgr": rmgr::name(*id), "rmid": id, "records": c.records, "record_bytes": c.record_bytes, "image_bytes": c.image_bytes,
        })).collect();
        let v = json!({
            "start": found.start, "end": found.end, "last": found.last, "stop": found.stop.as_ref().map(ToString::to_string),
            "records": records, "record_bytes": bytes, "image_bytes": images, "managers": rows,
        });
        line(out, &v.to_string())?;
        return Ok(Exit::OK);
    }
    line(out, &format!("WAL statistics between {} and {}:", found.start, found.end))?;
    line(out, &format!("{:<18} {:>12} {:>16} {:>16} {:>16}", "Type", "N", "Record size", "FPI size", "Combined size"))?;
    for (id, c) in &managers {
        let both = c.record_bytes.saturating_add(c.image_bytes);
        line(
            out,
            &format!(
                "{:<18} {:>12} {:>16} {:>16} {both:>16}",
                rmgr::name(*id),
                c.records,
                c.record_bytes,
                c.image_bytes
            ),
        )?;
    }
    line(out, &format!("{:<18} {records:>12} {bytes:>16} {images:>16} {:>16}", "Total", bytes.saturating_add(images)))?;
    if let Some(stop) = &found.stop {
        line(out, &format!("# the log ends at {}: {stop}", found.end))?;
    }
    Ok(Exit::OK)
}
