//! One reader at a time on a device with moving heads: parallel readers there only make it seek.
//!
//! What the page cache already holds is read by everyone at once; the turn is taken for what has to come off the device.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::io::{Errno, ReadWriteFlags};

/// The turn to read from one device.
#[derive(Debug, Default)]
pub(super) struct Spindle(Mutex<()>);

impl Spindle {
    /// Reads what is cached at once, and takes its turn for the rest.
    pub(super) fn read_at(&self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match rustix::io::preadv2(file, &mut [IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT) {
            Ok(n) => Ok(n),
            // Not cached, or a file system that cannot tell.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                let _turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                file.read_at(buf, offset)
            }
            Err(e) => Err(e.into()),
        }
    }
}

/// The turn of the device that holds a file, if the system says that it rotates.
pub(super) fn of(file: &File) -> Option<Arc<Spindle>> {
    static KNOWN: OnceLock<Mutex<HashMap<u64, Option<Arc<Spindle>>>>> = OnceLock::new();
    let meta = file.metadata().ok()?;
    let device = if meta.file_type().is_block_device() { meta.rdev() } else { meta.dev() };
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(device).or_insert_with(|| rotates(device).then(Arc::default)).clone()
}

/// What the kernel says of a device; a partition has no queue of its own, its disk is one level up.
fn rotates(device: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let at = |queue: &str| std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/{queue}/rotational")).ok();
    at("queue").or_else(|| at("../queue")).is_some_and(|text| text.trim() == "1")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_read_that_takes_turns_reads_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(dir.path().join("f"), &bytes).unwrap();
        let file = File::open(dir.path().join("f")).unwrap();
        let spindle = Spindle::default();
        let mut got: Vec<u8> = Vec::new();
        let mut buf = vec![0; 70_000];
        loop {
            let n = spindle.read_at(&file, &mut buf, got.len() as u64).unwrap();
            if n == 0 {
                break;
            }
            got.extend_from_slice(buf.get(..n).unwrap());
        }
        assert_eq!(got, bytes);
        assert!(spindle.read_at(&File::open(dir.path()).unwrap(), &mut buf, 0).is_err(), "a directory is no file");
    }
}
