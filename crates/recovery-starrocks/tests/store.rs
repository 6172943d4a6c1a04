//! Object stores that fail in every way a store fails.
#![cfg(feature = "store")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs
)]

mod store_common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use recovery_core::Source as _;
use recovery_starrocks::store::{Patience, StoreSource};
use store_common::{SECRET, inspect, open, open_as, patience};

fn open_quick(address: SocketAddr, url: &str) -> recovery_core::Result<StoreSource> {
    open_as(address, url, SECRET, Patience { request_timeout: Duration::from_millis(300), ..patience() })
}

/// A server that answers every request by `answer`, given its number and its first line.
fn failing(answer: impl Fn(usize, &str) -> Vec<u8> + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let (counter, answer) = (Arc::clone(&count), Arc::new(answer));
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { break };
            let (counter, answer) = (Arc::clone(&counter), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut request = Vec::new();
                let mut byte = [0u8; 1];
                while !request.ends_with(b"\r\n\r\n") {
                    match socket.read(&mut byte) {
                        Ok(1) => request.push(byte[0]),
                        _ => return,
                    }
                }
                let text = String::from_utf8_lossy(&request).into_owned();
                let n = counter.fetch_add(1, Ordering::SeqCst);
                let _ = socket.write_all(&answer(n, text.lines().next().unwrap_or_default()));
            });
        }
    });
    (address, count)
}

fn status(code: u16) -> Vec<u8> {
    format!("HTTP/1.1 {code} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

fn listing() -> Vec<u8> {
    let body = "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>b/__starrocks_repository_r/__repo_info</Key>\
        <LastModified>2024-07-01T00:00:00.000Z</LastModified><ETag>\"x\"</ETag><Size>100</Size></Contents>\
        <CommonPrefixes><Prefix>b/__starrocks_repository_r/</Prefix></CommonPrefixes></ListBucketResult>";
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

#[test]
fn a_store_that_only_fails_ends_in_an_error() {
    for code in [500, 503, 429] {
        let (address, count) = failing(move |_, _| status(code));
        let error = inspect(open(address, "s3://bucket/b").unwrap()).unwrap_err();
        let tries = count.load(Ordering::SeqCst);
        assert!((1..=12).contains(&tries), "{code}: {tries} requests");
        assert_eq!(error.exit(), 1, "{error}");
        assert!(!format!("{error}").contains(SECRET));
    }
}

#[test]
fn a_store_that_recovers_is_waited_for() {
    let (address, _) = failing(|n, line| {
        if n % 2 == 0 {
            return status(503);
        }
        if line.contains("list-type") { listing() } else { status(404) }
    });
    let source = open(address, "s3://bucket/b").unwrap();
    let names: Vec<String> = source.list("", recovery_core::Depth::All).map(|e| e.unwrap().name).collect();
    assert_eq!(names, ["__starrocks_repository_r/__repo_info"]);
}

#[test]
fn truncated_and_silent_answers_are_never_sound() {
    let cut = b"HTTP/1.1 206 X\r\nContent-Length: 100\r\nContent-Range: bytes 0-99/100\r\nETag: \"x\"\r\nLast-Modified: Mon, 01 Jul 2024 00:00:00 GMT\r\nConnection: close\r\n\r\n{\"name\"";
    let cases: [(&str, Option<Vec<u8>>); 2] = [("truncated", Some(cut.to_vec())), ("silent", None)];
    for (name, body) in cases {
        let (address, count) = failing(move |_, line| {
            if line.contains("list-type") {
                return listing();
            }
            body.clone().unwrap_or_else(|| {
                std::thread::sleep(Duration::from_secs(3));
                Vec::new()
            })
        });
        let error = inspect(open_quick(address, "s3://bucket/b").unwrap()).unwrap_err();
        assert_eq!(error.exit(), 1, "{name}: {error}");
        assert!(format!("{error}").contains("__repo_info"), "{name}: {error}");
        assert!(count.load(Ordering::SeqCst) <= 40, "{name}: {} requests", count.load(Ordering::SeqCst));
    }
}
