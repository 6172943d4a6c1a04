//! What will be built, from which node, by which recipe, and what it costs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use recovery_core::{Context, Error, Plan, Reason, Report, Result, Sources, Step, WriteStep};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::codes;
use crate::format::group::{GROUP_DB, GROUP_DB_ID, GroupRecord, NodeRecord, NodeType, uuid_text};
use crate::format::vlsn_index::{RANGE_KEY, VLSN_DB};
use crate::format::{EntryType, Lsn, packed};
use crate::inspect::{Inspected, Node, checks};
use crate::meta::{FeRole, ImageState};
use crate::model::{Batch, Environment, Group, Role};
use crate::reader::scan::ScanOptions;
use crate::reader::{Log, scan_log};
use crate::records::Source as RecordSource;
use crate::writer::append::{IndexDb, Reset};
use crate::writer::scratch::{Scratch, ScratchWriter};
use crate::writer::{FILE_MAX, writable};

/// Options of `plan` and `rescue`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Leave the group as it is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_group: bool,
    /// `NAME:PORT` that the node will announce.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Name of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// `VLSN` or `journal:ID` behind which nothing is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// How the result is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// The log as it is, cut at its end, and one more file that resets the group.
    Append,
    /// The log as it is, cut at its end.
    Copy,
    /// A new environment from the records.
    Scratch,
}

/// Values drawn once, and decisions, as they stand in the plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decided {
    /// How.
    pub recipe: Recipe,
    /// Number of the source it is made from.
    pub source: u16,
    /// Path of it.
    pub base: String,
    /// Where the log is cut, in the source's files.
    pub cut: Option<String>,
    /// Clock.
    pub now_ms: i64,
    /// The group's new identity.
    pub uuid: String,
    /// Node.
    pub node: Identity,
    /// Number of records and their hash, by database.
    pub records: BTreeMap<String, Summary>,
    /// Records a cut at the end JE sees would keep.
    pub kept_by_cut: u64,
    /// Records a scavenge keeps; 0 when none was needed.
    pub kept_by_salvage: u64,
    /// Highest VLSN of the result.
    pub last_vlsn: i64,
    /// Log version of the result.
    pub je_log_version: u8,
    /// Whether the group was left as it is.
    pub group_kept: bool,
}

/// Who the result will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Name.
    pub name: String,
    /// Host.
    pub host: String,
    /// Port.
    pub port: i32,
    /// Node id.
    pub id: i32,
    /// Where name and address come from.
    pub from: String,
}

/// Records of a database: how many, and the SHA-256 over length of key, length of value (big-endian), key and value of
/// each in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Records.
    pub records: u64,
    /// Hash.
    pub sha256: String,
}

/// Collects a [`Summary`].
#[derive(Debug, Default)]
pub struct Summing {
    n: u64,
    hash: Sha256,
}

impl Summing {
    /// Adds a record.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.n = self.n.saturating_add(1);
        let len = |b: &[u8]| u32::try_from(b.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.hash.update(len(key));
        self.hash.update(len(value));
        self.hash.update(key);
        self.hash.update(value);
    }

    /// The result.
    #[must_use]
    pub fn finish(self) -> Summary {
        Summary { records: self.n, sha256: recovery_core::hex(&self.hash.finalize()) }
    }
}

/// Summaries of every user database of an environment.
///
/// # Errors
///
/// When a record cannot be read, or the caller asked to stop.
pub fn summarise(env: &Environment, cx: &Context) -> Result<BTreeMap<String, Summary>> {
    let mut out = BTreeMap::new();
    for (name, id) in env.names.iter().filter(|(n, _)| !n.starts_with("_je")) {
        let Some(db) = env.databases.get(id) else { continue };
        let mut sum = Summing::default();
        let mut sink = |b: Batch| {
            if let Some(p) = b.problems.first() {
                return Err(Error::Damaged(p.to_string()));
            }
            b.records.iter().for_each(|r| sum.add(&r.key, &r.data));
            Ok(())
        };
        let mut problems = Vec::new();
        env.records(db, cx, &mut sink, &mut problems)?;
        if let Some(p) = problems.first() {
            return Err(Error::Damaged(p.to_string()));
        }
        out.insert(name.clone(), sum.finish());
    }
    Ok(out)
}

/// Everything that is needed to make the files of the result.
#[derive(Debug)]
pub struct Work {
    /// Decisions.
    pub decided: Decided,
    /// Source files that are kept: number, path, bytes of it.
    pub keep: Vec<(u32, String, u64)>,
    /// Files that are made.
    pub made: Vec<(u32, Vec<u8>)>,
    /// Losses: name, sentence, records.
    pub losses: Vec<(&'static str, String, u64)>,
}

fn inspected(sources: &Sources, report: &Report, cx: &Context) -> Result<Arc<Inspected>> {
    match report.state::<Inspected>() {
        Some(s) => Ok(s),
        None => Ok(Arc::new(crate::inspect::inspect(sources, cx)?.0)),
    }
}

/// Makes the plan.
///
/// # Errors
///
/// A refusal where no safe plan exists.
pub fn plan(sources: &Sources, report: &Report, options: &Value, cx: &Context) -> Result<Plan> {
    let parsed: Options = recovery_core::options(options)?;
    let seen = inspected(sources, report, cx)?;
    let drawn = Drawn { now: i64::try_from(cx.now_ms).unwrap_or(0), uuid: new_uuid(cx) };
    let work = decide(&seen, &parsed, &drawn, cx)?;
    let options = serde_json::to_value(&parsed).map_err(|e| Error::Internal(e.to_string()))?;
    let mut plan = Plan::new(crate::inspect::ENGINE, options, sources);
    plan.exit = report.exit;
    let base = base_of(&seen)?;
    plan.steps.push(Step::Mkdir { to: "bdb".to_owned(), mode: None });
    for (number, name, len) in &work.keep {
        let whole = base.log.files.values().find(|f| f.name == *name).map_or(0, |f| f.len);
        plan.steps.push(Step::Copy {
            source: base.source,
            object: name.clone(),
            to: format!("bdb/{}", crate::reader::log::file_name(*number)),
            size: *len,
            range: (*len != whole).then_some((0, *len)),
            mode: None,
            last: false,
        });
    }
    let scratch = work.decided.recipe == Recipe::Scratch;
    for (number, bytes) in &work.made {
        let args = if scratch { json!({"file": number}) } else { json!({"hex": recovery_core::hex(bytes)}) };
        plan.steps.push(Step::Write(WriteStep {
            to: format!("bdb/{}", crate::reader::log::file_name(*number)),
            what: if scratch { "new log file".to_owned() } else { "group reset".to_owned() },
            size: bytes.len() as u64,
            args,
            mode: Some(0o644),
            last: false,
        }));
    }
    image_steps(&mut plan, sources, &seen, base, &work.decided);
    for (name, text, n) in &work.losses {
        plan.lose(name, text.clone(), *n, 0);
    }
    plan.result = serde_json::to_value(&work.decided).map_err(|e| Error::Internal(e.to_string()))?;
    plan.next = crate::runbook::lines(&seen, base, &work.decided, &parsed);
    // A new environment is made from all files of the base.
    let more: Vec<(u16, String)> = seen
        .nodes
        .iter()
        .filter(|n| scratch || n.source == base.source)
        .flat_map(|n| n.log.files.values().map(|f| (n.source, f.name.clone())))
        .collect();
    plan.seal(sources, &more)?;
    Ok(plan)
}

/// Values drawn once for a plan.
#[derive(Clone, Copy, Debug)]
pub struct Drawn {
    /// ms since the epoch.
    pub now: i64,
    /// The group's new identity.
    pub uuid: [u64; 2],
}

fn new_uuid(cx: &Context) -> [u64; 2] {
    // Version 4, variant 1, as java.util.UUID.randomUUID sets them.
    [(cx.draw() & !0xf000) | 0x4000, (cx.draw() & !(0xc << 60)) | (0x8 << 60)]
}

/// The node the result is made from.
///
/// # Errors
///
/// When there is none.
pub fn base_of(seen: &Inspected) -> Result<&Node> {
    let best = seen.ranking.order.first().and_then(|i| seen.nodes.get(*i));
    best.filter(|n| n.all.entries > 1).ok_or_else(|| Error::Unusable("no node holds a readable log entry".to_owned()))
}

/// Decides, makes what has to be made, and proves the result by reading it back.
///
/// # Errors
///
/// A refusal where no safe plan exists.
pub fn decide(seen: &Inspected, options: &Options, drawn: &Drawn, cx: &Context) -> Result<Work> {
    let base = base_of(seen)?;
    if base.locked.is_some() {
        let text =
            format!("{}: a live process has it open; stop it, or copy the directory and rescue the copy", base.path);
        return Err(Error::refuse(Reason::Locked, text));
    }
    let mut losses = Vec::new();
    parted(seen, base, &mut losses);
    let kept_by_cut = base.view.records.iter().filter(|(n, _)| !n.starts_with("_je")).map(|(_, n)| *n).sum();
    let counts = salvage_counts(base);
    let end = match &options.until {
        Some(text) => Some(until(base, text, cx)?),
        None => None,
    };
    let whole = Whole { base, end, cx };
    let log = whole.appendable()?;
    let group = group_of(base);
    let node = identity(base, &group, options)?;
    let mut work = match (log, end) {
        (Some(log), _) => append(base, &log, &group, node, options, drawn, cx)?,
        (None, end) => {
            if options.keep_group {
                let text = "--keep-group: the log is damaged and must be written anew, which makes a new group";
                return Err(Error::refuse(Reason::Unsafe, text));
            }
            scratch(base, end, &group, node, drawn, &mut losses, cx)?
        }
    };
    if end.is_some() {
        let now: u64 = if base.scavenged.is_some() { counts.0 } else { kept_by_cut };
        let kept: u64 = work.decided.records.values().map(|s| s.records).sum();
        let text = format!("everything behind {} is left out", options.until.as_deref().unwrap_or_default());
        losses.push((codes::LOSS_UNTIL, text, now.saturating_sub(kept)));
    }
    work.decided.kept_by_cut = kept_by_cut;
    work.decided.kept_by_salvage = counts.0;
    work.losses = losses;
    Ok(work)
}

/// Live, in doubt, stale, lost, over user databases.
fn salvage_counts(base: &Node) -> (u64, u64, u64, u64) {
    let Some(s) = &base.scavenged else { return (0, 0, 0, 0) };
    let mut out = (0u64, 0u64, 0u64, 0u64);
    for d in s.databases.values().filter(|d| !d.name.starts_with("_je")) {
        let [a, b, c, e] = d.counts();
        out = (out.0.saturating_add(a), out.1.saturating_add(b), out.2.saturating_add(c), out.3.saturating_add(e));
    }
    out
}

/// Another branch of a group that parted has commits of its own.
fn parted(seen: &Inspected, base: &Node, losses: &mut Vec<(&'static str, String, u64)>) {
    for d in &seen.ranking.diverged {
        let (Some(a), Some(b)) = (seen.nodes.get(d.a), seen.nodes.get(d.b)) else { continue };
        let other = match (a.source == base.source, b.source == base.source) {
            (true, _) => b,
            (_, true) => a,
            _ => continue,
        };
        let theirs = other.all.last_commit.map_or(0, |(v, _)| v);
        let n = u64::try_from(theirs.saturating_sub(d.vlsn).saturating_add(1)).unwrap_or(0);
        if n > 0 {
            let text =
                format!("{} parted at VLSN {}: its own branch up to VLSN {theirs} is left out", other.path, d.vlsn);
            losses.push((codes::LOSS_DIVERGED, text, n));
        }
    }
}

struct Whole<'a> {
    base: &'a Node,
    end: Option<Lsn>,
    cx: &'a Context,
}

impl Whole<'_> {
    /// The log that may be kept as it is, cut at its end; `None` when a new one must be written.
    fn appendable(&self) -> Result<Option<Log>> {
        let n = self.base;
        let log = n.true_log();
        let last = n.scan.last_file().map(|f| f.number);
        if self.end.is_none() && n.by_header.is_none() {
            return Ok((!n.damaged() && n.holes.is_empty()).then(|| n.log.cut(n.je_end.unwrap_or(Lsn::NULL))));
        }
        // A renamed or an earlier log: prove it by opening it.
        let renamed = scan_log(log, ScanOptions::default(), self.cx)?;
        let end = match self.end.or_else(|| renamed.je_end()) {
            Some(e) => e,
            None => return Ok(None),
        };
        let cut = log.cut(end);
        let scan = scan_log(&cut, ScanOptions::default(), self.cx)?;
        let spoiled = scan.bad().next().is_some() || !n.holes.iter().all(|(_, _, at)| *at > end);
        let headers =
            cut.files.values().all(|f| f.header.is_some_and(|h| h.number == f.number) && f.foreign_version().is_none());
        if spoiled || !headers || last.is_none() {
            return Ok(None);
        }
        let t = scan.all();
        let env = Environment::open(cut.clone(), t.ckpt_end, t.db_tree, Role::Standalone, self.cx)?;
        if !env.problems.is_empty() || env.tree.is_none() {
            return Ok(None);
        }
        for id in env.names.values() {
            let Some(db) = env.databases.get(id) else { continue };
            let mut problems = Vec::new();
            let slots = env.slots(db, self.cx, &mut problems)?;
            let gone = slots.iter().any(|s| s.data.is_none() && scan.destroyed(s.lsn));
            if gone
                || !problems.is_empty()
                || env.rootless_changes(*id) > 0 && !db.name.as_deref().unwrap_or("").starts_with("_je")
            {
                return Ok(None);
            }
        }
        Ok(Some(cut))
    }
}

/// End of the last commit that `--until` keeps.
fn until(base: &Node, text: &str, cx: &Context) -> Result<Lsn> {
    let usage = || Error::Usage(format!("--until {text}: expected a VLSN or journal:ID"));
    let log = base.true_log();
    let limit = match text.strip_prefix("journal:") {
        None => Limit::Vlsn(text.parse().map_err(|_| usage())?),
        Some(id) => Limit::Before(first_beyond(log, base, id.parse().map_err(|_| usage())?)),
    };
    let mut best: Option<Lsn> = None;
    for f in log.files.values() {
        cx.cancelled()?;
        let scan = base.scan.files.values().find(|s| s.name == f.name);
        let file = crate::reader::LogFile { len: scan.map_or(f.len, |s| s.valid_to), ..f.clone() };
        let mut past = false;
        crate::model::replay::each_entry(&file, 0, |e| {
            let lsn = Lsn::new(f.number, u32::try_from(e.at).unwrap_or(u32::MAX));
            let Some(v) = e.header.stream_vlsn().filter(|_| e.header.kind == EntryType::COMMIT) else { return };
            let keep = match limit {
                Limit::Vlsn(l) => v <= l,
                Limit::Before(l) => l.is_none_or(|l| lsn < l),
            };
            past |= !keep;
            if keep && !past && !e.header.invisible() {
                best = Some(Lsn::new(f.number, u32::try_from(e.end()).unwrap_or(u32::MAX)));
            }
        });
        if past {
            break;
        }
    }
    best.ok_or_else(|| Error::Usage(format!("--until {text}: no commit before it")))
}

#[derive(Clone, Copy)]
enum Limit {
    Vlsn(i64),
    Before(Option<Lsn>),
}

/// First record of a journal database with an id beyond `id`, among records that count.
fn first_beyond(log: &Log, base: &Node, id: i64) -> Option<Lsn> {
    let journals: HashSet<i64> = base
        .je
        .iter()
        .flat_map(|e| e.names.iter())
        .filter(|(n, _)| n.parse::<i64>().is_ok())
        .map(|(_, id)| *id)
        .chain(
            base.scavenged
                .iter()
                .flat_map(|s| s.databases.values())
                .filter(|d| d.name.parse::<i64>().is_ok())
                .map(|d| d.id),
        )
        .collect();
    let mut found: Option<Lsn> = None;
    for f in log.files.values() {
        if found.is_some() {
            break;
        }
        let version = f.version();
        crate::model::replay::each_entry(f, 0, |e| {
            if found.is_some() || !e.header.kind.is_user_ln() || e.header.invisible() || !e.header.replicated() {
                return;
            }
            let mut c = recovery_core::Cursor::new(e.item(), e.item_at());
            let Ok(ln) = crate::format::ln::LnEntry::decode(&mut c, e.header.kind, version) else { return };
            let beyond = packed::long_key(ln.key).is_some_and(|k| k > id);
            if beyond && journals.contains(&ln.db) && !ln.is_deletion() {
                found = Some(Lsn::new(f.number, u32::try_from(e.at).unwrap_or(u32::MAX)));
            }
        });
    }
    found
}

/// The group as the node has it, or as it can be scavenged.
fn group_of(base: &Node) -> Group {
    if base.group.group.is_some() || base.scavenged.is_none() {
        return base.group.clone();
    }
    let mut group = Group::default();
    let found = base.scavenged.as_ref().and_then(|s| s.databases.get(GROUP_DB));
    if let Some(db) = found {
        db.each(base.true_log(), true, &mut |k, v, version, _| {
            group.add(&crate::model::Record {
                key: bytes::Bytes::copy_from_slice(k),
                data: bytes::Bytes::copy_from_slice(v),
                lsn: version.lsn,
                vlsn: version.vlsn,
                open: false,
            });
        });
    }
    group
}

/// Splits `host_port_millis`, the form of a node's name.
fn address_in_name(name: &str) -> Option<(String, i32)> {
    let mut parts = name.rsplitn(3, '_');
    let (_, port, host) = (parts.next()?, parts.next()?, parts.next()?);
    Some((host.to_owned(), port.parse().ok()?))
}

/// Who the result will be: what the user says, then `ROLE`, then the member that committed last, then any member.
fn identity(base: &Node, group: &Group, options: &Options) -> Result<Identity> {
    let given = match &options.host {
        None => None,
        Some(text) => {
            let bad = || Error::Usage(format!("--host {text}: expected NAME:PORT"));
            let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
            let port = port.parse::<u16>().ok().filter(|p| *p > 0).ok_or_else(bad)?;
            Some((host.to_owned(), i32::from(port)))
        }
    };
    if let Some(h) =
        given.as_ref().map(|(h, _)| h).into_iter().chain(&options.node_name).find(|s| s.contains('\0') || s.is_empty())
    {
        return Err(Error::Usage(format!("{h:?} is no name")));
    }
    let term = base.all.last_commit_end.map(|e| e.master);
    let by_role = base.meta.node_name().map(|n| (n.to_owned(), "ROLE"));
    let by_term =
        group.electable().find(|m| Some(i64::from(m.id)) == term).map(|m| (m.name.clone(), "the last master"));
    let any = group.electable().next().map(|m| (m.name.clone(), "the group"));
    let said = options.node_name.clone().map(|n| (n, "--node-name"));
    let Some((name, from)) = said.or_else(|| by_role.clone()).or(by_term).or(any) else {
        return Err(Error::Usage("the node's name is not known here: give --node-name and --host".to_owned()));
    };
    let old_name = by_role.map_or_else(|| name.clone(), |(n, _)| n);
    let exact = group.nodes.iter().find(|m| m.name == name);
    let only = group.electable().next().filter(|_| group.electable().count() == 1);
    let member = exact.or_else(|| group.nodes.iter().find(|m| m.name == old_name)).or(only);
    let stored = |m: Option<&NodeRecord>| m.map(|m| (m.host.clone(), m.port));
    let found = given.or_else(|| stored(exact)).or_else(|| address_in_name(&name)).or_else(|| stored(member));
    let Some((host, port)) = found else {
        return Err(Error::Usage(format!("{name}: its address is not known here: give --host NAME:PORT")));
    };
    Ok(Identity { name, host, port, id: member.map_or(0, |m| m.id), from: from.to_owned() })
}

/// JE version that a node of this log version would write.
fn je_version(group: &Group, version: u8) -> String {
    let known = group.nodes.iter().filter_map(|n| n.je_version.clone()).next_back();
    known.unwrap_or_else(|| match version {
        0..=14 => "7.3.8".to_owned(),
        15 => "7.5.17".to_owned(),
        _ => "18.3.20".to_owned(),
    })
}

fn new_group(group: &Group, drawn: &Drawn) -> GroupRecord {
    let highest = group.nodes.iter().map(|n| n.id).max().unwrap_or(0);
    match &group.group {
        Some(g) => GroupRecord {
            uuid: drawn.uuid,
            change: 1,
            sequence: g.sequence.max(highest).saturating_add(1),
            format: 3,
            min_je: g.min_je.clone().or_else(|| Some("6.0.1".to_owned())),
            ..g.clone()
        },
        None => GroupRecord {
            name: "PALO_JOURNAL_GROUP".to_owned(),
            uuid: drawn.uuid,
            format: 3,
            change: 1,
            sequence: highest.saturating_add(1),
            min_je: Some("6.0.1".to_owned()),
        },
    }
}

fn new_node(id: &Identity, group: &GroupRecord, je: String, cbvlsn: i64, now: i64) -> NodeRecord {
    NodeRecord {
        name: id.name.clone(),
        id: group.sequence,
        format: 3,
        kind: NodeType::Electable,
        quorum_ack: true,
        removed: false,
        host: id.host.clone(),
        port: id.port,
        cbvlsn,
        barrier_time: now,
        change: 1,
        je_version: Some(je),
    }
}

/// The log as it is, and one more file.
fn append(
    base: &Node,
    log: &Log,
    group: &Group,
    mut node: Identity,
    options: &Options,
    drawn: &Drawn,
    cx: &Context,
) -> Result<Work> {
    let log = without_empty_tail(log);
    let scan = scan_log(&log, ScanOptions::default(), cx)?;
    let t = scan.all();
    let env = Environment::open(log.clone(), t.ckpt_end, t.db_tree, Role::Standalone, cx)?;
    let (Some(last), Some(last_entry)) = (log.last(), t.last_entry) else {
        return Err(Error::Unusable("no log entry".to_owned()));
    };
    let records = summarise(&env, cx)?;
    let version = log.files.get(&last).map_or(17, crate::reader::LogFile::version);
    let last_vlsn = t.last_visible.unwrap_or(0);
    let keep: Vec<_> = log.files.values().map(|f| (f.number, f.name.clone(), f.len)).collect();
    let own = group.nodes.iter().find(|n| n.name == node.name);
    let same_address = own.is_some_and(|n| n.host == node.host && n.port == node.port);
    let untouched = options.keep_group && same_address || env.database(GROUP_DB).is_none();
    let mut decided = Decided {
        recipe: Recipe::Copy,
        source: base.source,
        base: base.path.clone(),
        cut: Some(
            Lsn::new(last, u32::try_from(log.files.get(&last).map_or(0, |f| f.len)).unwrap_or(u32::MAX)).to_string(),
        ),
        now_ms: drawn.now,
        uuid: group.group.as_ref().map_or(drawn.uuid, |g| g.uuid).map(|h| format!("{h:016x}")).concat(),
        node: node.clone(),
        records,
        kept_by_cut: 0,
        kept_by_salvage: 0,
        last_vlsn,
        je_log_version: version,
        group_kept: true,
    };
    if untouched {
        return Ok(Work { decided, keep, made: Vec::new(), losses: Vec::new() });
    }
    let reset = reset(&env, group, &mut node, options, drawn, version, last, last_entry, last_vlsn, cx)?;
    let (bytes, commit) = reset.build();
    decided.recipe = Recipe::Append;
    decided.node = node;
    decided.uuid = reset.group.uuid.map(|h| format!("{h:016x}")).concat();
    decided.last_vlsn = commit;
    decided.group_kept = options.keep_group;
    let number = reset.file;
    let work = Work { decided, keep, made: vec![(number, bytes)], losses: Vec::new() };
    crate::apply::prove(&work, Some(&log), !options.keep_group, cx)?;
    Ok(work)
}

/// Files at the end that hold no entry are left out: only the very last file's tail is forgiven.
fn without_empty_tail(log: &Log) -> Log {
    let mut log = log.clone();
    while let Some(n) = log.last()
        && log.files.len() > 1
        && log.files.get(&n).is_some_and(|f| f.len <= crate::format::file_header::FILE_HEADER_SIZE)
    {
        log.files.remove(&n);
    }
    log
}

fn reset(
    env: &Environment,
    group: &Group,
    node: &mut Identity,
    options: &Options,
    drawn: &Drawn,
    version: u8,
    last: u32,
    last_entry: u32,
    last_vlsn: i64,
    cx: &Context,
) -> Result<Reset> {
    let group_db = env.database(GROUP_DB);
    let je = je_version(group, version);
    let mut record = new_group(group, drawn);
    let mut own;
    let mut delete: Vec<String>;
    let mut index = None;
    if options.keep_group {
        let Some(g) = &group.group else {
            return Err(Error::Usage("--keep-group: the group's record is not readable".to_owned()));
        };
        let old = group.nodes.iter().find(|n| n.id == node.id && n.id != 0).cloned();
        let Some(old) = old else {
            return Err(Error::Usage(format!("--keep-group: {} is not a member of the group", node.name)));
        };
        record = GroupRecord { change: g.change.saturating_add(1), ..g.clone() };
        delete = if old.name == node.name { Vec::new() } else { vec![old.name.clone()] };
        own = NodeRecord {
            name: node.name.clone(),
            host: node.host.clone(),
            port: node.port,
            change: record.change,
            ..old
        };
        own.quorum_ack = true;
    } else {
        own = new_node(node, &record, je, last_vlsn, drawn.now);
        delete = group.nodes.iter().map(|n| n.name.clone()).filter(|n| *n != node.name).collect();
        index = index_of(env, cx)?;
    }
    delete.dedup();
    node.id = own.id;
    Ok(Reset {
        version,
        file: last.saturating_add(1),
        last_entry,
        now: drawn.now,
        group_db: group_db.map_or(GROUP_DB_ID, |d| d.id),
        group_rooted: group_db.is_some_and(|d| d.root.is_some()),
        group_known: group.group.is_some(),
        group: record,
        node_known: group.nodes.iter().any(|n| n.name == node.name),
        delete,
        node: own,
        last_vlsn,
        rep_txn: env.ids.rep_txn,
        local_txn: env.ids.local_txn,
        tree_node: env.ids.node.saturating_add(1000),
        index,
    })
}

fn index_of(env: &Environment, cx: &Context) -> Result<Option<IndexDb>> {
    let Some(db) = env.database(VLSN_DB) else { return Ok(None) };
    let mut problems = Vec::new();
    let slots = env.slots(db, cx, &mut problems)?;
    let is_range = |k: &[u8]| packed::long_key(k) == Some(RANGE_KEY);
    let rooted = db.root.is_some();
    Ok(Some(IndexDb {
        id: db.id,
        rooted,
        // What a database without root holds, recovery has dropped already.
        buckets: slots.iter().filter(|s| rooted && !is_range(&s.key)).map(|s| s.key.clone()).collect(),
        range: rooted && slots.iter().any(|s| is_range(&s.key)),
    }))
}

/// A new environment from the records.
fn scratch(
    base: &Node,
    end: Option<Lsn>,
    group: &Group,
    mut node: Identity,
    drawn: &Drawn,
    losses: &mut Vec<(&'static str, String, u64)>,
    cx: &Context,
) -> Result<Work> {
    let source = RecordSource::choose(base, end, cx)?;
    let last_vlsn = base.all.last_visible.unwrap_or(0).max(base.all.last_vlsn.unwrap_or(0)).max(0);
    let first_vlsn = last_vlsn.saturating_add(1).max(1);
    let version = writable(
        base.log.version().max(base.true_log().files.values().map(crate::reader::LogFile::version).max().unwrap_or(0)),
    );
    let record = new_group(group, drawn);
    let cbvlsn = if first_vlsn > 1 { first_vlsn.saturating_sub(1) } else { -1 };
    let own = new_node(&node, &record, je_version(group, version), cbvlsn, drawn.now);
    node.id = own.id;
    let s = Scratch { version, now: drawn.now, first_vlsn, group: record, node: own, file_max: FILE_MAX };
    let (files, last, records) = write_scratch(&s, &source, cx)?;
    source.losses(base, losses);
    let decided = Decided {
        recipe: Recipe::Scratch,
        source: base.source,
        base: base.path.clone(),
        cut: end.map(|e| e.to_string()),
        now_ms: drawn.now,
        uuid: s.group.uuid.map(|h| format!("{h:016x}")).concat(),
        node,
        records,
        kept_by_cut: 0,
        kept_by_salvage: 0,
        last_vlsn: last,
        je_log_version: version,
        group_kept: false,
    };
    let made = (0u32..).zip(files).collect();
    let work = Work { decided, keep: Vec::new(), made, losses: Vec::new() };
    crate::apply::prove(&work, None, true, cx)?;
    Ok(work)
}

fn write_scratch(
    s: &Scratch,
    source: &RecordSource<'_>,
    cx: &Context,
) -> Result<(Vec<Vec<u8>>, i64, BTreeMap<String, Summary>)> {
    let mut w = ScratchWriter::begin(s);
    let mut sums = BTreeMap::new();
    let mut written = 0u64;
    let limit = cx.limits.memory / 2;
    for db in source.databases() {
        w.database(&db.name, &db.config);
        let mut sum = Summing::default();
        source.each(&db, cx, &mut |k, v| {
            sum.add(k, v);
            w.record(k, v);
            written = written.saturating_add(k.len() as u64).saturating_add(v.len() as u64).saturating_add(64);
            if written > limit {
                return Err(Error::Limit { what: "new environment in memory".to_owned(), needed: written, limit });
            }
            Ok(())
        })?;
        sums.insert(db.name.clone(), sum.finish());
    }
    let (files, last) = w.finish();
    Ok((files, last, sums))
}

/// `ROLE`, `VERSION` and images.
fn image_steps(plan: &mut Plan, sources: &Sources, seen: &Inspected, base: &Node, decided: &Decided) {
    let Some(dir) = &base.meta.image_dir else { return };
    plan.steps.push(Step::Mkdir { to: "image".to_owned(), mode: None });
    let mut placed = HashSet::new();
    let mut copy = |plan: &mut Plan, n: &Node, object: &str, last: bool| {
        let found = sources.get(n.source).and_then(|s| s.stat(object).ok().flatten());
        let Some(size) = found.map(|e| e.size) else { return };
        let root = n.meta.image_dir.as_deref().unwrap_or_default();
        let to = format!("image{}", object.strip_prefix(root).unwrap_or_default());
        if placed.insert(to.clone()) {
            for sub in ["image/v2", "image/starmgr", "image/starmgr/v2"] {
                let known = plan.steps.iter().any(|s| matches!(s, Step::Mkdir { to, .. } if to == sub));
                if to.starts_with(&format!("{sub}/")) && !known {
                    plan.steps.push(Step::Mkdir { to: sub.to_owned(), mode: None });
                }
            }
            let (source, object) = (n.source, object.to_owned());
            plan.steps.push(Step::Copy { source, object, to, size, range: None, mode: None, last });
        }
    };
    for n in image_donors(seen, base) {
        for i in n.meta.images.iter().chain(&n.meta.starmgr) {
            if matches!(i.state, ImageState::Bad { .. }) {
                continue;
            }
            copy(plan, n, &i.name, false);
            if i.form == 2
                && let Some((path, _)) = i.name.rsplit_once('/')
            {
                let sum = format!("{path}/checksum.{}", i.journal_id);
                copy(plan, n, &sum, false);
            }
        }
    }
    let name = &decided.node.name;
    let role = base.meta.role.clone().unwrap_or_default();
    let is_follower = base.meta.fe_role() == FeRole::Follower && base.meta.node_name() == Some(name.as_str());
    if is_follower {
        copy(plan, base, &format!("{dir}/ROLE"), false);
    } else {
        let mut text = format!("role=FOLLOWER\nname={name}\n");
        if let Some(h) = role.get("hostType") {
            text.push_str(&format!("hostType={h}\n"));
        }
        let what = "ROLE".to_owned();
        let size = text.len() as u64;
        plan.steps.push(Step::Write(WriteStep {
            to: "image/ROLE".to_owned(),
            what,
            size,
            args: json!({"text": text}),
            mode: Some(0o644),
            last: false,
        }));
    }
    let holder = std::iter::once(base).chain(seen.nodes.iter()).find(|n| n.meta.version.is_some());
    if let Some(n) = holder {
        let dir = n.meta.image_dir.as_deref().unwrap_or_default();
        copy(plan, n, &format!("{dir}/VERSION"), true);
    }
}

/// The base, and where its images are damaged another node whose image joins the journal.
fn image_donors<'a>(seen: &'a Inspected, base: &'a Node) -> Vec<&'a Node> {
    let journal = base.journal();
    let joins = |n: &Node| {
        n.meta.images.iter().filter(|i| !matches!(i.state, ImageState::Bad { .. })).any(|i| {
            journal.first.is_none_or(|f| f <= i.journal_id.saturating_add(1))
                && journal.max.is_none_or(|m| i.journal_id <= m)
        })
    };
    let mut out = vec![base];
    if !joins(base)
        && let Some(other) = seen.nodes.iter().find(|n| n.source != base.source && joins(n))
    {
        out.push(other);
    }
    out
}

/// UUID of the plan in words.
#[must_use]
pub fn shown_uuid(hex: &str) -> String {
    let half = |r: std::ops::Range<usize>| hex.get(r).and_then(|h| u64::from_str_radix(h, 16).ok()).unwrap_or(0);
    uuid_text([half(0..16), half(16..32)])
}

/// The drawn values that a plan holds.
///
/// # Errors
///
/// When the plan is not of this form.
pub fn drawn_of(decided: &Decided) -> Result<Drawn> {
    let half = |r: std::ops::Range<usize>| decided.uuid.get(r).and_then(|h| u64::from_str_radix(h, 16).ok());
    match (half(0..16), half(16..32)) {
        (Some(a), Some(b)) => Ok(Drawn { now: decided.now_ms, uuid: [a, b] }),
        _ => Err(Error::Usage("the plan's uuid is no UUID".to_owned())),
    }
}

/// How many keys of a node are lost, for the runbook.
#[must_use]
pub fn lost(node: &Node) -> u64 {
    checks::lost_keys(node)
}
