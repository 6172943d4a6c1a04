//! Findings about the file system on the disk.

use recovery_core::LossInfo;

/// Names of losses that a plan over a PFS disk can hold.
pub static LOSSES: &[LossInfo] = &[
    LossInfo {
        name: "unreadable-files",
        explanation: "Files of which a part cannot be read, or whose metadata is damaged, are left out of the result.",
    },
    LossInfo {
        name: "unreadable-ranges",
        explanation: "Files are written although parts of them cannot be read; these parts are zero in the result and \
                      listed in its receipt.",
    },
];

recovery_core::codes! {
    HEADER = "PFS-0001", "chunk header damaged",
        "The first sector of a chunk is unreadable, blank or does not match its checksum. Everything in it follows from \
         the number of the chunk, the number of chunks and the version, so it is regenerated in memory and nothing is \
         lost. The engine itself refuses to mount such a disk (\"Make sure mkfs has run!\"): do not run mkfs.";
    CHUNKS_DIFFER = "PFS-0002", "chunks disagree about their number",
        "Headers name different numbers of chunks. A growfs that was interrupted leaves this; the value in chunk 0 is \
         written last and rules. Nothing is lost.";
    SHORT_DEVICE = "PFS-0003", "the device is shorter than the file system",
        "The header names more chunks than the device or image has bytes for. Blocks behind the end are gone; every \
         file that had one is named by PFS-0029. The engine reads a file system with missing blocks until it meets one, \
         and a device that was extended with zeros without any error at all.";
    LEADER = "PFS-0004", "leader record damaged",
        "The record that says which part of the journal is true does not match its checksum or is blank. One wrong bit \
         is corrected; otherwise head and tail are found again by the order of the journal's entries. The engine does \
         not mount a disk without it.";
    LEADER_REBUILT = "PFS-0005", "head and tail found by the journal's own order",
        "Without a leader record the journal is replayed by continuity of log sequence numbers and transaction numbers: \
         the last complete transaction becomes the head. That one transaction may have been written without having been \
         committed; all before it were committed.";
    BEHIND_HEAD = "PFS-0006", "valid entries behind the head of the journal",
        "The journal goes on behind the place that the leader record calls its end. One transaction there is what a \
         killed writer leaves: it was never committed and is not applied. Several complete ones mean that the leader \
         record is older than the journal (lost writes): --forward applies them.";
    GARBAGE_BEHIND_HEAD = "PFS-0007", "unreadable entries right behind the head of the journal",
        "A torn write of a transaction that was never committed. It concerns nothing that is true, so nothing is lost, \
         but the engine checks whole 16 KiB pieces of the journal and aborts on it.";
    ENTRY = "PFS-0008", "journal entry damaged",
        "An entry of the live part of the journal does not match its checksum. When one bit is wrong and the log \
         sequence number then fits its place, it is corrected and nothing is lost. Otherwise the change it held is gone: \
         strictly, the file system is shown as it was before that transaction; with --salvage the entry is left out and \
         everything after it is applied. The engine aborts on it.";
    TRANSACTIONS_LOST = "PFS-0009", "transactions of the journal not applied",
        "A damaged entry stands in the live part of the journal. Reading strictly stops before the transaction that holds \
         it: later changes of names, sizes and blocks are not shown. Use --salvage to apply them without it.";
    JOURNAL_END = "PFS-0010", "the journal does not end where the leader record says",
        "The last entry before the head is not the end of the transaction that the leader record names.";
    OBJECT = "PFS-0011", "metadata object damaged, and known from elsewhere",
        "A block tag, directory entry or inode in its place on the disk does not match its checksum. The journal, its \
         history, or the correction of one bit gives it back; nothing is lost. The engine aborts on any such object, \
         even a free one and even one that the journal overwrites.";
    OBJECT_LOST = "PFS-0012", "metadata object lost",
        "A block tag, directory entry or inode is damaged and no copy of it is left in the journal. What its neighbours \
         know of it is used: names from the directory entry, contents from the block tags that name the inode. Files \
         concerned are marked doubtful and are extracted only with --salvage.";
    JOURNAL_MAP = "PFS-0013", "the map of the journal was rebuilt",
        "The block tags of .pfs-journal are damaged. The place of the journal follows from the order in which mkfs takes \
         blocks; the order under which the entries continue each other was used.";
    UNREAD = "PFS-0014", "metadata could not be read",
        "The device gave an error, or the ddrescue mapfile says that these bytes were never read from the dying disk.";
    BLANK_CHUNK = "PFS-0015", "metadata of a whole chunk is blank",
        "Nothing but zeros where the objects of the chunk should be. The journal holds every change that was ever made, \
         as long as it was not overwritten; what it holds is used.";
    UNSEALED = "PFS-0016", "objects without a checksum",
        "Very old versions of the engine wrote metadata without checksums. Such objects are used; nothing proves them.";
    LIST = "PFS-0020", "broken list of blocks or names",
        "The members of a file or directory are linked as a list, and the list loops, ends early, or leads to members of \
         others. Each member also names its owner, so all of them were found again. The engine hangs on a loop and \
         asserts on the rest.";
    DANGLING = "PFS-0021", "a name without a file",
        "A directory entry names an inode that is free. The engine lists the name and fails on using it.";
    COUNTS = "PFS-0022", "counts in an inode differ from what it has",
        "The number of blocks or the size that an inode states does not agree with its members.";
    DOUBLE_BLOCK = "PFS-0023", "two blocks claim the same place of a file",
        "Two block tags of one inode carry the same block number of the file. The one in the inode's list is used.";
    ORPHAN = "PFS-0024", "deleted file that is still whole",
        "The file was removed while it was open, or its removal was interrupted: it has no name any more, but its blocks \
         are still its own. It can be had as lost+found/ino-N with --salvage. The engine releases it at the next \
         read-write mount.";
    UNREACHABLE = "PFS-0025", "file or directory without a way from the root",
        "The inode is in use, but no directory leads to it. It can be had as lost+found/ino-N with --salvage.";
    NAME = "PFS-0026", "name that cannot be used as it is",
        "The name is empty, '.', '..', holds a '/', is used twice in its directory, or the path is longer than the engine \
         allows. It is shown in an escaped form.";
    EXTENSION = "PFS-0027", "broken continuation of a long name",
        "Names longer than 63 bytes go on in further directory entries; one of these is missing or belongs to another. \
         The name is shown as far as it is known.";
    HOLE = "PFS-0028", "impossible hole in a block",
        "The part of a block that was never written is described by a start and a length that do not end at the block's \
         end, or stands in a file system of version 0, which has none.";
    DATA_MISSING = "PFS-0029", "data of a file is missing",
        "Blocks of the file lie behind the end of the device or in a range that cannot be read. The file is left out of \
         a strict extraction; with --salvage the rest of it is written and the missing ranges are listed.";
    TREE = "PFS-0030", "directories that lead back to themselves",
        "A directory is reached twice, or contains itself. It is shown once.";
    FORK = "PFS-0031", "entries of another history in the journal",
        "The journal holds entries whose log sequence numbers do not belong in their place. Two hosts that wrote at the \
         same time leave this.";
    LIVE = "PFS-0032", "a live process has this device mounted",
        "The lock file of the PFS daemon for this device is held. What is read now may change while it is read. Stop the \
         daemon first, or work on a snapshot.";
    NOT_PROVEN = "PFS-0033", "format not proven",
        "Part of what was read rests on published source code only and was not confirmed by data written by the engine: \
         on-disk version 3.";
    TWO_NAMES = "PFS-0034", "one inode under two names",
        "PFS has no hard links. Both names are shown; the one that the inode confirms comes first.";
    WASTE = "PFS-0035", "bytes behind the last whole chunk",
        "The engine uses whole chunks of 10 GiB only. The rest of the device does not belong to the file system.";
    BLOCK_LEAK = "PFS-0036", "blocks of a deleted file still marked as used",
        "Block tags in use name an inode that is free. No file holds them.";
    SIZE = "PFS-0037", "impossible size of a file",
        "The inode states a size that the whole device could not hold. The blocks it has are shown.";
    HISTORY = "PFS-0038", "gap in the history that the journal holds",
        "Entries are missing in the part of the journal that was needed to rebuild the file system. An object whose last \
         change they held may be shown in an older state.";
    DONATED = "PFS-0039", "taken from another copy of the disk",
        "The first copy lacks these bytes or holds them damaged, and a copy named with --also holds them whole: a part \
         that was never read from the dying disk, or metadata whose checksum agrees only there. Nothing is lost. The \
         copies were found to show the same moment: their leader records and the metadata whole in both are equal.";
    OTHER_STATE = "PFS-0040", "another copy is of another moment",
        "A copy named with --also is not used: it is another disk, or the same disk at another time. Bytes of different \
         times would make a file system that never existed. Inspect it alone if it may be the better one.";
    MAPFILE = "PFS-0041", "a mapfile lies beside the image",
        "GNU ddrescue leaves a mapfile that says which parts of the image were never read from the dying disk. One lies \
         beside the image under its usual name and is used: these parts count as unreadable, never as zeros. To use \
         another one name it with --mapfile-in.";
}
