//! What the original program would do to the directory.

use recovery_core::IfStarted;

use super::Case;
use crate::dialect::Dialect;
use crate::model::load::IssueKind;
use crate::run::{Stop, Why};
use crate::survey::{Base, CrcState, LogFile};

/// The actions, in the order in which they would happen.
pub(super) fn if_started(case: &Case, dialect: Option<Dialect>) -> Vec<IfStarted> {
    let mut out = Vec::new();
    let old = dialect == Some(Dialect::V16);
    let directory = case.survey.bases.first().map_or("the data directory", |b| b.entry.name.as_str());
    let total = case.survey.logs.iter().map(|l| l.scan.lines).sum::<u64>();
    let base = if old { old_base(case) } else { new_base(case) };
    let base = match base {
        Ok(b) => b,
        Err(why) => {
            out.push(IfStarted::new("refuses", directory, why).loses(total, 0));
            return out;
        }
    };
    let name = base.entry.name.clone();
    let version = base.version().unwrap_or(0);
    if let Some(action) = load(case, base, dialect) {
        let stops = action.action == "refuses";
        out.push(action);
        if stops {
            return out;
        }
    }
    if base.crc == CrcState::Bad {
        let why = "does not compare them and takes the changed section without a word";
        out.push(IfStarted::new("skips", "metadata.crc", why).loses(1, 0));
    }
    if old && case.survey.logs.is_empty() {
        out.push(IfStarted::new("refuses", name, "changelog files not found"));
        return out;
    }
    let mut next = None;
    for l in &case.survey.logs {
        if l.source != base.source {
            continue;
        }
        if skipped(l, version, old) {
            // a last id that was read and lies before the base is a good reason to pass a file
            let blind = l.scan.upstream_last == 0 || l.scan.upstream_first == 0 || l.scan.upstream_last >= version;
            let needed = lines_from(l, version);
            if needed > 0 && blind {
                let why = match (l.scan.upstream_first, l.scan.upstream_last) {
                    (_, 0) => "cannot read its last id, ignores the whole file and exits with 0",
                    (0, _) => "takes its first id 0 for none, ignores the whole file and exits with 0",
                    _ => "ignores the whole file and exits with 0",
                };
                out.push(IfStarted::new("skips", l.entry.name.clone(), why).loses(needed, l.scan.size));
            }
            continue;
        }
        next = Some(next.map_or(l.scan.upstream_first, |n: u64| n.min(l.scan.upstream_first)));
        if let Some(g) = l.scan.garbage.first() {
            let lost = l.scan.size.saturating_sub(g.at);
            out.push(
                IfStarted::new("truncates", l.entry.name.clone(), "drops the rest of the file and exits with 0")
                    .loses(1, lost),
            );
        }
        if l.scan.unordered > 0 {
            out.push(IfStarted::new(
                "refuses",
                l.entry.name.clone(),
                "stops with a hole where two lines are exchanged",
            ));
        }
    }
    stops(case, dialect, &mut out);
    out
}

fn stops(case: &Case, dialect: Option<Dialect>, out: &mut Vec<IfStarted>) {
    let Some(b) = &case.built else { return };
    let mut refuse = |object: String, why: String| out.push(IfStarted::new("refuses", object, why));
    match &b.stop {
        Some(Stop::Gap(a, z)) => refuse(format!("change {a}"), format!("hole in change files ({a} to {z})")),
        Some(Stop::Branch(id)) => {
            refuse(format!("change {id}"), "follows one of the two histories without a word".into());
        }
        Some(Stop::Line { id, why, .. }) => {
            let why = match why {
                Why::Parse(_) => "ignores the line and stops with a hole at the next one".to_owned(),
                other => other.to_string(),
            };
            refuse(format!("change {id}"), why);
        }
        None => {}
    }
    if let Some(id) = b.first_repair.filter(|_| dialect == Some(Dialect::V3)) {
        refuse(format!("change {id}"), "counts a chunk repair twice: version mismatch".to_owned());
    }
    if let Some(c) = b.conflicts.first() {
        refuse(
            format!("change {}", c.change),
            "error: 32 (Data mismatch) at a lock granted by the master itself".to_owned(),
        );
    }
}

fn old_base(case: &Case) -> Result<&Base, String> {
    let find = |name: &str| case.survey.bases.iter().find(|b| b.entry.name == name);
    let b = find("metadata.mfs.back")
        .or_else(|| find("metadata_ml.mfs.back"))
        .ok_or("can't find backed up metadata file; no other candidate is looked at")?;
    match &b.outline {
        Ok(o) if o.signature.is_flat() => Ok(b),
        Ok(_) => Err(format!("{}: wrong metadata header", b.entry.name)),
        Err(e) => Err(format!("{}: can't read metadata: {e}", b.entry.name)),
    }
}

fn new_base(case: &Case) -> Result<&Base, String> {
    if case.survey.metaids().len() > 1 {
        return Err("finds metadata files with different ids".to_owned());
    }
    case.survey
        .bases
        .iter()
        .filter(|b| b.upstream)
        .max_by_key(|b| (b.version(), !b.is_new()))
        .ok_or_else(|| "can't find valid metadata file".to_owned())
}

fn load(case: &Case, base: &Base, dialect: Option<Dialect>) -> Option<IfStarted> {
    let name = base.entry.name.clone();
    let o = match &base.outline {
        Ok(o) => o,
        Err(why) => return Some(IfStarted::new("refuses", name, format!("{why}; older files are not tried"))),
    };
    let chosen = case.base().is_some_and(|b| (b.source, &b.entry.name) == (base.source, &base.entry.name));
    let loaded = case.built.as_ref().filter(|_| chosen).map(|b| b.issues.as_slice());
    let all = loaded.unwrap_or(&o.issues);
    let bad = all.iter().find(|i| !matches!(i.kind, IssueKind::Signature | IssueKind::NotProven))?;
    if bad.kind == IssueKind::MissingSection && dialect == Some(Dialect::V4) {
        return Some(
            IfStarted::new("rolls-back", name, "starts without a word although all names are gone").loses(1, 0),
        );
    }
    if bad.kind == IssueKind::Garbage && o.signature.is_flat() {
        return None;
    }
    Some(IfStarted::new("refuses", name, format!("{}; older files are not tried", bad.text)))
}

/// Lines of a log from a version on.
fn lines_from(l: &LogFile, version: u64) -> u64 {
    match (l.scan.first, l.scan.last) {
        (Some(a), Some(z)) => z.saturating_add(1).saturating_sub(a.max(version)),
        _ => 0,
    }
}

fn skipped(l: &LogFile, version: u64, old: bool) -> bool {
    let one_line = old && l.scan.lines == 1 && l.scan.tail == crate::changelog::file::Tail::Clean;
    l.scan.upstream_first == 0 || l.scan.upstream_last < version || l.scan.upstream_last == 0 || one_line
}
