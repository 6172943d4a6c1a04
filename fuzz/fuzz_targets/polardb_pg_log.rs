//! A log of records made from the input, each sealed with its checksum, with lies in headers and lengths: the walk must
//! end, with one thread and with two at the same place.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use recovery_core::{Context, MemSource, Source};
use recovery_polardb::format::pg::wal_page::{CONTRECORD, LONG, LongPart, PageHeader};
use recovery_polardb::format::pg::{Lsn, SegmentSize, wal_record};
use recovery_polardb::reader::pg::wal::{Expect, WalDir};
use recovery_polardb::reader::pg::wal_scan::{ScanOptions, beyond, scan};

static ONE: LazyLock<Context> = LazyLock::new(|| Context::with_threads(1));
static TWO: LazyLock<Context> = LazyLock::new(|| Context::with_threads(2));

const SEGMENT: u32 = 1 << 20;

/// Lays records out over the pages of one segment.
fn lay(records: &[Vec<u8>]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    let head = |at: usize, rem: u32| {
        let long = (at == 0).then_some(LongPart { system_identifier: 7, segment_size: SEGMENT, block_size: 8192 });
        let info = if long.is_some() { LONG } else { 0 } | if rem > 0 { CONTRECORD } else { 0 };
        PageHeader { magic: 0xD110, info, tli: 1, address: Lsn(u64::from(SEGMENT) + at as u64), rem_len: rem, long }.encode()
    };
    for r in records {
        let mut rest = &r[..];
        let mut first = true;
        while first || !rest.is_empty() {
            if out.len() % 8192 == 0 {
                let rem = if first { 0 } else { rest.len() as u32 };
                out.extend(head(out.len(), rem));
            }
            first = false;
            let room = 8192 - out.len() % 8192;
            let (now, later) = rest.split_at(room.min(rest.len()));
            out.extend_from_slice(now);
            rest = later;
        }
        out.resize(out.len().next_multiple_of(8), 0);
        if out.len() > 200_000 {
            break;
        }
    }
    out
}

fuzz_target!(|data: &[u8]| {
    let mut records = Vec::new();
    let mut prev = Lsn(0x100);
    let mut lies = Vec::new();
    let mut at = 40usize;
    for chunk in data.chunks(9).take(400) {
        let Ok(c) = <[u8; 9]>::try_from(chunk) else { break };
        if c[0] == 0xff {
            lies.push(c);
            continue;
        }
        let main = vec![c[3]; usize::from(c[1]) * usize::from(c[2] % 64 + 1)];
        let r = wal_record::build(c[4] % 24, c[5], u32::from(c[6]), prev, &main);
        // Good enough for the link: a page border in between makes a wrong link, which is a lie too.
        prev = Lsn(u64::from(SEGMENT) + at as u64);
        at = (at + r.len()).next_multiple_of(8);
        records.push(r);
    }
    let mut bytes = lay(&records);
    for lie in lies {
        let place = usize::from(u16::from_le_bytes([lie[1], lie[2]])) * 4;
        for (i, b) in lie[4..].iter().enumerate() {
            if let Some(x) = bytes.get_mut(place + i) {
                *x ^= b;
            }
        }
    }
    bytes.resize(SEGMENT as usize, 0);
    let source: Arc<dyn Source> = Arc::new(MemSource::new([("pg_wal/000000010000000000000001", bytes)]));
    let size = SegmentSize::new(SEGMENT).expect("a power of two");
    let expect = Expect { system_identifier: Some(7), magic: Some(0xD110), major: 15 };
    let ends: Vec<_> = [&*ONE, &*TWO]
        .into_iter()
        .map(|cx| {
            let wal = WalDir::open(Arc::clone(&source), "pg_wal", size, expect).expect("list");
            let options = ScanOptions { tli: 1, start: Lsn(u64::from(SEGMENT)), until: Lsn(u64::MAX), heal: data.len() < 60, asked: None };
            let found = scan(&wal, &options, cx).expect("scan");
            if let Some(stop) = &found.stop {
                let _ = beyond(&wal, 1, stop, cx).expect("beyond");
            }
            (found.end, found.summary.records, found.stop)
        })
        .collect();
    assert_eq!(ends[0], ends[1]);
});
