//! Names in a repository.
//!
//! ```text
//! <location>/<prefix><name>/__repo_info
//!                          /__ss_<label>/__meta.<md5>
//!                                       /__info_<timestamp>.<md5>
//!                                       /__ss_content/__db_<i>/__tbl_<i>/__part_<i>/__idx_<i>/__<tablet>/<file>.<md5>
//! ```
//! Sources: `backup/Repository.java` (all names, the old and the new prefix), `runtime/snapshot_loader.cpp` (suffix
//! rules of tablet files), `storage/rowset/rowset.h` (`segment_file_path` and its siblings).

use std::fmt;

/// Name of the file that says which repository this is.
pub const REPO_INFO: &str = "__repo_info";
/// Prefix of a snapshot directory.
pub const SNAPSHOT: &str = "__ss_";
/// Base name of the table definitions.
pub const META: &str = "__meta";
/// Prefix of the job description.
pub const INFO: &str = "__info_";
/// Directory of the tablets of a snapshot.
pub const CONTENT: &str = "__ss_content";
/// Suffix of a file that is still being written.
pub const PART: &str = "part";
/// Name of the per-tablet list of files that new releases write.
pub const MANIFEST: &str = "__starrocks_snapshot_manifest";

/// The two prefixes of a repository directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// `__palo_repository_`: always up to 2.5, and in Doris; wins where both exist.
    Palo,
    /// `__starrocks_repository_`: from 3.0 where no old one exists.
    StarRocks,
}

impl Prefix {
    /// Both, the one that wins first.
    pub const ALL: [Self; 2] = [Self::Palo, Self::StarRocks];

    /// The text.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Palo => "__palo_repository_",
            Self::StarRocks => "__starrocks_repository_",
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Splits the name of a repository directory.
#[must_use]
pub fn repository(directory: &str) -> Option<(Prefix, &str)> {
    Prefix::ALL
        .into_iter()
        .find_map(|p| directory.strip_prefix(p.text()).filter(|name| !name.is_empty()).map(|name| (p, name)))
}

/// The label of a snapshot directory; `__ss_content` is not one.
#[must_use]
pub fn label(directory: &str) -> Option<&str> {
    directory.strip_prefix(SNAPSHOT).filter(|label| !label.is_empty())
}

/// What stands behind the last dot of an uploaded file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suffix<'a> {
    /// 32 lower-case hex digits.
    Md5([u8; 16]),
    /// `.part`: the upload did not finish.
    Part,
    /// Anything else that is not empty; the back end takes it for a checksum that never matches.
    Other(&'a str),
}

/// Splits a file name at its last dot. `None` where there is no dot or nothing behind it: the engine does not see
/// such a file.
#[must_use]
pub fn split_suffix(name: &str) -> Option<(&str, Suffix<'_>)> {
    let (base, suffix) = name.rsplit_once('.')?;
    if suffix.is_empty() || base.is_empty() {
        return None;
    }
    if suffix == PART {
        return Some((base, Suffix::Part));
    }
    Some((base, parse_md5(suffix).map_or(Suffix::Other(suffix), Suffix::Md5)))
}

/// 32 lower-case hex digits as bytes.
#[must_use]
pub fn parse_md5(text: &str) -> Option<[u8; 16]> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut out = [0u8; 16];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (nibble(*pair.first()?)?, nibble(*pair.last()?)?);
        *byte = (high << 4) | low;
    }
    Some(out)
}

const fn nibble(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    }
}

/// Bytes as lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(bytes.len().saturating_mul(2));
    for b in bytes {
        let _ = write!(out, "{b:02x}");
    }
    out
}

/// `yyyy-MM-dd-HH-mm-ss[-SSS]` in the time zone of the front end's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Year.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60.
    pub second: u8,
    /// Thousandths; old Doris wrote none.
    pub millis: Option<u16>,
}

impl Timestamp {
    /// Reads one; `None` when the text has another shape.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let widths: &[usize] = match parts.len() {
            6 => &[4, 2, 2, 2, 2, 2],
            7 => &[4, 2, 2, 2, 2, 2, 3],
            _ => return None,
        };
        let mut n = [0u16; 7];
        for ((slot, part), width) in n.iter_mut().zip(&parts).zip(widths) {
            if part.len() != *width || !part.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            *slot = part.parse().ok()?;
        }
        let [year, month, day, hour, minute, second, millis] = n;
        let small = |v: u16, low: u16, high: u16| u8::try_from(v).ok().filter(|_| (low..=high).contains(&v));
        Some(Self {
            year,
            month: small(month, 1, 12)?,
            day: small(day, 1, 31)?,
            hour: small(hour, 0, 23)?,
            minute: small(minute, 0, 59)?,
            second: small(second, 0, 60)?,
            millis: (parts.len() == 7).then_some(millis),
        })
    }

    /// Milliseconds since 1970, as if the time were UTC. The difference to `backup_time` is the zone's offset.
    #[must_use]
    pub fn local_millis(&self) -> i64 {
        let days = days_from_civil(i64::from(self.year), i64::from(self.month), i64::from(self.day));
        let seconds =
            days * 86_400 + i64::from(self.hour) * 3_600 + i64::from(self.minute) * 60 + i64::from(self.second);
        seconds * 1_000 + i64::from(self.millis.unwrap_or(0))
    }

    /// The time that many milliseconds after 1970, in UTC. Years outside 1970 to 9999 are clamped.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        let millis = millis.clamp(0, 253_402_300_799_999);
        let (days, rest) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
        let (year, month, day) = civil_from_days(days);
        let small = |v: i64| u8::try_from(v).unwrap_or(0);
        Self {
            year: u16::try_from(year).unwrap_or(9999),
            month: small(month),
            day: small(day),
            hour: small(rest / 3_600_000),
            minute: small(rest / 60_000 % 60),
            second: small(rest / 1_000 % 60),
            millis: Some(u16::try_from(rest % 1_000).unwrap_or(0)),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second, millis } = self;
        write!(f, "{year:04}-{month:02}-{day:02}-{hour:02}-{minute:02}-{second:02}")?;
        millis.map_or(Ok(()), |ms| write!(f, "-{ms:03}"))
    }
}

// Howard Hinnant's proleptic Gregorian day arithmetic.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, doy - (153 * mp + 2) / 5 + 1)
}

/// The five ids of a tablet directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TabletPath {
    /// Database id.
    pub database: i64,
    /// Table id.
    pub table: i64,
    /// Id of the physical partition.
    pub partition: i64,
    /// Index id.
    pub index: i64,
    /// Tablet id.
    pub tablet: i64,
}

impl TabletPath {
    /// From the components below `__ss_content`.
    #[must_use]
    pub fn parse<'a>(mut parts: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut next = |prefix: &str| parts.next()?.strip_prefix(prefix).and_then(id);
        let path = Self {
            database: next("__db_")?,
            table: next("__tbl_")?,
            partition: next("__part_")?,
            index: next("__idx_")?,
            tablet: next("__")?,
        };
        parts.next().is_none().then_some(path)
    }
}

impl fmt::Display for TabletPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, table, partition, index, tablet } = self;
        write!(f, "__db_{database}/__tbl_{table}/__part_{partition}/__idx_{index}/__{tablet}")
    }
}

/// A decimal id as the engine writes it: no sign, no leading zero.
#[must_use]
pub fn id(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 19 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if text.len() > 1 && text.starts_with('0') {
        return None;
    }
    text.parse().ok()
}

/// What a file in a tablet directory is, by its name without suffix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TabletFile {
    /// `<tablet>.hdr`
    Header(i64),
    /// `<tablet>.dcgs_snapshot`
    ColumnGroups(i64),
    /// `meta` of a primary-key tablet
    PrimaryMeta,
    /// `<rowset>_<n>.dat`
    Segment {
        /// Rowset id.
        rowset: String,
        /// Number of the segment in the rowset.
        number: u32,
    },
    /// `<rowset>_<n>.del`
    Delete {
        /// Rowset id.
        rowset: String,
        /// Number of the file in the rowset.
        number: u32,
    },
    /// `<rowset>_<n>.upt`
    Update {
        /// Rowset id.
        rowset: String,
        /// Number of the file in the rowset.
        number: u32,
    },
    /// `<rowset>_<segment>_<version>_<index>.cols`
    Columns {
        /// Rowset id.
        rowset: String,
        /// Number of the segment whose columns it replaces.
        segment: u32,
    },
    /// Vector, inverted or legacy index: not needed to read rows.
    Index,
    /// Something the back end refuses as "invalid tablet file name".
    Unknown,
}

impl TabletFile {
    /// Classifies a name from which the MD5 suffix was taken.
    #[must_use]
    pub fn parse(base: &str) -> Self {
        if base == "meta" {
            return Self::PrimaryMeta;
        }
        let Some((stem, extension)) = base.rsplit_once('.') else {
            return if base.contains('_') { Self::Index } else { Self::Unknown };
        };
        match extension {
            "hdr" => id(stem).map_or(Self::Unknown, Self::Header),
            "dcgs_snapshot" => id(stem).map_or(Self::Unknown, Self::ColumnGroups),
            "dat" => numbered(stem).map_or(Self::Unknown, |(rowset, number)| Self::Segment { rowset, number }),
            "del" => numbered(stem).map_or(Self::Unknown, |(rowset, number)| Self::Delete { rowset, number }),
            "upt" => numbered(stem).map_or(Self::Unknown, |(rowset, number)| Self::Update { rowset, number }),
            "cols" => {
                let mut parts = stem.rsplitn(4, '_');
                let tail = (parts.next(), parts.next(), parts.next(), parts.next());
                match tail {
                    (Some(_), Some(_), Some(segment), Some(rowset)) if !rowset.is_empty() => segment
                        .parse()
                        .map_or(Self::Unknown, |segment| Self::Columns { rowset: rowset.to_owned(), segment }),
                    _ => Self::Unknown,
                }
            }
            "vi" | "idx" | "ivt" => Self::Index,
            _ if base.contains('_') => Self::Index,
            _ => Self::Unknown,
        }
    }
}

fn numbered(stem: &str) -> Option<(String, u32)> {
    let (rowset, number) = stem.rsplit_once('_')?;
    if rowset.is_empty() || number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((rowset.to_owned(), number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn suffixes() {
        assert_eq!(split_suffix("__meta.part"), Some(("__meta", Suffix::Part)));
        let (base, suffix) = split_suffix("10.hdr.0123456789abcdef0123456789abcdef").unwrap();
        assert_eq!(base, "10.hdr");
        assert!(matches!(suffix, Suffix::Md5(m) if hex(&m) == "0123456789abcdef0123456789abcdef"));
        assert_eq!(split_suffix("a.ABC"), Some(("a", Suffix::Other("ABC"))));
        assert_eq!(split_suffix("a."), None);
        assert_eq!(split_suffix("a"), None);
    }

    #[test]
    fn timestamps() {
        for text in ["2021-12-08-22-13-20-012", "2018-01-31-23-59-59"] {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), text);
        }
        let t = Timestamp::parse("2021-12-08-22-13-20-012").unwrap();
        assert_eq!(Timestamp::from_millis(t.local_millis()), t);
        assert!(Timestamp::parse("2021-13-08-22-13-20-012").is_none());
        assert!(Timestamp::parse("2021-12-08-22-13-20-01").is_none());
    }

    #[test]
    fn paths() {
        let text = "__db_1/__tbl_2/__part_3/__idx_4/__5";
        assert_eq!(TabletPath::parse(text.split('/')).unwrap().to_string(), text);
        assert!(TabletPath::parse("__db_1/__tbl_2/__part_3/__idx_4/__5/x".split('/')).is_none());
        assert!(TabletPath::parse("__db_01/__tbl_2/__part_3/__idx_4/__5".split('/')).is_none());
    }

    #[test]
    fn tablet_files() {
        assert_eq!(TabletFile::parse("10.hdr"), TabletFile::Header(10));
        assert_eq!(TabletFile::parse("02ab_3.dat"), TabletFile::Segment { rowset: "02ab".into(), number: 3 });
        assert_eq!(TabletFile::parse("02ab_3_7_0.cols"), TabletFile::Columns { rowset: "02ab".into(), segment: 3 });
        assert_eq!(TabletFile::parse("meta"), TabletFile::PrimaryMeta);
        assert_eq!(TabletFile::parse("x.txt"), TabletFile::Unknown);
    }
}
