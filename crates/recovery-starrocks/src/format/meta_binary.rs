//! `__meta` as Java data streams: 2.5 and older, early 3.0 and 3.1, and Doris of that time.
//!
//! All numbers big-endian; `T` is a [`Text`](super::java), `J` a text that holds JSON, `MO` two 64-bit numbers.
//!
//! ```text
//! file      := i32 tables, Table*
//! Table     := T type, MO, i64 id, T name, i32 columns, J*, T comment, i64 created, [OlapTable]
//! OlapTable := T state, i32 indexes, (T name, i64 id, J)*, T keys, T partition type, PartInfo, T dist type, Dist,
//!              i32 partitions, Partition*, bool bloom [i32, T*, f64], bool colocate [T], i64 base index,
//!              bool indexes [J], bool properties [J], J temp partitions
//! PartInfo  := T type, i32, (i64 partition, bool default [else T medium, i64 cooldown], i16 replicas, bool in memory)*,
//!              for RANGE: i32, J*, i32, (i64, Range)*, i32, (i64, Range)*
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
//! `catalog/{Table,OlapTable,Partition,MaterializedIndex,Tablet,Replica,RangePartitionInfo}.java` (`write`, `read`),
//! `analysis/DateLiteral.java` (packed dates).

use serde_json::{Map, Value, json};

use super::FormatError;
use super::java::{Reader, Writer};

type R<T> = Result<T, FormatError>;

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
    for _ in 0..r.count("tables", 32)? {
        let table = read_table(&mut r)?;
        let name = table.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        tables.insert(name, table);
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

fn read_table(r: &mut Reader<'_>) -> R<Value> {
    let at = r.offset();
    let mut t = Map::new();
    let kind = r.text("table type")?;
    if kind != "OLAP" {
        return Err(FormatError::new(
            "table type",
            at,
            format!("no binary form is known for a table of type {kind:?}"),
        ));
    }
    t.insert("clazz".into(), json!("OlapTable"));
    t.insert("type".into(), json!(kind));
    persistent(r, &mut t)?;
    t.insert("id".into(), json!(r.i64("table id")?));
    t.insert("name".into(), json!(r.text("table name")?));
    t.insert("fullSchema".into(), columns(r)?);
    t.insert("comment".into(), json!(r.text("comment")?));
    t.insert("createTime".into(), json!(r.i64("create time")?));
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
    let partition_type = r.text("partition type")?;
    t.insert("partitionInfo".into(), read_partition_info(r, partition_type)?);
    let distribution = r.text("distribution type")?;
    t.insert("defaultDistributionInfo".into(), read_distribution(r, distribution)?);
    let mut partitions = Map::new();
    for _ in 0..r.count("partitions", 64)? {
        let partition = read_partition(r)?;
        let id = partition.get("id").and_then(Value::as_i64).unwrap_or(0);
        partitions.insert(id.to_string(), partition);
    }
    t.insert("idToPartition".into(), Value::Object(partitions));
    read_tail(r, &mut t)?;
    Ok(Value::Object(t))
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
    let clazz = match kind {
        "RANGE" => "RangePartitionInfo",
        "UNPARTITIONED" => "SinglePartitionInfo",
        other => {
            return Err(FormatError::new(
                "partition type",
                r.offset(),
                format!("no binary form is known for {other:?}"),
            ));
        }
    };
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
    Ok(Value::Object(info))
}

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
    if kind != "OLAP" {
        return Err(FormatError::new("table type", 0, format!("no binary form is known for a table of type {kind:?}")));
    }
    w.text(kind)?;
    write_persistent(w, t);
    w.i64(long(t, "id"));
    w.text(text(t, "name")?)?;
    write_columns(w, t.get("fullSchema"))?;
    w.text(t.get("comment").and_then(Value::as_str).unwrap_or(""))?;
    w.i64(long(t, "createTime"));
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
    if kind != "RANGE" && kind != "UNPARTITIONED" {
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

/// A value in a partition key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// `MAXVALUE`.
    Max,
    /// Integers up to 64 bits and booleans.
    Int(i64),
    /// `yyyy-MM-dd` or `yyyy-MM-dd HH:mm:ss`, packed by the engine; the flag is 1 for a date.
    Date {
        /// 0 DATETIME, 1 DATE; absent in files that hold the packed number alone.
        flag: Option<i16>,
        /// The packed number.
        packed: i64,
    },
    /// Text, and integers of 128 bits.
    Text(String),
}

/// One bound: whether it is closed, and the key with the type name of each value.
pub type Bound = (bool, Vec<(String, Literal)>);

/// A range of partition keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// Lower bound.
    pub lower: Option<Bound>,
    /// Upper bound.
    pub upper: Option<Bound>,
}

impl Range {
    /// From the byte array of the JSON form: numbers, or base64 text.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        let bytes: Vec<u8> = match value {
            Value::Array(list) => list
                .iter()
                .map(|v| v.as_i64().and_then(|n| i8::try_from(n).ok()).map(i8::cast_unsigned))
                .collect::<Option<_>>()?,
            Value::String(text) => base64(text)?,
            _ => return None,
        };
        let mut r = Reader::new(&bytes, 0);
        let range = Self::read(&mut r).ok()?;
        (r.remaining() == 0).then_some(range)
    }

    fn read(r: &mut Reader<'_>) -> R<Self> {
        let lower = if r.bool("has lower bound")? { Some(read_bound(r)?) } else { None };
        let upper = if r.bool("has upper bound")? { Some(read_bound(r)?) } else { None };
        Ok(Self { lower, upper })
    }

    fn write(&self, w: &mut Writer) -> R<()> {
        for bound in [&self.lower, &self.upper] {
            w.bool(bound.is_some());
            if let Some((closed, key)) = bound {
                w.bool(*closed);
                write_key(w, key)?;
            }
        }
        Ok(())
    }
}

fn read_bound(r: &mut Reader<'_>) -> R<Bound> {
    let closed = r.bool("bound is closed")?;
    let mut key = Vec::new();
    for _ in 0..r.count("key values", 5)? {
        let kind = r.text("key type")?.to_owned();
        let value = if r.bool("is max")? { Literal::Max } else { read_literal(r, &kind)? };
        key.push((kind, value));
    }
    Ok((closed, key))
}

fn read_literal(r: &mut Reader<'_>, kind: &str) -> R<Literal> {
    Ok(match kind {
        "TINYINT" | "SMALLINT" | "INT" | "BIGINT" | "BOOLEAN" => Literal::Int(r.i64("int literal")?),
        "DATE" | "DATETIME" => {
            let mut ahead = r.clone();
            // A packed date of this age never starts with two bytes 0 or 1, so the flag can be told from it.
            match ahead.i16("date flag")? {
                flag @ 0..=1 => {
                    *r = ahead;
                    Literal::Date { flag: Some(flag), packed: r.i64("date literal")? }
                }
                _ => Literal::Date { flag: None, packed: r.i64("date literal")? },
            }
        }
        "CHAR" | "VARCHAR" | "LARGEINT" => Literal::Text(r.text("text literal")?.to_owned()),
        other => {
            return Err(FormatError::new("key type", r.offset(), format!("{other:?} cannot be a partition key")));
        }
    })
}

fn write_key(w: &mut Writer, key: &[(String, Literal)]) -> R<()> {
    w.count(key.len())?;
    for (kind, value) in key {
        w.text(kind)?;
        w.bool(*value == Literal::Max);
        match value {
            Literal::Max => {}
            Literal::Int(v) => w.i64(*v),
            Literal::Date { flag, packed } => {
                if let Some(flag) = flag {
                    w.i16(*flag);
                }
                w.i64(*packed);
            }
            Literal::Text(t) => w.text(t)?,
        }
    }
    Ok(())
}

/// Text of a packed date: `((year * 13 + month) << 5 | day) << 17 | time`, shifted left by 24.
#[must_use]
pub fn date_text(packed: i64, date_only: bool) -> String {
    let ymdhms = packed >> 24;
    let (ymd, hms) = (ymdhms >> 17, ymdhms & 0x1ffff);
    let (day, ym) = (ymd & 31, ymd >> 5);
    let (year, month) = (ym / 13, ym % 13);
    if date_only {
        return format!("{year:04}-{month:02}-{day:02}");
    }
    let (hour, minute, second) = (hms >> 12, (hms >> 6) & 63, hms & 63);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut bits, mut have) = (0u32, 0u32);
    for c in text.bytes().filter(|c| *c != b'=' && *c != b'\n') {
        let v = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(v);
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push(u8::try_from((bits >> have) & 0xff).ok()?);
            bits &= (1 << have) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn ranges() {
        let key = |v| vec![("DATE".to_owned(), v)];
        let packed = ((((2021i64 * 13 + 12) << 5) | 8) << 17) << 24;
        let range = Range {
            lower: Some((true, key(Literal::Date { flag: Some(1), packed }))),
            upper: Some((false, key(Literal::Max))),
        };
        let mut w = Writer::default();
        range.write(&mut w).unwrap();
        let bytes = w.finish();
        assert_eq!(Range::from_value(&signed_bytes(&bytes)).unwrap(), range);
        assert_eq!(date_text(packed, true), "2021-12-08");
        assert_eq!(base64("AAH/").unwrap(), [0, 1, 255]);
    }
}
