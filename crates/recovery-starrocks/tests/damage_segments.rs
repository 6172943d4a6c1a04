//! Damaged segments: nothing is invented, everything outside the damaged page comes back, nothing panics.
#![cfg(feature = "arrow")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]
#![allow(clippy::cast_possible_truncation)]

mod segment_case;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use recovery_core::{Blob, MemBlob};
use recovery_starrocks::format::segment::walk::{Piece, walk};
use recovery_starrocks::model::schema::ColumnType;
use recovery_starrocks::reader::{ReadOptions, Segment, salvage};
use segment_case::{Case, load_case, render, rows_of};

fn case(name: &str) -> Case {
    load_case(&recovery_testkit::fixtures("starrocks").join("segments").join(name))
}

fn blob(data: &[u8]) -> Arc<dyn Blob> {
    Arc::new(MemBlob::new("segment.dat", data.to_vec()))
}

fn clean_rows(case: &Case) -> Vec<Vec<String>> {
    rows_of(&Arc::new(Segment::open(case.blob()).unwrap()), &case.schema, ReadOptions::default()).unwrap()
}

fn strict(case: &Case, data: &[u8]) -> Option<Vec<Vec<String>>> {
    let segment = Arc::new(Segment::open(blob(data)).ok()?);
    rows_of(&segment, &case.schema, ReadOptions::default()).ok()
}

/// Reads with salvage; every value that is not named as lost must be the clean one. Returns the share that came back.
fn salvaged(case: &Case, clean: &[Vec<String>], segment: &Arc<Segment>, what: &str) -> f64 {
    let all: Vec<usize> = (0..case.schema.columns.len()).collect();
    let options = ReadOptions { salvage: true, lossy_text: true, ..ReadOptions::default() };
    let Ok(mut rows) = segment.rows(&case.schema, &all, options) else { return 0.0 };
    let mut got = Vec::new();
    let mut losses = Vec::new();
    loop {
        match rows.next_batch() {
            Ok(Some(next)) => got.extend((0..next.batch.num_rows()).map(|r| render(&next.batch, r))),
            Ok(None) => break,
            Err(e) => panic!("{what}: {e}"),
        }
        losses.extend(rows.take_losses());
    }
    losses.extend(rows.take_losses());
    let (mut right, mut total) = (0u64, 0u64);
    for (i, row) in got.iter().enumerate().take(clean.len()) {
        for (column, (got, want)) in case.schema.columns.iter().zip(row.iter().zip(&clean[i])) {
            total += 1;
            let lost =
                losses.iter().any(|l| l.column == column.name && l.healed_by.is_none() && l.rows.contains(&(i as u64)));
            if lost {
                continue;
            }
            assert_eq!(got, want, "{what}: row {i} column {} was invented", column.name);
            right += 1;
        }
    }
    right as f64 / total.max(1) as f64
}

#[test]
fn every_flip_of_small_segments() {
    for name in ["one_row", "all_null"] {
        let case = case(name);
        let clean = clean_rows(&case);
        let end = Segment::open(case.blob()).unwrap().data_end() as usize;
        let mut unread = 0;
        for bit in 0..case.data.len() * 8 {
            let mut data = case.data.clone();
            data[bit / 8] ^= 1 << (bit % 8);
            if let Some(rows) = strict(&case, &data) {
                // Only pages that rows do not need may be damaged without an error, and those have a checksum too.
                assert_eq!(rows, clean, "{name} bit {bit}");
                assert!(bit / 8 < end);
                let good = walk(&Bytes::from(data[..end].to_vec())).iter().all(|p| matches!(p, Piece::Page(_)));
                assert!(!good, "{name} bit {bit}: no checksum covers it");
                unread += 1;
            }
        }
        println!("{name}: {unread} of {} flips in pages that rows do not need", case.data.len() * 8);
    }
}

#[test]
fn every_cut_of_small_segments() {
    for name in ["one_row", "all_null"] {
        let case = case(name);
        let clean = clean_rows(&case);
        for len in 0..case.data.len() {
            assert!(strict(&case, &case.data[..len]).is_none(), "{name} cut at {len}");
            if let Ok(segment) =
                salvage::without_footer(&blob(&case.data[..len]), &case.schema, Some(clean.len() as u64))
            {
                salvaged(&case, &clean, &segment, &format!("{name} cut at {len}"));
            }
        }
    }
}

#[test]
fn a_flip_costs_its_page_only() {
    for name in ["codec_zstd", "codec_none", "v20_default", "all_types_v1", "map_struct_json_c7"] {
        let case = case(name);
        let clean = clean_rows(&case);
        let mut worst: f64 = 1.0;
        let end = Segment::open(case.blob()).unwrap().data_end() as usize;
        for i in 0..60 {
            let mut data = case.data.clone();
            let at = (i * 7919 + 13) % end;
            data[at] ^= 1 << (i % 8);
            let segment = Arc::new(Segment::open(blob(&data)).unwrap());
            worst = worst.min(salvaged(&case, &clean, &segment, &format!("{name} flip at {at}")));
        }
        // One page of one column; a page of a nested column may cost that column.
        let columns = case.schema.columns.len() as f64;
        assert!(worst >= 1.0 - 1.01 / columns, "{name}: only {worst} came back");
    }
}

#[test]
fn a_lost_page_comes_back_from_the_bitmap_index() {
    let case = case("indexed");
    let clean = clean_rows(&case);
    let segment = Segment::open(case.blob()).unwrap();
    let mut healed = 0;
    for meta in &segment.footer().columns {
        if !meta.indexes.iter().any(|i| i.bitmap.is_some()) {
            continue;
        }
        let root = meta.indexes.iter().find_map(|i| i.ordinal.as_ref()).unwrap().root.unwrap();
        assert!(root.is_root_data_page);
        let mut data = case.data.clone();
        data[root.root_page.unwrap().offset as usize + 9] ^= 0x40;
        let damaged = Arc::new(Segment::open(blob(&data)).unwrap());
        assert!(strict(&case, &data).is_none());
        assert_eq!(salvaged(&case, &clean, &damaged, "indexed"), 1.0);
        healed += 1;
    }
    assert!(healed >= 2, "{healed} columns have a bitmap index");
}

#[test]
fn rows_without_a_footer() {
    let mut folders: Vec<(String, PathBuf)> =
        recovery_testkit::cases(&recovery_testkit::fixtures("starrocks").join("segments"));
    if let Some(shared) = recovery_testkit::shared("starrocks") {
        folders.extend(recovery_testkit::cases(&shared.join("segments")));
    }
    for (name, folder) in folders {
        let case = load_case(&folder);
        let clean = clean_rows(&case);
        let cut = case.data.len() - 20;
        assert!(strict(&case, &case.data[..cut]).is_none());
        let segment = salvage::without_footer(&blob(&case.data[..cut]), &case.schema, None)
            .unwrap_or_else(|f| panic!("{name}: {f}"));
        assert_eq!(segment.num_rows() as usize, clean.len(), "{name}");
        let share = salvaged(&case, &clean, &segment, &name);
        // The writer of the MAP and STRUCT cases puts NULL flags and sizes behind the values; the engine puts them before.
        let elsewhere = case.schema.columns.iter().any(|c| matches!(c.kind, ColumnType::Map | ColumnType::Struct));
        assert!(share > if elsewhere { 0.0 } else { 0.999 }, "{name}: {share} came back without a footer");
    }
}

#[test]
fn hostile_bytes_do_not_panic() {
    let case = case("v20_default");
    let mut seed = 1u64;
    for round in 0..200 {
        let mut data = case.data.clone();
        for _ in 0..1 + round % 5 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (seed >> 20) as usize % data.len();
            data[at] = (seed >> 12) as u8;
        }
        // Under right checksums: pages are sealed again.
        let mut sealed = Vec::new();
        for piece in walk(&Bytes::from(case.data.clone())) {
            let Piece::Page(page) = piece else { continue };
            let (from, to) = (page.offset as usize, page.offset as usize + page.size as usize);
            sealed.extend_from_slice(&data[from..to - 4]);
            let sum = recovery_starrocks::format::segment::crc32c(&sealed[sealed.len() - (to - 4 - from)..]);
            sealed.extend_from_slice(&sum.to_le_bytes());
        }
        sealed.extend_from_slice(&case.data[sealed.len()..]);
        let _ = strict(&case, &sealed);
        if let Ok(segment) = Segment::open(blob(&sealed)) {
            let all: Vec<usize> = (0..case.schema.columns.len()).collect();
            let options = ReadOptions { salvage: true, page_limit: 16 << 20, ..ReadOptions::default() };
            if let Ok(mut rows) = Arc::new(segment).rows(&case.schema, &all, options) {
                while let Ok(Some(_)) = rows.next_batch() {}
            }
        }
    }
}
