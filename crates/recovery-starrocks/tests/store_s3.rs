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

use common::healthy;
use recovery_core::Verdict;
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

/// Small and large files are added, never replaced, and removed. Names are short: the server keeps them in file names.
#[test]
fn objects_are_added_and_removed() {
    use recovery_core::Source as _;
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
    let depot = depot_with("s3://bucket/cold", &env, patience()).unwrap();
    assert!(depot.source().unwrap().is_none());
    let large: Vec<u8> = (0..20_000_000u32).map(|i| (i >> 3) as u8).collect();
    for (name, bytes) in [("a/small", &b"hello"[..]), ("a/large", &large[..]), ("empty", &[][..])] {
        let mut pieces = bytes.chunks(3 << 20).map(bytes::Bytes::copy_from_slice);
        depot.add(name, bytes.len() as u64, &mut || Ok(pieces.next())).unwrap();
        let again = depot.add(name, 1, &mut || Ok(None)).unwrap_err();
        assert!(!again.to_string().contains(SECRET));
    }
    // What breaks off is not there.
    let broken = depot.add("b", 20_000_000, &mut || Err(recovery_core::Error::Damaged("the source".into())));
    assert!(broken.is_err());
    let source = open(address, "s3://bucket/cold").unwrap();
    let read = |name: &str| {
        let blob = source.open_name(name).unwrap().unwrap();
        blob.bytes(0..blob.len()).unwrap()
    };
    assert_eq!((&read("a/small")[..], read("a/large").len()), (&b"hello"[..], large.len()));
    assert!(read("a/large")[..] == large[..]);
    assert!(source.stat("b").unwrap().is_none());
    let remover = remover_with("s3://bucket/cold", &env, patience()).unwrap();
    remover.remove("a/small").unwrap();
    assert!(source.stat("a/small").unwrap().is_none() && source.stat("a/large").unwrap().is_some());
    assert!(depot_with("http://127.0.0.1/x", &env, patience()).is_err());
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
