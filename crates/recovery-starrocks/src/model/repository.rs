//! A repository as its listing shows it, before any file is opened.

use std::collections::BTreeMap;

use recovery_core::{Entry, ReadError};

use crate::format::names::{Prefix, TabletFile, TabletPath};

/// What stands behind the last dot of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The MD5 of the content.
    Md5([u8; 16]),
    /// `.part`: unfinished.
    Part,
    /// Something else; the back end takes it for a sum that never matches.
    Other(String),
    /// Nothing.
    None,
}

/// A file whose name was taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The entry in the source.
    pub entry: Entry,
    /// Name without directory and ending.
    pub base: String,
    /// The ending.
    pub ending: Ending,
}

impl Named {
    /// The MD5 in the name.
    #[must_use]
    pub const fn md5(&self) -> Option<[u8; 16]> {
        match self.ending {
            Ending::Md5(sum) => Some(sum),
            _ => None,
        }
    }

    /// Whether the upload finished, as far as the name says.
    #[must_use]
    pub const fn finished(&self) -> bool {
        matches!(self.ending, Ending::Md5(_))
    }
}

/// A file of a tablet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TabletEntry {
    /// The file.
    pub file: Named,
    /// What it is.
    pub kind: TabletFile,
}

/// The directory of a tablet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TabletDir {
    /// Its ids.
    pub path: TabletPath,
    /// Its name in the source.
    pub dir: String,
    /// Its files, by name.
    pub files: Vec<TabletEntry>,
    /// `__starrocks_snapshot_manifest`.
    pub manifest: Option<Entry>,
}

impl TabletDir {
    /// The finished files of one base name.
    pub fn finished<'a>(&'a self, base: &'a str) -> impl Iterator<Item = &'a TabletEntry> {
        // Files are sorted by name, and a base name is the beginning of it.
        let start = self.files.partition_point(|f| f.file.base.as_str() < base);
        self.files.iter().skip(start).take_while(move |f| f.file.base == base).filter(|f| f.file.finished())
    }
}

/// A snapshot directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotDir {
    /// Label.
    pub label: String,
    /// Its name in the source.
    pub dir: String,
    /// `__info_*`; the base is the timestamp.
    pub infos: Vec<Named>,
    /// `__meta*`.
    pub metas: Vec<Named>,
    /// Tablets by path.
    pub tablets: BTreeMap<TabletPath, TabletDir>,
    /// What belongs to none of these.
    pub strays: Vec<Entry>,
}

/// A repository directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// Directory in the source; empty when the source is the repository directory itself.
    pub base: String,
    /// Prefix of the directory, where its name is known.
    pub prefix: Option<Prefix>,
    /// Name in the directory's name.
    pub directory_name: Option<String>,
    /// `__repo_info`.
    pub repo_info: Option<Entry>,
    /// Snapshots by label.
    pub snapshots: BTreeMap<String, SnapshotDir>,
    /// Files that belong to nothing.
    pub strays: Vec<Entry>,
    /// The same name under the other prefix.
    pub hidden: Option<String>,
    /// Parts that could not be listed.
    pub errors: Vec<ReadError>,
}
