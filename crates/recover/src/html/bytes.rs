//! The bytes that a reader of the page sees: of structure only, as the engine vouches, and few of them.

use recovery_core::{Evidence, Recover, Report, Sources};

/// Findings for which bytes are read.
const READ: usize = 200;
/// Bytes of one finding: enough for a header, too few for payload that damage has put in its place.
const SHOWN: u64 = 16;

/// Adds to each finding the structure bytes it is about; one whose bytes cannot be read stays as it is.
pub(crate) fn add(report: &mut Report, engine: &dyn Recover, sources: &Sources) {
    for finding in report.findings.iter_mut().take(READ) {
        let Some(range) = engine.structure(finding) else { continue };
        let Some(source) = sources.get(finding.source) else { continue };
        let Ok(Some(blob)) = source.open_name(&finding.object) else { continue };
        let end = range.end.min(range.start.saturating_add(SHOWN)).min(blob.len());
        let bytes = blob.bytes(range.start..end.max(range.start)).unwrap_or_default();
        if !bytes.is_empty() {
            finding.evidence.push(Evidence::bytes(range.start, &bytes));
        }
    }
}
