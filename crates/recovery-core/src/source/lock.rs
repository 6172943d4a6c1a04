//! Who holds a lock on a file, found without taking it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A live process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// Its process id; `None` when the system does not tell (another container or machine).
    pub pid: Option<u32>,
}

/// The process that holds a POSIX or `flock` lock on `path`.
///
/// Asks only: `F_GETLK` for record locks, the kernel's table for `flock` locks. Taking a lock, even for a moment, could
/// make the starting engine fail.
#[must_use]
pub fn lock_holder(path: &Path) -> Option<LockHolder> {
    let file = File::open(path).ok()?;
    let ask = rustix::process::Flock::from(rustix::process::FlockType::WriteLock);
    if let Ok(Some(found)) = rustix::process::fcntl_getlk(&file, &ask) {
        let pid = found.pid.and_then(|p| u32::try_from(p.as_raw_nonzero().get()).ok());
        return Some(LockHolder { pid });
    }
    let meta = file.metadata().ok()?;
    in_kernel_table(&std::fs::read_to_string("/proc/locks").ok()?, meta.dev(), meta.ino())
}

/// Finds an inode in the text of `/proc/locks`: `1: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF`.
fn in_kernel_table(table: &str, dev: u64, ino: u64) -> Option<LockHolder> {
    let device = rustix::fs::makedev(rustix::fs::major(dev), rustix::fs::minor(dev));
    table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().filter(|w| *w != "->").collect();
        let [_, _, _, _, pid, place, ..] = words.as_slice() else { return None };
        let mut parts = place.split(':');
        let number = |text: Option<&str>| text.and_then(|t| u32::from_str_radix(t, 16).ok());
        let (major, minor) = (number(parts.next())?, number(parts.next())?);
        let found: u64 = parts.next()?.parse().ok()?;
        (rustix::fs::makedev(major, minor) == device && found == ino)
            .then(|| LockHolder { pid: pid.parse().ok().filter(|p| *p > 0) })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_kernel_table_is_read_by_inode() {
        let table = "1: POSIX  ADVISORY  WRITE 77 fd:00:12345 0 EOF\n2: FLOCK  ADVISORY  WRITE 0 fd:00:9 0 EOF\n";
        let dev = rustix::fs::makedev(0xfd, 0);
        assert_eq!(in_kernel_table(table, dev, 12345), Some(LockHolder { pid: Some(77) }));
        assert_eq!(in_kernel_table(table, dev, 9), Some(LockHolder { pid: None }));
        assert_eq!(in_kernel_table(table, dev, 10), None);
    }

    #[test]
    fn a_lock_of_another_open_file_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = File::create(&path).unwrap();
        assert_eq!(lock_holder(&path), None);
        rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(lock_holder(&path).is_some());
    }
}
