//! Finding the next good entry behind damage.
//!
//! Adler-32 of a few bytes is weak, so a candidate must agree in everything: type, size within the file, a previous
//! offset that lies in the damaged stretch (the last entry that was destroyed), its checksum, and the header of the
//! entry behind it, which must name the candidate as its predecessor, unless the file ends there.

use recovery_core::Cursor;

use super::walk::Walker;
use crate::format::header::MAX_HEADER;
use crate::format::{EntryHeader, EntryType};

/// Checksummed bytes of candidates that may be spent per byte searched, before only small candidates are tried.
const BUDGET_FACTOR: u64 = 8;
const BUDGET_BASE: u64 = 16 << 20;
const SMALL: u64 = 4096;

/// Where the log goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resync {
    /// Where the next valid entry begins.
    pub at: u64,
    /// How far behind their bytes the entries think they stand: what was removed before them, negative where something
    /// was inserted.
    pub shift: i64,
}

/// The first offset behind `bad` at which a valid entry begins. `hint` is the size field of the bad entry, when it
/// could be read: where only the item is damaged, exactly one entry is lost. Entries that stand at another place than
/// they name, because bytes were inserted or removed, are looked for only when there are no others.
pub fn next_entry(walker: &mut Walker<'_>, bad: u64, hint: Option<u64>) -> Option<Resync> {
    if let Some(next) = hint.and_then(|size| bad.checked_add(size))
        && next < walker.len()
        && walker.entry(next).is_ok_and(|e| u64::from(e.header.prev) == bad)
        && confirm(walker, bad, next)
    {
        return Some(Resync { at: next, shift: 0 });
    }
    let len = walker.len();
    let straight = search(walker, bad, len, true, &mut |w, at| confirm(w, bad, at).then_some(0));
    // The very last entry has none behind it to confirm its place: others before it that have moved come first.
    let before = straight.map_or(len, |r| r.at);
    search(walker, bad, before, false, &mut |w, at| shifted(w, at)).or(straight)
}

/// Tries every offset behind `bad` and before `until`.
fn search(
    walker: &mut Walker<'_>,
    bad: u64,
    until: u64,
    chained: bool,
    accept: &mut dyn FnMut(&mut Walker<'_>, u64) -> Option<i64>,
) -> Option<Resync> {
    let mut budget = BUDGET_BASE.saturating_add(walker.len().saturating_mul(BUDGET_FACTOR));
    let mut at = bad.saturating_add(1);
    let len = walker.len();
    while at < until {
        let window = walker.window(at, 64 << 10);
        let ends = at.saturating_add(window.len() as u64) >= len;
        let usable = if ends { window.len() } else { window.len().saturating_sub(MAX_HEADER) };
        let usable = usable.min(usize::try_from(until.saturating_sub(at)).unwrap_or(usize::MAX));
        let mut found = None;
        for i in 0..usable {
            let p = at.saturating_add(i as u64);
            let Some(total) = window.get(i..).and_then(|w| plausible(w, bad, p, len, chained)) else { continue };
            if total <= budget || total <= SMALL {
                budget = budget.saturating_sub(total);
                found = Some(p);
                break;
            }
        }
        match found {
            Some(p) => match accept(walker, p) {
                Some(shift) => return Some(Resync { at: p, shift }),
                None => at = p.saturating_add(1),
            },
            None => at = at.saturating_add(usable.max(1) as u64),
        }
    }
    None
}

/// Three entries, one behind the other, whose checksums agree and which name one another's places by one distance.
fn shifted(walker: &mut Walker<'_>, at: u64) -> Option<i64> {
    let valid = |w: &mut Walker<'_>, at: u64| {
        let e = w.entry(at).ok().filter(|e| e.header.kind != EntryType::ERASED && e.header.flags & 0x07 == 0)?;
        Some((u64::from(e.header.prev), e.end()))
    };
    let distance = |named: u64, stands: u64| i64::try_from(named).ok()?.checked_sub(i64::try_from(stands).ok()?);
    let (_, second) = valid(walker, at)?;
    let (named, third) = valid(walker, second)?;
    let shift = distance(named, at).filter(|s| *s != 0)?;
    let (named, _) = valid(walker, third)?;
    (distance(named, second) == Some(shift)).then_some(shift)
}

/// Looks at the header alone; gives the entry's size.
#[inline]
fn plausible(window: &[u8], bad: u64, at: u64, len: u64, chained: bool) -> Option<u64> {
    let &[_, _, _, _, kind, _, a, b, c, d, ..] = window else { return None };
    if kind == 0 || kind > 43 {
        return None;
    }
    let prev = u64::from(u32::from_le_bytes([a, b, c, d]));
    if chained && (prev < bad || prev >= at) {
        return None;
    }
    let header = EntryHeader::decode(&mut Cursor::new(window, at)).ok()?;
    let fits = at.checked_add(header.total()).is_some_and(|end| end <= len);
    (fits && header.kind != EntryType::FILE_HEADER).then(|| header.total())
}

/// Compares everything of a candidate.
fn confirm(walker: &mut Walker<'_>, bad: u64, at: u64) -> bool {
    let len = walker.len();
    let Ok(entry) = walker.entry(at) else { return false };
    let (prev, end, erased) = (u64::from(entry.header.prev), entry.end(), entry.header.kind == EntryType::ERASED);
    let pristine = entry.header.flags & 0x07 == 0;
    if prev < bad || prev >= at || !pristine {
        return false;
    }
    if end == len {
        return !erased;
    }
    // The next header must point back. A torn one at the end of the file cannot; the candidate's checksum stands alone.
    match EntryHeader::decode(&mut Cursor::new(walker.window(end, MAX_HEADER), end)) {
        Ok(next) => u64::from(next.prev) == at || (!erased && walker.entry(end).is_err()),
        Err(_) => !erased,
    }
}
