//! A new environment from the records.

use std::collections::BTreeMap;

use bytes::Bytes;
use recovery_core::{Context, Error, Result};

use super::group::{group_of, identity, je_version, new_group, new_node};
use super::{Decided, Drawn, Identity, Made, Options, Summing, Work, drawn_of};
use crate::format::{Lsn, MAX_LOG_VERSION};
use crate::inspect::{Inspected, Node};
use crate::model::Group;
use crate::prove::{Proven, Prover};
use crate::records::Source as RecordSource;
use crate::writer::scratch::{Scratch, ScratchWriter};
use crate::writer::{FILE_MAX, writable};

/// What a new environment is made of.
struct Recipe<'a> {
    scratch: Scratch,
    source: RecordSource<'a>,
    node: Identity,
}

fn recipe<'a>(
    base: &'a Node,
    end: Option<Lsn>,
    group: &Group,
    mut node: Identity,
    drawn: &Drawn,
    cx: &Context,
) -> Result<Recipe<'a>> {
    let source = RecordSource::choose(base, end, cx)?;
    let last_vlsn = base.all.last_visible.unwrap_or(0).max(base.all.last_vlsn.unwrap_or(0)).max(0);
    let first_vlsn = last_vlsn.saturating_add(1).max(1);
    let known = base.true_log().files.values().filter_map(crate::reader::LogFile::known_version).max();
    let version = writable(known.unwrap_or(MAX_LOG_VERSION));
    let record = new_group(group, drawn);
    let cbvlsn = if first_vlsn > 1 { first_vlsn.saturating_sub(1) } else { -1 };
    let own = new_node(&node, &record, je_version(group, version), cbvlsn, drawn.now);
    node.id = own.id;
    let scratch = Scratch { version, now: drawn.now, first_vlsn, group: record, node: own, file_max: FILE_MAX };
    Ok(Recipe { scratch, source, node })
}

/// A new environment from the records: what it will hold, and the sizes of its files. The files are read back as they
/// are made, and made again when the plan is carried out.
pub(super) fn scratch(
    base: &Node,
    end: Option<Lsn>,
    group: &Group,
    node: Identity,
    drawn: &Drawn,
    losses: &mut Vec<(&'static str, String, u64)>,
    cx: &Context,
) -> Result<Work> {
    let Recipe { scratch: s, source, node } = recipe(base, end, group, node, drawn, cx)?;
    let mut made = Vec::new();
    let proven = write(&s, &source, cx, &mut |number, bytes| {
        made.push((number, Made::Later(bytes.len() as u64)));
        Ok(())
    })?;
    source.losses(base, losses);
    let decided = Decided {
        recipe: super::Recipe::Scratch,
        source: base.source,
        base: base.path.clone(),
        cut: end.map(|e| e.to_string()),
        now_ms: drawn.now,
        uuid: s.group.uuid.map(|h| format!("{h:016x}")).concat(),
        node,
        records: proven.records,
        kept_by_cut: 0,
        kept_by_salvage: 0,
        last_vlsn: proven.last_vlsn,
        je_log_version: s.version,
        group_kept: false,
        fallback: None,
    };
    Ok(Work { decided, keep: Vec::new(), made, losses: Vec::new() })
}

/// Makes the files of a plan again, one after the other.
///
/// # Errors
///
/// The first error of `sink`, and when they would not hold what the plan says: `sink` has then not got the last one.
pub fn write_again(
    seen: &Inspected,
    options: &Options,
    decided: &Decided,
    cx: &Context,
    sink: &mut dyn FnMut(u32, Bytes) -> Result<()>,
) -> Result<()> {
    let base = super::base_of(seen)?;
    let end = options.until.as_deref().map(|text| super::until::until(base, text, cx)).transpose()?.map(|(end, _)| end);
    let group = group_of(base);
    let node = identity(base, &group, options)?;
    let Recipe { scratch: s, source, .. } = recipe(base, end, &group, node, &drawn_of(decided)?, cx)?;
    let mut held: Option<(u32, Bytes)> = None;
    let proven = write(&s, &source, cx, &mut |number, bytes| match held.replace((number, bytes)) {
        Some((number, bytes)) => sink(number, bytes),
        None => Ok(()),
    })?;
    if proven.records != decided.records || proven.last_vlsn != decided.last_vlsn {
        return Err(Error::Internal("the records differ from those of the plan".to_owned()));
    }
    held.map_or(Ok(()), |(number, bytes)| sink(number, bytes))
}

/// Writes the environment; every file is read back before `sink` gets it, and none is kept.
fn write(
    s: &Scratch,
    source: &RecordSource<'_>,
    cx: &Context,
    sink: &mut dyn FnMut(u32, Bytes) -> Result<()>,
) -> Result<Proven> {
    let mut w = ScratchWriter::begin(s);
    let mut prover = Prover::new(s.version, s.first_vlsn);
    let mut number = 0u32;
    let mut give = |files: Vec<Vec<u8>>| {
        files.into_iter().try_for_each(|file| {
            let bytes = Bytes::from(file);
            prover.file(bytes.clone())?;
            sink(number, bytes)?;
            number = number.saturating_add(1);
            Ok(())
        })
    };
    let mut records = BTreeMap::new();
    for db in source.databases() {
        w.database(&db.name, &db.config);
        let mut sum = Summing::default();
        source.each(&db, cx, &mut |k, v| {
            sum.add(k, v);
            w.record(k, v);
            give(w.take_full())
        })?;
        records.insert(db.name.clone(), sum.finish());
    }
    let (files, last) = w.finish();
    give(files)?;
    let proven = prover.finish()?;
    let wrong = |what: &str| Err(Error::Internal(format!("the new environment would not hold {what}")));
    let members: Vec<_> = proven.group.members().collect();
    match members.as_slice() {
        _ if proven.records != records => wrong("the records of the old one"),
        _ if proven.last_vlsn != last => wrong("its last VLSN"),
        [own] if **own == s.node && own.quorum_ack && proven.group.group.as_ref() == Some(&s.group) => Ok(proven),
        _ => wrong("the new group"),
    }
}
