#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]
//! Systematic damage to real environments.

mod common;

use common::{Files, case_of, fixtures};
use recovery_bdbje::engine::Engine;
use recovery_bdbje::inspect::node;
use recovery_core::{Context, MemSource, Sources};
use recovery_testkit::{Damage, FileFault, Harness, Items, PeakAlloc};

#[global_allocator]
static ALLOC: PeakAlloc = PeakAlloc;

fn files(name: &str) -> Files {
    case_of(&fixtures(), "envs", name).files
}

fn mem(files: &Files) -> MemSource {
    MemSource::new(files.iter().map(|(n, b)| (n.clone(), b.clone())))
}

/// Records of user databases that a salvage gives.
fn salvaged(sources: &Sources, cx: &Context) -> Items {
    let mut out = Items::new();
    let Some(source) = sources.first() else { return out };
    let Ok(n) = node::read(source, 0, false, cx) else { return out };
    let mut put = |db: &str, k: &[u8], v: &[u8]| {
        let mut item = format!("{db}:").into_bytes();
        item.extend_from_slice(k);
        item.push(b'=');
        item.extend_from_slice(v);
        out.insert(item);
    };
    if let Some(s) = &n.scavenged {
        for (name, found) in s.databases.iter().filter(|(n, f)| !n.starts_with("_je") && !f.guessed) {
            found.each(n.true_log(), false, &mut |k, v, _, doubt| {
                if !doubt {
                    put(name, k, v);
                }
            });
        }
    } else if let Some(env) = &n.je {
        for (name, id) in env.names.iter().filter(|(n, _)| !n.starts_with("_je")) {
            let Some(db) = env.databases.get(id) else { continue };
            let mut sink = |b: recovery_bdbje::model::Batch| {
                b.records.iter().for_each(|r| put(name, &r.key, &r.data));
                Ok(())
            };
            drop(env.records(db, cx, &mut sink, &mut Vec::new()));
        }
    }
    out
}

/// What nothing in a log can tell: the last file cut (a log that ends earlier, or with a torn entry, is a log), the last
/// of several files not there at all, and strangers beside the log, which are no damage. Files before the last are
/// named by their successors' headers.
fn unseen(files: &Files) -> impl Fn(&Damage) -> bool + Sync {
    let last = files.keys().next_back().cloned().unwrap_or_default();
    let several = files.len() > 1;
    move |d: &Damage| match d {
        Damage::Cut { object, .. } => *object == last,
        Damage::File { object, fault } => match fault {
            FileFault::Extra => true,
            FileFault::Missing | FileFault::Empty | FileFault::Renamed => *object == last && several,
            FileFault::CannotOpen | FileFault::Shrinking => false,
        },
        _ => false,
    }
}

#[test]
fn every_flip_of_a_small_log_is_noticed() {
    let files = files("empty");
    let clean = mem(&files);
    Harness::new(&Engine, clean).exempt(&unseen(&files)).alloc(&ALLOC).seconds(20).flips(16 << 10, 4000).finish();
}

#[test]
fn flips_of_a_larger_log_invent_nothing() {
    let files = files("v18_single");
    let clean = mem(&files);
    Harness::new(&Engine, clean).exempt(&unseen(&files)).items(&salvaged).seconds(15).flips(0, 3000).finish();
}

#[test]
fn every_length_is_survived() {
    let files = files("v15_halt");
    let clean = mem(&files);
    Harness::new(&Engine, clean).exempt(&unseen(&files)).seconds(10).cuts(64 << 10, 1000).finish();
}

#[test]
fn sectors_and_files() {
    let files = files("v18_group_n1_after_rollback_live");
    let clean = mem(&files);
    Harness::new(&Engine, clean.clone()).exempt(&unseen(&files)).seconds(8).sectors().finish();
    Harness::new(&Engine, clean).exempt(&unseen(&files)).seconds(5).file_sets().finish();
}

#[test]
fn several_files() {
    let files = files("v18_mixed_halt");
    let clean = mem(&files);
    Harness::new(&Engine, clean.clone()).exempt(&unseen(&files)).seconds(6).file_sets().finish();
    Harness::new(&Engine, clean).exempt(&unseen(&files)).seconds(8).cuts(0, 200).finish();
}

#[test]
fn the_way_of_reading_makes_no_difference() {
    Harness::new(&Engine, mem(&files("v18_single"))).chunking();
}
