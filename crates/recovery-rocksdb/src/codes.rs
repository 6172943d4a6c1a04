//! Every finding code and every loss name, with its explanation.

use std::ops::Range;

use recovery_core::{Finding, LossInfo};

recovery_core::codes! {
    CURRENT_BAD = "RDB-0001", "CURRENT names no usable MANIFEST",
        "CURRENT must hold exactly the name of a MANIFEST and a newline. Without it the database refuses to open. It can always be written again when a MANIFEST is readable, and the rescue does so.";
    MANIFEST_MISSING = "RDB-0002", "there is no MANIFEST",
        "The MANIFEST lists every table with its level, the families, and from which WAL on records count. Without one, the info log, table properties, OPTIONS and WALs are merged instead; the facts list which witness gave what.";
    MANIFEST_RECORD = "RDB-0003", "a MANIFEST record is damaged",
        "A record of the MANIFEST does not match its checksum or does not decode. The database refuses to open, or silently opens the state before the record and deletes every file it does not know. The rescue uses the records before and after it and fills the hole from other witnesses.";
    MANIFEST_ENDS_EARLY = "RDB-0004", "the MANIFEST ends before the database did",
        "Another witness knows of tables that were installed after the MANIFEST's last record. An ordinary open would show an older state and delete those tables.";
    MANIFEST_TORN = "RDB-0005", "the MANIFEST ends inside a record",
        "Its last record is incomplete, or its last atomic group is. The database ignores what is incomplete and then deletes files it does not know. Files that only that record named are kept by the rescue.";
    CONTRADICTION = "RDB-0006", "witnesses contradict each other",
        "Two sources of one fact disagree. The finding names both and the one that is used.";
    UNNAMED_FAMILY = "RDB-0007", "a column family has no name",
        "WALs or tables hold records of a family id that no MANIFEST, info log, table or OPTIONS file names. Its rows are kept under a made-up name; --name-family ID=NAME gives the right one.";
    GLOBAL_SEQNO = "RDB-0008", "sequence number of an ingested table inferred",
        "Tables made by SstFileWriter get their sequence number at ingestion, and usually only the MANIFEST has it. It follows from the info log, or from the numbers that nothing else uses.";
    MAY_REPEAT = "RDB-0009", "WAL records may be applied twice",
        "No witness tells which WAL records of a family are already in its tables, and some are merges or deletions whose repetition changes what is read.";
    SWAPPED_NAME = "RDB-0010", "a table carries another table's name",
        "The properties of the table name another original number, and the file under that number does not belong there either.";
    SECOND_COPY = "RDB-0011", "a second copy of a table",
        "Two files were written by the same session under the same number. Only one is used: merge operands must not count twice.";
    TABLE_DAMAGED = "RDB-0012", "a table is damaged",
        "A checksum, length or structure of the table is wrong. The database refuses the whole file; the rescue keeps every good block and lists the key ranges that are lost.";
    TABLE_MISSING = "RDB-0013", "a table is missing",
        "The version lists a table that is not in the directory.";
    NO_FAMILY = "RDB-0014", "a table of no known family",
        "No witness tells to which column family this table belongs.";
    WAL_DAMAGED = "RDB-0015", "a WAL record is damaged",
        "Bytes of a write-ahead log hold no complete record. An ordinary open stops there and deletes the rest of the log. The rescue stops there too (--wal point-in-time) or leaves out only what is damaged (--wal salvage).";
    WAL_TORN = "RDB-0016", "a WAL ends inside a record",
        "The last record is incomplete, as after a power cut: it was never acknowledged as durable. The database drops it.";
    WAL_BATCH = "RDB-0017", "a WAL record holds no valid write batch",
        "The checksum of the record is right and its content does not decode.";
    WAL_MISSING = "RDB-0018", "a WAL is missing",
        "A write-ahead log that other witnesses speak of is not there. What it held and no table holds is lost.";
    IN_DOUBT = "RDB-0019", "a prepared transaction is in doubt",
        "A transaction was prepared and neither committed nor rolled back. Its writes stay in the WAL, invisible; open with TransactionDB to decide it.";
    BLOB_DAMAGED = "RDB-0020", "a blob file is damaged",
        "A record of the blob file does not match its checksums, or its footer is gone. Values of good records are kept.";
    BLOB_MISSING = "RDB-0021", "a blob file is missing",
        "Tables refer to values in a blob file that is not there.";
    FOREIGN = "RDB-0022", "files that are not the database's",
        "Files whose names or content do not belong to the database. They are never used; an ordinary open may delete some of them.";
    OBSOLETE = "RDB-0023", "obsolete files",
        "Files that were part of the database once: consumed by a compaction, of a dropped family, or never installed. An ordinary open deletes them.";
    LOCKED = "RDB-0024", "the database is open in a running process",
        "A process holds the lock. What is read may change while it is read.";
    ELSEWHERE = "RDB-0025", "part of the database lies in another directory",
        "OPTIONS name a directory for the WALs outside the one that was given, and no WAL is here. Copy or link its files into one directory with the rest, and inspect that.";
    UNREADABLE = "RDB-0026", "a file or directory cannot be read",
        "The medium or the system refused.";
    COMPARATOR_UNKNOWN = "RDB-0027", "a comparator is not known",
        "The order of keys is the application's own. Only plans that need no key comparison are made; others are refused.";
    LEVELS_INFERRED = "RDB-0028", "levels were worked out anew",
        "No witness has the levels, or what it has cannot be true. Each table is placed on the deepest level on which every key still finds its newest version first.";
    FILE_CHECKSUM = "RDB-0029", "a whole-file checksum does not match",
        "The MANIFEST holds a checksum of the whole file, and the file gives another one.";
    NOT_PROVEN = "RDB-0030", "format not proven",
        "The report rests on format facts read from source only, never seen in real files: format-not-proven.";
    IDENTITY_BAD = "RDB-0031", "IDENTITY is missing or differs",
        "IDENTITY holds the id of the database. It is written again when missing.";
    OPTIONS_BAD = "RDB-0032", "OPTIONS cannot be read whole",
        "Lines of the newest OPTIONS file are no options. The file has no checksum.";
    UNSUPPORTED_TABLE = "RDB-0033", "a table of a kind that is not supported",
        "The file is recognised and left untouched: plain and cuckoo tables, format 7, encrypted files.";
    OVERLAP = "RDB-0034", "tables of one level overlap",
        "The version puts tables with overlapping keys on one level. The database would open with an empty family and delete its tables.";
    TOMBSTONES_LOST = "RDB-0035", "range tombstones are lost",
        "The block of range tombstones is damaged: rows that they deleted may come back.";
    FAMILY_DROPPED = "RDB-0036", "a family was dropped",
        "Creating and dropping a column family both write OPTIONS. A family that other files know, that is older than the newest OPTIONS and not named in it, was dropped; its tables are not part of the result.";
    MAYBE_OBSOLETE = "RDB-0037", "a table may have been consumed by a compaction",
        "MANIFEST and info log are lost, and entries of the table stand in later tables too. A table of which later ones hold everything is left out; this one holds more than that, so it is used. If it was consumed, rows that were deleted since come back, and values may be older than they were.";
}

/// Entries of tables that are physically gone.
pub const LOST_ENTRIES: &str = "table-entries";
/// Tables that are gone.
pub const LOST_TABLES: &str = "missing-tables";
/// Records of WALs.
pub const LOST_WAL: &str = "wal-records";
/// Records behind the first damage of a WAL, given up for a consistent state.
pub const LOST_AFTER: &str = "wal-after-damage";
/// Values in blob files.
pub const LOST_BLOBS: &str = "blob-values";
/// Range tombstones.
pub const LOST_TOMBSTONES: &str = "range-tombstones";
/// A table without a family.
pub const LOST_FAMILYLESS: &str = "tables-without-family";
/// Transactions in doubt.
pub const LOST_WAL_FILES: &str = "missing-wals";

/// Everything behind the newest complete state.
pub const LOST_CUT: &str = "after-the-cut";

/// Loss names and their explanations.
pub static LOSSES: &[LossInfo] = &[
    LossInfo { name: LOST_ENTRIES, explanation: "entries in damaged blocks of tables that nothing else holds" },
    LossInfo { name: LOST_TABLES, explanation: "tables that the version lists and that are not there" },
    LossInfo { name: LOST_WAL, explanation: "damaged records of write-ahead logs" },
    LossInfo {
        name: LOST_AFTER,
        explanation: "good WAL records behind the first damaged one, left out so that the result is a state the database once had; --wal salvage keeps them",
    },
    LossInfo { name: LOST_BLOBS, explanation: "values whose blob record is damaged or whose blob file is gone" },
    LossInfo {
        name: LOST_TOMBSTONES,
        explanation: "range tombstones of a damaged block; rows they deleted may come back",
    },
    LossInfo { name: LOST_FAMILYLESS, explanation: "tables of which no witness tells the column family" },
    LossInfo {
        name: LOST_CUT,
        explanation: "entries behind the newest state at which every family is complete, which --consistent asks for; where a flush or compaction had dropped the versions below them, their keys are gone",
    },
    LossInfo { name: LOST_WAL_FILES, explanation: "write-ahead logs that are not there" },
];

/// Which bytes of a finding's file are structure: the header of a log record (checksum, length, type:
/// `db/log_format.h`). A table's last bytes are none where the footer is missing.
pub(crate) fn structure(finding: &Finding) -> Option<Range<u64>> {
    let at = finding.offset?;
    let codes = [MANIFEST_RECORD, MANIFEST_TORN, WAL_DAMAGED, WAL_TORN];
    codes.iter().any(|c| c.code == finding.code).then_some(at..at.saturating_add(7))
}
