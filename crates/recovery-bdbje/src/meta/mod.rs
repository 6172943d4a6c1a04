//! The directory around the log: `ROLE`, `VERSION`, images, and where the log lies.
//!
//! `meta/bdb` holds the log, `meta/image` the snapshots; a frontend's configuration names `meta` with `meta_dir`.

pub mod blocks;
pub mod doris;
pub mod image;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use recovery_core::{Context, Depth, Error, Result, Source};
use serde::Serialize;

pub use image::{Image, ImageState};

/// Where a log lies, and the images beside it.
const PLACES: [(&str, Option<&str>); 3] = [("", None), ("bdb", Some("image")), ("meta/bdb", Some("meta/image"))];
/// Largest property or configuration file that is read.
const MAX_TEXT: u64 = 1 << 20;

/// What lies around a log.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    /// Directory of the log in the source, "" for its root.
    pub bdb: String,
    /// Directory of the images, when there is one.
    pub image_dir: Option<String>,
    /// Content of `ROLE`.
    pub role: Option<BTreeMap<String, String>>,
    /// Content of `VERSION`.
    pub version: Option<BTreeMap<String, String>>,
    /// Images of the frontend, the one that would be loaded first.
    pub images: Vec<Image>,
    /// Images of the storage manager.
    pub starmgr: Vec<Image>,
    /// A half-written image.
    pub ckpt: Option<String>,
}

/// Role of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum FeRole {
    /// May be elected.
    Follower,
    /// Follows only; not a member of the stored group.
    Observer,
    /// No `ROLE` file, or one that says something else.
    Unknown,
}

fn has_log(source: &dyn Source, dir: &str) -> bool {
    source
        .list(dir, Depth::One)
        .flatten()
        .any(|e| e.is_file() && crate::reader::log::number_of(e.file_name()).is_some())
}

/// A log directory even when every log file is gone or misnamed.
fn has_traces(source: &dyn Source, dir: &str) -> bool {
    source.list(dir, Depth::One).flatten().any(|e| e.is_file() && e.file_name().ends_with(".jdb"))
}

impl Meta {
    /// Finds log and images in a source: a `meta` directory, its `bdb`, or a frontend's home.
    ///
    /// # Errors
    ///
    /// When there is no log anywhere.
    pub fn find(source: &dyn Source, cx: &Context) -> Result<Self> {
        let bdb = &Self::locate(source)?;
        let image = PLACES.iter().find(|(d, _)| d == bdb).and_then(|(_, i)| *i);
        let mut meta = Self { bdb: (*bdb).to_owned(), ..Self::default() };
        if let Some(dir) = image
            && source.list(dir, Depth::One).next().is_some()
        {
            meta.image_dir = Some((*dir).to_owned());
            meta.role = properties(source, &format!("{dir}/ROLE"));
            meta.version = properties(source, &format!("{dir}/VERSION"));
            meta.read_images(source, dir, cx);
        }
        Ok(meta)
    }

    /// Directory of the log in a source.
    ///
    /// # Errors
    ///
    /// When there is no log anywhere.
    pub fn locate(source: &dyn Source) -> Result<String> {
        let found = PLACES.iter().find(|(d, _)| has_log(source, d));
        let found = found.or_else(|| PLACES.iter().find(|(d, _)| has_traces(source, d)));
        found.map(|(d, _)| (*d).to_owned()).ok_or_else(|| {
            let name = source.describe();
            Error::Unusable(format!("{name}: no JE log (NNNNNNNN.jdb) here, in bdb/ or in meta/bdb/"))
        })
    }

    fn read_images(&mut self, source: &dyn Source, dir: &str, cx: &Context) {
        self.images = image::list(source, dir, cx);
        self.starmgr = image::list(source, &format!("{dir}/starmgr"), cx);
        let ckpt = format!("{dir}/image.ckpt");
        self.ckpt = source.stat(&ckpt).ok().flatten().map(|e| e.name);
    }

    /// Role by `ROLE`.
    #[must_use]
    pub fn fe_role(&self) -> FeRole {
        match self.role.as_ref().and_then(|r| r.get("role")).map(String::as_str) {
            Some("FOLLOWER" | "REPLICA" | "MASTER") => FeRole::Follower,
            Some("OBSERVER") => FeRole::Observer,
            _ => FeRole::Unknown,
        }
    }

    /// Node name by `ROLE`.
    #[must_use]
    pub fn node_name(&self) -> Option<&str> {
        self.role.as_ref()?.get("name").map(String::as_str).filter(|n| !n.is_empty())
    }

    /// A value of `VERSION`.
    #[must_use]
    pub fn version_value(&self, key: &str) -> Option<&str> {
        self.version.as_ref()?.get(key).map(String::as_str)
    }

    /// The image a frontend would load.
    #[must_use]
    pub fn image(&self) -> Option<&Image> {
        self.images.first()
    }
}

/// Reads a Java properties file; `None` when it is not there or too large.
fn properties(source: &dyn Source, name: &str) -> Option<BTreeMap<String, String>> {
    let blob = source.open_name(name).ok().flatten()?;
    let bytes = blob.bytes(0..blob.len().min(MAX_TEXT)).ok()?;
    Some(parse_properties(&bytes))
}

/// Lines of `key=value` or `key:value`; `#` and `!` begin comments; Latin-1.
#[must_use]
pub fn parse_properties(bytes: &[u8]) -> BTreeMap<String, String> {
    let text: String = bytes.iter().map(|b| char::from(*b)).collect();
    text.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with(['#', '!']))
        .filter_map(|l| l.split_once(['=', ':']))
        .map(|(k, v)| (k.trim().to_owned(), v.trim().replace("\\:", ":").replace("\\=", "=")))
        .collect()
}

/// Where a path the user gave leads: `fe.conf` to its `meta_dir`, a frontend's home to what its configuration says, a
/// `bdb` beside an `image` to the directory of both.
///
/// # Errors
///
/// When a configuration file cannot be read, or names a directory that is not there.
pub fn resolve(path: &Path) -> Result<Option<PathBuf>> {
    if path.is_file() && path.extension().is_some_and(|e| e == "conf") {
        return from_conf(path).map(Some);
    }
    if !path.is_dir() {
        return Ok(None);
    }
    let conf = path.join("conf/fe.conf");
    if conf.is_file() {
        return from_conf(&conf).map(Some);
    }
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let named = absolute.file_name().is_some_and(|n| n == "bdb");
    let parent = absolute.parent().filter(|p| named && p.join("image").is_dir());
    Ok(parent.map(Path::to_owned))
}

fn from_conf(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|e| Error::Unusable(format!("{shown}: {e}")))?;
    let conf = parse_properties(&bytes);
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let home = absolute.parent().and_then(Path::parent).unwrap_or(Path::new("/")).to_owned();
    let value = conf.get("meta_dir").map_or("${STARROCKS_HOME}/meta", String::as_str);
    let mut value = value.trim_matches('"').to_owned();
    for name in ["STARROCKS_HOME", "DORIS_HOME", "FE_HOME"] {
        let own = conf.get(name).cloned().unwrap_or_else(|| home.to_string_lossy().into_owned());
        value = value.replace(&format!("${{{name}}}"), &own).replace(&format!("${name}"), &own);
    }
    let dir = if Path::new(&value).is_absolute() { PathBuf::from(&value) } else { home.join(&value) };
    if dir.is_dir() {
        return Ok(dir);
    }
    let beside = home.join("meta");
    if conf.contains_key("meta_dir") || !beside.is_dir() {
        let dir = dir.display();
        return Err(Error::Unusable(format!("{shown}: meta_dir is {dir}, which is not a directory; name it directly")));
    }
    Ok(beside)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn properties_are_read_as_java_writes_them() {
        let p = parse_properties(b"#Sat Nov 21\nrole=FOLLOWER\nname = h_9010_17\n\n! x\ntoken=a\\:b\nbroken");
        assert_eq!(p.get("role").unwrap(), "FOLLOWER");
        assert_eq!(p.get("name").unwrap(), "h_9010_17");
        assert_eq!(p.get("token").unwrap(), "a:b");
        assert_eq!(p.len(), 3);
    }

    #[test]
    fn a_configuration_leads_to_the_metadata() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(home.join("conf")).unwrap();
        std::fs::create_dir_all(home.join("data/meta/image")).unwrap();
        std::fs::create_dir_all(home.join("data/meta/bdb")).unwrap();
        std::fs::write(home.join("conf/fe.conf"), "meta_dir = ${STARROCKS_HOME}/data/meta\n").unwrap();
        let want = Some(home.join("data/meta"));
        assert_eq!(resolve(&home.join("conf/fe.conf")).unwrap(), want);
        assert_eq!(resolve(&home).unwrap(), want);
        assert_eq!(resolve(&home.join("data/meta/bdb")).unwrap(), want);
        assert_eq!(resolve(&home.join("data/meta")).unwrap(), None);
        std::fs::write(home.join("conf/fe.conf"), "meta_dir = /nowhere/at/all\n").unwrap();
        assert!(resolve(&home.join("conf/fe.conf")).is_err());
    }
}
