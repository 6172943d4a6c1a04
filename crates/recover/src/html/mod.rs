//! `inspect --report FILE.html`: one self-contained page for a ticket, readable without scripts, in light and in dark.
//!
//! Everything in it comes from the report, so it shows what the JSON shows: structure, never payload.

mod bytes;
mod findings;
mod map;
mod save;

use std::fmt::Write;

use recovery_core::names::html as esc;
use recovery_core::{Loss, Report, names};

use crate::human;

pub(crate) use bytes::add as add_bytes;
pub(crate) use save::{allowed, save};

/// Every page begins so; only a file that does may be replaced by a newer report.
const HEAD: &str =
    "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"generator\" content=\"recover\">";

/// What a page is made of.
pub(crate) struct Page<'a> {
    /// The result of looking.
    pub(crate) report: &'a Report,
    /// What the engine says of the facts, in words.
    pub(crate) summary: &'a [String],
    /// What a code means: its title and its explanation.
    pub(crate) explain: &'a dyn Fn(&str) -> Option<(&'static str, &'static str)>,
    /// What a rescue would lose, or why it would be refused; nothing where there is nothing to rescue.
    pub(crate) losses: Option<Result<&'a [Loss], String>>,
    /// When it was made, in milliseconds of Unix time.
    pub(crate) now_ms: u64,
    /// Whether secrets are shown.
    pub(crate) show_secrets: bool,
}

/// The page as text. Writing to a string cannot fail, so the results of `write!` are dropped, here and below.
pub(crate) fn page(p: &Page<'_>) -> String {
    let r = p.report;
    let mut out = String::from(HEAD);
    let verdict = r.verdict.as_str();
    let _ = write!(
        out,
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{}: {verdict}</title>\
         <style>{}</style></head><body><main><h1><span class=\"verdict {verdict}\">{verdict}</span>{}</h1>",
        esc(r.engine),
        include_str!("style.css"),
        esc(r.engine),
    );
    for (n, source) in (1..).zip(&r.sources) {
        let number = if r.sources.len() > 1 { format!("{n}: ") } else { String::new() };
        let _ = write!(out, "<p>{number}<code>{}</code></p>", esc(source));
    }
    let _ = write!(out, "<p><strong>{}</strong></p>", esc(&capital(&human::meaning(r))));
    if_started(&mut out, r);
    if !p.summary.is_empty() {
        let _ = write!(out, "<h2>What it is</h2><pre>{}</pre>", esc(&p.summary.join("\n")));
    }
    losses(&mut out, p.losses.as_ref());
    commands(&mut out, r);
    map::write(&mut out, r);
    findings::write(&mut out, p);
    candidates(&mut out, r);
    let mut facts = r.facts.clone();
    if !p.show_secrets {
        names::redact_json(&mut facts);
    }
    let _ = writeln!(
        out,
        "<h2>Facts</h2><details><summary>All that was read, as JSON</summary><pre>{}</pre></details>\
         <p class=\"dim\">Made by recover {} at {}. It shows bytes of structure only; payload and secrets are left \
         out.</p></main></body></html>",
        esc(&format!("{facts:#}")),
        env!("CARGO_PKG_VERSION"),
        utc(p.now_ms),
    );
    out
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|c| c.to_uppercase().chain(letters).chain(['.']).collect()).unwrap_or_default()
}

/// `2026-11-22 09:30:00 UTC`, by the civil-from-days rule of the proleptic Gregorian calendar.
fn utc(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut day) = (1970u64, days);
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    while day >= if leap(year) { 366 } else { 365 } {
        day = day.saturating_sub(if leap(year) { 366 } else { 365 });
        year = year.saturating_add(1);
    }
    let mut month = 1u64;
    for length in [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day = day.saturating_sub(length);
        month = month.saturating_add(1);
    }
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{:02} {hour:02}:{minute:02}:{:02} UTC", day.saturating_add(1), second % 60)
}

fn if_started(out: &mut String, r: &Report) {
    let _ = write!(out, "<h2>If {} were started on it now</h2>", esc(r.engine));
    if r.if_started.is_empty() {
        out.push_str("<p>Nothing would be lost by that.</p>");
        return;
    }
    out.push_str("<ul>");
    for a in &r.if_started {
        let _ = write!(out, "<li>it <strong>{}</strong> <code>{}</code>", esc(&a.action), esc(&a.object));
        if a.loses.records > 0 || a.loses.bytes > 0 {
            let _ = write!(out, ", <span class=\"lost\">losing {}</span>", human::cost(a.loses.records, a.loses.bytes));
        }
        if !a.why.is_empty() {
            let _ = write!(out, ": {}", esc(&a.why));
        }
        out.push_str("</li>");
    }
    out.push_str("</ul>");
}

fn losses(out: &mut String, losses: Option<&Result<&[Loss], String>>) {
    let Some(losses) = losses else { return };
    out.push_str("<h2>What a rescue would lose</h2>");
    match losses {
        Err(refusal) => {
            let _ = write!(out, "<p>It would be refused: {}</p>", esc(refusal));
        }
        Ok([]) => out.push_str("<p>Nothing.</p>"),
        Ok(losses) => {
            out.push_str("<ul>");
            for l in *losses {
                let _ = write!(
                    out,
                    "<li><strong>{}</strong> ({}): {}</li>",
                    esc(&l.name),
                    human::cost(l.records, l.bytes),
                    esc(&l.summary)
                );
            }
            out.push_str("</ul>");
        }
    }
}

fn commands(out: &mut String, r: &Report) {
    if !r.next.is_empty() {
        let _ = write!(out, "<h2>Next</h2><pre>{}</pre>", esc(&r.next.join("\n")));
    }
}

fn candidates(out: &mut String, r: &Report) {
    if r.candidates.is_empty() {
        return;
    }
    out.push_str("<h2>Candidates, the best first</h2><ol>");
    for c in &r.candidates {
        let _ = write!(out, "<li><code>{}</code>: {}</li>", esc(&c.name), esc(&c.reasons.join("; ")));
    }
    out.push_str("</ol>");
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates() {
        assert_eq!(super::utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(super::utc(951_827_696_000), "2000-02-29 12:34:56 UTC");
        assert_eq!(super::utc(4_107_542_399_000), "2100-02-28 23:59:59 UTC");
        assert_eq!(super::utc(4_107_542_400_000), "2100-03-01 00:00:00 UTC");
    }
}
