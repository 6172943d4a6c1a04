//! Names of the files in a database directory (upstream `file/filename.cc`).
//!
//! | pattern            | kind                                       |
//! | ------------------ | ------------------------------------------ |
//! | `CURRENT`          | names the MANIFEST in force                |
//! | `MANIFEST-[0-9]+`  | log of version edits                       |
//! | `[0-9]+.log`       | write-ahead log                            |
//! | `[0-9]+.sst`       | table; `.ldb` is the older name            |
//! | `[0-9]+.blob`      | blob file                                  |
//! | `OPTIONS-[0-9]+`   | options as text                            |
//! | `IDENTITY`, `LOCK` | database id; advisory lock, empty          |
//! | `LOG`, `LOG.old.*` | info log, text                             |
//! | `[0-9]+.dbtmp`     | half-written file, `*.trash` one to delete |
//!
//! WAL, table, blob, MANIFEST and OPTIONS files draw their numbers from one counter. The digits behind
//! `LOG.old.` are a time and belong to no counter.

/// What a file is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// `CURRENT`.
    Current,
    /// `MANIFEST-N`.
    Manifest,
    /// `N.log`.
    Wal,
    /// `N.sst`.
    Table,
    /// `N.ldb`, the table name of LevelDB and of very old versions.
    OldTable,
    /// `N.blob`.
    Blob,
    /// `OPTIONS-N`.
    Options,
    /// `IDENTITY`.
    Identity,
    /// `LOCK`.
    Lock,
    /// `LOG` or `LOG.old.*`.
    InfoLog,
    /// `N.dbtmp`, `OPTIONS-N.dbtmp`, `*.trash`: left over, never read by the database.
    Temporary,
    /// `METADB-N`, `COMPACTION_PROGRESS-*`: written by the database, of no use to a recovery.
    Auxiliary,
    /// Not a name the database uses.
    Foreign,
}

impl FileKind {
    /// The word used in reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Manifest => "manifest",
            Self::Wal => "wal",
            Self::Table | Self::OldTable => "table",
            Self::Blob => "blob",
            Self::Options => "options",
            Self::Identity => "identity",
            Self::Lock => "lock",
            Self::InfoLog => "info-log",
            Self::Temporary => "temporary",
            Self::Auxiliary => "auxiliary",
            Self::Foreign => "foreign",
        }
    }

    /// Whether an ordinary open deletes a file of this kind that the version does not list
    /// (upstream `db/db_impl/db_impl_files.cc`, `PurgeObsoleteFiles`).
    #[must_use]
    pub const fn purged_when_unlisted(self) -> bool {
        matches!(self, Self::Manifest | Self::Wal | Self::Table | Self::Blob | Self::Temporary)
    }
}

/// A parsed file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileName {
    /// Kind of the file.
    pub kind: FileKind,
    /// Its number, for the kinds that have one.
    pub number: Option<u64>,
}

fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

impl FileName {
    /// Parses one name, without any directory before it.
    ///
    /// ```
    /// use recovery_rocksdb::format::file_name::{FileKind, FileName};
    /// assert_eq!(FileName::parse("000012.sst"), FileName { kind: FileKind::Table, number: Some(12) });
    /// assert_eq!(FileName::parse("MANIFEST-abc").kind, FileKind::Foreign);
    /// assert_eq!(FileName::parse("LOG.old.1795300811111734").number, None);
    /// ```
    #[must_use]
    pub fn parse(name: &str) -> Self {
        let plain = |kind| Self { kind, number: None };
        match name {
            "CURRENT" => return plain(FileKind::Current),
            "IDENTITY" => return plain(FileKind::Identity),
            "LOCK" => return plain(FileKind::Lock),
            "LOG" => return plain(FileKind::InfoLog),
            _ => {}
        }
        if name.strip_prefix("LOG.old.").is_some_and(|t| digits(t).is_some()) {
            return plain(FileKind::InfoLog);
        }
        for (prefix, kind) in [("MANIFEST-", FileKind::Manifest), ("METADB-", FileKind::Auxiliary)] {
            if let Some(number) = name.strip_prefix(prefix).and_then(digits) {
                return Self { kind, number: Some(number) };
            }
        }
        if name.strip_prefix("COMPACTION_PROGRESS-").is_some_and(|t| digits(t).is_some()) {
            return plain(FileKind::Auxiliary);
        }
        if let Some(rest) = name.strip_prefix("OPTIONS-") {
            if let Some(number) = digits(rest) {
                return Self { kind: FileKind::Options, number: Some(number) };
            }
            if rest.strip_suffix(".dbtmp").and_then(digits).is_some() {
                return plain(FileKind::Temporary);
            }
        }
        if name.ends_with(".trash") {
            return plain(FileKind::Temporary);
        }
        let Some((stem, extension)) = name.split_once('.') else { return plain(FileKind::Foreign) };
        let Some(number) = digits(stem) else { return plain(FileKind::Foreign) };
        let kind = match extension {
            "log" => FileKind::Wal,
            "sst" => FileKind::Table,
            "ldb" => FileKind::OldTable,
            "blob" => FileKind::Blob,
            "dbtmp" => FileKind::Temporary,
            _ => return plain(FileKind::Foreign),
        };
        Self { kind, number: Some(number) }
    }
}

/// The name of table `number`.
#[must_use]
pub fn table(number: u64) -> String {
    format!("{number:06}.sst")
}

/// The name of blob file `number`.
#[must_use]
pub fn blob(number: u64) -> String {
    format!("{number:06}.blob")
}

/// The name of write-ahead log `number`.
#[must_use]
pub fn wal(number: u64) -> String {
    format!("{number:06}.log")
}

/// The name of MANIFEST `number`.
#[must_use]
pub fn manifest(number: u64) -> String {
    format!("MANIFEST-{number:06}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_only_look_like_ours_are_foreign() {
        for name in [
            "000777.sst.bak",
            "000abc.sst",
            "MANIFEST-",
            "MANIFEST-1x",
            "notes.txt",
            ".sst",
            "-1.sst",
            "99999999999999999999999.sst",
        ] {
            assert_eq!(FileName::parse(name).kind, FileKind::Foreign, "{name}");
        }
    }

    #[test]
    fn written_names_parse_back() {
        for n in [0, 7, 999_999, 1_000_000, u64::MAX] {
            assert_eq!(FileName::parse(&table(n)), FileName { kind: FileKind::Table, number: Some(n) });
            assert_eq!(FileName::parse(&blob(n)), FileName { kind: FileKind::Blob, number: Some(n) });
            assert_eq!(FileName::parse(&wal(n)), FileName { kind: FileKind::Wal, number: Some(n) });
            assert_eq!(FileName::parse(&manifest(n)), FileName { kind: FileKind::Manifest, number: Some(n) });
        }
    }
}
