//! Storage classes: the sections `LABS` (up to 0x15) and `SCLA` (0x16 and later).
//!
//! ```text
//! before 0x16  26 label descriptions (u8 length, text)
//! 0x11..0x16   u8 groups of masks (4); 0x10 has one
//!   0x10 0x11 0x13   u16 id, u8 keep
//!   0x12             u16 id, u8 keep, u32 chunks, u32 -; behind the masks chunks * 8 bytes
//!   0x14             u16 id, u8 mode, u8 create, u8 keep
//!   0x15             u16 id, u8 mode, u16 delay (days), u8 create, u8 keep, u8 archive
//!   0x16             u16 id, u8 name length, u8 admin, u8 mode, u16 delay, u8 create, u8 keep, u8 archive, name
//!   then (create + keep + archive) * groups * u32 masks; end: the fixed part as zeros
//! 0x17..0x1C   u16 expression size, u8 ec version; u16 id (0 ends), then
//!   u8 name length, [0x1C: u8 description length, u32 priority, u8 export group], u8 admin, u8 labels mode,
//!   [0x18: u8 archive mode], u16 delay (hours), [0x1A: u64 min size], u16 min retention (hours),
//!   create u8 count, u32 unique mask, [0x1B: u8 labels mode]; keep the same;
//!   archive u8 count, u8 ec, u32 unique mask, [0x1B: u8 labels mode]; trash the same; name, description, expressions
//! ```
//! Source: upstream `storageclass.c` (`sclass_store`, `sclass_load`), 3.0.117 and 4.59.2.

use recovery_core::Cursor;

use super::{DecodeError, Decoded, Put, narrow};

/// Size of a label expression that the 4.x products write.
pub const EXPRESSION: usize = 128;
/// Labels mode "as the whole system".
pub const MODE_GLOBAL: u8 = 0xFF;
/// Most labels of one mode.
pub const MAX_LABELS: usize = 9;

/// Where copies go in one state of a file (4.x).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageMode {
    /// Data parts in the high, checksum parts in the low four bits; 0 is plain copies.
    pub ec: u8,
    /// Unique mask.
    pub unique: u32,
    /// Labels mode.
    pub labels_mode: u8,
    /// Label expressions.
    pub labels: Vec<Vec<u8>>,
}

impl StorageMode {
    /// Whether any expression asks for more than any server.
    #[must_use]
    pub fn has_labels(&self) -> bool {
        self.unique != 0 || self.labels.iter().any(|e| !matches!(e.as_slice(), [] | [0, ..] | [0xFF, 0, ..] | [0xFF]))
    }

    fn padded(&self, size: usize, out: &mut Vec<u8>) {
        for e in &self.labels {
            let end = out.len().saturating_add(size);
            out.extend_from_slice(e.get(..e.len().min(size)).unwrap_or_default());
            out.resize(end, 0);
        }
    }
}

/// What a storage class demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rules {
    /// 3.x: label masks, in groups, for creating, keeping and archiving.
    Masks {
        /// Masks while creating.
        create: Vec<[u32; 4]>,
        /// Masks while kept.
        keep: Vec<[u32; 4]>,
        /// Masks when archived.
        archive: Vec<[u32; 4]>,
        /// Per-class list of the old version 0x12, kept as it is.
        chunks: Vec<u8>,
    },
    /// 4.x: label expressions.
    Expressions {
        /// Create, keep, archive, trash.
        modes: Box<[StorageMode; 4]>,
        /// Description.
        description: Vec<u8>,
        /// Priority when a chunk belongs to several classes.
        priority: u32,
        /// Export group.
        group: u8,
        /// When a file is archived.
        archive_mode: u8,
        /// Smallest file that is archived.
        min_size: u64,
        /// Least trash retention in hours.
        min_retention: u16,
    },
}

/// A storage class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Identifier.
    pub id: u16,
    /// Name; empty where the version stores none.
    pub name: Vec<u8>,
    /// Whether only administrators may use it.
    pub admin: u8,
    /// Mode of the class: strict, standard or loose about labels.
    pub mode: u8,
    /// Archive delay: days in 3.x, hours in 4.x.
    pub delay: u16,
    /// The rest.
    pub rules: Rules,
}

/// A whole section of storage classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassTable {
    /// Label descriptions of versions before 0x16, raw.
    pub descriptions: Vec<u8>,
    /// Groups of masks (3.x), or expression size (4.x).
    pub width: u16,
    /// Erasure coding level (4.x).
    pub ec_version: u8,
    /// The classes in file order.
    pub classes: Vec<Class>,
}

fn fixed_expressions(version: u8) -> usize {
    match version {
        0..=0x17 => 29,
        0x18 | 0x19 => 30,
        0x1A => 38,
        0x1B => 42,
        _ => 48,
    }
}

fn fixed_masks(version: u8) -> usize {
    match version {
        0x12 => 11,
        0..=0x13 => 3,
        0x14 => 5,
        0x15 => 8,
        _ => 10,
    }
}

impl ClassTable {
    /// Reads the payload of a section.
    ///
    /// # Errors
    ///
    /// When the bytes are too few or counts are beyond what the format allows.
    pub fn decode(c: &mut Cursor<'_>, version: u8) -> Decoded<Self> {
        let start = c.rest();
        if version < 0x16 {
            for _ in 0..26 {
                let n = c.u8("label description length")?;
                c.skip(usize::from(n), "label description")?;
            }
        }
        let descriptions = start.get(..start.len().saturating_sub(c.remaining())).unwrap_or_default().to_vec();
        if version >= 0x17 {
            let width = c.u16_be("label expression size")?;
            let ec_version = c.u8("ec version")?;
            let mut table = Self { descriptions, width, ec_version, classes: Vec::new() };
            loop {
                let id = c.u16_be("class id")?;
                if id == 0 {
                    return Ok(table);
                }
                table.classes.push(Self::expressions(c, id, version, usize::from(width))?);
            }
        }
        let width = if version == 0x10 { 1 } else { u16::from(c.u8("mask groups")?) };
        if width == 0 || width > 4 {
            let at = c.offset().saturating_sub(1);
            return Err(DecodeError::Value { what: "mask groups", at, found: u64::from(width), expected: "1 to 4" });
        }
        let mut table = Self { descriptions, width, ec_version: 0, classes: Vec::new() };
        while let Some(class) = Self::masks(c, version, usize::from(width))? {
            table.classes.push(class);
        }
        Ok(table)
    }

    fn masks(c: &mut Cursor<'_>, version: u8, groups: usize) -> Decoded<Option<Class>> {
        let head = c.take(fixed_masks(version), "class")?;
        if head.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        let mut h = Cursor::new(head, c.offset());
        let id = h.u16_be("class id")?;
        let (mut name, mut admin, mut mode, mut delay, mut chunks) = (0u8, 0, 1, 0, 0u32);
        let counts = match version {
            0..=0x13 => {
                let keep = h.u8("keep count")?;
                if version == 0x12 {
                    chunks = h.u32_be("chunk count")?;
                }
                [0, keep, 0]
            }
            0x14 => {
                mode = h.u8("class mode")?;
                [h.u8("create count")?, h.u8("keep count")?, 0]
            }
            _ => {
                if version >= 0x16 {
                    name = h.u8("class name length")?;
                    admin = h.u8("class admin")?;
                }
                mode = h.u8("class mode")?;
                delay = h.u16_be("archive delay")?;
                [h.u8("create count")?, h.u8("keep count")?, h.u8("archive count")?]
            }
        };
        let name = c.take(usize::from(name), "class name")?.to_vec();
        let mut lists = [Vec::new(), Vec::new(), Vec::new()];
        for (list, n) in lists.iter_mut().zip(counts) {
            if usize::from(n) > MAX_LABELS {
                let at = c.offset();
                return Err(DecodeError::Value { what: "label count", at, found: u64::from(n), expected: "0 to 9" });
            }
            for _ in 0..n {
                let mut mask = [0u32; 4];
                for m in mask.iter_mut().take(groups) {
                    *m = c.u32_be("label mask")?;
                }
                list.push(mask);
            }
        }
        let chunks = c.take((chunks as usize).saturating_mul(8), "class chunks")?.to_vec();
        let [create, keep, archive] = lists;
        Ok(Some(Class { id, name, admin, mode, delay, rules: Rules::Masks { create, keep, archive, chunks } }))
    }

    fn expressions(c: &mut Cursor<'_>, id: u16, version: u8, size: usize) -> Decoded<Class> {
        let at = c.offset();
        let mut h = Cursor::new(c.take(fixed_expressions(version), "class")?, at);
        let name = h.u8("class name length")?;
        let (mut dleng, mut priority, mut group) = (0, 0, if id < 10 { u8::try_from(id).unwrap_or(0) } else { 0 });
        if version >= 0x1C {
            dleng = h.u8("class description length")?;
            priority = h.u32_be("class priority")?;
            group = h.u8("export group")?;
        }
        let admin = h.u8("class admin")?;
        let mode = h.u8("labels mode")?;
        let archive_mode = if version >= 0x18 { h.u8("archive mode")? } else { 1 };
        let delay = h.u16_be("archive delay")?;
        let min_size = if version >= 0x1A { h.u64_be("archive min size")? } else { 0 };
        let min_retention = h.u16_be("min retention")?;
        let mut counts = [0u8; 4];
        let mut modes: [StorageMode; 4] = Default::default();
        for (i, (n, m)) in counts.iter_mut().zip(&mut modes).enumerate() {
            *n = h.u8("label count")?;
            if usize::from(*n) > MAX_LABELS {
                return Err(DecodeError::Value { what: "label count", at, found: u64::from(*n), expected: "0 to 9" });
            }
            m.ec = if i >= 2 { h.u8("ec parts")? } else { 0 };
            m.unique = h.u32_be("unique mask")?;
            m.labels_mode = if version >= 0x1B { h.u8("labels mode")? } else { MODE_GLOBAL };
        }
        let name = c.take(usize::from(name), "class name")?.to_vec();
        let description = c.take(usize::from(dleng), "class description")?.to_vec();
        for (n, m) in counts.iter().zip(&mut modes) {
            for _ in 0..*n {
                m.labels.push(c.take(size, "label expression")?.to_vec());
            }
        }
        let rules = Rules::Expressions {
            modes: Box::new(modes),
            description,
            priority,
            group,
            archive_mode,
            min_size,
            min_retention,
        };
        Ok(Class { id, name, admin, mode, delay, rules })
    }

    /// Appends the payload; `piece` is called with the end of each separately written piece.
    pub fn encode(&self, version: u8, out: &mut Vec<u8>, mut piece: impl FnMut(usize)) {
        out.extend_from_slice(&self.descriptions);
        if version >= 0x17 {
            out.u16(self.width);
            out.u8(self.ec_version);
        } else if version > 0x10 {
            out.u8(narrow(usize::from(self.width), u8::MAX));
        }
        piece(out.len());
        for class in &self.classes {
            class.encode(version, usize::from(self.width), out);
            piece(out.len());
        }
        let end = if version >= 0x17 { 2 } else { fixed_masks(version) };
        out.resize(out.len().saturating_add(end), 0);
        piece(out.len());
    }
}

impl Class {
    fn encode(&self, version: u8, width: usize, out: &mut Vec<u8>) {
        out.u16(self.id);
        match &self.rules {
            Rules::Masks { create, keep, archive, chunks } => {
                let count = |l: &Vec<[u32; 4]>| narrow::<u8>(l.len(), u8::MAX);
                match version {
                    0..=0x13 => {
                        out.u8(count(keep));
                        if version == 0x12 {
                            out.u32(narrow(chunks.len() / 8, u32::MAX));
                            out.u32(0);
                        }
                    }
                    0x14 => {
                        out.u8(self.mode);
                        out.u8(count(create));
                        out.u8(count(keep));
                    }
                    _ => {
                        if version >= 0x16 {
                            out.u8(narrow(self.name.len(), u8::MAX));
                            out.u8(self.admin);
                        }
                        out.u8(self.mode);
                        out.u16(self.delay);
                        out.u8(count(create));
                        out.u8(count(keep));
                        out.u8(count(archive));
                    }
                }
                if version >= 0x16 {
                    out.extend_from_slice(&self.name);
                }
                let (create, archive) = (if version >= 0x14 { create.as_slice() } else { &[] }, archive);
                let archive = if version >= 0x15 { archive.as_slice() } else { &[] };
                for mask in create.iter().chain(keep).chain(archive) {
                    for m in mask.iter().take(width) {
                        out.u32(*m);
                    }
                }
                if version == 0x12 {
                    out.extend_from_slice(chunks);
                }
            }
            Rules::Expressions { modes, description, priority, group, archive_mode, min_size, min_retention } => {
                out.u8(narrow(self.name.len(), u8::MAX));
                if version >= 0x1C {
                    out.u8(narrow(description.len(), u8::MAX));
                    out.u32(*priority);
                    out.u8(*group);
                }
                out.u8(self.admin);
                out.u8(self.mode);
                if version >= 0x18 {
                    out.u8(*archive_mode);
                }
                out.u16(self.delay);
                if version >= 0x1A {
                    out.u64(*min_size);
                }
                out.u16(*min_retention);
                for (i, m) in modes.iter().enumerate() {
                    out.u8(narrow(m.labels.len(), u8::MAX));
                    if i >= 2 {
                        out.u8(m.ec);
                    }
                    out.u32(m.unique);
                    if version >= 0x1B {
                        out.u8(m.labels_mode);
                    }
                }
                out.extend_from_slice(&self.name);
                if version >= 0x1C {
                    out.extend_from_slice(description);
                }
                for m in modes.iter() {
                    m.padded(width, out);
                }
            }
        }
    }
}
