//! The commands that are left to the operator.

use recovery_core::names;

use super::conf::Storage;
use super::node::{Node, Role};
use crate::inspect::pg::State;
use crate::reader::pg::slots::SlotState;

/// Commands that take away what would turn the primary into something else.
fn removals(state: &State, primary: &Node, storage: &Storage) -> Vec<String> {
    if *storage != Storage::Pfs {
        return Vec::new();
    }
    let remove = |rel: &&'static str| format!("pfs -C disk rm {}{rel}", primary.datadir);
    state.leftovers.iter().map(remove).collect()
}

/// Lines of shell that bring the cluster up; `here` is the directory of the result.
#[must_use]
pub fn commands(nodes: &[Node], state: &State, storage: &Storage, here: &str, image: &str) -> Vec<String> {
    let mut out = Vec::new();
    let q = |s: &str| names::shell(s).into_owned();
    out.push(format!("chown -R postgres: {}", q(here)));
    if let (Storage::Pfs, Some(primary)) = (storage, nodes.first()) {
        let disk = &primary.disk;
        let link = if image.starts_with("/dev/") {
            format!("ln -s {} /dev/{disk}", q(image))
        } else {
            format!("ln -s \"$(losetup -f --show {})\" /dev/{disk}", q(image))
        };
        if image != format!("/dev/{disk}") {
            out.push(link);
        }
        out.push(format!("/usr/local/polarstore/pfsd/bin/start_pfsd.sh -p {disk} -w 2"));
        out.push(format!("pfs -C disk ls {}", primary.datadir));
        out.extend(removals(state, primary, storage));
    }
    let pg = |n: &Node| format!("pg_ctl -D {} -w start", q(&format!("{here}/{}", n.name)));
    for n in nodes {
        match n.role {
            Role::Primary => out.push(format!("sudo -u postgres {}", pg(n))),
            Role::Replica => out.push(format!(
                "sudo -u postgres {}   # on its own host, after PRIMARY_HOST is set in its postgresql.conf",
                pg(n)
            )),
            Role::Standby => {
                out.push(format!(
                    "# {}: first copy the primary: pg_basebackup -D ... --polardata={} -X stream, then",
                    n.name, n.datadir
                ));
                out.push(format!("sudo -u postgres {}", pg(n)));
            }
        }
    }
    out
}

/// The whole runbook as text.
#[must_use]
pub fn text(nodes: &[Node], state: &State, storage: &Storage, here: &str, image: &str) -> String {
    let mut t = String::from("Runbook of the recovered cluster\n================================\n\n");
    let c = state.usable.as_ref().map(|(c, _)| c);
    if let Some(c) = c {
        t.push_str(&format!(
            "System identifier {}, state \"{}\", timeline {}.\n",
            c.system_identifier, c.state, c.checkpoint_copy.this_tli
        ));
        t.push_str(&format!("Recovery begins at {}", c.checkpoint_copy.redo));
    }
    if let Some(s) = &state.scan {
        t.push_str(&format!(" and ends at {} ({} records).", s.end, s.summary.records));
    }
    t.push_str("\n\nBefore anything is started: make sure that no other server writes this disk. Neither PFS nor PolarDB has a\n");
    t.push_str("lock that reaches beyond one host.\n\n");
    t.push_str("Commands, in this order, from the directory that holds this file:\n\n");
    for line in commands(nodes, state, storage, here, image) {
        t.push_str("    ");
        t.push_str(&line);
        t.push('\n');
    }
    let left: Vec<&str> = state
        .slots
        .iter()
        .filter_map(|s| match &s.state {
            SlotState::Good(slot) if slot.physical() && !nodes.iter().any(|n| n.name == s.name) => {
                Some(s.name.as_str())
            }
            _ => None,
        })
        .collect();
    if !left.is_empty() {
        t.push_str("\nPhysical slots whose consumer is not known to be a replica; write a node for one with:\n\n");
        for name in left {
            t.push_str(&format!("    --node name={name},role=replica,hostid=N,port=5432\n"));
            t.push_str(&format!("    --node name={name},role=standby,hostid=N,port=5432,disk=D,datadir=/D/DIR/\n"));
        }
    }
    if !state.leftovers.is_empty() {
        t.push_str("\nLeftovers in the shared directory that change the role of a server:\n\n");
        for l in &state.leftovers {
            t.push_str(&format!("    {l}\n"));
        }
    }
    t
}
