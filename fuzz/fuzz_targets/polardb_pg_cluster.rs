//! A whole small cluster with the input written over its files: inspection and planning must end in an answer.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use recovery_core::{Context, MemSource, Recover, Sources};
use recovery_polardb::PolarDb;
use recovery_polardb::format::pg::slot::{Slot, SlotLayout};
use recovery_polardb::format::pg::wal_page::{LONG, LongPart, PageHeader};
use recovery_polardb::format::pg::{Lsn, checkpoint::CheckPoint, checkpoint::Layout, relmap::RelMap, wal_record};

static CONTEXT: LazyLock<Context> = LazyLock::new(|| Context::with_threads(1));

/// The smallest directory that is a cluster: one checkpoint, one slot, one relation, no control file.
static CLUSTER: LazyLock<MemSource> = LazyLock::new(|| {
    let long = LongPart { system_identifier: 7, segment_size: 1 << 20, block_size: 8192 };
    let mut wal = PageHeader { magic: 0xD110, info: LONG, tli: 1, address: Lsn(1 << 20), rem_len: 0, long: Some(long) }.encode();
    let point = CheckPoint { redo: Lsn((1 << 20) + 40), this_tli: 1, prev_tli: 1, next_xid: 700, oldest_xid: 3, next_multi: 1, oldest_multi: 1, ..CheckPoint::default() };
    wal.extend(wal_record::build(0, 0, 0, Lsn(0x100), &point.encode(Layout::V13)));
    wal.resize(1 << 20, 0);
    let slot = Slot {
        layout: SlotLayout::Polar15,
        name: "replica1".into(),
        database: 0,
        persistency: 0,
        xmin: 0,
        catalog_xmin: 0,
        restart_lsn: Lsn(1 << 20),
        invalidated_at: Lsn(0),
        confirmed_flush: Lsn(0),
        two_phase_at: Lsn(0),
        two_phase: false,
        plugin: String::new(),
        apply_lsn: Some(Lsn(1 << 20)),
    };
    let mut page = vec![0u8; 8192];
    page[14..20].copy_from_slice(&[0, 0x20, 0, 0x20, 4, 0x20]);
    MemSource::new([
        ("pg_wal/000000010000000000000001", wal),
        ("pg_replslot/replica1/state", slot.encode()),
        ("global/pg_filenode.map", RelMap { entries: vec![(1262, 1262)] }.encode()),
        ("global/1262", page.clone()),
        ("base/5/1259", page),
        ("pg_xact/0000", vec![0; 8192]),
        ("base/5/PG_VERSION", b"15\n".to_vec()),
    ])
});

fuzz_target!(|data: &[u8]| {
    let mut source = CLUSTER.clone();
    let names: Vec<String> = source.files().keys().cloned().collect();
    for lie in data.chunks(12).take(32) {
        let [file, how, a, b, bytes @ ..] = lie else { break };
        let name = &names[usize::from(*file) % names.len()];
        let Some(old) = source.files().get(name).cloned() else { continue };
        let mut new = old.to_vec();
        let at = usize::from(u16::from_le_bytes([*a, *b]));
        match how % 4 {
            0 | 1 => {
                for (i, x) in bytes.iter().enumerate() {
                    if let Some(to) = new.get_mut(at + i) {
                        *to = *x;
                    }
                }
                source.insert(name.as_str(), new);
            }
            2 => {
                new.truncate(at);
                source.insert(name.as_str(), new);
            }
            _ => {
                source.remove(name);
                let text = String::from_utf8_lossy(bytes).replace(['\0', '/'], "_");
                source.insert(format!("{}/{text}", name.rsplit_once('/').map_or("", |(d, _)| d)), new);
            }
        }
    }
    let sources = Sources::one(Arc::new(source));
    for options in [serde_json::Value::Null, serde_json::json!({"vanilla": true}), serde_json::json!({"localfs": true})] {
        let Ok(report) = PolarDb.inspect(&sources, &options, &CONTEXT) else { continue };
        let _ = PolarDb.plan(&sources, &report, &options, &CONTEXT);
    }
});
