//! Table definitions in the tree of `__meta`, built from what is left: the job description, the tablet headers, and
//! another snapshot of the same table if there is one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::format::info::{InfoIndex, InfoPhysical, InfoTable};
use crate::format::meta_json::Form;
use crate::model::schema::{Column, ColumnType, KeysType, TabletSchema};

/// What a table is built from.
#[derive(Debug)]
pub struct Given<'a> {
    /// Form of the file it goes into.
    pub form: Form,
    /// The table in the job description.
    pub table: &'a InfoTable,
    /// Index id of the base.
    pub base: i64,
    /// Schema of each index.
    pub schemas: &'a BTreeMap<i64, Arc<TabletSchema>>,
    /// Distribution columns; empty: random where that is safe, else the key.
    pub distribution: &'a [String],
    /// Seconds since 1970.
    pub created: i64,
}

/// The primitive type of the front end.
fn primitive(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::DateV1 | ColumnType::Date => "DATE",
        ColumnType::DatetimeV1 | ColumnType::Datetime => "DATETIME",
        ColumnType::DecimalV1 | ColumnType::DecimalV2 => "DECIMALV2",
        ColumnType::Object => "BITMAP",
        other => other.name(),
    }
}

fn type_tree(c: &Column, depth: usize) -> Value {
    let child = |i: usize| c.children.get(i).filter(|_| depth < 32).map_or(Value::Null, |c| type_tree(c, depth + 1));
    match c.kind {
        ColumnType::Array => json!({"clazz": "ArrayType", "itemType": child(0)}),
        ColumnType::Map => json!({"clazz": "MapType", "keyType": child(0), "valueType": child(1)}),
        ColumnType::Struct => {
            let fields: Vec<Value> = c
                .children
                .iter()
                .enumerate()
                .map(|(i, f)| json!({"name": f.name, "type": child(i), "position": i}))
                .collect();
            json!({"clazz": "StructType", "fields": fields, "named": true})
        }
        kind => {
            let text = matches!(kind, ColumnType::Char | ColumnType::Varchar | ColumnType::Varbinary);
            let decimal = matches!(
                kind,
                ColumnType::DecimalV1
                    | ColumnType::DecimalV2
                    | ColumnType::Decimal32
                    | ColumnType::Decimal64
                    | ColumnType::Decimal128
                    | ColumnType::Decimal256
            );
            let (precision, scale) = if decimal { (c.precision.unwrap_or(27), c.scale.unwrap_or(9)) } else { (0, 0) };
            json!({"clazz": "ScalarType", "type": primitive(kind), "len": if text { c.length } else { -1 },
                "precision": precision, "scale": scale})
        }
    }
}

fn column_tree(c: &Column, keys: KeysType) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), json!(c.name));
    out.insert("columnId".into(), json!(c.name));
    out.insert("uniqueId".into(), json!(c.unique_id));
    out.insert("type".into(), type_tree(c, 0));
    let implicit = keys != KeysType::Aggregate && !c.is_key;
    if !c.is_key {
        let name = c.aggregation.name();
        let replaced = matches!(keys, KeysType::Unique | KeysType::Primary) && name == "NONE";
        if replaced {
            out.insert("aggregationType".into(), json!("REPLACE"));
        } else if name != "NONE" || keys == KeysType::Duplicate {
            out.insert("aggregationType".into(), json!(name));
        }
    }
    out.insert("isAggregationTypeImplicit".into(), json!(implicit));
    out.insert("isKey".into(), json!(c.is_key));
    out.insert("isAllowNull".into(), json!(c.nullable));
    out.insert("isAutoIncrement".into(), json!(c.is_auto_increment));
    if let Some(default) = &c.default_value {
        out.insert("defaultValue".into(), json!(String::from_utf8_lossy(default)));
    }
    out.insert("comment".into(), json!(""));
    Value::Object(out)
}

fn index_meta(index: &InfoIndex, schema: &TabletSchema, base: bool) -> Value {
    let columns: Vec<Value> =
        schema.columns.iter().filter(|c| c.visible).map(|c| column_tree(c, schema.keys)).collect();
    let mut out = Map::new();
    out.insert("indexId".into(), json!(index.id));
    out.insert("schema".into(), Value::Array(columns));
    out.insert("schemaVersion".into(), json!(schema.version));
    out.insert("schemaHash".into(), json!(index.schema_hash));
    out.insert("schemaId".into(), json!(if schema.id > 0 { schema.id } else { index.id }));
    out.insert("shortKeyColumnCount".into(), json!(schema.short_key_columns));
    out.insert("storageType".into(), json!("COLUMN"));
    out.insert("keysType".into(), json!(schema.keys.name()));
    if base && !schema.sort_key.is_empty() {
        out.insert("sortKeyIdxes".into(), json!(schema.sort_key));
    }
    Value::Object(out)
}

/// Whether the distribution would have to be guessed in a way that could hide rows from queries.
#[must_use]
pub fn guesses_distribution(given: &Given<'_>) -> bool {
    let keys = given.schemas.get(&given.base).map(|s| s.keys);
    buckets(given) > 1 && given.distribution.is_empty() && !random(given, keys.unwrap_or_default())
}

/// Random distribution loses no rows whatever it was before; only duplicate tables may have it, from 3.1 on.
fn random(given: &Given<'_>, keys: KeysType) -> bool {
    keys == KeysType::Duplicate && given.form == Form::Json && given.distribution.is_empty() && buckets(given) > 1
}

fn buckets(given: &Given<'_>) -> usize {
    let physical = given.table.partitions.iter().flat_map(|p| &p.physical);
    let base = physical.flat_map(|p| &p.indexes).filter(|i| i.id == given.base);
    base.map(|i| i.tablets.len()).max().unwrap_or(1)
}

fn distribution(given: &Given<'_>, schema: &TabletSchema) -> Value {
    let buckets = buckets(given);
    if random(given, schema.keys) {
        return json!({"clazz": "RandomDistributionInfo", "b": buckets, "typeStr": "RANDOM", "type": "RANDOM"});
    }
    let keys = || schema.columns.iter().filter(|c| c.is_key).map(|c| c.name.clone()).collect::<Vec<_>>();
    let names = if given.distribution.is_empty() { keys() } else { given.distribution.to_vec() };
    let mut out = json!({"clazz": "HashDistributionInfo", "bucketNum": buckets, "typeStr": "HASH", "type": "HASH"});
    if let Some(map) = out.as_object_mut() {
        match given.form {
            Form::Json => drop(map.insert("colIds".into(), json!(names))),
            Form::Binary => {
                let chosen = schema.columns.iter().filter(|c| names.contains(&c.name));
                let columns: Vec<Value> = chosen.map(|c| column_tree(c, schema.keys)).collect();
                drop(map.insert("distributionColumns".into(), Value::Array(columns)));
            }
        }
    }
    out
}

fn tablets(index: &InfoIndex, version: i64) -> Value {
    let tablet = |id: i64| {
        json!({"clazz": "LocalTablet", "id": id, "replicas": [
            {"id": id, "backendId": 0, "version": version, "minReadableVersion": version, "dataSize": 0, "rowCount": 0,
             "state": "NORMAL", "lastFailedVersion": -1, "lastSuccessVersion": version}],
            "checkedVersion": -1, "isConsistent": true})
    };
    Value::Array(index.tablets.iter().map(|t| tablet(t.id)).collect())
}

fn materialized(index: &InfoIndex, version: i64) -> Value {
    json!({"id": index.id, "state": "NORMAL", "rowCount": 0, "tablets": tablets(index, version),
        "rollupIndexId": -1, "rollupFinishedVersion": -1})
}

/// Puts indexes and versions of a physical partition into its tree.
fn fill_physical(out: &mut Map<String, Value>, physical: &InfoPhysical, base: i64) {
    let mut rollups = Map::new();
    for index in &physical.indexes {
        let tree = materialized(index, physical.version);
        if index.id == base {
            out.insert("baseIndex".into(), tree);
        } else {
            rollups.insert(index.id.to_string(), tree);
        }
    }
    out.insert("idToVisibleRollupIndex".into(), Value::Object(rollups));
    out.insert("idToShadowIndex".into(), json!({}));
    out.insert("visibleVersion".into(), json!(physical.version));
    out.insert("visibleVersionTime".into(), json!(0));
    out.insert("nextVersion".into(), json!(physical.version.saturating_add(1)));
}

fn partition(given: &Given<'_>, p: &crate::format::info::InfoPartition, spread: &Value) -> Value {
    let mut out = Map::new();
    out.insert("id".into(), json!(p.id));
    out.insert("name".into(), json!(p.name));
    out.insert("state".into(), json!("NORMAL"));
    // Physical partitions of their own came with the JSON form's later shape; a lone one of the same id is inline.
    let inline = p.physical.len() == 1 && p.physical.first().is_some_and(|s| s.id == p.id);
    if inline || given.form == Form::Binary {
        if let Some(physical) = p.physical.first() {
            fill_physical(&mut out, physical, given.base);
        }
    } else {
        let mut subs = Map::new();
        for physical in &p.physical {
            let mut sub = Map::new();
            sub.insert("id".into(), json!(physical.id));
            sub.insert("parentId".into(), json!(p.id));
            fill_physical(&mut sub, physical, given.base);
            subs.insert(physical.id.to_string(), Value::Object(sub));
        }
        if let Some(first) = p.physical.first() {
            out.insert("dpid".into(), json!(first.id));
        }
        out.insert("idToSubPartition".into(), Value::Object(subs));
    }
    out.insert("distributionInfo".into(), spread.clone());
    Value::Object(out)
}

/// A table of one partition, from headers and job description alone. `None` where the base index has no schema.
#[must_use]
pub fn build(given: &Given<'_>) -> Option<Value> {
    let schema = given.schemas.get(&given.base)?;
    let spread = distribution(given, schema);
    let (mut metas, mut ids) = (Map::new(), Map::new());
    let physical = given.table.partitions.iter().flat_map(|p| &p.physical);
    for index in physical.flat_map(|p| &p.indexes) {
        let Some(of) = given.schemas.get(&index.id) else { continue };
        metas.insert(index.id.to_string(), index_meta(index, of, index.id == given.base));
        ids.insert(index.name.clone(), json!(index.id));
    }
    let (mut property, mut replicas, mut partitions) = (Map::new(), Map::new(), Map::new());
    for p in &given.table.partitions {
        property.insert(p.id.to_string(), json!({"storageMedium": "HDD", "cooldownTimeMs": 253_402_271_999_000_i64}));
        replicas.insert(p.id.to_string(), json!(1));
        partitions.insert(p.id.to_string(), partition(given, p, &spread));
    }
    let columns: Vec<Value> =
        schema.columns.iter().filter(|c| c.visible).map(|c| column_tree(c, schema.keys)).collect();
    let bloom: Vec<&str> = schema.columns.iter().filter(|c| c.is_bloom_filter).map(|c| c.name.as_str()).collect();
    let mut table = json!({
        "clazz": "OlapTable", "state": "NORMAL", "indexIdToMeta": metas, "indexNameToId": ids,
        "keysType": schema.keys.name(),
        "partitionInfo": {"clazz": "SinglePartitionInfo", "type": "UNPARTITIONED", "idToDataProperty": property,
            "idToReplicationNum": replicas, "isMultiColumnPartition": false},
        "idToPartition": partitions, "defaultDistributionInfo": spread,
        "tempPartitions": {"idToPartition": {}}, "baseIndexId": given.base,
        "tableProperty": {"properties": {"replication_num": "1"}, "hasDelete": false},
        "maxColUniqueId": schema.columns.iter().map(|c| c.unique_id).max().unwrap_or(0),
        "id": given.table.id, "name": given.table.name, "type": "OLAP", "createTime": given.created,
        "fullSchema": columns, "comment": "",
    });
    if let (Some(map), false) = (table.as_object_mut(), bloom.is_empty()) {
        map.insert("bfColumns".into(), json!(bloom));
        map.insert("bfFpp".into(), json!(0.05));
    }
    Some(table)
}

/// The definition of the same table in another snapshot, with this snapshot's tablets and versions. `None` where it
/// lacks one of the partitions or indexes.
#[must_use]
pub fn adapt(donor: &Value, table: &InfoTable) -> Option<Value> {
    let mut out = donor.clone();
    let partitions = out.get_mut("idToPartition")?.as_object_mut()?;
    let wanted: Vec<String> = table.partitions.iter().map(|p| p.id.to_string()).collect();
    partitions.retain(|id, _| wanted.contains(id));
    for p in &table.partitions {
        let tree = partitions.get_mut(&p.id.to_string())?;
        tree.as_object_mut()?.insert("name".into(), json!(p.name));
        for physical in &p.physical {
            let inline = physical.id == p.id && tree.get("baseIndex").is_some();
            let place =
                if inline { &mut *tree } else { tree.get_mut("idToSubPartition")?.get_mut(physical.id.to_string())? };
            let place = place.as_object_mut()?;
            place.insert("visibleVersion".into(), json!(physical.version));
            place.insert("nextVersion".into(), json!(physical.version.saturating_add(1)));
            for index in &physical.indexes {
                adapt_index(place, index, physical.version)?;
            }
        }
    }
    out.as_object_mut()?.insert("name".into(), json!(table.name));
    Some(out)
}

fn adapt_index(place: &mut Map<String, Value>, index: &InfoIndex, version: i64) -> Option<()> {
    let is = |v: &Value| v.get("id").and_then(Value::as_i64) == Some(index.id);
    let tree = if place.get("baseIndex").is_some_and(is) {
        place.get_mut("baseIndex")?
    } else {
        place.get_mut("idToVisibleRollupIndex")?.get_mut(index.id.to_string())?
    };
    tree.as_object_mut()?.insert("tablets".into(), tablets(index, version));
    Some(())
}
