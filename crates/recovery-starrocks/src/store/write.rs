//! Adding and removing objects.

use std::sync::Arc;

use object_store::{ObjectStoreExt as _, PutPayload, WriteMultipart};
use recovery_core::{Error, Result, Source, names};

use super::{Env, Patience, StoreSource, open_with};
use crate::depot::{Depot, Pieces, Remover};

/// Files up to this length are sent with one request.
const AT_ONCE: u64 = 8 << 20;

/// Length of the parts of longer files.
const PART: usize = 8 << 20;

/// Parts of one file under way at a time.
const PARTS: usize = 3;

/// An object store that objects are added to or removed from.
#[derive(Debug)]
pub(crate) struct Writable {
    shown: String,
    source: Arc<StoreSource>,
}

/// Opens an address for writing.
pub(crate) fn writable(url: &str, env: Env<'_>) -> Result<Writable> {
    writable_with(url, env, Patience::default())
}

pub(super) fn writable_with(url: &str, env: Env<'_>, patience: Patience) -> Result<Writable> {
    match url.split_once("://").map(|(s, _)| s) {
        Some("s3" | "s3a" | "gs" | "az" | "azure" | "abfs" | "abfss" | "adl" | "https") => {}
        _ => {
            let shown = names::redact_url(url).into_owned();
            return Err(Error::unsupported(format!(
                "writing to {shown}; stores that are written to are s3://, gs:// and az://"
            )));
        }
    }
    Ok(Writable { shown: names::redact_url(url).into_owned(), source: Arc::new(open_with(url, env, patience)?) })
}

impl Writable {
    fn failed(&self, name: &str, action: &'static str, error: &object_store::Error) -> Error {
        let words = self.source.shared.words(error);
        Error::write(format!("{}/{name}", self.shown), action, std::io::Error::other(words))
    }
}

impl Depot for Writable {
    fn describe(&self) -> String {
        self.shown.clone()
    }

    fn source(&self) -> Result<Option<Arc<dyn Source>>> {
        let empty = self.source.list_one("")?.is_empty();
        Ok((!empty).then(|| Arc::clone(&self.source) as Arc<dyn Source>))
    }

    fn add(&self, name: &str, size: u64, next: &mut Pieces<'_>) -> Result<()> {
        let location = self.source.location(names::relative_path(name)?)?;
        let shared = &self.source.shared;
        if self.source.stat(name)?.is_some() {
            let taken = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(Error::write(format!("{}/{name}", self.shown), "create", taken));
        }
        let mut done = 0u64;
        if size <= AT_ONCE {
            let mut pieces = Vec::new();
            while let Some(piece) = next()? {
                done = done.saturating_add(piece.len() as u64);
                pieces.push(piece);
            }
            if done != size {
                return Err(Error::Damaged(format!("{name}: {done} bytes came of {size}")));
            }
            let payload: PutPayload = pieces.into_iter().collect();
            let sent = shared.wait(shared.store.put(&location, payload));
            return sent.map(drop).map_err(|e| self.failed(name, "write", &e));
        }
        let upload = shared.wait(shared.store.put_multipart(&location)).map_err(|e| self.failed(name, "write", &e))?;
        let mut upload = shared.inside(|| WriteMultipart::new_with_chunk_size(upload, PART));
        let fed = loop {
            match next() {
                Ok(Some(piece)) => {
                    done = done.saturating_add(piece.len() as u64);
                    if let Err(e) = shared.wait(upload.wait_for_capacity(PARTS)) {
                        break Err(self.failed(name, "write", &e));
                    }
                    shared.inside(|| upload.put(piece));
                }
                Ok(None) if done == size => break Ok(()),
                Ok(None) => break Err(Error::Damaged(format!("{name}: {done} bytes came of {size}"))),
                Err(e) => break Err(e),
            }
        };
        match fed {
            Ok(()) => shared.wait(upload.finish()).map(drop).map_err(|e| self.failed(name, "write", &e)),
            Err(error) => {
                // The parts are the store's to forget; the object does not exist.
                drop(shared.wait(upload.abort()));
                Err(error)
            }
        }
    }
}

impl Remover for Writable {
    fn remove(&self, name: &str) -> Result<bool> {
        let location = self.source.location(names::relative_path(name)?)?;
        let shared = &self.source.shared;
        match shared.wait(shared.store.delete(&location)) {
            Ok(()) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(self.failed(name, "remove", &e)),
        }
    }

    fn settle(&self, _: &[String]) -> Result<()> {
        Ok(())
    }

    fn tidy(&self, _: &str, _: &str) {}
}
