//! Every finding code and every loss name, with its explanation.

use std::ops::Range;

use recovery_core::{Finding, LossInfo};

recovery_core::codes! {
    BASE_UNUSABLE = "MFS-0001", "a metadata file cannot be used",
        "The file is empty, cut, or no metadata file. The original program passes over an empty or cut file when another one is there, and refuses to start when none is. An older file and the logs since then give the same state.";
    BASE_LOST = "MFS-0002", "records of a metadata file are lost",
        "A section is damaged, cut, missing or of a newer version. Everything before the damage is used. The original program stops; 4.x starts without a word when the section with all names is missing.";
    BASE_OUTER = "MFS-0003", "the outer structure of a metadata file is damaged, nothing is lost",
        "A wrong section length, bytes behind the end marker, a cut end marker, an unknown section, an unknown signature. All records are there and are used. The original program refuses such files, some of them even with -i.";
    CRC_MISMATCH = "MFS-0004", "a section does not match metadata.crc",
        "metadata.crc holds a checksum of each section of the last state that was saved. A difference proves that bytes of the section changed since. The original programs never compare them and load such a file without a word. Which record it is cannot be told; an older file and the logs since then give the section back.";
    CRC_UNUSED = "MFS-0005", "metadata.crc is for another state or cannot be read",
        "The checksums belong to a state that is not there. They say nothing about the files found.";
    NO_BASE = "MFS-0006", "there is no metadata file, the logs start with the first change",
        "The state is rebuilt from a new filesystem and all changes. The right default storage classes are those of the product that wrote the logs. Times of the root directory before the first change that sets them are 0. The original program says that it cannot find valid metadata, or stores an empty filesystem (1.6).";
    LOG_GAP = "MFS-0007", "changes are missing in the logs",
        "The ids between two known changes are in no file. Replay stops before them. Other directories (metaloggers, backups) may have them: give all of them at once.";
    LOG_TORN = "MFS-0008", "the last line of a log is incomplete",
        "The writer died inside the line, or the newline is missing. The original program then ignores the whole file and ends with exit code 0. All complete lines are used here, and an unterminated last line that is complete by the grammar and fits.";
    LOG_NUL = "MFS-0009", "zero bytes behind the last line of a log",
        "A file system left a block of zeros after a power failure. The original program then ignores the whole file and ends with exit code 0.";
    LOG_GARBAGE = "MFS-0010", "a line of a log is no line",
        "The line does not start with an id. The original program drops the rest of that file and ends with exit code 0. Here the line is passed over; if ids are missing behind it, that is reported too.";
    LOG_ORDER = "MFS-0011", "lines of a log stand in the wrong order",
        "Lines are put in the order of their ids. The original program stops with a hole.";
    LOG_BRANCH = "MFS-0012", "the logs branch",
        "Two different lines have the same id: a master was started from an older or half-applied state and wrote the same ids again. Only one of the two histories can be followed. Replay stops before the branch.";
    REPLAY_STOP = "MFS-0013", "a change cannot be applied",
        "The change contradicts the state: damage inside the line, a change missed, or a log of another filesystem. The original program stops at the same line. Replay stops before it.";
    LINE_BAD = "MFS-0014", "a line of a log cannot be read",
        "The line has an id but does not follow the grammar, or names an operation that no product has. Replay stops before it.";
    OTHER_FILESYSTEM = "MFS-0015", "the logs do not belong to the metadata file",
        "The first change behind the base contradicts it. The logs are those of another filesystem, or changes between are missing without a trace in the ids.";
    TWO_FILESYSTEMS = "MFS-0016", "metadata files of two filesystems",
        "The files carry different filesystem ids. The original program stops.";
    AMBIGUOUS = "MFS-0017", "the product that wrote the logs cannot be told",
        "No metadata file and no line tells the product, and the default storage classes of a new filesystem differ between products. Give --as.";
    LOCK_CONFLICT = "MFS-0018", "a lock was granted while another one stood in the way",
        "A master logs a waiting lock that it grants because the holder's session is being removed before it logs the removal. The original program stops there, at a line of its own. If the removal does not follow, the finding is suspect.";
    REPAIR_LINE = "MFS-0019", "the log has a line at which the original program stops without cause",
        "3.x counts a chunk repair twice and stops its own recovery at the next line. Newer programs read open and close lines of 1.6 with the arguments exchanged.";
    NOT_PROVEN = "MFS-0020", "format-not-proven",
        "What was read rests on facts that were taken from the source only: no file of this kind written by a real program was at hand.";
    LOG_SKIPPED = "MFS-0021", "the original program would skip a log that is needed",
        "It takes the last id of a log for 0 when the file does not end as it expects, or when it holds the first change of a 1.6 filesystem, and then ignores the file without an error.";
    BASE_REFERENCE = "MFS-0022", "a record of a metadata file refers to something that is not there",
        "A name of a node that does not exist, a name in a directory that does not exist, a node without a name, a lock of a file that is not open. The record is dropped or attached to the root, as the original program does with -i.";
    NO_CHECKSUM = "MFS-0023", "bytes that no checksum covers",
        "Change logs have no checksums, and metadata files have them only in metadata.crc. Damage there that keeps the structure cannot be noticed.";
    STRUCTURE_ONLY = "MFS-0024", "only heads and tails were read",
        "The answer rests on headers, first and last ids. Use --check full to read everything.";
    LATER_STATE = "MFS-0025", "a metadata file has a later state, but is damaged",
        "The way chosen loses no record, but ends earlier than a damaged file beside it: the changes between are in no log. The damaged file is not used. Look for other directories (metaloggers, backups) that have the missing logs.";
    SESSIONS_FILE = "MFS-0026", "a file of sessions cannot be read",
        "Masters of 1.5 and 1.6 keep the mounts they know in sessions.mfs. Replay does not need it; a newer master that imports the state takes it, and without it mounts have to connect anew.";
    UNTIL = "MFS-0027", "a point in time was asked for",
        "The result is the state behind the chosen change. Metadata can be taken back, data cannot: chunks that later changes deleted are gone, chunks they wrote to hold newer data, chunks that no file refers to any more are removed by the chunk servers, and chunks made later are unknown to the restored master, which removes them after about a week. Copy what must not be lost out of the running filesystem first.";
    PASSED = "MFS-0028", "changes were passed over, and those behind them applied",
        "With --past-gaps, changes behind missing ones and behind those that cannot be applied are applied as far as they can be. Inodes and chunks get the numbers that stand in the lines. What a missing change made is not there, and what later changes did to it is passed over and counted.";
}

/// All losses.
pub static LOSSES: &[LossInfo] = &[
    LossInfo { name: "gap", explanation: "Changes behind a hole in the logs are not applied." },
    LossInfo {
        name: "passed-changes",
        explanation: "Changes that are missing or could not be applied were passed over, those behind them applied.",
    },
    LossInfo { name: "branch", explanation: "Changes from the branch on are not applied." },
    LossInfo {
        name: "replay-stop",
        explanation: "Changes from the first one that cannot be applied on are not applied.",
    },
    LossInfo { name: "other-filesystem", explanation: "The logs do not fit the base and are not applied." },
    LossInfo {
        name: "two-filesystems",
        explanation: "Metadata files of another filesystem lie beside the chosen one and are ignored.",
    },
    LossInfo {
        name: "damaged-base",
        explanation: "Records of the base that cannot be read are missing in the result.",
    },
    LossInfo {
        name: "older-state",
        explanation: "A damaged metadata file has a later state than the one reached; the changes between are lost.",
    },
    LossInfo {
        name: "changed-base",
        explanation: "A section of the base does not match its checksum and is used as it is.",
    },
];

/// Which bytes of a finding's file are structure: the head of a metadata file (signature, highest inode, versions).
pub(crate) fn structure(finding: &Finding) -> Option<Range<u64>> {
    let codes = [BASE_UNUSABLE, BASE_LOST, BASE_OUTER];
    let head = codes.iter().any(|c| c.code == finding.code) && finding.offset == Some(0);
    head.then_some(0..16)
}
