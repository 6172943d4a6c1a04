//! Rows as JSON Lines. Keys and values are binary, so they stand as lowercase hexadecimal.
//!
//! | form           | fields                                                                            |
//! | -------------- | --------------------------------------------------------------------------------- |
//! | a value        | `{"family","key","value","seq","type":"put"}`                                     |
//! | merged         | the same with `"type":"merge"` when a known operator was evaluated                |
//! | operands       | `{"family","key","base"?,"operands":[…],"seq","type":"merge"}`, the oldest first  |
//! | wide columns   | `{"family","key","columns":[{"name","value"}],"seq","type":"wide-columns"}`       |
//! | any version    | `{"family","key","value"?,"seq","type"}` with the entry's own type                |
//! | range deletion | `{"family","key","end","seq","type":"range-delete"}`                              |
//!
//! Families with timestamps add `"timestamp"`, a number where it has 8 bytes, else hexadecimal.

use crate::format::coding::put_hex;
use crate::format::key::{KeyOrder, ValueType};

use super::rows::{Row, RowValue};
use super::view::InternalEntry;

/// Writes rows of one family as lines of JSON.
#[derive(Clone, Debug)]
pub struct JsonRows {
    head: Vec<u8>,
    keys_only: bool,
}

impl JsonRows {
    /// A writer for the family of that name. With `keys_only`, values are left out.
    #[must_use]
    pub fn new(family: &str, keys_only: bool) -> Self {
        let name = serde_json::Value::from(family).to_string();
        Self { head: format!("{{\"family\":{name},\"key\":\"").into_bytes(), keys_only }
    }

    /// Appends one row and a line end.
    pub fn row(&self, row: &Row<'_>, out: &mut Vec<u8>) {
        self.begin(row.key, row.timestamp, out);
        if !self.keys_only {
            value(&row.value, out);
        }
        let kind = match row.value {
            RowValue::Plain(_) => "put",
            RowValue::Merged(_) | RowValue::Operands { .. } => "merge",
            RowValue::Columns { .. } => "wide-columns",
        };
        end(row.sequence.0, kind, out);
    }

    /// Appends one stored entry and a line end.
    pub fn entry(&self, entry: &InternalEntry<'_>, order: &KeyOrder, out: &mut Vec<u8>) {
        let bare = order.without_timestamp(entry.key.user_key);
        let timestamp = entry.key.user_key.get(bare.len()..).filter(|t| !t.is_empty());
        self.begin(bare, timestamp, out);
        let kind = entry.key.value_type;
        match kind {
            _ if self.keys_only => {}
            ValueType::Deletion | ValueType::SingleDeletion | ValueType::DeletionWithTimestamp => {}
            ValueType::RangeDeletion => field("end", order.without_timestamp(entry.value), out),
            _ => field("value", entry.value, out),
        }
        end(entry.key.sequence.0, kind.name(), out);
    }

    fn begin(&self, key: &[u8], timestamp: Option<&[u8]>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        put_hex(out, key);
        out.push(b'"');
        match timestamp.map(|t| (t, <[u8; 8]>::try_from(t))) {
            Some((_, Ok(bytes))) => {
                out.extend_from_slice(b",\"timestamp\":");
                number(u64::from_le_bytes(bytes), out);
            }
            Some((bytes, Err(_))) => field("timestamp", bytes, out),
            None => {}
        }
    }
}

fn value(value: &RowValue<'_>, out: &mut Vec<u8>) {
    match value {
        RowValue::Plain(bytes) | RowValue::Merged(bytes) => field("value", bytes, out),
        RowValue::Operands { base, operands } => {
            if let Some(base) = base {
                field("base", base, out);
            }
            list(operands, out);
        }
        RowValue::Columns { columns, operands } => {
            out.extend_from_slice(b",\"columns\":[");
            for (n, column) in columns.iter().enumerate() {
                out.extend_from_slice(if n == 0 { b"{\"name\":\"" } else { b",{\"name\":\"" });
                put_hex(out, &column.name);
                out.push(b'"');
                field("value", &column.value, out);
                out.push(b'}');
            }
            out.push(b']');
            if !operands.is_empty() {
                list(operands, out);
            }
        }
    }
}

fn list(operands: &[Vec<u8>], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"operands\":[");
    for (n, operand) in operands.iter().enumerate() {
        out.extend_from_slice(if n == 0 { b"\"" } else { b",\"" });
        put_hex(out, operand);
        out.push(b'"');
    }
    out.push(b']');
}

fn field(name: &str, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    put_hex(out, bytes);
    out.push(b'"');
}

fn number(mut value: u64, out: &mut Vec<u8>) {
    let start = out.len();
    loop {
        out.push(b'0'.wrapping_add(value.wrapping_rem(10).to_le_bytes()[0]));
        value /= 10;
        if value == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

fn end(sequence: u64, kind: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"seq\":");
    number(sequence, out);
    out.extend_from_slice(b",\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::rows::RowColumn;
    use super::*;
    use crate::format::key::SequenceNumber;

    fn line(value: RowValue<'_>) -> String {
        let mut out = Vec::new();
        let row = Row { key: b"k\xff", timestamp: None, sequence: SequenceNumber(1205), value };
        JsonRows::new("de\"fault", false).row(&row, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_form_is_json() {
        let columns = [RowColumn { name: Vec::new(), value: b"a".to_vec() }];
        let operands = [b"x".to_vec(), b"yz".to_vec()];
        let forms = [
            line(RowValue::Plain(b"v")),
            line(RowValue::Operands { base: Some(b"b"), operands: &operands }),
            line(RowValue::Columns { columns: &columns, operands: &operands }),
        ];
        assert_eq!(
            forms[0],
            "{\"family\":\"de\\\"fault\",\"key\":\"6bff\",\"value\":\"76\",\"seq\":1205,\"type\":\"put\"}\n"
        );
        for form in forms {
            let json: serde_json::Value = serde_json::from_str(&form).unwrap();
            assert_eq!(json["seq"], 1205);
        }
    }
}
