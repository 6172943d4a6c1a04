//! `sst`: one table: its parts, its properties, its blocks.

use std::io::Write;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};
use recovery_core::cli::{Exit, OpenOptions};
use recovery_core::{Blob, Context, Recover, Result, Severity};
use serde_json::{Map, Value, json};

use super::common;
use crate::codes;
use crate::format::TableProperties;
use crate::format::coding::hex;
use crate::reader::{TableOptions, TableReader};
use crate::salvage::{Depth, Salvaged, check_table};

pub(super) fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    Command::new("sst")
        .about("A table: footer, properties, meta blocks, every block checked; also of a damaged one")
        .args([common::file("A table"), flag("blocks", "List the data blocks with their first and last keys")])
}

pub(super) fn run(
    engine: &dyn Recover,
    args: &ArgMatches,
    open: &OpenOptions,
    out: &mut dyn Write,
    cx: &Context,
) -> Result<Exit> {
    let blob = common::single_file(engine, args, open)?;
    let options = TableOptions { block_limit: crate::inspect::gather::record_limit(cx), ..TableOptions::default() };
    let check = check_table(&blob, &options, None, Depth::Entries, cx)?;
    let worst = check.damages.iter().map(|d| d.severity).max();
    let exit = Exit(match worst {
        _ if check.nothing => 5,
        Some(Severity::Lost) => 4,
        Some(Severity::Damaged | Severity::Suspect) => 3,
        _ => 0,
    });
    let footer = check.footer.map(|f| {
        json!({
            "at": f.offset, "format_version": f.format_version, "checksum": f.seal.algorithm.name(),
            "context": f.seal.base, "metaindex": [f.metaindex.offset, f.metaindex.size],
            "index": f.index.map(|h| [h.offset, h.size]),
        })
    });
    let mut document = json!({
        "schema": "recover/rocksdb-sst/1", "exit": exit.0, "file": blob.name(), "size": blob.len(), "footer": footer,
        "properties": check.properties.as_ref().map(properties), "meta_blocks": meta_blocks(&blob, &options),
        "data_blocks": check.data_blocks, "entries_lost": check.lost, "unsupported": check.unsupported,
        "coverage": check.coverage.totals(),
        "findings": check.findings(&codes::TABLE_DAMAGED, &codes::TOMBSTONES_LOST, blob.name(), cx),
    });
    if args.get_flag("blocks") && check.unsupported.is_none() && !check.nothing {
        common::set(&mut document, "blocks", blocks(&Salvaged::run(&blob, &options, None, cx)?));
    }
    if args.get_flag("json") {
        common::put(out, format!("{document}\n").as_bytes())?;
    } else {
        let text = serde_json::to_string_pretty(&document).unwrap_or_default();
        common::put(out, format!("{text}\n").as_bytes())?;
    }
    Ok(exit)
}

fn meta_blocks(blob: &Arc<dyn Blob>, options: &TableOptions) -> Value {
    let Ok(reader) = TableReader::open(Arc::clone(blob), options.clone()) else { return Value::Null };
    let entries = reader.metaindex().entries.iter();
    entries.map(|(name, h)| (name.clone(), json!([h.offset, h.size]))).collect::<Map<_, _>>().into()
}

fn blocks(salvaged: &Salvaged) -> Value {
    let mut all: Vec<(u64, Value)> = Vec::new();
    for block in &salvaged.good {
        let line = json!({
            "at": block.handle.offset, "size": block.handle.size, "entries": block.entries,
            "first": hex(&block.first), "last": hex(&block.last),
        });
        all.push((block.handle.offset, line));
    }
    for lost in &salvaged.lost {
        let line = json!({
            "at": lost.range.start, "size": lost.range.end.saturating_sub(lost.range.start), "lost": true,
            "after": lost.after.as_deref().map(hex), "upto": lost.upto.as_deref().map(hex),
        });
        all.push((lost.range.start, line));
    }
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, line)| line).collect::<Vec<_>>().into()
}

fn properties(p: &TableProperties) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
    };
    let texts = [
        ("db_id", &p.db_id),
        ("session_id", &p.session_id),
        ("host", &p.host),
        ("column_family", &p.family_name),
        ("comparator", &p.comparator),
        ("merge_operator", &p.merge_operator),
        ("prefix_extractor", &p.prefix_extractor),
        ("filter_policy", &p.filter_policy),
        ("compression", &p.compression),
    ];
    for (name, value) in texts {
        put(name, value.clone().map(Value::from));
    }
    let numbers = [
        ("original_file_number", p.original_file_number),
        ("column_family_id", p.family_id.map(u64::from)),
        ("entries", p.num_entries),
        ("deletions", p.num_deletions),
        ("merge_operands", p.num_merge_operands),
        ("range_deletions", p.num_range_deletions),
        ("data_blocks", p.num_data_blocks),
        ("data_size", p.data_size),
        ("index_size", p.index_size),
        ("filter_size", p.filter_size),
        ("raw_key_size", p.raw_key_size),
        ("raw_value_size", p.raw_value_size),
        ("smallest_seq", p.smallest_seqno),
        ("largest_seq", p.largest_seqno),
        ("global_seq", p.global_seqno),
        ("external_version", p.external_version.map(u64::from)),
        ("creation_time", p.creation_time),
        ("file_creation_time", p.file_creation_time),
        ("oldest_key_time", p.oldest_key_time),
    ];
    for (name, value) in numbers {
        put(name, value.map(Value::from));
    }
    put("timestamps_persisted", p.timestamps_persisted.map(Value::from));
    let others: Map<String, Value> = p.other.iter().map(|(name, value)| (name.clone(), hex(value).into())).collect();
    put("others", (!others.is_empty()).then(|| others.into()));
    out.into()
}
