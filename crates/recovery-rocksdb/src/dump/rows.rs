//! From entries to rows: visibility, deletions, merges, blobs, wide columns.

use std::collections::BTreeSet;

use recovery_core::Error;

use crate::format::blob::BlobIndex;
use crate::format::key::{KeyOrder, ParsedKey, SequenceNumber, ValueType};
use crate::format::wide_column;
use crate::reader::TableError;

use super::cover::Cover;
use super::merge::Merge;
use super::operator::MergeOperator;
use super::view::{BlobSet, Bound};

/// A visible row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// User key, without timestamp.
    pub key: &'a [u8],
    /// Timestamp of the newest entry, for families that have them.
    pub timestamp: Option<&'a [u8]>,
    /// Sequence number of the newest entry.
    pub sequence: SequenceNumber,
    /// What the key holds.
    pub value: RowValue<'a>,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowValue<'a> {
    /// A value.
    Plain(&'a [u8]),
    /// Operands of a known operator, evaluated.
    Merged(&'a [u8]),
    /// Operands of an unknown operator, or not evaluated: the oldest first, with the value below them if any.
    Operands {
        /// The value they apply to.
        base: Option<&'a [u8]>,
        /// The operands.
        operands: &'a [Vec<u8>],
    },
    /// A wide-column entity; operands that were not evaluated apply to its default column.
    Columns {
        /// Names and values.
        columns: &'a [RowColumn],
        /// Operands above the entity.
        operands: &'a [Vec<u8>],
    },
}

/// One column of an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowColumn {
    /// Its name; empty for the default column.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// Everything that turning entries into rows needs to know.
pub(crate) struct Rows<'a> {
    pub(crate) order: &'a KeyOrder,
    pub(crate) cover: &'a Cover,
    pub(crate) operator: Option<&'a MergeOperator>,
    pub(crate) blobs: &'a BlobSet,
    pub(crate) as_of: SequenceNumber,
    pub(crate) upper: Option<&'a Bound>,
    pub(crate) block_limit: usize,
    /// Values are not looked at: blobs stay unread.
    pub(crate) keys_only: bool,
    /// Sequence numbers of entries that nobody sees.
    pub(crate) hidden: &'a BTreeSet<u64>,
    pub(crate) salvage: bool,
}

/// The row being put together.
#[derive(Default)]
struct Pending {
    key: Vec<u8>,
    timestamp: Vec<u8>,
    open: bool,
    settled: bool,
    sequence: SequenceNumber,
    /// Newest first.
    operands: Vec<Vec<u8>>,
}

/// What lies under the operands of a row.
enum Base<'a> {
    None,
    Plain(&'a [u8]),
    Columns(Vec<RowColumn>),
}

impl Rows<'_> {
    /// Hands every visible row of the merge to `sink`, and gives back the damage passed over.
    pub(crate) fn run(
        &self,
        mut merge: Merge<'_>,
        sink: &mut dyn FnMut(&Row<'_>) -> Result<(), Error>,
    ) -> Result<Vec<TableError>, Error> {
        let mut pending = Pending::default();
        let mut damage = Vec::new();
        while let Some(input) = merge.current() {
            let key = input.key();
            let Some(parsed) = ParsedKey::parse(key) else {
                merge.advance()?;
                continue;
            };
            let bare = self.order.without_timestamp(parsed.user_key);
            if !pending.open || pending.key != bare {
                self.finish(&mut pending, sink)?;
                if self.upper.is_some_and(|upper| upper.is_at_or_before(bare, self.order)) {
                    break;
                }
                pending.start(bare);
            }
            if !pending.settled && parsed.sequence <= self.as_of && !self.is_hidden(parsed.sequence) {
                let timestamp = parsed.user_key.get(bare.len()..).unwrap_or_default();
                match self.entry(&mut pending, &parsed, timestamp, input.value(), sink) {
                    Ok(()) => {}
                    Err(Error::Damaged(message)) if self.salvage => {
                        pending.settled = true;
                        damage.push(TableError::format(
                            "row",
                            crate::format::FormatError::value("entry", "value", 0, message, "a readable value"),
                        ));
                    }
                    Err(error) => return Err(error),
                }
            }
            merge.advance()?;
        }
        self.finish(&mut pending, sink)?;
        damage.extend(merge.damage.take().unwrap_or_default());
        Ok(damage)
    }

    #[inline]
    fn is_hidden(&self, sequence: SequenceNumber) -> bool {
        !self.hidden.is_empty() && self.hidden.contains(&sequence.0)
    }

    fn entry(
        &self,
        pending: &mut Pending,
        parsed: &ParsedKey<'_>,
        timestamp: &[u8],
        value: &[u8],
        sink: &mut dyn FnMut(&Row<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.is_covered(pending, parsed, timestamp) {
            return self.settle(pending, &Base::None, sink);
        }
        if pending.operands.is_empty() {
            pending.sequence = parsed.sequence;
            pending.timestamp.clear();
            pending.timestamp.extend_from_slice(timestamp);
        }
        match parsed.value_type {
            ValueType::Deletion | ValueType::SingleDeletion | ValueType::DeletionWithTimestamp => {
                self.settle(pending, &Base::None, sink)
            }
            ValueType::Merge => {
                pending.operands.push(value.to_vec());
                Ok(())
            }
            ValueType::ValuePreferredSeqno => {
                let value = value.split_last_chunk::<8>().map_or(value, |(value, _)| value);
                self.settle(pending, &Base::Plain(value), sink)
            }
            ValueType::BlobIndex => {
                let value = self.blob(parsed.user_key, value)?;
                self.settle(pending, &Base::Plain(&value), sink)
            }
            ValueType::WideColumnEntity => {
                let columns = self.columns(parsed.user_key, value)?;
                self.settle(pending, &Base::Columns(columns), sink)
            }
            _ => self.settle(pending, &Base::Plain(value), sink),
        }
    }

    #[inline]
    fn is_covered(&self, pending: &Pending, parsed: &ParsedKey<'_>, timestamp: &[u8]) -> bool {
        if self.cover.is_empty() {
            return false;
        }
        self.cover.find(&pending.key, self.order).is_some_and(|(sequence, covered_to)| {
            // Timestamps are little-endian numbers.
            sequence > parsed.sequence && timestamp.iter().rev().le(covered_to.iter().rev())
        })
    }

    /// No older entry matters: the row is what the operands make of the base.
    fn settle(
        &self,
        pending: &mut Pending,
        base: &Base<'_>,
        sink: &mut dyn FnMut(&Row<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        pending.settled = true;
        if pending.operands.is_empty() {
            return match base {
                Base::None => Ok(()),
                Base::Plain(value) => sink(&pending.row(RowValue::Plain(value))),
                Base::Columns(columns) => sink(&pending.row(RowValue::Columns { columns, operands: &[] })),
            };
        }
        let mut operands = std::mem::take(&mut pending.operands);
        operands.reverse();
        self.merged(pending, base, &operands, sink)
    }

    fn merged(
        &self,
        pending: &Pending,
        base: &Base<'_>,
        operands: &[Vec<u8>],
        sink: &mut dyn FnMut(&Row<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let parts = || operands.iter().map(Vec::as_slice);
        match (self.operator, base) {
            (Some(operator), Base::None) => sink(&pending.row(RowValue::Merged(&operator.apply(None, parts())))),
            (Some(operator), Base::Plain(value)) => {
                sink(&pending.row(RowValue::Merged(&operator.apply(Some(value), parts()))))
            }
            (Some(operator), Base::Columns(columns)) => {
                let mut columns = columns.clone();
                let merge = |old: Option<&[u8]>| operator.apply(old, parts());
                match columns.first_mut().filter(|column| column.name.is_empty()) {
                    Some(default) => default.value = merge(Some(&default.value)),
                    None => columns.insert(0, RowColumn { name: Vec::new(), value: merge(None) }),
                }
                sink(&pending.row(RowValue::Columns { columns: &columns, operands: &[] }))
            }
            (None, Base::None) => sink(&pending.row(RowValue::Operands { base: None, operands })),
            (None, Base::Plain(value)) => sink(&pending.row(RowValue::Operands { base: Some(value), operands })),
            (None, Base::Columns(columns)) => sink(&pending.row(RowValue::Columns { columns, operands })),
        }
    }

    fn finish(&self, pending: &mut Pending, sink: &mut dyn FnMut(&Row<'_>) -> Result<(), Error>) -> Result<(), Error> {
        if pending.open && !pending.settled {
            self.settle(pending, &Base::None, sink)?;
        }
        pending.open = false;
        Ok(())
    }

    fn blob(&self, user_key: &[u8], index: &[u8]) -> Result<Vec<u8>, Error> {
        if self.keys_only {
            return Ok(Vec::new());
        }
        match BlobIndex::decode(index, 0).map_err(|error| Error::Damaged(error.to_string()))? {
            BlobIndex::Inlined { value, .. } => Ok(value.to_vec()),
            BlobIndex::Blob { file, offset, size, .. } => {
                self.blobs.value(user_key, file, offset, size, self.block_limit)
            }
        }
    }

    fn columns(&self, user_key: &[u8], value: &[u8]) -> Result<Vec<RowColumn>, Error> {
        let columns = wide_column::decode(value, 0).map_err(|error| Error::Damaged(error.to_string()))?;
        let own = |column: wide_column::Column<'_>| {
            let value = if column.blob_index { self.blob(user_key, column.value)? } else { column.value.to_vec() };
            Ok(RowColumn { name: column.name.to_vec(), value })
        };
        columns.into_iter().map(own).collect()
    }
}

impl Pending {
    fn start(&mut self, key: &[u8]) {
        self.key.clear();
        self.key.extend_from_slice(key);
        self.operands.clear();
        self.open = true;
        self.settled = false;
    }

    fn row<'a>(&'a self, value: RowValue<'a>) -> Row<'a> {
        let timestamp = (!self.timestamp.is_empty()).then_some(&self.timestamp[..]);
        Row { key: &self.key, timestamp, sequence: self.sequence, value }
    }
}
