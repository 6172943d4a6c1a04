//! The steps that remain after a rescue, with the user's own paths and names.

use recovery_core::names::shell;

use crate::inspect::{Inspected, Node};
use crate::meta::FeRole;
use crate::plan::{Decided, Options, Recipe};

/// The lines of the runbook.
#[must_use]
pub fn lines(seen: &Inspected, base: &Node, decided: &Decided, options: &Options) -> Vec<String> {
    let mut out = Vec::new();
    let era = era(base);
    out.push(format!(
        "base: {} ({}); node {} at {}:{}",
        base.path, era.name, decided.node.name, decided.node.host, decided.node.port
    ));
    out.push("1. stop every frontend; keep every old meta directory until the end".to_owned());
    let meta = base.path.trim_end_matches('/');
    let meta = meta.strip_suffix("/bdb").unwrap_or(meta);
    out.push(format!("2. on {}: mv {} {}", decided.node.host, shell(meta), shell(&format!("{meta}.before-rescue"))));
    out.push(format!(
        "   cp -a NEWMETA {}   (without its .recover directory; owned by the user the frontend runs as)",
        shell(meta)
    ));
    group_line(&mut out, decided, options, &era);
    out.push(format!("4. start this frontend alone: bin/start_fe.sh --daemon; heap (-Xmx in fe.conf JAVA_OPTS) larger than bdb: at least {}", heap(base)));
    out.push("5. it must become leader: SHOW FRONTENDS; (IsMaster / Role LEADER true, Alive true); check data, then ALTER SYSTEM CREATE IMAGE; where the version has it".to_owned());
    others(&mut out, seen, base, decided);
    if base.meta.fe_role() == FeRole::Observer {
        observer(&mut out, decided, &era);
    }
    tablets(&mut out, seen, base, decided, options, &era);
    out.push(format!("undo: rm -r {0}; mv {0}.before-rescue {0}", shell(meta)));
    out
}

struct Era {
    name: &'static str,
    reset: &'static str,
    recovery: &'static str,
    modern: bool,
}

/// What the files tell of the product's version.
fn era(base: &Node) -> Era {
    let v2 = base.meta.images.iter().any(|i| i.form == 2);
    match base.log.version() {
        _ if v2 => Era {
            name: "StarRocks 3.4 or later",
            reset: "bdbje_reset_election_group = true",
            recovery: "metadata_enable_recovery_mode = true in every fe.conf (loading is forbidden meanwhile); SHOW PROC '/meta_recovery'; shows how far it is; unset it after ALTER SYSTEM CREATE IMAGE;",
            modern: true,
        },
        0..=14 => Era {
            name: "Doris, or StarRocks 1.x to 2.x (JE 7.3)",
            reset: "metadata_failure_recovery = true",
            recovery: "ADMIN SET FRONTEND CONFIG (\"recover_with_empty_tablet\" = \"true\"); creates lost tablets empty",
            modern: false,
        },
        15 => Era {
            name: "StarRocks 2.4 or 2.5 (JE 7.5)",
            reset: "metadata_failure_recovery = true",
            recovery: "ADMIN SET FRONTEND CONFIG (\"recover_with_empty_tablet\" = \"true\"); creates lost tablets empty",
            modern: false,
        },
        _ => Era {
            name: "StarRocks 2.5 or later, or Doris (JE 18.3)",
            reset: "bdbje_reset_election_group = true (3.1.10, 3.2.5, 3.3 and later; before: metadata_failure_recovery = true)",
            recovery: "ADMIN SET FRONTEND CONFIG (\"recover_with_empty_tablet\" = \"true\"); creates lost tablets empty; where the version has it metadata_enable_recovery_mode = true in every fe.conf, SHOW PROC '/meta_recovery';",
            modern: false,
        },
    }
}

fn group_line(out: &mut Vec<String>, decided: &Decided, options: &Options, era: &Era) {
    out.push(match (decided.recipe, options.keep_group) {
        (Recipe::Copy, true) => "3. the group was left as it is: the other electable nodes must be reachable, or it will not elect itself".to_owned(),
        (Recipe::Copy, false) => format!("3. no group is stored here: set {} for the first start, and unset it afterwards", era.reset),
        (_, true) => "3. only this node's own record was changed; with more electable nodes the others must be reachable".to_owned(),
        _ => format!("3. the group was reset offline (UUID {}): do not set metadata_failure_recovery or bdbje_reset_election_group; unset them in fe.conf", crate::plan::shown_uuid(&decided.uuid)),
    });
}

fn heap(base: &Node) -> String {
    let gib = base.log.bytes().div_ceil(1 << 30).saturating_mul(2).max(8);
    format!("{gib} GB")
}

fn others(out: &mut Vec<String>, seen: &Inspected, base: &Node, decided: &Decided) {
    let port = decided.node.port;
    out.push(
        "6. the others, one after the other (their old directories cannot rejoin: the group is a new one):".to_owned(),
    );
    let mut any = false;
    for m in base.group.members().filter(|m| m.name != decided.node.name) {
        any = true;
        let at = format!("{}:{}", m.host, m.port);
        out.push(format!("   ALTER SYSTEM DROP FOLLOWER \"{at}\";  on {0}: empty its meta directory, then bin/start_fe.sh --helper {1}:{port} --daemon;  ALTER SYSTEM ADD FOLLOWER \"{at}\";", m.host, decided.node.host));
    }
    for n in seen.nodes.iter().filter(|n| n.source != base.source && n.meta.fe_role() == FeRole::Observer) {
        any = true;
        out.push(format!("   observer {}: ALTER SYSTEM DROP OBSERVER, empty its meta directory, start with --helper {}:{port}, ALTER SYSTEM ADD OBSERVER", n.path, decided.node.host));
    }
    if !any {
        out.push(format!(
            "   none is stored; observers: drop, empty meta, start with --helper {}:{port}, add",
            decided.node.host
        ));
    }
}

fn observer(out: &mut Vec<String>, decided: &Decided, era: &Era) {
    let at = format!("{}:{}", decided.node.host, decided.node.port);
    out.push("7. the base was an OBSERVER: its role in the frontend list stays OBSERVER although it leads, and loads will not work until a second round:".to_owned());
    out.push(format!("   add a new FOLLOWER on another host (ALTER SYSTEM ADD FOLLOWER \"HOST:PORT\"; start it with --helper {at}), wait until it is alive,"));
    out.push(format!("   stop this one, make the new one leader, ALTER SYSTEM DROP OBSERVER \"{at}\", empty its meta directory, and add it again as FOLLOWER"));
    if era.modern {
        out.push("   from 3.3 on the engine's own reset also rewrites the frontend list in the image; an offline reset does not touch the image".to_owned());
    }
}

fn tablets(out: &mut Vec<String>, seen: &Inspected, base: &Node, decided: &Decided, options: &Options, era: &Era) {
    let cut = options.until.is_some() || decided.recipe == Recipe::Scratch || seen.nodes.len() > 1;
    if cut {
        let lost = base.unaccounted.max(crate::plan::lost(base));
        if lost > 0 || options.until.is_some() {
            out.push(format!("lost operations ({lost} entries of the stream): tables, partitions and tablets they created are unknown to the frontend"));
        }
    }
    out.push("warning: backends are told to drop tablets the frontend does not know; before step 4 stop the backends or raise tablet trash retention, and copy what must not go".to_owned());
    out.push(format!("recovery mode of this version: {}", era.recovery));
}
