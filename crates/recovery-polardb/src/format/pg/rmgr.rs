//! Names of resource managers and of their records, as `pg_waldump` prints them.
//!
//! Upstream: `src/include/access/rmgrlist.h` and the `*_identify` functions in `src/backend/access/rmgrdesc`.

/// Names of the built-in resource managers, by id; the same from 11 to 17.
pub const NAMES: [&str; 22] = [
    "XLOG",
    "Transaction",
    "Storage",
    "CLOG",
    "Database",
    "Tablespace",
    "MultiXact",
    "RelMap",
    "Standby",
    "Heap2",
    "Heap",
    "Btree",
    "Hash",
    "Gin",
    "Gist",
    "Sequence",
    "SPGist",
    "BRIN",
    "CommitTs",
    "ReplicationOrigin",
    "Generic",
    "LogicalMessage",
];

/// `RM_XLOG_ID`.
pub const XLOG: u8 = 0;
/// `RM_XACT_ID`.
pub const XACT: u8 = 1;
/// `RM_SMGR_ID`.
pub const SMGR: u8 = 2;
/// `RM_DBASE_ID`.
pub const DATABASE: u8 = 4;
/// Shutdown checkpoint, of [`XLOG`].
pub const CHECKPOINT_SHUTDOWN: u8 = 0x00;
/// Online checkpoint, of [`XLOG`].
pub const CHECKPOINT_ONLINE: u8 = 0x10;
/// Change of the limits that `pg_control` keeps, of [`XLOG`].
pub const PARAMETER_CHANGE: u8 = 0x60;
/// End of recovery, of [`XLOG`].
pub const END_OF_RECOVERY: u8 = 0x90;

/// Name of a resource manager.
#[must_use]
pub fn name(rmid: u8) -> String {
    match NAMES.get(usize::from(rmid)) {
        Some(n) => (*n).to_owned(),
        None => format!("custom{rmid:03}"),
    }
}

/// Whether a server of versions 11 to 17 accepts the id (custom ones from 15 on).
#[must_use]
pub const fn valid(rmid: u8, major: u32) -> bool {
    (rmid as usize) < NAMES.len() || major >= 15 && rmid >= 128
}

/// Name of a kind of record; `None` where that version has none.
#[must_use]
pub fn identify(rmid: u8, info: u8, major: u32) -> Option<&'static str> {
    let high = info & 0xF0;
    let low = info & 0x70;
    Some(match rmid {
        0 => xlog(high, major)?,
        1 => *["COMMIT", "PREPARE", "ABORT", "COMMIT_PREPARED", "ABORT_PREPARED", "ASSIGNMENT", "INVALIDATION"]
            .get(usize::from(low >> 4))?,
        2 => pick(high, &[(0x10, "CREATE"), (0x20, "TRUNCATE")])?,
        3 | 18 => pick(high, &[(0, "ZEROPAGE"), (0x10, "TRUNCATE")])?,
        4 if major >= 15 => pick(high, &[(0, "CREATE_FILE_COPY"), (0x10, "CREATE_WAL_LOG"), (0x20, "DROP")])?,
        4 | 5 => pick(high, &[(0, "CREATE"), (0x10, "DROP")])?,
        6 => *["ZERO_OFF_PAGE", "ZERO_MEM_PAGE", "CREATE_ID", "TRUNCATE_ID"].get(usize::from(high >> 4))?,
        7 => pick(high, &[(0, "UPDATE")])?,
        8 => *["LOCK", "RUNNING_XACTS", "INVALIDATIONS"].get(usize::from(high >> 4))?,
        9 => heap2(high, major)?,
        10 => heap(high)?,
        11 => btree(high, major)?,
        12 => hash(high)?,
        13 => gin(high)?,
        14 => pick(
            high,
            &[
                (0, "PAGE_UPDATE"),
                (0x10, "DELETE"),
                (0x20, "PAGE_REUSE"),
                (0x30, "PAGE_SPLIT"),
                (0x60, "PAGE_DELETE"),
                (0x70, "ASSIGN_LSN"),
            ],
        )?,
        15 => pick(high, &[(0, "LOG")])?,
        16 => spgist(high)?,
        17 => brin(high)?,
        19 => pick(high, &[(0, "SET"), (0x10, "DROP")])?,
        20 => "Generic",
        21 => pick(high, &[(0, "MESSAGE")])?,
        _ => return None,
    })
}

fn pick(kind: u8, table: &[(u8, &'static str)]) -> Option<&'static str> {
    table.iter().find(|(k, _)| *k == kind).map(|(_, n)| *n)
}

fn xlog(kind: u8, major: u32) -> Option<&'static str> {
    const COMMON: [&str; 12] = [
        "CHECKPOINT_SHUTDOWN",
        "CHECKPOINT_ONLINE",
        "NOOP",
        "NEXTOID",
        "SWITCH",
        "BACKUP_END",
        "PARAMETER_CHANGE",
        "RESTORE_POINT",
        "FPW_CHANGE",
        "END_OF_RECOVERY",
        "FPI_FOR_HINT",
        "FPI",
    ];
    if let Some(n) = COMMON.get(usize::from(kind >> 4)) {
        return Some(n);
    }
    match (kind, major) {
        (0xC0, ..=13) => Some("POLAR_FPI_MULTI"),
        (0xD0, ..=13) => Some("POLAR_FPSI"),
        (0xE0, ..=13) => Some("POLAR_CSNLOG_ZEROPAGE"),
        (0xF0, ..=13) => Some("POLAR_CSNLOG_TRUNCATE"),
        (0xD0, _) => Some("OVERWRITE_CONTRECORD"),
        (0xE0, 17..) => Some("CHECKPOINT_REDO"),
        (0xF0, _) => Some("POLAR_WAL"),
        _ => None,
    }
}

fn heap2(kind: u8, major: u32) -> Option<&'static str> {
    if major < 14 {
        return pick(
            kind,
            &[
                (0, "REWRITE"),
                (0x10, "CLEAN"),
                (0x20, "FREEZE_PAGE"),
                (0x30, "CLEANUP_INFO"),
                (0x40, "VISIBLE"),
                (0x50, "MULTI_INSERT"),
                (0xD0, "MULTI_INSERT+INIT"),
                (0x60, "LOCK_UPDATED"),
                (0x70, "NEW_CID"),
            ],
        );
    }
    pick(
        kind,
        &[
            (0, "REWRITE"),
            (0x10, "PRUNE"),
            (0x20, "VACUUM"),
            (0x30, "FREEZE_PAGE"),
            (0x40, "VISIBLE"),
            (0x50, "MULTI_INSERT"),
            (0xD0, "MULTI_INSERT+INIT"),
            (0x60, "LOCK_UPDATED"),
            (0x70, "NEW_CID"),
        ],
    )
}

fn heap(kind: u8) -> Option<&'static str> {
    pick(
        kind,
        &[
            (0, "INSERT"),
            (0x80, "INSERT+INIT"),
            (0x10, "DELETE"),
            (0x20, "UPDATE"),
            (0xA0, "UPDATE+INIT"),
            (0x30, "TRUNCATE"),
            (0x40, "HOT_UPDATE"),
            (0xC0, "HOT_UPDATE+INIT"),
            (0x50, "HEAP_CONFIRM"),
            (0x60, "LOCK"),
            (0x70, "INPLACE"),
        ],
    )
}

fn btree(kind: u8, major: u32) -> Option<&'static str> {
    const NEW: [&str; 15] = [
        "INSERT_LEAF",
        "INSERT_UPPER",
        "INSERT_META",
        "SPLIT_L",
        "SPLIT_R",
        "INSERT_POST",
        "DEDUP",
        "DELETE",
        "UNLINK_PAGE",
        "UNLINK_PAGE_META",
        "NEWROOT",
        "MARK_PAGE_HALFDEAD",
        "VACUUM",
        "REUSE_PAGE",
        "META_CLEANUP",
    ];
    match (kind, major) {
        (0x50 | 0x60, ..=12) => None,
        _ => NEW.get(usize::from(kind >> 4)).copied(),
    }
}

fn hash(kind: u8) -> Option<&'static str> {
    const ALL: [&str; 13] = [
        "INIT_META_PAGE",
        "INIT_BITMAP_PAGE",
        "INSERT",
        "ADD_OVFL_PAGE",
        "SPLIT_ALLOCATE_PAGE",
        "SPLIT_PAGE",
        "SPLIT_COMPLETE",
        "MOVE_PAGE_CONTENTS",
        "SQUEEZE_PAGE",
        "DELETE",
        "SPLIT_CLEANUP",
        "UPDATE_META_PAGE",
        "VACUUM_ONE_PAGE",
    ];
    ALL.get(usize::from(kind >> 4)).copied()
}

fn gin(kind: u8) -> Option<&'static str> {
    const ALL: [&str; 9] = [
        "CREATE_PTREE",
        "INSERT",
        "SPLIT",
        "VACUUM_PAGE",
        "DELETE_PAGE",
        "UPDATE_META_PAGE",
        "INSERT_LISTPAGE",
        "DELETE_LISTPAGE",
        "VACUUM_DATA_LEAF_PAGE",
    ];
    ALL.get(usize::from(kind >> 4).checked_sub(1)?).copied()
}

fn spgist(kind: u8) -> Option<&'static str> {
    const ALL: [&str; 8] = [
        "ADD_LEAF",
        "MOVE_LEAFS",
        "ADD_NODE",
        "SPLIT_TUPLE",
        "PICKSPLIT",
        "VACUUM_LEAF",
        "VACUUM_ROOT",
        "VACUUM_REDIRECT",
    ];
    ALL.get(usize::from(kind >> 4).checked_sub(1)?).copied()
}

fn brin(kind: u8) -> Option<&'static str> {
    pick(
        kind,
        &[
            (0, "CREATE_INDEX"),
            (0x10, "INSERT"),
            (0x90, "INSERT+INIT"),
            (0x20, "UPDATE"),
            (0xA0, "UPDATE+INIT"),
            (0x30, "SAMEPAGE_UPDATE"),
            (0x40, "REVMAP_EXTEND"),
            (0x50, "DESUMMARIZE"),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_some_records() {
        assert_eq!(name(1), "Transaction");
        assert_eq!(name(130), "custom130");
        assert_eq!(identify(1, 0x80, 15), Some("COMMIT"));
        assert_eq!(identify(9, 0xD0, 15), Some("MULTI_INSERT+INIT"));
        assert_eq!(identify(0, 0xD0, 11), Some("POLAR_FPSI"));
        assert_eq!(identify(0, 0xD0, 15), Some("OVERWRITE_CONTRECORD"));
        assert_eq!(identify(13, 0, 15), None);
        assert!(valid(200, 15) && !valid(200, 11) && !valid(22, 15));
    }
}
