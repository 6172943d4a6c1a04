//! Files, entries by place, and the walk over all of them.

pub mod log;
pub mod resync;
pub mod scan;
pub mod walk;

pub use log::{Log, LogFile, OwnedEntry};
pub use scan::{BadSpot, FileScan, LogScan, Tally, scan_log};
pub use walk::{EntryRef, Walker};
