//! The damage map: each object a bar as long as its size allows, coloured by what is known of its bytes.

use std::fmt::Write;
use std::ops::Range;

use recovery_core::names::html as esc;
use recovery_core::{Class, Object, Report, Totals};

use crate::human;

/// Objects drawn; the damaged ones come first.
const DRAWN: usize = 400;
/// Units across a bar's drawing; nothing narrower than one of them is drawn, except damage.
const UNITS: u64 = 1000;
/// Pieces drawn of one object.
const PIECES: usize = 1000;

pub(super) const CLASSES: [Class; 6] =
    [Class::Verified, Class::Parsed, Class::Free, Class::Unknown, Class::Damaged, Class::Unread];

fn name(class: Class) -> &'static str {
    match class {
        Class::Unknown => "unknown",
        Class::Free => "free",
        Class::Parsed => "parsed",
        Class::Verified => "verified",
        Class::Damaged => "damaged",
        Class::Unread => "unread",
    }
}

const fn bytes_of(t: &Totals, class: Class) -> u64 {
    match class {
        Class::Unknown => t.unknown,
        Class::Free => t.free,
        Class::Parsed => t.parsed,
        Class::Verified => t.verified,
        Class::Damaged => t.damaged,
        Class::Unread => t.unread,
    }
}

/// Damage and what could not be read: what a reader of the map looks for.
fn bad(object: &Object) -> u64 {
    let t = object.coverage.totals();
    t.damaged.saturating_add(t.unread)
}

/// Writes the key and the bars.
pub(super) fn write(out: &mut String, report: &Report) {
    let c = &report.coverage;
    out.push_str("<h2>Damage map: every byte accounted for</h2><div class=\"key\">");
    for class in CLASSES.into_iter().filter(|class| bytes_of(c, *class) > 0) {
        let word = name(class);
        let size = human::bytes(bytes_of(c, class));
        let _ = write!(out, "<div><i style=\"background:var(--{word})\"></i>{word} {size}</div>");
    }
    let _ = write!(out, "<div class=\"dim\">of {}</div></div>", human::bytes(c.bytes));
    let mut objects: Vec<&Object> = report.objects.iter().filter(|o| o.counted && !o.coverage.is_empty()).collect();
    objects.sort_by_cached_key(|o| (std::cmp::Reverse(bad(o)), o.source, o.name.as_str()));
    let longest = objects.iter().map(|o| o.coverage.len()).max().unwrap_or(1);
    for object in objects.iter().take(DRAWN) {
        bar(out, object, longest, report.sources.len() > 1);
    }
    if objects.len() > DRAWN {
        let more = objects.len().saturating_sub(DRAWN);
        let _ = write!(out, "<p class=\"dim\">{more} more objects, none with more damage than these.</p>");
    }
}

/// One object. Lengths go by the cube root, so that small objects can still be seen beside large ones.
fn bar(out: &mut String, object: &Object, longest: u64, numbered: bool) {
    let len = object.coverage.len();
    let percent = 100.0 * (len as f64 / longest as f64).cbrt();
    let t = object.coverage.totals();
    let words: Vec<_> = CLASSES
        .into_iter()
        .filter(|class| bytes_of(&t, *class) > 0)
        .map(|class| format!("{} {}", human::bytes(bytes_of(&t, class)), name(class)))
        .collect();
    let name_of = |o: &Object| match numbered {
        true => format!("{}: {}", u32::from(o.source).saturating_add(1), o.name),
        false => o.name.clone(),
    };
    let label = esc(&format!("{}, {}: {}", name_of(object), object.class, words.join(", ")));
    let _ = write!(
        out,
        "<div class=\"bar\"><span class=\"mono\" title=\"{label}\">{}</span><svg viewBox=\"0 0 {UNITS} 10\" \
         preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\" style=\"width:{percent:.1}%;min-width:6px\">\
         <title>{label}</title>",
        esc(&name_of(object))
    );
    let mut pieces: Vec<(Range<u64>, Class)> = object.coverage.ranges().collect();
    // Damage on top, and never thinner than can be seen.
    pieces.sort_by_key(|(range, class)| (loud(*class), range.start));
    let skipped = pieces.len().saturating_sub(PIECES);
    for (range, class) in pieces.iter().skip(skipped) {
        let (x, width) = place(range, len, loud(*class));
        if width > 0 {
            let _ = write!(
                out,
                "<rect x=\"{x}\" y=\"0\" width=\"{width}\" height=\"10\" fill=\"var(--{})\"/>",
                name(*class)
            );
        }
    }
    out.push_str("</svg></div>");
}

const fn loud(class: Class) -> bool {
    matches!(class, Class::Damaged | Class::Unread)
}

/// Where a range lies in the drawing, in units.
fn place(range: &Range<u64>, len: u64, loud: bool) -> (u64, u64) {
    let unit = |at: u64| u64::try_from(u128::from(at) * u128::from(UNITS) / u128::from(len.max(1))).unwrap_or(UNITS);
    let (from, to) = (unit(range.start), unit(range.end));
    let least = if loud { 3 } else { 0 };
    let width = to.saturating_sub(from).max(least);
    (from.min(UNITS.saturating_sub(width)), width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_seen_however_small() {
        assert_eq!(place(&(0..1), 1 << 40, true), (0, 3));
        assert_eq!(place(&((1 << 40) - 1..1 << 40), 1 << 40, true), (997, 3));
        assert_eq!(place(&(0..1), 1 << 40, false), (0, 0));
        assert_eq!(place(&(0..u64::MAX), u64::MAX, false), (0, 1000));
    }
}
