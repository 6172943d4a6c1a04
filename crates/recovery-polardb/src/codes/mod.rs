//! Every finding code and loss name, with what it means and what to do.

pub mod pfs;
pub mod pg;

use std::ops::Range;

use recovery_core::Finding;

/// Which bytes of a finding's object are structure: the head of a metadata object, of a journal entry, of a page
/// (`PageHeaderData`), of a log record (`XLogRecord`).
pub(crate) fn structure(finding: &Finding) -> Option<Range<u64>> {
    let at = finding.offset?;
    let codes = [
        pfs::HEADER,
        pfs::LEADER,
        pfs::ENTRY,
        pfs::OBJECT,
        pfs::OBJECT_LOST,
        pg::PAGE,
        pg::PAGE_REPLAYED,
        pg::WAL_BREAK,
        pg::WAL_TAIL,
        pg::OVERWRITTEN,
    ];
    codes.iter().any(|c| c.code == finding.code).then_some(at..at.saturating_add(16))
}
