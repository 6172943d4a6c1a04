//! The operations a change log can hold.

/// A piece of a line, still escaped.
///
/// It is kept as its distance from the end of the line, so that an operation needs no borrow of the text and one
/// batch of lines can be parsed on one thread and applied on another without a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    tail: u32,
    len: u32,
}

impl Span {
    pub(crate) fn new(tail: usize, len: usize) -> Self {
        Self { tail: u32::try_from(tail).unwrap_or(0), len: u32::try_from(len).unwrap_or(0) }
    }

    /// The piece of `line`, the text of the line it was parsed from (without the newline).
    #[must_use]
    #[inline]
    pub fn of(self, line: &[u8]) -> &[u8] {
        let start = line.len().saturating_sub(self.tail as usize);
        line.get(start..start.saturating_add(self.len as usize)).unwrap_or_default()
    }
}

/// How a recursive change of attributes went: changed, not changed, denied.
pub type Counts = [u32; 3];

/// Fields of `SESADD` and `SESCHANGED`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionArgs {
    /// Checksum of the exports entry.
    pub exports: u64,
    /// Root inode.
    pub root: u32,
    /// Session flags.
    pub flags: u32,
    /// Umask.
    pub umask: u16,
    /// Root uid and gid, mapped uid and gid.
    pub ids: [u32; 4],
    /// Class groups, if logged.
    pub groups: Option<u16>,
    /// Lowest and highest goal, if logged.
    pub goals: [u32; 2],
    /// Lowest and highest trash retention.
    pub trash: [u32; 2],
    /// Disabled operations.
    pub disables: u32,
    /// Client address.
    pub ip: u32,
    /// Mount point.
    pub info: Span,
    /// The session.
    pub id: u32,
}

/// Fields of `QUOTA`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaArgs {
    /// Directory.
    pub inode: u32,
    /// Whether the soft quota is exceeded.
    pub exceeded: u32,
    /// Which limits count.
    pub flags: u32,
    /// When the soft quota was exceeded.
    pub time: u32,
    /// Soft and hard inodes.
    pub inodes: [u32; 2],
    /// Soft and hard length, size, real size.
    pub limits: [u64; 6],
    /// Grace period, if logged.
    pub grace: Option<u32>,
}

/// Fields of `SETACL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AclArgs {
    /// Node.
    pub inode: u32,
    /// New mode.
    pub mode: u16,
    /// Whether the change time is set.
    pub change_ctime: u8,
    /// 1 access, 2 default.
    pub kind: u8,
    /// Owner, group, other, mask.
    pub perms: [u16; 4],
    /// Named users and groups.
    pub named: [u16; 2],
    /// The named entries.
    pub blob: Span,
}

/// Fields of `SNAPSHOT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotArgs {
    /// What is copied; 0 removes.
    pub source: u32,
    /// Directory of the copy.
    pub parent: u32,
    /// Name of the copy.
    pub name: Span,
    /// 1 overwrite, 2 like `cp`, 4 force removal, 8 keep hard links, 0x80 remove.
    pub mode: u32,
    /// Session flags.
    pub flags: u32,
    /// User.
    pub uid: u32,
    /// Groups.
    pub gids: Vec<u32>,
    /// Umask.
    pub umask: u32,
    /// Xor of inodes, removed, same, existing, hard links, new.
    pub expect: Option<[u32; 6]>,
    /// Whether the line has the short form of 1.6: source, parent, name, overwrite.
    pub old: bool,
}

/// Fields of `TRASH_RECOVER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoverArgs {
    /// The file.
    pub inode: u32,
    /// Where it goes.
    pub parent: u32,
    /// Path below that; empty takes the stored path.
    pub path: Span,
    /// Umask of new directories.
    pub umask: u16,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Whether new directories inherit setgid.
    pub copy_sgid: u8,
    /// The path used, if it differs.
    pub used: Span,
}

/// Fields of `PATADD`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatternArgs {
    /// Glob.
    pub glob: Span,
    /// User.
    pub euid: u32,
    /// Group.
    pub egid: u32,
    /// Priority.
    pub priority: u8,
    /// Mask of what is set.
    pub mask: u8,
    /// Class.
    pub class: u8,
    /// Trash retention in hours.
    pub retention: u16,
    /// Attributes set.
    pub set: u8,
    /// Attributes cleared.
    pub clear: u8,
}

/// One storage mode in `SCSET` of 4.x.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModeArgs {
    /// Erasure coding parts.
    pub ec: u8,
    /// Unique mask.
    pub unique: u32,
    /// Labels mode.
    pub labels_mode: u8,
    /// Label expressions.
    pub labels: Vec<Vec<u8>>,
}

/// The two forms of `SCSET`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassArgs {
    /// 3.x.
    Masks {
        /// Create, keep, archive.
        lists: [Vec<[u32; 4]>; 3],
        /// Mode.
        mode: u8,
        /// Delay in days.
        delay: u16,
        /// Administrators only.
        admin: u8,
    },
    /// 4.x.
    Expressions {
        /// Description, if the line has one.
        description: Option<Span>,
        /// Priority.
        priority: u32,
        /// Export group.
        group: u8,
        /// Create, keep, archive, trash.
        modes: Box<[ModeArgs; 4]>,
        /// Labels mode.
        labels_mode: u8,
        /// Archive mode.
        archive_mode: u8,
        /// Delay in hours.
        delay: u16,
        /// Smallest file archived.
        min_size: u64,
        /// Least trash retention.
        min_retention: u16,
        /// Administrators only.
        admin: u8,
    },
}

/// Fields of `SCSET`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassSet {
    /// Name.
    pub name: Span,
    /// Whether the class is new.
    pub new: u8,
    /// What it demands.
    pub args: ClassArgs,
    /// The class id.
    pub id: u16,
}

/// Which attribute a recursive change sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// Storage class (`SETSCLASS`).
    Class,
    /// Goal, or class by its old name (`SETGOAL`).
    Goal,
    /// Trash retention in seconds (`SETTRASHTIME`).
    Retention,
    /// Extra attributes (`SETEATTR`).
    Eattr,
}

/// What a lock line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Release.
    Unlock,
    /// Shared.
    Read,
    /// Exclusive.
    Write,
    /// Neither letter is known.
    Unknown,
}

/// An operation with its arguments and logged results.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields carry the names of the log grammar; see docs/formats/moosefs.md")]
pub enum Op {
    Idle,
    Access {
        inode: u32,
    },
    AddAttr {
        inode: u32,
        flags: u8,
        blob: Span,
    },
    AmTime {
        inode: u32,
        atime: u32,
        mtime: u32,
        ctime: u32,
    },
    Append {
        inode: u32,
        source: u32,
        slice: Option<(u32, u32)>,
    },
    Acquire {
        first: u32,
        second: u32,
    },
    Release {
        first: u32,
        second: u32,
    },
    ArchChg {
        inode: u32,
        uid: u32,
        cmd: u8,
        changed: u64,
        unchanged: u64,
        denied: u32,
    },
    AutoArch {
        inode: u32,
        reftime: u32,
        in_trash: Option<u8>,
        arch: u32,
        trash: u32,
    },
    Attr {
        inode: u32,
        mode: u32,
        uid: u32,
        gid: u32,
        atime: u32,
        mtime: u32,
        winattr: u8,
        aclmode: u16,
    },
    Create {
        parent: u32,
        name: Span,
        kind: u8,
        mode: u16,
        umask: u16,
        uid: u32,
        gid: u32,
        rdev: u32,
        inode: u32,
    },
    CsdbOp {
        op: u8,
        ip: u32,
        port: u16,
        arg: u32,
    },
    CsAdd {
        ip: u32,
        port: u32,
    },
    CsDel {
        ip: u32,
        port: u32,
    },
    ChunkAdd {
        id: u64,
        version: u32,
        locked: u32,
    },
    ChunkDel {
        id: u64,
        version: u32,
    },
    ChunkFlagsClear {
        id: u64,
    },
    EmptyTrash {
        bucket: Option<u32>,
        freed: u32,
        sustained: u32,
        flagged: Option<u32>,
        check: u32,
    },
    EmptySustained {
        bucket: Option<u32>,
        freed: u32,
        check: u32,
    },
    Flock {
        inode: u32,
        session: u32,
        owner: u64,
        kind: LockKind,
    },
    FreeInodes {
        delay: Option<u32>,
        freed: u32,
        sustained: u32,
        check: u32,
    },
    IncVersion {
        id: u64,
    },
    SetVersion {
        id: u64,
        version: u32,
    },
    Link {
        inode: u32,
        parent: u32,
        name: Span,
    },
    Length {
        inode: u32,
        length: u64,
        can_mtime: bool,
    },
    Move {
        from: u32,
        name: Span,
        to: u32,
        new_name: Span,
        mode: u8,
        inode: u32,
    },
    NextChunkId {
        id: u64,
    },
    PatAdd(Box<PatternArgs>),
    PatDel {
        glob: Span,
        euid: u32,
        egid: u32,
    },
    PosixLock {
        inode: u32,
        session: u32,
        owner: u64,
        kind: LockKind,
        start: u64,
        end: u64,
        pid: u32,
    },
    Purge {
        inode: u32,
    },
    TrashRemove {
        inode: u32,
    },
    TrashRecover(Box<RecoverArgs>),
    Quota(Box<QuotaArgs>),
    Repair {
        inode: u32,
        index: u32,
        version: u32,
    },
    RenumerateEdges {
        next: u64,
    },
    Session {
        id: u32,
    },
    SesAdd(Box<SessionArgs>),
    SesChanged(Box<SessionArgs>),
    SesDel {
        id: u32,
    },
    SesConnected {
        id: u32,
    },
    SesDisconnected {
        id: u32,
    },
    Rollback {
        inode: u32,
        index: u32,
        previous: u64,
        chunk: u64,
    },
    Set {
        what: Attribute,
        inode: u32,
        uid: u32,
        source: u32,
        value: u32,
        mode: u32,
        expect: Counts,
    },
    SetFileChunk {
        inode: u32,
        index: u32,
        chunk: u64,
    },
    SetMetaId {
        id: u64,
    },
    SetPath {
        inode: u32,
        path: Span,
    },
    SetXattr {
        inode: u32,
        name: Span,
        value: Span,
        mode: u32,
    },
    SetAcl(Box<AclArgs>),
    Snapshot(Box<SnapshotArgs>),
    Symlink {
        parent: u32,
        name: Span,
        path: Span,
        uid: u32,
        gid: u32,
        inode: u32,
    },
    ScEcVersion {
        version: u8,
    },
    ScDel {
        name: Span,
        id: u16,
    },
    ScDup {
        name: Span,
        new_name: Span,
        source: u16,
        id: u16,
    },
    ScRen {
        name: Span,
        new_name: Span,
        id: u16,
    },
    ScSet(Box<ClassSet>),
    Undel {
        inode: u32,
    },
    Unlink {
        parent: u32,
        name: Span,
        inode: u32,
    },
    Unlock {
        id: u64,
    },
    Trunc {
        inode: u32,
        index: u32,
        chunk: u64,
    },
    Write {
        inode: u32,
        index: u32,
        op_flag: u32,
        can_mtime: bool,
        chunk: u64,
    },
    /// An operation that no known product writes.
    Unknown {
        name: Span,
    },
}

impl Op {
    /// Whether a cut in the results of this operation can go unnoticed, because replay has nothing to compare with.
    #[must_use]
    pub const fn has_unchecked_results(&self) -> bool {
        matches!(self, Self::Repair { .. })
    }
}
