//! Every finding and every loss, with its explanation.

use std::ops::Range;

use recovery_core::{Finding, LossInfo};

recovery_core::codes! {
    TORN_TAIL = "JE-0001", "incomplete last entry",
        "The last file ends inside an entry: the process or the machine stopped while it was written. JE cuts it off at the next open and loses nothing complete by that.";
    ZERO_TAIL = "JE-0002", "zeros behind the last entry",
        "After a power loss a file system may leave zeros where data were to come. JE cuts them off at the next read-write open; a read-only open by 18.x refuses.";
    BAD_TAIL = "JE-0003", "unreadable bytes behind the last valid entry",
        "The last file ends in bytes that are no valid entry, and nothing valid follows them. They may be garbage or one complete entry that was damaged; the latter may have been a commit. JE cuts them off silently.";
    MID_LOG = "JE-0010", "damage in the last file with valid entries behind it",
        "JE ends the log at the first bad entry of the last file, opens as master and truncates everything behind it without a word, committed transactions included. Do not start this node. A rescue keeps what lies behind the damage.";
    OLD_FILE = "JE-0011", "damage in a file that is not the last",
        "JE does not verify older files when it opens. The damage surfaces when a record or tree node there is read, and then invalidates the environment: the frontend dies later. Where nothing live lies there it never surfaces.";
    MISSING_FILE = "JE-0020", "a log file is missing",
        "The file numbers have a gap, and the header of the file behind it or the tree proves that the file was not removed by the cleaner. JE refuses to open, or fails at the first read.";
    SHORT_FILE = "JE-0021", "a log file is shorter than its successor says",
        "The header of the next file names the place of this file's last entry, which lies behind its end: the file was cut, or copied while it was written.";
    WRONG_NUMBER = "JE-0022", "file number in the header differs from the name",
        "The file was renamed or swapped. JE refuses to read it (LOG_INTEGRITY). A rescue goes by the header.";
    FOREIGN = "JE-0023", "file that is not part of the log",
        "JE ignores it. Files ending in .del, .bad, .bup or .tmp were set aside by JE or by a backup.";
    EMPTY_LAST = "JE-0024", "last file holds no entry",
        "A crash right after a file was begun leaves an empty file or a header only. JE goes back one file.";
    BAD_HEADER = "JE-0025", "file header is unreadable",
        "The first entry of the file is damaged or cut. In the last file JE refuses to open when the file is longer than a header; the entries behind it can still be read.";
    VERSION = "JE-0026", "log version that no known JE writes",
        "The version in the header is above 17 or below 6. JE refuses (VersionMismatchException). Where the entries decode by a known version, only the header is damaged.";
    MIXED = "JE-0027", "files of different copies are mixed",
        "Creation times do not ascend with the file numbers: the directory was put together from copies of different times or nodes.";
    VLSN_HOLE = "JE-0030", "VLSNs are missing",
        "The visible sequence numbers of the replication stream jump: entries between them are gone.";
    VLSN_TWICE = "JE-0031", "VLSNs come twice",
        "The same sequence number is visible twice. After a rollback the earlier copies are made invisible; here that did not finish, or logs are mixed.";
    CHAIN = "JE-0032", "an entry does not name its predecessor",
        "Every entry holds the place of the one before. Here it holds another place although its checksum agrees: bytes were inserted or removed, or files spliced.";
    ODD_ENTRY = "JE-0033", "entry whose content does not fit its type",
        "The checksum agrees, but the content cannot be decoded by the file's log version.";
    INVISIBLE = "JE-0035", "invisible entry outside every rollback",
        "The bit that marks an entry as rolled back is set in place and no checksum covers it. It stands here on an entry that no rollback in the log accounts for: JE will leave the entry out.";
    UNREADABLE = "JE-0034", "the medium does not give bytes",
        "Read errors. Copy the medium with ddrescue first and work on the copy.";
    TREE = "JE-0040", "the tree names something that cannot be read",
        "A tree node, a record or the description of a database that the last checkpoint refers to is damaged or lies in a missing file.";
    ROOTLESS = "JE-0041", "records of a database without a root",
        "Recovery silently drops every record of a database whose tree has no root. JE will list the database as empty.";
    INDEX = "JE-0042", "the VLSN index does not join the log",
        "The index ends before the first VLSN that recovery sees; JE fails with 'recoveryTracker should overlap or follow on disk last VLSN'. The group reset or a new environment removes the condition.";
    OPEN_TXN = "JE-0050", "transactions without end",
        "Their records are in the log, their commit is not: they are not live. A replica keeps them open, a new master aborts them.";
    IN_DOUBT = "JE-0051", "transactions whose end is damaged",
        "The records can be read; whether the transaction committed cannot be said from this node. The log of another node decides it: name it with the others, or with --also.";
    ROLLBACK = "JE-0052", "rollback that did not finish",
        "A rollback began and its end is missing. JE repeats it at the next open.";
    RESTORE = "JE-0053", "JE has marked the environment as to be restored",
        "A RestoreRequired entry stands in the last file: JE refuses to open until a network restore has run.";
    LOST_RECORDS = "JE-0054", "live records that cannot be read",
        "Neither their own entry nor a copy embedded in a tree node is readable, and no other node was given that has them.";
    JOURNAL_HOLE = "JE-0060", "journal ids are missing",
        "The frontend computes the last journal id as name plus count: a missing id shifts every id behind it.";
    JOIN = "JE-0061", "image and journal do not join",
        "The first journal id lies more than one behind the image: operations between them are gone, and the frontend fails to start.";
    IMAGE_BAD = "JE-0062", "image is damaged",
        "A checksum of the image does not agree. The frontend fails when it loads it. An older image with the journal behind it may serve.";
    IMAGE_UNVERIFIED = "JE-0063", "image cannot be verified",
        "The form of the image holds no checksum that covers it.";
    IMAGE_CKPT = "JE-0064", "unfinished image",
        "image.ckpt is left over from an image that was being written. The frontend ignores it.";
    NO_VERSION = "JE-0065", "VERSION is missing",
        "Cluster id and token are not known here; the frontend would treat itself as new. Copy VERSION from another frontend of the cluster.";
    OBSERVER = "JE-0066", "the node is an observer",
        "Its directory has the same form, but a group reset is refused for observers. ROLE must be changed to FOLLOWER, and the role recorded in the frontend list stays OBSERVER until the node is added again.";
    NOT_MEMBER = "JE-0067", "the node is not in the stored group",
        "The name in ROLE is not among the members of the group database.";
    NO_ROLE = "JE-0068", "ROLE is missing or says nothing",
        "The role and name of the node are not known; the frontend would take itself for a new one.";
    IMAGE_AHEAD = "JE-0069", "the image is ahead of the journal",
        "The journal ends before the operations that the image holds: the end of the log is missing (files not copied, or cut). A frontend that leads would give the same journal ids again, and they would be skipped when it next loads the image. Look for the missing log files, or take another node.";
    LOCKED = "JE-0070", "the environment is open in a live process",
        "Files may change while they are read. Stop the frontend, or work on a copy.";
    DIVERGED = "JE-0080", "nodes hold different content under one VLSN",
        "The logs parted there. What one of them holds behind that point was never agreed on by a majority.";
    GROUP = "JE-0081", "group records that cannot be decoded",
        "A record of the group database is not in a known form.";
    NOT_PROVEN = "JE-0090", "format-not-proven",
        "The log version was read by the format's description only; real data confirmed versions 14, 15 and 17.";
    ERASED = "JE-0091", "erased entries",
        "Entries whose content was erased carry no checksum.";
}

/// Records whose transaction's end is damaged.
pub const LOSS_IN_DOUBT: &str = "in-doubt";
/// Records that are unreadable everywhere.
pub const LOSS_RECORDS: &str = "lost-records";
/// Commits behind the cut that was asked for.
pub const LOSS_UNTIL: &str = "after-until";
/// Records of which only an older version is readable.
pub const LOSS_STALE: &str = "stale-records";
/// Content that only this node has, of a group that parted.
pub const LOSS_DIVERGED: &str = "diverged-branch";
/// VLSNs that are gone without their records being known.
pub const LOSS_UNKNOWN: &str = "lost-operations";

/// Another node holds commits beyond those of the base.
pub const LOSS_BEHIND: &str = "newer-commits";
/// No whole image joins the journal.
pub const LOSS_IMAGE: &str = "missing-image";

/// Names of losses.
pub static LOSSES: &[LossInfo] = &[
    LossInfo {
        name: LOSS_IN_DOUBT,
        explanation: "Records are left out whose transaction's commit is damaged: they may have been acknowledged to a client.",
    },
    LossInfo { name: LOSS_RECORDS, explanation: "Live records are left out that cannot be read from any place given." },
    LossInfo { name: LOSS_UNTIL, explanation: "Everything behind the point named by --until is left out." },
    LossInfo {
        name: LOSS_STALE,
        explanation: "Records are left out of which only an older version than the last can be read.",
    },
    LossInfo {
        name: LOSS_DIVERGED,
        explanation: "Another node holds committed transactions that this one does not, on a branch that parted; they are left out.",
    },
    LossInfo {
        name: LOSS_BEHIND,
        explanation: "Another node holds commits beyond the last one of the base, but more of its stream is destroyed; they are left out.",
    },
    LossInfo {
        name: LOSS_IMAGE,
        explanation: "No whole image joins the journal: the state before the first journal id is gone, and the frontend does not start without it. Damaged images are put beside the result, in damaged-image.",
    },
    LossInfo {
        name: LOSS_UNKNOWN,
        explanation: "Entries of the replication stream are destroyed whose content nothing tells; operations among them are lost.",
    },
];

/// Which bytes of a finding's file are structure: the header of an entry (checksum, type, flags, previous offset,
/// item size: `LogEntryHeader`), which stands at the head of a file too.
pub(crate) fn structure(finding: &Finding) -> Option<Range<u64>> {
    let at = finding.offset?;
    let codes = [TORN_TAIL, BAD_TAIL, MID_LOG, OLD_FILE, BAD_HEADER, VERSION, CHAIN, ODD_ENTRY];
    codes.iter().any(|c| c.code == finding.code).then_some(at..at.saturating_add(14))
}
