//! Which nodes are to be written: the words of the command line, and the slots that show which replicas existed.

use recovery_core::{Error, Result, names};
use serde::{Deserialize, Serialize};

use crate::inspect::pg::State;
use crate::reader::pg::slots::SlotState;

/// The engine's options of `plan` and `rescue`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// `name=N,role=primary|replica|standby,hostid=H,port=P[,disk=D,datadir=P]`, repeated.
    pub node: Vec<String>,
    /// Network that may connect, as address/bits.
    pub net: Option<String>,
    /// Extract the shared data beside the nodes and run without PFS.
    pub localfs: bool,
    /// Make one directory that the stock server starts.
    pub vanilla: bool,
    /// Path of the cluster in the source, where there are several.
    pub cluster: Option<String>,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Writes the shared disk.
    Primary,
    /// Reads the primary's shared disk.
    Replica,
    /// Has a shared disk of its own.
    Standby,
}

/// A node to be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Directory, application name and slot name.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// `polar_hostid`.
    pub hostid: u32,
    /// Port.
    pub port: u16,
    /// Name of the disk to PFS.
    pub disk: String,
    /// `polar_datadir`.
    pub datadir: String,
}

/// What is there when nothing is said.
pub const DISK: &str = "nvme1n1";

struct Said<'a> {
    name: Option<&'a str>,
    role: Role,
    hostid: Option<u32>,
    port: Option<u16>,
    disk: Option<&'a str>,
    datadir: Option<&'a str>,
}

fn parse(text: &str) -> Result<Said<'_>> {
    let bad = |what: &str| Error::Usage(format!("--node {}: {what}", names::terminal(text)));
    let mut said = Said { name: None, role: Role::Replica, hostid: None, port: None, disk: None, datadir: None };
    for pair in text.split(',') {
        let (key, value) = pair.split_once('=').ok_or_else(|| bad("write it as name=N,role=R,hostid=H,port=P"))?;
        match key.trim() {
            "name" => said.name = Some(value),
            "role" => {
                said.role = match value {
                    "primary" => Role::Primary,
                    "replica" => Role::Replica,
                    "standby" => Role::Standby,
                    _ => return Err(bad("the role is primary, replica or standby")),
                }
            }
            "hostid" => said.hostid = Some(value.parse().map_err(|_| bad("hostid is a number"))?),
            "port" => {
                said.port = Some(value.parse().ok().filter(|p| *p > 0).ok_or_else(|| bad("port is from 1 to 65535"))?);
            }
            "disk" => said.disk = Some(value),
            "datadir" => said.datadir = Some(value),
            _ => return Err(bad("known are name, role, hostid, port, disk, datadir")),
        }
    }
    Ok(said)
}

/// A slot or node name: what PostgreSQL accepts as a slot name, so that it is safe in paths and configuration.
fn slot_name(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The nodes to write: a primary, and a replica for each slot that is one's or that was named.
///
/// # Errors
///
/// When a word makes no sense, or a standby would write the primary's disk.
pub fn nodes(options: &Options, state: &State, root: &str) -> Result<Vec<Node>> {
    let said = options.node.iter().map(|n| parse(n)).collect::<Result<Vec<_>>>()?;
    let mut out: Vec<Node> = Vec::new();
    let primary = said.iter().find(|s| s.role == Role::Primary);
    if said.iter().filter(|s| s.role == Role::Primary).count() > 1 {
        return Err(Error::Usage("--node: there can be only one primary".to_owned()));
    }
    let disk = primary.and_then(|p| p.disk).unwrap_or(DISK).to_owned();
    let shown = if root.is_empty() { "shared_data" } else { root };
    let datadir = primary.and_then(|p| p.datadir).map_or_else(|| format!("/{disk}/{shown}/"), slashed);
    out.push(Node {
        name: primary.and_then(|p| p.name).unwrap_or("primary").to_owned(),
        role: Role::Primary,
        hostid: primary.and_then(|p| p.hostid).unwrap_or(1),
        port: primary.and_then(|p| p.port).unwrap_or(5432),
        disk: disk.clone(),
        datadir: datadir.clone(),
    });
    for s in said.iter().filter(|s| s.role != Role::Primary) {
        let name = s.name.ok_or_else(|| Error::Usage("--node: a replica or standby needs name=".to_owned()))?;
        let (d, p) =
            if s.role == Role::Standby { standby(s, name, &disk, &datadir)? } else { (disk.clone(), datadir.clone()) };
        let node = Node {
            name: name.to_owned(),
            role: s.role,
            hostid: s.hostid.unwrap_or(0),
            port: s.port.unwrap_or(0),
            disk: d,
            datadir: p,
        };
        out.push(node);
    }
    for found in &state.slots {
        if let SlotState::Good(slot) = &found.state
            && slot.replica()
            && !out.iter().any(|n| n.name == found.name)
        {
            let node = Node {
                name: found.name.clone(),
                role: Role::Replica,
                hostid: 0,
                port: 0,
                disk: disk.clone(),
                datadir: datadir.clone(),
            };
            out.push(node);
        }
    }
    number(&mut out);
    check(&out)?;
    Ok(out)
}

fn slashed(path: &str) -> String {
    if path.ends_with('/') { path.to_owned() } else { format!("{path}/") }
}

fn standby(s: &Said<'_>, name: &str, disk: &str, datadir: &str) -> Result<(String, String)> {
    let why = "a standby writes its own shared storage: name it with disk=D,datadir=/D/DIR/, not the primary's";
    let refuse = || Error::refuse(recovery_core::Reason::Unsafe, format!("--node {}: {why}", names::terminal(name)));
    let (d, p) = s.disk.zip(s.datadir).ok_or_else(refuse)?;
    let p = slashed(p);
    if d == disk || p == datadir { Err(refuse()) } else { Ok((d.to_owned(), p)) }
}

/// Gives numbers and ports to those that were not given any.
fn number(nodes: &mut [Node]) {
    let ids: Vec<u32> = nodes.iter().map(|n| n.hostid).collect();
    let mut free = (2..).filter(|i| !ids.contains(i));
    for n in nodes.iter_mut() {
        if n.hostid == 0 {
            n.hostid = free.next().unwrap_or(u32::MAX);
        }
        if n.port == 0 {
            n.port = 5432;
        }
    }
}

fn check(nodes: &[Node]) -> Result<()> {
    for (i, n) in nodes.iter().enumerate() {
        let shown = names::terminal(&n.name);
        if !slot_name(&n.name) || ["shared_data"].contains(&n.name.as_str()) {
            return Err(Error::Usage(format!("node {shown}: use lower-case letters, digits and '_', at most 63")));
        }
        let others = nodes.iter().skip(i + 1);
        if others.clone().any(|o| o.name == n.name) {
            return Err(Error::Usage(format!("node {shown}: named twice")));
        }
        if others.clone().any(|o| o.hostid == n.hostid) {
            return Err(Error::Usage(format!("node {shown}: hostid {} is used twice", n.hostid)));
        }
        let word = |t: &str| !t.is_empty() && t.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
        if !word(&n.disk)
            || n.disk.contains('/')
            || !n.datadir.starts_with('/')
            || !word(&n.datadir)
            || n.datadir.contains("..")
        {
            return Err(Error::Usage(format!(
                "node {shown}: disk is a name and datadir an absolute path of plain characters"
            )));
        }
    }
    Ok(())
}

/// The network as PostgreSQL takes it.
///
/// # Errors
///
/// When it is not an address with a number of bits.
pub fn network(text: &str) -> Result<String> {
    let bad = || Error::Usage(format!("--net {}: write it as 10.0.0.0/16", names::terminal(text)));
    let (address, bits) = text.split_once('/').ok_or_else(bad)?;
    let address: std::net::IpAddr = address.parse().map_err(|_| bad())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits: u8 = bits.parse().ok().filter(|b| *b <= most).ok_or_else(bad)?;
    Ok(format!("{address}/{bits}"))
}
