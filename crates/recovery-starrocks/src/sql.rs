//! SQL for the stock server: CREATE TABLE from what a snapshot knows, CREATE REPOSITORY and RESTORE with the exact
//! values this snapshot needs, and what the server would refuse.

use recovery_core::names::{sql_name, sql_string};

use crate::format::meta_json::Form;
use crate::model::schema::KeysType;
use crate::model::table::{ColumnDef, TableDef};

/// CREATE TABLE of a definition. What is not known stands as a comment.
#[must_use]
pub fn create_table(def: &TableDef, name: &str) -> String {
    if let Some(view) = &def.view_sql {
        return format!("CREATE VIEW {} AS {view};\n", sql_name(name));
    }
    let mut lines: Vec<String> = def.columns.iter().map(column).collect();
    lines.extend(def.secondary.iter().cloned());
    let mut out = format!("CREATE TABLE {} (\n  {}\n) ENGINE=OLAP\n", sql_name(name), lines.join(",\n  "));
    let list = |names: &[String]| names.iter().map(|n| sql_name(n)).collect::<Vec<_>>().join(", ");
    let keys: Vec<String> = def.columns.iter().filter(|c| c.is_key).map(|c| c.name.clone()).collect();
    let model = match def.keys {
        Some(KeysType::Duplicate) => "DUPLICATE KEY",
        Some(KeysType::Unique) => "UNIQUE KEY",
        Some(KeysType::Aggregate) => "AGGREGATE KEY",
        Some(KeysType::Primary) => "PRIMARY KEY",
        None => "",
    };
    if !model.is_empty() && !keys.is_empty() {
        out.push_str(&format!("{model}({})\n", list(&keys)));
    }
    if !def.comment.is_empty() {
        out.push_str(&format!("COMMENT {}\n", sql_string(&def.comment)));
    }
    out.push_str(&partitions(def));
    match &def.distribution {
        Some(d) if d.columns.is_empty() => out.push_str("DISTRIBUTED BY RANDOM"),
        Some(d) => out.push_str(&format!("DISTRIBUTED BY HASH({})", list(&d.columns))),
        None => out.push_str(&format!(
            "-- the distribution columns are lost with __meta; the key is shown\nDISTRIBUTED BY HASH({})",
            list(&keys)
        )),
    }
    match def.distribution.as_ref().map(|d| d.buckets).filter(|b| *b > 0) {
        Some(b) => out.push_str(&format!(" BUCKETS {b}\n")),
        None => out.push('\n'),
    }
    if !def.sort_key.is_empty() {
        out.push_str(&format!("ORDER BY({})\n", list(&def.sort_key)));
    }
    out.push_str(&rollups(def));
    out.push_str(&properties(def));
    out.push_str(";\n");
    out
}

fn column(c: &ColumnDef) -> String {
    let mut out = format!("{} {}", sql_name(&c.name), c.sql_type.to_ascii_lowercase_type());
    if let Some(aggregation) = &c.aggregation {
        out.push(' ');
        out.push_str(aggregation);
    }
    out.push_str(if c.nullable { " NULL" } else { " NOT NULL" });
    if c.auto_increment {
        out.push_str(" AUTO_INCREMENT");
    }
    if let Some(default) = &c.default {
        out.push_str(&format!(" DEFAULT {default}"));
    }
    if !c.comment.is_empty() {
        out.push_str(&format!(" COMMENT {}", sql_string(&c.comment)));
    }
    out
}

trait TypeCase {
    fn to_ascii_lowercase_type(&self) -> String;
}

impl TypeCase for String {
    /// Lower case outside of quoted field names.
    fn to_ascii_lowercase_type(&self) -> String {
        let mut quoted = false;
        self.chars()
            .map(|c| {
                quoted ^= c == '`';
                if quoted { c } else { c.to_ascii_lowercase() }
            })
            .collect()
    }
}

fn partitions(def: &TableDef) -> String {
    if def.partition_columns.is_empty() || def.partition_kind == "UNPARTITIONED" || def.partition_kind.is_empty() {
        return String::new();
    }
    let columns: Vec<String> = def.partition_columns.iter().map(|n| sql_name(n)).collect();
    let kind = if def.partition_kind.contains("LIST") { "LIST" } else { "RANGE" };
    let items: Vec<String> = def
        .partitions
        .iter()
        .map(|p| {
            format!("  PARTITION {} {}", sql_name(&p.name), p.values.as_deref().unwrap_or("/* bounds not known */"))
        })
        .collect();
    format!("PARTITION BY {kind}({})\n(\n{}\n)\n", columns.join(", "), items.join(",\n"))
}

fn rollups(def: &TableDef) -> String {
    let items: Vec<String> = def
        .indexes
        .iter()
        .filter(|i| i.id != def.base_index && !i.columns.is_empty())
        .map(|i| {
            let columns: Vec<String> = i.columns.iter().map(|c| sql_name(c)).collect();
            format!("{} ({})", sql_name(&i.name), columns.join(", "))
        })
        .collect();
    if items.is_empty() { String::new() } else { format!("ROLLUP ({})\n", items.join(", ")) }
}

fn properties(def: &TableDef) -> String {
    let mut list: Vec<(String, String)> = def.properties.clone();
    if !def.bloom_columns.is_empty() {
        list.push(("bloom_filter_columns".into(), def.bloom_columns.join(", ")));
    }
    if let Some(group) = &def.colocate_group {
        list.push(("colocate_with".into(), group.clone()));
    }
    if !list.iter().any(|(k, _)| k == "replication_num")
        && let Some(n) = def.partitions.iter().find_map(|p| p.replicas)
    {
        list.insert(0, ("replication_num".into(), n.to_string()));
    }
    let items: Vec<String> = list.iter().map(|(k, v)| format!("{} = {}", sql_string(k), sql_string(v))).collect();
    if items.is_empty() { String::new() } else { format!("PROPERTIES (\n  {}\n)", items.join(",\n  ")) }
}

/// What a RESTORE statement is made from.
#[derive(Clone, Debug, Default)]
pub struct Restore {
    /// Repository name for CREATE REPOSITORY.
    pub repository: String,
    /// Location for CREATE REPOSITORY.
    pub location: String,
    /// Database.
    pub database: String,
    /// Label.
    pub label: String,
    /// Timestamp.
    pub timestamp: String,
    /// Tables: name, alias, partitions (none: all).
    pub tables: Vec<(String, String, Vec<String>)>,
    /// Replicas.
    pub replication: i64,
    /// `meta_version`, only where the job description lacks it.
    pub meta_version: Option<i64>,
    /// Release of the target, as `(major, minor)`.
    pub target: Option<(u32, u32)>,
    /// What to know before.
    pub warnings: Vec<String>,
}

/// CREATE REPOSITORY and RESTORE.
#[must_use]
pub fn restore(r: &Restore) -> String {
    let mut out = String::new();
    for warning in &r.warnings {
        for line in warning.lines() {
            out.push_str(&format!("-- {}\n", recovery_core::names::terminal(line)));
        }
    }
    let broker = match r.target {
        Some(version) if version < (2, 5) => "WITH BROKER `BROKER_NAME`",
        _ => "WITH BROKER",
    };
    out.push_str(&format!(
        "CREATE READ ONLY REPOSITORY {}\n{broker}\nON LOCATION {}\nPROPERTIES (\n  {}\n);\n\n",
        sql_name(&r.repository),
        sql_string(&recovery_core::names::redact_url(&r.location)),
        credentials(&r.location).join(",\n  ")
    ));
    let tables: Vec<String> = r
        .tables
        .iter()
        .map(|(name, alias, partitions)| {
            let mut item = format!("  {}", sql_name(name));
            if !partitions.is_empty() {
                let list: Vec<String> = partitions.iter().map(|p| sql_name(p)).collect();
                item.push_str(&format!(" PARTITION ({})", list.join(", ")));
            }
            if alias != name {
                item.push_str(&format!(" AS {}", sql_name(alias)));
            }
            item
        })
        .collect();
    let mut properties = vec![
        format!("\"backup_timestamp\" = {}", sql_string(&r.timestamp)),
        format!("\"replication_num\" = \"{}\"", r.replication),
        "\"timeout\" = \"86400\"".to_owned(),
    ];
    if let Some(version) = r.meta_version {
        properties.push(format!("\"meta_version\" = \"{version}\""));
    }
    if r.tables.is_empty() {
        out.push_str(
            "-- nothing of this snapshot can be restored as it lies there; `recover rescue` says what can be healed\n",
        );
        return out;
    }
    out.push_str(&format!(
        "RESTORE SNAPSHOT {}.{}\nFROM {}\nON (\n{}\n)\nPROPERTIES (\n  {}\n);\n\nSHOW RESTORE FROM {};\n",
        sql_name(&r.database),
        sql_name(&r.label),
        sql_name(&r.repository),
        tables.join(",\n"),
        properties.join(",\n  "),
        sql_name(&r.database)
    ));
    out
}

fn credentials(location: &str) -> Vec<String> {
    let scheme = location.split_once("://").map_or("", |s| s.0);
    let pair = |k: &str, v: &str| format!("\"{k}\" = \"{v}\"");
    match scheme {
        "s3" | "s3a" => vec![
            pair("aws.s3.access_key", "ACCESS_KEY"),
            pair("aws.s3.secret_key", "SECRET_KEY"),
            pair("aws.s3.region", "REGION"),
        ],
        "gs" => vec![pair("fs.s3a.access.key", "ACCESS_KEY"), pair("fs.s3a.secret.key", "SECRET_KEY")],
        "hdfs" => vec![pair("username", "USER"), pair("password", "PASSWORD")],
        _ => vec![pair("username", "USER"), pair("password", "PASSWORD")],
    }
}

/// What stands between a snapshot and a release.
#[must_use]
pub fn version_warnings(def: &TableDef, form: Option<Form>, target: Option<(u32, u32)>) -> Vec<String> {
    let mut out = Vec::new();
    let name = &def.name;
    if def.keys == Some(KeysType::Primary) && target.is_none_or(|t| t < (2, 5)) {
        out.push(format!("table {name}: primary-key tables are restored from 2.5 on"));
    }
    if let Some(group) = &def.colocate_group {
        out.push(format!(
            "table {name}: its colocation group {group:?} is not restored unless the server is told so; set colocate_with after"
        ));
    }
    if def.kind == "MATERIALIZED_VIEW" && target.is_none_or(|t| t < (3, 2)) {
        out.push(format!(
            "{name}: materialized views are restored from 3.2 on, and inactive until their base tables are there"
        ));
    }
    if def.kind == "VIEW" && target.is_none_or(|t| t < (3, 3)) {
        out.push(format!("{name}: views are restored from 3.3 on"));
    }
    if form == Some(Form::Json) && target.is_some_and(|t| t < (3, 0)) {
        out.push(format!("table {name}: this snapshot's __meta is in a form that servers before 3.0 cannot read"));
    }
    out
}

/// What the server would refuse when a table of this name is already there: `statement` is its SHOW CREATE TABLE.
#[must_use]
pub fn differences(def: &TableDef, statement: &str) -> Vec<String> {
    let mut out = Vec::new();
    let Some(body) = bracketed(statement) else { return vec!["no column list in the statement given".to_owned()] };
    let there: Vec<(String, String)> = split(body).iter().filter_map(|item| column_of(item)).collect();
    let norm = |t: &str| t.to_ascii_lowercase().replace([' ', '\t', '\n'], "").replace("decimalv2", "decimal");
    for (i, column) in def.columns.iter().enumerate() {
        match there.iter().position(|(n, _)| n.eq_ignore_ascii_case(&column.name)) {
            None => out.push(format!("column {} is not in the existing table", column.name)),
            Some(at) => {
                let found = there.get(at).map(|t| norm(&t.1)).unwrap_or_default();
                let wanted = norm(&column.sql_type);
                if !same_type(&found, &wanted) {
                    out.push(format!("column {} is {found} there and {wanted} in the snapshot", column.name));
                }
                if at != i {
                    out.push(format!("column {} stands at another place", column.name));
                }
            }
        }
    }
    for (name, _) in there.iter().filter(|(n, _)| !def.columns.iter().any(|c| c.name.eq_ignore_ascii_case(n))) {
        out.push(format!("column {name} is not in the snapshot"));
    }
    let upper = statement.to_ascii_uppercase();
    let models = [
        ("DUPLICATE KEY", KeysType::Duplicate),
        ("UNIQUE KEY", KeysType::Unique),
        ("AGGREGATE KEY", KeysType::Aggregate),
        ("PRIMARY KEY", KeysType::Primary),
    ];
    if let Some((text, model)) = models.iter().find(|(text, _)| upper.contains(text))
        && def.keys.is_some_and(|k| k != *model)
    {
        out.push(format!("the existing table has a {text}, the snapshot {}", def.keys.map_or("", KeysType::name)));
    }
    if let Some(d) = &def.distribution {
        let random = upper.contains("DISTRIBUTED BY RANDOM");
        if random != d.columns.is_empty() && upper.contains("DISTRIBUTED BY") {
            out.push("the distribution differs".to_owned());
        } else if let Some(listed) = upper.split("DISTRIBUTED BY HASH").nth(1).and_then(bracketed) {
            let there: Vec<String> = split(listed).iter().map(|n| n.replace('`', "").trim().to_owned()).collect();
            let wanted: Vec<String> = d.columns.iter().map(|c| c.to_ascii_uppercase()).collect();
            if there != wanted {
                out.push(format!("distributed by {} there, by {} in the snapshot", there.join(","), wanted.join(",")));
            }
        }
        // The number stands in the signature that RESTORE compares (`OlapTable.getSignature`).
        let buckets = upper.split(" BUCKETS ").nth(1).and_then(|t| t.split(|c: char| !c.is_ascii_digit()).next());
        if let Some(n) = buckets.and_then(|n| n.parse::<i64>().ok())
            && d.buckets > 0
            && n != d.buckets
        {
            out.push(format!("{n} buckets there, {} in the snapshot", d.buckets));
        }
    }
    if let Some(n) = upper.split("\"REPLICATION_NUM\"").nth(1).and_then(|t| t.split('"').nth(1))
        && let Some(wanted) = def.partitions.iter().find_map(|p| p.replicas)
        && n != wanted.to_string()
    {
        out.push(format!(
            "replication_num is {n} there and {wanted} in the snapshot: RESTORE over it wants them equal"
        ));
    }
    out
}

fn same_type(a: &str, b: &str) -> bool {
    let word = |t: &str| t.split('(').next().unwrap_or_default().to_owned();
    // Integers may or may not show a display width; lengths of text count.
    let sized =
        |t: &str| ["varchar", "char", "decimal", "decimal32", "decimal64", "decimal128"].contains(&word(t).as_str());
    a == b || (word(a) == word(b) && !sized(a) && !a.contains('<'))
}

/// The text between the first '(' and its counterpart.
fn bracketed(text: &str) -> Option<&str> {
    let start = text.find('(')?;
    let mut depth = 0usize;
    let mut quote = None;
    for (i, c) in text.char_indices().skip_while(|(i, _)| *i < start) {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '`' | '"' | '\'') => quote = Some(c),
            (None, '(') => depth = depth.saturating_add(1),
            (None, ')') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return text.get(start.saturating_add(1)..i);
                }
            }
            _ => {}
        }
    }
    None
}

/// Items between commas outside of brackets and quotes.
fn split(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut depth, mut quote, mut from) = (0i32, None, 0usize);
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '`' | '"' | '\'') => quote = Some(c),
            (None, '(' | '<') => depth = depth.saturating_add(1),
            (None, ')' | '>') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                out.extend(text.get(from..i));
                from = i.saturating_add(1);
            }
            _ => {}
        }
    }
    out.extend(text.get(from..));
    out
}

/// Name and type of a column item; none for keys and indexes.
fn column_of(item: &str) -> Option<(String, String)> {
    let rest = item.trim().strip_prefix('`')?;
    let (name, rest) = rest.split_once('`')?;
    let rest = rest.trim();
    let mut depth = 0i32;
    let end = rest.char_indices().find(|(_, c)| {
        match c {
            '(' | '<' => depth = depth.saturating_add(1),
            ')' | '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && c.is_whitespace()
    });
    let end = end.map_or(rest.len(), |(i, _)| i);
    Some((name.to_owned(), rest.get(..end)?.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::table::Distribution;

    fn table() -> TableDef {
        let column = |name: &str, kind: &str, key: bool| ColumnDef {
            name: name.into(),
            sql_type: kind.into(),
            is_key: key,
            nullable: !key,
            ..ColumnDef::default()
        };
        TableDef {
            name: "t".into(),
            keys: Some(KeysType::Duplicate),
            columns: vec![column("k`1", "BIGINT", true), column("v", "VARCHAR(40)", false)],
            distribution: Some(Distribution { columns: vec!["k`1".into()], buckets: 3 }),
            ..TableDef::default()
        }
    }

    #[test]
    fn names_are_quoted() {
        let sql = create_table(&table(), "t");
        assert!(sql.contains("`k``1` bigint NOT NULL"), "{sql}");
        assert!(sql.contains("DISTRIBUTED BY HASH(`k``1`) BUCKETS 3"), "{sql}");
        let restore = restore(&Restore {
            label: "a`;DROP".into(),
            tables: vec![("t".into(), "u".into(), vec![])],
            ..Restore::default()
        });
        assert!(restore.contains("`a``;DROP`"));
    }

    #[test]
    fn existing_tables_are_compared() {
        let mut def = table();
        def.columns.first_mut().unwrap().name = "k".into();
        def.distribution = Some(Distribution { columns: vec!["k".into()], buckets: 3 });
        let same = "CREATE TABLE `t` (\n `k` bigint(20) NOT NULL COMMENT \"a, b\",\n `v` varchar(40) NULL\n) ENGINE=OLAP DUPLICATE KEY(`k`) DISTRIBUTED BY HASH(`k`) BUCKETS 3";
        assert!(differences(&def, same).is_empty(), "{:?}", differences(&def, same));
        let other = same.replace("varchar(40)", "varchar(20)").replace("DUPLICATE KEY", "UNIQUE KEY");
        assert_eq!(differences(&def, &other).len(), 2);
        assert_eq!(differences(&def, &same.replace("BUCKETS 3", "BUCKETS 4")), ["4 buckets there, 3 in the snapshot"]);
    }
}
