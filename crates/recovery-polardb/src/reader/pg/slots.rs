//! The replication slots of a cluster.

use recovery_core::{Depth, ReadError};

use super::cluster::Cluster;
use crate::format::pg::slot::{self, Slot, SlotError};

/// What a slot's directory holds.
#[derive(Clone, Debug)]
pub enum SlotState {
    /// A slot the server would take.
    Good(Slot),
    /// A state file the server would panic at.
    Bad(SlotError),
    /// No state file: the server skips the directory.
    Missing,
    /// The state file cannot be read.
    Unreadable(ReadError),
    /// A directory the server removes at start (`NAME.tmp`).
    Leftover,
}

/// A slot's directory.
#[derive(Clone, Debug)]
pub struct FoundSlot {
    /// Name of the directory.
    pub name: String,
    /// Length of the state file.
    pub size: u64,
    /// What it holds.
    pub state: SlotState,
}

/// Reads every slot.
///
/// # Errors
///
/// When the directory cannot be listed.
pub fn slots(cluster: &Cluster) -> Result<Vec<FoundSlot>, ReadError> {
    let entries = cluster.list("pg_replslot", Depth::One)?;
    Ok(entries.into_iter().filter(recovery_core::Entry::is_dir).map(|e| one(cluster, e.file_name())).collect())
}

fn one(cluster: &Cluster, name: &str) -> FoundSlot {
    let found = |size, state| FoundSlot { name: name.to_owned(), size, state };
    if name.ends_with(".tmp") {
        return found(0, SlotState::Leftover);
    }
    match cluster.small(&format!("pg_replslot/{name}/state"), 64 << 10) {
        Ok(Some(bytes)) => {
            let state = slot::decode(&bytes).map_or_else(SlotState::Bad, SlotState::Good);
            found(bytes.len() as u64, state)
        }
        Ok(None) => found(0, SlotState::Missing),
        Err(e) => found(0, SlotState::Unreadable(e)),
    }
}
