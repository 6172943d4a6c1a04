//! Findings about the PostgreSQL cluster, and the losses its rescue can mean.

use recovery_core::LossInfo;

recovery_core::codes! {
    NO_CLUSTER = "PG-0001", "no PostgreSQL cluster found",
        "Nowhere in the source lie enough of base, global, pg_wal and pg_xact in one directory. The files themselves can \
         still be extracted.";
    CONTROL_MISSING = "PG-0002", "control file missing",
        "global/pg_control is not there. No server starts without it. It can be rebuilt from the write-ahead log: \
         recover rescue ... --accept rebuilt-control-file.";
    CONTROL_CRC = "PG-0003", "control file damaged",
        "The checksum of global/pg_control does not agree and no single flipped bit explains it. The server refuses to \
         start. It is rebuilt from the write-ahead log, never silently: --accept rebuilt-control-file.";
    CONTROL_CORRECTED = "PG-0004", "one bit of the control file corrected",
        "The checksum of global/pg_control agrees after exactly one bit is turned back. CRC-32C leaves no second such bit \
         in so few bytes, so the correction is certain. The server itself would refuse to start.";
    CONTROL_VALUE = "PG-0005", "implausible value in the control file",
        "The checksum agrees, but a field holds what no server writes.";
    CRASH_RECOVERY = "PG-0010", "crash recovery needed",
        "The server was not stopped cleanly. Its start replays the log from the redo point to the end of the log; nothing \
         complete is lost by that.";
    WAL_BREAK = "PG-0012", "the log is broken and complete records lie behind the break",
        "Replay ends at the first record that cannot be read. Records behind it are complete, but the server never looks \
         at them: their transactions are lost when it starts. Corrections of single flipped bits were tried first.";
    WAL_TAIL = "PG-0013", "the log ends in something that is no ordinary end",
        "An unclean end: a record that was being written when the host died looks like this, and so does a damaged last \
         record. Nothing complete was found behind it.";
    WAL_SEGMENT = "PG-0014", "WAL segment missing",
        "Replay cannot pass a missing segment. Where it is the last one, the server was killed right after it had filled \
         the segment before, or the file it was writing is lost: look for it in the archive and on standbys.";
    WAL_SHORT = "PG-0015", "WAL segment shorter than it should be",
        "The server refuses to read a page that the file does not hold whole. A rescue fills the file up with zeros, so \
         that everything that is there is replayed.";
    CHECKPOINT = "PG-0016", "the checkpoint record cannot be read",
        "The control file names a checkpoint record that is missing or damaged. The server stops with \"could not locate a \
         valid checkpoint record\".";
    WAL_CORRECTED = "PG-0017", "the log was corrected to go on",
        "One flipped bit in a record, or a damaged page header, was turned back. The record's checksum and its link to the \
         record before agree with the correction. The rescue writes it into the copy of the segment.";
    WAL_OLD = "PG-0018", "the log is damaged before the redo point",
        "Crash recovery does not need this part; standbys and consumers whose slot still holds it do.";
    REDO_MISSING = "PG-0019", "the redo point is not in the log that is left",
        "The segment from which recovery has to begin is missing. The server stops with \"could not find redo location\".";
    OVERWRITTEN = "PG-0020", "a record given up after an earlier crash",
        "A record that ran over a page's end was cut by a crash; the next server marked it as given up. This is normal.";
    RECORD_ITEMS = "PG-0021", "a record whose parts contradict each other",
        "Checksum and link agree, but the item headers do not add up. The server stops replay at such a record.";
    TIMELINES = "PG-0022", "segments of another timeline",
        "The log holds segments of a timeline that is not the one the control file names. Crash recovery stays on its own; \
         a server that follows the latest timeline does not.";
    HISTORY = "PG-0023", "timeline history cannot be read",
        "A .history file is malformed. A standby or replica that follows the latest timeline stops at it.";
    WAL_PADDING = "PG-0024", "bytes between two records are not zero",
        "The server writes zeros behind a record. No checksum covers these bytes, and nothing reads them.";
    WAL_UNREAD = "PG-0025", "a part of the log without records cannot be read",
        "The medium does not give these bytes. No record that the walk reached stands there; whether others stood there \
         nobody can say.";
    PAGE = "PG-0030", "data page damaged",
        "The checksum of a page does not agree. Reading it fails with \"invalid page in block\". With full_page_writes on, \
         replay repairs pages that were torn by the crash; with full_page_writes off (usual on PFS) it cannot.";
    PAGE_REPLAYED = "PG-0031", "damaged page that replay restores",
        "The log holds a full image of this page, or makes it anew, between the redo point and the end: the server's start \
         repairs it.";
    PAGE_CUT = "PG-0032", "file ends inside a page",
        "The length of a relation file is no multiple of 8192. pg_checksums stops at such a file; the whole pages were \
         verified.";
    RELATION_SEGMENT = "PG-0033", "relation segment missing or short",
        "A relation has a later segment file although an earlier one is missing or not full. What lies behind the gap is \
         invisible to the server.";
    MAPPED = "PG-0034", "file of a mapped catalog missing",
        "pg_filenode.map names a file that is not there. The database cannot be connected to.";
    ZERO_PAGES = "PG-0035", "pages that were never initialised",
        "Files are extended by zero pages before rows are put there; a crash leaves some. Zeroed pages look the same, so \
         their number is told.";
    PAGES_AHEAD = "PG-0036", "pages newer than the end of the log",
        "The log position on these pages lies behind the last complete record: WAL that was flushed before them is missing.";
    NO_CHECKSUMS = "PG-0037", "data pages carry no checksums",
        "The cluster was made without checksums. Only impossible page headers are seen.";
    PAGE_UNREAD = "PG-0038", "data page cannot be read",
        "The device gave an error for this page.";
    RELMAP = "PG-0040", "relation map damaged",
        "pg_filenode.map is missing, or its magic, length or checksum is wrong. Without it the server cannot find the \
         catalogs of the database (or the shared ones).";
    SLOT_BAD = "PG-0050", "replication slot that stops the server",
        "The state file of a slot has a wrong magic, version, length or checksum. The server panics at start and does not \
         come up. Move the directory pg_replslot/NAME away; the replica or consumer behind it has to be rebuilt. A rescue \
         leaves it out: --accept replication-slot.";
    SLOT_EMPTY = "PG-0051", "replication slot without a state file",
        "The server skips the directory with a line in its log; the slot is gone. Its consumer has to be rebuilt.";
    SLOT_WAL = "PG-0052", "WAL that a slot still needs is missing",
        "The oldest position the slot holds lies before the oldest segment that is left. Its consumer cannot go on and has \
         to be rebuilt.";
    SLOT_LEFTOVER = "PG-0053", "leftover of a dropped slot",
        "A directory whose name ends in .tmp, or a temporary slot: the server removes it at start.";
    SLRU_LENGTH = "PG-0060", "status file of impossible length",
        "Files of pg_xact, pg_multixact and pg_commit_ts have between 1 and 32 whole pages of 8192 bytes.";
    SLRU_MISSING = "PG-0061", "status pages missing",
        "The checkpoint says that these transactions (or multixacts, or commit times) exist, but the pages that tell their \
         fate are missing. The server stops with \"could not access status of transaction\", or takes them as aborted.";
    PREPARED = "PG-0070", "prepared transactions",
        "Transactions that were prepared and neither committed nor rolled back. They hold their locks after the start: \
         list them with SELECT * FROM pg_prepared_xacts.";
    TWOPHASE_BAD = "PG-0071", "state of a prepared transaction damaged",
        "A file of pg_twophase has a wrong magic, length or checksum. The server stops at it when it belongs to a \
         transaction that is still open.";
    LEFTOVER = "PG-0080", "leftover that changes the role of the server",
        "A signal file or a backup label lies in the shared directory. A primary that is started on it could become a \
         standby, or start from another place of the log. Remove it after reading what it says.";
    MAJOR = "PG-0081", "major version",
        "PG_VERSION is missing or differs from what the control file and the log say.";
    LOGINDEX = "PG-0082", "log index cannot be judged",
        "pg_logindex holds no readable log_index_meta. The directory is derived from the log and is rebuilt by the server.";
    NOT_PROVEN = "PG-0083", "format not proven",
        "Part of what was read rests on published source code only and was not confirmed by data of a real server.";
    ENCRYPTED = "PG-0084", "transparent encryption",
        "global/pg_kmgr or encrypted pages are there. Checksums are computed over the encrypted pages and were verified, \
         but the server does not start without the command that gives its passphrase.";
    OUTWARD = "PG-0085", "tablespace outside of the source",
        "A link in pg_tblspc leads out of the source. Name where its files are now with --map OLD=NEW.";
    UNREAD = "PG-0086", "cannot be read",
        "The device gave an error.";
    PAGE_DONATED = "PG-0088", "damaged page taken from another copy",
        "The checksum of the page does not agree, or it cannot be read, and a copy named with --also holds the same page \
         whole. A rescue writes that one. The copy's control file, or the metadata of the disk, shows that it is of the \
         same moment.";
    OTHER_STATE = "PG-0089", "another copy is of another moment",
        "A copy named with --also is not used: it is another cluster, or the same one at another time. Pages of different \
         times do not fit together: replay begins at this control file's redo point.";
    VERSION = "PG-0090", "version not supported",
        "The control file is whole and of a release whose layout is not read here. Files can be extracted and pages \
         verified; nothing is rebuilt of this cluster.";
    UNCOVERED = "PG-0087", "bytes without a checksum",
        "Transaction status, free space at the end of files and page headers of the log are known by their place only.";
}

/// What a rescue can lose or make up.
pub static LOSSES: &[LossInfo] = &[
    LossInfo {
        name: "rebuilt-control-file",
        explanation: "The control file is made anew from the write-ahead log: its limits, its counters of unlogged changes \
                      and, without a witness, the catalog version are assumed. Check the database with amcheck and dump it.",
    },
    LossInfo {
        name: "wal-after-break",
        explanation: "Complete records behind a break in the log are left out: the server replays up to the break only. \
                      Pages already written by later transactions may be ahead of the log; dump the database afterwards.",
    },
    LossInfo {
        name: "checkpoint",
        explanation: "The checkpoint named by the control file cannot be read; an older one that is still in the log is used.",
    },
    LossInfo { name: "data-pages", explanation: "Damaged data pages are copied as they are; reading them fails." },
    LossInfo {
        name: "transaction-status",
        explanation: "Pages of pg_xact (or its kin) are missing. They are filled with zeros, which the server reads as \
                      aborted: rows of those transactions disappear unless hint bits already tell that they committed.",
    },
    LossInfo {
        name: "replication-slot",
        explanation: "A slot that stops the server is left out; its consumer is rebuilt.",
    },
    LossInfo { name: "relation-file", explanation: "A relation has lost a file or a part of one." },
    LossInfo {
        name: "prepared-transaction",
        explanation: "The state of a prepared transaction is damaged and left out.",
    },
    LossInfo {
        name: "unreadable-file",
        explanation: "A file that could not be read is left out or filled with zeros.",
    },
    LossInfo { name: "relation-map", explanation: "A relation map is damaged; that database cannot be connected to." },
    LossInfo {
        name: "disk-blocks",
        explanation: "The file system under the cluster has lost blocks or names; the files concerned are incomplete.",
    },
];
