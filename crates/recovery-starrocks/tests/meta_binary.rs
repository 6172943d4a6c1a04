//! The old form of `__meta`: views, list partitions, and tables whose form is not known.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use common::healthy;
use recovery_starrocks::format::meta_binary::UNREAD;
use recovery_starrocks::format::meta_json::{Form, Meta};
use serde_json::{Value, json};

fn real() -> Meta {
    let source = healthy("v2");
    let (_, bytes) = source.files().iter().find(|(n, _)| n.contains("__ss_ss_models/__meta")).unwrap();
    Meta::decode(bytes).unwrap()
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(i32::try_from(text.len()).unwrap().to_be_bytes());
    out.extend(text.as_bytes());
}

/// What every table begins with.
fn head(kind: &str, id: i64, name: &str, columns: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, kind);
    out.extend(0i64.to_be_bytes());
    out.extend(0i64.to_be_bytes());
    out.extend(id.to_be_bytes());
    text(&mut out, name);
    out.extend(i32::try_from(columns.len()).unwrap().to_be_bytes());
    for column in columns {
        text(&mut out, &column.to_string());
    }
    text(&mut out, "a comment");
    out.extend(1_600_000_000i64.to_be_bytes());
    out
}

fn column() -> Value {
    json!({"name": "k", "type": {"clazz": "ScalarType", "type": "INT"}, "isKey": true})
}

/// Files of several tables: the head says how many, tables stand one behind the other.
fn file(tables: &[Vec<u8>]) -> Vec<u8> {
    let mut out = i32::try_from(tables.len()).unwrap().to_be_bytes().to_vec();
    tables.iter().for_each(|t| out.extend(t));
    out
}

fn bytes_of(meta: &Meta, name: &str) -> Vec<u8> {
    let table = meta.tree["tblNameMap"][name].clone();
    let one = Meta { form: Form::Binary, tree: json!({"tblNameMap": {name: table}}) };
    one.encode().unwrap()[4..].to_vec()
}

#[test]
fn views_are_read_and_written() {
    let mut view = head("VIEW", 77, "v_logs", &[column()]);
    text(&mut view, "");
    text(&mut view, "SELECT `k` FROM `shop`.`logs`");
    let whole = file(&[view, bytes_of(&real(), "logs")]);
    let meta = Meta::decode(&whole).unwrap();
    let tables = meta.tables();
    assert_eq!(tables.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["v_logs", "logs"]);
    assert_eq!((tables[0].kind.as_str(), tables[0].id), ("VIEW", 77));
    assert_eq!(tables[0].view_sql.as_deref(), Some("SELECT `k` FROM `shop`.`logs`"));
    assert_eq!(meta.encode().unwrap(), whole);
    for cut in 4..whole.len() {
        assert!(Meta::decode(&whole[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn list_partitions_are_read_and_written() {
    let mut meta = real();
    let info = &mut meta.tree["tblNameMap"]["logs"]["partitionInfo"];
    let id = info["idToReplicationNum"].as_object().unwrap().keys().next().unwrap().clone();
    info["clazz"] = json!("ListPartitionInfo");
    info["type"] = json!("LIST");
    info["partitionColumns"] = json!([column()]);
    info["idToMultiValues"] = json!({});
    info["idToValues"] = json!({id.as_str(): ["beijing", "o'slo"]});
    let bytes = meta.encode().unwrap();
    let again = Meta::decode(&bytes).unwrap();
    let info = &again.tree["tblNameMap"]["logs"]["partitionInfo"];
    assert_eq!(info["idToValues"][id.as_str()][0], "beijing");
    assert_eq!(again.encode().unwrap(), bytes);
    let def = again.tables().into_iter().find(|t| t.name == "logs").unwrap();
    assert_eq!(def.partition_kind, "LIST");
}

#[test]
fn an_unknown_table_does_not_take_the_others_with_it() {
    let real = real();
    let mut unknown = head("MATERIALIZED_VIEW", 90, "mv", &[column()]);
    unknown.extend((0..999u32).flat_map(u32::to_be_bytes));
    let mut expression = head("OLAP", 91, "by_day", &[column()]);
    text(&mut expression, "NORMAL");
    expression.extend(0i32.to_be_bytes());
    text(&mut expression, "DUP_KEYS");
    text(&mut expression, "EXPR_RANGE");
    expression.extend([7; 500]);
    for tables in [
        vec![unknown.clone(), expression.clone(), bytes_of(&real, "logs")],
        vec![bytes_of(&real, "logs"), expression, unknown],
    ] {
        let meta = Meta::decode(&file(&tables)).unwrap();
        let map = meta.tree["tblNameMap"].as_object().unwrap();
        assert_eq!(map.len(), 3);
        assert!(map["mv"][UNREAD].as_str().unwrap().contains("MATERIALIZED_VIEW"));
        assert!(map["by_day"][UNREAD].as_str().unwrap().contains("EXPR_RANGE"));
        assert_eq!(map["logs"], real.tree["tblNameMap"]["logs"]);
        assert!(meta.encode().is_err(), "a part of a table is never written");
    }
}
