//! `global/pg_control`: identity, state, last checkpoint and limits of a cluster.
//!
//! The file has 8192 bytes of which the structure uses 288 (11) or 296 (12 and later); tools that write only the
//! structure leave a shorter file, which servers accept. The CRC-32C stands behind the last field and covers every
//! byte before it. What no checksum covers: the zero tail behind the CRC.
//!
//! | field | 11 | 12 to 16 | 17 |
//! |---|---|---|---|
//! | system_identifier, pg_control_version, catalog_version_no, state, time, checkPoint | 0, 8, 12, 16, 24, 32 | same | same |
//! | checkPointCopy ([`super::checkpoint`]) | 40 | 40 | 40 |
//! | unloggedLSN, minRecoveryPoint, its TLI, backupStart, backupEnd, backupEndRequired | 120, 128, 136, 144, 152, 160 | 128, 136, 144, 152, 160, 168 | same |
//! | wal_level, wal_log_hints, MaxConnections, max_worker_processes | 164, 168, 172, 176 | 172, 176, 180, 184 | same |
//! | max_wal_senders | | 188 | 188 |
//! | max_prepared_xacts, max_locks_per_xact, track_commit_timestamp | 180, 184, 188 | 192, 196, 200 | same |
//! | maxAlign, floatFormat | 192, 200 | 204, 208 | same |
//! | blcksz, relseg_size, xlog_blcksz, xlog_seg_size, nameDataLen, indexMaxKeys, toast_max_chunk_size, loblksize | 208 | 216 | same |
//! | float4ByVal, float8ByVal | 240, 241 | 12: 248, 249; from 13 on float8ByVal 248 | 248 |
//! | data_checksum_version, mock_authentication_nonce | 244, 248 | 252, 256 | same |
//! | crc | 280 | 288 | 288 |
//!
//! Upstream: `struct ControlFileData` in `src/include/catalog/pg_control.h`; PolarDB 11 and 15 keep it unchanged.

use std::fmt;

use recovery_core::{Cursor, Short};
use serde::Serialize;

use super::checkpoint::{CheckPoint, Layout};
use super::{Lsn, SegmentSize, le32};

/// Size of the file as the server writes it.
pub const FILE_SIZE: usize = 8192;
/// The value every server writes into `floatFormat`.
pub const FLOAT_FORMAT: f64 = 1_234_567.0;

/// What the server was doing when it last wrote the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State(pub u32);

impl State {
    /// Just made.
    pub const STARTUP: Self = Self(0);
    /// Cleanly stopped.
    pub const SHUT_DOWN: Self = Self(1);
    /// Cleanly stopped while it followed another server.
    pub const SHUT_DOWN_IN_RECOVERY: Self = Self(2);
    /// Running.
    pub const IN_PRODUCTION: Self = Self(6);

    /// Whether a start needs no crash recovery.
    #[must_use]
    pub const fn clean(self) -> bool {
        self.0 == 1 || self.0 == 2
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "starting up",
            1 => "shut down",
            2 => "shut down in recovery",
            3 => "shutting down",
            4 => "in crash recovery",
            5 => "in archive recovery",
            6 => "in production",
            _ => "unrecognized status code",
        })
    }
}

impl Serialize for State {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// The fields of the file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the names are PostgreSQL's own")]
pub struct ControlFile {
    pub system_identifier: u64,
    pub pg_control_version: u32,
    pub catalog_version: u32,
    pub state: State,
    /// Seconds since 1970.
    pub time: i64,
    /// Where the last checkpoint record begins.
    pub checkpoint: Lsn,
    pub checkpoint_copy: CheckPoint,
    pub unlogged_lsn: Lsn,
    pub min_recovery_point: Lsn,
    pub min_recovery_tli: u32,
    pub backup_start: Lsn,
    pub backup_end: Lsn,
    pub backup_end_required: bool,
    pub wal_level: i32,
    pub wal_log_hints: bool,
    pub max_connections: i32,
    pub max_worker_processes: i32,
    /// Not in version 11.
    pub max_wal_senders: Option<i32>,
    pub max_prepared_xacts: i32,
    pub max_locks_per_xact: i32,
    pub track_commit_timestamp: bool,
    pub max_align: u32,
    pub float_format: f64,
    pub blcksz: u32,
    /// Pages in a relation segment file: 131072 in vanilla builds, 16777216 in PolarDB's.
    pub relseg_size: u32,
    pub xlog_blcksz: u32,
    pub xlog_seg_size: u32,
    pub name_data_len: u32,
    pub index_max_keys: u32,
    pub toast_max_chunk_size: u32,
    pub loblksize: u32,
    /// Only in versions 11 and 12.
    pub float4_by_val: Option<bool>,
    pub float8_by_val: bool,
    /// 0: pages carry no checksums.
    pub data_checksum_version: u32,
    #[serde(skip)]
    pub nonce: [u8; 32],
}

/// A control file as found, and whether its checksum agrees.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The fields.
    pub control: ControlFile,
    /// Their arrangement.
    pub layout: Layout,
    /// Offset of the checksum.
    pub crc_at: usize,
    /// Checksum in the file.
    pub stored: u32,
    /// Checksum of the bytes before it.
    pub computed: u32,
}

impl Decoded {
    /// Whether the checksum agrees.
    #[must_use]
    pub const fn crc_ok(&self) -> bool {
        self.stored == self.computed
    }
}

/// Why bytes are no control file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The file ends too early.
    #[error(transparent)]
    Short(#[from] Short),
    /// A version that a server wrote and whose layout is not read here; the checksum agrees.
    #[error("pg_control version {0}, of PostgreSQL {1}, is not supported (1100, 1201, 1300 and 1700 are)")]
    Unsupported(u32, &'static str),
    /// Neither the version is known nor does any checksum agree.
    #[error("pg_control version {0} is not known (1100, 1201, 1300 and 1700 are)")]
    Version(u32),
}

/// The layout that goes with a `pg_control_version`.
#[must_use]
pub const fn layout_of(version: u32) -> Option<Layout> {
    match version {
        1100 => Some(Layout::V11),
        1201 => Some(Layout::V12),
        1300 => Some(Layout::V13),
        1700 => Some(Layout::V17),
        _ => None,
    }
}

/// Versions of servers that are not read here, by the published `PG_CONTROL_VERSION` of each release.
const fn release_of(version: u32) -> Option<&'static str> {
    match version {
        903 => Some("9.0 or 9.1"),
        922 => Some("9.2"),
        937 => Some("9.3"),
        942 => Some("9.4 or 9.5"),
        960 => Some("9.6"),
        1002 => Some("10"),
        1800 => Some("18"),
        1801.. => Some("a release after 18"),
        _ => None,
    }
}

/// Whether a checksum stands anywhere it could and agrees.
fn sealed(bytes: &[u8]) -> bool {
    let agrees = |at: usize| bytes.len() >= at + 4 && sum(bytes, at) == Some(le32(bytes, at));
    (200..=508).step_by(4).any(|at| agrees(at) && le32(bytes, at) != 0)
}

const fn crc_place(layout: Layout) -> usize {
    match layout {
        Layout::V11 => 280,
        Layout::V12 | Layout::V13 | Layout::V17 => 288,
    }
}

fn sum(bytes: &[u8], until: usize) -> Option<u32> {
    bytes.get(..until).map(crc32c::crc32c)
}

/// Where the checksum stands: at the place of the version, else at any multiple of 4 from 200 to 508 at which it agrees.
fn find_crc(bytes: &[u8], usual: usize) -> usize {
    let agrees = |at: usize| bytes.len() >= at + 4 && sum(bytes, at) == Some(le32(bytes, at));
    if agrees(usual) {
        return usual;
    }
    (200..=508).step_by(4).find(|&at| agrees(at) && le32(bytes, at) != 0).unwrap_or(usual)
}

/// Reads a control file; a checksum that disagrees is reported, not refused.
///
/// # Errors
///
/// When the bytes end before the structure does or the version is unknown.
pub fn decode(bytes: &[u8]) -> Result<Decoded, ControlError> {
    let mut c = Cursor::new(bytes, 0);
    let mut head = c;
    head.skip(8, "system_identifier")?;
    let version = head.u32_le("pg_control_version")?;
    let layout = match (layout_of(version), release_of(version)) {
        (Some(layout), _) => layout,
        (None, Some(release)) if sealed(bytes) => return Err(ControlError::Unsupported(version, release)),
        (None, _) => return Err(ControlError::Version(version)),
    };
    let control = fields(&mut c, layout)?;
    let crc_at = find_crc(bytes, crc_place(layout));
    let stored = Cursor::new(bytes.get(crc_at..).unwrap_or_default(), crc_at as u64).u32_le("crc")?;
    Ok(Decoded { control, layout, crc_at, stored, computed: sum(bytes, crc_at).unwrap_or(0) })
}

fn flag(c: &mut Cursor<'_>, pad: usize, field: &'static str) -> Result<bool, Short> {
    let value = c.u8(field)? != 0;
    c.skip(pad, "padding")?;
    Ok(value)
}

fn fields(c: &mut Cursor<'_>, layout: Layout) -> Result<ControlFile, Short> {
    let old = layout == Layout::V11;
    let float4 = matches!(layout, Layout::V11 | Layout::V12);
    let system_identifier = c.u64_le("system_identifier")?;
    let pg_control_version = c.u32_le("pg_control_version")?;
    let catalog_version = c.u32_le("catalog_version_no")?;
    let state = State(c.u32_le("state")?);
    c.skip(4, "padding")?;
    let time = c.i64_le("time")?;
    let checkpoint = Lsn(c.u64_le("checkPoint")?);
    let checkpoint_copy = CheckPoint::decode(c, layout)?;
    let unlogged_lsn = Lsn(c.u64_le("unloggedLSN")?);
    let min_recovery_point = Lsn(c.u64_le("minRecoveryPoint")?);
    let min_recovery_tli = c.u32_le("minRecoveryPointTLI")?;
    c.skip(4, "padding")?;
    let backup_start = Lsn(c.u64_le("backupStartPoint")?);
    let backup_end = Lsn(c.u64_le("backupEndPoint")?);
    let backup_end_required = flag(c, 3, "backupEndRequired")?;
    let wal_level = c.i32_le("wal_level")?;
    let wal_log_hints = flag(c, 3, "wal_log_hints")?;
    let max_connections = c.i32_le("MaxConnections")?;
    let max_worker_processes = c.i32_le("max_worker_processes")?;
    let max_wal_senders = if old { None } else { Some(c.i32_le("max_wal_senders")?) };
    let max_prepared_xacts = c.i32_le("max_prepared_xacts")?;
    let max_locks_per_xact = c.i32_le("max_locks_per_xact")?;
    let track_commit_timestamp = flag(c, 3, "track_commit_timestamp")?;
    let max_align = c.u32_le("maxAlign")?;
    if old {
        c.skip(4, "padding")?;
    }
    let float_format = c.f64_le("floatFormat")?;
    Ok(ControlFile {
        system_identifier,
        pg_control_version,
        catalog_version,
        state,
        time,
        checkpoint,
        checkpoint_copy,
        unlogged_lsn,
        min_recovery_point,
        min_recovery_tli,
        backup_start,
        backup_end,
        backup_end_required,
        wal_level,
        wal_log_hints,
        max_connections,
        max_worker_processes,
        max_wal_senders,
        max_prepared_xacts,
        max_locks_per_xact,
        track_commit_timestamp,
        max_align,
        float_format,
        blcksz: c.u32_le("blcksz")?,
        relseg_size: c.u32_le("relseg_size")?,
        xlog_blcksz: c.u32_le("xlog_blcksz")?,
        xlog_seg_size: c.u32_le("xlog_seg_size")?,
        name_data_len: c.u32_le("nameDataLen")?,
        index_max_keys: c.u32_le("indexMaxKeys")?,
        toast_max_chunk_size: c.u32_le("toast_max_chunk_size")?,
        loblksize: c.u32_le("loblksize")?,
        float4_by_val: if float4 { Some(flag(c, 0, "float4ByVal")?) } else { None },
        float8_by_val: flag(c, if float4 { 2 } else { 3 }, "float8ByVal")?,
        data_checksum_version: c.u32_le("data_checksum_version")?,
        nonce: c.array("mock_authentication_nonce")?,
    })
}

impl ControlFile {
    /// The whole file of 8192 bytes, checksum set.
    #[must_use]
    pub fn encode(&self, layout: Layout) -> Vec<u8> {
        let old = layout == Layout::V11;
        let mut w = Vec::with_capacity(FILE_SIZE);
        let word = |w: &mut Vec<u8>, v: u32| w.extend_from_slice(&v.to_le_bytes());
        let int = |w: &mut Vec<u8>, v: i32| w.extend_from_slice(&v.to_le_bytes());
        let long = |w: &mut Vec<u8>, v: u64| w.extend_from_slice(&v.to_le_bytes());
        long(&mut w, self.system_identifier);
        word(&mut w, self.pg_control_version);
        word(&mut w, self.catalog_version);
        word(&mut w, self.state.0);
        word(&mut w, 0);
        long(&mut w, self.time.cast_unsigned());
        long(&mut w, self.checkpoint.0);
        w.extend_from_slice(&self.checkpoint_copy.encode(layout));
        long(&mut w, self.unlogged_lsn.0);
        long(&mut w, self.min_recovery_point.0);
        word(&mut w, self.min_recovery_tli);
        word(&mut w, 0);
        long(&mut w, self.backup_start.0);
        long(&mut w, self.backup_end.0);
        word(&mut w, u32::from(self.backup_end_required));
        int(&mut w, self.wal_level);
        word(&mut w, u32::from(self.wal_log_hints));
        int(&mut w, self.max_connections);
        int(&mut w, self.max_worker_processes);
        if !old {
            int(&mut w, self.max_wal_senders.unwrap_or(0));
        }
        int(&mut w, self.max_prepared_xacts);
        int(&mut w, self.max_locks_per_xact);
        word(&mut w, u32::from(self.track_commit_timestamp));
        word(&mut w, self.max_align);
        if old {
            word(&mut w, 0);
        }
        long(&mut w, self.float_format.to_bits());
        for v in [
            self.blcksz,
            self.relseg_size,
            self.xlog_blcksz,
            self.xlog_seg_size,
            self.name_data_len,
            self.index_max_keys,
            self.toast_max_chunk_size,
            self.loblksize,
        ] {
            word(&mut w, v);
        }
        if matches!(layout, Layout::V11 | Layout::V12) {
            w.extend_from_slice(&[u8::from(self.float4_by_val.unwrap_or(true)), u8::from(self.float8_by_val), 0, 0]);
        } else {
            word(&mut w, u32::from(self.float8_by_val));
        }
        word(&mut w, self.data_checksum_version);
        w.extend_from_slice(&self.nonce);
        let crc = crc32c::crc32c(&w);
        word(&mut w, crc);
        w.resize(FILE_SIZE, 0);
        w
    }

    /// Size of a WAL segment, when the value is one a server accepts.
    #[must_use]
    pub const fn segment_size(&self) -> Option<SegmentSize> {
        SegmentSize::new(self.xlog_seg_size)
    }

    /// Major version of the server, as far as the control file tells: 15 stands for 13 to 16.
    #[must_use]
    pub const fn major_hint(&self) -> u32 {
        match self.pg_control_version {
            1100 => 11,
            1201 => 12,
            1700 => 17,
            _ => match self.catalog_version / 10_000 {
                0..=20_2005 => 12,
                20_2006..=20_2009 => 13,
                20_2010..=20_2110 => 14,
                20_2111..=20_2211 => 15,
                20_2212..=20_2311 => 16,
                _ => 15,
            },
        }
    }

    /// Values no server writes, as (field, value); a file whose checksum agrees should have none.
    #[must_use]
    pub fn implausible(&self) -> Vec<(&'static str, String)> {
        let mut odd = Vec::new();
        let mut want = |ok: bool, field: &'static str, value: String| {
            if !ok {
                odd.push((field, value));
            }
        };
        want(self.state.0 <= 6, "state", self.state.0.to_string());
        want(self.segment_size().is_some(), "xlog_seg_size", self.xlog_seg_size.to_string());
        want(self.blcksz.is_power_of_two() && self.blcksz <= 32_768, "blcksz", self.blcksz.to_string());
        want(self.xlog_blcksz.is_power_of_two(), "xlog_blcksz", self.xlog_blcksz.to_string());
        want(self.float_format.to_bits() == FLOAT_FORMAT.to_bits(), "floatFormat", self.float_format.to_string());
        want(self.checkpoint_copy.redo <= self.checkpoint, "redo", self.checkpoint_copy.redo.to_string());
        odd
    }
}

/// Looks for one flipped bit among the checksummed bytes and the checksum; the answer is unique where there is one.
///
/// CRC-32C detects every error of up to three bits in so few bytes, so two different single-bit corrections cannot both agree.
#[must_use]
pub fn correct_one_bit(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut work = bytes.to_vec();
    for layout in [Layout::V13, Layout::V11] {
        let crc_at = crc_place(layout);
        if work.len() < crc_at + 4 {
            continue;
        }
        for bit in 0..(crc_at + 4) * 8 {
            flip(&mut work, bit);
            let version_fits = layout_of(le32(&work, 8)).is_some_and(|l| crc_place(l) == crc_at);
            if version_fits && sum(&work, crc_at) == Some(le32(&work, crc_at)) {
                return Some((bit, work));
            }
            flip(&mut work, bit);
        }
    }
    None
}

fn flip(bytes: &mut [u8], bit: usize) {
    if let Some(b) = bytes.get_mut(bit / 8) {
        *b ^= 1 << (bit % 8);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::super::put;
    use super::*;

    fn sample(version: u32) -> ControlFile {
        let layout = layout_of(version).unwrap();
        let mut bytes = vec![0; FILE_SIZE];
        put(&mut bytes, 8, &version.to_le_bytes());
        let mut c = fields(&mut Cursor::new(&bytes, 0), layout).unwrap();
        c.system_identifier = 7_710_754_561_611_930_707;
        c.xlog_seg_size = 1 << 30;
        c.relseg_size = 16_777_216;
        c.float_format = FLOAT_FORMAT;
        c.blcksz = 8192;
        c.xlog_blcksz = 8192;
        c.max_connections = 1000;
        c.checkpoint = Lsn(0x485f_0700);
        c
    }

    #[test]
    fn every_version_comes_back_and_its_crc_stands_where_upstream_puts_it() {
        for (version, at) in [(1100, 280), (1201, 288), (1300, 288), (1700, 288)] {
            let control = sample(version);
            let bytes = control.encode(layout_of(version).unwrap());
            let found = decode(&bytes).unwrap();
            assert_eq!((found.crc_at, found.crc_ok()), (at, true));
            assert_eq!(found.control, control);
            let short = decode(&bytes[..at + 4]).unwrap();
            assert!(short.crc_ok());
            assert!(decode(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn other_releases_are_refused_by_name_and_not_taken_for_damage() {
        let mut bytes = sample(1300).encode(Layout::V13);
        put(&mut bytes, 8, &1800u32.to_le_bytes());
        assert_eq!(decode(&bytes), Err(ControlError::Version(1800)));
        let crc = crc32c::crc32c(&bytes[..288]);
        put(&mut bytes, 288, &crc.to_le_bytes());
        assert_eq!(decode(&bytes), Err(ControlError::Unsupported(1800, "18")));
        assert_eq!(correct_one_bit(&bytes), None);
    }

    #[test]
    fn one_flipped_bit_is_found_again() {
        for version in [1100, 1300] {
            let good = sample(version).encode(layout_of(version).unwrap());
            for bit in (0..280 * 8).step_by(37) {
                let mut bad = good.clone();
                flip(&mut bad, bit);
                let (at, healed) = correct_one_bit(&bad).unwrap();
                assert_eq!((at, &healed), (bit, &good));
            }
            let mut two = good.clone();
            flip(&mut two, 5);
            flip(&mut two, 999);
            assert_eq!(correct_one_bit(&two), None);
        }
    }
}
