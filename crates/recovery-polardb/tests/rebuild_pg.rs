//! The directories of the lost nodes: complete, and never a second writer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]

mod pg_common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use recovery_core::{Context, DirTarget, Error, MemBlob, MemSource, Plan, Reason, Recover, Report, Sources};
use recovery_polardb::PolarDb;
use recovery_polardb::format::pg::Lsn;
use recovery_polardb::format::pg::slot::{Slot, SlotLayout, decode};
use recovery_polardb::writer::pfs::{ImageOptions, ImageWriter, MemoryImage};
use serde_json::{Value, json};

/// The small cluster as it would lie on PolarDB's shared disk: a slot of a replica, a log index, a leftover.
fn shared() -> MemSource {
    let mut files = pg_common::case("pg_small");
    files.remove("PG_VERSION");
    let old = decode(&files.files()["pg_replslot/replica1/state"]).unwrap();
    let slot = Slot { layout: SlotLayout::Polar15, apply_lsn: Some(Lsn(0x90_0288)), ..old };
    files.insert("pg_replslot/replica1/state", slot.encode());
    let standby = Slot { name: "standby1".into(), apply_lsn: Some(Lsn(0)), ..slot };
    files.insert("pg_replslot/standby1/state", standby.encode());
    files.insert("global/polar_settings.conf", &b"# settings\n"[..]);
    files.insert("standby.signal", &b""[..]);
    files
}

/// The same inside a PFS image.
fn image(files: &MemSource) -> Sources {
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
    let dir = tempfile::tempdir().unwrap().keep();
    let file = dir.join("disk.img");
    let whole = writer.finish().unwrap();
    save(&whole, &file);
    Sources::one(Arc::new(recovery_core::FileSource::new(&file)))
}

/// Writes the used part of an image: everything behind it is sparse.
fn save(image: &MemoryImage, to: &Path) {
    use recovery_core::Blob;
    use std::os::unix::fs::FileExt;
    let f = fs::File::create(to).unwrap();
    f.set_len(image.len()).unwrap();
    let mut buf = vec![0; 1 << 20];
    for at in (0..2u64 << 30).step_by(1 << 20) {
        image.read_exact_at(at, &mut buf).unwrap();
        if buf.iter().any(|b| *b != 0) {
            f.write_all_at(&buf, at).unwrap();
        }
    }
}

fn plan(sources: &Sources, options: &Value) -> (Report, Result<Plan, Error>) {
    let cx = Context::with_threads(2);
    let report = PolarDb.inspect(sources, options, &cx).unwrap();
    let plan = PolarDb.plan(sources, &report, options, &cx);
    (report, plan)
}

fn build(sources: &Sources, options: &Value) -> tempfile::TempDir {
    let (_, plan) = plan(sources, options);
    let dir = tempfile::tempdir().unwrap();
    let cx = Context::with_threads(2);
    let into = dir.path().join("new");
    let receipt = PolarDb.apply(sources, &plan.unwrap(), &DirTarget::new(&into).unwrap(), &cx).unwrap();
    let verified = PolarDb.verify(&pg_common::dir(&into), &receipt, &cx).unwrap();
    assert!(verified.exit <= 3, "{:#?}", verified.findings);
    dir
}

#[test]
fn primary_and_replica_on_the_shared_disk() {
    let sources = image(&shared());
    let (report, _) = plan(&sources, &Value::Null);
    let facts = &report.facts["clusters"][0];
    assert_eq!((facts["path"].as_str(), facts["polardb"].as_bool()), (Some("/shared_data"), Some(true)));
    assert_eq!(facts["leftovers"], json!(["standby.signal"]));
    let dir = build(&sources, &json!({"node": ["name=ro2,role=replica,hostid=7,port=5444"], "net": "10.1.0.0/16"}));
    let new = dir.path().join("new");
    let text = |p: &str| fs::read_to_string(new.join(p)).unwrap_or_else(|e| panic!("{p}: {e}"));
    for node in ["primary", "replica1", "ro2"] {
        assert_eq!(text(&format!("{node}/PG_VERSION")), "15\n");
        let conf = text(&format!("{node}/postgresql.conf"));
        for line in [
            "polar_datadir = '/nvme1n1/shared_data/'",
            "full_page_writes = off",
            "max_connections = 100",
            "max_replication_slots = 10",
            "wal_level = logical",
            "max_prepared_transactions = 7",
            "min_wal_size = 80MB",
            r"log_line_prefix = '%p\t%r\t%u\t%m\t'",
        ] {
            assert!(conf.contains(line), "{node}: {line}\n{conf}");
        }
        for d in ["base/5", "global", "pg_multixact/members", "pg_logical/snapshots", "pg_tblspc"] {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(new.join(node).join(d)).unwrap().permissions().mode() & 0o777, 0o700, "{node}/{d}");
        }
        assert!(text(&format!("{node}/pg_hba.conf")).contains("host    replication  postgres  10.1.0.0/16   trust"));
        assert!(new.join(node).join("pg_ident.conf").exists());
    }
    assert!(!new.join("primary/replica.signal").exists() && !new.join("standby1").exists());
    assert!(new.join("replica1/replica.signal").exists() && new.join("ro2/replica.signal").exists());
    let conf = text("ro2/postgresql.conf");
    assert!(
        conf.contains("port = 5444") && conf.contains("polar_hostid = 7") && conf.contains("primary_slot_name = 'ro2'")
    );
    let book = text("RUNBOOK.txt");
    for line in [
        "losetup",
        "start_pfsd",
        "pfs -C disk rm /nvme1n1/shared_data/standby.signal",
        "--node name=standby1,role=standby",
    ] {
        assert!(book.contains(line), "{line}\n{book}");
    }
}

#[test]
fn a_standby_never_gets_the_primary_s_disk() {
    let sources = image(&shared());
    for node in [
        "name=standby1,role=standby",
        "name=standby1,role=standby,disk=nvme1n1,datadir=/nvme1n1/shared_data",
        "name=standby1,role=standby,disk=other,datadir=/nvme1n1/shared_data/",
    ] {
        let (_, made) = plan(&sources, &json!({"node": [node]}));
        assert!(matches!(made, Err(Error::Refusal(r)) if r.reason == Reason::Unsafe), "{node}");
    }
    let dir =
        build(&sources, &json!({"node": ["name=standby1,role=standby,hostid=3,disk=nvme2n1,datadir=/nvme2n1/data/"]}));
    assert!(dir.path().join("new/standby1/standby.signal").exists());
    for bad in [
        "x",
        "name=../x,role=replica",
        "name=A",
        "name=a,port=0",
        "name=a,hostid=1",
        "role=replica",
        "name=a,color=red",
        "name=primary",
    ] {
        let (_, made) = plan(&sources, &json!({"node": [bad]}));
        assert!(matches!(made, Err(Error::Usage(_))), "{bad}: {made:?}");
    }
    let (_, made) = plan(&sources, &json!({"net": "0.0.0.0/99"}));
    assert!(matches!(made, Err(Error::Usage(_))));
}

#[test]
fn extracted_beside_the_nodes() {
    let sources = image(&shared());
    let dir = build(&sources, &json!({"localfs": true}));
    let new = dir.path().join("new");
    let conf = fs::read_to_string(new.join("primary/postgresql.conf")).unwrap();
    let here = format!("polar_datadir = 'file-dio://{}/shared_data/'", new.display());
    assert!(
        conf.contains(&here) && conf.contains("polar_vfs.localfs_mode = on") && conf.contains("full_page_writes = on"),
        "{conf}"
    );
    for (name, data) in shared().files() {
        let there = fs::read(new.join("shared_data").join(name)).ok();
        if name == "standby.signal" {
            assert_eq!(there, None);
        } else {
            assert!(there.as_deref() == Some(&data[..]), "{name}");
        }
    }
}

#[test]
fn a_broken_disk_is_not_started_from() {
    let mut files = shared();
    let mut bytes = files.remove("global/pg_control").unwrap().to_vec();
    bytes[33] ^= 4;
    files.insert("global/pg_control", bytes);
    let sources = image(&files);
    let (report, made) = plan(&sources, &Value::Null);
    assert_eq!(report.exit, 3);
    assert!(matches!(made, Err(Error::Refusal(r)) if r.reason == Reason::Unsafe && r.message.contains("--localfs")));
    let dir = build(&sources, &json!({"localfs": true}));
    let healed = fs::read(dir.path().join("new/shared_data/global/pg_control")).unwrap();
    assert_eq!(healed, shared().files()["global/pg_control"].to_vec());
}

#[test]
fn without_a_control_file_nothing_happens_silently() {
    let mut files = pg_common::case("pg_small");
    let old = files.remove("global/pg_control").unwrap();
    let sources = Sources::one(Arc::new(files));
    let options = json!({"vanilla": true});
    let (report, made) = plan(&sources, &options);
    let made = made.unwrap();
    assert_eq!((report.exit, made.consents.clone()), (3, vec!["rebuilt-control-file".to_owned()]));
    assert_eq!(report.facts["clusters"][0]["control"], "rebuilt");
    let dir = build(&sources, &options);
    let new = recovery_polardb::format::pg::control::decode(
        &fs::read(dir.path().join("new/primary/global/pg_control")).unwrap(),
    )
    .unwrap();
    let old = recovery_polardb::format::pg::control::decode(&old).unwrap();
    assert!(new.crc_ok());
    let (new, old) = (new.control, old.control);
    assert_eq!(new.checkpoint_copy, old.checkpoint_copy);
    assert_eq!(
        (
            new.system_identifier,
            new.catalog_version,
            new.checkpoint,
            new.xlog_seg_size,
            new.relseg_size,
            new.data_checksum_version
        ),
        (
            old.system_identifier,
            old.catalog_version,
            old.checkpoint,
            old.xlog_seg_size,
            old.relseg_size,
            old.data_checksum_version
        )
    );
}

#[test]
fn long_relation_segments_are_cut_for_the_stock_server() {
    use recovery_core::Step;
    use recovery_polardb::format::pg::control;
    const GIB: u64 = 1 << 30;
    let mut files = pg_common::case("pg_small");
    let found = control::decode(&files.files()["global/pg_control"]).unwrap();
    let (mut changed, layout) = (found.control, found.layout);
    changed.relseg_size = 16_777_216;
    files.insert("global/pg_control", changed.encode(layout));
    let dir = tempfile::tempdir().unwrap();
    for (name, data) in files.files() {
        let to = dir.path().join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, data).unwrap();
    }
    let long = fs::File::create(dir.path().join("base/5/99999")).unwrap();
    long.set_len(2 * GIB + 3 * 8192).unwrap();
    let sources = Sources::one(pg_common::dir(dir.path()));
    let (_, made) = plan(&sources, &json!({"vanilla": true}));
    let made = made.unwrap();
    let of = |s: &Step| match s {
        Step::Copy { object, to, range, size, .. } if object == "base/5/99999" => Some((to.clone(), *range, *size)),
        _ => None,
    };
    let cut: Vec<_> = made.steps.iter().filter_map(of).collect();
    let want = [
        ("primary/base/5/99999", Some((0, GIB)), GIB),
        ("primary/base/5/99999.1", Some((GIB, GIB)), GIB),
        ("primary/base/5/99999.2", Some((2 * GIB, 3 * 8192)), 3 * 8192),
    ];
    assert_eq!(cut, want.map(|(to, range, size)| (to.to_owned(), range, size)));
    let bytes = made.steps.iter().find_map(|s| match s {
        Step::Write(w) if w.to == "primary/global/pg_control" => w.args["hex"].as_str().map(str::to_owned),
        _ => None,
    });
    let written = control::decode(&recovery_core::unhex(&bytes.unwrap()).unwrap()).unwrap();
    assert!(written.crc_ok());
    assert_eq!(written.control.relseg_size, 131_072);
    // PolarDB's own server keeps its segments.
    let (_, kept) = plan(&sources, &json!({"localfs": true}));
    assert_eq!(
        kept.unwrap().steps.iter().filter_map(of).map(|s| s.0).collect::<Vec<_>>(),
        ["shared_data/base/5/99999"]
    );
}
