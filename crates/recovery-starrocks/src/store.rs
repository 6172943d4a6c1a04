//! Object stores as sources: S3 and its relatives, Google Cloud Storage, Azure, plain HTTP (WebDAV listings).
//!
//! The rest of the crate is synchronous; a source owns one small runtime, and compute threads wait for it. Every
//! request is retried by the client (server errors, throttling) and, because a body can break off after a good
//! status, by the blob as well; both within limits, so that a dead store ends in an error and never in silence.

mod credentials;
mod write;

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _, RetryConfig,
};
use recovery_core::{Blob, Depth, DirSource, Entries, Entry, Error, ReadError, Result, Source, names};
use tokio::runtime::Runtime;

pub(crate) use write::writable;

/// How patient a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Attempts for one range, the first included.
    pub attempts: u32,
    /// Attempts the client makes for one request.
    pub request_retries: usize,
    /// Longest time for one request and its retries.
    pub retry_timeout: Duration,
    /// Longest time for one attempt.
    pub request_timeout: Duration,
    /// First pause between attempts; doubles each time.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 4,
            request_retries: 6,
            retry_timeout: Duration::from_secs(120),
            request_timeout: Duration::from_secs(60),
            pause: Duration::from_millis(200),
        }
    }
}

impl Patience {
    fn retry(&self) -> RetryConfig {
        let backoff = BackoffConfig { init_backoff: self.pause, ..BackoffConfig::default() };
        RetryConfig { backoff, max_retries: self.request_retries, retry_timeout: self.retry_timeout }
    }

    fn client(&self) -> ClientOptions {
        // TLS wants its cryptography named once in a process; one that the program chose before us stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        ClientOptions::new().with_timeout(self.request_timeout).with_connect_timeout(Duration::from_secs(10))
    }
}

/// Objects below a prefix.
pub struct StoreSource {
    shared: Arc<Shared>,
    prefix: Path,
    /// The first level, which every engine asks for before one is chosen.
    root: std::sync::OnceLock<Vec<Entry>>,
}

struct Shared {
    store: Arc<dyn ObjectStore>,
    runtime: Runtime,
    shown: String,
    patience: Patience,
    /// Texts that must not appear in a message.
    secrets: Vec<String>,
}

impl fmt::Debug for StoreSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreSource({})", self.shared.shown)
    }
}

impl Shared {
    fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Runs what starts tasks of its own.
    fn inside<R>(&self, f: impl FnOnce() -> R) -> R {
        let _entered = self.runtime.enter();
        f()
    }

    /// An error in words: addresses without user info and query, no secret.
    fn words(&self, error: &object_store::Error) -> String {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            let more = inner.to_string();
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            cause = inner.source();
        }
        let text: Vec<String> = text.split(' ').map(|w| names::redact_url(w).into_owned()).collect();
        let mut text = text.join(" ");
        for secret in self.secrets.iter().filter(|s| s.len() > 3) {
            text = text.replace(secret.as_str(), names::REDACTED);
        }
        text
    }

    fn error(&self, object: &str, range: Range<u64>, error: &object_store::Error) -> ReadError {
        use std::io::ErrorKind;
        let kind = match error {
            object_store::Error::NotFound { .. } => ErrorKind::NotFound,
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                ErrorKind::PermissionDenied
            }
            _ => ErrorKind::ConnectionAborted,
        };
        let io = std::io::Error::new(kind, self.words(error));
        ReadError::new(object.to_owned(), range.start, range.end.saturating_sub(range.start), &io)
    }

    /// One range, tried again when the answer broke off or was short.
    async fn fetch(
        &self,
        name: &str,
        location: &Path,
        etag: Option<&str>,
        range: Range<u64>,
    ) -> Result<Bytes, ReadError> {
        let mut pause = self.patience.pause;
        let mut attempt = 1u32;
        loop {
            let error = match self.once(name, location, etag, range.clone()).await {
                Ok(bytes) => return Ok(bytes),
                Err(Failure::Final(e)) => return Err(e),
                Err(Failure::Again(e)) => e,
            };
            if attempt >= self.patience.attempts {
                let message = format!("{} ({attempt} attempts)", error.message);
                return Err(ReadError { message, ..error });
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
            attempt = attempt.saturating_add(1);
        }
    }

    async fn once(&self, name: &str, location: &Path, etag: Option<&str>, range: Range<u64>) -> Result<Bytes, Failure> {
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let failed = |e: &object_store::Error| {
            let again = matches!(e, object_store::Error::Generic { .. } | object_store::Error::JoinError { .. });
            let error = self.error(name, range.clone(), e);
            if again { Failure::Again(error) } else { Failure::Final(error) }
        };
        let io = |kind, text: String| {
            ReadError::new(
                name.to_owned(),
                range.start,
                range.end.saturating_sub(range.start),
                &std::io::Error::new(kind, text),
            )
        };
        // The client has repeated a request that was refused; only a body that broke off is asked for again.
        let result = self.store.get_opts(location, options).await.map_err(|e| match failed(&e) {
            Failure::Again(e) | Failure::Final(e) => Failure::Final(e),
        })?;
        if let (Some(before), Some(now)) = (etag, result.meta.e_tag.as_deref())
            && before != now
        {
            return Err(Failure::Final(io(
                std::io::ErrorKind::Other,
                "the object was replaced while it was read".into(),
            )));
        }
        let bytes = result.bytes().await.map_err(|e| failed(&e))?;
        let wanted = range.end.saturating_sub(range.start);
        if bytes.len() as u64 != wanted {
            let text = format!("the store gave {} of {wanted} bytes", bytes.len());
            return Err(Failure::Again(io(std::io::ErrorKind::ConnectionAborted, text)));
        }
        Ok(bytes)
    }
}

enum Failure {
    Again(ReadError),
    Final(ReadError),
}

impl StoreSource {
    /// A source over a built store. `shown` is what the user calls it, and must hold no secret; `secrets` are texts
    /// to be kept out of messages.
    ///
    /// # Errors
    ///
    /// When no runtime can be made.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        prefix: Path,
        shown: &str,
        secrets: Vec<String>,
        patience: Patience,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("recover-store")
            .enable_all()
            .build()
            .map_err(|e| Error::Internal(format!("no runtime for the object store: {e}")))?;
        let shown = names::redact_url(shown).into_owned();
        Ok(Self {
            shared: Arc::new(Shared { store, runtime, shown, patience, secrets }),
            prefix,
            root: std::sync::OnceLock::new(),
        })
    }

    fn location(&self, name: &str) -> Result<Path, ReadError> {
        let raw = self.prefix.as_ref();
        let whole = match (raw.is_empty(), name.is_empty()) {
            (true, _) => name.to_owned(),
            (false, true) => raw.to_owned(),
            (false, false) => format!("{raw}/{name}"),
        };
        Path::parse(&whole).map_err(|e| {
            ReadError::new(name.to_owned(), 0, 0, &std::io::Error::new(std::io::ErrorKind::InvalidInput, e.to_string()))
        })
    }

    /// The name below the prefix.
    fn below(&self, location: &Path) -> Option<String> {
        let (raw, prefix) = (location.as_ref(), self.prefix.as_ref());
        let rest = if prefix.is_empty() { raw } else { raw.strip_prefix(prefix)?.strip_prefix('/')? };
        (!rest.is_empty()).then(|| rest.to_owned())
    }

    fn entry(&self, meta: &ObjectMeta) -> Option<Entry> {
        let mut entry = Entry::file(self.below(&meta.location)?, meta.size);
        entry.mtime = meta.last_modified.timestamp_nanos_opt();
        entry.etag.clone_from(&meta.e_tag);
        Some(entry)
    }

    /// The first level, asked for once: a store that does not answer is an error, not a place without a repository.
    fn answers(&self) -> Result<&Vec<Entry>, ReadError> {
        if self.root.get().is_none() {
            let entries = self.list_one("").map_err(|e| ReadError { object: self.shared.shown.clone(), ..e })?;
            let _ = self.root.set(entries);
        }
        Ok(self.root.get_or_init(Vec::new))
    }

    fn list_one(&self, dir: &str) -> Result<Vec<Entry>, ReadError> {
        let prefix = self.location(dir)?;
        let prefix = Some(&prefix).filter(|p| !p.as_ref().is_empty());
        let shared = &self.shared;
        let result = shared.wait(shared.store.list_with_delimiter(prefix)).map_err(|e| shared.error(dir, 0..0, &e))?;
        let directories = result.common_prefixes.iter().filter_map(|p| self.below(p)).map(Entry::directory);
        let mut entries: Vec<Entry> = directories.chain(result.objects.iter().filter_map(|m| self.entry(m))).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }
}

/// A listing that asks for the next page when it is wanted.
struct Pages<'a> {
    source: &'a StoreSource,
    stream: Option<BoxStream<'static, object_store::Result<ObjectMeta>>>,
}

impl Iterator for Pages<'_> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let stream = self.stream.as_mut()?;
            match self.source.shared.wait(stream.next()) {
                None => return None,
                Some(Ok(meta)) => {
                    if let Some(entry) = self.source.entry(&meta) {
                        return Some(Ok(entry));
                    }
                }
                Some(Err(e)) => {
                    // What follows cannot be listed either.
                    self.stream = None;
                    return Some(Err(self.source.shared.error("listing", 0..0, &e)));
                }
            }
        }
    }
}

impl Source for StoreSource {
    fn describe(&self) -> String {
        self.shared.shown.clone()
    }

    fn list(&self, dir: &str, depth: Depth) -> Entries<'_> {
        if depth == Depth::One && dir.is_empty() {
            return match self.answers() {
                Ok(entries) => Box::new(entries.iter().cloned().map(Ok)),
                Err(e) => Box::new(std::iter::once(Err(e))),
            };
        }
        if depth == Depth::One {
            return match self.list_one(dir) {
                Ok(entries) => Box::new(entries.into_iter().map(Ok)),
                Err(e) => Box::new(std::iter::once(Err(e))),
            };
        }
        let prefix = match self.location(dir) {
            Ok(prefix) => prefix,
            Err(e) => return Box::new(std::iter::once(Err(e))),
        };
        let prefix = Some(&prefix).filter(|p| !p.as_ref().is_empty());
        Box::new(Pages { source: self, stream: Some(self.shared.store.list(prefix)) })
    }

    fn stat(&self, name: &str) -> Result<Option<Entry>, ReadError> {
        let location = self.location(name)?;
        match self.shared.wait(self.shared.store.head(&location)) {
            Ok(meta) => Ok(self.entry(&meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.shared.error(name, 0..0, &e)),
        }
    }

    fn open(&self, entry: &Entry) -> Result<Arc<dyn Blob>, ReadError> {
        Ok(Arc::new(StoreBlob {
            shared: Arc::clone(&self.shared),
            location: self.location(&entry.name)?,
            name: entry.name.clone(),
            len: entry.size,
            etag: entry.etag.clone(),
        }))
    }
}

/// An object.
struct StoreBlob {
    shared: Arc<Shared>,
    location: Path,
    name: String,
    len: u64,
    etag: Option<String>,
}

impl StoreBlob {
    fn check(&self, range: &Range<u64>) -> Result<(), ReadError> {
        if range.end > self.len || range.start > range.end {
            return Err(ReadError::past_end(self.name.clone(), range, self.len));
        }
        Ok(())
    }
}

impl Blob for StoreBlob {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let end = offset.saturating_add(buf.len() as u64).min(self.len);
        if offset >= end {
            return Ok(0);
        }
        let bytes = self.bytes(offset..end)?;
        let n = bytes.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), bytes.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }

    fn bytes(&self, range: Range<u64>) -> Result<Bytes, ReadError> {
        self.check(&range)?;
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.shared.wait(self.shared.fetch(&self.name, &self.location, self.etag.as_deref(), range))
    }

    fn read_ranges(&self, ranges: &[Range<u64>]) -> Vec<Result<Bytes, ReadError>> {
        let one = |range: Range<u64>| async move {
            self.check(&range)?;
            if range.is_empty() {
                return Ok(Bytes::new());
            }
            self.shared.fetch(&self.name, &self.location, self.etag.as_deref(), range).await
        };
        let all = futures_util::stream::iter(ranges.iter().cloned().map(one)).buffered(self.concurrency()).collect();
        self.shared.wait(all)
    }

    fn concurrency(&self) -> usize {
        16
    }
}

type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Opens an address; `None` when it is of a kind that is not read here.
pub(crate) fn open_url(url: &str, env: Env<'_>) -> Option<Result<Arc<dyn Source>>> {
    let scheme = url.split_once("://")?.0;
    Some(match scheme {
        "file" => open_file(url),
        "s3" | "s3a" | "gs" | "az" | "azure" | "abfs" | "abfss" | "adl" | "http" | "https" => {
            open_with(url, env, Patience::default()).and_then(|source| {
                source.answers()?;
                Ok(Arc::new(source) as Arc<dyn Source>)
            })
        }
        "hdfs" | "oss" | "cos" | "cosn" | "obs" | "viewfs" | "wasb" | "wasbs" => Err(Error::unsupported(format!(
            "repositories in {scheme}:// stores; copy the repository to a directory first"
        ))),
        _ => return None,
    })
}

fn open_file(url: &str) -> Result<Arc<dyn Source>> {
    let path = url.strip_prefix("file://").unwrap_or(url);
    Ok(Arc::new(DirSource::open(FilePath::new(path))?))
}

/// A place to add objects to, with credentials from `env` and this patience.
///
/// # Errors
///
/// When the address makes no sense, or is of a kind that is not written to.
pub fn depot_with(url: &str, env: Env<'_>, patience: Patience) -> Result<Box<dyn crate::depot::Depot>> {
    Ok(Box::new(write::writable_with(url, env, patience)?))
}

/// A place to remove objects from; for `prune` only.
///
/// # Errors
///
/// As [`depot_with`].
pub fn remover_with(url: &str, env: Env<'_>, patience: Patience) -> Result<Box<dyn crate::depot::Remover>> {
    Ok(Box::new(write::writable_with(url, env, patience)?))
}

/// Opens an address with credentials from `env`.
///
/// # Errors
///
/// When the address or a setting makes no sense.
pub fn open_with(url: &str, env: Env<'_>, patience: Patience) -> Result<StoreSource> {
    let shown = names::redact_url(url).into_owned();
    let bad = |e: &dyn fmt::Display| Error::Usage(format!("{shown}: {e}"));
    let parsed = url::Url::parse(url).map_err(|e| bad(&e))?;
    let host = parsed.host_str().unwrap_or_default();
    let path = Path::from_url_path(parsed.path()).map_err(|e| bad(&e))?;
    let found = credentials::Settings::of(env);
    let secrets = found.secrets.clone();
    // A bucket is named by the host in s3://, gs:// and az://; https addresses of the clouds hold it elsewhere.
    let (store, prefix): (Arc<dyn ObjectStore>, Path) = match parsed.scheme() {
        "s3" | "s3a" => {
            (s3(&found, patience).with_url(format!("s3://{host}")).build().map(Arc::new).map_err(|e| bad(&e))?, path)
        }
        "gs" => {
            let mut builder = GoogleCloudStorageBuilder::new();
            for (key, value) in &found.google {
                if let Ok(key) = key.parse::<GoogleConfigKey>() {
                    builder = builder.with_config(key, value);
                }
            }
            let builder =
                builder.with_bucket_name(host).with_retry(patience.retry()).with_client_options(patience.client());
            (Arc::new(builder.build().map_err(|e| bad(&e))?), path)
        }
        "http" | "https" if !host.ends_with("amazonaws.com") && !host.ends_with(".core.windows.net") => {
            let origin = format!("{}/", parsed.origin().ascii_serialization());
            let client = patience.client().with_allow_http(parsed.scheme() == "http");
            let builder = HttpBuilder::new().with_url(origin).with_retry(patience.retry()).with_client_options(client);
            (Arc::new(builder.build().map_err(|e| bad(&e))?), path)
        }
        "https" if host.ends_with("amazonaws.com") => {
            let (_, prefix) = object_store::ObjectStoreScheme::parse(&parsed).map_err(|e| bad(&e))?;
            (Arc::new(s3(&found, patience).with_url(url).build().map_err(|e| bad(&e))?), prefix)
        }
        _ => {
            let (_, prefix) = object_store::ObjectStoreScheme::parse(&parsed).map_err(|e| bad(&e))?;
            let mut builder = MicrosoftAzureBuilder::new();
            for (key, value) in &found.azure {
                if let Ok(key) = key.parse::<AzureConfigKey>() {
                    builder = builder.with_config(key, value);
                }
            }
            let builder = builder.with_url(url).with_retry(patience.retry()).with_client_options(patience.client());
            (Arc::new(builder.build().map_err(|e| bad(&e))?), prefix)
        }
    };
    StoreSource::new(store, prefix, url, secrets, patience)
}

fn s3(found: &credentials::Settings, patience: Patience) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::new();
    let mut plain = false;
    for (key, value) in &found.aws {
        plain |= key.contains("endpoint") && value.starts_with("http://");
        if let Ok(key) = key.parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    builder.with_retry(patience.retry()).with_client_options(patience.client().with_allow_http(plain))
}
