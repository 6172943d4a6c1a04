//! Findings by code: what the code means, then each finding with its place and its evidence.

use std::fmt::Write;

use recovery_core::names::html as esc;
use recovery_core::{Evidence, Finding, Severity};

use super::Page;
use crate::human;

/// Findings of one code that are written out.
const LISTED: usize = 500;

const fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Suspect => "suspect",
        Severity::Damaged => "damaged",
        Severity::Lost => "lost",
    }
}

/// Writes all findings, the worst code first.
pub(super) fn write(out: &mut String, p: &Page<'_>) {
    let _ = write!(out, "<h2>Findings: {}</h2>", p.report.findings_total);
    let mut groups = human::by_code(&p.report.findings);
    groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.iter().map(|f| f.severity).max()));
    for (code, group) in groups {
        let (title, text) = (p.explain)(code).unwrap_or((code, ""));
        let _ = write!(out, "<h3><code>{}</code> {} ({})</h3>", esc(code), esc(title), group.len());
        let _ = write!(out, "<p class=\"dim\">{}</p>", esc(text));
        for f in group.iter().take(LISTED) {
            finding(out, f);
        }
        if group.len() > LISTED {
            let more = group.len().saturating_sub(LISTED);
            let _ = write!(out, "<p class=\"dim\">{more} more of this code: see inspect --json.</p>");
        }
    }
    if p.report.truncated {
        out.push_str("<p class=\"dim\">Further findings of the same codes were counted and not kept.</p>");
    }
}

fn finding(out: &mut String, f: &Finding) {
    let severity = word(f.severity);
    let _ = write!(
        out,
        "<div class=\"finding\"><p><span class=\"{severity}\">{severity}</span> {}</p>",
        esc(&human::placed(f))
    );
    if f.effect.records > 0 || f.effect.bytes > 0 {
        let _ = write!(out, "<p class=\"dim\">costs {}</p>", human::cost(f.effect.records, f.effect.bytes));
    }
    for evidence in &f.evidence {
        match evidence {
            Evidence::Bytes { offset, hex } => {
                let _ = write!(out, "<pre>{}</pre>", esc(&dump(*offset, hex)));
            }
            other => {
                let _ = write!(out, "<p class=\"dim\">{}</p>", esc(&words(other)));
            }
        }
    }
    out.push_str("</div>");
}

fn words(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Checksum { algorithm, stored, computed } => {
            format!("{algorithm}: {stored} is stored, the bytes give {computed}")
        }
        Evidence::Value { name, found, expected } => format!("{name}: {found}, expected {expected}"),
        Evidence::Missing { what } => format!("missing: {what}"),
        Evidence::Witness { object, says } => format!("{object} says: {says}"),
        Evidence::Bytes { offset, hex } => dump(*offset, hex),
    }
}

/// Sixteen bytes a line, each line with its offset.
fn dump(offset: u64, hex: &str) -> String {
    let pairs: Vec<&str> = hex.as_bytes().chunks(2).filter_map(|b| std::str::from_utf8(b).ok()).collect();
    let lines = pairs.chunks(16).zip(0u64..);
    let line = |(bytes, n): (&[&str], u64)| {
        format!("{:08x}  {}", offset.saturating_add(n.saturating_mul(16)), bytes.join(" "))
    };
    lines.map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn sixteen_a_line() {
        let text = super::dump(0x10, &"0123456789abcdef".repeat(3));
        let expected = "00000010  01 23 45 67 89 ab cd ef 01 23 45 67 89 ab cd ef\n00000020  01 23 45 67 89 ab cd ef";
        assert_eq!(text, expected);
    }
}
