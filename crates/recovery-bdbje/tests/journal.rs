#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]
#![cfg(feature = "cli")]
//! The frontend's journal and images, against what JE listed and what the images were made of.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::cases;
use recovery_bdbje::cli::Cli;
use recovery_bdbje::meta::blocks::{self, Event, Form};
use recovery_core::cli::EngineCli;
use recovery_core::{Context, MemBlob};
use serde_json::Value;

fn run(words: &[&str], path: &Path) -> Result<(u8, String), String> {
    let json = clap::Arg::new("json").long("json").global(true).action(clap::ArgAction::SetTrue);
    let verbs = clap::Command::new("bdbje").subcommands(Cli.commands()).arg(json);
    let mut line = vec!["bdbje"];
    line.extend(words);
    line.push(path.to_str().unwrap());
    let matches = verbs.try_get_matches_from(line).unwrap();
    let (verb, args) = matches.subcommand().unwrap();
    let mut out = Vec::new();
    let exit = Cli.run(verb, args, &Default::default(), &mut out, &Context::default()).map_err(|e| e.to_string())?;
    Ok((exit.0, String::from_utf8(out).unwrap()))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn write_all(case: &common::Case, dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    case.files.iter().for_each(|(n, b)| std::fs::write(dir.join(n), b).unwrap());
}

fn id_of(key: &str) -> i64 {
    (u64::from_str_radix(key, 16).unwrap() ^ (1 << 63)).cast_signed()
}

/// Journal records as JE listed them: database and id, and the value where it was listed whole.
fn listed(case: &common::Case) -> BTreeMap<(String, i64), Option<String>> {
    let mut out = BTreeMap::new();
    for v in lines(&String::from_utf8(common::read(&case.dir.join("live.jsonl"))).unwrap()) {
        let (Some(db), Some(key)) = (v["db"].as_str(), v["k"].as_str()) else { continue };
        let digits = db.rsplit('_').next().unwrap();
        if digits.parse::<i64>().is_ok() && key.len() == 16 {
            out.insert((db.to_owned(), id_of(key)), v["v"].as_str().map(str::to_owned));
        }
    }
    out
}

#[test]
fn operations_are_the_records_je_lists() {
    let dir = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for case in cases("envs").iter().filter(|c| common::exists(&c.dir.join("live.jsonl"))) {
        let at = dir.path().join(&case.name);
        write_all(case, &at);
        let want = listed(case);
        if want.is_empty() {
            continue;
        }
        let (exit, text) = run(&["journal"], &at).unwrap();
        assert_eq!(exit, 0, "{}", case.name);
        let got = lines(&text);
        assert_eq!(got.len(), want.len(), "{}", case.name);
        for v in &got {
            let place = (v["db"].as_str().unwrap().to_owned(), v["id"].as_i64().unwrap());
            let value = want.get(&place).unwrap_or_else(|| panic!("{}: {place:?}", case.name));
            let Some(hex) = value else { continue };
            let code = u16::from_str_radix(&hex[..4], 16).unwrap().cast_signed();
            assert_eq!(v["op"].as_i64(), Some(code.into()));
            assert_eq!(v["length"].as_u64(), Some(hex.len() as u64 / 2 - 2));
            let bytes = recovery_core::unhex(&hex[4..]).unwrap();
            match (&v["payload"], v["payload_hex"].as_str()) {
                (_, Some(h)) => assert_eq!(h, &hex[4..]),
                (Value::Number(n), None) if code == 70 => assert_eq!(n.as_i64().unwrap().to_be_bytes(), bytes[..]),
                (payload, None) => {
                    let text = std::str::from_utf8(&bytes[4..]).unwrap();
                    let same =
                        serde_json::from_str::<Value>(text).map_or(payload.as_str() == Some(text), |j| j == *payload);
                    assert!(same, "{}: {place:?} {payload}", case.name);
                }
            }
            compared += 1;
        }
        let ids: Vec<i64> = got
            .iter()
            .filter(|v| !v["db"].as_str().unwrap().contains('_'))
            .map(|v| v["id"].as_i64().unwrap())
            .collect();
        assert!(ids.is_sorted(), "{}", case.name);
        part(&at, &got);
    }
    assert!(compared > 100, "{compared}");
}

/// A range and a kind of operation give exactly these lines of the whole.
fn part(at: &Path, all: &[Value]) {
    let id = |v: &Value| v["id"].as_i64().unwrap();
    let (a, b) = (id(&all[all.len() / 3]), id(&all[all.len() / 2]));
    let (from, to) = (a.min(b).to_string(), a.max(b).to_string());
    let (_, text) = run(&["journal", "--from", &from, "--to", &to], at).unwrap();
    let want: Vec<&Value> = all.iter().filter(|v| (a.min(b)..=a.max(b)).contains(&id(v))).collect();
    assert!(lines(&text).iter().eq(want));
    let op = all[0]["op"].as_i64().unwrap();
    let name = all[0]["op_name"].as_str().map_or_else(|| op.to_string(), str::to_owned);
    let (_, text) = run(&["journal", "--op", &name], at).unwrap();
    assert!(lines(&text).iter().eq(all.iter().filter(|v| v["op"].as_i64() == Some(op))));
}

#[test]
fn damaged_journals_are_read_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let mut refused = 0;
    for case in &cases("damaged") {
        let at = dir.path().join(&case.name);
        write_all(case, &at);
        let strict = run(&["journal"], &at);
        let Ok((_, text)) = run(&["journal", "--salvage"], &at) else { continue };
        let (_, dump) = run(&["dump", "--salvage"], &at).unwrap();
        let is_journal =
            |v: &&Value| v["db"].as_str().is_some_and(|d| d.rsplit('_').next().unwrap().parse::<i64>().is_ok());
        let all: Vec<Value> = lines(&dump).into_iter().collect();
        let want: Vec<(Value, i64, bool)> = all
            .iter()
            .filter(is_journal)
            .map(|v| (v["db"].clone(), id_of(v["key"].as_str().unwrap()), v["in_doubt"] == true))
            .collect();
        let got: Vec<(Value, i64, bool)> =
            lines(&text).iter().map(|v| (v["db"].clone(), v["id"].as_i64().unwrap(), v["in_doubt"] == true)).collect();
        let sorted = |mut v: Vec<(Value, i64, bool)>| {
            v.sort_by_key(|(d, i, _)| (d.to_string(), *i));
            v
        };
        assert_eq!(sorted(got), sorted(want), "{}", case.name);
        refused += u32::from(strict.is_err());
    }
    assert!(refused > 2, "{refused}");
}

#[test]
fn epochs_are_those_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    for case in &cases("envs") {
        let at = dir.path().join(&case.name);
        write_all(case, &at);
        let (_, text) = run(&["journal", "--epochs"], &at).unwrap();
        // A frontend that never led has no such database.
        let dump = run(&["dump", "--db", "epochDB"], &at).map_or(String::new(), |(_, text)| text);
        let got: Vec<i64> = lines(&text).iter().map(|v| v["epoch"].as_i64().unwrap()).collect();
        let want: Vec<i64> = lines(&dump).iter().map(|v| id_of(v["key"].as_str().unwrap())).collect();
        assert_eq!(got, want, "{}", case.name);
    }
}

#[test]
fn wrong_words_are_refused() {
    let at = Path::new("nowhere");
    for (words, hint) in [
        (&["journal", "--op", "CREATE_TABEL"][..], "no such operation"),
        (&["journal", "--op", "create_tab"], "CREATE_TABLE_V2"),
        (&["journal", "--from", "9", "--to", "3"], "behind"),
        (&["printlog", "--type", "Comit"], "Commit"),
        (&["printlog", "-s", "zzz"], "0x4/0x79924"),
        (&["printlog", "-s", "0x2", "-e", "0x1"], "behind"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let case = cases("envs").remove(0);
        write_all(&case, &dir.path().join(at));
        let error = run(words, &dir.path().join(at)).unwrap_err();
        assert!(error.contains(hint), "{words:?}: {error}");
    }
}

fn image(case: &str, name: &str) -> std::path::PathBuf {
    common::fixtures().join("meta_synthetic").join(case).join("image").join(name)
}

#[test]
fn images_are_read_block_by_block() {
    for (case, name, exit, state, form, bad) in [
        ("good_v1", "image.35", 0, "valid", "v1", &[][..]),
        ("good_v2", "v2/image.35", 0, "valid", "v2", &[]),
        ("bad_footer_crc", "image.35", 4, "bad", "v1", &[1]),
        ("truncated_v1", "image.35", 4, "bad", "v1", &[99]),
        ("bad_v2_checksum", "v2/image.35", 4, "bad", "v2", &[]),
        ("v1_newer_than_v2", "v2/image.20", 0, "valid", "v2", &[]),
    ] {
        let (code, text) = run(&["image", "--json"], &image(case, name)).unwrap();
        let v: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (code, v["state"].as_str().unwrap(), v["exit"].as_u64()),
            (exit, state, Some(exit.into())),
            "{case}"
        );
        assert_eq!(v["head"]["form"], form, "{case}");
        assert_eq!(v["head"]["header"], serde_json::json!({"beid": 20000}), "{case}");
        let blocks = v["blocks"].as_array().unwrap();
        let ids: Vec<i64> = blocks.iter().map(|b| b["block"].as_i64().unwrap()).collect();
        assert_eq!(ids, [1, 2, 24, 99], "{case}");
        let damaged: Vec<i64> =
            blocks.iter().filter(|b| b.get("problem").is_some()).map(|b| b["block"].as_i64().unwrap()).collect();
        assert_eq!(damaged, bad, "{case}");
        assert_eq!(blocks[1]["values"][1], serde_json::json!({"dbs": [10001, 10002]}), "{case}");
        assert_eq!(run(&["image"], &image(case, name)).unwrap().0, exit, "{case}");
    }
    // Of a directory, the image that a frontend would load.
    let of = |case: &str| run(&["image", "--json"], &common::fixtures().join("meta_synthetic").join(case)).unwrap().1;
    assert!(of("good_v2").contains("v2/image.35"));
    assert!(of("v1_newer_than_v2").contains("image/image.35"));
}

/// Whether everything that can be checked agrees.
fn good(bytes: &[u8], sum: Option<u64>) -> bool {
    let blob = MemBlob::new("image.35", bytes.to_vec());
    let out = blocks::read(&blob, &Context::with_threads(1), &mut |_| Ok(())).unwrap();
    out.checkable && out.stopped.is_none() && out.bad == 0 && (sum.is_none() || out.sum == sum)
}

#[test]
fn no_damage_to_an_image_goes_unseen() {
    let v1 = std::fs::read(image("good_v1", "image.35")).unwrap();
    let v2 = std::fs::read(image("good_v2", "v2/image.35")).unwrap();
    let sum = std::fs::read_to_string(image("good_v2", "v2/checksum.35")).unwrap().trim().parse().ok();
    assert!(good(&v1, None) && good(&v2, sum));
    // The meta version and the header of the first form are covered by nothing.
    let first = 22;
    for (bytes, sum, from) in [(&v1, None, first), (&v2, sum, 0)] {
        for bit in from * 8..bytes.len() * 8 {
            let mut b = bytes.clone();
            b[bit / 8] ^= 1 << (bit % 8);
            assert!(!good(&b, sum), "bit {bit}");
        }
        let mut ends = Vec::new();
        let blob = MemBlob::new("image.35", bytes.clone());
        blocks::read(&blob, &Context::with_threads(1), &mut |e| {
            if let Event::Begin(b) = e {
                ends.push(b.offset);
            }
            Ok(())
        })
        .unwrap();
        // A frontend takes an image of the first form that ends behind a whole block.
        let whole = |n: u64| sum.is_none() && ends.contains(&n);
        for n in 0..bytes.len() {
            assert!(whole(n as u64) || !good(&bytes[..n], sum), "cut at {n}");
        }
    }
}

#[test]
fn older_images_say_what_they_are() {
    let mut old = Vec::new();
    old.extend_from_slice(&93i32.to_be_bytes());
    old.extend_from_slice(&77i64.to_be_bytes());
    old.extend_from_slice(&20_000i64.to_be_bytes());
    old.extend_from_slice(&[0, 0, 0, 0, 1, 9, 9, 9]);
    let two = [&(-1i32).to_be_bytes()[..], &93i32.to_be_bytes(), &3i32.to_be_bytes(), &old[4..]].concat();
    for (bytes, version, community) in [(&old, 93, None), (&two, 3, Some(93))] {
        let mut head = None;
        let blob = MemBlob::new("image.77", bytes.clone());
        let out = blocks::read(&blob, &Context::with_threads(1), &mut |e| {
            if let Event::Head(h) = e {
                head = Some(h.clone());
            }
            Ok(())
        })
        .unwrap();
        let head = head.unwrap();
        assert!(!out.checkable && out.stopped.is_none());
        assert_eq!((head.form, head.meta_version, head.community_version), (Form::Old, version, community));
        assert_eq!((head.journal_id, head.batch_end_id), (Some(77), Some(20_000)));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.77");
    std::fs::write(&path, &old).unwrap();
    let (exit, text) = run(&["image"], &path).unwrap();
    assert!(exit == 0 && text.contains("unverified") && text.contains("journal id 77"), "{text}");
    let misnamed = dir.path().join("image.78");
    std::fs::write(&misnamed, &old).unwrap();
    assert_eq!(run(&["image"], &misnamed).unwrap().0, 4);
    std::fs::write(&misnamed, b"role=FOLLOWER\nname=x\n").unwrap();
    assert_eq!(run(&["image"], &misnamed).unwrap().0, 5);
}

/// An image as Doris writes it.
fn doris(modules: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let text = |s: &str| [&(s.len() as i32).to_be_bytes()[..], s.as_bytes()].concat();
    let mut out = [&b"COR1"[..], &text("{\"imageVersion\":\"v1\"}")].concat();
    let mut index = Vec::new();
    for (name, bytes) in modules {
        index.extend([text(name), (out.len() as u64).to_be_bytes().to_vec()].concat());
        out.extend_from_slice(bytes);
    }
    let footer = [&77i64.to_be_bytes()[..], &(modules.len() as i32).to_be_bytes(), &index].concat();
    [&out[..], &footer, &(footer.len() as i64).to_be_bytes(), b"COR1"].concat()
}

#[test]
fn images_of_doris_are_not_taken_for_damaged_ones() {
    let header = [&119i32.to_be_bytes()[..], &35i64.to_be_bytes(), &20_000i64.to_be_bytes(), &[0]].concat();
    let leader = [&8i32.to_be_bytes()[..], b"10.0.0.1", &9020i32.to_be_bytes(), &8030i32.to_be_bytes()].concat();
    let bytes =
        doris(&[("header", header), ("masterInfo", leader), ("frontends", vec![1; 40]), ("backends", Vec::new())]);
    let dir = tempfile::tempdir().unwrap();
    let case = cases("envs").into_iter().find(|c| c.name == "single").unwrap();
    write_all(&case, &dir.path().join("bdb"));
    let at = dir.path().join("image");
    std::fs::create_dir(&at).unwrap();
    let path = at.join("image.35");
    std::fs::write(&path, &bytes).unwrap();
    let (exit, text) = run(&["image"], &path).unwrap();
    assert!(exit == 0 && text.contains("module frontends: 40 bytes") && text.contains("leader 10.0.0.1"), "{text}");
    let report = |path: &Path| {
        use recovery_core::Recover;
        let source = std::sync::Arc::new(recovery_core::DirSource::open(path).unwrap());
        let sources = recovery_core::Sources::one(source);
        recovery_bdbje::engine::Engine.inspect(&sources, &Value::Null, &Context::with_threads(1)).unwrap()
    };
    let found = report(dir.path());
    assert!(!found.findings.iter().any(|f| f.code == "JE-0062"), "{:?}", found.findings);
    assert!(found.findings.iter().any(|f| f.code == "JE-0063"));
    // Cut anywhere, or renamed, it is not whole.
    for n in 0..bytes.len() {
        std::fs::write(&path, &bytes[..n]).unwrap();
        assert!(run(&["image"], &path).unwrap().0 >= 4, "cut at {n}");
    }
    let other = at.join("image.36");
    std::fs::write(&other, &bytes).unwrap();
    assert_eq!(run(&["image"], &other).unwrap().0, 4);
    std::fs::remove_file(&other).unwrap();
    std::fs::write(&path, vec![0; 4096]).unwrap();
    assert!(report(dir.path()).findings.iter().any(|f| f.code == "JE-0062"));
}
