//! Rows of segments against the rows that were written into them, value by value.
#![cfg(feature = "arrow")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]
#![allow(clippy::cast_possible_truncation)]

mod segment_case;

use std::path::Path;
use std::sync::Arc;

use recovery_starrocks::format::segment::objects::{BitmapValue, Hll, Percentile};
use recovery_starrocks::reader::{ReadOptions, Segment};
use segment_case::{cells, load_case, render, rows_of, same};

fn check(folder: &Path) {
    let case = load_case(folder);
    let segment = Arc::new(Segment::open(case.blob()).unwrap_or_else(|f| panic!("{}: {f}", folder.display())));
    assert_eq!(segment.num_rows() as usize, case.rows.len(), "{}", folder.display());
    for batch_rows in [8192, 1000, 7] {
        if batch_rows == 7 && case.rows.len() > 2000 {
            continue;
        }
        let options = ReadOptions { batch_rows, ..ReadOptions::default() };
        let got = rows_of(&segment, &case.schema, options).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        assert_eq!(got.len(), case.rows.len());
        for (i, (got, want)) in got.iter().zip(&case.rows).enumerate() {
            for ((column, got), want) in case.schema.columns.iter().zip(got).zip(cells(want)) {
                let name = &column.name;
                assert!(same(column, got, want), "{} row {i} column {name}: {got} expected {want}", folder.display());
            }
        }
    }
}

#[test]
fn every_committed_segment() {
    let cases = recovery_testkit::cases(&recovery_testkit::fixtures("starrocks").join("segments"));
    assert!(cases.len() >= 10, "{} cases", cases.len());
    cases.iter().for_each(|(_, folder)| check(folder));
}

#[test]
fn every_shared_segment() {
    let Some(shared) = recovery_testkit::shared("starrocks") else {
        println!("skipped: no shared fixtures");
        return;
    };
    for kind in ["segments", "segments_synthetic"] {
        recovery_testkit::cases(&shared.join(kind)).iter().for_each(|(_, folder)| check(folder));
    }
}

/// Batches end wherever they end: in lists of lists that hold nothing, between pages, at every row.
#[test]
fn every_batch_size_gives_the_same_rows() {
    for (name, folder) in recovery_testkit::cases(&recovery_testkit::fixtures("starrocks").join("segments")) {
        let case = load_case(&folder);
        let segment = Arc::new(Segment::open(case.blob()).unwrap());
        let whole = rows_of(&segment, &case.schema, ReadOptions::default()).unwrap();
        for batch_rows in [1, 7, 100] {
            let options = ReadOptions { batch_rows, ..ReadOptions::default() };
            assert_eq!(rows_of(&segment, &case.schema, options).unwrap(), whole, "{name}, {batch_rows} rows");
        }
    }
}

#[test]
fn objects_mean_what_was_put_in() {
    let folder = recovery_testkit::fixtures("starrocks").join("segments/objects");
    let case = load_case(&folder);
    let semantic = segment_case::lines(&folder, "semantic.jsonl");
    let segment = Arc::new(Segment::open(case.blob()).unwrap());
    let rows = rows_of(&segment, &case.schema, ReadOptions::default()).unwrap();
    let unhex = |s: &str| -> Vec<u8> {
        let s = s.trim_matches('"');
        (0..s.len() / 2).map(|i| u8::from_str_radix(&s[2 * i..2 * i + 2], 16).unwrap()).collect()
    };
    let (mut exact, mut estimated) = (0, 0);
    for (row, want) in rows.iter().zip(&semantic) {
        let want: serde_json::Value = serde_json::from_str(want).unwrap();
        let hll = Hll::decode(&unhex(&row[1])).unwrap();
        let distinct = want[1].as_u64().unwrap();
        match &hll {
            Hll::Explicit(_) => {
                exact += 1;
                assert_eq!(hll.cardinality(), distinct);
            }
            Hll::Registers(_) => {
                estimated += 1;
                let error = (hll.cardinality() as f64 - distinct as f64).abs() / distinct as f64;
                assert!(error < 0.03, "{} for {distinct}", hll.cardinality());
            }
        }
        assert_eq!(Hll::decode(&hll.encode()).unwrap(), hll);
        let bitmap = BitmapValue::decode(&unhex(&row[2])).unwrap();
        let members: Vec<u64> = want[2].as_array().unwrap().iter().map(|m| m.as_u64().unwrap()).collect();
        assert!(bitmap.iter().eq(members.iter().copied()));
        assert_eq!(BitmapValue::decode(&bitmap.encode()).unwrap(), bitmap);
        let percentile = Percentile::decode(&unhex(&row[3])).unwrap();
        assert_eq!(percentile.count(), want[3].as_f64().unwrap());
        assert_eq!(percentile.quantile(0.5).is_some(), percentile.count() > 0.0);
    }
    assert!(exact > 0 && estimated > 0);
}

#[test]
fn rendering_is_json() {
    let folder = recovery_testkit::fixtures("starrocks").join("segments/map_struct_json_c4");
    let case = load_case(&folder);
    let segment = Arc::new(Segment::open(case.blob()).unwrap());
    let all: Vec<usize> = (0..case.schema.columns.len()).collect();
    let batch = segment.rows(&case.schema, &all, ReadOptions::default()).unwrap().next_batch().unwrap().unwrap().batch;
    for row in 0..batch.num_rows() {
        for text in render(&batch, row) {
            serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        }
    }
}
