//! The order of rows: which columns make it, and whether a segment keeps it.

use recovery_core::Result;

use super::internal;
use crate::model::schema::{KeysType, TabletSchema};
use crate::reader::arrow_type;

/// Positions of the columns rows are ordered by.
pub(super) fn sort_key(schema: &TabletSchema) -> Vec<usize> {
    let keys: Vec<usize> = schema.columns.iter().enumerate().filter(|(_, c)| c.is_key).map(|(i, _)| i).collect();
    let sort: Vec<usize> = schema.sort_key.iter().map(|i| *i as usize).collect();
    let mut sorted = sort.clone();
    sorted.sort_unstable();
    // Another order of the same columns; anything else does not decide which rows are equal.
    if sorted == keys { sort } else { keys }
}

/// Checks that rows come in the order of their key, as the writer of a segment guarantees.
pub(crate) struct KeyOrder {
    /// Positions of the key's columns in the schema, in sort order.
    pub(crate) columns: Vec<usize>,
    converter: arrow::row::RowConverter,
    last: Option<arrow::row::OwnedRow>,
    /// Rows with a smaller key than the row before.
    pub(crate) unsorted: u64,
}

impl KeyOrder {
    /// For the key of a schema; none where it has no columns that can be compared.
    pub(crate) fn of(schema: &TabletSchema) -> Result<Option<Self>> {
        let columns = match schema.keys {
            // A sort key of its own decides the order there.
            KeysType::Primary | KeysType::Duplicate if !schema.sort_key.is_empty() => {
                schema.sort_key.iter().map(|i| *i as usize).collect()
            }
            _ => sort_key(schema),
        };
        let mut fields = Vec::new();
        for i in &columns {
            let Some(column) = schema.columns.get(*i) else { return Ok(None) };
            if column.kind == crate::model::ColumnType::Unknown {
                return Ok(None);
            }
            let kind = arrow_type::data_type(column, 2)?;
            if kind.is_nested() {
                return Ok(None);
            }
            fields.push(arrow::row::SortField::new(kind));
        }
        if fields.is_empty() {
            return Ok(None);
        }
        let converter = arrow::row::RowConverter::new(fields).map_err(internal)?;
        Ok(Some(Self { columns, converter, last: None, unsorted: 0 }))
    }

    /// Looks at the key columns of the next batch.
    pub(crate) fn see(&mut self, columns: &[arrow::array::ArrayRef]) -> Result<()> {
        let rows = self.converter.convert_columns(columns).map_err(internal)?;
        let mut before = self.last.as_ref().map(arrow::row::OwnedRow::row);
        let mut unsorted = 0u64;
        for row in &rows {
            if before.is_some_and(|b| row < b) {
                unsorted = unsorted.saturating_add(1);
            }
            before = Some(row);
        }
        let last = before.map(|r| r.owned());
        self.unsorted = self.unsorted.saturating_add(unsorted);
        self.last = last;
        Ok(())
    }
}
