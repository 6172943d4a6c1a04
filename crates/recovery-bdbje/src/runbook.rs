//! The steps that remain after a rescue, with the user's own paths and names.

use std::collections::HashSet;

use recovery_core::names::{shell, terminal};

use crate::format::{EntryType, Lsn};
use crate::inspect::{Inspected, Node};
use crate::meta::{FeRole, ImageState};
use crate::operations::{Operations, operations};
use crate::plan::{Decided, Options, Recipe, address_in_name, group_of};

/// Operations listed of one stretch that is left out.
const LISTED: usize = 60;

/// The lines of the runbook.
#[must_use]
pub fn lines(seen: &Inspected, base: &Node, decided: &Decided, options: &Options) -> Vec<String> {
    let mut out = Vec::new();
    let era = era(base);
    let node = &decided.node;
    let (name, host, port) = (terminal(&node.name), terminal(&node.host), node.port);
    out.push(format!("base: {} ({}); node {name} at {host}:{port} (by {})", base.path, era.name, node.from));
    left_out(&mut out, seen, base, decided, options, &era);
    out.push("1. stop every frontend; keep every old meta directory until the end".to_owned());
    let meta = base.path.trim_end_matches('/');
    let meta = meta.strip_suffix("/bdb").unwrap_or(meta);
    let old = format!("{meta}.before-rescue");
    out.push(format!(
        "2. on {host}, META being meta_dir of its fe.conf ({} unless that is a copy): mv META META.before-rescue; cp -a NEWDIR META; rm -r META/.recover; chown -R it to the user the frontend runs as",
        shell(meta)
    ));
    missing_files(&mut out, base, seen);
    group_line(&mut out, decided, options, &era);
    heap(&mut out, base);
    out.push("5. start this frontend alone, without --helper: bin/start_fe.sh --daemon; it must become leader by itself: SHOW FRONTENDS; (IsMaster true, or Role LEADER; Alive true)".to_owned());
    out.push(format!("6. check databases and tables; then write an image: {}", era.image));
    others(&mut out, seen, base, decided);
    if base.meta.fe_role() == FeRole::Observer {
        observer(&mut out, decided, &era);
    }
    out.push(format!(
        "undo, before the others were added again: stop the frontend, rm -r {0}; mv {1} {0}",
        shell(meta),
        shell(&old)
    ));
    out
}

/// What differs between versions of the product.
struct Era {
    name: &'static str,
    /// Setting of the engine's own reset.
    reset: &'static str,
    recovery: &'static str,
    image: &'static str,
    /// From 3.3 on the reset also rewrites the list of frontends.
    rewrites: bool,
}

const EMPTY_TABLETS: &str = "ADMIN SET FRONTEND CONFIG (\"recover_with_empty_tablet\" = \"true\"); lets queries pass over tablets that have no replica left";
const META_RECOVERY: &str = "metadata_enable_recovery_mode = true in every fe.conf before the start (loading is forbidden meanwhile); SHOW PROC '/meta_recovery'; shows partitions that are not yet recovered; when it is empty write an image, unset it and restart every frontend";

/// What the files tell of the product's version.
fn era(base: &Node) -> Era {
    let v2 = base.meta.images.iter().any(|i| i.form == 2);
    // The JSON form of the first kind of image, and the run mode, came with 3.0.
    let json = base.meta.images.iter().any(|i| i.form == 1 && !matches!(i.state, ImageState::Unverified { .. }));
    let three = base.meta.version_value("runMode").is_some() || json;
    let image = "ALTER SYSTEM CREATE IMAGE;";
    let own_image =
        "it is written after edit_log_roll_num journal entries (set it low for a while) or at the next checkpoint";
    match base.log.version() {
        _ if v2 => Era {
            name: "StarRocks 3.4 or later",
            reset: "bdbje_reset_election_group = true",
            recovery: META_RECOVERY,
            image,
            rewrites: true,
        },
        16.. if three => Era {
            name: "StarRocks 3.0 to 3.3",
            reset: "bdbje_reset_election_group = true (from 3.1.10, 3.2.5 and 3.3 on; before: metadata_failure_recovery = true)",
            recovery: META_RECOVERY,
            image,
            rewrites: false,
        },
        0..=14 => Era {
            name: "Doris, or StarRocks up to 2.x, with JE 7.3 or older",
            reset: "metadata_failure_recovery = true",
            recovery: EMPTY_TABLETS,
            image: own_image,
            rewrites: false,
        },
        15 => Era {
            name: "StarRocks 2.4 or 2.5 with JE 7.5",
            reset: "metadata_failure_recovery = true",
            recovery: EMPTY_TABLETS,
            image: own_image,
            rewrites: false,
        },
        _ => Era {
            name: "StarRocks 2.5 or later, or Doris, with JE 18",
            reset: "metadata_failure_recovery = true (StarRocks from 3.1.10, 3.2.5 and 3.3 on: bdbje_reset_election_group = true)",
            recovery: EMPTY_TABLETS,
            image: "ALTER SYSTEM CREATE IMAGE; where the version has it",
            rewrites: false,
        },
    }
}

/// Files around the log that the result lacks.
fn missing_files(out: &mut Vec<String>, base: &Node, seen: &Inspected) {
    if base.meta.image_dir.is_none() {
        out.push("   only a log was given: put image/ (ROLE, VERSION, image.*) of the same frontend beside bdb/ before the start".to_owned());
        return;
    }
    if seen.nodes.iter().all(|n| n.meta.version.is_none()) {
        out.push("   image/VERSION is missing everywhere: write it before the start, with clusterId=N and token=UUID; every backend keeps both in the file cluster_id of its storage directories. Without it the frontend makes a new cluster id and the backends refuse it".to_owned());
    }
    if base.needs_image() {
        out.push("   no whole image joins the journal: look for one on every other frontend (image/image.N, image/v2) before the start; damaged ones lie in damaged-image".to_owned());
    }
}

fn group_line(out: &mut Vec<String>, decided: &Decided, options: &Options, era: &Era) {
    let uuid = crate::plan::shown_uuid(&decided.uuid);
    if let Some(why) = &decided.fallback {
        out.push(format!(
            "3. the group was not reset here ({why}); let the frontend do it: in this fe.conf only, set {}; start it once as in 5; when it leads, remove the setting and restart it (left in place, it resets the group at every start)",
            era.reset
        ));
        return;
    }
    out.push(match (decided.recipe, options.keep_group) {
        (Recipe::Copy, _) => "3. the group was left as it is: a majority of its electable nodes must be reachable, or it will not elect itself".to_owned(),
        (_, true) => "3. only this node's own record was changed: with more electable nodes a majority must be reachable".to_owned(),
        _ => format!("3. the group was reset here (UUID {uuid}; this node is its only member): remove metadata_failure_recovery and bdbje_reset_election_group from fe.conf if they are set"),
    });
    if decided.recipe == Recipe::Scratch {
        let je = match decided.je_log_version {
            14 => "7.3.8",
            15 => "7.5",
            _ => "18.3",
        };
        out.push(format!(
            "   the log was written anew in log version {}: JE {je} or later opens it",
            decided.je_log_version
        ));
    }
}

/// The manual asks for a heap larger than the log, for the first load.
fn heap(out: &mut Vec<String>, base: &Node) {
    let bytes = base.log.bytes();
    let gib = bytes.div_ceil(1 << 30).saturating_mul(2).max(8);
    let mib = bytes.div_ceil(1 << 20);
    out.push(format!(
        "4. JAVA_OPTS in fe.conf: -Xmx larger than bdb ({mib} MiB), at least {gib} GB for the first start"
    ));
}

/// Followers by the stored group, observers by the nodes given.
fn others(out: &mut Vec<String>, seen: &Inspected, base: &Node, decided: &Decided) {
    let helper = format!("{}:{}", terminal(&decided.node.host), decided.node.port);
    out.push(
        "7. the others, one after the other; their old directories cannot rejoin, the group is a new one:".to_owned(),
    );
    let mut done: HashSet<String> = HashSet::new();
    let mut again = |kind: &str, at: String, host: &str| {
        if done.insert(at.clone()) {
            out.push(format!("   ALTER SYSTEM DROP {kind} \"{at}\"; ALTER SYSTEM ADD {kind} \"{at}\"; on {host}: move its meta directory aside, make an empty one, bin/start_fe.sh --helper {helper} --daemon; wait for Alive"));
        }
    };
    for m in group_of(base).members().filter(|m| m.name != decided.node.name) {
        let host = terminal(&m.host).into_owned();
        again("FOLLOWER", format!("{host}:{}", m.port), &host);
    }
    for n in seen.nodes.iter().filter(|n| n.source != base.source && n.meta.fe_role() == FeRole::Observer) {
        if let Some((host, port)) = n.meta.node_name().and_then(address_in_name) {
            let host = terminal(&host).into_owned();
            again("OBSERVER", format!("{host}:{port}"), &host);
        }
    }
    if done.is_empty() {
        out.push("   no other FOLLOWER is stored in the group".to_owned());
    }
    out.push("   observers are not stored in the group: SHOW FRONTENDS; names them; the same with OBSERVER in place of FOLLOWER".to_owned());
}

fn observer(out: &mut Vec<String>, decided: &Decided, era: &Era) {
    let at = format!("{}:{}", terminal(&decided.node.host), decided.node.port);
    out.push("8. the base was an OBSERVER: the list of frontends still calls it OBSERVER although it leads, and loads do not work until a second round:".to_owned());
    out.push(format!("   ALTER SYSTEM ADD FOLLOWER \"HOST:PORT\"; for a frontend on another host, start that with --helper {at} and an empty meta directory, wait until it is Alive and its ReplayedJournalId follows,"));
    out.push(format!("   stop every frontend, rescue the new FOLLOWER's meta directory in the same way and start it alone; then ALTER SYSTEM DROP OBSERVER \"{at}\"; empty its meta directory and add it again as FOLLOWER"));
    if era.rewrites {
        out.push("   or, from 3.3 on: start this one once with bdbje_reset_election_group = true: the engine's own reset records this frontend as the only FOLLOWER in the list (what is done here leaves the image as it is); then remove the setting".to_owned());
    }
}

/// What the result does not hold, and what backends will do about it.
fn left_out(out: &mut Vec<String>, seen: &Inspected, base: &Node, decided: &Decided, options: &Options, era: &Era) {
    let before = out.len();
    if options.until.is_some()
        && let Some(cut) = decided.cut.as_deref().and_then(|c| c.parse::<Lsn>().ok())
    {
        let ops = operations(base, &|lsn, _| lsn >= cut);
        list(out, &format!("left out behind {}", options.until.as_deref().unwrap_or_default()), &ops);
    }
    for d in &seen.ranking.diverged {
        let other = [d.a, d.b].into_iter().filter_map(|i| seen.nodes.get(i)).find(|n| n.source != base.source);
        let ours = [d.a, d.b].into_iter().filter_map(|i| seen.nodes.get(i)).any(|n| n.source == base.source);
        if let Some(other) = other.filter(|_| ours) {
            let ops = operations(other, &|_, e| e.header.vlsn.is_some_and(|v| v >= d.vlsn));
            list(out, &format!("left out: the branch of {} from VLSN {} on", other.path, d.vlsn), &ops);
        }
    }
    tail(out, base);
    newer(out, seen, base);
    doubtful(out, base, decided);
    holes(out, base, decided);
    let unknown = base.unaccounted.max(crate::plan::lost(base));
    if unknown > 0 {
        out.push(format!("destroyed: {unknown} entries of the stream; tables, partitions and tablets they created are not known to the frontend either"));
    }
    if out.len() > before {
        out.push("warning: backends are told to drop tablets the frontend does not know: before step 5 stop the backends, or copy their data, or raise how long they keep dropped tablets (trash_file_expire_time_sec); start them when the list above is dealt with".to_owned());
        out.push(format!("recovery mode of this version: {}", era.recovery));
    }
}

/// A tail that is cut off, where it may have held whole entries.
fn tail(out: &mut Vec<String>, base: &Node) {
    let Some(f) = base.scan.last_file() else { return };
    let Some(b) = f.bad.last().filter(|b| !b.resynced && !b.zeros) else { return };
    let torn = matches!(b.error, crate::format::FormatError::Short(_) | crate::format::FormatError::PastEnd { .. });
    if !torn || b.flipped {
        let n = b.end.saturating_sub(b.offset);
        out.push(format!(
            "cut off: {n} unreadable bytes at the end ({} from {:#x} on); whole entries among them are gone",
            terminal(&f.name),
            b.offset
        ));
    }
}

/// What other nodes of the same branch have behind the base's last commit.
fn newer(out: &mut Vec<String>, seen: &Inspected, base: &Node) {
    let Some((last, _)) = base.all.last_commit else { return };
    let parted = |n: &Node| {
        let is = |i: usize, of: &Node| seen.nodes.get(i).is_some_and(|m| m.source == of.source);
        seen.ranking.diverged.iter().any(|d| (is(d.a, n) && is(d.b, base)) || (is(d.b, n) && is(d.a, base)))
    };
    for n in seen.nodes.iter().filter(|n| n.source != base.source && !parted(n)) {
        if n.all.last_commit.is_some_and(|(v, _)| v > last) {
            let ops = operations(n, &|_, e| e.header.vlsn.is_some_and(|v| v > last));
            list(out, &format!("left out: what only {} holds behind VLSN {last}", n.path), &ops);
        }
    }
}

fn list(out: &mut Vec<String>, title: &str, ops: &Operations) {
    let Some((first, last)) = ops.range else { return };
    out.push(format!("{title}: {} journal entries, ids {first} to {last}", ops.total));
    out.extend(ops.lines(LISTED).into_iter().map(|l| format!("   {l}")));
}

/// Records in doubt that a new environment leaves out.
fn doubtful(out: &mut Vec<String>, base: &Node, decided: &Decided) {
    let Some(s) = base.scavenged.as_ref().filter(|_| decided.recipe == Recipe::Scratch && !base.tree_is_whole()) else {
        return;
    };
    let doubts: HashSet<Lsn> =
        s.databases.values().flat_map(|d| d.keys.values()).filter_map(|k| k.in_doubt().map(|v| v.lsn)).collect();
    if !doubts.is_empty() {
        let ops = operations(base, &|lsn, e| e.header.kind != EntryType::COMMIT && doubts.contains(&lsn));
        list(out, "left out because their commit is damaged", &ops);
    }
}

/// A frontend computes its last journal id from the number of records: it does not get over a hole.
fn holes(out: &mut Vec<String>, base: &Node, decided: &Decided) {
    if decided.recipe != Recipe::Scratch {
        return;
    }
    let image = base.meta.image().map_or(0, |i| i.journal_id);
    for db in base.journal().databases.iter().filter(|d| d.missing > 0 && d.max.is_some_and(|m| m > image)) {
        let Some(gap) = db.first_missing else { continue };
        out.push(format!(
            "journal ids are missing in database {} from {gap} on: the frontend stops there when it replays, and counts its last id too low. Either rescue again with --until journal:{} (everything before is consistent), or, where the version has it, list the ids in metadata_journal_skip_bad_journal_ids",
            terminal(&db.name),
            gap.saturating_sub(1)
        ));
    }
}
