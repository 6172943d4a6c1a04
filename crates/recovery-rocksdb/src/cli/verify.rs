//! `verify`: every block of every table and every record of every blob file against its checksum.

use std::io::Write;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};
use recovery_core::cli::{Exit, OpenOptions};
use recovery_core::{Blob, Context, Depth as Listing, Entry, Recover, Result, Severity, Source, parallel};
use serde_json::{Value, json};

use super::common;
use crate::codes;
use crate::format::KeyOrder;
use crate::reader::TableOptions;
use crate::reader::blob::{BlobItem, BlobWalk};
use crate::salvage::{Depth, check_table};

pub(super) fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    Command::new("verify")
        .about("Every block of every table and every record of every blob file against its checksum")
        .arg(common::path())
        .arg(flag("entries", "Decode every entry too: key order, types, the counts of the properties"))
}

/// What came of one file.
struct Verified {
    name: String,
    size: u64,
    worst: Option<Severity>,
    lines: Vec<String>,
    json: Value,
}

pub(super) fn run(
    engine: &dyn Recover,
    args: &ArgMatches,
    open: &OpenOptions,
    out: &mut dyn Write,
    cx: &Context,
) -> Result<Exit> {
    let source = common::source(engine, args, open)?;
    let depth = if args.get_flag("entries") { Depth::Entries } else { Depth::Checksums };
    let mut entries: Vec<Entry> = Vec::new();
    for entry in source.list("", Listing::One) {
        let entry = entry?;
        if entry.is_file() && [".sst", ".ldb", ".blob"].iter().any(|end| entry.name.ends_with(end)) {
            entries.push(entry);
        }
    }
    // Large files first, so that no thread is left with one at the end.
    entries.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name)));
    cx.progress.begin("verify", entries.iter().map(|e| e.size).fold(0, u64::saturating_add));
    let done = parallel::map(cx, &entries, |_, entry| file(&source, entry, depth, cx))?;
    let mut done: Vec<Verified> = done.into_iter().collect::<Result<_>>()?;
    done.sort_by(|a, b| a.name.cmp(&b.name));
    let worst = done.iter().filter_map(|v| v.worst).max();
    let exit = Exit(match worst {
        Some(Severity::Lost) => 4,
        Some(Severity::Damaged | Severity::Suspect) => 3,
        _ => 0,
    });
    let text = if args.get_flag("json") { as_json(&done, exit) } else { as_text(&done) };
    common::put(out, text.as_bytes())?;
    Ok(exit)
}

fn as_text(done: &[Verified]) -> String {
    let bytes = done.iter().map(|v| v.size).fold(0, u64::saturating_add);
    let bad = done.iter().filter(|v| v.worst.is_some_and(|w| w > Severity::Note)).count();
    let mut text = format!("{} files, {bytes} bytes, {bad} with damage\n", done.len());
    for file in done {
        for line in &file.lines {
            text.push_str(&format!("{}: {line}\n", recovery_core::names::terminal(&file.name)));
        }
    }
    text
}

fn as_json(done: &[Verified], exit: Exit) -> String {
    let files: Vec<&Value> = done.iter().map(|v| &v.json).collect();
    format!("{}\n", json!({"schema": "recover/rocksdb-verify/1", "exit": exit.0, "files": files}))
}

fn file(source: &Arc<dyn Source>, entry: &Entry, depth: Depth, cx: &Context) -> Result<Verified> {
    let opened = source.open(entry);
    let blob = match opened {
        Ok(blob) => blob,
        Err(error) => {
            let json = json!({"name": entry.name, "size": entry.size, "error": error.to_string()});
            let worst = Some(Severity::Lost);
            return Ok(Verified {
                name: entry.name.clone(),
                size: entry.size,
                worst,
                lines: vec![error.to_string()],
                json,
            });
        }
    };
    if entry.name.ends_with(".blob") { Ok(blob_file(&blob, entry, cx)) } else { table(&blob, entry, depth, cx) }
}

fn table(blob: &Arc<dyn Blob>, entry: &Entry, depth: Depth, cx: &Context) -> Result<Verified> {
    let options = TableOptions { block_limit: crate::inspect::gather::record_limit(cx), ..TableOptions::default() };
    let check = check_table(blob, &options, None::<&KeyOrder>, depth, cx)?;
    let findings = check.findings(&codes::TABLE_DAMAGED, &codes::TOMBSTONES_LOST, &entry.name, cx);
    let mut lines: Vec<String> = check.damages.iter().map(|d| d.summary.clone()).collect();
    lines.extend(check.unsupported.clone());
    if let Some(lost) = check.lost.filter(|lost| *lost > 0) {
        lines.push(format!("{lost} entries are lost"));
    }
    let json = json!({
        "name": entry.name, "size": entry.size, "data_blocks": check.data_blocks,
        "format_version": check.footer.map(|f| f.format_version),
        "checksum": check.footer.map(|f| f.seal.algorithm.name()),
        "coverage": check.coverage.totals(), "unsupported": check.unsupported, "entries_lost": check.lost,
        "findings": findings,
    });
    let worst = check.damages.iter().map(|d| d.severity).max();
    Ok(Verified { name: entry.name.clone(), size: entry.size, worst, lines, json })
}

fn blob_file(blob: &Arc<dyn Blob>, entry: &Entry, cx: &Context) -> Verified {
    let walk = BlobWalk::run(blob);
    cx.progress.advance(entry.size);
    let mut lines = Vec::new();
    for item in &walk.items {
        match item {
            BlobItem::Record { .. } => {}
            BlobItem::Damaged { range, .. } => {
                lines.push(format!("the record at {:#x} does not match its checksum", range.start));
            }
            BlobItem::Unknown { range } => lines.push(format!("no record in {:#x}..{:#x}", range.start, range.end)),
            BlobItem::Unread { range, message } => lines.push(format!("{:#x}: {message}", range.start)),
        }
    }
    let mut worst = (!lines.is_empty()).then_some(Severity::Lost);
    if let Err(error) = &walk.header {
        lines.push(error.to_string());
        worst = worst.max(Some(Severity::Damaged));
    }
    let closed = walk.footer.is_ok();
    if !closed && worst.is_none() {
        lines.push("no footer: the file was not closed".to_owned());
        worst = Some(Severity::Note);
    }
    let json = json!({
        "name": entry.name, "size": entry.size, "records": walk.records(), "bytes": walk.bytes(), "closed": closed,
        "damages": lines,
    });
    Verified { name: entry.name.clone(), size: entry.size, worst, lines, json }
}
