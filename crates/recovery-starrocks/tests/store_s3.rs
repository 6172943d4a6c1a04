//! A repository in a real S3 service, which runs in this process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]

mod common;
mod store_common;

use std::net::SocketAddr;

use std::sync::Arc;

use common::healthy;
use recovery_core::{Context, Recover as _, Source, Sources, Verdict};
use recovery_starrocks::STARROCKS;
use recovery_starrocks::inspect::Options;
use serde_json::Value;
use store_common::{KEY, SECRET, inspect, open, open_as, patience};

/// An S3 service over a directory, on a port of its own; it lives as long as the runtime.
fn serve(root: &std::path::Path) -> (tokio::runtime::Runtime, SocketAddr) {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let service = {
        let mut builder = s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
        builder.set_auth(s3s::auth::SimpleAuth::from_single(KEY, SECRET));
        builder.build()
    };
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        loop {
            let Ok((socket, _)) = listener.accept().await else { break };
            let service = service.clone();
            tokio::spawn(async move {
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    (runtime, address)
}

#[test]
fn a_repository_in_s3_is_read_like_a_directory() {
    let root = tempfile::tempdir().unwrap();
    let clean = healthy("v3");
    for (name, bytes) in clean.files() {
        let path = root.path().join("bucket/backups").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let (runtime, address) = serve(root.path());
    let report = inspect(open(address, "s3://bucket/backups").unwrap()).unwrap();
    assert_eq!(report.verdict, Verdict::Sound, "{:#?}", report.findings);
    let local = common::inspect(&clean);
    assert_eq!(report.facts["snapshots"], local.facts["snapshots"]);
    assert_eq!(report.coverage, local.coverage);
    assert!(!serde_json::to_string(&report).unwrap().contains(SECRET));

    // A flipped bit in the store is found there too.
    let (name, bytes) = clean.files().iter().find(|(n, _)| n.contains(".dat.")).unwrap();
    let mut bytes = bytes.to_vec();
    bytes[100] ^= 1;
    std::fs::write(root.path().join("bucket/backups").join(name), bytes).unwrap();
    let report = inspect(open(address, "s3://bucket/backups").unwrap()).unwrap();
    assert_eq!(report.verdict, Verdict::Lossy);
    assert!(report.findings.iter().any(|f| f.code == "SRS-0050" && f.object == *name));
    drop(runtime);
}

/// From a directory into a bucket, compared there, healed from there, and removed again.
#[test]
fn snapshots_are_copied_to_a_bucket_and_pruned_there() {
    use recovery_starrocks::copy::{self, Request};
    use recovery_starrocks::prune::{self, Rules};
    use recovery_starrocks::store::{depot_with, remover_with};
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("bucket")).unwrap();
    let (runtime, address) = serve(root.path());
    let endpoint = format!("http://{address}");
    let env = move |name: &str| match name {
        "AWS_ACCESS_KEY_ID" => Some(KEY.to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some(SECRET.to_owned()),
        "AWS_REGION" => Some("us-east-1".to_owned()),
        "AWS_ENDPOINT_URL" => Some(endpoint.clone()),
        _ => None,
    };
    let cx = Context::with_threads(2);
    let clean = healthy("v3");
    let local: Arc<dyn Source> = Arc::new(clean.clone());
    let look = |source: &Arc<dyn Source>| copy::look(Arc::clone(source), &Options::default(), &cx).unwrap();
    let bucket = || depot_with("s3://bucket/cold", &env, patience()).unwrap();
    for (snapshot, label) in [("ss_models", None), ("ss_events", None), ("ss_events", Some("again".to_owned()))] {
        let request = Request { snapshot: snapshot.to_owned(), label, ..Request::default() };
        let done = copy::copy(&look(&local), bucket().as_ref(), &request, &cx).unwrap();
        assert!(done.files > 0 && done.kept == 0);
        let again = copy::copy(&look(&local), bucket().as_ref(), &request, &cx).unwrap();
        assert_eq!((again.files, again.kept), (0, done.files));
    }
    let report = inspect(open(address, "s3://bucket/cold").unwrap()).unwrap();
    assert_eq!(report.verdict, Verdict::Sound, "{:#?}", report.findings);
    assert_eq!(report.facts["snapshots"].as_array().unwrap().len(), 3);

    // The bucket heals the directory; the plan copies from it and links nothing out of it.
    let mut bad = clean.clone();
    let gone = clean.files().keys().find(|n| n.contains(".dat.")).unwrap().clone();
    bad.remove(&gone);
    let remote: Arc<dyn Source> = Arc::new(open(address, "s3://bucket/cold").unwrap());
    let sources = Sources { rivals: vec![Arc::new(bad)], donors: vec![Arc::clone(&remote)] };
    let report = STARROCKS.inspect(&sources, &Value::Null, &cx).unwrap();
    assert!(report.findings.iter().any(|f| f.code == "SRS-0064" && f.object == gone), "{:#?}", report.findings);
    let plan = STARROCKS.plan(&sources, &report, &Value::Null, &cx).unwrap();
    assert!(plan.cost.link == 0 && plan.cost.read > 0);

    let rules = Rules { snapshots: vec!["again".into()], ..Rules::default() };
    let plan = prune::plan(&look(&remote), &rules, &cx).unwrap();
    let journal = tempfile::tempdir().unwrap();
    let remover = remover_with("s3://bucket/cold", &env, patience()).unwrap();
    let fresh: Arc<dyn Source> = Arc::new(open(address, "s3://bucket/cold").unwrap());
    let done = prune::apply(&plan, &fresh, remover.as_ref(), &journal.path().join("j"), &cx).unwrap();
    assert_eq!((done.snapshots, done.files), (1, plan.files));
    let report = inspect(open(address, "s3://bucket/cold").unwrap()).unwrap();
    assert_eq!((report.verdict, report.facts["snapshots"].as_array().unwrap().len()), (Verdict::Sound, 2));
    assert!(!serde_json::to_string(&plan).unwrap().contains(SECRET));
    drop(runtime);
}

#[test]
fn wrong_credentials_are_an_error_without_the_credentials() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("bucket")).unwrap();
    let (runtime, address) = serve(root.path());
    let error =
        inspect(open_as(address, "s3://bucket/backups", "WRONGSECRETWRONGSECRET", patience()).unwrap()).unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(!text.contains("WRONGSECRET") && !text.contains(KEY), "{text}");
    drop(runtime);
}
