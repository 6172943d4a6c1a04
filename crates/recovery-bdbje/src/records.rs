//! Live records of a node for a new environment, from whichever view of its log holds them.

use std::collections::BTreeMap;

use recovery_core::{Context, Error, Result};

use crate::codes;
use crate::format::Lsn;
use crate::format::database::DatabaseImpl;
use crate::format::packed;
use crate::inspect::Node;
use crate::model::scavenge::{Scavenged, Version, scavenge};
use crate::model::{Batch, Environment};
use crate::reader::scan::ScanOptions;
use crate::reader::{Log, scan_log};

/// A database to be written.
#[derive(Clone, Debug)]
pub struct Database {
    /// Name.
    pub name: String,
    /// Description it is made like.
    pub config: DatabaseImpl,
}

/// Where records come from.
#[derive(Debug)]
pub enum Source<'a> {
    /// The environment as JE would see it: everything live can be read.
    Environment(&'a Environment),
    /// What was scavenged, and from which log.
    Scavenged(&'a Scavenged, &'a Log),
    /// What a scavenge of the log up to a point gives, with records of the whole log that are older than that point.
    Until(Box<Scavenged>, Log, &'a Node, Lsn),
}

impl<'a> Source<'a> {
    /// The view of a node that keeps most.
    ///
    /// # Errors
    ///
    /// When nothing can be read, or the caller asked to stop.
    pub fn choose(node: &'a Node, end: Option<Lsn>, cx: &Context) -> Result<Self> {
        if let Some(end) = end {
            let log = node.true_log().cut(end);
            let scan = scan_log(&log, ScanOptions::default(), cx)?;
            let s = scavenge(&log, &scan, &[], cx)?;
            return Ok(Self::Until(Box::new(s), log, node, end));
        }
        // The tree, where it is whole, is the better witness; behind damage in what recovery reads it does not know all.
        match (&node.je, &node.scavenged) {
            (Some(env), _) if node.tree_is_whole() => Ok(Self::Environment(env)),
            (_, Some(s)) => Ok(Self::Scavenged(s, node.true_log())),
            _ => Err(Error::Unusable(format!("{}: nothing can be read", node.path))),
        }
    }

    /// Databases in the order they were made.
    #[must_use]
    pub fn databases(&self) -> Vec<Database> {
        let mut all: Vec<(i64, Database)> = match self {
            Self::Environment(env) => env
                .names
                .iter()
                .filter_map(|(n, id)| {
                    Some((*id, Database { name: n.clone(), config: env.databases.get(id)?.config.clone() }))
                })
                .collect(),
            Self::Scavenged(s, _) => of_scavenged(s),
            Self::Until(s, ..) => of_scavenged(s),
        };
        all.retain(|(_, d)| !d.name.starts_with("_je"));
        all.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        all.into_iter().map(|(_, d)| d).collect()
    }

    /// Every live record of a database, in key order. Records in doubt and stale ones are left out.
    ///
    /// # Errors
    ///
    /// The first error of `sink`, or a record that cannot be read.
    pub fn each(&self, db: &Database, cx: &Context, sink: &mut dyn FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        match self {
            Self::Environment(env) => {
                let Some(d) = env.database(&db.name) else { return Ok(()) };
                let mut problems = Vec::new();
                let mut batch = |b: Batch| {
                    if let Some(p) = b.problems.first() {
                        return Err(Error::Damaged(p.to_string()));
                    }
                    b.records.iter().try_for_each(|r| sink(&r.key, &r.data))
                };
                env.records(d, cx, &mut batch, &mut problems)
            }
            Self::Scavenged(s, log) => each_scavenged(s, log, db, sink),
            Self::Until(s, log, node, end) => until(s, log, node, *end, db, cx, sink),
        }
    }

    /// What is left out.
    pub fn losses(&self, node: &Node, losses: &mut Vec<(&'static str, String, u64)>) {
        let Self::Scavenged(s, _) = self else { return };
        let mut sum = [0u64; 4];
        for d in s.databases.values().filter(|d| !d.name.starts_with("_je")) {
            for (a, b) in sum.iter_mut().zip(d.counts()) {
                *a = a.saturating_add(b);
            }
        }
        let [_, doubt, stale, lost] = sum;
        if doubt > 0 {
            let text = "records of transactions whose commit is damaged".to_owned();
            losses.push((codes::LOSS_IN_DOUBT, text, doubt));
        }
        if stale > 0 {
            losses.push((codes::LOSS_STALE, "records of which only an older version can be read".to_owned(), stale));
        }
        if lost > 0 {
            losses.push((codes::LOSS_RECORDS, "live records that cannot be read anywhere".to_owned(), lost));
        }
        let unknown = node.unaccounted.saturating_sub(lost).saturating_sub(stale);
        if unknown > 0 {
            let text =
                format!("{unknown} entries of the replication stream are destroyed, and nothing tells what they held");
            losses.push((codes::LOSS_UNKNOWN, text, unknown));
        }
    }
}

fn of_scavenged(s: &Scavenged) -> Vec<(i64, Database)> {
    // A database that holds nothing and has a guessed name is none.
    let worth = |d: &&crate::model::scavenge::Found| !d.guessed || d.counts().first().is_some_and(|n| *n > 0);
    s.databases
        .values()
        .filter(worth)
        .map(|d| (d.id, Database { name: d.name.clone(), config: d.config.clone() }))
        .collect()
}

fn each_scavenged(
    s: &Scavenged,
    log: &Log,
    db: &Database,
    sink: &mut dyn FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let Some(found) = s.databases.get(&db.name) else { return Ok(()) };
    let mut done = Ok(());
    found.each(log, false, &mut |k, v, _, doubt| {
        if doubt || done.is_err() {
            return;
        }
        done = if db.config.duplicates() {
            match packed::split_two_part(k) {
                Ok((first, second)) => sink(first, second),
                Err(e) => Err(Error::Damaged(e.to_string())),
            }
        } else {
            sink(k, v)
        };
    });
    done
}

/// What a scavenge of the log up to a point gives, merged in the order of keys with records that are live now and were
/// written before the point: their own files may have been cleaned.
fn until(
    s: &Scavenged,
    log: &Log,
    node: &Node,
    end: Lsn,
    db: &Database,
    cx: &Context,
    sink: &mut dyn FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let found = s.databases.get(&db.name);
    let env = node.je.as_ref().filter(|_| node.by_header.is_none());
    let older = env.and_then(|env| Some((env, env.database(&db.name)?)));
    let older = older.filter(|(_, d)| found.is_none_or(|f| f.id == d.id));
    let Some((env, d)) = older else { return each_scavenged(s, log, db, sink) };
    let own_order = db.config.btree_comparator.as_ref().is_some_and(|c| !c.is_empty());
    if db.config.duplicates() || own_order {
        return until_unordered(s, log, env, d, end, db, cx, sink);
    }
    let mut known = found.into_iter().flat_map(|f| f.versions(false)).filter(|(_, _, doubt)| !doubt).peekable();
    let give = |key: &[u8], v: &Version, sink: &mut dyn FnMut(&[u8], &[u8]) -> Result<()>| {
        v.data_in(log, key).map_or(Ok(()), |d| sink(key, &d))
    };
    let mut batch = |b: Batch| {
        for r in b.records.iter().filter(|r| r.lsn < end) {
            while let Some((k, v, _)) = known.next_if(|(k, ..)| *k < &r.key[..]) {
                give(k, v, sink)?;
            }
            if known.peek().is_none_or(|(k, ..)| *k != &r.key[..]) {
                sink(&r.key, &r.data)?;
            }
        }
        Ok(())
    };
    env.records(d, cx, &mut batch, &mut Vec::new())?;
    known.try_for_each(|(k, v, _)| give(k, v, sink))
}

/// As [`until`], where the order of keys is not that of their bytes: in memory, within its limit.
fn until_unordered(
    s: &Scavenged,
    log: &Log,
    env: &Environment,
    d: &crate::model::Database,
    end: Lsn,
    db: &Database,
    cx: &Context,
    sink: &mut dyn FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let part = |v: &[u8]| if db.config.duplicates() { v.to_vec() } else { Vec::new() };
    let (mut all, mut held, limit) = (BTreeMap::new(), 0u64, cx.limits.memory / 2);
    let mut hold = |k: &[u8], v: &[u8], all: &mut BTreeMap<_, Vec<u8>>| {
        held = held.saturating_add(k.len() as u64).saturating_add(v.len() as u64).saturating_add(128);
        if held > limit {
            let what = format!("records of {} in the order of its own comparator", db.name);
            return Err(Error::Limit { what, needed: held, limit });
        }
        all.entry((k.to_vec(), part(v))).or_insert_with(|| v.to_vec());
        Ok(())
    };
    each_scavenged(s, log, db, &mut |k, v| hold(k, v, &mut all))?;
    let mut batch = |b: Batch| {
        let mut older = b.records.iter().filter(|r| r.lsn < end);
        older.try_for_each(|r| hold(&r.key, &r.data, &mut all))
    };
    env.records(d, cx, &mut batch, &mut Vec::new())?;
    all.iter().try_for_each(|((k, _), v)| sink(k, v))
}
