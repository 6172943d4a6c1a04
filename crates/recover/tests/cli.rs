//! The command line as its users meet it: exit codes, first lines, JSON documents, and bad input of every kind.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn recover<S: AsRef<OsStr>>(arguments: &[S]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_recover")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stdout)))
}

/// The exit code, with the sentence on stderr and the document on stdout checked.
fn failure(path: &Path) -> i32 {
    let output = recover(&[OsStr::new("inspect"), path.as_os_str(), OsStr::new("--json")]);
    let code = output.status.code().unwrap();
    let document = json(&output);
    assert_eq!(document["schema"], "recover/error/1");
    assert_eq!(document["exit"], code);
    let said = text(&output.stderr);
    assert!(said.starts_with("recover: ") && said.trim_end().lines().count() == 1, "one paragraph: {said:?}");
    assert!(!said.contains('\u{1b}'), "control bytes are escaped: {said:?}");
    let plain = recover(&[OsStr::new("inspect"), path.as_os_str()]);
    assert_eq!(plain.status.code(), Some(code));
    assert!(plain.stdout.is_empty(), "no partial output");
    code
}

#[test]
fn without_arguments_first_aid_comes_first() {
    let output = recover::<&str>(&[]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert!(said.starts_with("First aid"), "{said}");
    assert!(said.contains("Do not start it again") && said.contains("What is broken?"));
}

#[test]
fn usage_errors_are_documents_too() {
    for line in
        [&["inspect", "--json"][..], &["inspekt", "--json"], &["rescue", "x", "--json"], &["explain", "XX-1", "--json"]]
    {
        let output = recover(line);
        assert_eq!(output.status.code(), Some(2), "{line:?}");
        assert_eq!(json(&output)["exit"], 2);
        assert!(!output.stderr.is_empty());
    }
    assert_eq!(recover(&["inspect", "x", "--threads", "0"]).status.code(), Some(2));
    assert_eq!(recover(&["inspect", ".", "--sample", "3/2"]).status.code(), Some(2));
    assert_eq!(recover(&["inspect", ".", "--engine", "oracle"]).status.code(), Some(2));
}

#[test]
fn what_is_no_database_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("empty")).unwrap();
    assert_eq!(failure(&at("empty")), 5);
    std::fs::write(at("garbage"), vec![0xa5; 5000]).unwrap();
    assert_eq!(failure(&at("garbage")), 5);
    std::fs::write(at("nothing"), b"").unwrap();
    assert_eq!(failure(&at("nothing")), 5);
    let odd = dir.path().join("new\nline\u{1b}[2J");
    std::fs::create_dir(&odd).unwrap();
    std::fs::write(odd.join("a\nb"), b"x").unwrap();
    assert_eq!(recover(&[OsStr::from_bytes(b"\xff")]).status.code(), Some(2));
    assert_eq!(failure(&odd), 5);
}

#[test]
fn what_cannot_be_read_is_said_to_be_so() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    assert_eq!(failure(&at("missing")), 1);
    symlink("loop", at("loop")).unwrap();
    assert_eq!(failure(&at("loop")), 1);
    std::fs::create_dir(at("locked")).unwrap();
    std::fs::set_permissions(at("locked"), std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read_dir(at("locked")).is_err() {
        assert_eq!(failure(&at("locked")), 1);
    }
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    assert_eq!(failure(&at("pipe")), 1, "a pipe is not waited for");
}

#[test]
fn every_schema_is_json_and_names_itself() {
    let all = json(&recover(&["schema"]));
    for (name, form) in all.as_object().unwrap() {
        assert_eq!(form["title"], name.as_str());
        assert_eq!(json(&recover(&["schema", name])), *form);
    }
    assert!(all.as_object().unwrap().contains_key("recover/report/1"));
}

#[test]
fn verdicts_are_explained() {
    for word in ["sound", "unverified", "recoverable", "lossy", "unusable"] {
        assert!(text(&recover(&["explain", word]).stdout).starts_with(word));
    }
}

#[test]
fn a_report_for_a_ticket_is_one_page_that_needs_nothing_else() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/moosefs/v16_base_cut/in");
    let dir = tempfile::tempdir().unwrap();
    let (source, page) = (dir.path().join("<b>&\"source"), dir.path().join("ticket.html"));
    std::fs::create_dir(&source).unwrap();
    for file in std::fs::read_dir(case).unwrap().map(|f| f.unwrap()) {
        std::fs::copy(file.path(), source.join(file.file_name())).unwrap();
    }
    let run = |to: &Path| recover(&[OsStr::new("inspect"), source.as_os_str(), OsStr::new("--report"), to.as_os_str()]);
    let first = run(&page);
    assert!(first.status.success() || matches!(first.status.code(), Some(3 | 4)), "{}", text(&first.stderr));
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"));
    for outside in ["<script", "http://", "https://", "src=", "url(", "@import", "<b>"] {
        assert!(!html.contains(outside), "{outside} in the page");
    }
    assert!(html.contains("&lt;b&gt;&amp;&quot;source") && html.contains("<svg"));
    // A newer report replaces an elder one; nothing else is ever replaced, and nothing goes into the source.
    assert_eq!(run(&page).status.code(), first.status.code());
    let other = dir.path().join("notes.html");
    std::fs::write(&other, "mine").unwrap();
    assert_eq!(run(&other).status.code(), Some(2));
    assert_eq!(std::fs::read(&other).unwrap(), b"mine");
    assert_eq!(run(&source.join("ticket.html")).status.code(), Some(2));
    assert_eq!(run(&dir.path().join("none/ticket.html")).status.code(), Some(2));
    assert!(!source.join("ticket.html").exists());
}
