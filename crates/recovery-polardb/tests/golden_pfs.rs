//! The real programs' recorded answers beside images that they wrote.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]

mod common;

use std::collections::BTreeSet;

use recovery_core::{Reading, Severity};

/// Images whose contents are too large to hash in a debug build every time.
const LARGE: u64 = 1 << 30;

fn names() -> BTreeSet<String> {
    let files = common::folders().into_iter().filter_map(|d| std::fs::read_dir(d).ok()).flatten().flatten();
    files.filter_map(|f| f.file_name().to_str()?.strip_suffix(".img.tar.zst").map(str::to_owned)).collect()
}

#[test]
fn every_image_lists_and_reads_as_the_real_tool_says() {
    let names = names();
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        let expected = common::expected(&name);
        let image = common::unpack(&common::find(&name).unwrap());
        let pfs = common::open(&image, Reading::Strict).unwrap();
        let bytes: u64 = expected["objects"].as_array().unwrap().iter().filter_map(|o| o["size"].as_u64()).sum();
        let differences = common::differences(&pfs, &expected, bytes < LARGE);
        assert_eq!(differences, [""; 0], "{name}: {:#?}", common::summaries(&pfs));
        let bad: Vec<_> = pfs.findings.iter().filter(|f| f.severity > Severity::Note).collect();
        assert!(bad.is_empty(), "{name}: {bad:#?}");
        let derived = &expected["derived"];
        if let Some(version) = derived["fs_version"].as_u64() {
            assert_eq!(pfs.geometry.version, version, "{name}");
            let leader = pfs.leader.record().unwrap();
            let live = derived["journal_entries_live"].as_u64();
            assert_eq!(live.unwrap_or_else(|| leader.live_entries()), pfs.replayed.entries, "{name}");
            assert_eq!(leader.head_txid, derived["leader"]["head_txid"].as_u64().unwrap(), "{name}");
            assert_eq!(leader.head_lsn, derived["leader"]["head_lsn"].as_u64().unwrap(), "{name}");
        }
        println!("{name}: {} objects, {bytes} bytes", expected["objects"].as_array().unwrap().len());
    }
}
