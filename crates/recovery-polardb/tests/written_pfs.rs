//! Images of our own writer: read back the same, whatever the version, the layout and the place of the metadata; and
//! lies under right checksums, which only a careful reader survives.
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

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use recovery_core::{Blob, Depth, MemBlob, Reading, Severity, Source};
use recovery_polardb::PfsSource;
use recovery_polardb::format::pfs::{BLOCK, Entry, Kind, OBJECT_LEN, Object, ROOT_INO, checksum};
use recovery_polardb::reader::pfs::Pfs;
use recovery_polardb::writer::pfs::{ImageOptions, ImageWriter, JournalLayout, MemoryImage, Placement};

/// A file: its length and where it holds bytes.
type Contents = (u64, Vec<(u64, u8)>);

fn bytes_of((size, marks): &Contents) -> Vec<u8> {
    let mut data = vec![0; *size as usize];
    for (at, value) in marks.iter().filter(|_| *size > 0) {
        let at = (*at % size) as usize;
        let end = (at + 3000).min(data.len());
        data[at..end].fill(*value | 1);
    }
    data
}

fn build(options: ImageOptions, dirs: &[String], files: &BTreeMap<String, Vec<u8>>) -> MemoryImage {
    let mut writer = ImageWriter::new(MemoryImage::default(), options).unwrap();
    for dir in dirs {
        writer.directory(dir, 77).unwrap();
    }
    for (path, data) in files {
        writer.file(path, 88, &MemBlob::new(path, data.clone())).unwrap();
    }
    writer.finish().unwrap()
}

fn options() -> impl Strategy<Value = ImageOptions> {
    let journal = (0u64..4096, 1u64..1 << 40, 1u64..1 << 40, 0u64..9)
        .prop_map(|(slot, lsn, txid, per_transaction)| Placement::Journal { slot, lsn, txid, per_transaction });
    let placement = prop_oneof![Just(Placement::InPlace), journal];
    let layout = prop_oneof![Just(JournalLayout::Contiguous), Just(JournalLayout::Striped)];
    (1u32..4, 0u64..3, prop_oneof![Just(1u64 << 20), Just(9 << 20)], layout, placement).prop_map(
        |(chunks, version, log_size, layout, placement)| ImageOptions {
            chunks,
            version,
            log_size,
            layout,
            placement,
            time: 1_700_000_000,
        },
    )
}

fn contents() -> impl Strategy<Value = Contents> {
    let size = prop_oneof![Just(0), 1u64..10_000, Just(BLOCK), BLOCK - 2..BLOCK + 3, Just(2 * BLOCK + 5)];
    (size, prop::collection::vec((any::<u64>(), any::<u8>()), 0..4))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        options in options(),
        names in prop::collection::btree_set("[a-zA-Z0-9 äöü._-]{1,30}", 1..12),
        long in prop::collection::vec(60usize..256, 0..3),
        data in prop::collection::vec(contents(), 12),
    ) {
        let names: Vec<String> = names.into_iter().filter(|n| n != "." && n != "..").collect();
        let mut files = BTreeMap::new();
        for (i, name) in names.iter().enumerate() {
            let dir = if i % 3 == 0 { String::new() } else { format!("dir/sub{}/", i % 2) };
            files.insert(format!("{dir}{name}"), bytes_of(&data[i % data.len()]));
        }
        for len in long.iter().filter(|len| options.version >= 2 || **len < 64) {
            files.insert(format!("dir/{}", "n".repeat(*len)), bytes_of(&data[0]));
        }
        let dirs = ["dir".to_owned(), "dir/sub0".to_owned(), "dir/sub1".to_owned()];
        let files: BTreeMap<_, _> = files.into_iter().filter(|(p, _)| !dirs.contains(p)).collect();
        let image = build(options, &dirs, &files);
        let pfs = Arc::new(common::open(&image, Reading::Strict).unwrap());
        let bad: Vec<_> = pfs.findings.iter().filter(|f| f.severity > Severity::Note).collect();
        prop_assert!(bad.is_empty(), "{options:?}: {bad:#?}");
        prop_assert_eq!(pfs.geometry.version, options.version);
        let source = PfsSource::new(pfs);
        let mut seen = 0;
        for entry in source.list("", Depth::All).map(Result::unwrap).filter(|e| e.is_file() && !e.name.starts_with(".pfs-")) {
            let blob = source.open(&entry).unwrap();
            let expected = files.get(&entry.name);
            prop_assert_eq!(Some(blob.bytes(0..blob.len()).unwrap().to_vec()), expected.cloned(), "{}", entry.name);
            seen += 1;
        }
        prop_assert_eq!(seen, files.len());
        // Without its leader record the same comes back, if the journal holds it.
        if matches!(options.placement, Placement::Journal { .. }) {
            let mut lost = image.clone();
            lost.zero(recovery_polardb::format::pfs::LEADER_AT, 4096);
            let again = common::open(&lost, Reading::Strict).unwrap();
            prop_assert_eq!(common::listing(&again), common::listing(source.pfs()));
        }
    }
}

/// Puts an object in its place with a right checksum.
fn reseal(image: &mut MemoryImage, kind: Kind, mut bytes: [u8; OBJECT_LEN]) {
    let crc = checksum::of_struct(&bytes, 36);
    bytes[36..40].copy_from_slice(&crc.to_le_bytes());
    let number = Object::from_bytes(bytes).number();
    if let Some(at) = kind.address(number) {
        image.put(at, &bytes);
    }
}

/// Everything a reader does with a disk: nothing of it may panic, hang, or leave the image.
fn exercise(image: &MemoryImage) {
    for reading in [Reading::Strict, Reading::Salvage] {
        let Ok(pfs) = common::open(image, reading) else { continue };
        for (path, node) in pfs.files.walk(ROOT_INO).take(20_000) {
            assert!(path.len() <= 8192);
            assert!(!path.windows(4).any(|w| w == b"/../"), "{path:?}");
            let _ = common::file_of(&pfs, node).read_at(node.size / 2, &mut [0; 100]);
        }
        walk_source(pfs);
    }
}

fn walk_source(pfs: Pfs) {
    let source = PfsSource::new(Arc::new(pfs)).with_lost_and_found();
    for entry in source.list("", Depth::All).flatten().take(5000) {
        if entry.is_file() {
            let _ = source.open(&entry).unwrap().read_at(0, &mut [0; 10]);
        }
    }
}

fn small_image() -> MemoryImage {
    let mut files = BTreeMap::new();
    for i in 0..40 {
        files.insert(format!("dir/f{i}"), bytes_of(&(i * 1000, vec![(i * 77, 3)])));
    }
    files.insert(format!("dir/{}", "l".repeat(200)), vec![1; 5_000_000]);
    build(ImageOptions { log_size: 1 << 20, ..ImageOptions::default() }, &["dir".into(), "dir/deep".into()], &files)
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..60,
        any::<u64>(),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(1 << 63),
        Just(0x8000_0000),
        (0u64..4).prop_map(|c| (c << 11) | 3),
        (0u64..4).prop_map(|c| (c << 12) | 3),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn lies_under_right_checksums_end_in_findings(
        lies in prop::collection::vec((0usize..3, 0u64..60, 0usize..15, value()), 1..6),
        as_entries in any::<bool>(),
    ) {
        let mut image = small_image();
        let mut entries = Vec::new();
        for (kind, number, field, value) in lies {
            let kind = Kind::ALL[kind];
            let at = kind.address(number).unwrap();
            let mut bytes: [u8; OBJECT_LEN] = image.bytes(at..at + 128).unwrap()[..].try_into().unwrap();
            // Every 8-byte field but the number, which the place would contradict.
            let offset = 8 + field * 8;
            bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
            bytes[32] = kind as u8;
            if as_entries {
                let crc = checksum::of_struct(&bytes, 36);
                bytes[36..40].copy_from_slice(&crc.to_le_bytes());
                entries.push(Object::from_bytes(bytes));
            } else {
                reseal(&mut image, kind, bytes);
            }
        }
        if !entries.is_empty() {
            append(&mut image, &entries);
        }
        exercise(&image);
    }
}

/// Commits one transaction with these objects, as the engine would.
fn append(image: &mut MemoryImage, objects: &[Object]) {
    let pfs = common::open(image, Reading::Strict).unwrap();
    let mut leader = *pfs.leader.record().unwrap();
    for (i, object) in objects.iter().enumerate() {
        let more = i + 1 < objects.len();
        let entry = Entry { object: *object, lsn: leader.head_lsn + 1, txid: leader.head_txid + 1, more };
        let at = pfs.ring.address(leader.head_offset / 256).unwrap();
        image.put(at, &entry.encode());
        leader.head_lsn += 1;
        leader.head_offset += 256;
    }
    leader.head_txid += 1;
    image.put(recovery_polardb::format::pfs::LEADER_AT, &leader.encode());
}

#[test]
fn directories_in_a_circle_are_cut_and_kept() {
    let mut image = small_image();
    let pfs = common::open(&image, Reading::Strict).unwrap();
    let dir = pfs.files.find(b"dir").unwrap().ino;
    let deep = pfs.files.find(b"dir/deep").unwrap().ino;
    // The entry of dir moves into dir/deep: both now lead to each other and the root to neither.
    let deno = pfs.metadata.inodes.get(dir).unwrap().inode().deno;
    let mut bytes = *pfs.metadata.entries.get(deno).unwrap().as_bytes();
    bytes[112..120].copy_from_slice(&deep.to_le_bytes());
    reseal(&mut image, Kind::Direntry, bytes);
    exercise(&image);
    let pfs = common::open(&image, Reading::Salvage).unwrap();
    assert!(pfs.findings.iter().any(|f| f.code == "PFS-0030"));
    assert_eq!(pfs.files.unreachable.len(), 1);
    let lost = pfs.files.walk(pfs.files.unreachable[0]).count();
    assert_eq!(lost, 42, "everything below is still there");
}

#[test]
fn hostile_names_stay_components() {
    for name in ["..", ".", "a/b", "/etc/passwd", ""] {
        let mut image = small_image();
        let pfs = common::open(&image, Reading::Strict).unwrap();
        let ino = pfs.files.find(b"dir/f7").unwrap().ino;
        let deno = pfs.metadata.inodes.get(ino).unwrap().inode().deno;
        let mut bytes = *pfs.metadata.entries.get(deno).unwrap().as_bytes();
        bytes[40..104].fill(0);
        bytes[40..40 + name.len()].copy_from_slice(name.as_bytes());
        reseal(&mut image, Kind::Direntry, bytes);
        exercise(&image);
        let pfs = common::open(&image, Reading::Strict).unwrap();
        assert!(pfs.findings.iter().any(|f| f.code == "PFS-0026"), "{name}");
        let path = String::from_utf8(pfs.files.path(ino)).unwrap();
        let parts: Vec<&str> = path.split('/').collect();
        assert_eq!(parts.len(), 3, "{path}");
        assert!(!["..", ".", ""].contains(&parts[2]), "{path}");
    }
}

#[test]
fn orphans_keep_their_contents_and_stay_out_of_the_tree() {
    let image = common::unpack(&common::find("killed_orphan").unwrap());
    let pfs = common::open(&image, Reading::Strict).unwrap();
    let expected = common::expected("killed_orphan");
    let orphan = &expected["derived"]["orphans"][0];
    assert_eq!(pfs.files.orphans, [orphan["ino"].as_u64().unwrap()]);
    let path = format!("/lost+found/ino-{}", pfs.files.orphans[0]);
    let node = pfs.files.find(path.as_bytes()).unwrap();
    assert_eq!(node.size, orphan["size"].as_u64().unwrap());
    assert_eq!(common::sha256(&common::file_of(&pfs, node)), orphan["sha256"].as_str().unwrap());
    assert!(!common::listing(&pfs).iter().any(|l| l.contains("lost+found")));
    let listed = |lost: bool| {
        let source = PfsSource::new(Arc::new(pfs.clone()));
        let source = if lost { source.with_lost_and_found() } else { source };
        let names: Vec<_> = source.list("", Depth::All).map(|e| e.unwrap().name).collect();
        names.iter().filter(|n| n.starts_with("lost+found/")).count()
    };
    assert_eq!((listed(false), listed(true)), (0, 1));
}
