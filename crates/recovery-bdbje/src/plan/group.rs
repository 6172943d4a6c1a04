//! Who the result will be, and the records of its group.

use recovery_core::{Error, Result};

use super::{Drawn, Identity, Options};
use crate::format::group::{GROUP_DB, GroupRecord, NodeRecord, NodeType};
use crate::inspect::Node;
use crate::model::Group;

/// The group as the node has it, or as it can be scavenged.
pub(crate) fn group_of(base: &Node) -> Group {
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
pub(crate) fn address_in_name(name: &str) -> Option<(String, i32)> {
    let mut parts = name.rsplitn(3, '_');
    let (_, port, host) = (parts.next()?, parts.next()?, parts.next()?);
    Some((host.to_owned(), port.parse().ok()?))
}

/// Who the result will be: what the user says, then `ROLE`, then the member that committed last, then any member.
pub(super) fn identity(base: &Node, group: &Group, options: &Options) -> Result<Identity> {
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
pub(super) fn je_version(group: &Group, version: u8) -> String {
    let known = group.nodes.iter().filter_map(|n| n.je_version.clone()).next_back();
    known.unwrap_or_else(|| match version {
        0..=14 => "7.3.8".to_owned(),
        15 => "7.5.17".to_owned(),
        _ => "18.3.20".to_owned(),
    })
}

pub(super) fn new_group(group: &Group, drawn: &Drawn) -> GroupRecord {
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

pub(super) fn new_node(id: &Identity, group: &GroupRecord, je: String, cbvlsn: i64, now: i64) -> NodeRecord {
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
