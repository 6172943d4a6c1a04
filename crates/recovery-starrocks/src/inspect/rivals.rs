//! Several copies of one repository: which is the best, and what the others are good for.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use recovery_core::{Candidate, Context, Error, ReportBuilder, Result, Source, Sources};
use serde_json::{Value, json};

use super::heal::Donor;
use super::{Inspection, Look, Options, alone, strict};
use crate::reader::load::{self, Loaded};
use crate::reader::repository::Repository;

/// What makes a copy better than another: tables stock RESTORE can take, tables at all, files that are needed and not
/// lost, age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Worth {
    restorable: usize,
    finished: usize,
    tables: usize,
    lost_rows: Reverse<u64>,
    damaged: Reverse<usize>,
    newest: i64,
    findings: Reverse<usize>,
}

fn worth(look: &Look) -> Worth {
    let snapshots = &look.inspection.snapshots;
    let tables = || snapshots.iter().flat_map(|s| s.tables.iter().map(move |t| (s, t)));
    Worth {
        restorable: tables().filter(|(s, t)| s.restorable(t)).count(),
        finished: snapshots.iter().filter(|s| s.finished).count(),
        tables: tables().count(),
        lost_rows: Reverse(tables().map(|(_, t)| t.lost_rows).fold(0, u64::saturating_add)),
        damaged: Reverse(tables().map(|(_, t)| t.damaged.len()).fold(0, usize::saturating_add)),
        newest: snapshots.iter().map(|s| s.backup_time_ms).max().unwrap_or(0),
        findings: Reverse(look.findings.len()),
    }
}

/// Looks at every rival by itself, and says which is the best; among equals the first.
pub(super) fn look(sources: &Sources, options: &Options, cx: &Context) -> Result<(Vec<Look>, usize)> {
    let several = sources.rivals.len() > 1;
    let (mut looks, mut refused) = (Vec::new(), None);
    for (number, source) in (0u16..).zip(&sources.rivals) {
        match alone(number, source, options, cx, BTreeMap::new()) {
            Ok(look) => looks.push(look),
            Err(e @ Error::Unusable(_)) if several => refused = Some(e),
            Err(e) => return Err(e),
        }
    }
    let mut best = None;
    for (at, look) in looks.iter().enumerate() {
        let worth = worth(look);
        if best.is_none_or(|(_, b)| worth > b) {
            best = Some((at, worth));
        }
    }
    let Some((best, _)) = best else {
        return Err(refused.unwrap_or_else(|| Error::Usage("no repository was given".into())));
    };
    if let (Some(look), true) = (looks.get(best), sources.donors.is_empty() && looks.len() == 1) {
        strict(&look.inspection, options)?;
    }
    Ok((looks, best))
}

/// The copies side by side, the best first, with what only some of them have.
pub(super) fn candidates(looks: &[Look], sources: &Sources, report: &mut ReportBuilder) {
    if sources.rivals.len() < 2 {
        return;
    }
    let mut order: Vec<(&Look, Worth)> = looks.iter().map(|l| (l, worth(l))).collect();
    order.sort_by_key(|(l, w)| (Reverse(*w), l.inspection.number));
    let first = order.first().map(|(l, _)| *l);
    let mut rank = 0u32;
    for (look, worth) in &order {
        rank = rank.saturating_add(1);
        let mut reasons = vec![
            format!("{} of {} tables restorable as they lie", worth.restorable, worth.tables),
            format!("{} finished snapshots", worth.finished),
        ];
        if worth.damaged.0 > 0 {
            reasons.push(format!("{} damaged tablets, at most {} rows lost", worth.damaged.0, worth.lost_rows.0));
        }
        let against = first.filter(|f| f.inspection.number != look.inspection.number);
        let divergence = against.and_then(|best| diverges(&best.inspection, &look.inspection));
        reasons.extend(divergence.as_ref().map(|d| format!("parts from the best copy at {d}")));
        report.candidate(Candidate {
            source: look.inspection.number,
            name: look.inspection.loaded.repository.source.describe(),
            rank,
            reasons,
            facts: facts(&look.inspection, worth, divergence.as_deref()),
        });
    }
    for (number, source) in (0u16..).zip(&sources.rivals) {
        if !looks.iter().any(|l| l.inspection.number == number) {
            rank = rank.saturating_add(1);
            report.candidate(Candidate {
                source: number,
                name: source.describe(),
                rank,
                reasons: vec!["no repository here".to_owned()],
                facts: json!({"snapshots": [], "tables": 0, "restorable": 0}),
            });
        }
    }
}

fn facts(inspection: &Inspection, worth: &Worth, divergence: Option<&str>) -> Value {
    let snapshots: Vec<Value> = inspection
        .snapshots
        .iter()
        .map(|s| {
            let good = s.tables.iter().filter(|t| s.restorable(t)).count();
            json!({"label": s.label, "timestamp": s.timestamp, "finished": s.finished, "tables": s.tables.len(),
                "restorable": good})
        })
        .collect();
    json!({"snapshots": snapshots, "tables": worth.tables, "restorable": worth.restorable,
        "damaged_tablets": worth.damaged.0, "lost_rows_at_most": worth.lost_rows.0, "newest_ms": worth.newest,
        "divergence": divergence})
}

/// The first file, by name below the repository, that only one of two copies has or whose content is not the same.
fn diverges(a: &Inspection, b: &Inspection) -> Option<String> {
    let (a, b) = (contents(a), contents(b));
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    names.into_iter().find(|n| a.get(*n) != b.get(*n)).map(|name| match (a.get(name), b.get(name)) {
        (Some(_), None) => format!("{name}: only the best copy has it"),
        (None, Some(_)) => format!("{name}: the best copy does not have it"),
        _ => format!("{name}: the contents differ"),
    })
}

/// Length and MD5 of every file of the snapshots, by the name below the repository.
fn contents(inspection: &Inspection) -> BTreeMap<String, (u64, Option<String>)> {
    let listing = &inspection.loaded.repository.listing;
    let skip = if listing.base.is_empty() { 0 } else { listing.base.len().saturating_add(1) };
    let mut out = BTreeMap::new();
    for dir in listing.snapshots.values() {
        let snapshot = inspection.loaded.snapshots.iter().find(|s| s.label == dir.label);
        let small = |name: &str| {
            let snapshot = snapshot?;
            let tablets = snapshot.tablets.values().flat_map(|t| &t.checked);
            let of = snapshot.checked.iter().chain(tablets).find(|c| c.name == name)?;
            of.md5.map(|m| recovery_core::hex(&m))
        };
        for file in dir.infos.iter().chain(&dir.metas) {
            let name = &file.entry.name;
            out.insert(name.get(skip..).unwrap_or(name).to_owned(), (file.entry.size, small(name)));
        }
        for file in dir.tablets.values().flat_map(|t| &t.files) {
            let name = &file.file.entry.name;
            let sum = inspection.files.get(name).and_then(|s| s.md5.clone());
            out.insert(name.get(skip..).unwrap_or(name).to_owned(), (file.file.entry.size, sum));
        }
    }
    out
}

/// What may heal the chosen copy: the other rivals, then the donors.
pub(super) fn donors(
    others: Vec<Look>,
    sources: &Sources,
    own: &Inspection,
    options: &Options,
    cx: &Context,
) -> Result<Vec<Donor>> {
    let mut out: Vec<Donor> = others
        .into_iter()
        .map(|l| Donor {
            number: l.inspection.number,
            source: Arc::clone(&l.inspection.loaded.repository.source),
            loaded: l.inspection.loaded,
        })
        .collect();
    out.sort_by_key(|d| d.number);
    for (number, source) in sources.all().skip(sources.rivals.len()) {
        let loaded = Arc::new(donor(source, own, options, cx)?);
        out.push(Donor { number, source: Arc::clone(source), loaded });
    }
    Ok(out)
}

/// Opens a donor: under the same repository name where it holds several, else whatever it is called.
fn donor(source: &Arc<dyn Source>, own: &Inspection, options: &Options, cx: &Context) -> Result<Loaded> {
    let own_name = own.loaded.repository.listing.directory_name.as_deref();
    let name = options.repository.as_deref().or(own_name);
    let mut repository = match Repository::open(Arc::clone(source), name) {
        Err(Error::Usage(_)) => Repository::open(Arc::clone(source), None)?,
        other => other?,
    };
    if !options.snapshots.is_empty() {
        repository.listing.snapshots.retain(|label, _| options.snapshots.contains(label));
    }
    load::load(repository, cx)
}
