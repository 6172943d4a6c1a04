//! `wal`: one write-ahead log, record by record.

use std::io::Write;

use clap::{Arg, ArgAction, ArgMatches, Command};
use recovery_core::cli::{Exit, OpenOptions};
use recovery_core::{Context, Recover, Result};
use serde_json::{Value, json};

use super::common;
use crate::format::coding::hex;
use crate::format::file_name::FileName;
use crate::format::write_batch::{DataKind, Record, WriteBatch};
use crate::inspect::gather::record_limit;
use crate::reader::log::{EndKind, Event, LogWalker};

pub(super) fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    Command::new("wal").about("A write-ahead log record by record, as JSON Lines; goes on behind damage").args([
        common::file("A write-ahead log"),
        flag("keys", "Leave values out"),
        flag("heads", "Leave the entries of the records out"),
        Arg::new("number").long("number").value_name("N").value_parser(clap::value_parser!(u64)).help(
            "Number of the log, where the name of the file does not say it: recycled logs hold records of others",
        ),
    ])
}

pub(super) fn run(
    engine: &dyn Recover,
    args: &ArgMatches,
    open: &OpenOptions,
    out: &mut dyn Write,
    cx: &Context,
) -> Result<Exit> {
    let blob = common::single_file(engine, args, open)?;
    let named = FileName::parse(blob.name().rsplit('/').next().unwrap_or_default()).number;
    let number = args.get_one::<u64>("number").copied().or(named);
    let (keys, heads) = (args.get_flag("keys"), args.get_flag("heads"));
    let mut walker = LogWalker::new(blob.as_ref(), number, record_limit(cx));
    let mut damaged = false;
    let mut text = Vec::new();
    while let Some(event) = walker.next_event() {
        cx.cancelled()?;
        let line = match event {
            Event::Record { at, end, data } => {
                let line = batch(at, end, data, keys, heads);
                damaged |= line.get("error").is_some();
                line
            }
            Event::Damage(d) => {
                damaged = true;
                json!({"type": "damage", "at": d.at, "end": d.end, "why": d.why.phrase()})
            }
            Event::Compression { at, kind } => json!({"type": "compression", "at": at, "kind": kind}),
            Event::TimestampSizes(sizes) => {
                let sizes: Vec<Value> = sizes.iter().map(|(id, n)| json!({"family": id, "bytes": n})).collect();
                json!({"type": "timestamp-sizes", "sizes": sizes})
            }
            Event::Predecessor { number, size, last_sequence } => {
                json!({"type": "predecessor", "number": number, "size": size, "last_sequence": last_sequence})
            }
            Event::Ignored { at, kind } => json!({"type": "ignored", "at": at, "kind": kind}),
            Event::End { at, kind } => {
                damaged |= kind == EndKind::Damaged;
                json!({"type": "end", "at": at, "how": end_word(kind)})
            }
        };
        text.extend_from_slice(line.to_string().as_bytes());
        text.push(b'\n');
        if text.len() >= 1 << 16 {
            common::put(out, &text)?;
            text.clear();
        }
    }
    common::put(out, &text)?;
    Ok(if damaged { Exit(4) } else { Exit::OK })
}

const fn end_word(kind: EndKind) -> &'static str {
    match kind {
        EndKind::Clean => "clean",
        EndKind::ZeroTail => "zero tail",
        EndKind::Torn => "torn",
        EndKind::Recycled => "records of another log",
        EndKind::Damaged => "damaged",
    }
}

/// One write batch: place, sequence number, entries. Entries count their sequence numbers on from the batch's; in
/// databases of write-prepared transactions all entries of a sub-batch share one.
fn batch(at: u64, end: u64, data: &[u8], keys: bool, heads: bool) -> Value {
    let batch = match WriteBatch::parse(data) {
        Ok(batch) => batch,
        Err(e) => return json!({"type": "batch", "at": at, "end": end, "error": e.to_string()}),
    };
    let mut line = json!({"type": "batch", "at": at, "end": end, "seq": batch.sequence, "count": batch.count});
    if let Err(e) = batch.check() {
        common::set(&mut line, "error", e.to_string());
    }
    if heads {
        return line;
    }
    let entries: Vec<Value> = batch.records().map_while(std::result::Result::ok).map(|r| entry(&r, keys)).collect();
    common::set(&mut line, "entries", entries);
    line
}

fn entry(record: &Record<'_>, keys: bool) -> Value {
    match record {
        Record::Data { kind, family, key, value } => {
            let mut line = json!({"op": kind.name(), "family": family, "key": hex(key)});
            if kind.has_value() && !keys {
                let name = if *kind == DataKind::RangeDeletion { "end" } else { "value" };
                common::set(&mut line, name, hex(value));
            }
            line
        }
        Record::LogData(bytes) => json!({"op": "log-data", "length": bytes.len()}),
        Record::Noop => json!({"op": "noop"}),
        Record::BeginPrepare { tag } => json!({"op": "begin-prepare", "tag": tag}),
        Record::EndPrepare(id) => json!({"op": "end-prepare", "id": hex(id)}),
        Record::Commit(id) => json!({"op": "commit", "id": hex(id)}),
        Record::CommitWithTimestamp { id, timestamp } => {
            json!({"op": "commit", "id": hex(id), "timestamp": hex(timestamp)})
        }
        Record::Rollback(id) => json!({"op": "rollback", "id": hex(id)}),
    }
}
