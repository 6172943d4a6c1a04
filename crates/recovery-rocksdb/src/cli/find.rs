//! `find`: every version of a key, in every file and WAL, obsolete ones too.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches, Command};
use recovery_core::cli::{Exit, OpenOptions, open};
use recovery_core::{Check, Context, Error, Recover, Result, Source, parallel};
use serde_json::{Value, json};

use super::common;
use crate::engine::EngineOptions;
use crate::format::coding::hex;
use crate::format::file_name::FileKind;
use crate::format::key::{KeyOrder, ParsedKey, SequenceNumber, ValueType};
use crate::format::write_batch::{DataKind, Record};
use crate::inspect::gather::{Item, record_limit};
use crate::inspect::{self, Inspection};
use crate::reader::{TableOptions, TableReader, TableScan, Tombstone, wal};
use crate::salvage::Salvaged;

pub(super) fn command() -> Command {
    Command::new("find")
        .about("Every version of a key: in every table and WAL, obsolete, orphaned and archived ones too")
        .args([
            Arg::new("key").value_name("KEY").required(true).help("The key; text, or hex:…"),
            Arg::new("path").value_name("PATH").required(true).help("A database directory"),
            Arg::new("family")
                .long("family")
                .value_name("NAME")
                .action(ArgAction::Append)
                .help("Only this column family"),
            Arg::new("keys").long("keys").action(ArgAction::SetTrue).help("Leave values out"),
            common::name_family(),
        ])
}

/// One version of the key, or a tombstone over it.
struct Hit {
    family: String,
    sequence: u64,
    line: Value,
}

pub(super) fn run(
    engine: &dyn Recover,
    args: &ArgMatches,
    options: &OpenOptions,
    out: &mut dyn Write,
    cx: &Context,
) -> Result<Exit> {
    let text = |name: &str| args.get_one::<String>(name).cloned().unwrap_or_default();
    // Either order of key and directory is understood where it is plain which is which.
    let (mut key, mut path) = (text("key"), text("path"));
    if !Path::new(&path).exists() && Path::new(&key).is_dir() {
        std::mem::swap(&mut key, &mut path);
    }
    let wanted = common::binary("KEY", &key)?;
    let source = open(engine, &path, options)?;
    let mut structure = cx.clone();
    structure.check = Check::Structure;
    let engine_options =
        EngineOptions { name_family: common::open_options(args, cx)?.names, ..EngineOptions::default() };
    let inspection = inspect::inspect_one(&source, 0, &engine_options, &structure)?;
    let search = Search { i: &inspection, source: &source, key: &wanted, keys: args.get_flag("keys"), cx };
    let items: Vec<&Item> = inspection.gathered.items.iter().chain(&inspection.gathered.below).collect();
    let found = parallel::map(cx, &items, |_, item| search.file(item))?;
    let (mut hits, mut problems) = (Vec::new(), Vec::new());
    for (item, found) in items.iter().zip(found) {
        match found {
            Ok(found) => hits.extend(found),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(e) => problems.push(format!("{}: {e}", item.entry.name)),
        }
    }
    let families: Vec<&String> = args.get_many::<String>("family").into_iter().flatten().collect();
    hits.retain(|h| families.is_empty() || families.iter().any(|f| **f == h.family));
    hits.sort_by(|a, b| a.family.cmp(&b.family).then(b.sequence.cmp(&a.sequence)));
    let mut text = String::new();
    for hit in &hits {
        text.push_str(&format!("{}\n", hit.line));
    }
    for problem in &problems {
        text.push_str(&format!("{}\n", json!({ "passed_over": problem })));
    }
    common::put(out, text.as_bytes())?;
    Ok(if problems.is_empty() { Exit::OK } else { Exit(4) })
}

struct Search<'a> {
    i: &'a Inspection,
    source: &'a Arc<dyn Source>,
    key: &'a [u8],
    keys: bool,
    cx: &'a Context,
}

impl Search<'_> {
    fn file(&self, item: &Item) -> Result<Vec<Hit>> {
        match item.name.kind {
            FileKind::Table | FileKind::OldTable => self.table(item),
            FileKind::Wal => self.wal(item),
            _ => Ok(Vec::new()),
        }
    }

    fn class(&self, item: &Item) -> &'static str {
        if item.entry.name.contains('/') { "set aside" } else { self.i.class_of(item).word() }
    }

    fn family_name(&self, id: u32) -> String {
        let r = &self.i.resolved;
        let dropped = || r.dropped.get(&id).filter(|name| !name.is_empty()).cloned();
        let live = r.families.get(&id).map(crate::witness::ResolvedFamily::shown);
        live.or_else(dropped).unwrap_or_else(|| id.to_string())
    }

    fn table(&self, item: &Item) -> Result<Vec<Hit>> {
        if item.entry.size == 0 {
            return Ok(Vec::new());
        }
        let live = self.i.resolved.families.values().find_map(|f| {
            let n = item.name.number.filter(|_| !item.entry.name.contains('/'))?;
            Some((f, f.tables.values().find(|t| t.on_disk == Some(n))?))
        });
        let blob = self.source.open(&item.entry)?;
        let options = TableOptions {
            global_seqno: live.and_then(|(_, t)| t.global_seqno).map(SequenceNumber),
            block_limit: record_limit(self.cx),
            ..TableOptions::default()
        };
        let place = |properties: Option<&crate::format::TableProperties>| {
            let name = properties.and_then(|p| p.family_name.clone()).unwrap_or_default();
            let order =
                properties.and_then(|p| p.comparator.as_deref()).map_or(Some(KeyOrder::Bytewise), KeyOrder::by_name);
            let level = live.and_then(|(_, t)| t.level);
            (live.map_or(name, |(f, _)| f.shown()), live.map_or(order, |(f, _)| f.order.clone()), level)
        };
        let opened =
            TableReader::open(Arc::clone(&blob), options.clone()).and_then(|t| Ok((t.index()?, t.tombstones()?, t)));
        let Ok((index, tombstones, reader)) = opened else {
            let salvaged = Salvaged::run(&blob, &options, None, self.cx)?;
            let (family, order, level) = place(salvaged.properties.as_ref());
            let file = Place { item, class: self.class(item), family, level };
            return self.scan(salvaged.scan(), &salvaged.tombstones, order.as_ref(), &file);
        };
        let (family, order, level) = place(Some(reader.properties()));
        let file = Place { item, class: self.class(item), family, level };
        let blocks = match &order {
            Some(order) => {
                let stripped = reader.properties().timestamps_persisted == Some(false);
                // The version wanted may reach over a block's end.
                let found = index.blocks_between(order, stripped, Some(self.key), Some(self.key));
                found.start..found.end.saturating_add(1).min(index.len())
            }
            None => 0..index.len(),
        };
        self.scan(reader.scan_blocks(index.handles().into(), blocks), &tombstones, order.as_ref(), &file)
    }

    fn scan(
        &self,
        mut scan: TableScan,
        tombstones: &[Tombstone],
        order: Option<&KeyOrder>,
        file: &Place<'_>,
    ) -> Result<Vec<Hit>> {
        let mut hits = Vec::new();
        let mut steps = 0_u64;
        loop {
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(65_536) {
                self.cx.cancelled()?;
            }
            match scan.advance() {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => continue,
            }
            let Some(parsed) = ParsedKey::parse(scan.key()) else { continue };
            let bare = order.map_or(parsed.user_key, |o| o.without_timestamp(parsed.user_key));
            if bare == self.key {
                hits.push(self.hit(file, &parsed, bare.len(), scan.value()));
            } else if order.is_some_and(|o| o.compare_without_timestamp(bare, self.key).is_gt()) {
                break;
            }
        }
        let order = order.cloned().unwrap_or_default();
        hits.extend(tombstones.iter().filter(|t| covers(t, self.key, &order)).map(|t| tombstone(file, t)));
        Ok(hits)
    }

    fn hit(&self, file: &Place<'_>, parsed: &ParsedKey<'_>, bare: usize, value: &[u8]) -> Hit {
        let mut line = file.line(parsed.sequence.0, parsed.value_type.name());
        if let Some(timestamp) = parsed.user_key.get(bare..).filter(|t| !t.is_empty()) {
            common::set(&mut line, "timestamp", hex(timestamp));
        }
        let deletes = matches!(
            parsed.value_type,
            ValueType::Deletion | ValueType::SingleDeletion | ValueType::DeletionWithTimestamp
        );
        if !deletes && !self.keys {
            common::set(&mut line, "value", hex(value));
        }
        Hit { family: file.family.clone(), sequence: parsed.sequence.0, line }
    }

    fn wal(&self, item: &Item) -> Result<Vec<Hit>> {
        let Some(number) = item.name.number else { return Ok(Vec::new()) };
        let blob = self.source.open(&item.entry)?;
        let mut hits: Vec<Hit> = Vec::new();
        let mut prepared: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
        wal::scan(blob.as_ref(), number, record_limit(self.cx), |batch| {
            self.cx.cancelled()?;
            let mut sequence = batch.batch.sequence;
            let mut section: Option<Vec<usize>> = None;
            for record in batch.batch.records().map_while(std::result::Result::ok) {
                match record {
                    Record::Data { kind, family, key, value } => {
                        let at = sequence;
                        sequence = sequence.saturating_add(1);
                        let Some(hit) = self.write(item, batch.at, at, kind, family, key, value) else { continue };
                        if let Some(section) = &mut section {
                            section.push(hits.len());
                        }
                        hits.push(hit);
                    }
                    Record::BeginPrepare { .. } => section = Some(Vec::new()),
                    Record::EndPrepare(id) => {
                        let places = section.take().unwrap_or_default();
                        mark(&mut hits, &places, "prepared", id);
                        prepared.entry(id.to_vec()).or_default().extend(places);
                    }
                    Record::Commit(id) | Record::CommitWithTimestamp { id, .. } => {
                        mark(&mut hits, &prepared.remove(id).unwrap_or_default(), "committed", id);
                    }
                    Record::Rollback(id) => {
                        mark(&mut hits, &prepared.remove(id).unwrap_or_default(), "rolled back", id);
                    }
                    _ => {}
                }
            }
            Ok::<(), Error>(())
        })?;
        Ok(hits)
    }

    #[allow(clippy::too_many_arguments)]
    fn write(
        &self,
        item: &Item,
        at: u64,
        sequence: u64,
        kind: DataKind,
        family: u32,
        key: &[u8],
        value: &[u8],
    ) -> Option<Hit> {
        let order = self.i.resolved.families.get(&family).and_then(|f| f.order.clone());
        let file = Place { item, class: self.class(item), family: self.family_name(family), level: None };
        let order = order.unwrap_or_default();
        if kind == DataKind::RangeDeletion {
            let t = Tombstone { start: key.to_vec(), end: value.to_vec(), sequence: SequenceNumber(sequence) };
            return covers(&t, self.key, &order).then(|| tombstone(&file, &t));
        }
        let bare = order.without_timestamp(key);
        let parsed = ParsedKey {
            user_key: key,
            sequence: SequenceNumber(sequence),
            value_type: ValueType::from_byte(kind as u8)?,
        };
        let mut hit = (bare == self.key).then(|| self.hit(&file, &parsed, bare.len(), value))?;
        common::set(&mut hit.line, "at", at);
        Some(hit)
    }
}

fn mark(hits: &mut [Hit], places: &[usize], state: &str, id: &[u8]) {
    for place in places {
        if let Some(hit) = hits.get_mut(*place) {
            common::set(&mut hit.line, "transaction", json!({"id": hex(id), "state": state}));
        }
    }
}

fn covers(t: &Tombstone, key: &[u8], order: &KeyOrder) -> bool {
    let compare = |a: &[u8]| order.compare_without_timestamp(order.without_timestamp(a), key);
    compare(&t.start).is_le() && compare(&t.end).is_gt()
}

fn tombstone(file: &Place<'_>, t: &Tombstone) -> Hit {
    let mut line = file.line(t.sequence.0, ValueType::RangeDeletion.name());
    common::set(&mut line, "from", hex(&t.start));
    common::set(&mut line, "end", hex(&t.end));
    Hit { family: file.family.clone(), sequence: t.sequence.0, line }
}

struct Place<'a> {
    item: &'a Item,
    class: &'static str,
    family: String,
    level: Option<u32>,
}

impl Place<'_> {
    fn line(&self, sequence: u64, kind: &str) -> Value {
        json!({
            "file": self.item.entry.name, "class": self.class, "family": self.family, "level": self.level,
            "seq": sequence, "type": kind,
        })
    }
}
