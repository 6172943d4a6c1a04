//! What the tests of stores share: a patience short enough for tests, and sources with known credentials.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use recovery_core::{Context, Recover as _, Report, Result, Source, Sources};
use recovery_starrocks::STARROCKS;
use recovery_starrocks::store::{Patience, StoreSource, open_with};
use serde_json::Value;

pub const KEY: &str = "AKIDEXAMPLE0001";
pub const SECRET: &str = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY";

pub fn patience() -> Patience {
    Patience {
        attempts: 3,
        request_retries: 2,
        retry_timeout: Duration::from_secs(30),
        request_timeout: Duration::from_secs(20),
        pause: Duration::from_millis(5),
    }
}

pub fn open(address: SocketAddr, url: &str) -> Result<StoreSource> {
    open_as(address, url, SECRET, patience())
}

pub fn open_as(address: SocketAddr, url: &str, secret: &str, patience: Patience) -> Result<StoreSource> {
    let endpoint = format!("http://{address}");
    let secret = secret.to_owned();
    let env = move |name: &str| match name {
        "AWS_ACCESS_KEY_ID" => Some(KEY.to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some(secret.clone()),
        "AWS_REGION" => Some("us-east-1".to_owned()),
        "AWS_ENDPOINT_URL" => Some(endpoint.clone()),
        _ => None,
    };
    open_with(url, &env, patience)
}

pub fn inspect(source: StoreSource) -> Result<Report> {
    let sources = Sources::one(Arc::new(source) as Arc<dyn Source>);
    STARROCKS.inspect(&sources, &Value::Null, &Context::with_threads(2))
}
