//! Which databases there are, and what they are called.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Facts, Fate, Found, Keys};
use crate::format::Lsn;
use crate::format::database::{DB_REPLICATED, DatabaseImpl};
use crate::format::ln::NameOp;
use crate::format::packed;

/// One change of a name.
#[derive(Clone, Debug)]
pub(crate) struct NameEvent {
    pub(crate) lsn: Lsn,
    pub(crate) txn: Option<i64>,
    pub(crate) name: Box<[u8]>,
    pub(crate) id: i64,
    pub(crate) deleted: bool,
    pub(crate) op: NameOp,
}

/// Names as the log leaves them.
#[derive(Default)]
struct Names {
    live: BTreeMap<String, i64>,
    removed: BTreeSet<String>,
    dead_ids: BTreeSet<i64>,
    flags: HashMap<i64, u8>,
}

fn replay_names(facts: &Facts, damage: &[Lsn]) -> Names {
    let mut out = Names::default();
    let mut events: Vec<&NameEvent> = facts.names.iter().collect();
    events.sort_by_key(|e| e.lsn);
    for e in events {
        if facts.fate(e.txn, e.lsn, damage) != Fate::Counts {
            continue;
        }
        let name = String::from_utf8_lossy(&e.name).into_owned();
        if let NameOp::Config { flags, .. } = e.op {
            out.flags.insert(e.id, flags);
        }
        if let NameOp::Truncate(old) = e.op {
            out.dead_ids.insert(old);
        }
        if e.deleted {
            if let Some(id) = out.live.remove(&name)
                && !matches!(e.op, NameOp::Other(4))
            {
                out.dead_ids.insert(id);
            }
            out.removed.insert(name);
        } else {
            out.removed.remove(&name);
            out.dead_ids.remove(&e.id);
            // A rename leads two names to one database until the old one is gone.
            out.live.retain(|n, id| *id != e.id || *n == name);
            out.live.insert(name, e.id);
        }
    }
    out
}

/// Names databases, and drops those that were removed.
pub(super) fn resolve(
    facts: &Facts,
    mut all: HashMap<i64, Keys>,
    damage: &[Lsn],
) -> (BTreeMap<String, Found>, Vec<String>) {
    let name_keys = all.remove(&1).unwrap_or_default();
    all.remove(&0);
    let mut names = replay_names(facts, damage);
    let mut maps: HashMap<i64, (&DatabaseImpl, bool)> = HashMap::new();
    let mut sorted: Vec<_> = facts.maps.iter().collect();
    sorted.sort_by_key(|(at, _, _)| *at);
    for (_, db, deleted) in sorted {
        maps.insert(db.id, (db, *deleted));
    }
    // Bottom nodes of the name database that say a name is gone, or is there although its entry is not.
    let mut free: BTreeSet<String> = BTreeSet::new();
    for (key, known) in &name_keys {
        let name = String::from_utf8_lossy(key).into_owned();
        let last_event = facts.names.iter().filter(|e| e.name == *key).map(|e| e.lsn).max();
        if known.sure.as_ref().is_some_and(|v| v.dead && last_event.is_none_or(|l| l < v.lsn)) {
            if let Some(id) = names.live.remove(&name) {
                names.dead_ids.insert(id);
            }
            names.removed.insert(name);
        } else if known.lost.is_some_and(|l| last_event.is_none_or(|e| e < l)) && !names.live.contains_key(&name) {
            free.insert(name);
        }
    }
    let mut out = BTreeMap::new();
    let live: Vec<(String, i64)> = names.live.iter().map(|(n, i)| (n.clone(), *i)).collect();
    for (name, id) in live {
        if maps.get(&id).is_some_and(|(_, deleted)| *deleted) {
            names.removed.insert(name);
            names.dead_ids.insert(id);
            continue;
        }
        let keys = all.remove(&id).unwrap_or_default();
        out.insert(name.clone(), found(id, name, false, &maps, &names, keys));
    }
    nameless(&mut out, all, &maps, &names, free);
    (out, names.removed.into_iter().collect())
}

fn found(
    id: i64,
    name: String,
    guessed: bool,
    maps: &HashMap<i64, (&DatabaseImpl, bool)>,
    names: &Names,
    keys: Keys,
) -> Found {
    let config = match maps.get(&id) {
        Some((db, _)) => (*db).clone(),
        None => {
            let flags = names.flags.get(&id).copied().unwrap_or(if id < 0 { DB_REPLICATED } else { 8 });
            DatabaseImpl::new(id, Some(name.as_bytes()), flags, 0)
        }
    };
    Found { id, name, guessed, config, keys }
}

/// Databases that hold records and lost their name.
fn nameless(
    out: &mut BTreeMap<String, Found>,
    all: HashMap<i64, Keys>,
    maps: &HashMap<i64, (&DatabaseImpl, bool)>,
    names: &Names,
    mut free: BTreeSet<String>,
) {
    let gone = |id: &i64| names.dead_ids.contains(id) || maps.get(id).is_some_and(|(_, deleted)| *deleted);
    let mut rest: Vec<(i64, Keys)> = all.into_iter().filter(|(id, _)| !gone(id) && *id != 0 && *id != 1).collect();
    rest.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
    for (id, keys) in rest {
        let any = keys.values().any(|k| k.live().is_some() || k.in_doubt().is_some() || k.is_lost());
        let known = maps.get(&id).and_then(|(db, _)| db.name.as_deref()).map(String::from_utf8_lossy);
        if let Some(name) = known.filter(|n| !names.removed.contains(n.as_ref()) && !out.contains_key(n.as_ref())) {
            let name = name.into_owned();
            free.remove(&name);
            out.insert(name.clone(), found(id, name, false, maps, names, keys));
        } else if any {
            let name = guess(id, &keys, &mut free, out);
            out.insert(name.clone(), found(id, name, true, maps, names, keys));
        }
    }
}

/// A journal database is named by its first journal id, in decimal.
fn guess(id: i64, keys: &Keys, free: &mut BTreeSet<String>, taken: &BTreeMap<String, Found>) -> String {
    let smallest = keys.keys().next().and_then(|k| packed::long_key(k));
    let all_ids = keys.keys().all(|k| packed::long_key(k).is_some());
    if let Some(first) = smallest.filter(|_| all_ids) {
        let fits = |n: &&String| n.parse::<i64>().is_ok_and(|v| v <= first);
        let best = free.iter().filter(fits).max_by_key(|n| n.parse::<i64>().unwrap_or(i64::MIN)).cloned();
        if let Some(name) = best {
            free.remove(&name);
            return name;
        }
        let name = first.to_string();
        if first > 0 && id < 0 && !taken.contains_key(&name) {
            return name;
        }
    }
    format!("recovered_{id}")
}
