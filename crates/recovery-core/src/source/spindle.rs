//! One reader at a time on a device with moving heads: parallel readers there only make it seek.
//!
//! The turn is for what has to come off the device; what the page cache holds is read without it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The turn to read from one device.
#[derive(Debug, Default)]
pub(super) struct Spindle(Mutex<()>);

impl Spindle {
    /// Reads in turn.
    pub(super) fn read_at(&self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let _turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.read_at(buf, offset)
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
