//! Damaged disks: the recorded cases, and small damage in every place of the metadata.

use crate::common;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::{context, find, listing, open, patch, unpack};
use recovery_core::{Check, Class, Coverage, Mapfile, Reading, ReportBuilder, Severity, Sources, Verdict};
use recovery_polardb::PfsSource;
use recovery_polardb::format::pfs::{CHUNK, ENTRY_LEN, LEADER_AT, META_LEN, META_START};
use recovery_polardb::inspect::pfs::inspect;
use recovery_polardb::reader::pfs::{OpenOptions, Pfs};
use recovery_polardb::writer::pfs::MemoryImage;
use serde_json::Value;

fn cases() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for dir in common::folders() {
        let Ok(text) = std::fs::read(dir.join("cases.json")) else { continue };
        let cases: serde_json::Map<String, Value> = serde_json::from_slice(&text).unwrap();
        all.extend(cases.into_iter().filter(|(_, c)| find(c["base"].as_str().unwrap()).is_some()));
    }
    all
}

fn worst(pfs: &Pfs) -> Severity {
    pfs.findings.iter().map(|f| f.severity).max().unwrap_or(Severity::Note)
}

fn has(pfs: &Pfs, code: &str) -> bool {
    pfs.findings.iter().any(|f| f.code == code)
}

/// Lines of one listing that the other does not have. The engine's own files are left out: their times are lost with
/// the objects that nothing else holds.
fn beyond(ours: &[String], theirs: &[String]) -> Vec<String> {
    let own = |l: &&String| !l.starts_with("/.pfs-");
    ours.iter().filter(own).filter(|l| !theirs.contains(l)).cloned().collect()
}

#[test]
fn every_recorded_damage_gives_the_recorded_answer() {
    let cases = cases();
    assert!(cases.len() >= 15);
    for (name, case) in cases {
        let base = unpack(&find(case["base"].as_str().unwrap()).unwrap());
        let mut image = base.clone();
        patch(&mut image, &case);
        let good = listing(&open(&base, Reading::Strict).unwrap());
        assert!(recovery_polardb::probe(&image).0 > 0, "{name}: recognised");
        for reading in [Reading::Strict, Reading::Salvage] {
            let pfs = open(&image, reading).unwrap();
            judge(&name, &case, &image, &pfs, &good, reading);
        }
    }
}

fn judge(name: &str, case: &Value, image: &MemoryImage, pfs: &Pfs, good: &[String], reading: Reading) {
    let ours = listing(pfs);
    let (more, less) = (beyond(&ours, good), beyond(good, &ours));
    let told = format!("{name}: {:#?}\n+ {more:#?}\n- {less:#?}", common::summaries(pfs));
    if name.ends_with("leader_old") {
        // Strictly the older state, like the real tool; on request everything that the journal holds.
        assert!(has(pfs, "PFS-0006") && worst(pfs) == Severity::Suspect, "{told}");
        let forward = Pfs::open(Arc::new(image.clone()), OpenOptions { forward: true }, &context(reading)).unwrap();
        assert_eq!(listing(&forward), good, "{told}");
        if let Some(twin) = find("flushed") {
            let twin = listing(&open(&unpack(&twin), reading).unwrap());
            let names = |l: &[String]| l.iter().map(|l| l.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
            assert_eq!(names(&ours), names(&twin), "{told}");
        }
    } else if name.ends_with("journal_zeroed_part") {
        assert_eq!(worst(pfs), Severity::Lost, "{told}");
        match reading {
            Reading::Strict => assert!(has(pfs, "PFS-0009"), "{told}"),
            // Eight images are gone; each can concern one file.
            Reading::Salvage => assert!(more.len() <= 8 && less.len() <= 8 && pfs.replayed.lost == 8, "{told}"),
        }
    } else if name.contains("cut_in") {
        assert!(more.is_empty() && less.is_empty(), "{told}");
        let cut = case["patch"]["truncate"].as_u64().unwrap();
        for node in pfs.files.nodes.values() {
            let file = common::file_of(pfs, node);
            let end = file.segments().iter().filter_map(|s| s.device.map(|d| d + s.file.end - s.file.start)).max();
            let beyond = end.is_some_and(|e| e > cut);
            let path = String::from_utf8(pfs.files.path(node.ino)).unwrap();
            let told = pfs.findings.iter().any(|f| f.code == "PFS-0029" && f.object == path);
            assert_eq!(beyond, told, "{path}");
        }
    } else if name.contains("stale_entries") {
        assert!(less.iter().all(|l| l.starts_with("/d1 ")), "{told}");
        assert!(more.iter().all(|l| l.starts_with("/d1 ") || l.starts_with("/d1/newfile ")), "{told}");
        assert_eq!(more.len(), 2, "{told}");
    } else {
        assert!(more.is_empty() && less.is_empty(), "{told}");
        let harmless = name.contains("before_tail") || name.contains("garbage");
        let expected = if harmless { Severity::Note } else { Severity::Damaged };
        assert_eq!(worst(pfs), expected, "{told}");
    }
}

/// What the disk's own report says of each byte.
fn coverage(image: &MemoryImage) -> (Coverage, Verdict, Vec<recovery_core::Finding>) {
    let mut cx = context(Reading::Strict);
    cx.check = Check::Structure;
    let source = PfsSource::open(Arc::new(image.clone()), &cx).unwrap();
    let mut out = ReportBuilder::new("polardb", &Sources::default(), 100_000);
    inspect(&source, 0, None, &cx, &mut out).unwrap();
    let mut report = out.finish();
    (report.objects.remove(0).coverage, report.verdict, report.findings)
}

/// A sweep with a time budget on two threads; prints which share it covered.
fn sweep<T: Sync>(what: &str, items: &[T], seconds: u64, test: impl Fn(&T) + Sync) {
    let (start, next) = (Instant::now(), AtomicUsize::new(0));
    let work = || {
        while start.elapsed() < Duration::from_secs(seconds) {
            let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            test(item);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let done = next.load(Ordering::Relaxed).min(items.len());
    println!("{what}: {done} of {} in {:?}", items.len(), start.elapsed());
    assert!(done > 0);
}

/// A fixed sequence of numbers that look random.
fn scatter(n: u64) -> impl Iterator<Item = u64> {
    (0..n).map(|i| {
        let z = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 27)
    })
}

#[test]
fn every_flipped_bit_under_a_checksum_is_told_and_costs_nothing() {
    for name in ["wrap", "w_wrap3"] {
        let image = unpack(&find(name).unwrap());
        let good = listing(&open(&image, Reading::Strict).unwrap());
        let (clean, verdict, _) = coverage(&image);
        assert_eq!(verdict, Verdict::Unverified, "data is not read here");
        let verified: Vec<_> = clean.of(Class::Verified).collect();
        let total: u64 = verified.iter().map(|r| r.end - r.start).sum();
        // Header and leader record in full, everything else by sample.
        let mut bits: Vec<(u64, u8)> = Vec::new();
        for start in [0, LEADER_AT] {
            let range = verified.iter().find(|r| r.start == start).unwrap();
            let end = range.end.min(start + 260);
            bits.extend((start..end).flat_map(|at| (0..8).map(move |bit| (at, bit))).step_by(5));
        }
        for z in scatter(6000) {
            let mut at = z % total;
            for range in &verified {
                let len = range.end - range.start;
                if at < len {
                    bits.push((range.start + at, (z >> 40) as u8 % 8));
                    break;
                }
                at -= len;
            }
        }
        sweep(&format!("flips of {name}"), &bits, recovery_testkit::seconds(6), |(at, bit)| {
            let mut bad = image.clone();
            bad.flip(*at, *bit);
            let pfs = open(&bad, Reading::Strict).unwrap();
            assert_eq!(listing(&pfs), good, "{name}: bit {bit} at {at:#x}: {:#?}", common::summaries(&pfs));
            let (_, verdict, findings) = coverage(&bad);
            assert_eq!(verdict, Verdict::Recoverable, "{name}: bit {bit} at {at:#x}");
            let contains = |f: &recovery_core::Finding| {
                f.severity >= Severity::Damaged
                    && f.offset.zip(f.length).is_some_and(|(o, l)| o <= *at && *at < o.saturating_add(l))
            };
            assert!(findings.iter().any(contains), "{name}: bit {bit} at {at:#x}: {findings:#?}");
        });
    }
}

#[test]
fn damaged_sectors_end_in_findings() {
    let image = unpack(&find("wrap").unwrap());
    let clean = open(&image, Reading::Strict).unwrap();
    let good = listing(&clean);
    let (verified, _, _) = coverage(&image);
    let ring = clean.ring.address(0).unwrap();
    let mut places: Vec<u64> =
        (0..=LEADER_AT / 4096).filter(|s| s * 4096 < META_START + META_LEN).map(|s| s * 4096).collect();
    places.push(LEADER_AT);
    places.extend((0..clean.ring.size / 4096).map(|i| ring + i * 4096));
    let faults: Vec<(u64, u64, u8)> =
        places.iter().flat_map(|at| (0..4).flat_map(move |kind| [(*at, 4096, kind), (*at + 512, 512, kind)])).collect();
    let order: Vec<_> = scatter(faults.len() as u64).map(|z| faults[(z % faults.len() as u64) as usize]).collect();
    sweep("sectors", &order, recovery_testkit::seconds(6), |(at, len, kind)| {
        let mut bad = image.clone();
        match kind {
            0 => bad.zero(*at, *len),
            1 => bad.put(*at, &vec![0xFF; *len as usize]),
            2 => bad.put(*at, &scatter(*len / 8).flat_map(u64::to_le_bytes).collect::<Vec<_>>()),
            _ => {
                // The sector before in its place: right checksums in the wrong place.
                let other = at.saturating_sub(4096);
                bad.put(*at, &recovery_core::Blob::bytes(&image, other..other + len).unwrap());
            }
        }
        let before = recovery_core::Blob::bytes(&image, *at..at + len).unwrap();
        let same = before == recovery_core::Blob::bytes(&bad, *at..at + len).unwrap();
        let covered = verified.of(Class::Verified).any(|r| r.start < at + len && *at < r.end);
        for reading in [Reading::Strict, Reading::Salvage] {
            let pfs = open(&bad, reading).unwrap();
            if same {
                assert_eq!(listing(&pfs), good);
            } else if covered {
                // Bytes behind a structure in its sector mean nothing; the rest must be told.
                let told = worst(&pfs) >= Severity::Suspect;
                let kept = listing(&pfs) == good;
                assert!(told || kept, "{kind} at {at:#x}: {:#?}", common::summaries(&pfs));
            }
        }
    });
}

#[test]
fn an_image_cut_anywhere_lists_what_is_left() {
    let image = unpack(&find("w_wrap3").unwrap());
    let borders = [
        1,
        119,
        4096,
        META_START + 128,
        META_START + META_LEN,
        LEADER_AT,
        LEADER_AT + 260,
        2 * LEADER_AT,
        2 * LEADER_AT + ENTRY_LEN as u64,
        2 * LEADER_AT + (128 << 10),
        13 << 20,
        CHUNK,
        CHUNK + 4096,
        CHUNK + META_START + META_LEN,
        2 * CHUNK,
        2 * CHUNK + 4096,
        3 * CHUNK - 1,
    ];
    let lengths: Vec<u64> = borders.iter().flat_map(|b| [b - 1, *b, b + 1]).filter(|l| *l < 3 * CHUNK).collect();
    sweep("cuts", &lengths, 60, |len| {
        let mut cut = image.clone();
        cut.truncate(*len);
        match open(&cut, Reading::Salvage) {
            Ok(pfs) => assert!(worst(&pfs) > Severity::Note, "{len}"),
            Err(e) => assert_eq!(e.exit(), 5, "{len}: {e}"),
        }
    });
}

#[test]
fn what_ddrescue_did_not_read_is_never_zeros() {
    let image = unpack(&find("wrap").unwrap());
    let clean = open(&image, Reading::Strict).unwrap();
    let good = listing(&clean);
    let node = clean.files.nodes.values().find(|n| n.ino > 2 && n.extents.iter().any(|e| e.written > 5000)).unwrap();
    let block = node.extents.iter().find(|e| e.written > 5000).unwrap().block * recovery_polardb::format::pfs::BLOCK;
    let text = format!("0x0 ?\n0x0 {block:#x} +\n{block:#x} 0x1000 -\n");
    let mut cx = context(Reading::Strict);
    cx.mapfile = Some(Arc::new(Mapfile::parse(&text).unwrap()));
    let pfs = Pfs::open(Arc::new(image.clone()), OpenOptions::default(), &cx).unwrap();
    assert_eq!(listing(&pfs), good);
    let path = String::from_utf8(pfs.files.path(node.ino)).unwrap();
    assert!(pfs.findings.iter().any(|f| f.code == "PFS-0029" && f.object == path && f.effect.bytes == 4096));
    assert!(recovery_core::Blob::bytes(&common::file(&pfs, &path), 0..4096).is_err());
    // Metadata that was never read: healed from the journal's history as far as it goes, and told.
    let text = "0x0 ?\n0x0 0x91000 +\n0x91000 0x1000 /\n0x92000 0x10000000 +\n";
    cx.mapfile = Some(Arc::new(Mapfile::parse(text).unwrap()));
    let pfs = Pfs::open(Arc::new(image), OpenOptions::default(), &cx).unwrap();
    assert!(has(&pfs, "PFS-0014"));
    assert!(worst(&pfs) >= Severity::Damaged);
}
