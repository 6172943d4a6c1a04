//! Which node holds the most of what was agreed on, and where nodes part.

use std::collections::BTreeMap;

use recovery_core::Candidate;
use serde_json::{Value, json};

use super::node::Node;
use crate::meta::FeRole;

/// Two nodes with different content under one VLSN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// First node.
    pub a: usize,
    /// Second node.
    pub b: usize,
    /// First VLSN that differs.
    pub vlsn: i64,
    /// How many VLSNs both have.
    pub common: u64,
}

/// The nodes in order, with reasons.
#[derive(Clone, Debug, Default)]
pub struct Ranking {
    /// Indexes of nodes, the best first.
    pub order: Vec<usize>,
    /// Reasons, by node.
    pub reasons: Vec<Vec<String>>,
    /// Where nodes part.
    pub diverged: Vec<Divergence>,
    /// Node with the highest raw last VLSN, as the manual compares.
    pub newest: Option<usize>,
}

/// Hashes of a node by VLSN, ascending; of a VLSN that was given twice the last one.
fn hashes(n: &Node) -> Box<dyn Iterator<Item = (i64, u64)> + '_> {
    let all = || n.scan.files.values().flat_map(|f| f.digests.iter());
    if all().is_sorted_by(|a, b| a.0 < b.0) {
        return Box::new(all());
    }
    Box::new(all().collect::<BTreeMap<_, _>>().into_iter())
}

/// Compares the content of two nodes VLSN by VLSN.
fn diverge(a: &Node, b: &Node) -> (Option<i64>, u64) {
    let (mut mine, mut theirs) = (hashes(a).peekable(), hashes(b).peekable());
    let mut first: Option<i64> = None;
    let mut common = 0u64;
    while let (Some((v, d)), Some((w, e))) = (mine.peek().copied(), theirs.peek().copied()) {
        if v == w {
            common = common.saturating_add(1);
            first = first.or((d != e).then_some(v));
        }
        if v <= w {
            mine.next();
        }
        if w <= v {
            theirs.next();
        }
    }
    (first, common)
}

fn durable(n: &Node) -> i64 {
    n.all.dtvlsn.unwrap_or(-1)
}

/// Last commit that can be read, less the entries of the stream before it that are destroyed and that no other node
/// gave: how much of the stream would be kept.
fn kept(n: &Node) -> i64 {
    let last = n.all.last_commit.map_or(-1, |(v, _)| v);
    last.saturating_sub(i64::try_from(n.unaccounted).unwrap_or(i64::MAX)).max(n.contiguous_commit.unwrap_or(-1))
}

/// Positive when `a` is better than `b`; with the reason.
fn compare(a: &Node, b: &Node, parted: Option<i64>) -> (i32, String) {
    let order = |x: i64, y: i64| {
        if x > y {
            1
        } else if x < y {
            -1
        } else {
            0
        }
    };
    if let Some(v) = parted {
        let by = order(durable(a), durable(b));
        if by != 0 {
            return (by, format!("logs part at VLSN {v}: the branch with the higher dtvlsn is the one a majority has"));
        }
        let time = |n: &Node| n.all.last_commit_end.map_or(0, |c| c.time);
        let by = order(time(a), time(b));
        if by != 0 {
            return (by, format!("logs part at VLSN {v}: the branch with the later commit"));
        }
    }
    let kept = |n: &Node| kept(n);
    let steps: [(i64, i64, &str); 5] = [
        (kept(a), kept(b), "last commit, less what is destroyed before it"),
        (durable(a), durable(b), "dtvlsn"),
        (i64::from(!a.damaged()), i64::from(!b.damaged()), "whole"),
        (
            i64::from(a.meta.fe_role() != FeRole::Observer),
            i64::from(b.meta.fe_role() != FeRole::Observer),
            "FOLLOWER before OBSERVER",
        ),
        (a.all.last_visible.unwrap_or(-1), b.all.last_visible.unwrap_or(-1), "last VLSN"),
    ];
    for (x, y, why) in steps {
        if x != y {
            return (order(x, y), format!("{why}: {x} against {y}"));
        }
    }
    (0, String::new())
}

/// Where nodes part, each with each.
#[must_use]
pub fn divergences(nodes: &[Node]) -> Vec<Divergence> {
    let mut out = Vec::new();
    for (i, a) in nodes.iter().enumerate() {
        for (j, b) in nodes.iter().enumerate().skip(i.saturating_add(1)) {
            let (parted, common) = diverge(a, b);
            out.extend(parted.map(|vlsn| Divergence { a: i, b: j, vlsn, common }));
        }
    }
    out
}

/// Ranks the nodes, healed as far as they could be.
#[must_use]
pub fn rank(nodes: &[Node], diverged: Vec<Divergence>) -> Ranking {
    let mut out = Ranking { reasons: vec![Vec::new(); nodes.len()], diverged, ..Ranking::default() };
    let mut wins = vec![0i64; nodes.len()];
    for (i, a) in nodes.iter().enumerate() {
        for (j, b) in nodes.iter().enumerate().skip(i.saturating_add(1)) {
            let parted = out.diverged.iter().find(|d| (d.a, d.b) == (i, j)).map(|d| d.vlsn);
            let (by, why) = compare(a, b, parted);
            let (better, worse) = if by >= 0 { (i, j) } else { (j, i) };
            if by == 0 {
                continue;
            }
            if let Some(w) = wins.get_mut(better) {
                *w = w.saturating_add(1);
            }
            let name = |n: usize| nodes.get(n).map_or("", |n| n.path.as_str());
            let (to, from) = (format!("before {}: {why}", name(worse)), format!("behind {}: {why}", name(better)));
            if let Some(r) = out.reasons.get_mut(better) {
                r.push(to);
            }
            if let Some(r) = out.reasons.get_mut(worse) {
                r.push(from);
            }
        }
    }
    out.order = (0..nodes.len()).collect();
    out.order.sort_by_key(|i| std::cmp::Reverse(wins.get(*i).copied().unwrap_or(0)));
    out.newest = (0..nodes.len()).max_by_key(|i| (nodes.get(*i).and_then(|n| n.all.last_vlsn), std::cmp::Reverse(*i)));
    out
}

/// The figures of one node.
#[must_use]
pub fn facts(node: &Node) -> Value {
    let (front, all) = (&node.front, &node.all);
    let journal = node.journal();
    let meta = &node.meta;
    let role = match meta.fe_role() {
        FeRole::Unknown => Value::Null,
        r => json!(r),
    };
    let own = meta.node_name();
    let group = node.group.group.as_ref().map(|g| {
        json!({
            "name": g.name,
            "uuid": g.uuid_text(),
            "change_version": g.change,
            "node_id_sequence": g.sequence,
            "members": node.group.members().map(|m| json!({
                "name": m.name, "id": m.id, "type": m.kind, "host": m.host, "port": m.port,
                "quorum_ack": m.quorum_ack, "je_version": m.je_version,
            })).collect::<Vec<_>>(),
            "electable": node.group.electable().map(|m| m.name.as_str()).collect::<Vec<_>>(),
        })
    });
    let last_lsn =
        node.scan.files.values().rev().find_map(|f| f.front.last_entry.map(|o| crate::format::Lsn::new(f.number, o)));
    let image = meta.image();
    let damaged = node.scavenged.as_ref().map(|s| {
        let sum = |i: usize| {
            s.databases.values().filter(|d| !d.name.starts_with("_je")).fold(0u64, |n, d| {
                n.saturating_add(d.counts().get(i).copied().unwrap_or(0))
            })
        };
        json!({"records": sum(0), "in_doubt": sum(1), "stale": sum(2), "lost": sum(3),
            "unaccounted_vlsns": node.unaccounted, "in_doubt_transactions": s.doubts.len(),
            "databases": s.databases.values().filter(|d| !d.name.starts_with("_je")).map(|d| (d.name.clone(), json!(d.counts().first()))).collect::<serde_json::Map<_, _>>()})
    });
    json!({
        "path": node.path,
        "role": role,
        "node_name": own,
        "cluster_id": meta.version_value("clusterId").map(|v| v.parse::<i64>().map_or_else(|_| json!(v), |n| json!(n))),
        "run_mode": meta.version_value("runMode"),
        "je_log_version": node.log.version(),
        "first_vlsn": front.first_visible,
        "last_vlsn": front.last_visible,
        "last_vlsn_raw": front.last_vlsn,
        "last_vlsn_readable": all.last_visible,
        "last_commit_vlsn": front.last_commit.map(|(v, _)| v),
        "last_commit_lsn": front.last_commit.map(|(_, l)| l.to_string()),
        "last_commit_readable": all.last_commit.map(|(v, _)| v),
        "last_commit_time_ms": all.last_commit_end.map(|e| e.time),
        "term": all.last_commit_end.map(|e| e.master),
        "last_sync_vlsn": front.last_sync,
        "dtvlsn": all.dtvlsn,
        "last_lsn": last_lsn.map(|l| l.to_string()),
        "log_end": node.je_end.map(|l| l.to_string()),
        "files": node.log.files.len(),
        "bytes": node.log.bytes(),
        "image_journal_id": image.map(|i| i.journal_id),
        "image": image,
        "images": meta.images.len(),
        "first_journal_id": journal.first,
        "max_journal_id": journal.max,
        "max_journal_id_if_started": node.view.journal.max,
        "epoch": journal.epoch,
        "group": group,
        "databases": node.view.records,
        "salvage": damaged,
        "open_transactions": node.je.as_ref().map_or(0, |e| e.open.iter().filter(|t| t.id < 0).count()),
        "if_started": {"refuses": node.started.refuses, "commits_gone": node.started.commits,
            "journal_ids_gone": node.started.journal_ids, "databases_back": node.started.come_back},
    })
}

/// What a node is and holds, in a few words.
fn holds(node: &Node) -> String {
    let journal = node.journal();
    let number = |n: Option<i64>| n.map_or_else(|| "none".to_owned(), |n| n.to_string());
    let mut out = format!("journal ids {} to {}", number(journal.first), number(journal.max));
    if node.meta.image_dir.is_some() {
        let whole = |i: &&crate::meta::Image| !matches!(i.state, crate::meta::ImageState::Bad { .. });
        let image = node.meta.images.iter().find(whole).map(|i| i.journal_id);
        let role = match node.meta.fe_role() {
            FeRole::Follower => "FOLLOWER",
            FeRole::Observer => "OBSERVER",
            FeRole::Unknown => "of unknown role",
        };
        out = format!("{out}, whole image {}, {role}", number(image));
    }
    out
}

/// The candidates of a report.
#[must_use]
pub fn candidates(nodes: &[Node], ranking: &Ranking) -> Vec<Candidate> {
    (1u32..)
        .zip(&ranking.order)
        .filter_map(|(rank, i)| {
            let node = nodes.get(*i)?;
            let mut reasons = ranking.reasons.get(*i).cloned().unwrap_or_default();
            let commit = node.all.last_commit.map_or_else(|| "none".to_owned(), |(v, _)| v.to_string());
            if node.unaccounted > 0 {
                reasons.insert(0, format!("{} entries of its stream are destroyed", node.unaccounted));
            }
            reasons.insert(0, format!("last commit VLSN {commit}, dtvlsn {}, last VLSN {}", durable(node),
                node.all.last_visible.map_or_else(|| "none".to_owned(), |v| v.to_string())));
            reasons.insert(1, holds(node));
            let name = node.meta.node_name().unwrap_or(&node.path).to_owned();
            let facts = json!({"last_commit_vlsn": node.contiguous_commit, "dtvlsn": node.all.dtvlsn, "last_vlsn": node.all.last_visible,
                "role": node.meta.fe_role(), "damaged": node.damaged(), "max_journal_id": node.journal().max});
            Some(Candidate { source: node.source, name, rank, reasons, facts })
        })
        .collect()
}
