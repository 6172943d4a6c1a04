//! Findings of one node.

use recovery_core::{Evidence, Finding, Severity};

use super::node::Node;
use crate::codes;
use crate::format::file_header::FILE_HEADER_SIZE;
use crate::format::{FormatError, MAX_LOG_VERSION};
use crate::meta::{FeRole, ImageState};
use crate::reader::{BadSpot, FileScan};

/// All findings of a node.
#[must_use]
pub fn findings(node: &Node) -> Vec<Finding> {
    let mut out = Vec::new();
    files(node, &mut out);
    bad_spots(node, &mut out);
    stream(node, &mut out);
    trees(node, &mut out);
    transactions(node, &mut out);
    frontend(node, &mut out);
    out.into_iter().map(|f| f.source(node.source)).collect()
}

fn evidence(error: &FormatError) -> Evidence {
    match error {
        FormatError::Checksum { stored, computed, .. } => Evidence::checksum("adler32", *stored, *computed),
        FormatError::BadType { found, .. } => {
            Evidence::value("entry type", found, format!("1 to 43 (up to log version {MAX_LOG_VERSION})"))
        }
        FormatError::PastEnd { end, len, .. } => {
            Evidence::value("end of entry", format!("{end:#x}"), format!("at most {len:#x}"))
        }
        other => Evidence::value("entry", other, "a valid entry"),
    }
}

fn files(node: &Node, out: &mut Vec<Finding>) {
    let last = node.scan.last_file().map(|f| f.number);
    let mut before: Option<&crate::reader::LogFile> = None;
    for f in node.log.files.values() {
        let length = f.len.min(FILE_HEADER_SIZE);
        if let Some(v) = f.foreign_version() {
            let text = format!("the header says log version {v}; the entries decode as version {}", f.version());
            let e = Evidence::value("log version", v, "6 to 17");
            out.push(Finding::new(&codes::VERSION, Severity::Damaged, &f.name).at(0, length).summary(text).evidence(e));
        }
        match f.header {
            Some(h) if h.number != f.number => {
                let text = format!("the name says file {:#x}, the header file {:#x}", f.number, h.number);
                let e = Evidence::value("file number", h.number, f.number);
                out.push(
                    Finding::new(&codes::WRONG_NUMBER, Severity::Damaged, &f.name)
                        .at(0, length)
                        .summary(text)
                        .evidence(e),
                );
            }
            None if node.log.files.len() == 1 && node.all.entries == 0 => {
                let text = "the only log file holds no entry";
                out.push(Finding::new(&codes::BAD_HEADER, Severity::Lost, &f.name).at(0, f.len).summary(text));
            }
            None if f.len <= FILE_HEADER_SIZE && Some(f.number) >= last => {}
            None if f.len == 0 => {
                out.push(
                    Finding::new(&codes::BAD_HEADER, Severity::Lost, &f.name)
                        .summary("the file is empty, and files follow it"),
                );
            }
            None => {
                let text = "the file header is unreadable; its entries are read all the same";
                out.push(Finding::new(&codes::BAD_HEADER, Severity::Damaged, &f.name).at(0, length).summary(text));
            }
            Some(_) => {}
        }
        if f.len <= FILE_HEADER_SIZE && Some(f.number) >= last && node.log.files.len() > 1 {
            out.push(Finding::new(&codes::EMPTY_LAST, Severity::Note, &f.name));
        }
        if let Some(b) = before
            && let (Some(x), Some(y)) = (b.header, f.header)
            && y.time < x.time
        {
            let text = format!("created before {}, which it follows", b.name);
            out.push(Finding::new(&codes::MIXED, Severity::Suspect, &f.name).at(0, length).summary(text));
        }
        before = Some(f);
    }
    gaps(node, out);
    if let Some((number, last)) = node.cut_short() {
        let name =
            node.log.files.get(&number).map_or_else(|| crate::reader::log::file_name(number), |f| f.name.clone());
        let len = node.scan.files.get(&number).map_or(0, |f| f.len);
        let text =
            format!("the next file names {last:#x} as the place of the last entry here; the file ends at {len:#x}");
        out.push(
            Finding::new(&codes::SHORT_FILE, Severity::Damaged, name)
                .at(len, last.saturating_sub(len).max(1))
                .summary(text),
        );
    }
    for o in &node.log.others {
        let text = format!("{} ({} bytes): not part of the log", o.class, o.size);
        if o.class != "lock" && o.class != "info" {
            out.push(Finding::new(&codes::FOREIGN, Severity::Note, &o.name).summary(text));
        }
    }
    for e in &node.log.unreadable {
        out.push(Finding::new(&codes::UNREADABLE, Severity::Damaged, &e.object).summary(e.to_string()));
    }
}

/// A gap is the cleaner's work unless something still leads into it.
fn gaps(node: &Node, out: &mut Vec<Finding>) {
    let numbers: Vec<u32> = node.log.files.keys().copied().collect();
    for (a, b) in numbers.iter().zip(numbers.iter().skip(1)) {
        for n in a.saturating_add(1)..(*b).min(a.saturating_add(65)) {
            let named = node.view.problems.iter().any(|p| p.lsn.file() == n);
            let system = node.je.as_ref().is_some_and(|e| e.problems.iter().any(|p| p.lsn.file() == n));
            let hole = node.holes.iter().any(|(_, _, at)| at.file() == *b);
            if named || system || hole {
                let text = format!("file {n:#x} is missing, and the tree or the stream needs it");
                let lost = if node.unaccounted > 0 || named { Severity::Lost } else { Severity::Damaged };
                let name = crate::reader::log::file_name(n);
                out.push(Finding::new(&codes::MISSING_FILE, lost, name).summary(text).effect(node.unaccounted, 0));
            }
        }
    }
}

fn bad_spots(node: &Node, out: &mut Vec<Finding>) {
    let last = node.scan.last_file().map(|f| f.number);
    for f in node.scan.files.values() {
        for r in &f.unread {
            let len = r.end.saturating_sub(r.start);
            out.push(Finding::new(&codes::UNREADABLE, Severity::Damaged, &f.name).at(r.start, len));
        }
        let old = Some(f.number) < last;
        for b in &f.bad {
            if Some(f.number) > last && f.len <= FILE_HEADER_SIZE {
                continue;
            }
            out.push(bad_spot(node, f, b, old));
        }
        invisible(node, f, out);
        for at in &f.chain {
            let text = format!("the entry at {at:#x} does not name the entry before it");
            out.push(Finding::new(&codes::CHAIN, Severity::Suspect, &f.name).at(*at, 14).summary(text));
        }
        for (at, e) in &f.odd {
            out.push(Finding::new(&codes::ODD_ENTRY, Severity::Suspect, &f.name).at(*at, 14).summary(e.to_string()));
        }
        if f.erased > 0 {
            let text = format!("{} bytes of erased entries carry no checksum", f.erased);
            out.push(Finding::new(&codes::ERASED, Severity::Note, &f.name).summary(text));
        }
    }
}

/// Rolled-back entries lie between a matchpoint and the begin of a rollback, and belong to the stream.
fn invisible(node: &Node, f: &FileScan, out: &mut Vec<Finding>) {
    if f.header_flags {
        let text = "the file header carries flags, which no file header has";
        out.push(Finding::new(&codes::ODD_ENTRY, Severity::Suspect, &f.name).at(0, FILE_HEADER_SIZE).summary(text));
    }
    for (at, size, replicated) in &f.invisible {
        let lsn = crate::format::Lsn::new(f.number, u32::try_from(*at).unwrap_or(u32::MAX));
        let starts = node.scan.files.values().flat_map(|s| s.rollback_starts.iter());
        let inside = *replicated && starts.into_iter().any(|(start, r)| r.matchpoint < lsn && lsn < *start);
        if !inside {
            let text = format!("the entry at {lsn} is marked as rolled back, and no rollback accounts for it");
            out.push(Finding::new(&codes::INVISIBLE, Severity::Suspect, &f.name).at(*at, *size).summary(text));
        }
    }
}

fn bad_spot(node: &Node, f: &FileScan, b: &BadSpot, old: bool) -> Finding {
    let length = b.end.saturating_sub(b.offset);
    let class = match b.shift {
        0 => b.error.class().to_owned(),
        n if n > 0 => format!("{} ({n} bytes are missing before the entries that follow)", b.error.class()),
        n => format!("{} ({} bytes too many before the entries that follow)", b.error.class(), n.unsigned_abs()),
    };
    if old {
        let lost = node.unaccounted > 0 && node.view.unreadable > 0 || lost_keys(node) > 0;
        let severity = if lost { Severity::Lost } else { Severity::Damaged };
        let text =
            format!("{class} at {:#x} in a file that is not the last; JE does not notice when it opens", b.offset);
        let f = Finding::new(&codes::OLD_FILE, severity, &f.name).at(b.offset, length).summary(text);
        return f.evidence(evidence(&b.error)).effect(lost_keys(node), length);
    }
    if b.resynced {
        let commits = f.behind.count(crate::format::EntryType::COMMIT);
        let text = format!(
            "{class} at {:#x}; {} valid entries with {commits} commits follow: JE would cut them off silently",
            b.offset, f.behind.entries
        );
        let lost = node.unaccounted.max(lost_keys(node));
        let severity = if lost > 0 { Severity::Lost } else { Severity::Damaged };
        let f = Finding::new(&codes::MID_LOG, severity, &f.name).at(b.offset, length).summary(text);
        return f.evidence(evidence(&b.error)).effect(lost, length);
    }
    let torn = !b.flipped && matches!(b.error, FormatError::Short(_) | FormatError::PastEnd { .. });
    if b.zeros {
        let text = format!("{length} zero bytes behind the last entry");
        return Finding::new(&codes::ZERO_TAIL, Severity::Note, &f.name).at(b.offset, length).summary(text);
    }
    if torn && f.front.entries > 0 {
        let text = format!("the last entry, at {:#x}, is incomplete ({class})", b.offset);
        return Finding::new(&codes::TORN_TAIL, Severity::Note, &f.name).at(b.offset, length).summary(text);
    }
    let what = b.kind.map_or(String::new(), |k| format!(", if its header can be believed a {k}"));
    let text = format!("{length} unreadable bytes at the end ({class}{what}); no valid entry follows");
    Finding::new(&codes::BAD_TAIL, Severity::Suspect, &f.name)
        .at(b.offset, length)
        .summary(text)
        .evidence(evidence(&b.error))
}

/// Keys known to be live and unreadable everywhere, or readable in an older version only.
#[must_use]
pub fn lost_keys(node: &Node) -> u64 {
    let Some(s) = node.scavenged.as_ref().filter(|_| !node.tree_is_whole()) else { return 0 };
    s.databases.values().filter(|d| !d.name.starts_with("_je")).fold(0, |n, d| {
        let [_, _, stale, lost] = d.counts();
        n.saturating_add(stale).saturating_add(lost)
    })
}

fn stream(node: &Node, out: &mut Vec<Finding>) {
    let object = |n: u32| node.log.files.get(&n).map_or(String::new(), |f| f.name.clone());
    for (a, b, at) in &node.holes {
        let n = u64::try_from(b.saturating_sub(*a).saturating_add(1)).unwrap_or(0);
        let severity = match node.unaccounted {
            0 => Severity::Damaged,
            _ => Severity::Lost,
        };
        let text = format!("VLSN {a} to {b} are missing before {at}");
        let f = Finding::new(&codes::VLSN_HOLE, severity, object(at.file())).at(at.offset().into(), 22);
        out.push(f.summary(text).effect(n.min(node.unaccounted), 0));
    }
    for b in node.scan.breaks().iter().filter(|b| b.after <= b.before) {
        let unfinished = node.je.as_ref().is_some_and(|e| !e.unfinished_rollbacks.is_empty());
        let severity = if unfinished { Severity::Note } else { Severity::Suspect };
        let text = format!("VLSN {} follows {} at {}", b.after, b.before, b.at);
        out.push(
            Finding::new(&codes::VLSN_TWICE, severity, object(b.at.file())).at(b.at.offset().into(), 22).summary(text),
        );
    }
}

fn trees(node: &Node, out: &mut Vec<Finding>) {
    let Some(env) = &node.je else { return };
    for p in env.problems.iter().chain(&node.view.problems).take(200) {
        let name = node
            .log
            .files
            .get(&p.lsn.file())
            .map_or_else(|| crate::reader::log::file_name(p.lsn.file()), |f| f.name.clone());
        let f = Finding::new(&codes::TREE, Severity::Damaged, name).at(p.lsn.offset().into(), 14);
        out.push(f.summary(format!("{} at {} cannot be read", p.what, p.lsn)));
    }
    for (name, n) in node.view.rootless.iter().filter(|(n, _)| !n.starts_with("_je")) {
        let text = format!("JE will drop {n} records of database {name} silently: its tree has no root");
        out.push(Finding::new(&codes::ROOTLESS, Severity::Damaged, "").summary(text).effect(*n, 0));
    }
    let version = node.log.version();
    if version != 0 && !matches!(version, 14 | 15 | 17) {
        let text = format!("format-not-proven: log version {version}");
        out.push(Finding::new(&codes::NOT_PROVEN, Severity::Note, "").summary(text));
    }
    for name in &node.view.unsupported {
        let text = format!("database {name}: duplicates in the form of log versions before 8 are not read");
        out.push(Finding::new(&codes::NOT_PROVEN, Severity::Suspect, "").summary(text));
    }
    for odd in &node.group.odd {
        out.push(Finding::new(&codes::GROUP, Severity::Suspect, "").summary(odd.clone()));
    }
}

fn transactions(node: &Node, out: &mut Vec<Finding>) {
    if let Some(env) = &node.je {
        let rep: Vec<_> = env.open.iter().filter(|t| t.id < 0).collect();
        if !rep.is_empty() {
            let n = rep.iter().fold(0u64, |n, t| n.saturating_add(t.records));
            let text = format!("{} transactions without commit, {n} records: not live", rep.len());
            out.push(Finding::new(&codes::OPEN_TXN, Severity::Note, "").summary(text));
        }
        for r in &env.unfinished_rollbacks {
            let text = format!("a rollback to VLSN {} did not finish", r.matchpoint_vlsn);
            out.push(Finding::new(&codes::ROLLBACK, Severity::Note, "").summary(text));
        }
    }
    if let Some(s) = &node.scavenged {
        let doubt = s.doubts.iter().filter(|d| d.txn < 0).fold(0u64, |n, d| n.saturating_add(d.records));
        if doubt > 0 {
            let whole = node.tree_is_whole();
            let severity = match node.unaccounted {
                _ if whole => Severity::Note,
                0 => Severity::Suspect,
                _ => Severity::Lost,
            };
            let mut text = format!("{} transactions lost their end: {doubt} records in doubt", s.doubts.len());
            if whole {
                text = format!(
                    "{} transactions lost their end in the log; the trees tell which of their {doubt} records count",
                    s.doubts.len()
                );
            }
            let effect = if whole { 0 } else { doubt };
            out.push(Finding::new(&codes::IN_DOUBT, severity, "").summary(text).effect(effect, 0));
        }
        let lost = lost_keys(node);
        if lost > 0 {
            let text = format!("{lost} live records cannot be read");
            out.push(Finding::new(&codes::LOST_RECORDS, Severity::Lost, "").summary(text).effect(lost, 0));
        }
    }
    if let Some(f) = node.scan.last_file()
        && let Some((at, why)) = &f.restore_required
    {
        let text = format!("JE refuses to open: {why}");
        out.push(Finding::new(&codes::RESTORE, Severity::Damaged, &f.name).at(*at, 14).summary(text));
    }
    if let Some(pid) = node.locked {
        let by = pid.map_or(String::new(), |p| format!(" (process {p})"));
        let text = format!("je.lck is held{by}: files may change while they are read");
        out.push(Finding::new(&codes::LOCKED, Severity::Note, "je.lck").summary(text));
    }
}

fn frontend(node: &Node, out: &mut Vec<Finding>) {
    for (db, n) in node.journal().holes() {
        let severity = if lost_keys(node) > 0 || node.unaccounted > 0 { Severity::Lost } else { Severity::Suspect };
        let text = format!("{n} journal ids are missing in or behind database {db}");
        out.push(Finding::new(&codes::JOURNAL_HOLE, severity, "").summary(text).effect(n, 0));
    }
    let meta = &node.meta;
    let Some(dir) = &meta.image_dir else { return };
    for i in meta.images.iter().chain(&meta.starmgr) {
        match &i.state {
            ImageState::Valid => {}
            ImageState::Unverified { why } => {
                out.push(Finding::new(&codes::IMAGE_UNVERIFIED, Severity::Note, &i.name).summary(why.clone()));
            }
            ImageState::Bad { offset, why } => {
                let severity = if node.needs_image() { Severity::Lost } else { Severity::Damaged };
                let f = Finding::new(&codes::IMAGE_BAD, severity, &i.name);
                out.push(f.at(*offset, i.size.saturating_sub(*offset)).summary(why.clone()));
            }
        }
    }
    joins(node, dir, out);
    if let Some(name) = &meta.ckpt {
        out.push(Finding::new(&codes::IMAGE_CKPT, Severity::Note, name));
    }
    if meta.version.is_none() {
        out.push(Finding::new(&codes::NO_VERSION, Severity::Damaged, format!("{dir}/VERSION")));
    }
    match (meta.fe_role(), meta.node_name()) {
        (FeRole::Unknown, _) | (_, None) => {
            out.push(Finding::new(&codes::NO_ROLE, Severity::Damaged, format!("{dir}/ROLE")));
        }
        (FeRole::Observer, _) => out.push(Finding::new(&codes::OBSERVER, Severity::Note, format!("{dir}/ROLE"))),
        (FeRole::Follower, Some(name)) => {
            if node.group.group.is_some() && !node.group.members().any(|m| m.name == name) {
                let text = format!("{name} is not a member of the stored group");
                out.push(Finding::new(&codes::NOT_MEMBER, Severity::Note, format!("{dir}/ROLE")).summary(text));
            }
        }
    }
}

/// Whether a whole image and the journal join, with nothing missing between them and nothing beyond the journal.
fn joins(node: &Node, dir: &str, out: &mut Vec<Finding>) {
    let journal = node.journal();
    let whole = node.meta.images.iter().find(|i| !matches!(i.state, ImageState::Bad { .. }));
    if node.needs_image()
        && let Some(first) = journal.first
    {
        let held = whole.map_or(0, |i| i.journal_id);
        let text = match whole {
            Some(i) => format!("{} holds journal ids up to {held}, the journal begins at {first}", i.name),
            None => format!("no whole image is here, and the journal begins at {first}"),
        };
        let n = u64::try_from(first.saturating_sub(held).saturating_sub(1)).unwrap_or(0);
        let object = whole.map_or_else(|| dir.to_owned(), |i| i.name.clone());
        out.push(Finding::new(&codes::JOIN, Severity::Lost, object).summary(text).effect(n, 0));
    }
    let last = journal.max.unwrap_or(0);
    if let Some(i) = whole.filter(|i| i.journal_id > last) {
        let n = i.journal_id.saturating_sub(last);
        let text = format!(
            "{} holds journal ids up to {}, the journal ends at {last}: its last {n} operations are missing",
            i.name, i.journal_id
        );
        out.push(Finding::new(&codes::IMAGE_AHEAD, Severity::Suspect, &i.name).summary(text));
    }
}
