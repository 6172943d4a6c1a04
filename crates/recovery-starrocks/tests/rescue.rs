//! What a rescue keeps, what it builds anew, and what it asks consent for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use common::{healthy, inspect, sources};
use prost::Message as _;
use recovery_core::{Context, DirTarget, MemSource, Plan, Recover as _, Verdict};
use recovery_starrocks::format::tablet_header::{Frame, TabletMetaPb};
use recovery_starrocks::{STARROCKS, md5_hex};
use serde_json::{Value, json};

const REPO: &str = "__starrocks_repository_prod_bk";

fn plan(source: &MemSource, options: &Value) -> Plan {
    let cx = Context::with_threads(1);
    let sources = sources(source.clone());
    let report = STARROCKS.inspect(&sources, options, &cx).unwrap();
    STARROCKS.plan(&sources, &report, options, &cx).unwrap()
}

fn carry_out(source: &MemSource, plan: &Plan) -> MemSource {
    let place = tempfile::tempdir().unwrap();
    let target = DirTarget::new(place.path().join("new")).unwrap();
    STARROCKS.apply(&sources(source.clone()), plan, &target, &Context::with_threads(1)).unwrap();
    let mut out = recovery_testkit::load(&place.path().join("new"));
    let own: Vec<String> = out.files().keys().filter(|n| n.starts_with(".recover/")).cloned().collect();
    for name in own {
        out.remove(&name);
    }
    out
}

fn take(source: &mut MemSource, part: &str) -> (String, Vec<u8>) {
    let name = source.files().keys().find(|n| n.contains(part)).unwrap_or_else(|| panic!("no {part}")).clone();
    let bytes = source.remove(&name).unwrap().to_vec();
    (name, bytes)
}

fn put(source: &mut MemSource, base: &str, bytes: Vec<u8>) {
    source.insert(format!("{base}.{}", md5_hex(&bytes)), bytes);
}

/// The table `logs` with a second range partition: another tablet with the same rows.
fn two_partitions() -> MemSource {
    let mut source = healthy("v3");
    let label = format!("{REPO}/__ss_ss_models");
    let old = format!("{label}/__ss_content/__db_10509/__tbl_10522/__part_10525/__idx_10523/__10526");
    let new = format!("{label}/__ss_content/__db_10509/__tbl_10522/__part_20525/__idx_10523/__20526");
    let files: Vec<_> =
        source.files().iter().filter(|(n, _)| n.starts_with(&old)).map(|(n, b)| (n.clone(), b.to_vec())).collect();
    for (name, bytes) in files {
        let file = name.rsplit('/').next().unwrap();
        let base = file.rsplit_once('.').unwrap().0;
        if base.ends_with(".hdr") {
            let mut meta = TabletMetaPb::decode(Frame::split(&bytes).unwrap().check().unwrap()).unwrap();
            meta.tablet_id = Some(20526);
            put(&mut source, &format!("{new}/20526.hdr"), Frame::seal(&meta.encode_to_vec()));
        } else {
            put(&mut source, &format!("{new}/{}", base.replace("10526", "20526")), bytes);
        }
    }
    let (name, bytes) = take(&mut source, "__ss_ss_models/__info_");
    let mut info: Value = serde_json::from_slice(&bytes).unwrap();
    let partitions = &mut info["backup_objects"]["logs"]["partitions"];
    let text =
        partitions["logs"].to_string().replace("10524", "20524").replace("10525", "20525").replace("10526", "20526");
    partitions["p2"] = serde_json::from_str(&text).unwrap();
    put(&mut source, name.rsplit_once('.').unwrap().0, info.to_string().into_bytes());
    let (name, bytes) = take(&mut source, "__ss_ss_models/__meta");
    let mut meta: Value = serde_json::from_slice(&bytes[4..]).unwrap();
    let table = &mut meta["tblNameMap"]["logs"];
    let text = table["idToPartition"]["10524"]
        .to_string()
        .replace("10524", "20524")
        .replace("10525", "20525")
        .replace("10526", "20526");
    let mut second: Value = serde_json::from_str(&text).unwrap();
    second["name"] = json!("p2");
    table["idToPartition"]["20524"] = second;
    let range = |low: i64, high: i64| {
        let mut out = vec![1u8];
        for (closed, value) in [(1u8, low), (0, high)] {
            if out.len() > 1 {
                out.push(1);
            }
            out.push(closed);
            out.extend(1i32.to_be_bytes());
            out.extend(3i32.to_be_bytes());
            out.extend(b"INT");
            out.push(0);
            out.extend(value.to_be_bytes());
        }
        json!(out.iter().map(|b| b.cast_signed()).collect::<Vec<i8>>())
    };
    table["partitionInfo"] = json!({"clazz": "RangePartitionInfo", "type": "RANGE", "colIds": ["k"],
        "idToDataProperty": {}, "idToReplicationNum": {"10524": 1, "20524": 1},
        "serializedIdToRange": {"10524": range(0, 100), "20524": range(100, 200)}});
    let text = meta.to_string().into_bytes();
    let mut framed = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    framed.extend(text);
    put(&mut source, name.rsplit_once('.').unwrap().0, framed);
    source
}

/// Rows of a table by a salvaging read, as lines.
fn rows(source: &MemSource, label: &str, name: &str, reading: recovery_core::Reading) -> Vec<String> {
    use recovery_starrocks::export;
    use recovery_starrocks::reader::load::load;
    use recovery_starrocks::reader::repository::Repository;
    use recovery_starrocks::reader::{Losses, Selection, text};
    let mut cx = Context::with_threads(1);
    cx.reading = reading;
    let source: std::sync::Arc<dyn recovery_core::Source> = std::sync::Arc::new(source.clone());
    let loaded = load(Repository::open(source, None).unwrap(), &cx).unwrap();
    let table = export::table(&loaded, label, name, &[]).unwrap();
    let (selection, mut out) = (Selection::all(&table.schema), Vec::new());
    for part in &table.parts {
        let Some(mut reader) = part.open(&table, &selection, &mut Losses::default(), &cx).unwrap() else { continue };
        while let Some(batch) = reader.next_batch().unwrap() {
            for row in 0..batch.num_rows() {
                let mut line = Vec::new();
                text::object(&mut line, &batch, row).unwrap();
                out.push(String::from_utf8(line).unwrap());
            }
        }
    }
    out
}

#[test]
fn what_one_tablet_lost_costs_nothing_else() {
    let mut source = two_partitions();
    let report = inspect(&source);
    assert_eq!(report.verdict, Verdict::Sound, "{:#?}", report.findings);
    let (gone, _) = take(&mut source, "__part_20525/__idx_10523/__20526/02");
    let plan = plan(&source, &Value::Null);
    assert_eq!(plan.consents, ["lost-rows"]);
    assert_eq!(plan.losses.len(), 1, "{:?}", plan.losses);
    assert!(plan.losses[0].summary.contains("p2") && plan.losses[0].records > 0, "{:?}", plan.losses);
    let result = carry_out(&source, &plan);
    let after = inspect(&result);
    assert_eq!(after.verdict, Verdict::Sound, "{:#?}", after.findings);
    let tables = after.facts["snapshots"][1]["tables"].as_array().unwrap().clone();
    let logs = tables.iter().find(|t| t["name"] == "logs").unwrap();
    assert_eq!((&logs["partitions"], &logs["restorable"]), (&json!(2), &json!(true)));
    // A strict read of the result gives what a salvaging read of the source gives.
    let left = rows(&source, "ss_models", "logs", recovery_core::Reading::Salvage);
    assert_eq!(rows(&result, "ss_models", "logs", recovery_core::Reading::Strict), left);
    // Every other file is the same, byte for byte.
    let dir = gone.rsplit_once('/').unwrap().0;
    for (name, bytes) in result.files().iter().filter(|(n, _)| !n.starts_with(dir)) {
        assert_eq!(source.files()[name], *bytes, "{name}");
    }
}

#[test]
fn tablets_and_headers_that_are_gone_are_made_anew() {
    for version in ["v2", "v3"] {
        let clean = healthy(version);
        let header = |n: &String| {
            n.contains("ss_models") && n.contains(".hdr.") && (n.contains("__tbl_10516") || n.contains("__tbl_11959"))
        };
        let name = clean.files().keys().filter(|n| header(n)).max().unwrap().clone();
        // The only header of the index: its schema comes from __meta.
        let mut source = clean.clone();
        source.remove(&name);
        let made = plan(&source, &Value::Null);
        assert_eq!(made.consents, ["rebuilt-header"], "{version}: {:?}", made.losses);
        let result = carry_out(&source, &made);
        let after = inspect(&result);
        assert_eq!(after.verdict, Verdict::Sound, "{version}: {:#?}", after.findings);
        // The order of loads is that of the rowset ids, as a salvaging read takes it.
        let left = rows(&source, "ss_models", "pv_daily", recovery_core::Reading::Salvage);
        assert!(left.len() > 30, "{version}: {} rows", left.len());
        assert_eq!(rows(&result, "ss_models", "pv_daily", recovery_core::Reading::Strict), left, "{version}");
        // Nothing of the tablet is left.
        let dir = name.rsplit_once('/').unwrap().0.to_owned();
        let mut source = clean;
        for file in source.files().keys().filter(|n| n.starts_with(&dir)).cloned().collect::<Vec<_>>() {
            source.remove(&file);
        }
        let made = plan(&source, &Value::Null);
        assert_eq!(made.consents, ["lost-rows"], "{version}: {:?}", made.losses);
        let result = carry_out(&source, &made);
        let after = inspect(&result);
        assert_eq!(after.verdict, Verdict::Sound, "{version}: {:#?}", after.findings);
        assert!(rows(&result, "ss_models", "pv_daily", recovery_core::Reading::Strict).is_empty());
    }
}

/// Delete vectors name segments by number: a primary-key tablet cannot go on without one.
#[test]
fn a_primary_key_partition_with_lost_data_is_left_out() {
    let mut source = healthy("v3");
    let _ = take(&mut source, "__10507/02");
    let made = plan(&source, &Value::Null);
    assert_eq!(made.consents, ["damaged-partition"], "{:?}", made.losses);
    let after = inspect(&carry_out(&source, &made));
    assert_eq!(after.verdict, Verdict::Sound, "{:#?}", after.findings);
    assert!(!common::restorable(&after).iter().any(|(n, _)| n == "ss_events.orders"));
    assert!(common::restorable(&after).iter().any(|(n, r)| n == "ss_events.events" && *r));
}

#[test]
fn overlapping_rowsets_are_never_read_twice() {
    let clean = healthy("v2");
    let all = rows(&clean, "ss_models", "logs", recovery_core::Reading::Strict);
    let mut source = clean;
    let (name, bytes) = take(&mut source, "/11969.hdr.");
    let mut meta = TabletMetaPb::decode(Frame::split(&bytes).unwrap().check().unwrap()).unwrap();
    // A leftover that reaches back over another rowset.
    let mut extra = meta.rs_metas[1].clone();
    (extra.start_version, extra.end_version) = (Some(1), Some(3));
    meta.rs_metas.push(extra);
    put(&mut source, name.rsplit_once('.').unwrap().0, Frame::seal(&meta.encode_to_vec()));
    let found = rows(&source, "ss_models", "logs", recovery_core::Reading::Strict);
    assert_eq!(found, all);
}

#[test]
fn a_lost_definition_is_taken_from_another_snapshot() {
    let mut source = two_partitions();
    // The same snapshot under a second label, whose definitions are lost.
    let files: Vec<_> = source
        .files()
        .iter()
        .filter(|(n, _)| n.contains("__ss_ss_models/"))
        .map(|(n, b)| (n.clone(), b.clone()))
        .collect();
    for (name, bytes) in files {
        let copy = name.replace("__ss_ss_models/", "__ss_later/");
        if copy.contains("/__info_") {
            let text = String::from_utf8(bytes.to_vec()).unwrap().replace("\"ss_models\"", "\"later\"");
            put(&mut source, copy.rsplit_once('.').unwrap().0, text.into_bytes());
        } else if !copy.contains("/__meta.") {
            source.insert(copy, bytes);
        }
    }
    let plan = plan(&source, &Value::Null);
    assert!(plan.consents.is_empty(), "{:?}", plan.losses);
    let result = carry_out(&source, &plan);
    let after = inspect(&result);
    assert_eq!(after.verdict, Verdict::Sound, "{:#?}", after.findings);
}

#[test]
fn definitions_without_any_source_ask_for_consent() {
    let mut source = two_partitions();
    let _ = take(&mut source, "__ss_ss_models/__meta");
    let plan = plan(&source, &Value::Null);
    assert!(plan.consents.contains(&"partition-bounds".to_owned()), "{:?}", plan.losses);
    assert!(plan.consents.contains(&"table-properties".to_owned()));
    let after = inspect(&carry_out(&source, &plan));
    assert_eq!(after.verdict, Verdict::Sound, "{:#?}", after.findings);
    assert!(!common::restorable(&after).iter().any(|(n, _)| n == "ss_models.logs"));
    assert!(common::restorable(&after).iter().any(|(n, r)| n == "ss_models.accounts" && *r));
}

/// Old snapshots cannot be given a random distribution: the user says by what, or agrees to the guess.
#[test]
fn a_distribution_is_never_guessed_in_silence() {
    let mut source = healthy("v2");
    let _ = take(&mut source, "__ss_ss_events/__meta");
    let guessed = plan(&source, &Value::Null);
    assert!(guessed.consents.contains(&"guessed-distribution".to_owned()), "{:?}", guessed.losses);
    let said = plan(&source, &json!({"distribution": {"events": ["k_int"]}}));
    assert!(!said.consents.contains(&"guessed-distribution".to_owned()), "{:?}", said.losses);
    let after = inspect(&carry_out(&source, &said));
    assert_eq!(after.verdict, Verdict::Sound, "{:#?}", after.findings);
}

/// The physical partition's directory may have another id than the description says: the tablet's id is unique.
#[test]
fn tablets_are_found_by_their_id() {
    let clean = healthy("v3");
    let moved = clean.files().iter().map(|(n, b)| (n.replace("__part_10525", "__part_10524"), b.clone()));
    let report = inspect(&MemSource::new(moved));
    assert_eq!(report.verdict, Verdict::Sound, "{:#?}", report.findings);
}

#[test]
fn several_timestamps_of_one_label_are_told_apart() {
    let mut source = healthy("v2");
    let (name, bytes) = take(&mut source, "__ss_ss_models/__info_");
    source.insert(name.clone(), bytes.clone());
    let again = name.replace("2021-12-09-08-00-00-123", "2021-12-10-08-00-00-123");
    source.insert(again, bytes);
    let report = inspect(&source);
    assert_eq!(report.verdict, Verdict::Sound, "{:#?}", report.findings);
    assert_eq!(report.facts["snapshots"].as_array().unwrap().len(), 3);
}

#[test]
fn a_gap_in_the_versions_is_lost_data() {
    let mut source = healthy("v2");
    let (name, bytes) = take(&mut source, "/11957.hdr.");
    let mut meta = TabletMetaPb::decode(Frame::split(&bytes).unwrap().check().unwrap()).unwrap();
    meta.rs_metas.remove(1);
    put(&mut source, name.rsplit_once('.').unwrap().0, Frame::seal(&meta.encode_to_vec()));
    let report = inspect(&source);
    assert_eq!(report.verdict, Verdict::Lossy);
    assert!(report.findings.iter().any(|f| f.code == "SRS-0044"), "{:#?}", report.findings);
}
