//! The frontend's journal: databases named by their first journal id, records keyed by journal id.
//!
//! Ids within a database are dense. The storage manager's journal lies in databases with a prefix. `epochDB` counts the
//! leaders. Upstream: `journal/bdbje/BDBJEJournal`, `BDBEnvironment`, `ha/BDBHA`.
//!
//! The last ids of a node, and what they did:
//!
//! ```no_run
//! use recovery_bdbje::journal::{self, opcodes};
//! use recovery_bdbje::model::{Environment, Role, env::last_checkpoint};
//! use recovery_bdbje::reader::Log;
//! use recovery_core::{Context, DirSource};
//!
//! let (source, cx) = (DirSource::open("meta/bdb")?, Context::default());
//! let log = Log::open(&source, "");
//! let (checkpoint, tree) = last_checkpoint(&log);
//! let env = Environment::open(log, checkpoint, tree, Role::Standalone, &cx)?;
//! journal::stream(&env, 1000..=i64::MAX, &cx, &mut |db, entry| {
//!     let name = entry.operation.code.and_then(|c| opcodes::name(c, opcodes::Product::StarRocks));
//!     println!("{db} {:?} {name:?} {:?}", entry.id, entry.operation.decode());
//!     Ok(())
//! })?;
//! # Ok::<(), recovery_core::Error>(())
//! ```

pub mod opcodes;
pub mod payload;

use std::ops::RangeInclusive;

use recovery_core::{Context, Error, Result};

use crate::format::packed;
use crate::model::{Batch, Environment};
pub use payload::{Operation, Payload};

/// Database of the leaders' epochs.
pub const EPOCH_DB: &str = "epochDB";

/// Name of a journal database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// What stands before the number: "" in the frontend's own journal, `starmgr_` in the storage manager's.
    pub prefix: String,
    /// First journal id.
    pub first: i64,
    /// The whole name.
    pub name: String,
}

impl Name {
    /// Takes a name apart; `None` when it is not a journal's.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let (prefix, digits) = name.rfind('_').map_or(("", name), |i| name.split_at(i.saturating_add(1)));
        let first = digits.parse::<i64>().ok().filter(|n| *n >= 0 && n.to_string() == digits)?;
        Some(Self { prefix: prefix.to_owned(), first, name: name.to_owned() })
    }
}

/// Journal databases among names, in the order of their ids, the frontend's own first.
pub fn databases<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Name> {
    let mut all: Vec<Name> = names.filter_map(Name::of).collect();
    all.sort();
    all
}

/// Those of them that can hold ids of a range: a database ends where the next one begins.
pub fn within(all: Vec<Name>, ids: &RangeInclusive<i64>) -> Vec<Name> {
    let next: Vec<Option<i64>> = (1..=all.len())
        .map(|i| {
            let own = all.get(i.saturating_sub(1))?;
            all.get(i).filter(|n| n.prefix == own.prefix).map(|n| n.first)
        })
        .collect();
    let holds = |(n, next): &(Name, Option<i64>)| n.first <= *ids.end() && next.is_none_or(|x| x > *ids.start());
    all.into_iter().zip(next).filter(holds).map(|(n, _)| n).collect()
}

/// A journal record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Journal id; `None` when the key is no id.
    pub id: Option<i64>,
    /// Key.
    pub key: &'a [u8],
    /// Operation and payload.
    pub operation: Operation<'a>,
}

impl<'a> Entry<'a> {
    /// Takes a record apart.
    #[must_use]
    pub fn of(key: &'a [u8], value: &'a [u8]) -> Self {
        Self { id: packed::long_key(key), key, operation: Operation::of(value) }
    }
}

/// Calls `sink` with every journal record of a range of ids, in the order of the ids, and with the name of its database.
///
/// # Errors
///
/// The first error of `sink`, a record that cannot be read, or that the caller asked to stop.
pub fn stream(
    env: &Environment,
    ids: RangeInclusive<i64>,
    cx: &Context,
    sink: &mut dyn FnMut(&str, Entry<'_>) -> Result<()>,
) -> Result<()> {
    for db in within(databases(env.names.keys().map(String::as_str)), &ids) {
        let Some(found) = env.database(&db.name) else { continue };
        let mut problems = Vec::new();
        let damaged = |p: &crate::model::Problem| Error::Damaged(format!("{}: {p}", db.name));
        let mut batch = |b: Batch| {
            if let Some(p) = b.problems.first() {
                return Err(damaged(p));
            }
            for r in &b.records {
                let entry = Entry::of(&r.key, &r.data);
                if entry.id.is_none_or(|id| ids.contains(&id)) {
                    sink(&db.name, entry)?;
                }
            }
            Ok(())
        };
        env.records(found, cx, &mut batch, &mut problems)?;
        if let Some(p) = problems.first() {
            return Err(damaged(p));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_found_by_their_names() {
        let names = ["100", "21", "epochDB", "_jeVlsnMapDb", "starmgr_7", "007", "-3", "36", "neu"];
        let all = databases(names.into_iter());
        let shown = |v: &[Name]| v.iter().map(|n| n.name.clone()).collect::<Vec<_>>();
        assert_eq!(shown(&all), ["21", "36", "100", "starmgr_7"]);
        assert_eq!(shown(&within(all.clone(), &(36..=40))), ["36", "starmgr_7"]);
        assert_eq!(shown(&within(all.clone(), &(35..=35))), ["21", "starmgr_7"]);
        assert_eq!(shown(&within(all.clone(), &(5..=6))), Vec::<String>::new());
        assert_eq!(shown(&within(all, &(500..=i64::MAX))), ["100", "starmgr_7"]);
    }
}
