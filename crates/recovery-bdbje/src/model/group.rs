//! The replication group as the group database has it.

use recovery_core::{Context, Result as CoreResult};

use super::env::Environment;
use super::records::Record;
use crate::format::group::{GROUP_DB, GROUP_KEY, GroupRecord, NodeRecord, NodeType};

/// Group and members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The group's own record.
    pub group: Option<GroupRecord>,
    /// Members, removed ones included.
    pub nodes: Vec<NodeRecord>,
    /// Records that are neither.
    pub odd: Vec<String>,
}

impl Group {
    /// Reads the group database of an environment.
    ///
    /// # Errors
    ///
    /// When the caller asked to stop.
    pub fn read(env: &Environment, cx: &Context) -> CoreResult<Self> {
        let mut out = Self::default();
        let Some(db) = env.database(GROUP_DB) else { return Ok(out) };
        let mut problems = Vec::new();
        let mut sink = |batch: super::Batch| {
            batch.records.iter().for_each(|r| out.add(r));
            Ok(())
        };
        env.records(db, cx, &mut sink, &mut problems)?;
        Ok(out)
    }

    /// Takes one record of the group database.
    pub fn add(&mut self, r: &Record) {
        if r.key == GROUP_KEY {
            match GroupRecord::decode(&r.data) {
                Ok(g) => self.group = Some(g),
                Err(e) => self.odd.push(format!("group record: {e}")),
            }
            return;
        }
        match NodeRecord::decode(&r.data) {
            Ok(n) => self.nodes.push(n),
            Err(e) => self.odd.push(format!("{}: {e}", String::from_utf8_lossy(&r.key))),
        }
    }

    /// Members that have not been removed.
    pub fn members(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.iter().filter(|n| !n.removed)
    }

    /// Members that may elect and be elected.
    pub fn electable(&self) -> impl Iterator<Item = &NodeRecord> {
        self.members().filter(|n| n.kind == NodeType::Electable)
    }
}
