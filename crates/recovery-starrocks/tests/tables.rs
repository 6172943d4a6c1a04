//! Tables of the healthy and the damaged repositories against their recorded content, after the key model.
#![cfg(feature = "arrow")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]
#![allow(clippy::cast_possible_truncation)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::{healthy, json};
use recovery_core::{Context, DirTarget, Error, MemSource, Reading, Source};
use recovery_starrocks::export::{self, Format, Request, Table};
use recovery_starrocks::reader::expr::Expr;
use recovery_starrocks::reader::load::{Loaded, load};
use recovery_starrocks::reader::repository::Repository;
use recovery_starrocks::reader::{Losses, Selection, text};
use serde_json::Value;

fn expected(version: &str) -> Value {
    json(&format!("{version}_expected.json.zst"))
}

fn loaded(source: MemSource) -> Loaded {
    let source: Arc<dyn Source> = Arc::new(source);
    load(Repository::open(source, None).unwrap(), &Context::with_threads(2)).unwrap()
}

fn rows(table: &Table, i: usize, selection: &Selection, cx: &Context) -> recovery_core::Result<(Vec<Value>, Losses)> {
    let mut losses = Losses::default();
    let mut out = Vec::new();
    if let Some(mut reader) = table.parts[i].open(table, selection, &mut losses, cx)? {
        while let Some(batch) = cx.pool().install(|| reader.next_batch())? {
            for row in 0..batch.num_rows() {
                let mut line = Vec::new();
                text::object(&mut line, &batch, row).unwrap();
                out.push(serde_json::from_slice(&line).unwrap());
            }
        }
        export::add(&mut losses, reader.losses());
    }
    Ok((out, losses))
}

fn same(kind: &str, got: &Value, want: &Value) -> bool {
    if got.is_null() || want.is_null() {
        return got == want;
    }
    let number = |v: &Value| v.as_f64().or_else(|| v.as_str().and_then(|s| s.parse().ok()));
    match kind {
        "FLOAT" | "DOUBLE" => number(got) == number(want),
        // Read as floats here, which are not exact; the segment tests compare every digit.
        "LARGEINT" => number(got).zip(number(want)).is_some_and(|(a, b)| (a - b).abs() <= b.abs() * 1e-14),
        _ => got == want,
    }
}

fn each(version: &str, mut f: impl FnMut(&Value, &Value, &str)) {
    for snapshot in expected(version)["snapshots"].as_array().unwrap() {
        for table in snapshot["tables"].as_array().unwrap() {
            f(snapshot, table, table["name"].as_str().unwrap());
        }
    }
}

fn check_rows(table: &Value, tablet: &Value, got: &[Value]) {
    let want = tablet["rows"].as_array().unwrap();
    let columns = table["columns"].as_array().unwrap();
    assert_eq!(got.len(), want.len(), "{} {}", table["name"], tablet["tablet"]);
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        for (column, want) in columns.iter().zip(want.as_array().unwrap()) {
            let got = &got[column["name"].as_str().unwrap()];
            assert!(
                same(column["type"].as_str().unwrap(), got, want),
                "{} row {i} {}: {got} expected {want}",
                table["name"],
                column["name"]
            );
        }
    }
}

#[test]
fn every_table_of_the_healthy_repositories() {
    let cx = Context::with_threads(2);
    let mut seen = BTreeSet::new();
    for version in ["v2", "v3"] {
        let repository = loaded(healthy(version));
        each(version, |snapshot, table, name| {
            let label = snapshot["label"].as_str().unwrap();
            let open = export::table(&repository, label, name, &[]).unwrap();
            let tablets = table["tablets"].as_array().unwrap();
            assert_eq!(open.parts.len(), tablets.len());
            for tablet in tablets {
                let i = open.parts.iter().position(|p| Some(p.tablet) == tablet["tablet"].as_i64()).unwrap();
                let (got, losses) = rows(&open, i, &Selection::all(&open.schema), &cx).unwrap();
                assert!(losses.is_empty());
                check_rows(table, tablet, &got);
            }
            seen.insert(table["keys"].as_str().unwrap().to_owned());
        });
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn columns_conditions_and_counts() {
    let cx = Context::with_threads(2);
    let repository = loaded(healthy("v3"));
    let table = export::table(&repository, "ss_models", "logs", &[]).unwrap();
    let (all, _) = rows(&table, 0, &Selection::all(&table.schema), &cx).unwrap();
    let mut selection = Selection::of(&table.schema, &["V".into(), "c".into()]).unwrap();
    selection.filter = Some(Expr::parse("k >= 5 and c is not null").unwrap());
    let (some, _) = rows(&table, 0, &selection, &cx).unwrap();
    let want: Vec<&Value> = all.iter().filter(|r| r["k"].as_i64().unwrap() >= 5 && !r["c"].is_null()).collect();
    assert!(!want.is_empty() && want.len() < all.len());
    assert_eq!(some.len(), want.len());
    for (got, want) in some.iter().zip(want) {
        assert_eq!((&got["v"], &got["c"]), (&want["v"], &want["c"]));
        assert_eq!(got.as_object().unwrap().keys().collect::<Vec<_>>(), ["v", "c"]);
    }
    selection.columns.clear();
    let mut reader = table.parts[0].open(&table, &selection, &mut Losses::default(), &cx).unwrap().unwrap();
    let mut count = 0;
    while let Some(batch) = reader.next_batch().unwrap() {
        count += batch.num_rows();
    }
    assert_eq!(count, some.len());
    assert!(matches!(export::table(&repository, "ss_models", "none", &[]), Err(Error::Usage(_))));
    assert!(matches!(export::table(&repository, "ss_models", "logs", &["none".into()]), Err(Error::Usage(_))));
    assert!(matches!(Selection::of(&table.schema, &["none".into()]), Err(Error::Usage(_))));
}

#[test]
fn files_of_every_format_hold_the_rows() {
    let cx = Context::with_threads(2);
    let repository = loaded(healthy("v2"));
    let table = export::table(&repository, "ss_events", "events", &[]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for format in [Format::Parquet, Format::Csv, Format::Jsonl, Format::Arrow] {
        let to = dir.path().join(format.ending());
        let request = Request {
            selection: Selection::all(&table.schema),
            format,
            decode_objects: false,
            options: serde_json::json!({}),
        };
        let done = export::export(&table, &request, &DirTarget::new(&to).unwrap(), &cx).unwrap();
        assert_eq!(done.rows.values().sum::<u64>(), 228);
        let files: Vec<_> = std::fs::read_dir(&to)
            .unwrap()
            .map(|f| f.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == format.ending()))
            .collect();
        assert_eq!(files.len(), 2, "{files:?}");
        let mut count = 0;
        for path in &files {
            let file = std::fs::File::open(path).unwrap();
            count += match format {
                Format::Parquet => {
                    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
                    reader.build().unwrap().map(|b| b.unwrap().num_rows()).sum::<usize>()
                }
                Format::Arrow => {
                    arrow::ipc::reader::FileReader::try_new(file, None).unwrap().map(|b| b.unwrap().num_rows()).sum()
                }
                Format::Csv => {
                    csv::Reader::from_reader(file).records().map(|r| assert_eq!(r.unwrap().len(), 21)).count()
                }
                Format::Jsonl => std::fs::read_to_string(path)
                    .unwrap()
                    .lines()
                    .filter(|l| serde_json::from_str::<Value>(l).unwrap().is_object())
                    .count(),
            };
        }
        assert_eq!(count, 228, "{format:?}");
        // A second run does nothing, another export into the same place is refused.
        assert!(export::export(&table, &request, &DirTarget::new(&to).unwrap(), &cx).is_ok());
    }
}

#[test]
fn damage_is_an_error_and_salvage_names_the_rows() {
    let strict = Context::with_threads(2);
    let mut salvage = Context::with_threads(2);
    salvage.reading = Reading::Salvage;
    let clean = healthy("v2");
    let repository = loaded(clean.clone());
    let table = export::table(&repository, "ss_events", "events", &[]).unwrap();
    let (whole, _) = rows(&table, 0, &Selection::all(&table.schema), &strict).unwrap();
    // The first page of the first column of one segment.
    let tablet = table.parts[0].tablet;
    let names: Vec<String> = clean.list("", recovery_core::Depth::All).map(|e| e.unwrap().name).collect();
    let name = names.iter().find(|n| n.contains(&format!("/__{tablet}/")) && n.contains("_0.dat.")).unwrap().clone();
    let blob = clean.open_name(&name).unwrap().unwrap();
    let mut data = blob.bytes(0..blob.len()).unwrap().to_vec();
    data[20] ^= 1;
    let mut damaged = clean;
    damaged.insert(name.clone(), data);
    let repository = loaded(damaged);
    let table = export::table(&repository, "ss_events", "events", &[]).unwrap();
    let selection = Selection::all(&table.schema);
    assert!(matches!(rows(&table, 0, &selection, &strict), Err(Error::Damaged(_))));
    let (some, losses) = rows(&table, 0, &selection, &salvage).unwrap();
    let lost: u64 = losses.rows.iter().map(|l| l.rows.end - l.rows.start).sum();
    assert!(lost > 0 && losses.dropped == lost && losses.rows.iter().all(|l| l.object == name && l.column == "k_int"));
    assert_eq!(some.len() as u64 + lost, whole.len() as u64);
    assert!(some.iter().all(|row| whole.contains(row)));
    let other = Selection::of(&table.schema, &["vc".into()]).unwrap();
    assert_eq!(rows(&table, 0, &other, &strict).unwrap().0.len(), whole.len());
    let keep = Selection { keep_lost: true, ..selection };
    assert_eq!(rows(&table, 0, &keep, &salvage).unwrap().0.len(), whole.len());
}
