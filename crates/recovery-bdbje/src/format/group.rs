//! Records of the group database `_jeRepGroupDB` (`rep/impl/RepGroupDB`).
//!
//! Key `$$GROUP_KEY$$` + `00`: name, UUID (two tuple longs), format version, change version, node id sequence (tuple
//! ints), lowest JE version (string). Every other key is a node's name + `00`: name, id, format version byte, type
//! byte, acknowledged by a quorum, removed, host, port, VLSN of the local checkpoint, barrier time, change version, JE
//! version. Where the format version byte is 1 or less, the old layout is meant: that byte is the type, and no version
//! string follows.

use recovery_core::Cursor;
use serde::Serialize;

use super::{FormatError, Result, packed};

/// Key of the group's own record.
pub const GROUP_KEY: &[u8] = b"$$GROUP_KEY$$\0";
/// Name of the database.
pub const GROUP_DB: &str = "_jeRepGroupDB";
/// Id of the database wherever it was created first.
pub const GROUP_DB_ID: i64 = -257;

/// The group's own record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupRecord {
    /// Name of the group.
    pub name: String,
    /// Identity of the group.
    pub uuid: [u64; 2],
    /// Format version.
    pub format: i32,
    /// How often it was changed.
    pub change: i32,
    /// Highest node id given out.
    pub sequence: i32,
    /// Lowest JE version that may join; absent in the old layout.
    pub min_je: Option<String>,
}

impl GroupRecord {
    /// Reads the record.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn decode(data: &[u8]) -> Result<Self> {
        let mut c = Cursor::new(data, 0);
        let c = &mut c;
        let name = string(c, "group name")?;
        let mut half = |f| packed::tuple_long(c, f).map(i64::cast_unsigned);
        let uuid = [half("UUID")?, half("UUID")?];
        let format = packed::tuple_int(c, "format version")?;
        let change = packed::tuple_int(c, "change version")?;
        let sequence = packed::tuple_int(c, "node id sequence")?;
        let min_je = if c.is_empty() { None } else { packed::tuple_string(c, "lowest JE version")? };
        finish(c)?;
        Ok(Self { name, uuid, format, change, sequence, min_je })
    }

    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        packed::put_tuple_string(&mut out, &self.name);
        for half in self.uuid {
            packed::put_tuple_long(&mut out, half.cast_signed());
        }
        for v in [self.format, self.change, self.sequence] {
            packed::put_tuple_int(&mut out, v);
        }
        if let Some(v) = &self.min_je {
            packed::put_tuple_string(&mut out, v);
        }
        out
    }

    /// The UUID as JE prints it.
    #[must_use]
    pub fn uuid_text(&self) -> String {
        uuid_text(self.uuid)
    }
}

/// A UUID in its usual form.
#[must_use]
pub fn uuid_text([a, b]: [u64; 2]) -> String {
    let (p, q, r) = (a >> 32, (a >> 16) & 0xffff, a & 0xffff);
    format!("{p:08x}-{q:04x}-{r:04x}-{:04x}-{:012x}", b >> 48, b & 0xffff_ffff_ffff)
}

/// Kind of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum NodeType {
    /// Watches only.
    Monitor,
    /// May become master.
    Electable,
    /// Receives the stream; never stored in the group database.
    Secondary,
    /// Votes only.
    Arbiter,
    /// Receives the stream for another system.
    External,
    /// A number the format does not know.
    Unknown,
}

impl NodeType {
    const fn from_byte(b: u8) -> Self {
        match b {
            0 => Self::Monitor,
            1 => Self::Electable,
            2 => Self::Secondary,
            3 => Self::Arbiter,
            4 => Self::External,
            _ => Self::Unknown,
        }
    }

    const fn to_byte(self) -> u8 {
        match self {
            Self::Monitor => 0,
            Self::Electable => 1,
            Self::Secondary => 2,
            Self::Arbiter => 3,
            Self::External => 4,
            Self::Unknown => 0x7f,
        }
    }
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeRecord {
    /// Name.
    pub name: String,
    /// Id, never used again.
    pub id: i32,
    /// Format version; 1 or less is the old layout.
    pub format: u8,
    /// Kind.
    #[serde(rename = "type")]
    pub kind: NodeType,
    /// A quorum knows of it.
    pub quorum_ack: bool,
    /// Removed from the group.
    pub removed: bool,
    /// Host.
    pub host: String,
    /// Port.
    pub port: i32,
    /// VLSN up to which the node had checkpointed.
    pub cbvlsn: i64,
    /// ms since the epoch.
    pub barrier_time: i64,
    /// Change version of the group at which it was written.
    pub change: i32,
    /// JE version of the node; absent in the old layout.
    pub je_version: Option<String>,
}

impl NodeRecord {
    /// Reads the record.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn decode(data: &[u8]) -> Result<Self> {
        let mut c = Cursor::new(data, 0);
        let c = &mut c;
        let name = string(c, "node name")?;
        let id = packed::tuple_int(c, "node id")?;
        let format = c.u8("format version")? ^ 0x80;
        let kind = if format.cast_signed() > 1 { c.u8("node type")? ^ 0x80 } else { format };
        let (quorum_ack, removed) = (c.u8("quorum acknowledged")? != 0, c.u8("removed")? != 0);
        let host = string(c, "host")?;
        let port = packed::tuple_int(c, "port")?;
        let cbvlsn = packed::tuple_long(c, "CBVLSN")?;
        let barrier_time = packed::tuple_long(c, "barrier time")?;
        let change = packed::tuple_int(c, "change version")?;
        let je_version = if c.is_empty() { None } else { packed::tuple_string(c, "JE version")? };
        finish(c)?;
        let kind = NodeType::from_byte(kind);
        Ok(Self { name, id, format, kind, quorum_ack, removed, host, port, cbvlsn, barrier_time, change, je_version })
    }

    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        packed::put_tuple_string(&mut out, &self.name);
        packed::put_tuple_int(&mut out, self.id);
        out.push(self.format ^ 0x80);
        if self.format.cast_signed() > 1 {
            out.push(self.kind.to_byte() ^ 0x80);
        }
        out.extend_from_slice(&[u8::from(self.quorum_ack), u8::from(self.removed)]);
        packed::put_tuple_string(&mut out, &self.host);
        packed::put_tuple_int(&mut out, self.port);
        packed::put_tuple_long(&mut out, self.cbvlsn);
        packed::put_tuple_long(&mut out, self.barrier_time);
        packed::put_tuple_int(&mut out, self.change);
        if let Some(v) = &self.je_version {
            packed::put_tuple_string(&mut out, v);
        }
        out
    }
}

fn string(c: &mut Cursor<'_>, field: &'static str) -> Result<String> {
    Ok(packed::tuple_string(c, field)?.unwrap_or_default())
}

fn finish(c: &Cursor<'_>) -> Result<()> {
    if c.is_empty() { Ok(()) } else { Err(FormatError::Leftover { at: c.offset(), left: c.remaining() as u64 }) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_group_record_comes_back() {
        let hex = "50414c4f5f4a4f55524e414c5f47524f5550006997f95c90c846480a0b45cd5c6a6b85800000038000000080000003362e302e3100";
        let data: Vec<u8> =
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
        let g = GroupRecord::decode(&data).unwrap();
        assert_eq!((g.name.as_str(), g.format, g.change, g.sequence), ("PALO_JOURNAL_GROUP", 3, 0, 3));
        assert_eq!(g.min_je.as_deref(), Some("6.0.1"));
        assert_eq!(g.encode(), data);
    }
}
