//! The text of the configuration files.

use recovery_core::{Result, names};

use super::node::{Node, Role, network};
use crate::format::pg::control::ControlFile;
use crate::inspect::pg::State;
use crate::reader::pg::slots::SlotState;

/// Where the shared data is for the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// On the PFS disk, as it was.
    Pfs,
    /// Extracted to this directory.
    Local(String),
    /// In the node's own directory: the stock server.
    Own,
}

fn set(out: &mut String, key: &str, value: &str) {
    out.push_str(key);
    out.push_str(" = ");
    out.push_str(value);
    out.push('\n');
}

fn quoted(out: &mut String, key: &str, value: &str) -> Result<()> {
    set(out, key, &names::conf_value(value)?);
    Ok(())
}

fn note(out: &mut String, text: &str) {
    out.push_str("\n# ");
    out.push_str(text);
    out.push('\n');
}

/// Slots the server will find, and whether one of them is logical.
fn slots(state: &State) -> (usize, bool) {
    let good = state.slots.iter().filter_map(|s| match &s.state {
        SlotState::Good(slot) => Some(slot.physical()),
        _ => None,
    });
    let kinds: Vec<bool> = good.collect();
    (kinds.len(), kinds.contains(&false))
}

/// `postgresql.conf` of a node; `primary` is the one it follows.
///
/// # Errors
///
/// When a value cannot stand in a configuration file.
pub fn postgresql(
    node: &Node,
    primary: &Node,
    state: &State,
    control: &ControlFile,
    storage: &Storage,
) -> Result<String> {
    let mut t = format!(
        "# Server configuration of node {}, made by recover.\n# A setting named twice counts where it stands last.\n",
        node.name
    );
    note(&mut t, "Connections");
    set(&mut t, "port", &node.port.to_string());
    quoted(&mut t, "listen_addresses", if *storage == Storage::Own { "localhost" } else { "0.0.0.0" })?;
    limits(&mut t, state, control);
    if *storage != Storage::Own {
        polardb(&mut t, node, state, storage)?;
    }
    note(&mut t, "Write-ahead log");
    let fpw = match storage {
        // PFS writes 4 KiB pages whole; elsewhere a page can be torn, and only its image in the log repairs it.
        Storage::Pfs => "off",
        Storage::Local(_) | Storage::Own => "on",
    };
    set(&mut t, "full_page_writes", fpw);
    // As initdb writes them; the server refuses less than two segments, and PolarDB's have 1 GiB.
    let segment = u64::from(control.xlog_seg_size) >> 20;
    set(&mut t, "min_wal_size", &format!("{}MB", segment.saturating_mul(5).max(80)));
    set(&mut t, "max_wal_size", &format!("{}MB", segment.saturating_mul(64).max(1024)));
    set(&mut t, "wal_log_hints", if control.wal_log_hints { "on" } else { "off" });
    set(&mut t, "track_commit_timestamp", if control.track_commit_timestamp { "on" } else { "off" });
    if state.relations.files.iter().any(|f| f.entry.name.contains("pg_tblspc/"))
        && *storage == Storage::Own
        && state.major >= 15
    {
        note(&mut t, "The tablespaces stand as directories in pg_tblspc, not behind links.");
        set(&mut t, "allow_in_place_tablespaces", "on");
    }
    note(&mut t, "Log and locale");
    set(&mut t, "logging_collector", "on");
    quoted(&mut t, "log_directory", if *storage == Storage::Own { "log" } else { "pg_log" })?;
    // The server itself turns "\t" into a tab when it reads the file, so it must not be escaped again.
    set(&mut t, "log_line_prefix", if *storage == Storage::Own { "'%m [%p] '" } else { r"'%p\t%r\t%u\t%m\t'" });
    for key in ["lc_messages", "lc_monetary", "lc_numeric", "lc_time"] {
        quoted(&mut t, key, "C")?;
    }
    quoted(&mut t, "timezone", "UTC")?;
    quoted(&mut t, "log_timezone", "UTC")?;
    if node.role != Role::Primary && state.major >= 12 {
        note(&mut t, "The primary it follows; put its address in place of PRIMARY_HOST.");
        quoted(&mut t, "primary_slot_name", &node.name)?;
        quoted(&mut t, "primary_conninfo", &conninfo(node, primary))?;
    }
    Ok(t)
}

fn conninfo(node: &Node, primary: &Node) -> String {
    format!("host=PRIMARY_HOST port={} user=postgres dbname=postgres application_name={}", primary.port, node.name)
}

fn limits(t: &mut String, state: &State, control: &ControlFile) {
    let (slots, logical) = slots(state);
    note(t, "Limits: a replica does not start with less than the control file says.");
    let at_least = |value: i32, least: usize| value.max(i32::try_from(least).unwrap_or(i32::MAX)).to_string();
    set(t, "max_connections", &at_least(control.max_connections, 10));
    set(t, "max_worker_processes", &at_least(control.max_worker_processes, 8));
    set(t, "max_wal_senders", &at_least(control.max_wal_senders.unwrap_or(10), 10));
    set(t, "max_prepared_transactions", &at_least(control.max_prepared_xacts, state.prepared.len()));
    set(t, "max_locks_per_transaction", &at_least(control.max_locks_per_xact, 64));
    set(t, "max_replication_slots", &slots.max(10).to_string());
    let level = if logical || control.wal_level >= 2 { "logical" } else { "replica" };
    set(t, "wal_level", level);
    set(t, "shared_buffers", "128MB");
}

fn polardb(t: &mut String, node: &Node, state: &State, storage: &Storage) -> Result<()> {
    note(t, "Shared storage");
    set(t, "polar_hostid", &node.hostid.to_string());
    set(t, "polar_enable_shared_storage_mode", "on");
    quoted(t, "polar_disk_name", &node.disk)?;
    let (dir, local) = match storage {
        Storage::Local(path) => (format!("file-dio://{}/", path.trim_end_matches('/')), "on"),
        _ => (node.datadir.clone(), "off"),
    };
    quoted(t, "polar_datadir", &dir)?;
    set(t, "polar_vfs.localfs_mode", local);
    quoted(t, "polar_storage_cluster_name", "disk")?;
    quoted(t, "shared_preload_libraries", "$libdir/polar_vfs,$libdir/polar_worker")?;
    set(t, "polar_has_partial_write", if local == "on" { "on" } else { "off" });
    note(t, "Without these a replica fails when it is promoted.");
    set(t, "polar_logindex_mem_size", "64MB");
    set(t, "polar_xlog_queue_buffers", "64MB");
    set(t, "polar_xlog_page_buffers", "64MB");
    if state.major >= 15 {
        set(t, "polar_resource_manager.enable_resource_manager", "off");
    }
    Ok(())
}

/// `recovery.conf`, which version 11 reads in place of a signal file.
///
/// # Errors
///
/// When a value cannot stand in a configuration file.
pub fn recovery(node: &Node, primary: &Node) -> Result<String> {
    let mut t = format!("# Role of node {}, made by recover.\n", node.name);
    quoted(&mut t, if node.role == Role::Standby { "standby_mode" } else { "polar_replica" }, "on")?;
    quoted(&mut t, "recovery_target_timeline", "latest")?;
    quoted(&mut t, "primary_slot_name", &node.name)?;
    quoted(&mut t, "primary_conninfo", &conninfo(node, primary))?;
    Ok(t)
}

/// `pg_hba.conf`: this machine, and the network that was named.
///
/// # Errors
///
/// When the network makes no sense.
pub fn hba(net: Option<&str>) -> Result<String> {
    let mut t = String::from(
        "# Who may connect, made by recover.\n\
         # This machine is trusted, as in a directory that was just made: change it before others can log in here.\n\
         # TYPE  DATABASE     USER  ADDRESS        METHOD\n\
         local   all          all                  trust\n\
         host    all          all   127.0.0.1/32   trust\n\
         host    all          all   ::1/128        trust\n\
         local   replication  all                  trust\n\
         host    replication  all   127.0.0.1/32   trust\n\
         host    replication  all   ::1/128        trust\n\n",
    );
    match net {
        Some(net) => {
            let net = network(net)?;
            t.push_str(&format!(
                "host    all          all       {net}   md5\nhost    replication  postgres  {net}   trust\n"
            ));
        }
        None => t.push_str(
            "# The usual lines of a PolarDB cluster let every address in, and trust a network for replication.\n\
             # They are not in force, because no network was named: run again with --net CIDR, or edit these.\n\
             #host    all          all       0.0.0.0/0     md5\n\
             #host    replication  postgres  10.0.0.0/16   trust\n",
        ),
    }
    Ok(t)
}

/// `pg_ident.conf`.
#[must_use]
pub fn ident() -> String {
    "# Maps of user names, made by recover: none.\n# MAPNAME  SYSTEM-USERNAME  PG-USERNAME\n".to_owned()
}

/// Directories of a node, as the engine's own script makes them.
#[must_use]
pub fn directories(major: u32) -> Vec<&'static str> {
    let mut out = vec![
        "base",
        "global",
        "pg_dynshmem",
        "pg_log",
        "pg_logical",
        "pg_logical/mappings",
        "pg_logical/snapshots",
        "pg_notify",
        "pg_replslot",
        "pg_serial",
        "pg_snapshots",
        "pg_stat",
        "pg_stat_tmp",
        "pg_subtrans",
        "pg_tblspc",
    ];
    if major >= 12 {
        out.extend([
            "pg_twophase",
            "pg_commit_ts",
            "pg_multixact",
            "pg_multixact/members",
            "pg_multixact/offsets",
            "pg_xact",
        ]);
    }
    out
}
