//! Several copies of one disk: what one lacks or holds damaged comes from another, and never from another moment.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]

mod common;
mod pg_common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::{Image, context, expected, find, listing, unpack};
use recovery_core::{
    Blob, Context, DirTarget, FileSource, Mapfile, MemBlob, MemSource, Reading, Recover, Report, Severity, Sources,
};
use recovery_polardb::PolarDb;
use recovery_polardb::extract::{self, ExtractOptions};
use recovery_polardb::format::pfs::object::Kind;
use recovery_polardb::format::pfs::{BLOCK, CHUNK, ChunkHeader, LEADER_AT};
use recovery_polardb::reader::pfs::{Copy, OpenOptions, Pfs};
use recovery_polardb::writer::pfs::{ImageOptions, ImageWriter, MemoryImage};
use serde_json::{Value, json};

fn copy(image: &Image) -> Copy {
    Copy::new(Arc::new(image.clone()), None)
}

fn join(copies: Vec<Copy>) -> Pfs {
    Pfs::open_copies(copies, OpenOptions::default(), &context(Reading::Strict)).unwrap()
}

fn worst(pfs: &Pfs) -> Severity {
    pfs.findings.iter().map(|f| f.severity).max().unwrap()
}

fn codes(pfs: &Pfs) -> Vec<&'static str> {
    pfs.findings.iter().map(|f| f.code).collect()
}

/// A mapfile by which everything but these ranges was read.
fn map(unread: &[(u64, u64)], len: u64) -> Mapfile {
    let mut text = String::from("0x0 + 1\n");
    let mut at = 0;
    for (start, size) in unread {
        text.push_str(&format!("{at:#x} {:#x} +\n{start:#x} {size:#x} -\n", start - at));
        at = start + size;
    }
    text.push_str(&format!("{at:#x} {:#x} +\n", len - at));
    Mapfile::parse(&text).unwrap()
}

#[test]
fn two_damaged_copies_make_a_whole_one() {
    let whole = unpack(&find("mixed").unwrap());
    let (truth, answer) = (common::open(&whole, Reading::Strict).unwrap(), expected("mixed"));
    // Other places in each: headers, leader, objects, live entries, data.
    let (mut one, mut two) = (whole.clone(), whole.clone());
    one.zero(0, 4096);
    one.flip(LEADER_AT + 3, 1);
    one.flip(LEADER_AT + 230, 1);
    for number in 0..40 {
        two.zero(Kind::Inode.address(number).unwrap(), 128);
        one.zero(Kind::Direntry.address(number).unwrap(), 128);
    }
    let live = truth.ring.address(truth.leader.record().unwrap().tail_offset / 256).unwrap();
    one.zero(live, 256 * 7);
    two.zero(live + 256 * 8, 256 * 3);
    let pfs = join(vec![copy(&one), copy(&two)]);
    assert_eq!(listing(&pfs), listing(&truth), "{:#?}", common::summaries(&pfs));
    assert_eq!(common::differences(&pfs, &answer, true), [""; 0]);
    assert_eq!(worst(&pfs), Severity::Damaged);
    assert!(codes(&pfs).contains(&"PFS-0039"));
    // Alone it is not whole.
    assert_eq!(common::open(&two, Reading::Strict).map(|p| worst(&p)).unwrap(), Severity::Lost);
}

#[test]
fn what_ddrescue_missed_comes_from_the_other_run() {
    let whole = unpack(&find("mixed").unwrap());
    let answer = expected("mixed");
    // Whatever was not read is zero in the image, as ddrescue leaves it.
    let cut = |ranges: &[(u64, u64)]| {
        let mut image = whole.clone();
        ranges.iter().for_each(|(at, len)| image.zero(*at, *len));
        Copy::new(Arc::new(image), Some(&map(ranges, whole.len())))
    };
    let (first, second) = ([(4096, 1 << 20), (10 * BLOCK, 3 * BLOCK)], [(0, 4096), (2 * BLOCK, 64 << 10)]);
    let pfs = join(vec![cut(&first), cut(&second)]);
    assert_eq!(common::differences(&pfs, &answer, true), [""; 0], "{:#?}", common::summaries(&pfs));
    assert_eq!(worst(&pfs), Severity::Damaged);
    // Where both lack a part it is lost and named, not zero.
    let both = [(10 * BLOCK, BLOCK)];
    let pfs = join(vec![cut(&both), cut(&both)]);
    assert_eq!(worst(&pfs), Severity::Lost);
    // A shorter copy is filled up, and fills.
    let mut short = whole.clone();
    short.truncate(11 * BLOCK);
    for copies in [vec![copy(&short), copy(&whole)], vec![cut(&[(0, 4096)]), copy(&short)]] {
        let pfs = join(copies);
        assert_eq!(common::differences(&pfs, &answer, true), [""; 0], "{:#?}", common::summaries(&pfs));
    }
}

#[test]
fn a_copy_of_another_moment_is_not_used() {
    let (whole, wrap) = (unpack(&find("mixed").unwrap()), unpack(&find("wrap").unwrap()));
    let mut damaged = whole.clone();
    damaged.zero(Kind::Inode.address(3).unwrap(), 128 * 20);
    // The same disk before its last transaction: its leader record says so.
    let mut earlier = whole.clone();
    let leader = common::open(&whole, Reading::Strict).unwrap().leader.record().copied().unwrap();
    let entry = common::open(&whole, Reading::Strict).unwrap().ring.address(leader.head_offset / 256 - 1).unwrap();
    earlier.zero(entry, 256);
    let older = recovery_polardb::format::pfs::Leader {
        head_txid: leader.head_txid - 1,
        head_lsn: leader.head_lsn - 1,
        head_offset: leader.head_offset - 256,
        ..leader
    };
    earlier.put(LEADER_AT, &older.encode());
    for other in [&earlier, &wrap] {
        let pfs = join(vec![copy(&damaged), copy(other)]);
        assert!(codes(&pfs).contains(&"PFS-0040"), "{:#?}", common::summaries(&pfs));
        assert_eq!(listing(&pfs), listing(&common::open(&damaged, Reading::Strict).unwrap()));
    }
    // The whole copy beside it is used.
    let pfs = join(vec![copy(&damaged), copy(&wrap), copy(&whole)]);
    assert_eq!(listing(&pfs), listing(&common::open(&whole, Reading::Strict).unwrap()));
}

#[test]
fn a_growfs_that_was_cut_changes_nothing() {
    let image = unpack(&find("real_mkfs3").unwrap());
    let truth = listing(&common::open(&image, Reading::Strict).unwrap());
    let header = |number: u64, chunks: u32| ChunkHeader { number, chunks, version: 2 }.encode();
    let mut grown = image.clone();
    grown.truncate(4 * CHUNK);
    // New chunks are made first, old headers follow from the last chunk to the first; chunk 0 rules.
    for done in 0..=3u64 {
        if done > 0 {
            grown.put(3 * CHUNK, &header(3, 4));
        }
        for chunk in (4 - done.max(1))..3 {
            grown.put(chunk * CHUNK, &header(chunk, 4));
        }
        let pfs = common::open(&grown, Reading::Strict).unwrap();
        assert_eq!((pfs.geometry.chunks, listing(&pfs) == truth), (3, true), "{done}");
        assert_eq!(worst(&pfs), Severity::Note, "{:#?}", common::summaries(&pfs));
        assert_eq!(codes(&pfs).contains(&"PFS-0002"), done > 1, "{done}: {:?}", codes(&pfs));
    }
}

/// The small cluster inside an image file.
fn stored(files: &MemSource, to: &Path) {
    let mut writer = ImageWriter::new(MemoryImage::default(), ImageOptions::default()).unwrap();
    let mut made = std::collections::BTreeSet::new();
    for (name, data) in files.files() {
        let path = format!("shared_data/{name}");
        for (i, _) in path.match_indices('/') {
            if made.insert(path[..i].to_owned()) {
                writer.directory(&path[..i], 1).unwrap();
            }
        }
        writer.file(&path, 1, &MemBlob::new("f", data.clone())).unwrap();
    }
    common::store(&writer.finish().unwrap(), to);
}

fn source(path: &Path) -> Arc<dyn recovery_core::Source> {
    Arc::new(FileSource::new(path))
}

/// Turns bytes of a file inside an image file.
fn spoil(image: &Path, name: &str, offset: u64, len: u64) {
    use std::os::unix::fs::FileExt;
    let blob = source(image).open_name(image.file_name().unwrap().to_str().unwrap()).unwrap().unwrap();
    let pfs = Pfs::open(blob, OpenOptions::default(), &context(Reading::Strict)).unwrap();
    let path = format!("shared_data/{name}");
    let file = common::file(&pfs, &path);
    let at = file.segments()[0].device.unwrap() + offset;
    let old = file.bytes(offset..offset + len).unwrap();
    let new: Vec<u8> = old.iter().map(|b| b ^ 0x5A).collect();
    fs::OpenOptions::new().write(true).open(image).unwrap().write_all_at(&new, at).unwrap();
}

fn rescue(sources: &Sources, into: &Path) -> (Report, recovery_core::Plan) {
    let (cx, options) = (Context::with_threads(2), json!({"vanilla": true}));
    let report = PolarDb.inspect(sources, &options, &cx).unwrap();
    let plan = PolarDb.plan(sources, &report, &options, &cx).unwrap();
    PolarDb.apply(sources, &plan, &DirTarget::new(into).unwrap(), &cx).unwrap();
    (report, plan)
}

#[test]
fn pages_and_log_records_come_from_the_copy_that_holds_them() {
    let dir = tempfile::tempdir().unwrap();
    let files = pg_common::case("pg_small");
    let (one, two) = (dir.path().join("one.img"), dir.path().join("two.img"));
    stored(&files, &one);
    stored(&files, &two);
    let table = files
        .files()
        .iter()
        .filter(|(n, d)| {
            n.starts_with("base/5/") && n.rsplit('/').next().unwrap().parse::<u32>().is_ok() && d.len() >= 16384
        })
        .map(|(n, _)| n.clone())
        .next()
        .unwrap();
    spoil(&one, &table, 8192 + 100, 40);
    spoil(&two, &table, 200, 40);
    let redo = 0x288;
    spoil(&one, "pg_wal/000000010000000000000009", redo + 300, 9000);
    let alone = PolarDb.inspect(&Sources::one(source(&one)), &Value::Null, &Context::with_threads(2)).unwrap();
    assert_eq!(alone.exit, 4);
    let both = Sources { rivals: vec![source(&one)], donors: vec![source(&two)] };
    let (report, plan) = rescue(&both, &dir.path().join("new"));
    assert_eq!((report.exit, plan.consents.len()), (3, 0), "{:#?}", report.findings);
    let seen: Vec<&str> = report.findings.iter().map(|f| f.code).collect();
    assert!(seen.contains(&"PG-0088"), "{seen:?}");
    for name in [table.as_str(), "pg_wal/000000010000000000000009"] {
        assert!(fs::read(dir.path().join("new/primary").join(name)).unwrap() == files.files()[name], "{name}");
    }
    // A plain directory of the same moment serves as well; one of another moment does not.
    let plain = dir.path().join("plain");
    for (name, data) in files.files() {
        let to = plain.join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, data).unwrap();
    }
    let with = |donor: &Path| Sources { rivals: vec![source(&one)], donors: vec![pg_common::dir(donor)] };
    assert_eq!(rescue(&with(&plain), &dir.path().join("new2")).0.exit, 3);
    let control = plain.join("global/pg_control");
    let mut later = recovery_polardb::format::pg::control::decode(&fs::read(&control).unwrap()).unwrap();
    later.control.time += 1;
    fs::write(&control, later.control.encode(later.layout)).unwrap();
    let report = PolarDb.inspect(&with(&plain), &Value::Null, &Context::with_threads(2)).unwrap();
    assert_eq!(report.exit, 4);
    assert!(report.findings.iter().any(|f| f.code == "PG-0089"));
}

#[test]
fn a_mapfile_beside_the_image_is_heeded() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("disk.img");
    let whole = unpack(&find("mixed").unwrap());
    common::store(&whole, &image);
    fs::write(
        dir.path().join("disk.img.map"),
        "0 + 1\n0 0x2800000 +\n0x2800000 0x1000000 -\n0x3800000 0x27c800000 +\n",
    )
    .unwrap();
    let report = PolarDb.inspect(&Sources::one(source(&image)), &Value::Null, &Context::with_threads(2)).unwrap();
    assert!(report.findings.iter().any(|f| f.code == "PFS-0041") && report.exit == 4, "{:#?}", report.findings);
    fs::write(dir.path().join("disk.img.map"), "not a map\nreally not\n").unwrap();
    assert!(PolarDb.inspect(&Sources::one(source(&image)), &Value::Null, &Context::with_threads(2)).is_err());
}

#[test]
fn an_extracted_directory_is_inspected_as_the_cluster_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let (image, out) = (dir.path().join("disk.img"), dir.path().join("out"));
    stored(&pg_common::case("pg_small"), &image);
    let (cx, sources) = (Context::with_threads(2), Sources::one(source(&image)));
    let blob = sources.first().unwrap().open_name("disk.img").unwrap().unwrap();
    let files = recovery_polardb::PfsSource::open(blob, &cx).unwrap();
    let plan = extract::plan(&sources, &files, &ExtractOptions::default()).unwrap();
    extract::run(&sources, &files, plan, &DirTarget::new(&out).unwrap(), None, &cx).unwrap();
    for (place, path) in [(out.clone(), "/shared_data"), (out.join("shared_data"), "/")] {
        let report = PolarDb.inspect(&Sources::one(pg_common::dir(&place)), &Value::Null, &cx).unwrap();
        let clusters = report.facts["clusters"].as_array().unwrap();
        assert_eq!((clusters.len(), clusters[0]["path"].as_str(), report.exit), (1, Some(path), 0));
    }
}

#[test]
fn a_cluster_of_a_release_that_is_not_read_is_refused_by_name() {
    let mut files = pg_common::case("pg_small");
    let mut control = files.files()["global/pg_control"].to_vec();
    control[8..12].copy_from_slice(&1800u32.to_le_bytes());
    let crc = crc32c(&control[..288]);
    control[288..292].copy_from_slice(&crc.to_le_bytes());
    files.insert("global/pg_control", control);
    let (cx, sources) = (Context::with_threads(1), Sources::one(Arc::new(files)));
    let report = PolarDb.inspect(&sources, &Value::Null, &cx).unwrap();
    assert!(
        report.findings.iter().any(|f| f.code == "PG-0090" && f.summary.contains("1800")),
        "{:#?}",
        report.findings
    );
    assert!(report.findings.iter().all(|f| f.code != "PG-0010"));
    let made = PolarDb.plan(&sources, &report, &json!({"vanilla": true}), &cx);
    assert!(made.unwrap_err().to_string().contains("PostgreSQL 18"));
}

fn crc32c(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(!0, |crc, b| (0..8).fold(crc ^ u32::from(*b), |c, _| c >> 1 ^ (0x82F6_3B78 & (c & 1).wrapping_neg())))
        ^ !0
}
