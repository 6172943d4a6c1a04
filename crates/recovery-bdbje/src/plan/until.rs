//! `--until`: the end of the last commit that is kept.

use std::collections::HashSet;

use recovery_core::{Context, Error, Result};

use crate::format::{EntryType, Lsn, packed};
use crate::inspect::Node;
use crate::reader::Log;

/// End of the last commit that `--until` keeps, and its VLSN.
pub(super) fn until(base: &Node, text: &str, cx: &Context) -> Result<(Lsn, i64)> {
    let usage = || Error::Usage(format!("--until {text}: expected a VLSN or journal:ID"));
    let log = base.true_log();
    let limit = match text.strip_prefix("journal:") {
        None => Limit::Vlsn(text.parse().map_err(|_| usage())?),
        Some(id) => Limit::Before(first_beyond(log, base, id.parse().map_err(|_| usage())?)),
    };
    let mut best: Option<(Lsn, i64)> = None;
    for f in log.files.values() {
        cx.cancelled()?;
        let scan = base.scan.files.values().find(|s| s.name == f.name);
        let file = crate::reader::LogFile { len: scan.map_or(f.len, |s| s.valid_to), ..f.clone() };
        let mut past = false;
        crate::model::replay::each_entry(&file, 0, |e| {
            let lsn = Lsn::new(f.number, u32::try_from(e.at).unwrap_or(u32::MAX));
            let Some(v) = e.header.stream_vlsn().filter(|_| e.header.kind == EntryType::COMMIT) else { return };
            let keep = match limit {
                Limit::Vlsn(l) => v <= l,
                Limit::Before(l) => l.is_none_or(|l| lsn < l),
            };
            past |= !keep;
            if keep && !past && !e.header.invisible() {
                best = Some((Lsn::new(f.number, u32::try_from(e.end()).unwrap_or(u32::MAX)), v));
            }
        });
        if past {
            break;
        }
    }
    best.ok_or_else(|| Error::Usage(format!("--until {text}: no commit before it")))
}

#[derive(Clone, Copy)]
enum Limit {
    Vlsn(i64),
    Before(Option<Lsn>),
}

/// First record of a journal database with an id beyond `id`, among records that count.
fn first_beyond(log: &Log, base: &Node, id: i64) -> Option<Lsn> {
    let journals: HashSet<i64> = base
        .je
        .iter()
        .flat_map(|e| e.names.iter())
        .filter(|(n, _)| n.parse::<i64>().is_ok())
        .map(|(_, id)| *id)
        .chain(
            base.scavenged
                .iter()
                .flat_map(|s| s.databases.values())
                .filter(|d| d.name.parse::<i64>().is_ok())
                .map(|d| d.id),
        )
        .collect();
    let mut found: Option<Lsn> = None;
    for f in log.files.values() {
        if found.is_some() {
            break;
        }
        let version = f.version();
        crate::model::replay::each_entry(f, 0, |e| {
            if found.is_some() || !e.header.kind.is_user_ln() || e.header.invisible() || !e.header.replicated() {
                return;
            }
            let mut c = recovery_core::Cursor::new(e.item(), e.item_at());
            let Ok(ln) = crate::format::ln::LnEntry::decode(&mut c, e.header.kind, version) else { return };
            let beyond = packed::long_key(ln.key).is_some_and(|k| k > id);
            if beyond && journals.contains(&ln.db) && !ln.is_deletion() {
                found = Some(Lsn::new(f.number, u32::try_from(e.at).unwrap_or(u32::MAX)));
            }
        });
    }
    found
}
