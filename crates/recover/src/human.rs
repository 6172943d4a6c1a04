//! Reports for a person at night: how serious is this, what is lost, what do I do?

use std::collections::BTreeMap;
use std::io::{self, Write};

use recovery_core::{Finding, Loss, Plan, Receipt, Report, Severity, Verdict, names};

/// Findings of one code that are shown one by one.
const SHOWN: usize = 8;

/// `1234567` as `1.2 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    for unit in UNITS {
        if value < 1024.0 {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    format!("{n} B")
}

/// What something costs: `12 records, 306 B`; a number that is not known is left out.
pub(crate) fn cost(records: u64, size: u64) -> String {
    let s = if records == 1 { "" } else { "s" };
    match (records, size) {
        (_, 0) => format!("{records} record{s}"),
        (0, _) => bytes(size),
        _ => format!("{records} record{s}, {}", bytes(size)),
    }
}

/// What the verdict means for this report, in a sentence without its full stop.
pub(crate) fn meaning(report: &Report) -> String {
    let c = &report.coverage;
    match report.verdict {
        Verdict::Sound => "everything was read, nothing is damaged".to_owned(),
        Verdict::Unverified => {
            let open = c.unknown.saturating_add(c.unread);
            format!("no damage in what was read; {} of {} not checked", bytes(open), bytes(c.bytes))
        }
        Verdict::Recoverable => "damaged, and everything complete can be kept".to_owned(),
        Verdict::Lossy => {
            let lost = report.findings.iter().filter(|f| f.severity == Severity::Lost);
            let (records, size) = lost
                .fold((0u64, 0u64), |(r, b), f| (r.saturating_add(f.effect.records), b.saturating_add(f.effect.bytes)));
            format!("complete records are gone and nothing else holds them ({} known)", cost(records, size))
        }
        Verdict::Unusable => "nothing here can be saved".to_owned(),
    }
}

/// Writes a report; `summary` is what its engine says of the facts.
pub(crate) fn report(out: &mut dyn Write, report: &Report, summary: &[String]) -> io::Result<()> {
    let word = report.verdict.as_str().to_uppercase();
    let what: Vec<_> = report.sources.iter().map(|s| names::terminal(s)).collect();
    let next = report.next.first().map(|n| format!(" Next: {}", names::terminal(n))).unwrap_or_default();
    writeln!(out, "{word}: {} {}: {}.{next}", report.engine, what.join(", "), meaning(report))?;
    if_started(out, report)?;
    if !summary.is_empty() {
        writeln!(out)?;
        summary.iter().try_for_each(|line| writeln!(out, "{}", names::terminal(line)))?;
    }
    candidates(out, report)?;
    objects(out, report)?;
    findings(out, report)?;
    list(out, "Next", &report.next)
}

fn if_started(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    if report.if_started.is_empty() {
        return writeln!(out, "If {} were started on it now: nothing would be lost by that.", report.engine);
    }
    writeln!(out, "If {} were started on it now, it", report.engine)?;
    for action in report.if_started.iter().take(SHOWN) {
        let loses = if action.loses.records > 0 || action.loses.bytes > 0 {
            format!(", losing {}", cost(action.loses.records, action.loses.bytes))
        } else {
            String::new()
        };
        let why = if action.why.is_empty() { String::new() } else { format!(": {}", names::terminal(&action.why)) };
        writeln!(out, "  {} {}{loses}{why}", action.action, names::terminal(&action.object))?;
    }
    more(out, report.if_started.len())
}

fn more(out: &mut dyn Write, total: usize) -> io::Result<()> {
    if total > SHOWN {
        writeln!(out, "  … and {} more (all of them with --json)", total.saturating_sub(SHOWN))
    } else {
        Ok(())
    }
}

fn candidates(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    if report.candidates.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nCandidates, the best first")?;
    for c in &report.candidates {
        writeln!(out, "  {}. {}: {}", c.rank, names::terminal(&c.name), names::terminal(&c.reasons.join("; ")))?;
    }
    Ok(())
}

fn objects(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let mut classes: BTreeMap<&str, (u64, recovery_core::Totals)> = BTreeMap::new();
    for object in &report.objects {
        let (count, totals) = classes.entry(&object.class).or_default();
        *count = count.saturating_add(1);
        totals.add(&object.coverage.totals());
    }
    if classes.is_empty() {
        return Ok(());
    }
    let columns = ["files", "size", "verified", "parsed", "free", "unknown", "damaged", "unread"];
    write!(out, "\n{:24}", "class")?;
    for column in columns {
        write!(out, " {column:>10}")?;
    }
    writeln!(out)?;
    for (class, (count, t)) in classes {
        write!(out, "{:24} {count:>10}", names::terminal(class))?;
        for n in [t.bytes, t.verified, t.parsed, t.free, t.unknown, t.damaged, t.unread] {
            write!(out, " {:>10}", if n == 0 { "-".to_owned() } else { bytes(n) })?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Where and what: `000012.sst at 0x1000+0x20: …`; a finding about the whole names no object.
pub(crate) fn placed(f: &Finding) -> String {
    let place = match (f.offset, f.length) {
        (Some(o), Some(l)) => format!(" at {o:#x}+{l:#x}"),
        (Some(o), None) => format!(" at {o:#x}"),
        _ => String::new(),
    };
    let summary = f.summary.strip_prefix(&f.object).and_then(|s| s.strip_prefix(": ")).unwrap_or(&f.summary);
    if f.object.is_empty() { summary.to_owned() } else { format!("{}{place}: {summary}", f.object) }
}

/// Findings in groups of one code, in order of appearance.
pub(crate) fn by_code(findings: &[Finding]) -> Vec<(&'static str, Vec<&Finding>)> {
    let mut groups: Vec<(&'static str, Vec<&Finding>)> = Vec::new();
    for finding in findings {
        match groups.iter_mut().find(|(code, _)| *code == finding.code) {
            Some((_, group)) => group.push(finding),
            None => groups.push((finding.code, vec![finding])),
        }
    }
    groups
}

fn findings(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    if report.findings_total == 0 {
        return Ok(());
    }
    writeln!(out, "\nFindings: {} (what a code means: recover explain CODE)", report.findings_total)?;
    for (code, group) in by_code(&report.findings) {
        for f in group.iter().take(SHOWN) {
            let severity = format!("{:?}", f.severity).to_lowercase();
            writeln!(out, "  {code} {severity:8} {}", names::terminal(&placed(f)))?;
        }
        if group.len() > SHOWN {
            writeln!(
                out,
                "  {code} … {} more of this code (all of them with --json)",
                group.len().saturating_sub(SHOWN)
            )?;
        }
    }
    if report.truncated {
        writeln!(out, "  further findings of the same codes were counted and not kept")?;
    }
    Ok(())
}

fn list(out: &mut dyn Write, title: &str, lines: &[String]) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    lines.iter().try_for_each(|line| writeln!(out, "  {}", names::terminal_lines(line).replace('\n', "\n  ")))
}

fn losses(out: &mut dyn Write, losses: &[Loss]) -> io::Result<()> {
    if losses.is_empty() {
        return writeln!(out, "Nothing is lost.");
    }
    writeln!(out, "Lost:")?;
    losses.iter().try_for_each(|l| {
        writeln!(out, "  {} ({}): {}", names::terminal(&l.name), cost(l.records, l.bytes), names::terminal(&l.summary))
    })
}

/// Writes what a plan will do.
pub(crate) fn plan(out: &mut dyn Write, plan: &Plan) -> io::Result<()> {
    let c = &plan.cost;
    writeln!(
        out,
        "{} steps: reads {}, writes {}, links {}; needs {} of free space",
        plan.steps.len(),
        bytes(c.read),
        bytes(c.write),
        bytes(c.link),
        bytes(c.free_needed)
    )?;
    losses(out, &plan.losses)?;
    if !plan.consents.is_empty() {
        let flags: Vec<_> = plan.consents.iter().map(|c| format!("--accept {}", names::shell(c))).collect();
        writeln!(out, "Carrying it out needs: {}", flags.join(" "))?;
    }
    Ok(())
}

/// Writes what was done.
pub(crate) fn receipt(out: &mut dyn Write, receipt: &Receipt, place: &str) -> io::Result<()> {
    let total = receipt.files.iter().fold(0u64, |sum, f| sum.saturating_add(f.size));
    writeln!(out, "Built {}: {} files, {}.", names::terminal(place), receipt.files.len(), bytes(total))?;
    losses(out, &receipt.losses)?;
    list(out, "Next", &receipt.next)
}
