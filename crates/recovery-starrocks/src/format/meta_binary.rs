//! `__meta` as Java data streams: 2.5 and older, early 3.0 and 3.1, and Doris of that time.
//!
//! All numbers big-endian; `T` is a [`Text`](super::java), `J` a text that holds JSON, `MO` two 64-bit numbers.
//!
//! ```text
//! file      := i32 tables, Table*
//! Table     := T type, MO, i64 id, T name, i32 columns, J*, T comment, i64 created, [OlapTable | View]
//! View      := T original text, T text with full names
//! OlapTable := T state, i32 indexes, (T name, i64 id, J)*, T keys, T partition type, PartInfo, T dist type, Dist,
//!              i32 partitions, Partition*, bool bloom [i32, T*, f64], bool colocate [T], i64 base index,
//!              bool indexes [J], bool properties [J], J temp partitions
//! PartInfo  := T type, i32, (i64 partition, bool default [else T medium, i64 cooldown], i16 replicas, bool in memory)*,
//!              for RANGE: i32, J*, i32, (i64, Range)*, i32, (i64, Range)*; for LIST: J with columns and values
//! Range     := bool [bool closed, Key], bool [bool closed, Key]        Key := i32, (T type, bool max [else literal])*
//! Dist      := T type, for HASH: i32, J*; i32 buckets
//! Partition := MO, i64 id, T name, T state, Index, i32, Index*, i32, Index*, i64 visible version, i64 visible time,
//!              i64 visible hash, i64 next version, i64 next hash, i64 committed hash, T dist type, Dist
//! Index     := MO, i64 id, T state, i64 rows, i32, Tablet*, i64 rollup index, i64 rollup version
//! Tablet    := MO, i64 id, i32, Replica*, i64 checked version, i64 checked hash, bool consistent
//! Replica   := i64 id, backend, version, hash, data size, rows, T state, i64 failed version, failed hash,
//!              last success version, last success hash
//! ```
//! The result of decoding is the tree that the JSON form has (see [`super::meta_json`]), so that everything behind it
//! deals with one shape. No checksum but the MD5 in the name covers the file. Sources: `backup/BackupMeta.java`,
//! `catalog/{Table,OlapTable,View,Partition,MaterializedIndex,Tablet,Replica,RangePartitionInfo,ListPartitionInfo}.java`
//! (`write`, `read`).
//!
//! A table of another type, or with a partitioning that has no known form, cannot be passed over by its length: it has
//! none. Its head is kept (name, id, columns) with the reason under [`UNREAD`], and reading goes on where the next
//! table's head is found.

use serde_json::{Map, Value, json};

use super::FormatError;
use super::java::{Reader, Writer};

mod range;

pub use range::{Bound, Literal, Range, date_text};

type R<T> = Result<T, FormatError>;

/// Key of a table in the tree that was read in part; the text says why.
pub const UNREAD: &str = "recover:unread";

/// "Never" of `DataProperty`: 9999-12-31 15:59:59 UTC.
const MAX_COOLDOWN: i64 = 253_402_271_999_000;

/// Whether a file looks like this form: a small count, then the name of a table type.
#[must_use]
pub fn sniff(bytes: &[u8]) -> bool {
    let mut r = Reader::new(bytes, 0);
    let Ok(tables) = r.count("tables", 1) else { return false };
    if tables == 0 {
        return r.remaining() == 0;
    }
    r.text("table type")
        .is_ok_and(|t| !t.is_empty() && t.len() < 40 && t.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
}

/// Reads the file into the tree of the JSON form.
///
/// # Errors
///
/// When a value does not fit, a table type has no binary form here, or bytes are left over.
pub fn decode(bytes: &[u8]) -> R<Value> {
    let mut r = Reader::new(bytes, 0);
    let mut tables = Map::new();
    let count = r.count("tables", 32)?;
    for left in (0..count).rev() {
        let mut table = Map::new();
        if let Err(why) = read_table(&mut r, &mut table) {
            // Only what is not known here is passed over; what is damaged is an error.
            if !table.contains_key(UNREAD) {
                return Err(why);
            }
            r = next_table(&r, left).ok_or(why)?;
        }
        let name = table.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        tables.insert(name, Value::Object(table));
    }
    if r.remaining() > 0 {
        return Err(FormatError::new("__meta", r.offset(), format!("{} bytes behind the last table", r.remaining())));
    }
    Ok(json!({"tblNameMap": tables}))
}

fn persistent(r: &mut Reader<'_>, tree: &mut Map<String, Value>) -> R<()> {
    tree.insert("signature".into(), json!(r.i64("signature")?));
    tree.insert("lastCheckTime".into(), json!(r.i64("lastCheckTime")?));
    Ok(())
}

fn columns(r: &mut Reader<'_>) -> R<Value> {
    (0..r.count("columns", 6)?).map(|_| r.json("column")).collect::<R<Vec<_>>>().map(Value::Array)
}

/// Where the next table begins, of `left` that must follow; the end of the file where none must.
fn next_table<'a>(r: &Reader<'a>, left: usize) -> Option<Reader<'a>> {
    if left == 0 {
        return r.skipped(r.remaining());
    }
    (0..r.remaining()).find_map(|n| {
        let at = r.skipped(n)?;
        let mut table = Map::new();
        read_head(&mut at.clone(), &mut table).ok()?;
        let columns = table.get("fullSchema").and_then(Value::as_array).is_some_and(|c| !c.is_empty());
        columns.then_some(at)
    })
}

/// What every table begins with. Gives its type.
fn read_head<'a>(r: &mut Reader<'a>, t: &mut Map<String, Value>) -> R<&'a str> {
    let at = r.offset();
    let kind = r.text("table type")?;
    let clazz = match kind {
        "OLAP" => "OlapTable",
        "VIEW" => "View",
        "MATERIALIZED_VIEW" => "MaterializedView",
        "MYSQL" | "ODBC" | "BROKER" | "ELASTICSEARCH" | "HIVE" | "ICEBERG" | "HUDI" | "JDBC" | "SCHEMA"
        | "INLINE_VIEW" | "LAKE" => "Table",
        other => return Err(FormatError::new("table type", at, format!("{other:?} is not known"))),
    };
    t.insert("clazz".into(), json!(clazz));
    t.insert("type".into(), json!(kind));
    persistent(r, t)?;
    t.insert("id".into(), json!(r.i64("table id")?));
    let name = r.text("table name")?;
    if name.is_empty() {
        return Err(FormatError::new("table name", at, "no name"));
    }
    t.insert("name".into(), json!(name));
    t.insert("fullSchema".into(), columns(r)?);
    t.insert("comment".into(), json!(r.text("comment")?));
    t.insert("createTime".into(), json!(r.i64("create time")?));
    Ok(kind)
}

/// Notes that the rest of a table has no known form.
fn unread(t: &mut Map<String, Value>, field: &'static str, at: u64, why: String) -> FormatError {
    t.insert(UNREAD.into(), json!(why));
    FormatError::new(field, at, why)
}

fn read_table(r: &mut Reader<'_>, t: &mut Map<String, Value>) -> R<()> {
    let at = r.offset();
    match read_head(r, t)? {
        "OLAP" => {}
        "VIEW" => {
            t.insert("o".into(), json!(r.text("view's text")?));
            t.insert("i".into(), json!(r.text("view's text with full names")?));
            return Ok(());
        }
        kind => {
            return Err(unread(t, "table type", at, format!("no binary form is known for a table of type {kind:?}")));
        }
    }
    t.insert("state".into(), json!(r.text("table state")?));
    let (mut ids, mut metas) = (Map::new(), Map::new());
    for _ in 0..r.count("indexes", 16)? {
        let name = r.text("index name")?.to_owned();
        let id = r.i64("index id")?;
        ids.insert(name, json!(id));
        metas.insert(id.to_string(), r.json("index meta")?);
    }
    t.insert("indexIdToMeta".into(), Value::Object(metas));
    t.insert("indexNameToId".into(), Value::Object(ids));
    t.insert("keysType".into(), json!(r.text("keys type")?));
    let at = r.offset();
    let kind = r.text("partition type")?;
    if partitioning(kind).is_none() {
        let known = !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
        let why = format!("no binary form is known for partitions of type {kind:?}");
        return Err(if known {
            unread(t, "partition type", at, why)
        } else {
            FormatError::new("partition type", at, why)
        });
    }
    t.insert("partitionInfo".into(), read_partition_info(r, kind)?);
    let distribution = r.text("distribution type")?;
    t.insert("defaultDistributionInfo".into(), read_distribution(r, distribution)?);
    let mut partitions = Map::new();
    for _ in 0..r.count("partitions", 64)? {
        let partition = read_partition(r)?;
        let id = partition.get("id").and_then(Value::as_i64).unwrap_or(0);
        partitions.insert(id.to_string(), partition);
    }
    t.insert("idToPartition".into(), Value::Object(partitions));
    read_tail(r, t)
}

/// The class of a kind of partitioning that has a known form.
fn partitioning(kind: &str) -> Option<&'static str> {
    match kind {
        "RANGE" => Some("RangePartitionInfo"),
        "LIST" => Some("ListPartitionInfo"),
        "UNPARTITIONED" => Some("SinglePartitionInfo"),
        _ => None,
    }
}

fn read_tail(r: &mut Reader<'_>, t: &mut Map<String, Value>) -> R<()> {
    if r.bool("has bloom columns")? {
        let names = (0..r.count("bloom columns", 4)?).map(|_| r.text("bloom column").map(|s| json!(s)));
        t.insert("bfColumns".into(), Value::Array(names.collect::<R<Vec<_>>>()?));
        t.insert("bfFpp".into(), json!(r.f64("bloom fpp")?));
    }
    if r.bool("has colocate group")? {
        t.insert("colocateGroup".into(), json!(r.text("colocate group")?));
    }
    t.insert("baseIndexId".into(), json!(r.i64("base index id")?));
    if r.bool("has indexes")? {
        t.insert("indexes".into(), r.json("indexes")?);
    }
    if r.bool("has properties")? {
        t.insert("tableProperty".into(), r.json("table property")?);
    }
    t.insert("tempPartitions".into(), r.json("temp partitions")?);
    Ok(())
}

fn read_partition_info(r: &mut Reader<'_>, kind: &str) -> R<Value> {
    let clazz = partitioning(kind).ok_or_else(|| {
        FormatError::new("partition type", r.offset(), format!("no binary form is known for {kind:?}"))
    })?;
    let mut info = Map::new();
    info.insert("clazz".into(), json!(clazz));
    info.insert("type".into(), json!(r.text("partition info type")?));
    let (mut property, mut replicas, mut memory) = (Map::new(), Map::new(), Map::new());
    for _ in 0..r.count("partition properties", 12)? {
        let id = r.i64("partition id")?.to_string();
        let (medium, cooldown) = if r.bool("default medium")? {
            ("HDD", MAX_COOLDOWN)
        } else {
            (r.text("storage medium")?, r.i64("cooldown")?)
        };
        property.insert(id.clone(), json!({"storageMedium": medium, "cooldownTimeMs": cooldown}));
        replicas.insert(id.clone(), json!(r.i16("replicas")?));
        memory.insert(id, json!(r.bool("in memory")?));
    }
    info.insert("idToDataProperty".into(), Value::Object(property));
    info.insert("idToReplicationNum".into(), Value::Object(replicas));
    info.insert("idToInMemory".into(), Value::Object(memory));
    if kind == "RANGE" {
        info.insert("partitionColumns".into(), columns(r)?);
        for key in ["serializedIdToRange", "serializedIdToTempRange"] {
            let mut ranges = Map::new();
            for _ in 0..r.count("ranges", 10)? {
                let id = r.i64("partition id")?;
                ranges.insert(id.to_string(), signed_bytes(&read_range_bytes(r)?));
            }
            info.insert(key.into(), Value::Object(ranges));
        }
    }
    if kind == "LIST" {
        let own = r.json("list partitions")?;
        for key in LIST_KEYS {
            if let Some(value) = own.get(key) {
                info.insert(key.into(), value.clone());
            }
        }
    }
    Ok(Value::Object(info))
}

/// What stands in the JSON of list partitions, in the order of the class.
const LIST_KEYS: [&str; 4] = ["partitionColumns", "idToMultiValues", "idToValues", "isMultiColumnPartition"];

/// Java's byte array as gson writes it.
fn signed_bytes(bytes: &[u8]) -> Value {
    Value::Array(bytes.iter().map(|b| json!(b.cast_signed())).collect())
}

fn read_range_bytes(r: &mut Reader<'_>) -> R<Vec<u8>> {
    let range = Range::read(r)?;
    let mut w = Writer::default();
    range.write(&mut w)?;
    Ok(w.finish())
}

fn read_distribution(r: &mut Reader<'_>, kind: &str) -> R<Value> {
    let mut d = Map::new();
    let clazz = if kind == "HASH" { "HashDistributionInfo" } else { "RandomDistributionInfo" };
    if kind != "HASH" && kind != "RANDOM" {
        return Err(FormatError::new("distribution type", r.offset(), format!("{kind:?} is not known")));
    }
    d.insert("clazz".into(), json!(clazz));
    d.insert("type".into(), json!(r.text("distribution type")?));
    if kind == "HASH" {
        d.insert("distributionColumns".into(), columns(r)?);
        d.insert("bucketNum".into(), json!(r.i32("buckets")?));
    } else {
        d.insert("b".into(), json!(r.i32("buckets")?));
    }
    Ok(Value::Object(d))
}

fn read_partition(r: &mut Reader<'_>) -> R<Value> {
    let mut p = Map::new();
    persistent(r, &mut p)?;
    p.insert("id".into(), json!(r.i64("partition id")?));
    p.insert("name".into(), json!(r.text("partition name")?));
    p.insert("state".into(), json!(r.text("partition state")?));
    p.insert("baseIndex".into(), read_index(r)?);
    for key in ["idToVisibleRollupIndex", "idToShadowIndex"] {
        let mut list = Map::new();
        for _ in 0..r.count("rollups", 40)? {
            let index = read_index(r)?;
            let id = index.get("id").and_then(Value::as_i64).unwrap_or(0);
            list.insert(id.to_string(), index);
        }
        p.insert(key.into(), Value::Object(list));
    }
    for key in [
        "visibleVersion",
        "visibleVersionTime",
        "visibleVersionHash",
        "nextVersion",
        "nextVersionHash",
        "committedVersionHash",
    ] {
        p.insert(key.into(), json!(r.i64("partition version")?));
    }
    let distribution = r.text("distribution type")?;
    p.insert("distributionInfo".into(), read_distribution(r, distribution)?);
    Ok(Value::Object(p))
}

fn read_index(r: &mut Reader<'_>) -> R<Value> {
    let mut i = Map::new();
    persistent(r, &mut i)?;
    i.insert("id".into(), json!(r.i64("index id")?));
    i.insert("state".into(), json!(r.text("index state")?));
    i.insert("rowCount".into(), json!(r.i64("row count")?));
    let tablets = (0..r.count("tablets", 37)?).map(|_| read_tablet(r)).collect::<R<Vec<_>>>()?;
    i.insert("tablets".into(), Value::Array(tablets));
    i.insert("rollupIndexId".into(), json!(r.i64("rollup index id")?));
    i.insert("rollupFinishedVersion".into(), json!(r.i64("rollup version")?));
    Ok(Value::Object(i))
}

fn read_tablet(r: &mut Reader<'_>) -> R<Value> {
    let mut t = Map::new();
    t.insert("clazz".into(), json!("LocalTablet"));
    persistent(r, &mut t)?;
    t.insert("id".into(), json!(r.i64("tablet id")?));
    let replicas = (0..r.count("replicas", 84)?).map(|_| read_replica(r)).collect::<R<Vec<_>>>()?;
    t.insert("replicas".into(), Value::Array(replicas));
    t.insert("checkedVersion".into(), json!(r.i64("checked version")?));
    t.insert("checkedVersionHash".into(), json!(r.i64("checked hash")?));
    t.insert("isConsistent".into(), json!(r.bool("consistent")?));
    Ok(Value::Object(t))
}

const REPLICA_HEAD: [&str; 6] = ["id", "backendId", "version", "versionHash", "dataSize", "rowCount"];
const REPLICA_TAIL: [&str; 4] =
    ["lastFailedVersion", "lastFailedVersionHash", "lastSuccessVersion", "lastSuccessVersionHash"];

fn read_replica(r: &mut Reader<'_>) -> R<Value> {
    let mut replica = Map::new();
    for key in REPLICA_HEAD {
        replica.insert(key.into(), json!(r.i64("replica")?));
    }
    replica.insert("state".into(), json!(r.text("replica state")?));
    for key in REPLICA_TAIL {
        replica.insert(key.into(), json!(r.i64("replica")?));
    }
    Ok(Value::Object(replica))
}

/// Writes the tree as this form. Keys that it has no place for are left out.
///
/// # Errors
///
/// When the tree lacks what the form needs, or a number does not fit.
pub fn encode(tree: &Value) -> R<Vec<u8>> {
    let tables = tree.get("tblNameMap").and_then(Value::as_object).ok_or_else(|| missing("tblNameMap"))?;
    let mut w = Writer::default();
    w.count(tables.len())?;
    for table in tables.values() {
        write_table(&mut w, table)?;
    }
    Ok(w.finish())
}

fn missing(key: &str) -> FormatError {
    FormatError::new("__meta", 0, format!("the tree has no usable {key:?}, which the binary form needs"))
}

fn long(v: &Value, key: &str) -> i64 {
    v.get(key).and_then(Value::as_i64).unwrap_or(0)
}

fn text<'a>(v: &'a Value, key: &str) -> R<&'a str> {
    v.get(key).and_then(Value::as_str).ok_or_else(|| missing(key))
}

fn map<'a>(v: &'a Value, key: &str) -> R<&'a Map<String, Value>> {
    v.get(key).and_then(Value::as_object).ok_or_else(|| missing(key))
}

fn key_id(key: &str) -> R<i64> {
    key.parse().map_err(|_| missing(key))
}

fn write_persistent(w: &mut Writer, v: &Value) {
    w.i64(long(v, "signature"));
    w.i64(long(v, "lastCheckTime"));
}

fn write_columns(w: &mut Writer, list: Option<&Value>) -> R<()> {
    let list = list.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    w.count(list.len())?;
    list.iter().try_for_each(|c| w.json(c))
}

fn write_table(w: &mut Writer, t: &Value) -> R<()> {
    let kind = text(t, "type")?;
    if (kind != "OLAP" && kind != "VIEW") || t.get(UNREAD).is_some() {
        return Err(FormatError::new("table type", 0, format!("no binary form is known for a table of type {kind:?}")));
    }
    w.text(kind)?;
    write_persistent(w, t);
    w.i64(long(t, "id"));
    w.text(text(t, "name")?)?;
    write_columns(w, t.get("fullSchema"))?;
    w.text(t.get("comment").and_then(Value::as_str).unwrap_or(""))?;
    w.i64(long(t, "createTime"));
    if kind == "VIEW" {
        w.text(t.get("o").and_then(Value::as_str).unwrap_or(""))?;
        return w.text(t.get("i").and_then(Value::as_str).unwrap_or(""));
    }
    w.text(t.get("state").and_then(Value::as_str).unwrap_or("NORMAL"))?;
    let ids = map(t, "indexNameToId")?;
    let metas = map(t, "indexIdToMeta")?;
    w.count(ids.len())?;
    for (name, id) in ids {
        let id = id.as_i64().ok_or_else(|| missing("indexNameToId"))?;
        w.text(name)?;
        w.i64(id);
        w.json(metas.get(&id.to_string()).ok_or_else(|| missing("indexIdToMeta"))?)?;
    }
    w.text(text(t, "keysType")?)?;
    let info = t.get("partitionInfo").ok_or_else(|| missing("partitionInfo"))?;
    write_partition_info(w, info)?;
    write_distribution(w, t.get("defaultDistributionInfo").ok_or_else(|| missing("defaultDistributionInfo"))?)?;
    let partitions = map(t, "idToPartition")?;
    w.count(partitions.len())?;
    partitions.values().try_for_each(|p| write_partition(w, p))?;
    write_tail(w, t)
}

fn write_tail(w: &mut Writer, t: &Value) -> R<()> {
    let some = |key: &str| t.get(key).filter(|v| !v.is_null());
    w.bool(some("bfColumns").is_some());
    if let Some(names) = some("bfColumns").and_then(Value::as_array) {
        w.count(names.len())?;
        names.iter().try_for_each(|n| w.text(n.as_str().unwrap_or("")))?;
        w.f64(t.get("bfFpp").and_then(Value::as_f64).unwrap_or(0.0));
    }
    let group = some("colocateGroup").and_then(Value::as_str);
    w.bool(group.is_some());
    group.map_or(Ok(()), |g| w.text(g))?;
    w.i64(long(t, "baseIndexId"));
    for key in ["indexes", "tableProperty"] {
        w.bool(some(key).is_some());
        some(key).map_or(Ok(()), |v| w.json(v))?;
    }
    w.json(some("tempPartitions").unwrap_or(&json!({"idToPartition": {}})))
}

fn write_partition_info(w: &mut Writer, info: &Value) -> R<()> {
    let kind = text(info, "type")?;
    if partitioning(kind).is_none() {
        return Err(FormatError::new("partition type", 0, format!("no binary form is known for {kind:?}")));
    }
    w.text(kind)?;
    w.text(kind)?;
    let properties = map(info, "idToDataProperty")?;
    w.count(properties.len())?;
    for (id, property) in properties {
        w.i64(key_id(id)?);
        let medium = property.get("storageMedium").and_then(Value::as_str).unwrap_or("HDD");
        let cooldown = property.get("cooldownTimeMs").and_then(Value::as_i64).unwrap_or(MAX_COOLDOWN);
        let default = medium == "HDD" && cooldown == MAX_COOLDOWN;
        w.bool(default);
        if !default {
            w.text(medium)?;
            w.i64(cooldown);
        }
        let of = |key: &str| info.get(key).and_then(|m| m.get(id));
        let replicas = of("idToReplicationNum").and_then(Value::as_i64).unwrap_or(1);
        w.i16(i16::try_from(replicas).map_err(|_| missing("idToReplicationNum"))?);
        w.bool(of("idToInMemory").and_then(Value::as_bool).unwrap_or(false));
    }
    if kind == "RANGE" {
        write_columns(w, info.get("partitionColumns"))?;
        for key in ["serializedIdToRange", "serializedIdToTempRange"] {
            let empty = Map::new();
            let ranges = info.get(key).and_then(Value::as_object).unwrap_or(&empty);
            w.count(ranges.len())?;
            for (id, range) in ranges {
                w.i64(key_id(id)?);
                Range::from_value(range).ok_or_else(|| missing(key))?.write(w)?;
            }
        }
    }
    if kind == "LIST" {
        let own = LIST_KEYS.iter().filter_map(|key| Some(((*key).to_owned(), info.get(*key)?.clone())));
        w.json(&Value::Object(own.collect()))?;
    }
    Ok(())
}

fn write_distribution(w: &mut Writer, d: &Value) -> R<()> {
    let hash = d.get("clazz").and_then(Value::as_str) != Some("RandomDistributionInfo");
    let kind = if hash { "HASH" } else { "RANDOM" };
    w.text(kind)?;
    w.text(kind)?;
    if hash {
        write_columns(w, Some(d.get("distributionColumns").ok_or_else(|| missing("distributionColumns"))?))?;
    }
    let buckets = long(d, if hash { "bucketNum" } else { "b" });
    w.i32(i32::try_from(buckets).map_err(|_| missing("bucketNum"))?);
    Ok(())
}

fn write_partition(w: &mut Writer, p: &Value) -> R<()> {
    write_persistent(w, p);
    w.i64(long(p, "id"));
    w.text(text(p, "name")?)?;
    w.text(p.get("state").and_then(Value::as_str).unwrap_or("NORMAL"))?;
    write_index(w, p.get("baseIndex").ok_or_else(|| missing("baseIndex"))?)?;
    for key in ["idToVisibleRollupIndex", "idToShadowIndex"] {
        let empty = Map::new();
        let list = p.get(key).and_then(Value::as_object).unwrap_or(&empty);
        w.count(list.len())?;
        list.values().try_for_each(|i| write_index(w, i))?;
    }
    for key in [
        "visibleVersion",
        "visibleVersionTime",
        "visibleVersionHash",
        "nextVersion",
        "nextVersionHash",
        "committedVersionHash",
    ] {
        w.i64(long(p, key));
    }
    write_distribution(w, p.get("distributionInfo").ok_or_else(|| missing("distributionInfo"))?)
}

fn write_index(w: &mut Writer, i: &Value) -> R<()> {
    write_persistent(w, i);
    w.i64(long(i, "id"));
    w.text(i.get("state").and_then(Value::as_str).unwrap_or("NORMAL"))?;
    w.i64(long(i, "rowCount"));
    let tablets = i.get("tablets").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    w.count(tablets.len())?;
    for t in tablets {
        write_persistent(w, t);
        w.i64(long(t, "id"));
        let replicas = t.get("replicas").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        w.count(replicas.len())?;
        for r in replicas {
            REPLICA_HEAD.iter().for_each(|key| w.i64(long(r, key)));
            w.text(r.get("state").and_then(Value::as_str).unwrap_or("NORMAL"))?;
            REPLICA_TAIL.iter().for_each(|key| w.i64(long(r, key)));
        }
        w.i64(long(t, "checkedVersion"));
        w.i64(long(t, "checkedVersionHash"));
        w.bool(t.get("isConsistent").and_then(Value::as_bool).unwrap_or(true));
    }
    w.i64(long(i, "rollupIndexId"));
    w.i64(long(i, "rollupFinishedVersion"));
    Ok(())
}
