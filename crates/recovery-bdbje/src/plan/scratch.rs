//! A new environment from the records.

use std::collections::BTreeMap;

use recovery_core::{Context, Error, Result};

use super::group::{je_version, new_group, new_node};
use super::{Decided, Drawn, Identity, Recipe, Summary, Summing, Work};
use crate::format::{Lsn, MAX_LOG_VERSION};
use crate::inspect::Node;
use crate::model::Group;
use crate::records::Source as RecordSource;
use crate::writer::scratch::{Scratch, ScratchWriter};
use crate::writer::{FILE_MAX, writable};

/// A new environment from the records.
pub(super) fn scratch(
    base: &Node,
    end: Option<Lsn>,
    group: &Group,
    mut node: Identity,
    drawn: &Drawn,
    losses: &mut Vec<(&'static str, String, u64)>,
    cx: &Context,
) -> Result<Work> {
    let source = RecordSource::choose(base, end, cx)?;
    let last_vlsn = base.all.last_visible.unwrap_or(0).max(base.all.last_vlsn.unwrap_or(0)).max(0);
    let first_vlsn = last_vlsn.saturating_add(1).max(1);
    let known = base.true_log().files.values().filter_map(crate::reader::LogFile::known_version).max();
    let version = writable(known.unwrap_or(MAX_LOG_VERSION));
    let record = new_group(group, drawn);
    let cbvlsn = if first_vlsn > 1 { first_vlsn.saturating_sub(1) } else { -1 };
    let own = new_node(&node, &record, je_version(group, version), cbvlsn, drawn.now);
    node.id = own.id;
    let s = Scratch { version, now: drawn.now, first_vlsn, group: record, node: own, file_max: FILE_MAX };
    let (files, last, records) = write_scratch(&s, &source, cx)?;
    source.losses(base, losses);
    let decided = Decided {
        recipe: Recipe::Scratch,
        source: base.source,
        base: base.path.clone(),
        cut: end.map(|e| e.to_string()),
        now_ms: drawn.now,
        uuid: s.group.uuid.map(|h| format!("{h:016x}")).concat(),
        node,
        records,
        kept_by_cut: 0,
        kept_by_salvage: 0,
        last_vlsn: last,
        je_log_version: version,
        group_kept: false,
        fallback: None,
    };
    let made = (0u32..).zip(files).collect();
    let work = Work { decided, keep: Vec::new(), made, losses: Vec::new() };
    crate::apply::prove(&work, None, true, cx)?;
    Ok(work)
}

fn write_scratch(
    s: &Scratch,
    source: &RecordSource<'_>,
    cx: &Context,
) -> Result<(Vec<Vec<u8>>, i64, BTreeMap<String, Summary>)> {
    let mut w = ScratchWriter::begin(s);
    let mut sums = BTreeMap::new();
    let mut written = 0u64;
    let limit = cx.limits.memory / 2;
    for db in source.databases() {
        w.database(&db.name, &db.config);
        let mut sum = Summing::default();
        source.each(&db, cx, &mut |k, v| {
            sum.add(k, v);
            w.record(k, v);
            written = written.saturating_add(k.len() as u64).saturating_add(v.len() as u64).saturating_add(64);
            if written > limit {
                return Err(Error::Limit { what: "new environment in memory".to_owned(), needed: written, limit });
            }
            Ok(())
        })?;
        sums.insert(db.name.clone(), sum.finish());
    }
    let (files, last) = w.finish();
    Ok((files, last, sums))
}
