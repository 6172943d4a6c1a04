//! What all recovery engines share.
//!
//! A person whose storage engine is broken goes through the same five steps whatever the engine: what is this? what is
//! wrong? what shall be done and what will it cost? do it, somewhere else; is it good now? This crate holds the words
//! for that:
//!
//! * bytes in: [`Blob`], [`Source`], and the bounded [`Cursor`] that every decoder reads through;
//! * what was found: [`Finding`], [`Coverage`], [`Report`] with its [`Verdict`];
//! * what will be done: [`Plan`] with its losses and consents; [`apply::run`] carries it out into a
//!   [`Target`], and a [`Receipt`] says what was done;
//! * the thin interface of an engine: [`Recover`].
//!
//! Damage is data, an error is a reason to stop: a flipped bit is a finding, a source that cannot be opened is an
//! [`Error`].
//!
//! ```
//! use recovery_core::{Class, CodeInfo, Context, Finding, MemSource, ReportBuilder, Severity, Sources, Verdict};
//! use recovery_core::{Coverage, Evidence};
//! use std::sync::Arc;
//!
//! const TORN: CodeInfo = CodeInfo { code: "XX-0001", title: "torn record", explanation: "…" };
//! let sources = Sources::one(Arc::new(MemSource::new([("log", &b"good bad"[..])])));
//! let mut report = ReportBuilder::new("example", &sources, 100);
//! let mut coverage = Coverage::new(8);
//! coverage.mark(0..5, Class::Verified);
//! coverage.mark(5..8, Class::Damaged);
//! report.finding(
//!     Finding::new(&TORN, Severity::Damaged, "log").at(5, 3).evidence(Evidence::checksum("crc32c", 1u32, 2u32)),
//! );
//! report.object(0, "log", "live", coverage);
//! assert_eq!(report.finish().verdict, Verdict::Recoverable);
//! ```
#![deny(unsafe_code)]

pub mod apply;
mod blob;
#[cfg(feature = "cli")]
pub mod cli;
mod context;
mod coverage;
mod cursor;
mod error;
mod finding;
mod mapfile;
pub mod names;
pub mod parallel;
mod plan;
mod receipt;
mod recover;
mod report;
mod salvage;
pub mod schema;
mod sequence;
mod source;
mod target;

pub use blob::{Blob, MemBlob, ReadError, SubBlob};
pub use context::{Check, Context, Limits, Progress, Reading, Silent};
pub use coverage::{Class, Coverage, Totals};
pub use cursor::{Cursor, Short, VarintError};
pub use error::{Error, Reason, Refusal, Result};
pub use finding::{CodeInfo, Effect, Evidence, Finding, LossInfo, Severity};
pub use mapfile::{Mapfile, MapfileError};
pub use plan::{Accepted, Cost, Fingerprint, Input, Loss, PLAN_SCHEMA, Plan, PlanState, Step, WriteStep};
pub use receipt::{How, Placed, RECEIPT_SCHEMA, Receipt, sha256};
pub use recover::{Probe, Recover, options, probe_all};
pub use report::{Candidate, IfStarted, Object, REPORT_SCHEMA, Report, ReportBuilder, State, Verdict};
pub use salvage::read_around;
pub use sequence::SequenceSet;
#[cfg(feature = "mmap")]
pub use source::MapBlob;
pub use source::{
    Depth, DirOptions, DirSource, Entries, Entry, EntryKind, Fault, FaultySource, FileBlob, FileSource, LockHolder,
    MemSource, Source, Sources, ThrottledSource, lock_holder,
};
pub use target::{
    Begun, DirTarget, Done, Fs, FsFile, JOURNAL_NAME, OWN_DIR, Output, PLAN_NAME, RECEIPT_NAME, RealFs, SUMS_NAME,
    Target,
};

/// Bytes as lowercase hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| DIGITS.get(usize::from(n & 15)).map_or('?', |d| char::from(*d));
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

/// Bytes from hexadecimal; `None` when the text is not of that form.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let nibble = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|p| if let [a, b] = p { Some((nibble(*a)? << 4) | nibble(*b)?) } else { None }).collect()
}
