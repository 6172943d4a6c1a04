//! `pg_replslot/NAME/state`: one replication slot.
//!
//! | field | 15 | 11 |
//! |---|---|---|
//! | magic 0x01051CA1, crc, version, length | 0, 4, 8, 12 | same |
//! | name (64 bytes), database, persistency, xmin, catalog_xmin, restart_lsn | 16, 80, 84, 88, 92, 96 | same |
//! | invalidated_at | 104 | PolarDB 10003: 184 |
//! | confirmed_flush | 112 | 104 |
//! | two_phase_at, two_phase | 120, 128 | |
//! | plugin (64 bytes) | 129 | 112 |
//! | polar_replica_apply_lsn | PolarDB: 200 | PolarDB: 176 |
//!
//! The CRC-32C covers the bytes 8 to 16 + length. Lengths: 160 vanilla 11, 168 PolarDB 11 (version 10002), 176
//! PolarDB 11 (10003), 184 vanilla 15, 192 PolarDB 15 (the version stays 2) and PolarDB 17. PolarDB 11 always writes
//! the whole structure of 192 bytes: what lies behind 16 + length is covered by no checksum.
//!
//! Upstream: `ReplicationSlotOnDisk` in `src/backend/replication/slot.c` and `slot.h`.

use recovery_core::{Cursor, Short};
use serde::Serialize;

use super::{Lsn, fixed_name, le32, put};

/// First four bytes of a state file.
pub const MAGIC: u32 = 0x0105_1CA1;

/// Which program's arrangement of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotLayout {
    /// PostgreSQL 11, length 160.
    Vanilla11,
    /// PolarDB 11, version 10002, length 168.
    Polar11Apply,
    /// PolarDB 11, version 10003, length 176.
    Polar11Invalidated,
    /// PostgreSQL 14 to 16, length 184.
    Vanilla15,
    /// PolarDB 15, length 192.
    Polar15,
    /// PostgreSQL 17, length 192 with another version number.
    V17,
}

impl SlotLayout {
    /// Length as stored: the bytes behind the first 16.
    #[must_use]
    pub const fn length(self) -> u32 {
        match self {
            Self::Vanilla11 => 160,
            Self::Polar11Apply => 168,
            Self::Polar11Invalidated => 176,
            Self::Vanilla15 => 184,
            Self::Polar15 | Self::V17 => 192,
        }
    }

    /// Version number as stored.
    #[must_use]
    pub const fn version(self) -> u32 {
        match self {
            Self::Polar11Apply => 10_002,
            Self::Polar11Invalidated => 10_003,
            Self::Vanilla11 | Self::Vanilla15 | Self::Polar15 => 2,
            Self::V17 => 5,
        }
    }

    const fn of(version: u32, length: u32) -> Option<Self> {
        match (version, length) {
            (2, 160) => Some(Self::Vanilla11),
            (10_002, 168) => Some(Self::Polar11Apply),
            (10_003, 176) => Some(Self::Polar11Invalidated),
            (2 | 3, 184) => Some(Self::Vanilla15),
            (2, 192) => Some(Self::Polar15),
            (_, 192) => Some(Self::V17),
            _ => None,
        }
    }

    const fn old(self) -> bool {
        matches!(self, Self::Vanilla11 | Self::Polar11Apply | Self::Polar11Invalidated)
    }

    const fn apply_at(self) -> Option<usize> {
        match self {
            Self::Polar11Apply | Self::Polar11Invalidated => Some(176),
            Self::Polar15 | Self::V17 => Some(200),
            Self::Vanilla11 | Self::Vanilla15 => None,
        }
    }
}

/// The fields of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// Arrangement it was found in.
    pub layout: SlotLayout,
    /// Name, which must equal that of the directory.
    pub name: String,
    /// Database of a logical slot, 0 for a physical one.
    pub database: u32,
    /// 0 persistent, 1 ephemeral, 2 temporary; the server drops all but 0 at start.
    pub persistency: u32,
    /// Oldest transaction whose rows must be kept, 0 for none.
    pub xmin: u32,
    /// The same for the catalogs.
    pub catalog_xmin: u32,
    /// Oldest WAL the consumer may still ask for.
    pub restart_lsn: Lsn,
    /// Set when the server gave the slot up.
    pub invalidated_at: Lsn,
    /// Up to where a logical consumer has confirmed.
    pub confirmed_flush: Lsn,
    /// Where two-phase decoding was switched on.
    pub two_phase_at: Lsn,
    /// Whether two-phase decoding is on.
    pub two_phase: bool,
    /// Output plugin of a logical slot.
    pub plugin: String,
    /// How far a PolarDB replica had applied; set only for replicas.
    pub apply_lsn: Option<Lsn>,
}

impl Slot {
    /// Whether it feeds a replica or standby, not a logical consumer.
    #[must_use]
    pub const fn physical(&self) -> bool {
        self.database == 0
    }

    /// Whether the apply position shows that a PolarDB replica used it.
    #[must_use]
    pub fn replica(&self) -> bool {
        self.physical() && self.apply_lsn.is_some_and(Lsn::is_set)
    }

    /// Oldest WAL position the slot still holds; `None` when it holds nothing.
    #[must_use]
    pub fn needs(&self) -> Option<Lsn> {
        if self.invalidated_at.is_set() {
            return None;
        }
        let apply = self.apply_lsn.filter(|l| l.is_set());
        let restart = Some(self.restart_lsn).filter(|l| l.is_set());
        match (restart, apply) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        }
    }

    /// The bytes of the state file, checksum set.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let layout = self.layout;
        let length = layout.length();
        let size = if layout.old() && layout != SlotLayout::Vanilla11 { 192 } else { 16 + length as usize };
        let mut b = vec![0; size];
        let name = |field: &str| field.bytes().take(63).collect::<Vec<u8>>();
        put(&mut b, 0, &MAGIC.to_le_bytes());
        put(&mut b, 8, &layout.version().to_le_bytes());
        put(&mut b, 12, &length.to_le_bytes());
        put(&mut b, 16, &name(&self.name));
        for (at, word) in [(80, self.database), (84, self.persistency), (88, self.xmin), (92, self.catalog_xmin)] {
            put(&mut b, at, &word.to_le_bytes());
        }
        put(&mut b, 96, &self.restart_lsn.0.to_le_bytes());
        if layout.old() {
            put(&mut b, 104, &self.confirmed_flush.0.to_le_bytes());
            put(&mut b, 112, &name(&self.plugin));
            if layout == SlotLayout::Polar11Invalidated {
                put(&mut b, 184, &self.invalidated_at.0.to_le_bytes());
            }
        } else {
            put(&mut b, 104, &self.invalidated_at.0.to_le_bytes());
            put(&mut b, 112, &self.confirmed_flush.0.to_le_bytes());
            put(&mut b, 120, &self.two_phase_at.0.to_le_bytes());
            put(&mut b, 128, &[u8::from(self.two_phase)]);
            put(&mut b, 129, &name(&self.plugin));
        }
        if let (Some(at), Some(lsn)) = (layout.apply_at(), self.apply_lsn) {
            put(&mut b, at, &lsn.0.to_le_bytes());
        }
        let crc = crc32c::crc32c(b.get(8..16 + length as usize).unwrap_or_default());
        put(&mut b, 4, &crc.to_le_bytes());
        b
    }
}

/// Why a state file cannot be used; the server panics on each of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// The file ends too early.
    #[error(transparent)]
    Short(#[from] Short),
    /// Not a state file.
    #[error("wrong magic {0:#010x}, expected {MAGIC:#010x}")]
    Magic(u32),
    /// A version and length no known program writes.
    #[error("version {version} with length {length} is not known")]
    Version {
        /// Version as stored.
        version: u32,
        /// Length as stored.
        length: u32,
    },
    /// The bytes changed since they were written.
    #[error("checksum mismatch: stored {stored:#010x}, computed {computed:#010x}")]
    Crc {
        /// In the file.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
}

/// Reads a state file.
///
/// # Errors
///
/// When the server would refuse it.
pub fn decode(bytes: &[u8]) -> Result<Slot, SlotError> {
    let mut c = Cursor::new(bytes, 0);
    let magic = c.u32_le("magic")?;
    if magic != MAGIC {
        return Err(SlotError::Magic(magic));
    }
    let stored = c.u32_le("crc")?;
    let (version, length) = (c.u32_le("version")?, c.u32_le("length")?);
    let layout = SlotLayout::of(version, length).ok_or(SlotError::Version { version, length })?;
    c.skip(length as usize, "slot")?;
    let computed = crc32c::crc32c(bytes.get(8..16 + length as usize).unwrap_or_default());
    if stored != computed {
        return Err(SlotError::Crc { stored, computed });
    }
    Ok(fields(bytes, layout))
}

fn fields(bytes: &[u8], layout: SlotLayout) -> Slot {
    let word = |at| le32(bytes, at);
    let lsn = |at| Lsn(super::le64(bytes, at));
    let name = |at: usize| fixed_name(bytes.get(at..at + 64).unwrap_or_default());
    let old = layout.old();
    let cause = layout == SlotLayout::V17 && word(104) != 0;
    Slot {
        layout,
        name: name(16),
        database: word(80),
        persistency: word(84),
        xmin: word(88),
        catalog_xmin: word(92),
        restart_lsn: lsn(96),
        invalidated_at: match layout {
            SlotLayout::Polar11Invalidated => lsn(184),
            SlotLayout::Vanilla15 | SlotLayout::Polar15 => lsn(104),
            // 17 stores a cause; any cause means that the slot is given up.
            SlotLayout::V17 => {
                if cause {
                    lsn(96)
                } else {
                    Lsn(0)
                }
            }
            SlotLayout::Vanilla11 | SlotLayout::Polar11Apply => Lsn(0),
        },
        confirmed_flush: if old { lsn(104) } else { lsn(112) },
        two_phase_at: if old { Lsn(0) } else { lsn(120) },
        two_phase: !old && bytes.get(128).is_some_and(|&b| b != 0),
        plugin: name(if old { 112 } else { 129 }),
        apply_lsn: layout.apply_at().map(lsn),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn sample(layout: SlotLayout) -> Slot {
        let new = !layout.old();
        Slot {
            layout,
            name: "replica1".into(),
            database: 0,
            persistency: 0,
            xmin: 7,
            catalog_xmin: 8,
            restart_lsn: Lsn(0x300),
            invalidated_at: Lsn(0),
            confirmed_flush: Lsn(0x500),
            two_phase_at: Lsn(if new { 0x600 } else { 0 }),
            two_phase: new,
            plugin: "test_decoding".into(),
            apply_lsn: layout.apply_at().map(|_| Lsn(0x200)),
        }
    }

    #[test]
    fn every_layout_comes_back_and_every_flipped_bit_is_seen() {
        use SlotLayout::{Polar11Apply, Polar11Invalidated, Polar15, V17, Vanilla11, Vanilla15};
        for layout in [Vanilla11, Polar11Apply, Polar11Invalidated, Vanilla15, Polar15, V17] {
            let slot = sample(layout);
            let bytes = slot.encode();
            assert_eq!(decode(&bytes).unwrap(), slot, "{layout:?}");
            assert_eq!(slot.replica(), layout.apply_at().is_some());
            let covered = 16 + layout.length() as usize;
            for bit in 0..covered * 8 {
                let mut bad = bytes.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&bad).is_err(), "{layout:?} bit {bit}");
            }
            for cut in 0..covered {
                assert!(decode(&bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn what_a_slot_still_needs() {
        let mut slot = sample(SlotLayout::Polar15);
        assert_eq!(slot.needs(), Some(Lsn(0x200)));
        slot.apply_lsn = Some(Lsn(0));
        assert_eq!(slot.needs(), Some(Lsn(0x300)));
        slot.invalidated_at = Lsn(1);
        assert_eq!(slot.needs(), None);
    }
}
