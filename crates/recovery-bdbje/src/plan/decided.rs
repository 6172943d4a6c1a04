//! What a plan of this engine holds: options, decisions, and what the result must contain.

use std::collections::BTreeMap;

use recovery_core::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{Batch, Environment};

/// Options of `plan` and `rescue`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Leave the group as it is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_group: bool,
    /// `NAME:PORT` that the node will announce.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Name of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// `VLSN` or `journal:ID` behind which nothing is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// How the result is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// The log as it is, cut at its end, and one more file that resets the group.
    Append,
    /// The log as it is, cut at its end.
    Copy,
    /// A new environment from the records.
    Scratch,
}

/// Values drawn once, and decisions, as they stand in the plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decided {
    /// How.
    pub recipe: Recipe,
    /// Number of the source it is made from.
    pub source: u16,
    /// Path of it.
    pub base: String,
    /// Where the log is cut, in the source's files.
    pub cut: Option<String>,
    /// Clock.
    pub now_ms: i64,
    /// The group's new identity.
    pub uuid: String,
    /// Node.
    pub node: Identity,
    /// Number of records and their hash, by database.
    pub records: BTreeMap<String, Summary>,
    /// Records a cut at the end JE sees would keep.
    pub kept_by_cut: u64,
    /// Records a scavenge keeps; 0 when none was needed.
    pub kept_by_salvage: u64,
    /// Highest VLSN of the result.
    pub last_vlsn: i64,
    /// Log version of the result.
    pub je_log_version: u8,
    /// Whether the group was left as it is.
    pub group_kept: bool,
    /// Why the group is left to the engine's own reset, where it could not be reset here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
}

/// Who the result will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Name.
    pub name: String,
    /// Host.
    pub host: String,
    /// Port.
    pub port: i32,
    /// Node id.
    pub id: i32,
    /// Where name and address come from.
    pub from: String,
}

/// Records of a database: how many, and the SHA-256 over length of key, length of value (big-endian), key and value of
/// each in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Records.
    pub records: u64,
    /// Hash.
    pub sha256: String,
}

/// Collects a [`Summary`].
#[derive(Debug, Default)]
pub struct Summing {
    n: u64,
    hash: Sha256,
}

impl Summing {
    /// Adds a record.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.n = self.n.saturating_add(1);
        let len = |b: &[u8]| u32::try_from(b.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.hash.update(len(key));
        self.hash.update(len(value));
        self.hash.update(key);
        self.hash.update(value);
    }

    /// The result.
    #[must_use]
    pub fn finish(self) -> Summary {
        Summary { records: self.n, sha256: recovery_core::hex(&self.hash.finalize()) }
    }
}

/// Summaries of every user database of an environment.
///
/// # Errors
///
/// When a record cannot be read, or the caller asked to stop.
pub fn summarise(env: &Environment, cx: &Context) -> Result<BTreeMap<String, Summary>> {
    let mut out = BTreeMap::new();
    for (name, id) in env.names.iter().filter(|(n, _)| !n.starts_with("_je")) {
        let Some(db) = env.databases.get(id) else { continue };
        let mut sum = Summing::default();
        let mut sink = |b: Batch| {
            if let Some(p) = b.problems.first() {
                return Err(Error::Damaged(p.to_string()));
            }
            b.records.iter().for_each(|r| sum.add(&r.key, &r.data));
            Ok(())
        };
        let mut problems = Vec::new();
        env.records(db, cx, &mut sink, &mut problems)?;
        if let Some(p) = problems.first() {
            return Err(Error::Damaged(p.to_string()));
        }
        out.insert(name.clone(), sum.finish());
    }
    Ok(out)
}
