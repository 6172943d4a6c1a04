//! Table definitions: what `__meta` says of a table, as far as reading, checking and restoring need it.

use serde_json::{Map, Value};

use super::schema::{Column, ColumnType, KeysType, TabletSchema};
use crate::format::meta_binary::{Bound, Literal, Range, date_text};

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableDef {
    /// Name.
    pub name: String,
    /// Id, as in the path.
    pub id: i64,
    /// `OLAP`, `VIEW`, `MATERIALIZED_VIEW`, ...
    pub kind: String,
    /// Key model.
    pub keys: Option<KeysType>,
    /// Comment.
    pub comment: String,
    /// Columns of the base index.
    pub columns: Vec<ColumnDef>,
    /// Base index and rollups.
    pub indexes: Vec<IndexDef>,
    /// Which of them is the base.
    pub base_index: i64,
    /// Columns of the sort key, where it is not the key.
    pub sort_key: Vec<String>,
    /// `UNPARTITIONED`, `RANGE`, `LIST`, ...
    pub partition_kind: String,
    /// Partition columns.
    pub partition_columns: Vec<String>,
    /// Partitions.
    pub partitions: Vec<PartitionDef>,
    /// Distribution; none for views.
    pub distribution: Option<Distribution>,
    /// Table properties.
    pub properties: Vec<(String, String)>,
    /// Columns with a bloom filter.
    pub bloom_columns: Vec<String>,
    /// Secondary indexes as SQL.
    pub secondary: Vec<String>,
    /// Colocation group.
    pub colocate_group: Option<String>,
    /// Text of a view.
    pub view_sql: Option<String>,
}

/// A column as the front end defines it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnDef {
    /// Name.
    pub name: String,
    /// Identity; -1 where the file has none.
    pub unique_id: i64,
    /// Type as SQL.
    pub sql_type: String,
    /// Key column.
    pub is_key: bool,
    /// May be NULL.
    pub nullable: bool,
    /// Aggregation, where it is written out in SQL.
    pub aggregation: Option<String>,
    /// Default as SQL.
    pub default: Option<String>,
    /// Filled by the engine.
    pub auto_increment: bool,
    /// Comment.
    pub comment: String,
}

/// An index: the base index or a rollup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexDef {
    /// Id, as in the path.
    pub id: i64,
    /// Name.
    pub name: String,
    /// Schema hash.
    pub schema_hash: i64,
    /// Column names.
    pub columns: Vec<String>,
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionDef {
    /// Logical id.
    pub id: i64,
    /// Name.
    pub name: String,
    /// Physical partitions.
    pub physical: Vec<PhysicalDef>,
    /// Replicas.
    pub replicas: Option<i64>,
    /// `VALUES ...` as SQL.
    pub values: Option<String>,
    /// Distribution, where it differs from the table's.
    pub buckets: Option<i64>,
}

/// A physical partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PhysicalDef {
    /// Id, as in the path.
    pub id: i64,
    /// Visible version.
    pub version: i64,
    /// Index id and tablets in bucket order.
    pub indexes: Vec<(i64, Vec<i64>)>,
}

/// How rows are spread over tablets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Columns of a hash; empty for random.
    pub columns: Vec<String>,
    /// Buckets; 0 lets the engine choose.
    pub buckets: i64,
}

fn long(v: &Value, key: &str) -> Option<i64> {
    v.get(key).and_then(Value::as_i64)
}

fn text(v: &Value, key: &str) -> String {
    v.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn list<'a>(v: &'a Value, key: &str) -> &'a [Value] {
    v.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn entries<'a>(v: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    v.get(key).and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

/// From the tree of a table; what is missing stays at its default.
#[must_use]
pub fn from_tree(name: &str, t: &Value) -> TableDef {
    let base_index = long(t, "baseIndexId").unwrap_or(0);
    let base = t.get("indexIdToMeta").and_then(|m| m.get(base_index.to_string()));
    let schema = base.map_or(&[][..], |b| list(b, "schema"));
    let schema = if schema.is_empty() { list(t, "fullSchema") } else { schema };
    let names = Names::of(schema);
    let info = t.get("partitionInfo").unwrap_or(&Value::Null);
    let keys = match text(t, "keysType").as_str() {
        "DUP_KEYS" => Some(KeysType::Duplicate),
        "UNIQUE_KEYS" => Some(KeysType::Unique),
        "AGG_KEYS" => Some(KeysType::Aggregate),
        "PRIMARY_KEYS" => Some(KeysType::Primary),
        _ => None,
    };
    let clazz = text(t, "clazz");
    let kind = match text(t, "type") {
        k if !k.is_empty() => k,
        _ if clazz == "View" => "VIEW".to_owned(),
        _ if clazz.contains("MaterializedView") => "MATERIALIZED_VIEW".to_owned(),
        _ => "OLAP".to_owned(),
    };
    let columns = schema.iter().map(|c| column(c, keys)).collect();
    let sort = |i: &Value| schema.get(usize::try_from(i.as_i64()?).ok()?).map(|c| text(c, "name"));
    TableDef {
        name: name.to_owned(),
        id: long(t, "id").unwrap_or(0),
        keys,
        comment: text(t, "comment"),
        columns,
        indexes: indexes(t),
        base_index,
        sort_key: base.map_or(&[][..], |b| list(b, "sortKeyIdxes")).iter().filter_map(sort).collect(),
        partition_kind: text(info, "type"),
        partition_columns: names.resolve(info, "partitionColumns"),
        partitions: partitions(t, info),
        distribution: t.get("defaultDistributionInfo").filter(|d| d.is_object()).map(|d| distribution(d, &names)),
        properties: properties(t),
        bloom_columns: list(t, "bfColumns").iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        secondary: t.get("indexes").map_or_else(Vec::new, |i| secondary(i, &names)),
        colocate_group: t.get("colocateGroup").and_then(Value::as_str).map(str::to_owned),
        view_sql: (kind == "VIEW").then(|| text(t, "i")).filter(|s| !s.is_empty()),
        kind,
    }
}

/// From what tablet headers and the job description know: no partition bounds, no distribution, no properties.
#[must_use]
pub fn from_schema(name: &str, id: i64, schema: &TabletSchema) -> TableDef {
    TableDef {
        name: name.to_owned(),
        id,
        kind: "OLAP".to_owned(),
        keys: Some(schema.keys),
        columns: schema.columns.iter().filter(|c| c.visible).map(|c| header_column(c, schema.keys)).collect(),
        sort_key: schema
            .sort_key
            .iter()
            .filter_map(|i| schema.columns.get(usize::try_from(*i).ok()?))
            .map(|c| c.name.clone())
            .collect(),
        bloom_columns: schema.columns.iter().filter(|c| c.is_bloom_filter).map(|c| c.name.clone()).collect(),
        secondary: schema
            .columns
            .iter()
            .filter(|c| c.has_bitmap_index)
            .map(|c| {
                let column = recovery_core::names::sql_name(&c.name);
                let index = recovery_core::names::sql_name(&format!("idx_{}", c.name));
                format!("INDEX {index} ({column}) USING BITMAP")
            })
            .collect(),
        ..TableDef::default()
    }
}

/// Column ids (3.3 and later) and what they are called now.
struct Names(Vec<(String, String)>);

impl Names {
    fn of(schema: &[Value]) -> Self {
        let id = |c: &Value| match c.get("columnId") {
            Some(Value::String(s)) => s.clone(),
            Some(Value::Object(o)) => o.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(),
            _ => text(c, "name"),
        };
        Self(schema.iter().map(|c| (id(c), text(c, "name"))).collect())
    }

    fn name(&self, id: &str) -> String {
        self.0.iter().find(|(i, _)| i == id).map_or_else(|| id.to_owned(), |(_, n)| n.clone())
    }

    /// `colIds`, else the list of columns under `key`.
    fn resolve(&self, v: &Value, key: &str) -> Vec<String> {
        let ids = ["colIds", "partitionColumnIds"].iter().map(|k| list(v, k)).find(|l| !l.is_empty());
        if let Some(ids) = ids {
            return ids.iter().filter_map(column_id).map(|id| self.name(&id)).collect();
        }
        list(v, key).iter().map(|c| text(c, "name")).collect()
    }
}

fn column_id(v: &Value) -> Option<String> {
    v.as_str().or_else(|| v.get("id").and_then(Value::as_str)).map(str::to_owned)
}

fn column(c: &Value, keys: Option<KeysType>) -> ColumnDef {
    let aggregation = c.get("aggregationType").and_then(Value::as_str).map(str::to_owned);
    let is_key = c.get("isKey").and_then(Value::as_bool).unwrap_or(false);
    let default = match (c.get("defaultValue"), c.get("defaultExpr")) {
        (Some(Value::String(v)), _) => Some(recovery_core::names::sql_string(v)),
        (_, Some(e)) => e
            .get("expr")
            .and_then(Value::as_str)
            .map(|e| if e.eq_ignore_ascii_case("now()") { "CURRENT_TIMESTAMP".to_owned() } else { format!("({e})") }),
        _ => None,
    };
    ColumnDef {
        name: text(c, "name"),
        unique_id: long(c, "uniqueId").unwrap_or(-1),
        sql_type: c.get("type").map_or_else(String::new, |t| sql_type(t, 0)),
        is_key,
        nullable: c.get("isAllowNull").and_then(Value::as_bool).unwrap_or(false),
        aggregation: aggregation.filter(|a| keys == Some(KeysType::Aggregate) && !is_key && a != "NONE"),
        default,
        auto_increment: c.get("isAutoIncrement").and_then(Value::as_bool).unwrap_or(false),
        comment: text(c, "comment"),
    }
}

fn header_column(c: &Column, keys: KeysType) -> ColumnDef {
    let aggregation = c.aggregation.name();
    let written = keys == KeysType::Aggregate && !c.is_key && aggregation != "NONE";
    ColumnDef {
        name: c.name.clone(),
        unique_id: c.unique_id,
        sql_type: physical_type(c, 0),
        is_key: c.is_key,
        nullable: c.nullable,
        aggregation: written.then(|| aggregation.to_owned()),
        default: c.default_value.as_ref().map(|v| recovery_core::names::sql_string(&String::from_utf8_lossy(v))),
        auto_increment: c.is_auto_increment,
        comment: String::new(),
    }
}

/// How deep types may nest; the engine allows 15.
const DEEPEST: usize = 32;

/// A type of the JSON form as SQL.
#[must_use]
pub fn sql_type(t: &Value, depth: usize) -> String {
    if depth > DEEPEST {
        return "?".to_owned();
    }
    let inner = |key: &str| t.get(key).map_or_else(|| "?".to_owned(), |t| sql_type(t, depth + 1));
    match text(t, "clazz").as_str() {
        "ArrayType" => return format!("ARRAY<{}>", inner("itemType")),
        "MapType" => return format!("MAP<{},{}>", inner("keyType"), inner("valueType")),
        "StructType" => {
            let field = |f: &Value| {
                let kind = f.get("type").map_or_else(|| "?".to_owned(), |t| sql_type(t, depth + 1));
                format!("{} {kind}", recovery_core::names::sql_name(&text(f, "name")))
            };
            let fields: Vec<_> = list(t, "fields").iter().map(field).collect();
            return format!("STRUCT<{}>", fields.join(", "));
        }
        _ => {}
    }
    let (len, precision, scale) = (long(t, "len"), long(t, "precision"), long(t, "scale"));
    scalar(&text(t, "type"), len, precision, scale)
}

fn scalar(kind: &str, len: Option<i64>, precision: Option<i64>, scale: Option<i64>) -> String {
    let sized = |name: &str| match len {
        Some(n) if n > 0 => format!("{name}({n})"),
        _ => name.to_owned(),
    };
    let decimal = |name: &str, p: i64, s: i64| {
        format!("{name}({},{})", precision.filter(|p| *p > 0).unwrap_or(p), scale.unwrap_or(s))
    };
    match kind {
        "VARCHAR" | "CHAR" | "VARBINARY" => sized(kind),
        "DECIMALV2" | "DECIMAL_V2" => decimal("DECIMAL", 27, 9),
        "DECIMAL32" => decimal("DECIMAL", 9, 0),
        "DECIMAL64" => decimal("DECIMAL", 18, 0),
        "DECIMAL128" => decimal("DECIMAL", 38, 0),
        "DECIMAL256" => decimal("DECIMAL", 76, 0),
        other => other.to_owned(),
    }
}

/// A type of a tablet header as SQL.
#[must_use]
pub fn physical_type(c: &Column, depth: usize) -> String {
    if depth > DEEPEST {
        return "?".to_owned();
    }
    let child = |i: usize| c.children.get(i).map_or_else(|| "?".to_owned(), |c| physical_type(c, depth + 1));
    match c.kind {
        ColumnType::Array => format!("ARRAY<{}>", child(0)),
        ColumnType::Map => format!("MAP<{},{}>", child(0), child(1)),
        ColumnType::Struct => {
            let field =
                |c: &Column| format!("{} {}", recovery_core::names::sql_name(&c.name), physical_type(c, depth + 1));
            format!("STRUCT<{}>", c.children.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        ColumnType::Unknown => c.unknown_type.clone().unwrap_or_else(|| "?".to_owned()),
        ColumnType::DateV1 | ColumnType::Date => "DATE".to_owned(),
        ColumnType::DatetimeV1 | ColumnType::Datetime => "DATETIME".to_owned(),
        ColumnType::Object => "BITMAP".to_owned(),
        ColumnType::DecimalV1 => decimal_of(c, "DECIMAL_V2"),
        other => decimal_of(c, other.name()),
    }
}

fn decimal_of(c: &Column, kind: &str) -> String {
    // The header counts the two length bytes of a VARCHAR on top of its declared length in no version: it is as declared.
    scalar(kind, Some(c.length), c.precision.map(i64::from), c.scale.map(i64::from))
}

fn indexes(t: &Value) -> Vec<IndexDef> {
    entries(t, "indexNameToId")
        .filter_map(|(name, id)| {
            let id = id.as_i64()?;
            let meta = t.get("indexIdToMeta").and_then(|m| m.get(id.to_string())).unwrap_or(&Value::Null);
            Some(IndexDef {
                id,
                name: name.clone(),
                schema_hash: long(meta, "schemaHash").unwrap_or(0),
                columns: list(meta, "schema").iter().map(|c| text(c, "name")).collect(),
            })
        })
        .collect()
}

fn partitions(t: &Value, info: &Value) -> Vec<PartitionDef> {
    entries(t, "idToPartition")
        .map(|(key, p)| {
            let id = long(p, "id").or_else(|| key.parse().ok()).unwrap_or(0);
            let of = |map: &str| info.get(map).and_then(|m| m.get(id.to_string()));
            let mut physical: Vec<_> = entries(p, "idToSubPartition").map(|(key, sub)| physical_of(key, sub)).collect();
            if p.get("baseIndex").is_some_and(Value::is_object) && !physical.iter().any(|s| s.id == id) {
                physical.insert(0, physical_of(key, p));
            }
            PartitionDef {
                id,
                name: text(p, "name"),
                physical,
                replicas: of("idToReplicationNum").and_then(Value::as_i64),
                values: of("serializedIdToRange")
                    .and_then(Range::from_value)
                    .map(|r| range_sql(&r))
                    .or_else(|| of("idToValues").and_then(values_sql))
                    .or_else(|| of("idToMultiValues").and_then(values_sql)),
                buckets: p.get("distributionInfo").and_then(|d| long(d, "bucketNum").or_else(|| long(d, "b"))),
            }
        })
        .collect()
}

fn physical_of(key: &str, p: &Value) -> PhysicalDef {
    let mut indexes = Vec::new();
    let mut add = |i: &Value| {
        let tablets = list(i, "tablets").iter().filter_map(|t| long(t, "id")).collect();
        if let Some(id) = long(i, "metaId").filter(|m| *m > 0).or_else(|| long(i, "id")) {
            // From 4.x on the index id of the path is the id of the materialized index itself.
            indexes.push((long(i, "id").unwrap_or(id), tablets));
        }
    };
    p.get("baseIndex").map(&mut add);
    entries(p, "idToVisibleRollupIndex").for_each(|(_, i)| add(i));
    PhysicalDef {
        id: long(p, "id").or_else(|| key.parse().ok()).unwrap_or(0),
        version: long(p, "visibleVersion").unwrap_or(0),
        indexes,
    }
}

fn distribution(d: &Value, names: &Names) -> Distribution {
    Distribution {
        columns: names.resolve(d, "distributionColumns"),
        buckets: long(d, "bucketNum").or_else(|| long(d, "b")).unwrap_or(0),
    }
}

fn properties(t: &Value) -> Vec<(String, String)> {
    let tree = t.get("tableProperty").unwrap_or(&Value::Null);
    entries(tree, "properties").filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

fn secondary(i: &Value, names: &Names) -> Vec<String> {
    let quote = recovery_core::names::sql_name;
    list(i, "indexes")
        .iter()
        .map(|index| {
            let name = [text(index, "indexName"), text(index, "i")].into_iter().find(|n| !n.is_empty());
            let listed = [list(index, "columns"), list(index, "c")].into_iter().find(|l| !l.is_empty());
            let columns = listed.unwrap_or_default().iter().filter_map(column_id);
            let columns: Vec<_> = columns.map(|id| quote(&names.name(&id))).collect();
            let kind = [text(index, "indexType"), text(index, "it")].into_iter().find(|n| !n.is_empty());
            format!(
                "INDEX {} ({}) USING {}",
                quote(&name.unwrap_or_else(|| "idx".to_owned())),
                columns.join(", "),
                kind.unwrap_or_else(|| "BITMAP".to_owned())
            )
        })
        .collect()
}

fn range_sql(r: &Range) -> String {
    let key = |bound: &Bound| {
        let value = |(kind, v): &(String, Literal)| match v {
            Literal::Max => "MAXVALUE".to_owned(),
            Literal::Int(n) => format!("\"{n}\""),
            Literal::Date { flag, packed } => {
                let date_only = flag.map_or(kind == "DATE", |f| f == 1);
                format!("\"{}\"", date_text(*packed, date_only))
            }
            Literal::Text(t) => recovery_core::names::sql_string(t),
        };
        bound.1.iter().map(value).collect::<Vec<_>>().join(", ")
    };
    match (&r.lower, &r.upper) {
        (Some(low), Some(high)) => format!("VALUES [({}), ({}))", key(low), key(high)),
        (None, Some(high)) => format!("VALUES LESS THAN ({})", key(high)),
        (Some(low), None) => format!("VALUES [({}), (MAXVALUE))", key(low)),
        (None, None) => "VALUES LESS THAN MAXVALUE".to_owned(),
    }
}

fn values_sql(v: &Value) -> Option<String> {
    let item = |v: &Value| match v {
        Value::Array(tuple) => {
            let parts: Vec<_> = tuple.iter().filter_map(Value::as_str).map(recovery_core::names::sql_string).collect();
            format!("({})", parts.join(", "))
        }
        v => recovery_core::names::sql_string(v.as_str().unwrap_or_default()),
    };
    Some(format!("VALUES IN ({})", v.as_array()?.iter().map(item).collect::<Vec<_>>().join(", ")))
}
