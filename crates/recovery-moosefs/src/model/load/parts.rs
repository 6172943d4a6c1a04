//! What the readers of sections share, and which reader a section has.

use recovery_core::Cursor;

use super::feed::{Feed, Flow};
use super::outline::Section;
use super::{Issue, IssueKind, LoadError, Loader, attrs, tables};
use crate::format::DecodeError;
use crate::format::crc::piece;
use crate::format::outer::section_name;
use crate::model::Model;

/// Runs `body` over a list of records; damage is an issue when salvaging, and ends the list.
pub(super) fn records(
    loader: &mut Loader<'_>,
    section: &Section,
    feed: &mut Feed<'_>,
    mut body: impl FnMut(&mut Cursor<'_>, &mut Vec<Issue>) -> Result<Flow, LoadError>,
) -> Result<(), LoadError> {
    let mut found = Vec::new();
    let outcome = feed.each(&section_name(&section.name), |c| body(c, &mut found));
    for issue in found {
        loader.issue(issue)?;
    }
    ended(loader, section, feed, outcome)
}

/// A list ended, by its end mark or by damage.
pub(super) fn ended(
    loader: &mut Loader<'_>,
    section: &Section,
    feed: &Feed<'_>,
    outcome: Result<(), LoadError>,
) -> Result<(), LoadError> {
    match outcome {
        Ok(()) => early(loader, section, feed.offset()),
        Err(LoadError::Decode { error, .. }) => broken(loader, section, feed.offset(), &error),
        other => other,
    }
}

/// A list that ends before its section does.
fn early(loader: &mut Loader<'_>, section: &Section, at: u64) -> Result<(), LoadError> {
    let left = section.end.saturating_sub(at);
    if left == 0 {
        return Ok(());
    }
    let text = format!("section {}: its list ends {left} bytes before the section does", section_name(&section.name));
    loader.found(IssueKind::Record, at, left, text)
}

/// The records of a section end at `at` because the next one cannot be read.
pub(super) fn broken(
    loader: &mut Loader<'_>,
    section: &Section,
    at: u64,
    error: &DecodeError,
) -> Result<(), LoadError> {
    if zero_tail(loader, section, at, error)? {
        return Ok(());
    }
    let kind = if matches!(error, DecodeError::Short(_)) { IssueKind::Cut } else { IssueKind::Record };
    let text = format!("section {}: {error}; what follows in it is lost", section_name(&section.name));
    loader.found(kind, at, section.end.saturating_sub(at), text)
}

/// A flat file whose last end mark is cut: already known, and nothing is lost.
fn zero_tail(loader: &Loader<'_>, section: &Section, at: u64, error: &DecodeError) -> Result<bool, LoadError> {
    let short = matches!(error, DecodeError::Short(_));
    if !short || &section.name != b"CHNK" || section.stored_length != 0 || section.end.saturating_sub(at) >= 16 {
        return Ok(false);
    }
    Ok(loader.blob.bytes(at..section.end)?.iter().all(|&b| b == 0))
}

/// An issue with the record that ends where the cursor stands.
pub(super) fn issue(kind: IssueKind, c: &Cursor<'_>, length: usize, text: String) -> Issue {
    Issue { kind, at: c.offset().saturating_sub(length as u64), length: length as u64, text }
}

/// Reads one of the sections other than nodes, names and chunks.
pub(super) fn small(
    loader: &mut Loader<'_>,
    model: &mut Model,
    s: &Section,
    flat: bool,
    sum: &mut u32,
) -> Result<(), LoadError> {
    let mut feed = Feed::new(loader.blob, s.start, s.end);
    match &s.name {
        b"SESS" => tables::sessions(loader, model, s, &mut feed, sum),
        b"SCLA" | b"LABS" => tables::classes(loader, model, s, sum),
        b"PATT" => tables::patterns(loader, model, s, &mut feed, sum),
        b"FREE" => tables::free(loader, model, s, &mut feed, flat, sum),
        b"QUOT" => tables::quotas(loader, model, s, &mut feed, sum),
        b"XATR" => attrs::xattrs(loader, model, s, &mut feed, sum),
        b"PACL" => attrs::acls(loader, model, s, &mut feed, sum),
        b"OPEN" => attrs::opens(loader, model, s, &mut feed, sum),
        b"FLCK" => attrs::flocks(loader, model, s, &mut feed, sum),
        b"PLCK" => attrs::plocks(loader, model, s, &mut feed, sum),
        b"CSDB" => tables::servers(loader, model, s, &mut feed, sum),
        _ => Ok(()),
    }
}

/// The bytes a step used.
macro_rules! spent {
    ($c:expr, $rest:expr) => {
        $rest.get(..$rest.len().saturating_sub($c.remaining())).unwrap_or_default()
    };
}
pub(super) use spent;

/// A list with its length in front.
pub(super) fn counted(
    l: &mut Loader<'_>,
    s: &Section,
    feed: &mut Feed<'_>,
    sum: &mut u32,
    mut body: impl FnMut(&mut Cursor<'_>, &mut Vec<Issue>, &mut u32) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    let n = feed.one(&section_name(&s.name), |c| Ok(c.u32_be("count")?))?;
    *sum ^= piece(&n.to_be_bytes());
    let mut left = n;
    if n == 0 {
        return Ok(());
    }
    records(l, s, feed, |c, found| {
        body(c, found, sum)?;
        left = left.saturating_sub(1);
        Ok(if left == 0 { Flow::End } else { Flow::Go })
    })
}
