//! JSON whose common paths are stored as columns of their own ("flat JSON", 3.3 and later).
//!
//! Children of the column: NULL flags if it is nullable, one nullable column for each path (`ColumnMetaPB.name`, levels
//! parted by dots), and, where the footer says so, a last column with what no path took. A value is the rest with the
//! paths put back; where both know a key, the rest wins. Order of keys is not kept by the engine. Sources:
//! `be/src/storage/rowset/json_column_writer.cpp` (children), `be/src/util/json_flattener.cpp` (`JsonMerger`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal256Type, Float64Type, Int8Type, Int64Type};
use serde_json::{Map, Number, Value};

use super::leaf::{Leaf, LostPart};
use super::node::Lost;
use super::segment::{ReadOptions, Segment};
use super::sink::Target;
use crate::format::segment::Fault;
use crate::format::segment::objects::velocypack;
use crate::format::segment::proto::ColumnMeta;
use crate::model::schema::{Column, ColumnType};

/// A level of the paths.
#[derive(Debug, Default)]
struct Level {
    /// The column that ends here.
    leaf: Option<usize>,
    below: Vec<(String, Level)>,
}

impl Level {
    fn add(&mut self, path: &str, leaf: usize, depth: u32) -> Result<(), Fault> {
        let Some(depth) = depth.checked_sub(1) else { return Err(Fault::value("flat JSON", 0, "nested too deep")) };
        if path.is_empty() {
            self.leaf = Some(leaf);
            return Ok(());
        }
        let (key, next) = split(path);
        let at = self.below.iter().position(|(k, _)| k == key).unwrap_or_else(|| {
            self.below.push((key.to_owned(), Self::default()));
            self.below.len().saturating_sub(1)
        });
        match self.below.get_mut(at) {
            Some((_, level)) => level.add(next, leaf, depth),
            None => Ok(()),
        }
    }

    fn has_value(&self, row: &[Option<Value>]) -> bool {
        self.leaf.is_some_and(|i| row.get(i).is_some_and(Option::is_some))
            || self.below.iter().any(|(_, level)| level.has_value(row))
    }

    /// Puts the values of a row back into an object.
    fn merge(&self, object: &mut Map<String, Value>, row: &mut [Option<Value>]) {
        for (key, level) in &self.below {
            if let Some(known) = object.get_mut(key) {
                // What the rest says of a key counts; only an object in it is filled up.
                if let Value::Object(inner) = known {
                    level.merge(inner, row);
                }
            } else if level.below.is_empty() {
                if let Some(value) = level.leaf.and_then(|i| row.get_mut(i)).and_then(Option::take) {
                    object.insert(key.clone(), value);
                }
            } else if level.has_value(row) {
                let mut inner = Map::new();
                level.merge(&mut inner, row);
                object.insert(key.clone(), Value::Object(inner));
            }
        }
    }
}

/// The first key of a path and the rest. A key with a dot in it stands in quotes.
fn split(path: &str) -> (&str, &str) {
    let quoted = path.strip_prefix('"').and_then(|rest| rest.split_once('"'));
    if let Some((key, rest)) = quoted
        && (rest.is_empty() || rest.starts_with('.'))
    {
        return (key, rest.strip_prefix('.').unwrap_or(rest));
    }
    path.split_once('.').unwrap_or((path, ""))
}

/// A flattened JSON column.
#[derive(Debug)]
pub(super) struct Flat {
    flags: Option<Leaf>,
    /// Each path, and whether its bytes are JSON values rather than text.
    paths: Vec<(bool, Leaf)>,
    remain: Option<Leaf>,
    root: Level,
    nesting: usize,
}

impl Flat {
    pub(super) fn new(
        segment: &Arc<Segment>,
        meta: &ColumnMeta,
        rows: Option<u64>,
        options: ReadOptions,
    ) -> Result<Self, Fault> {
        let wrong = |why: String| Fault::value("flat JSON", 0, why);
        let kind_of = |m: &ColumnMeta| {
            let code = m.type_code;
            ColumnType::from_code(code).ok_or_else(|| Fault::unsupported("flat JSON", 0, format!("type code {code}")))
        };
        let has_remain = meta.json_meta.as_ref().is_some_and(|j| j.has_remain);
        let mut children = meta.children.iter();
        let flags = if meta.is_nullable {
            let child = children.next().ok_or_else(|| wrong("no NULL flags".into()))?;
            Some(Leaf::new(segment, child, Target::flags(kind_of(child)?), rows, options)?)
        } else {
            None
        };
        let remain = if has_remain {
            let child = children.next_back().ok_or_else(|| wrong("no column with the rest".into()))?;
            Some(Leaf::new(segment, child, raw()?, rows, options)?)
        } else {
            None
        };
        let (mut paths, mut root) = (Vec::new(), Level::default());
        for child in children {
            let name = String::from_utf8_lossy(child.name.as_deref().unwrap_or_default()).into_owned();
            if name.is_empty() {
                return Err(wrong(format!("path {} has no name", paths.len())));
            }
            let kind = kind_of(child)?;
            let target = match kind {
                ColumnType::Json | ColumnType::Varchar | ColumnType::Char => raw()?,
                ColumnType::TinyInt | ColumnType::BigInt | ColumnType::LargeInt | ColumnType::Double => {
                    Target::of(kind, &Column::new(0, name.as_str(), kind))?
                }
                other => {
                    return Err(Fault::unsupported("flat JSON", 0, format!("path {name:?} of type {}", other.name())));
                }
            };
            root.add(&name, paths.len(), options.nesting)?;
            paths.push((kind == ColumnType::Json, Leaf::new(segment, child, target, rows, options)?));
        }
        Ok(Self { flags, paths, remain, root, nesting: options.nesting as usize })
    }

    pub(super) fn read(&mut self, n: usize, lost: &mut Lost) -> Result<ArrayRef, Fault> {
        let mut parts: Vec<LostPart> = Vec::new();
        let nulls = super::node::flags_of(self.flags.as_mut(), n, &mut parts)?;
        let mut columns = Vec::new();
        for (json, leaf) in &mut self.paths {
            columns.push((*json, leaf.read(n, &mut parts)?));
        }
        let remain = self.remain.as_mut().map(|leaf| leaf.read(n, &mut parts)).transpose()?;
        let gone = |i: usize| parts.iter().any(|p| p.healed_by.is_none() && p.rows.contains(&i));
        let mut out = StringBuilder::new();
        let mut row: Vec<Option<Value>> = Vec::new();
        for i in 0..n {
            if nulls.as_ref().is_some_and(|v: &NullBuffer| v.is_null(i)) || gone(i) {
                out.append_null();
                continue;
            }
            row.clear();
            for (json, column) in &columns {
                row.push(self.value(column, *json, i)?);
            }
            let rest = remain.as_ref().map(|r| self.value(r, true, i)).transpose()?.flatten();
            let value = match rest {
                Some(Value::Object(mut object)) => {
                    self.root.merge(&mut object, &mut row);
                    Value::Object(object)
                }
                Some(other) => other,
                None => {
                    let mut object = Map::new();
                    self.root.merge(&mut object, &mut row);
                    Value::Object(object)
                }
            };
            out.append_value(value.to_string());
        }
        lost.parts.append(&mut parts);
        Ok(Arc::new(out.finish()))
    }

    /// The value of a row in one of the columns; none where it has none.
    fn value(&self, column: &ArrayRef, json: bool, i: usize) -> Result<Option<Value>, Fault> {
        if column.is_null(i) {
            return Ok(None);
        }
        Ok(match column.data_type() {
            DataType::Int8 => Some(column.as_primitive::<Int8Type>().value(i).into()),
            DataType::Int64 => Some(column.as_primitive::<Int64Type>().value(i).into()),
            DataType::Float64 => {
                let x = column.as_primitive::<Float64Type>().value(i);
                Some(Number::from_f64(x).map_or_else(|| Value::String(x.to_string()), Value::Number))
            }
            DataType::Decimal256(..) => {
                let text = column.as_primitive::<Decimal256Type>().value(i).to_string();
                // Numbers beyond 64 bits do not come from JSON; as text nothing is lost.
                Some(text.parse::<u64>().map_or_else(|_| Value::String(text.clone()), Value::from))
            }
            _ => {
                let bytes = column.as_binary::<i32>().value(i);
                match (json, bytes) {
                    // "None": the row has nothing here.
                    (true, [] | [0]) => None,
                    (true, bytes) => Some(velocypack::decode(bytes, self.nesting)?),
                    (false, bytes) => Some(Value::String(String::from_utf8_lossy(bytes).into_owned())),
                }
            }
        })
    }
}

/// Strings as stored.
fn raw() -> Result<Target, Fault> {
    Target::of(ColumnType::Varbinary, &Column::new(0, "", ColumnType::Varbinary))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_have_levels() {
        assert_eq!(split("a.b.c"), ("a", "b.c"));
        assert_eq!(split("a"), ("a", ""));
        assert_eq!(split("\"a.b\".c"), ("a.b", "c"));
        assert_eq!(split("\"x\"y"), ("\"x\"y", ""));
    }

    #[test]
    fn the_rest_wins_and_is_filled_up() {
        let mut root = Level::default();
        for (i, path) in ["a", "b.c", "b.d.e", "f"].iter().enumerate() {
            root.add(path, i, 10).unwrap();
        }
        let mut rest = json!({"b": {"x": 1}, "f": "kept"}).as_object().unwrap().clone();
        root.merge(&mut rest, &mut [Some(json!(7)), Some(json!(8)), None, Some(json!(9))]);
        assert_eq!(Value::Object(rest), json!({"a": 7, "b": {"x": 1, "c": 8}, "f": "kept"}));
        let mut empty = Map::new();
        root.merge(&mut empty, &mut [None, None, None, None]);
        assert!(empty.is_empty());
        assert!(root.add("a.b.c.d", 9, 3).is_err());
    }
}
