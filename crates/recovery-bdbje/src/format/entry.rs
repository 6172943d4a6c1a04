//! Any entry, by its type.

use recovery_core::Cursor;

use super::checkpoint::{CkptEnd, CkptStart, RestoreRequired, Trace};
use super::database::DbTree;
use super::file_header::FileHeader;
use super::ln::LnEntry;
use super::node::Node;
use super::old::{OldDelete, OldDelta};
use super::txn::{Matchpoint, Prepare, RollbackEnd, RollbackStart, TxnEnd};
use super::{EntryType, FormatError, Result};

/// Content of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A record.
    Ln(Box<LnEntry<'a>>),
    /// A tree node.
    Node(Box<Node<'a>>),
    /// Changes to a BIN in old files.
    OldDelta(OldDelta<'a>),
    /// Deletion of a node in old files.
    OldDelete(OldDelete<'a>),
    /// Roots of the system trees.
    DbTree(Box<DbTree>),
    /// Commit.
    Commit(TxnEnd),
    /// Abort.
    Abort(TxnEnd),
    /// First phase of a two-phase commit.
    Prepare(Prepare<'a>),
    /// Begin of a checkpoint.
    CkptStart(CkptStart<'a>),
    /// End of a checkpoint.
    CkptEnd(Box<CkptEnd>),
    /// Message.
    Trace(Trace<'a>),
    /// First entry of a file.
    FileHeader(FileHeader),
    /// Begin of a rollback.
    RollbackStart(RollbackStart),
    /// End of a rollback.
    RollbackEnd(RollbackEnd),
    /// Matchpoint.
    Matchpoint(Matchpoint),
    /// The file must not be written any more.
    ImmutableFile,
    /// The environment must be restored.
    RestoreRequired(RestoreRequired<'a>),
    /// Erased: so many bytes of item.
    Erased(usize),
}

impl<'a> Entry<'a> {
    /// Decodes the whole item; `at` is its place in the file.
    ///
    /// # Errors
    ///
    /// When the item is not what its type and version say, or bytes are left over.
    pub fn decode(kind: EntryType, version: u8, item: &'a [u8], at: u64) -> Result<Self> {
        let mut cursor = Cursor::new(item, at);
        let c = &mut cursor;
        let entry = match kind.number() {
            _ if kind.is_ln() => Self::Ln(Box::new(LnEntry::decode(c, kind, version)?)),
            12..=15 | 37 => Self::Node(Box::new(Node::decode(c, kind, version)?)),
            16 => Self::DbTree(Box::new(DbTree::decode(c, version)?)),
            17 => Self::Commit(TxnEnd::decode(c, version)?),
            18 => Self::Abort(TxnEnd::decode(c, version)?),
            19 => Self::CkptStart(CkptStart::decode(c)?),
            20 => Self::CkptEnd(Box::new(CkptEnd::decode(c, version)?)),
            21 => Self::OldDelete(OldDelete::decode(c, false)?),
            22 | 23 => Self::OldDelta(OldDelta::decode(c, version)?),
            24 => Self::Trace(Trace::decode(c)?),
            25 => Self::FileHeader(FileHeader::decode(c)?),
            26 => Self::OldDelete(OldDelete::decode(c, true)?),
            27 => Self::Prepare(Prepare::decode(c)?),
            28 => Self::RollbackStart(RollbackStart::decode(c)?),
            29 => Self::RollbackEnd(RollbackEnd::decode(c)?),
            30 => Self::Matchpoint(Matchpoint::decode(c)?),
            38 => Self::ImmutableFile,
            39 => Self::RestoreRequired(RestoreRequired::decode(c)?),
            43 => {
                c.skip(item.len(), "item")?;
                Self::Erased(item.len())
            }
            n => return Err(FormatError::BadType { found: n, at }),
        };
        if cursor.is_empty() {
            Ok(entry)
        } else {
            Err(FormatError::Leftover { at: cursor.offset(), left: cursor.remaining() as u64 })
        }
    }

    /// The item's bytes.
    #[must_use]
    pub fn encode(&self, version: u8) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Ln(e) => e.encode(&mut out, version),
            Self::Node(e) => e.encode(&mut out, version),
            Self::OldDelta(e) => e.encode(&mut out),
            Self::OldDelete(e) => e.encode(&mut out),
            Self::DbTree(e) => e.encode(&mut out, version),
            Self::Commit(e) | Self::Abort(e) => e.encode(&mut out, version),
            Self::Prepare(e) => e.encode(&mut out),
            Self::CkptStart(e) => e.encode(&mut out),
            Self::CkptEnd(e) => e.encode(&mut out, version),
            Self::Trace(e) => e.encode(&mut out),
            Self::FileHeader(e) => out = e.encode(),
            Self::RollbackStart(e) => e.encode(&mut out),
            Self::RollbackEnd(e) => e.encode(&mut out),
            Self::Matchpoint(e) => e.encode(&mut out),
            Self::ImmutableFile => {}
            Self::RestoreRequired(e) => e.encode(&mut out),
            Self::Erased(n) => out.resize(*n, 0),
        }
        out
    }
}
