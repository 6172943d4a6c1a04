//! `__meta` in its two forms, and the table definitions in it.
//!
//! The JSON form is one [`Text`](super::java): a 32-bit big-endian length, then
//! `{"tblNameMap":{name: Table},"functions":[...],"catalogs":[...]}` as gson writes the front end's catalog classes.
//! It is told from the binary form by its content, never by a version number. [`Meta`] keeps the whole tree, so that
//! what it does not know survives a rewrite. Sources: `backup/BackupMeta.java`, `persist/gson/GsonUtils.java`,
//! `catalog/*.java`.

use serde_json::{Map, Value};

use super::{FormatError, meta_binary};
use crate::model::table::{self, TableDef};

/// How a `__meta` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// 3.2 and later, late 3.0 and 3.1.
    Json,
    /// 2.5 and older, early 3.0 and 3.1.
    Binary,
}

/// A parsed `__meta`.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// How it was written.
    pub form: Form,
    /// The whole tree in the shape of the JSON form.
    pub tree: Value,
}

fn bad(at: u64, message: impl Into<String>) -> FormatError {
    FormatError::new("__meta", at, message)
}

impl Meta {
    /// Reads either form.
    ///
    /// # Errors
    ///
    /// When the bytes are neither, or break off.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let head = bytes.first_chunk::<4>().map(|b| u64::from(u32::from_be_bytes(*b)));
        let Some(length) = head else { return Err(bad(0, format!("{} bytes are too few", bytes.len()))) };
        let body = bytes.get(4..).unwrap_or_default();
        if body.first() == Some(&b'{') {
            if length != body.len() as u64 {
                return Err(bad(0, format!("{length} bytes of JSON are announced, {} are there", body.len())));
            }
            let tree: Value = serde_json::from_slice(body).map_err(|e| bad(4, format!("not JSON: {e}")))?;
            if !tree.get("tblNameMap").is_some_and(Value::is_object) {
                return Err(bad(4, "no \"tblNameMap\""));
            }
            return Ok(Self { form: Form::Json, tree });
        }
        if !meta_binary::sniff(bytes) {
            return Err(bad(0, "neither the JSON form nor the binary form of table definitions"));
        }
        Ok(Self { form: Form::Binary, tree: meta_binary::decode(bytes)? })
    }

    /// Writes the form it was read from.
    ///
    /// # Errors
    ///
    /// When the tree does not fit the binary form.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        match self.form {
            Form::Binary => meta_binary::encode(&self.tree),
            Form::Json => {
                let text = self.tree.to_string();
                let length = u32::try_from(text.len()).map_err(|_| bad(0, "more than 4 GiB of JSON"))?;
                let mut out = length.to_be_bytes().to_vec();
                out.extend_from_slice(text.as_bytes());
                Ok(out)
            }
        }
    }

    /// The table definitions.
    #[must_use]
    pub fn tables(&self) -> Vec<TableDef> {
        let empty = Map::new();
        let map = self.tree.get("tblNameMap").and_then(Value::as_object).unwrap_or(&empty);
        map.iter().map(|(name, tree)| table::from_tree(name, tree)).collect()
    }

    /// How many functions and catalogs it holds besides tables.
    #[must_use]
    pub fn others(&self) -> (usize, usize) {
        let of = |key: &str| self.tree.get(key).and_then(Value::as_array).map_or(0, Vec::len);
        (of("functions"), of("catalogs"))
    }
}
