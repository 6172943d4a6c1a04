//! `ls`: families, their levels and tables.

use std::collections::BTreeMap;
use std::io::Write;

use clap::{ArgMatches, Command};
use recovery_core::cli::{Exit, OpenOptions};
use recovery_core::{Check, Context, Recover, Result};
use serde_json::{Value, json};

use super::common;
use crate::inspect::gather::{self, Gathered};
use crate::witness::{self, LiveTable, Resolved, ResolvedFamily, Trust};

pub(super) fn command() -> Command {
    Command::new("ls")
        .about("Families, levels, tables, blob files and WALs")
        .args([common::path(), common::name_family()])
}

pub(super) fn run(
    engine: &dyn Recover,
    args: &ArgMatches,
    open: &OpenOptions,
    out: &mut dyn Write,
    cx: &Context,
) -> Result<Exit> {
    let source = common::source(engine, args, open)?;
    let mut structure = cx.clone();
    structure.check = Check::Structure;
    let gathered = gather::gather(&source, 0, &structure)?;
    let resolved = witness::resolve(&gathered, &common::open_options(args, cx)?.names);
    let text = if args.get_flag("json") { as_json(&gathered, &resolved) } else { as_text(&gathered, &resolved) };
    common::put(out, text.as_bytes())?;
    let whole = resolved.trust == Trust::Whole && resolved.missing.is_empty();
    Ok(if whole { Exit::OK } else { Exit(3) })
}

fn level(table: &LiveTable) -> String {
    table.level.map_or_else(|| "?".to_owned(), |level| level.to_string())
}

fn as_text(g: &Gathered, resolved: &Resolved) -> String {
    let mut lines = Vec::new();
    for family in resolved.families.values() {
        lines.push(head(family));
        let mut tables: Vec<&LiveTable> = family.tables.values().collect();
        tables.sort_by_key(|table| (table.level, table.number));
        for table in tables {
            let entries = table.entries.map_or_else(|| "?".to_owned(), |n| n.to_string());
            let state = if resolved.missing.contains(&table.number) {
                "  missing"
            } else if table.damaged {
                "  damaged"
            } else {
                ""
            };
            lines.push(format!(
                "  L{}  {:06}.sst  {} bytes  {entries} entries  seq {}-{}{state}",
                level(table),
                table.number,
                table.size,
                table.seqnos.0,
                table.seqnos.1,
            ));
        }
        for (number, blob) in &family.blobs {
            lines.push(format!("  {number:06}.blob  {} values  {} bytes", blob.count, blob.bytes));
        }
    }
    for (number, wal) in &g.wals {
        lines.push(format!(
            "wal {number:06}.log  {} records  {} entries  {}",
            wal.records,
            wal.entries,
            wal.end_word()
        ));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn head(family: &ResolvedFamily) -> String {
    let shown = family.shown();
    let name = recovery_core::names::terminal(&shown);
    let bytes = family.tables.values().map(|t| t.size).fold(0, u64::saturating_add);
    let comparator = family.comparator.as_deref().unwrap_or("unknown comparator");
    let note = if family.unnamed { ", name made up" } else { "" };
    format!("{} {name}  {} tables  {bytes} bytes  {comparator}{note}", family.id, family.tables.len())
}

fn as_json(g: &Gathered, resolved: &Resolved) -> String {
    let table = |t: &LiveTable| {
        json!({
            "number": t.number, "level": t.level, "size": t.size, "entries": t.entries,
            "smallest_seq": t.seqnos.0, "largest_seq": t.seqnos.1,
            "missing": resolved.missing.contains(&t.number), "damaged": t.damaged,
        })
    };
    let family = |f: &ResolvedFamily| {
        let blobs: Vec<Value> =
            f.blobs.iter().map(|(n, b)| json!({"number": n, "values": b.count, "bytes": b.bytes})).collect();
        let tables: Vec<Value> = f.tables.values().map(table).collect();
        json!({"id": f.id, "name": f.shown(), "unnamed": f.unnamed, "comparator": f.comparator, "tables": tables, "blobs": blobs})
    };
    let wals: BTreeMap<String, Value> = g
        .wals
        .iter()
        .map(|(n, w)| (format!("{n:06}.log"), json!({"records": w.records, "entries": w.entries, "end": w.end_word()})))
        .collect();
    let families: Vec<Value> = resolved.families.values().map(family).collect();
    let trust = match resolved.trust {
        Trust::Whole => "whole",
        Trust::Partial => "partial",
        Trust::None => "none",
    };
    let document = json!({
        "schema": "recover/rocksdb-ls/1", "manifest": trust, "last_sequence": resolved.last_sequence,
        "families": families, "wals": wals,
    });
    format!("{document}\n")
}
