//! Every finding code and every loss name, with its long explanation.

use recovery_core::LossInfo;

recovery_core::codes! {
    REPO_INFO_MISSING = "SRS-0001", "the repository has no __repo_info",
        "CREATE REPOSITORY finds a repository by this file. Without it the server takes the directory for a new, empty repository and writes a file of its own; the snapshots stay readable. `rescue` writes it anew from the directory's name.";
    REPO_INFO_DAMAGED = "SRS-0002", "__repo_info cannot be read",
        "The file is not a JSON object with a name. CREATE REPOSITORY fails on it. `rescue` writes it anew from the directory's name.";
    REPO_NAME = "SRS-0003", "the directory and __repo_info name the repository differently",
        "The server looks for the directory by the name given to CREATE REPOSITORY and then takes the name inside the file. After a move or a rename by hand the two differ: use the name of the directory in CREATE REPOSITORY, or rename the directory back. No data is concerned.";
    TWO_PREFIXES = "SRS-0004", "one repository name under both prefixes",
        "`__palo_repository_NAME` and `__starrocks_repository_NAME` exist beside each other. The server prefers the old prefix whenever its directory exists, so the snapshots under the other one are invisible to it. Only the old one was looked at; move one of them away or name it by its own directory.";
    INFO_MISSING = "SRS-0010", "a snapshot without job description",
        "`__info_<timestamp>` is the last file of a backup. Without it the server says \"no snapshot\". With `__meta` there, only the last step was lost and everything can be restored after `rescue` has rebuilt the file; without `__meta` too, the job did not finish and tablets may be missing.";
    INFO_PART = "SRS-0011", "the job description was not finished",
        "`__info_<timestamp>.part` is there and the finished file is not. Where the text in it is complete, `rescue` gives it its right name; otherwise it is rebuilt.";
    INFO_DAMAGED = "SRS-0012", "the job description cannot be read",
        "The file is not the JSON the server needs, or its MD5 is not the one in its name. RESTORE fails on it. `rescue` rebuilds it from `__meta` and the tablets.";
    INFO_SEVERAL = "SRS-0013", "several job descriptions answer to one timestamp",
        "The server looks a job description up by the beginning of its name and insists on one hit. Two files for one timestamp, or a timestamp that is the beginning of another, make RESTORE fail. `rescue` keeps the right one.";
    INFO_LABEL = "SRS-0014", "the job description names another snapshot",
        "The label inside `__info` is not the one of the directory: the directory was renamed or the file moved. The server shows the directory's label and uses the ids inside.";
    META_MISSING = "SRS-0020", "a snapshot without table definitions",
        "`__meta` is gone: RESTORE fails. Columns, key models, ids and tablets are in the tablet headers and in `__info`, so all rows stay readable; partition bounds, distribution columns and properties are only in `__meta` (or in that of another snapshot of the same table, which `rescue` uses).";
    META_DAMAGED = "SRS-0021", "the table definitions cannot be read",
        "`__meta` is neither the JSON form nor the binary form, or breaks off, or its MD5 is not the one in its name. See SRS-0020 for what is lost with it.";
    META_SEVERAL = "SRS-0022", "more than one __meta",
        "The server expects exactly one file and fails with \"Expected one file ... get: 2\". The one that is whole and holds all tables of `__info` is used; `rescue` keeps only that one.";
    META_DISAGREES = "SRS-0023", "__info and __meta disagree",
        "A table, index or tablet of the job description is not in the table definitions, or the other way round. RESTORE of that table fails or restores something else than was backed up.";
    META_UNREAD = "SRS-0024", "a table definition that is not read to its end",
        "`__meta` in its old binary form has no lengths, and this table's type or partitioning has no known form there. Its name, columns and id are known, its partitions and properties are not; the other tables are not concerned. Its rows are read by the tablet headers; RESTORE uses the file as it is.";
    STRAY_PART = "SRS-0030", "an unfinished upload",
        "A name ending in `.part`: what a failed attempt left. Where the finished file stands beside it the data is complete, but the back end sees two files for one name and takes whichever is listed first. `rescue` leaves it out.";
    SAME_BASE = "SRS-0031", "two files with one base name",
        "An earlier attempt with the same label left a file with another MD5. The back end keeps whichever is listed first. The one that the checks prefer is used; `rescue` keeps only that one.";
    ORPHAN_TABLET = "SRS-0032", "a tablet directory that no job description names",
        "Left by an aborted job, or by a table that was taken out. RESTORE ignores it. `rescue` leaves it out. Do not delete it while a backup may still be running.";
    FOREIGN_FILE = "SRS-0033", "a file that does not belong here",
        "A name that the engine does not write at this place. In a tablet directory the back end refuses names it does not know when it restores (\"invalid tablet file name\").";
    UNREFERENCED = "SRS-0034", "a file of a rowset that the header does not name",
        "The tablet's header names other rowsets or fewer segments. RESTORE downloads it and ignores it.";
    TABLET_MISSING = "SRS-0040", "a tablet of the job description is not there",
        "Its directory is gone or empty. RESTORE fails with \"get nothing from remote path\" and retries until its timeout. The rows of this tablet are lost; the other tablets read.";
    HEADER_MISSING = "SRS-0041", "a tablet without header",
        "`<tablet>.hdr` (or `meta` of a primary-key tablet) is gone. Without it the visible rowsets, their versions and the delete predicates are not known, so RESTORE fails when it moves the tablet into place. Rows stay readable with `export --salvage`, with the schema of a sibling tablet and rowsets in the order of their ids.";
    HEADER_DAMAGED = "SRS-0042", "a tablet header that the engine refuses",
        "Frame, Adler-32 or message are wrong. RESTORE fails. See SRS-0041 for what stays readable. Where MD5 and name agree, the replica was damaged before it was backed up.";
    TABLET_IDS = "SRS-0043", "a tablet header with other ids than its path",
        "Table, tablet or schema hash in the header are not those of the directory: files were moved between directories.";
    VERSION_GAP = "SRS-0044", "the rowsets do not cover the version",
        "The visible rowsets of the header, in order, must cover every version up to the one in the job description exactly once. A gap means that loads are missing from this tablet.";
    SEGMENT_MISSING = "SRS-0045", "a file that the tablet header names is not there",
        "RESTORE downloads what it finds, replaces the old data, and only then fails to open the missing segment: half a tablet is left. Restore only the other partitions, or read the rest with `export --salvage`.";
    MANIFEST_MISSING = "SRS-0046", "a file that the tablet's manifest names is not there",
        "New releases write the list of a tablet's files beside them and refuse to restore when one is missing.";
    SCHEMA_DISAGREES = "SRS-0047", "tablet header and __meta have different columns",
        "A column of the header's schema has another type than in the table definition, or one is missing on either side.";
    PRIMARY_DAMAGED = "SRS-0048", "the meta file of a primary-key tablet is damaged",
        "Lengths, offsets or messages are wrong. RESTORE fails. Rows stay readable with `export --salvage`, but deleted and replaced rows cannot be told from live ones.";
    GROUPS_DAMAGED = "SRS-0049", "column groups are damaged or incomplete",
        "`.dcgs_snapshot` or a `.cols` file that it or the primary-key meta names is missing or damaged: partial updates of these columns are lost, and the older values would be read.";
    MD5_MISMATCH = "SRS-0050", "the content does not have the MD5 in its name",
        "RESTORE checks this sum after the download, fails, and retries until its timeout. Every byte of the file is covered.";
    EMPTY_FILE = "SRS-0051", "an empty file under a right name",
        "An upload that the store acknowledged and did not keep, or a file emptied later.";
    FOOTER_DAMAGED = "SRS-0052", "a segment without readable footer",
        "The last bytes of a segment say where its pages are. Without them the engine cannot open it. `export --salvage` walks the pages by their own checksums.";
    PAGE_DAMAGED = "SRS-0053", "a page whose CRC does not match",
        "Rows of one column are unreadable in the range named; other columns and pages read. Where the file's MD5 is right, the cluster backed up a replica that was already damaged: look at the other replicas of the tablet.";
    ROWS_DISAGREE = "SRS-0054", "row counts disagree",
        "The segments of a rowset hold another number of rows than the header says.";
    DELETE_VECTOR = "SRS-0055", "a delete vector that does not fit its segment",
        "It names rows past the segment's end, or a segment that does not exist.";
    MD5_NAME = "SRS-0056", "the content verifies by its own checksums but not by its name",
        "Footer, every page and the row counts are right, only the MD5 in the name is not: the name was changed, or bytes that no checksum inside covers. `rescue` gives the file its right name.";
    VALUES_DAMAGED = "SRS-0057", "values that do not decode although their pages verify",
        "The CRC of every page is right and a value cannot be decoded: the writer stored it so, or a reader of another release is needed. Only found with `--values`. Queries of the column fail there; the other columns read.";
    UNSORTED = "SRS-0058", "rows that are not in the order of their key",
        "Segments are sorted by key, and merging and the short key index rely on it: a query by key can miss rows, and rows with equal keys are not folded. Only found with `--values`.";
    NOT_DECODED = "SRS-0059", "columns that this release does not decode",
        "Their type or encoding is not known here. Checksums were looked at, values were not.";
    UNREADABLE = "SRS-0060", "a file that could not be read",
        "The medium or the store did not give the bytes, after the retries it was granted. Nothing is known of them: copy the file elsewhere with a tool for failing media, or run again.";
    STORE_FAILED = "SRS-0063", "the store stopped answering",
        "Requests failed after all retries: server errors, throttling, broken or silent connections. This says nothing about the repository; the inspection stops. Run it again, with --state FILE to go on where it stopped.";
    ENCRYPTED = "SRS-0061", "encrypted segments",
        "The rowset's segments are encrypted with keys that are not in the repository. MD5 is checked, the content is not.";
    OTHER_OBJECTS = "SRS-0062", "objects that are not checked",
        "Views, functions and catalogs stand in `__meta` and have no files of their own.";
    HEALED = "SRS-0064", "a file that another copy of the repository has whole",
        "It is missing or damaged here, and one of the other copies given (--also, or a further path) holds it with the content its name promises. `rescue` takes it from there; stock RESTORE from this copy still fails on it.";
    ONLY_ELSEWHERE = "SRS-0065", "a file of a snapshot that only another copy has",
        "The whole snapshot is not in this copy: it was deleted here, or the other copy is of another age. `rescue` takes it over. Name snapshots to be taken, or leave the other copy out, if that is not what is wanted.";
    NOT_PROVEN = "SRS-0070", "format-not-proven",
        "Some of what this report rests on was read from the engine's source and has not been confirmed on files a real server wrote: `__meta`, the primary-key `meta`, delta column groups.";
}

/// A partition is left out of the repaired snapshot because data in it is lost.
pub const LOSS_PARTITION: LossInfo = LossInfo {
    name: "damaged-partition",
    explanation: "A partition with a tablet that lost data and cannot go on without it (a primary-key table, column groups, encrypted segments) is left out of the repaired snapshot, so that RESTORE of everything else works. Its files are not taken over. The source keeps them: `export --salvage` reads what is left.",
};
/// Rows that go so that the rest of their tablet can be restored.
pub const LOSS_ROWS: LossInfo = LossInfo {
    name: "lost-rows",
    explanation: "A tablet that lost segments, or all of its files, gets a header that names only what is there, so that RESTORE of everything else in it works. Of a unique table older rows of the same keys come back; in an aggregate table what the lost load added is missing. The source keeps the damaged files: `export --salvage` reads what is left of them, row by row.",
};
/// A header that was made from file names.
pub const LOSS_HEADER: LossInfo = LossInfo {
    name: "rebuilt-header",
    explanation: "The header of a tablet is lost. It is made anew from a sibling's header or from `__meta`, with every segment that is there, loads in the order of their rowset ids. DELETE statements that stood in the lost header are forgotten: rows they removed come back.",
};
/// A snapshot of which nothing can be restored.
pub const LOSS_SNAPSHOT: LossInfo = LossInfo {
    name: "lost-snapshot",
    explanation: "Nothing of the snapshot can be made restorable: neither job description nor table definitions can be rebuilt. It is left out of the result.",
};
/// A distribution that was guessed.
pub const LOSS_DISTRIBUTION: LossInfo = LossInfo {
    name: "guessed-distribution",
    explanation: "The distribution columns of a table stand only in the lost `__meta`. The key columns are taken. If the table was distributed by others, queries that prune buckets would miss rows: give the columns with --distribution TABLE=COLUMN[,COLUMN], or restore and copy the table with INSERT INTO ... SELECT at once.",
};
/// Properties that are gone.
pub const LOSS_PROPERTIES: LossInfo = LossInfo {
    name: "table-properties",
    explanation: "Comments, defaults by expression, colocation, automatic partitioning and other properties of a table stand only in the lost `__meta` and take their defaults.",
};
/// Bounds that are gone.
pub const LOSS_BOUNDS: LossInfo = LossInfo {
    name: "partition-bounds",
    explanation: "The bounds of the partitions stand only in the lost `__meta`; a table with several partitions cannot be defined again without them. It is left out of the repaired snapshot; `export` reads it.",
};

/// All loss names.
pub static LOSSES: &[LossInfo] =
    &[LOSS_ROWS, LOSS_HEADER, LOSS_PARTITION, LOSS_SNAPSHOT, LOSS_DISTRIBUTION, LOSS_PROPERTIES, LOSS_BOUNDS];
