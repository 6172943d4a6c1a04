//! Looking at one or several nodes.

pub mod checks;
pub mod node;
pub mod rank;
pub mod started;

use std::sync::Arc;

use recovery_core::{Context, Coverage, Finding, Report, ReportBuilder, Result, Severity, Sources, parallel};
use serde_json::json;

use crate::codes;
use crate::format::Lsn;
use crate::model::scavenge::donations;
use crate::reader::{LogScan, Tally};

pub use node::Node;
pub use rank::Ranking;

/// Name of the engine.
pub const ENGINE: &str = "bdbje";

/// Figures up to `end`, which must be where a file's valid entries end, or the end of a file.
#[must_use]
pub fn tally_to(scan: &LogScan, end: Lsn) -> Tally {
    let mut all = Tally::default();
    for f in scan.files.values().filter(|f| f.number <= end.file()) {
        all.append(&f.front);
        if f.number < end.file() || u64::from(end.offset()) >= f.len {
            all.append(&f.behind);
        }
    }
    all
}

/// What an inspection knows, for `plan`.
#[derive(Debug)]
pub struct Inspected {
    /// Rivals, then donors that could be read.
    pub nodes: Vec<Node>,
    /// How many of them are rivals.
    pub rivals: usize,
    /// Order of the rivals.
    pub ranking: Ranking,
}

/// Reads all nodes, heals their gaps from one another, checks and ranks them.
///
/// # Errors
///
/// When no source holds a log, or the caller asked to stop.
pub fn inspect(sources: &Sources, cx: &Context) -> Result<(Inspected, Vec<Finding>)> {
    let several = sources.all().count() > 1;
    let mut nodes = Vec::new();
    let mut failed = Vec::new();
    let all: Vec<_> = sources.all().collect();
    let read = |_, (number, source): &(u16, &Arc<dyn recovery_core::Source>)| node::read(source, *number, several, cx);
    for ((number, _), read) in all.iter().zip(parallel::map(cx, &all, read)?) {
        match read {
            Ok(n) => nodes.push(n),
            Err(recovery_core::Error::Unusable(why)) if several => {
                failed.push(Finding::new(&codes::MISSING_FILE, Severity::Note, "").source(*number).summary(why));
            }
            Err(e) => return Err(e),
        }
    }
    let rivals = nodes.iter().filter(|n| usize::from(n.source) < sources.rivals.len()).count();
    if rivals == 0 {
        return Err(recovery_core::Error::Unusable("no JE log in any of the paths".to_owned()));
    }
    // Donors part from rivals as well: what they hold then must not heal anything.
    let diverged = rank::divergences(&nodes);
    heal(&mut nodes, &diverged, cx)?;
    let among = diverged.into_iter().filter(|d| d.a < rivals && d.b < rivals).collect();
    let ranking = rank::rank(nodes.get(..rivals).unwrap_or_default(), among);
    for n in &mut nodes {
        n.started = started::foresee(n);
        n.findings = checks::findings(n);
    }
    Ok((Inspected { nodes, rivals, ranking }, failed))
}

/// Holes of one node filled from the others, where these have not parted from it.
fn heal(nodes: &mut [Node], diverged: &[rank::Divergence], cx: &Context) -> Result<()> {
    for i in 0..nodes.len() {
        let (holes, uuid) = match nodes.get(i) {
            Some(n) if n.scavenged.is_some() => (with_tail(n), n.group.group.as_ref().map(|g| g.uuid)),
            _ => continue,
        };
        let mut given = Vec::new();
        for (j, donor) in nodes.iter().enumerate().filter(|(j, _)| *j != i) {
            let parted = diverged.iter().any(|d| (d.a, d.b) == (i, j) || (d.a, d.b) == (j, i));
            let other = donor.group.group.as_ref().map(|g| g.uuid);
            if parted || uuid.is_some() && other.is_some() && uuid != other {
                continue;
            }
            let more = donations(donor.true_log(), &donor.scan, &holes, cx)?;
            let have: std::collections::HashSet<i64> =
                given.iter().map(|d: &crate::model::scavenge::Donation| d.vlsn).collect();
            given.extend(more.into_iter().filter(|d| !have.contains(&d.vlsn)));
        }
        if given.is_empty() {
            continue;
        }
        given.sort_by_key(|d| d.vlsn);
        if let Some(n) = nodes.get_mut(i) {
            n.scavenge_with(&given, cx)?;
            n.contiguous_commit = match n.unaccounted {
                0 => n.all.last_commit.map(|(v, _)| v),
                _ => n.contiguous_commit,
            };
        }
    }
    Ok(())
}

/// The holes of a node; what its damaged tail may have held is one as well.
fn with_tail(n: &Node) -> Vec<crate::model::scavenge::Hole> {
    let mut holes = n.holes.clone();
    if n.scan.last_file().is_some_and(|f| f.bad.last().is_some_and(|b| !b.resynced))
        && let (Some(last), Some(file)) = (n.all.last_visible, n.scan.last_file())
    {
        let end = u32::try_from(file.len).unwrap_or(u32::MAX);
        holes.push((last.saturating_add(1), i64::MAX, Lsn::new(file.number, end)));
    }
    holes
}

/// The report of an inspection.
///
/// # Errors
///
/// As [`inspect`].
pub fn report(sources: &Sources, cx: &Context) -> Result<Report> {
    let (inspected, failed) = inspect(sources, cx)?;
    let mut b = ReportBuilder::new(ENGINE, sources, cx.limits.findings);
    b.findings(failed);
    let nodes = inspected.nodes.get(..inspected.rivals).unwrap_or_default();
    for n in &inspected.nodes {
        let image_elsewhere = inspected.nodes.iter().any(|o| o.source != n.source && joins(o, n));
        let healthy_elsewhere = best_has_all(n, nodes, &inspected.ranking);
        for f in &n.findings {
            let mut f = f.clone();
            let image = f.code == codes::IMAGE_BAD.code || f.code == codes::JOIN.code;
            if f.severity == Severity::Lost && (healthy_elsewhere && !image || image_elsewhere && image) {
                // Another node given here holds it.
                f.severity = Severity::Damaged;
            }
            b.finding(f);
        }
        for file in n.scan.files.values() {
            let class = if n.scan.last_file().is_some_and(|l| file.number > l.number) { "empty" } else { "live" };
            b.object(n.source, file.name.clone(), class, tail_coverage(file));
        }
        for o in &n.log.others {
            b.foreign(n.source, o.name.clone(), o.class, o.size);
        }
        for i in n.meta.images.iter().chain(&n.meta.starmgr) {
            let class = match i.state {
                crate::meta::ImageState::Valid => recovery_core::Class::Verified,
                crate::meta::ImageState::Unverified { .. } => recovery_core::Class::Parsed,
                crate::meta::ImageState::Bad { .. } => recovery_core::Class::Damaged,
            };
            let mut c = Coverage::new(i.size);
            c.mark(0..i.size, class);
            b.object(n.source, i.name.clone(), "image", c);
        }
        for a in &n.started.actions {
            let mut a = a.clone();
            if inspected.nodes.len() > 1 {
                a.object = format!("{}: {}", n.path, a.object);
            }
            b.if_started(a);
        }
    }
    for d in &inspected.ranking.diverged {
        let name = |i: usize| nodes.get(i).map_or("", |n| n.path.as_str());
        let text = format!("{} and {} hold different content from VLSN {} on", name(d.a), name(d.b), d.vlsn);
        let source = nodes.get(d.b).map_or(0, |n| n.source);
        b.finding(Finding::new(&codes::DIVERGED, Severity::Suspect, "").source(source).summary(text));
    }
    facts(&mut b, &inspected, nodes);
    for c in rank::candidates(nodes, &inspected.ranking) {
        b.candidate(c);
    }
    if nodes.iter().all(|n| n.all.entries == 0) {
        b.unusable();
    }
    for line in next(sources, &inspected) {
        b.next(line);
    }
    b.state(Arc::new(inspected));
    Ok(b.finish())
}

/// Whether a whole image of `donor` reaches the journal of `node`, without going beyond it.
#[must_use]
pub fn joins(donor: &Node, node: &Node) -> bool {
    let journal = node.journal();
    donor.meta.images.iter().filter(|i| !matches!(i.state, crate::meta::ImageState::Bad { .. })).any(|i| {
        journal.first.is_none_or(|f| f <= i.journal_id.saturating_add(1))
            && journal.max.is_none_or(|m| i.journal_id <= m)
    })
}

/// Whether the best node is whole and holds what this one held.
fn best_has_all(of: &Node, nodes: &[Node], ranking: &Ranking) -> bool {
    let last = |n: &Node| n.all.last_commit.map(|(v, _)| v);
    let best = ranking.order.first().and_then(|i| nodes.get(*i));
    best.is_some_and(|b| b.source != of.source && !b.damaged() && last(b) >= last(of))
}

/// A torn tail that JE itself forgives is free space, not damage.
fn tail_coverage(file: &crate::reader::FileScan) -> Coverage {
    let torn = file.bad.last().filter(|b| {
        !b.resynced
            && !b.flipped
            && matches!(b.error, crate::format::FormatError::Short(_) | crate::format::FormatError::PastEnd { .. })
    });
    let Some(b) = torn.filter(|_| file.front.entries > 0 || file.len <= 38) else { return file.coverage.clone() };
    let mut c = Coverage::new(file.len);
    for (range, class) in file.coverage.ranges() {
        let class = if range.start >= b.offset && class == recovery_core::Class::Damaged {
            recovery_core::Class::Free
        } else {
            class
        };
        c.mark(range, class);
    }
    c
}

fn facts(b: &mut ReportBuilder, inspected: &Inspected, nodes: &[Node]) {
    let path = |i: Option<&usize>| i.and_then(|i| nodes.get(*i)).map(|n| n.path.clone());
    let r = &inspected.ranking;
    let diverged: Vec<_> = r
        .diverged
        .iter()
        .map(|d| json!({"a": path(Some(&d.a)), "b": path(Some(&d.b)), "vlsn": d.vlsn, "common": d.common}))
        .collect();
    b.facts(json!({
        "nodes": nodes.iter().map(rank::facts).collect::<Vec<_>>(),
        "newest": path(r.newest.as_ref()),
        "best": path(r.order.first()),
        "diverged": diverged,
    }));
}

fn next(sources: &Sources, inspected: &Inspected) -> Vec<String> {
    let paths: Vec<String> =
        sources.rivals.iter().map(|s| recovery_core::names::shell(&s.describe()).into_owned()).collect();
    let mut out = vec!["do not start any of these nodes, and copy every meta directory first".to_owned()];
    if let Some(best) = inspected.ranking.order.first().and_then(|i| inspected.nodes.get(*i))
        && inspected.rivals > 1
    {
        out.push(format!("the best base is {}", best.path));
    }
    out.push(format!("recover rescue {} --into NEWDIR", paths.join(" ")));
    out
}
