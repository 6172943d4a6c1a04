//! Where clusters lie in a source, and their control files.

use std::sync::Arc;

use recovery_core::{Depth, Entry, Error, ReadError, Result, Source};

use super::files::{join, read_small};
use crate::format::pg::control::{self, ControlError, Decoded};
use crate::format::pg::version;

/// How many directories are looked into at most.
const MOST_DIRECTORIES: usize = 10_000;
/// How deep clusters are looked for.
const DEEPEST: usize = 4;

/// A directory that holds a cluster, or the shared part of one.
#[derive(Clone)]
pub struct Cluster {
    /// Where it is read from.
    pub source: Arc<dyn Source>,
    /// Its path in the source, empty for the root.
    pub root: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cluster({:?} in {:?})", self.root, self.source)
    }
}

/// What became of reading the control file.
#[derive(Clone, Debug)]
pub enum ControlFound {
    /// Its checksum agrees.
    Good(Box<Decoded>),
    /// Its checksum agrees after one bit was corrected: the bit's number, and what was read before.
    Corrected(Box<Decoded>, usize, u32),
    /// The checksum disagrees; the fields may be wrong.
    Bad(Box<Decoded>),
    /// The bytes are no control file.
    Unusable(ControlError, u64),
    /// It cannot be read.
    Unreadable(ReadError),
    /// It is not there.
    Missing,
}

impl ControlFound {
    /// The fields, when they can be trusted.
    #[must_use]
    pub fn trusted(&self) -> Option<&Decoded> {
        match self {
            Self::Good(d) | Self::Corrected(d, ..) => Some(d),
            _ => None,
        }
    }

    /// The fields, trusted or not.
    #[must_use]
    pub fn any(&self) -> Option<&Decoded> {
        match self {
            Self::Bad(d) => Some(d),
            other => other.trusted(),
        }
    }
}

impl Cluster {
    /// Path in the source of a file of the cluster.
    #[must_use]
    pub fn path(&self, rel: &str) -> String {
        join(&self.root, rel)
    }

    /// Path below the cluster's root of a name in the source.
    #[must_use]
    pub fn rel<'a>(&self, name: &'a str) -> &'a str {
        if self.root.is_empty() {
            name
        } else {
            name.strip_prefix(&self.root).map_or(name, |r| r.trim_start_matches('/'))
        }
    }

    /// Entries of a directory of the cluster; one that is not there has none.
    ///
    /// # Errors
    ///
    /// When the medium fails.
    pub fn list(&self, rel: &str, depth: Depth) -> Result<Vec<Entry>, ReadError> {
        self.source.list(&self.path(rel), depth).collect()
    }

    /// Reads a small file of the cluster.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be read.
    pub fn small(&self, rel: &str, most: u64) -> Result<Option<bytes::Bytes>, ReadError> {
        read_small(self.source.as_ref(), &self.path(rel), most)
    }

    /// Whether a file or directory is there.
    #[must_use]
    pub fn has(&self, rel: &str) -> bool {
        matches!(self.source.stat(&self.path(rel)), Ok(Some(_)))
    }

    /// Reads the control file.
    #[must_use]
    pub fn control(&self) -> ControlFound {
        let bytes = match self.small("global/pg_control", 64 << 10) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return ControlFound::Missing,
            Err(e) => return ControlFound::Unreadable(e),
        };
        match control::decode(&bytes) {
            Ok(d) if d.crc_ok() => ControlFound::Good(Box::new(d)),
            first => {
                let stored = first.as_ref().map_or(0, |d| d.stored);
                let corrected =
                    control::correct_one_bit(&bytes).and_then(|(bit, b)| Some((bit, control::decode(&b).ok()?)));
                match (corrected, first) {
                    (Some((bit, d)), _) if d.crc_ok() => ControlFound::Corrected(Box::new(d), bit, stored),
                    (_, Ok(d)) => ControlFound::Bad(Box::new(d)),
                    (_, Err(e)) => ControlFound::Unusable(e, bytes.len() as u64),
                }
            }
        }
    }

    /// Major version: of `PG_VERSION` in the root or in a database directory.
    #[must_use]
    pub fn major(&self) -> Option<u32> {
        let of = |rel: &str| self.small(rel, 16).ok().flatten().and_then(|b| version::parse(&b));
        if let Some(v) = of("PG_VERSION") {
            return Some(v);
        }
        let databases = self.list("base", Depth::One).ok()?;
        databases.iter().filter(|e| e.is_dir()).find_map(|e| of(&format!("base/{}/PG_VERSION", e.file_name())))
    }
}

/// Whether a directory holds a cluster: enough of its parts are there, each of which may be lost.
fn is_cluster(source: &dyn Source, root: &str) -> bool {
    let dir = |rel: &str| source.stat(&join(root, rel)).ok().flatten().is_some_and(|e| e.is_dir());
    let control = source.stat(&join(root, "global/pg_control")).ok().flatten().is_some_and(|e| e.is_file());
    let parts = ["base", "global", "pg_wal", "pg_xact"].iter().filter(|p| dir(p)).count();
    (control && parts >= 2) || parts >= 3
}

/// Finds every cluster in a source, without descending into one.
///
/// # Errors
///
/// When the root cannot be listed.
pub fn find_clusters(source: &Arc<dyn Source>) -> Result<Vec<Cluster>> {
    let mut found = Vec::new();
    let mut level = vec![String::new()];
    let mut seen = 0usize;
    for _ in 0..DEEPEST {
        let mut below = Vec::new();
        for root in level {
            seen = seen.saturating_add(1);
            if seen > MOST_DIRECTORIES {
                return Ok(found);
            }
            if is_cluster(source.as_ref(), &root) {
                found.push(Cluster { source: Arc::clone(source), root });
                continue;
            }
            for entry in source.list(&root, Depth::One) {
                match entry {
                    Ok(e) if e.is_dir() && e.file_name() != ".recover" => below.push(e.name),
                    Ok(_) => {}
                    Err(e) if root.is_empty() => return Err(Error::Read(e)),
                    Err(_) => {}
                }
            }
        }
        level = below;
    }
    Ok(found)
}
