//! `__info_<timestamp>`: what a backup job saved. Its presence means that the snapshot finished.
//!
//! Compact JSON with keys in no order, written by org.json. Source: `backup/BackupJobInfo.java` (`toJson`,
//! `genFromJson`). Unknown keys survive a rewrite: [`Info`] keeps the tree it was read from.

use serde_json::{Map, Value, json};

use super::FormatError;

/// A parsed job description.
#[derive(Clone, Debug, PartialEq)]
pub struct Info {
    /// Label of the snapshot.
    pub name: String,
    /// Database name.
    pub database: String,
    /// Database id.
    pub database_id: i64,
    /// Milliseconds since 1970.
    pub backup_time_ms: i64,
    /// Meta version of the common code line, where it was written.
    pub meta_version: Option<i64>,
    /// Meta version of StarRocks, where it was written.
    pub starrocks_meta_version: Option<i64>,
    /// Whether `backup_result` is `succeed`.
    pub succeeded: bool,
    /// Tables in the order of the file.
    pub tables: Vec<InfoTable>,
    /// The whole tree.
    pub raw: Value,
}

/// A table in a job description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoTable {
    /// Name.
    pub name: String,
    /// Id, as in the path.
    pub id: i64,
    /// Partitions; none for a logical view.
    pub partitions: Vec<InfoPartition>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoPartition {
    /// Name.
    pub name: String,
    /// Id of the logical partition.
    pub id: i64,
    /// Version that was backed up.
    pub version: i64,
    /// Physical partitions: the partition itself in old files, `subPartitions` in new ones.
    pub physical: Vec<InfoPhysical>,
}

/// A physical partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoPhysical {
    /// Id, as in the path.
    pub id: i64,
    /// Version that was backed up.
    pub version: i64,
    /// Indexes: the base index and the rollups.
    pub indexes: Vec<InfoIndex>,
}

/// An index of a physical partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoIndex {
    /// Name; the base index has the table's name.
    pub name: String,
    /// Id, as in the path.
    pub id: i64,
    /// Schema hash.
    pub schema_hash: i64,
    /// Tablets in bucket order.
    pub tablets: Vec<InfoTablet>,
}

/// A tablet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoTablet {
    /// Id.
    pub id: i64,
    /// File names without suffix; empty in current files, which does not mean that there are none.
    pub files: Vec<String>,
}

fn bad(message: impl Into<String>) -> FormatError {
    FormatError::new("__info", 0, message)
}

fn int(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::Number(n) => n.as_i64(),
        Value::String(s) => s.parse().ok(),
        _ => None,
    }
}

fn need(object: &Map<String, Value>, key: &str) -> Result<i64, FormatError> {
    int(object.get(key)).ok_or_else(|| bad(format!("no integer under {key:?}")))
}

fn object<'a>(value: &'a Value, what: &str) -> Result<&'a Map<String, Value>, FormatError> {
    value.as_object().ok_or_else(|| bad(format!("{what} is not an object")))
}

impl Info {
    /// Reads a job description.
    ///
    /// # Errors
    ///
    /// When the text is not one JSON object with the keys that the front end needs.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let raw: Value = serde_json::from_slice(bytes).map_err(|e| bad(format!("not JSON: {e}")))?;
        Self::from_value(raw)
    }

    /// Reads a tree.
    ///
    /// # Errors
    ///
    /// As [`Info::decode`].
    pub fn from_value(raw: Value) -> Result<Self, FormatError> {
        let top = object(&raw, "the file")?;
        let text = |key: &str| top.get(key).and_then(Value::as_str).map(str::to_owned);
        let tables = match top.get("backup_objects") {
            Some(objects) => object(objects, "backup_objects")?
                .iter()
                .map(|(name, table)| read_table(name, table))
                .collect::<Result<_, _>>()?,
            None => return Err(bad("no \"backup_objects\"")),
        };
        Ok(Self {
            name: text("name").ok_or_else(|| bad("no \"name\""))?,
            database: text("database").ok_or_else(|| bad("no \"database\""))?,
            database_id: need(top, "id")?,
            backup_time_ms: need(top, "backup_time")?,
            meta_version: int(top.get("meta_version")),
            starrocks_meta_version: int(top.get("starrocks_meta_version")),
            succeeded: top.get("backup_result").and_then(Value::as_str) == Some("succeed"),
            tables,
            raw,
        })
    }

    /// The bytes of the tree, compact.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.raw.to_string().into_bytes()
    }

    /// The tree of typed fields, in the shape of 3.2 and later when `sub_partitions`, else in the older one.
    #[must_use]
    pub fn tree(&self, sub_partitions: bool) -> Value {
        let tables: Map<String, Value> =
            self.tables.iter().map(|t| (t.name.clone(), write_table(t, sub_partitions))).collect();
        let mut top = Map::new();
        top.insert("name".into(), json!(self.name));
        top.insert("database".into(), json!(self.database));
        top.insert("id".into(), json!(self.database_id));
        top.insert("backup_time".into(), json!(self.backup_time_ms));
        top.insert("backup_objects".into(), Value::Object(tables));
        if let Some(v) = self.meta_version {
            top.insert("meta_version".into(), json!(v));
        }
        if let Some(v) = self.starrocks_meta_version {
            top.insert("starrocks_meta_version".into(), json!(v));
        }
        top.insert("backup_result".into(), json!(if self.succeeded { "succeed" } else { "failed" }));
        Value::Object(top)
    }

    /// Takes partitions out of tree and fields; a table of which none is left goes too. Everything else, known or
    /// not, stays as it was.
    pub fn remove_partitions(&mut self, gone: &dyn Fn(&InfoTable, &InfoPartition) -> bool) {
        let Some(objects) = self.raw.get_mut("backup_objects").and_then(Value::as_object_mut) else { return };
        for table in &mut self.tables {
            let copy = table.clone();
            let Some(tree) = objects.get_mut(&table.name).and_then(|t| t.get_mut("partitions")) else { continue };
            let Some(tree) = tree.as_object_mut() else { continue };
            table.partitions.retain(|p| !gone(&copy, p));
            tree.retain(|name, _| table.partitions.iter().any(|p| &p.name == name));
            if tree.is_empty() && !copy.partitions.is_empty() {
                objects.shift_remove(&table.name);
            }
        }
        self.tables.retain(|t| objects.contains_key(&t.name));
    }
}

impl Info {
    /// Changes the list of a tablet's files, in tree and fields. Says whether that changed anything; tablets whose
    /// list is empty, as in current files, keep it so.
    pub fn change_files(&mut self, tablet: i64, change: &dyn Fn(&[String]) -> Vec<String>) -> bool {
        let mut changed = false;
        let indexes = self.tables.iter_mut().flat_map(|t| &mut t.partitions).flat_map(|p| &mut p.physical);
        for found in indexes.flat_map(|p| &mut p.indexes).flat_map(|i| &mut i.tablets).filter(|t| t.id == tablet) {
            let new = if found.files.is_empty() { Vec::new() } else { change(&found.files) };
            changed |= new != found.files;
            found.files = new;
        }
        if changed && let Some(objects) = self.raw.get_mut("backup_objects") {
            patch_files(objects, &tablet.to_string(), change, 0);
        }
        changed
    }
}

/// Finds the lists below `"tablets"`, which lie at most nine objects deep.
fn patch_files(tree: &mut Value, tablet: &str, change: &dyn Fn(&[String]) -> Vec<String>, depth: u32) {
    let Some(map) = tree.as_object_mut().filter(|_| depth < 10) else { return };
    for (key, value) in map {
        let list = if key == "tablets" { value.get_mut(tablet).and_then(Value::as_array_mut) } else { None };
        match list {
            Some(list) => {
                let names: Vec<String> = list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                *list = change(&names).into_iter().map(Value::String).collect();
            }
            None => patch_files(value, tablet, change, depth.saturating_add(1)),
        }
    }
}

fn read_table(name: &str, value: &Value) -> Result<InfoTable, FormatError> {
    let table = object(value, "a table")?;
    let partitions = match table.get("partitions") {
        None | Some(Value::Null) => Vec::new(),
        Some(p) => object(p, "partitions")?
            .iter()
            .map(|(name, partition)| read_partition(name, partition))
            .collect::<Result<_, _>>()?,
    };
    Ok(InfoTable { name: name.to_owned(), id: need(table, "id")?, partitions })
}

fn read_partition(name: &str, value: &Value) -> Result<InfoPartition, FormatError> {
    let partition = object(value, "a partition")?;
    let id = need(partition, "id")?;
    let version = need(partition, "version")?;
    let mut physical = Vec::new();
    let own = read_indexes(partition.get("indexes"))?;
    if !own.is_empty() {
        physical.push(InfoPhysical { id, version, indexes: own });
    }
    if let Some(subs) = partition.get("subPartitions").filter(|v| !v.is_null()) {
        for (key, sub) in object(subs, "subPartitions")? {
            let sub = object(sub, "a physical partition")?;
            let id = int(sub.get("id"))
                .or_else(|| key.parse().ok())
                .ok_or_else(|| bad("a physical partition without id"))?;
            let version = int(sub.get("version")).unwrap_or(version);
            physical.push(InfoPhysical { id, version, indexes: read_indexes(sub.get("indexes"))? });
        }
    }
    Ok(InfoPartition { name: name.to_owned(), id, version, physical })
}

fn read_indexes(value: Option<&Value>) -> Result<Vec<InfoIndex>, FormatError> {
    let Some(value) = value.filter(|v| !v.is_null()) else { return Ok(Vec::new()) };
    object(value, "indexes")?.iter().map(|(name, index)| read_index(name, index)).collect()
}

fn read_index(name: &str, value: &Value) -> Result<InfoIndex, FormatError> {
    let index = object(value, "an index")?;
    let mut tablets = Vec::new();
    if let Some(list) = index.get("tablets").filter(|v| !v.is_null()) {
        for (key, files) in object(list, "tablets")? {
            let id = key.parse().map_err(|_| bad(format!("tablet id {key:?} is not a number")))?;
            let files = files.as_array().map_or(&[][..], Vec::as_slice);
            let files = files.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            tablets.push(InfoTablet { id, files });
        }
    }
    sort_tablets(&mut tablets, index.get("tablets_order"));
    Ok(InfoIndex {
        name: name.to_owned(),
        id: need(index, "id")?,
        schema_hash: int(index.get("schema_hash")).unwrap_or(0),
        tablets,
    })
}

/// Bucket order: as listed, else ascending. A tablet that the list forgets goes last.
fn sort_tablets(tablets: &mut [InfoTablet], order: Option<&Value>) {
    let place: std::collections::HashMap<i64, usize> = order
        .and_then(Value::as_array)
        .map(|list| list.iter().enumerate().filter_map(|(i, v)| Some((int(Some(v))?, i))).collect())
        .unwrap_or_default();
    tablets.sort_by_key(|t| (place.get(&t.id).copied().unwrap_or(usize::MAX), t.id));
}

fn write_table(table: &InfoTable, sub_partitions: bool) -> Value {
    let partitions: Map<String, Value> =
        table.partitions.iter().map(|p| (p.name.clone(), write_partition(p, sub_partitions))).collect();
    json!({"id": table.id, "partitions": partitions})
}

fn write_partition(partition: &InfoPartition, sub_partitions: bool) -> Value {
    let indexes = |physical: &InfoPhysical| -> Value {
        Value::Object(physical.indexes.iter().map(|i| (i.name.clone(), write_index(i))).collect())
    };
    if sub_partitions {
        let subs: Map<String, Value> = partition
            .physical
            .iter()
            .map(|p| (p.id.to_string(), json!({"id": p.id, "version": p.version, "indexes": indexes(p)})))
            .collect();
        return json!({"id": partition.id, "version": partition.version, "version_hash": 0, "indexes": {},
            "subPartitions": subs});
    }
    let own = partition.physical.first().map_or_else(|| json!({}), indexes);
    json!({"id": partition.id, "version": partition.version, "version_hash": 0, "indexes": own})
}

fn write_index(index: &InfoIndex) -> Value {
    let tablets: Map<String, Value> = index.tablets.iter().map(|t| (t.id.to_string(), json!(t.files))).collect();
    let order: Vec<String> = index.tablets.iter().map(|t| t.id.to_string()).collect();
    json!({"id": index.id, "schema_hash": index.schema_hash, "tablets": tablets, "tablets_order": order})
}

/// `__repo_info`: plain JSON, no suffix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoInfo {
    /// Repository name; replaces the one the directory gave.
    pub name: String,
    /// `yyyy-MM-dd HH:mm:ss`.
    pub create_time: Option<String>,
}

impl RepoInfo {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// When it is not a JSON object with a name.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let error = |m: String| FormatError::new("__repo_info", 0, m);
        let raw: Value = serde_json::from_slice(bytes).map_err(|e| error(format!("not JSON: {e}")))?;
        let text = |key: &str| raw.get(key).and_then(Value::as_str).map(str::to_owned);
        let name = text("name").ok_or_else(|| error("no \"name\"".into()))?;
        Ok(Self { name, create_time: text("create_time") })
    }

    /// Writes the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut top = Map::new();
        top.insert("name".into(), json!(self.name));
        if let Some(time) = &self.create_time {
            top.insert("create_time".into(), json!(time));
        }
        Value::Object(top).to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    const OLD: &str = r#"{"name":"l","database":"d","id":7,"backup_time":1639008000123,"future":[1],"backup_objects":
        {"a":{"id":1,"autoIncrementId":9,"partitions":{"a":{"id":2,"version":4,"version_hash":0,"indexes":{"a":{"id":3,
        "schema_hash":-5,"tablets":{"11":["x_0.dat"],"9":[]},"tablets_order":["11","9"]}}}}},"v":{"id":5,"partitions":{}}},
        "meta_version":92,"starrocks_meta_version":3,"backup_result":"succeed"}"#;

    #[test]
    fn both_shapes() {
        let info = Info::decode(OLD.as_bytes()).unwrap();
        let index = &info.tables[0].partitions[0].physical[0].indexes[0];
        assert_eq!(index.tablets.iter().map(|t| t.id).collect::<Vec<_>>(), [11, 9]);
        for shape in [false, true] {
            let again = Info::from_value(info.tree(shape)).unwrap();
            assert_eq!(again.tables, info.tables);
        }
        assert_eq!(Info::decode(&info.encode()).unwrap(), info);
    }

    #[test]
    fn unknown_keys_survive() {
        let mut info = Info::decode(OLD.as_bytes()).unwrap();
        info.remove_partitions(&|t, _| t.name == "a");
        assert_eq!(info.tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["v"]);
        assert_eq!(info.raw["future"], json!([1]));
    }

    #[test]
    fn order_falls_back_to_numbers() {
        let text = OLD.replace(r#","tablets_order":["11","9"]"#, "");
        let info = Info::decode(text.as_bytes()).unwrap();
        let index = &info.tables[0].partitions[0].physical[0].indexes[0];
        assert_eq!(index.tablets.iter().map(|t| t.id).collect::<Vec<_>>(), [9, 11]);
    }
}
