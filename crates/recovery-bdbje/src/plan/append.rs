//! The log as it is, cut at its end, and one more file that resets the group.

use recovery_core::{Context, Error, Result};

use super::group::{je_version, new_group, new_node};
use super::{Decided, Drawn, Identity, Made, Options, Recipe, Work, summarise};
use crate::format::group::{GROUP_DB, GROUP_DB_ID, GroupRecord, NodeRecord};
use crate::format::vlsn_index::{RANGE_KEY, VLSN_DB};
use crate::format::{Lsn, packed};
use crate::inspect::Node;
use crate::model::{Environment, Group, Role};
use crate::reader::scan::ScanOptions;
use crate::reader::{Log, scan_log};
use crate::writer::append::{IndexDb, Reset};
use crate::writer::writable;

pub(super) struct Whole<'a> {
    pub(super) base: &'a Node,
    pub(super) end: Option<Lsn>,
    pub(super) cx: &'a Context,
}

impl Whole<'_> {
    /// The log that may be kept as it is, cut at its end; `None` when a new one must be written.
    pub(super) fn appendable(&self) -> Result<Option<Log>> {
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

/// The log as it is, and one more file.
pub(super) fn append(
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
    let untouched = options.keep_group && same_address;
    let fallback = match env.database(GROUP_DB) {
        _ if untouched => None,
        None => Some("the log holds no group".to_owned()),
        Some(_) if version != writable(version) => {
            Some(format!("no real engine has confirmed an appended file of log version {version}"))
        }
        Some(_) => None,
    };
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
        fallback: None,
    };
    if fallback.is_some() && options.keep_group {
        let why = fallback.unwrap_or_default();
        return Err(Error::unsupported(format!("--keep-group with another name or address: {why}")));
    }
    if untouched || fallback.is_some() {
        decided.fallback = fallback;
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
    let work = Work { decided, keep, made: vec![(number, Made::Bytes(bytes))], losses: Vec::new() };
    crate::apply::prove(&work, &log, !options.keep_group, cx)?;
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
