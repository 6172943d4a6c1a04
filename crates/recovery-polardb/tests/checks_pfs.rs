//! Pages and log records judged while files go by, against what PostgreSQL's own tools counted.
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

use std::sync::Arc;

use recovery_core::{MemBlob, Reading, Source};
use recovery_polardb::PfsSource;
use recovery_polardb::checks::{Checked, ClusterWatch};
use recovery_polardb::reader::pfs::{Item, PfsFile, Watch, pass};
use recovery_polardb::writer::pfs::MemoryImage;

fn check(image: &MemoryImage) -> Checked {
    let cx = common::context(Reading::Strict);
    let source = PfsSource::open(Arc::new(image.clone()), &cx).unwrap();
    let files: Arc<dyn Source> = Arc::new(source.clone());
    let watch = ClusterWatch::new(&files, &cx).unwrap();
    for node in source.pfs().files.nodes.values().filter(|n| !n.directory) {
        let path = String::from_utf8(source.pfs().files.path(node.ino)).unwrap();
        let file: PfsFile = source.file(node, &path);
        pass(&file, watch.open(&path, node.size), &mut |_: Item<'_>| Ok(()), &cx).unwrap();
    }
    watch.checked()
}

/// A figure of `pg_checksums`.
fn figure(expected: &serde_json::Value, name: &str) -> u64 {
    let text = expected["pg_checksums"]["stdout"].as_str().unwrap();
    let line = text.lines().find(|l| l.starts_with(name)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn counts_what_pg_checksums_counts_and_names_a_bad_page() {
    let Some(shared) = recovery_testkit::shared("polardb") else { return };
    for (image, cluster) in [("pgcrash", "crash1"), ("pgclean", "clean16")] {
        let text = std::fs::read(shared.join(format!("pg/{cluster}.expected.json"))).unwrap();
        let expected: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let mut image = common::unpack(&common::find(image).unwrap());
        let checked = check(&image);
        assert_eq!(
            (checked.pages, checked.bad),
            (figure(&expected, "Blocks scanned"), figure(&expected, "Bad checksums"))
        );
        let records = expected["pg_waldump"]["records"].as_u64().unwrap_or(0);
        assert!(checked.records + checked.segments >= records, "{} records of {records}", checked.records);
        assert!(!checked.ends.iter().any(|(_, _, why)| why.contains("checksum")), "{:?}", checked.ends);
        // One bit of one page.
        let pfs = common::open(&image, Reading::Strict).unwrap();
        let is_table = |p: &[u8]| {
            let name = p.rsplit(|b| *b == b'/').next().unwrap();
            p.windows(6).any(|w| w == b"/base/") && name.iter().all(u8::is_ascii_digit)
        };
        let (path, node) = pfs.files.walk(0).find(|(p, n)| is_table(p) && !n.directory && n.size >= 16384).unwrap();
        let device = common::file_of(&pfs, node).segments()[0].device.unwrap();
        image.flip(device + 8192 + 4000, 3);
        let again = check(&image);
        assert_eq!((again.pages, again.bad), (checked.pages, checked.bad + 1));
        assert_eq!((again.named[0].path.as_bytes(), again.named[0].offset), (path.as_slice(), 8192));
    }
}

#[test]
fn files_outside_a_cluster_are_not_judged() {
    let mut writer =
        recovery_polardb::writer::pfs::ImageWriter::new(MemoryImage::default(), Default::default()).unwrap();
    writer.directory("base", 1).unwrap();
    writer.directory("base/5", 1).unwrap();
    writer.file("base/5/1234", 1, &MemBlob::new("f", vec![7; 20_000])).unwrap();
    let checked = check(&writer.finish().unwrap());
    assert_eq!((checked.pages, checked.segments), (0, 0));
}
