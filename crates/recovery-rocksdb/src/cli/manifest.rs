//! `manifest`: one MANIFEST, record by record, and the state they give.

use std::io::Write;

use clap::{ArgMatches, Command};
use recovery_core::cli::{Exit, OpenOptions};
use recovery_core::{Context, Recover, Result};
use serde_json::{Map, Value, json};

use super::common;
use crate::format::coding::hex;
use crate::format::file_name::FileName;
use crate::format::version_edit::{Field, NewFile, VersionEdit};
use crate::inspect::gather::record_limit;
use crate::reader::log::{Event, LogWalker};
use crate::reader::manifest;

pub(super) fn command() -> Command {
    Command::new("manifest")
        .about("A MANIFEST record by record, as JSON Lines, with the state they give at the end; goes on behind damage")
        .arg(common::file("A MANIFEST"))
}

pub(super) fn run(
    engine: &dyn Recover,
    args: &ArgMatches,
    open: &OpenOptions,
    out: &mut dyn Write,
    cx: &Context,
) -> Result<Exit> {
    let blob = common::single_file(engine, args, open)?;
    let number = FileName::parse(blob.name().rsplit('/').next().unwrap_or_default()).number.unwrap_or(0);
    let mut walker = LogWalker::new(blob.as_ref(), None, record_limit(cx));
    let mut damaged = false;
    while let Some(event) = walker.next_event() {
        cx.cancelled()?;
        let line = match event {
            Event::Record { at, end, data } => match VersionEdit::decode(data) {
                Ok(edit) => {
                    let fields: Vec<Value> = edit.fields.iter().map(field).collect();
                    json!({"type": "edit", "at": at, "end": end, "fields": fields})
                }
                Err(e) => {
                    damaged = true;
                    json!({"type": "edit", "at": at, "end": end, "error": e.to_string()})
                }
            },
            Event::Damage(d) => {
                damaged = true;
                json!({"type": "damage", "at": d.at, "end": d.end, "why": d.why.phrase()})
            }
            Event::End { .. } => break,
            _ => continue,
        };
        common::put(out, format!("{line}\n").as_bytes())?;
    }
    let read = manifest::read(blob.as_ref(), number, record_limit(cx));
    common::put(out, format!("{}\n", state(&read)).as_bytes())?;
    Ok(if damaged || !read.is_whole() { Exit(3) } else { Exit::OK })
}

fn text(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| format!("hex:{}", hex(bytes)).into(), Value::from)
}

fn file(f: &NewFile) -> Value {
    json!({
        "number": f.number, "level": f.level, "size": f.size, "smallest": hex(&f.smallest), "largest": hex(&f.largest),
        "smallest_seq": f.smallest_seqno, "largest_seq": f.largest_seqno, "epoch": f.epoch(),
        "oldest_blob": f.oldest_blob(),
    })
}

fn field(field: &Field) -> Value {
    match field {
        Field::Comparator(name) => json!({"comparator": text(name)}),
        Field::LogNumber(n) => json!({"log_number": n}),
        Field::NextFile(n) => json!({"next_file": n}),
        Field::LastSequence(n) => json!({"last_sequence": n}),
        Field::CompactCursor(level, key) => json!({"compact_cursor": {"level": level, "key": hex(key)}}),
        Field::DeletedFile(level, number) => json!({"deleted_file": {"level": level, "number": number}}),
        Field::NewFile(f) => json!({"new_file": file(f)}),
        Field::PrevLogNumber(n) => json!({"prev_log_number": n}),
        Field::MinLogToKeep(n) => json!({"min_log_to_keep": n}),
        Field::Family(id) => json!({"family": id}),
        Field::AddFamily(name) => json!({"add_family": text(name)}),
        Field::DropFamily => json!({"drop_family": true}),
        Field::MaxFamily(id) => json!({"max_family": id}),
        Field::AtomicGroup(n) => json!({"atomic_group_remaining": n}),
        Field::BlobAddition(_, b) => json!({"blob_file": {"number": b.number, "values": b.count, "bytes": b.bytes}}),
        Field::BlobGarbage(_, b) => json!({"blob_garbage": {"number": b.number, "values": b.count, "bytes": b.bytes}}),
        Field::DbId(id) => json!({"db_id": text(id)}),
        Field::FullHistoryTsLow(ts) => json!({"full_history_ts_low": hex(ts)}),
        Field::PersistTimestamps(b) => json!({"timestamps_persisted": b.first() == Some(&1)}),
        Field::WalAddition(_) | Field::WalAdditionOld(..) => json!({"wal": manifest::wal_number(field)}),
        Field::WalDeletion(_) | Field::WalDeletionOld(_) => json!({"wals_gone_below": manifest::wal_number(field)}),
        Field::Ignorable(tag, bytes) => json!({"tag": tag, "bytes": hex(bytes)}),
    }
}

fn state(m: &manifest::Manifest) -> Value {
    let v = &m.version;
    let families: Vec<Value> = v
        .families
        .iter()
        .map(|(id, f)| {
            let mut levels: Map<String, Value> = Map::new();
            for file in f.files.values() {
                let list = levels.entry(file.level.to_string()).or_insert_with(|| json!([]));
                if let Some(list) = list.as_array_mut() {
                    list.push(file.number.into());
                }
            }
            let blobs: Vec<u64> = f.blobs.keys().copied().collect();
            json!({
                "id": id, "name": text(&f.name), "comparator": f.comparator.as_deref().map(text),
                "log_number": f.log_number, "levels": levels, "blob_files": blobs,
            })
        })
        .collect();
    let dropped: Vec<Value> = v.dropped.iter().map(|(id, name)| json!({"id": id, "name": text(name)})).collect();
    json!({
        "type": "state", "records": m.records, "faults": m.faults.len(), "whole": m.is_whole(), "end": m.end_at,
        "db_id": v.db_id.as_deref().map(text), "next_file": v.next_file, "last_sequence": v.last_sequence,
        "min_log_to_keep": v.min_log, "families": families, "dropped": dropped,
    })
}
