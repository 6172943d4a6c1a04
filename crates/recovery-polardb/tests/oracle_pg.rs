//! A real server is killed, only an image of its shared directory is kept, and a real server starts on what comes back.
//!
//! Needs PostgreSQL 15 (`RECOVER_PG15_BIN`, else Debian's place), and says so where there is none.
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
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use recovery_core::{Accepted, Context, DirTarget, FileBlob, FileSource, Recover, Source, Sources, Verdict};
use recovery_polardb::PolarDb;
use recovery_polardb::writer::pfs::{ImageOptions, ImageWriter};
use serde_json::json;

struct Server {
    bin: PathBuf,
    root: PathBuf,
}

impl Server {
    /// The programs, if they are here; the server refuses to run as root, so then there must be a `postgres` user.
    fn find(root: &Path) -> Option<Self> {
        let bin =
            std::env::var_os("RECOVER_PG15_BIN").map_or_else(|| "/usr/lib/postgresql/15/bin".into(), PathBuf::from);
        let s = Self { bin, root: root.to_owned() };
        let fine = s.bin.join("postgres").exists()
            && s.command("postgres").arg("--version").output().is_ok_and(|o| o.status.success());
        if !fine {
            pg_common::say("skipped: no PostgreSQL 15 that can be run here");
            return None;
        }
        Some(s)
    }

    fn command(&self, program: &str) -> Command {
        let path = self.bin.join(program);
        let mut c = if Self::root() {
            let mut c = Command::new("runuser");
            c.args(["-u", "postgres", "--"]).arg(path);
            c
        } else {
            Command::new(path)
        };
        c.current_dir(&self.root).env("LC_ALL", "C");
        c
    }

    fn root() -> bool {
        fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
    }

    fn own(&self, path: &Path) {
        if Self::root() {
            assert!(Command::new("chown").args(["-R", "postgres:"]).arg(path).status().unwrap().success());
        }
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let out = self.command(program).args(args).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{program} {args:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
        text
    }

    fn start(&self, data: &Path) {
        let options = format!("-k {} -c listen_addresses= -c logging_collector=off", self.root.display());
        // The log goes to a file: a pipe would stay open as long as the server runs.
        let log = self.root.join("log.txt");
        let mut c = self.command("pg_ctl");
        c.args(["-w", "-t", "60", "-D"]).arg(data).arg("-l").arg(&log).args(["-o", &options, "start"]);
        let ok = c.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).status().unwrap().success();
        assert!(ok, "{}", fs::read_to_string(log).unwrap_or_default());
    }

    fn stop(&self, data: &Path) {
        self.run("pg_ctl", &["-w", "-m", "fast", "-D", data.to_str().unwrap(), "stop"]);
    }

    fn sql(&self, sql: &str) -> String {
        self.run(
            "psql",
            &[
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                self.root.to_str().unwrap(),
                "-U",
                "postgres",
                "-d",
                "postgres",
                "-c",
                sql,
            ],
        )
    }

    /// Kills the server and everything it started, as a power cut would.
    fn kill(&self, data: &Path) {
        let pid = fs::read_to_string(data.join("postmaster.pid")).unwrap().lines().next().unwrap().to_owned();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let all: Vec<&str> = std::iter::once(pid.as_str()).chain(children.split_whitespace()).collect();
        // One of them may be gone by itself; that is no failure.
        let _ = Command::new("kill").arg("-9").args(&all).stderr(Stdio::null()).status().unwrap();
        while all.iter().any(|p| fs::read_to_string(format!("/proc/{p}/stat")).is_ok_and(|s| !s.contains(") Z "))) {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Where nobody reaps orphans the dead server keeps its process id, and the next one would take it for alive.
        for socket in [".s.PGSQL.5432", ".s.PGSQL.5432.lock"] {
            let _ = fs::remove_file(self.root.join(socket));
        }
    }
}

const ROWS: &str = "select 'a', count(*), md5(string_agg(t::text, ',' order by id)) from a t union all \
                    select 'b', count(*), md5(string_agg(t::text, ',' order by id)) from b t union all \
                    select 'big', count(*), md5(string_agg(length(x) || md5(x), ',' order by id)) from big \
                    order by 1";

/// Makes a cluster with all that a crash leaves open, and kills it; gives its rows.
fn make(server: &Server, data: &Path) -> String {
    server.run(
        "initdb",
        &[
            "-k",
            "-A",
            "trust",
            "-U",
            "postgres",
            "--wal-segsize=1",
            "--no-locale",
            "-E",
            "UTF8",
            "-D",
            data.to_str().unwrap(),
        ],
    );
    let conf = "fsync=off\nwal_level=logical\nmax_prepared_transactions=7\nmax_connections=33\nautovacuum=off\ncheckpoint_timeout=1h\n";
    let path = data.join("postgresql.conf");
    let text = fs::read_to_string(&path).unwrap() + conf;
    fs::write(&path, text).unwrap();
    server.start(data);
    server.sql("create table a(id int primary key, x text); insert into a select i, repeat(md5(i::text), 3) from generate_series(1, 4000) i");
    server.sql("create table big(id int, x text); insert into big select i, (select string_agg(md5((i*j)::text), '') from generate_series(1, 2000) j) from generate_series(1, 5) i");
    server.sql("select pg_create_physical_replication_slot('replica1', true)");
    server.sql("checkpoint");
    server.sql("create table b(id int, y bytea); create index on b(id); insert into b select i, decode(md5(i::text), 'hex') from generate_series(1, 9000) i");
    server.sql("update a set x = 'changed ' || id where id % 3 = 0; delete from a where id % 7 = 0");
    // Two statements of one session: psql sends each -c as one transaction.
    let session =
        ["-c", "begin", "-c", "insert into a values (100000, 'prepared')", "-c", "prepare transaction 'waiting'"];
    let place = ["-X", "-q", "-h", server.root.to_str().unwrap(), "-U", "postgres", "-d", "postgres"];
    server.run("psql", &[&place[..], &session[..]].concat());
    let rows = server.sql(ROWS);
    server.kill(data);
    rows
}

/// Only what PolarDB keeps on the shared disk, written as a PFS image.
fn image(data: &Path, to: &Path) {
    const SHARED: [&str; 9] = [
        "base",
        "global",
        "pg_wal",
        "pg_xact",
        "pg_commit_ts",
        "pg_multixact",
        "pg_replslot",
        "pg_twophase",
        "pg_tblspc",
    ];
    let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(to).unwrap();
    let mut writer = ImageWriter::new(file, ImageOptions::default()).unwrap();
    writer.directory("shared_data", 1).unwrap();
    for top in SHARED {
        put(&mut writer, &data.join(top), &format!("shared_data/{top}"));
    }
    writer.finish().unwrap();
}

fn put(writer: &mut ImageWriter<fs::File>, from: &Path, to: &str) {
    writer.directory(to, 1).unwrap();
    let mut entries: Vec<_> = fs::read_dir(from).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = format!("{to}/{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            put(writer, &path, &name);
        } else {
            writer.file(&name, 1, &FileBlob::open(&path, name.as_str()).unwrap()).unwrap();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// Inspect, plan, apply, verify; gives the exit code and what had to be accepted.
fn rescue(source: Arc<dyn Source>, into: &Path) -> (u8, Vec<String>) {
    let cx = Context::default();
    let sources = Sources::one(source);
    let options = json!({"vanilla": true});
    let report = PolarDb.inspect(&sources, &options, &cx).unwrap();
    let plan = PolarDb.plan(&sources, &report, &options, &cx).unwrap();
    if !plan.consents.is_empty() {
        assert!(plan.check_consents(&Accepted::new()).is_err());
    }
    let receipt = PolarDb.apply(&sources, &plan, &DirTarget::new(into).unwrap(), &cx).unwrap();
    let result: Arc<dyn Source> = pg_common::dir(into);
    assert_eq!(receipt.check(result.as_ref(), &cx).unwrap(), Vec::<String>::new());
    let verified = PolarDb.verify(&result, &receipt, &cx).unwrap();
    assert!(verified.verdict < Verdict::Lossy, "{:#?}", verified.findings);
    (report.exit, plan.consents)
}

/// Starts the real server on the result and compares everything.
fn comes_back(server: &Server, result: &Path, rows: &str, slots: &str) {
    let data = result.join("primary");
    server.own(&data);
    server.start(&data);
    assert_eq!(server.sql(ROWS), rows);
    assert_eq!(server.sql("select gid from pg_prepared_xacts"), "waiting\n");
    assert_eq!(server.sql("select slot_name from pg_replication_slots order by 1"), slots);
    for step in ["commit prepared 'waiting'", "insert into b values (1, 'x')", "checkpoint"] {
        server.sql(step);
    }
    assert_eq!(server.sql("select x from a where id = 100000"), "prepared\n");
    server.stop(&data);
    let checked = server.run("pg_checksums", &["--check", "-D", data.to_str().unwrap()]);
    assert!(checked.contains("Bad checksums:  0"), "{checked}");
}

#[test]
fn rows_come_back_from_the_shared_disk_alone() {
    let dir = tempfile::Builder::new().prefix("rpg").tempdir().unwrap();
    let root = dir.path();
    fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let Some(server) = Server::find(root) else { return };
    server.own(root);
    let data = root.join("data");
    let rows = make(&server, &data);
    let kept = root.join("kept");
    fs::rename(&data, &kept).unwrap();

    // The image is all there is.
    let disk = root.join("disk.img");
    image(&kept, &disk);
    let first = root.join("first");
    assert_eq!(rescue(Arc::new(FileSource::new(&disk)), &first), (0, vec![]));
    comes_back(&server, &first, &rows, "replica1\n");

    // One flipped bit in the log behind the redo point, where the server itself would stop and lose the rest.
    let flipped = root.join("flipped");
    copy(&kept, &flipped);
    flip_wal(&flipped);
    let second = root.join("second");
    assert_eq!(rescue(pg_common::dir(&flipped), &second), (3, vec![]));
    comes_back(&server, &second, &rows, "replica1\n");

    // No control file, and a slot on which the server would panic.
    let lost = root.join("lost");
    copy(&kept, &lost);
    fs::remove_file(lost.join("global/pg_control")).unwrap();
    let slot = lost.join("pg_replslot/replica1/state");
    let mut bytes = fs::read(&slot).unwrap();
    bytes[100] ^= 1;
    fs::write(&slot, bytes).unwrap();
    let third = root.join("third");
    let (exit, consents) = rescue(pg_common::dir(&lost), &third);
    assert_eq!((exit, consents), (4, vec!["rebuilt-control-file".to_owned(), "replication-slot".to_owned()]));
    comes_back(&server, &third, &rows, "");
}

fn flip_wal(data: &Path) {
    let source = pg_common::dir(data);
    let report = PolarDb.inspect(&Sources::one(source), &json!(null), &Context::default()).unwrap();
    let facts = &report.facts["clusters"][0];
    let lsn: recovery_polardb::format::pg::Lsn = facts["redo"].as_str().unwrap().parse().unwrap();
    let end: recovery_polardb::format::pg::Lsn = facts["wal_end"].as_str().unwrap().parse().unwrap();
    // In the middle of what is to be replayed, away from page headers.
    let mut at = lsn.0 + (end.0 - lsn.0) / 2;
    at = at / 8192 * 8192 + 4000;
    let path = data.join(format!("pg_wal/{:08X}{:08X}{:08X}", 1, 0, at >> 20));
    let mut bytes = fs::read(&path).unwrap();
    let i = (at & 0xf_ffff) as usize;
    bytes[i] ^= 0x10;
    fs::write(&path, bytes).unwrap();
}
