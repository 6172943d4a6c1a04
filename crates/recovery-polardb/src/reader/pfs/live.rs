//! Whether a PFS daemon on this machine has the device mounted.
//!
//! The daemon and the tools take file locks on `/var/run/pfs/<device>-paxos-<host id>`; nothing on the
//! disk tells. (PolarDB-FileSystem `pfs_paxos.cc`.)

use std::path::Path;

use recovery_core::{LockHolder, lock_holder};

/// The process that holds a lock of the device named `name` (the file name of the device), if one on this machine does.
#[must_use]
pub fn live_writer(name: &str) -> Option<LockHolder> {
    live_writer_in(Path::new("/var/run/pfs"), name)
}

fn live_writer_in(dir: &Path, name: &str) -> Option<LockHolder> {
    let base = name.rsplit('/').next().filter(|b| !b.is_empty())?;
    let prefix = format!("{base}-paxos-");
    let files = std::fs::read_dir(dir).ok()?;
    let ours = files.flatten().filter(|f| f.file_name().to_string_lossy().starts_with(&prefix));
    ours.filter_map(|f| lock_holder(&f.path())).next()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_noticed_and_a_free_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nvme1n1-paxos-hostid-1");
        let file = std::fs::File::create(&path).unwrap();
        assert!(live_writer_in(dir.path(), "nvme1n1").is_none());
        file.lock().unwrap();
        assert!(live_writer_in(dir.path(), "/dev/nvme1n1").is_some());
        assert!(live_writer_in(dir.path(), "nvme1n2").is_none());
    }
}
