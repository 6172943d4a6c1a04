//! What can happen to files.

use std::fmt;
use std::sync::Arc;

use recovery_core::{Fault, FaultySource, MemSource, Source};

/// What happens to a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectorFault {
    /// All zero.
    Zeroed,
    /// All 0xff.
    Filled,
    /// Replaced by the sector before it: a write that went to the wrong place.
    Swapped,
    /// Cannot be read.
    Unreadable,
}

/// What happens to a whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFault {
    /// It is gone.
    Missing,
    /// It is there without a byte.
    Empty,
    /// It has another name.
    Renamed,
    /// It cannot be opened.
    CannotOpen,
    /// It ends half-way when it is read, although the listing shows its full length.
    Shrinking,
    /// A stranger lies beside it.
    Extra,
}

/// One thing that happened to a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// One bit changed.
    Flip {
        /// File.
        object: String,
        /// Byte.
        offset: u64,
        /// Bit, 0 to 7.
        bit: u8,
    },
    /// The file ends early.
    Cut {
        /// File.
        object: String,
        /// Its new length.
        len: u64,
    },
    /// A sector went bad.
    Sector {
        /// File.
        object: String,
        /// First byte.
        offset: u64,
        /// Size.
        size: u64,
        /// What happened to it.
        fault: SectorFault,
    },
    /// A whole file went bad.
    File {
        /// File.
        object: String,
        /// What happened to it.
        fault: FileFault,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flip { object, offset, bit } => write!(f, "{object}: bit {bit} of byte {offset:#x} flipped"),
            Self::Cut { object, len } => write!(f, "{object}: cut at {len:#x}"),
            Self::Sector { object, offset, size, fault } => {
                write!(f, "{object}: sector of {size} at {offset:#x} {fault:?}")
            }
            Self::File { object, fault } => write!(f, "{object}: {fault:?}"),
        }
    }
}

impl Damage {
    /// The file it happened to.
    #[must_use]
    pub fn object(&self) -> &str {
        match self {
            Self::Flip { object, .. } | Self::Cut { object, .. } => object,
            Self::Sector { object, .. } | Self::File { object, .. } => object,
        }
    }

    /// The source after the damage, and the bytes that changed; `None` when nothing changed.
    #[must_use]
    pub fn apply(&self, clean: &MemSource) -> Option<(Arc<dyn Source>, std::ops::Range<u64>)> {
        let data = clean.files().get(self.object())?;
        let len = data.len() as u64;
        let mut source = clean.clone();
        match self {
            Self::Flip { object, offset, bit } => {
                let mut bytes = data.to_vec();
                *bytes.get_mut(usize::try_from(*offset).ok()?)? ^= 1 << bit;
                source.insert(object.as_str(), bytes);
                Some((Arc::new(source), *offset..offset.saturating_add(1)))
            }
            Self::Cut { object, len: at } => {
                source.insert(object.as_str(), data.get(..usize::try_from(*at).ok()?)?.to_vec());
                Some((Arc::new(source), *at..len))
            }
            Self::Sector { object, offset, size, fault } => {
                sector(&source, object, *offset..offset.saturating_add(*size).min(len), *fault)
            }
            Self::File { object, fault } => Some((whole_file(source, object, *fault), 0..len)),
        }
    }
}

fn sector(
    clean: &MemSource,
    object: &str,
    range: std::ops::Range<u64>,
    fault: SectorFault,
) -> Option<(Arc<dyn Source>, std::ops::Range<u64>)> {
    let data = clean.files().get(object)?;
    let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
    if fault == SectorFault::Unreadable {
        let faulty = FaultySource::new(Arc::new(clean.clone()));
        return Some((Arc::new(faulty.with(object, Fault::Unreadable(range.clone()))), range));
    }
    let mut bytes = data.to_vec();
    let before = start.checked_sub(end.checked_sub(start)?).and_then(|s| data.get(s..start)).map(<[u8]>::to_vec);
    let place = bytes.get_mut(start..end)?;
    match (fault, before) {
        (SectorFault::Zeroed | SectorFault::Unreadable, _) => place.fill(0),
        (SectorFault::Filled, _) => place.fill(0xff),
        (SectorFault::Swapped, Some(before)) => place.copy_from_slice(&before),
        (SectorFault::Swapped, None) => return None,
    }
    if bytes == data.as_ref() {
        return None;
    }
    let mut source = clean.clone();
    source.insert(object, bytes);
    Some((Arc::new(source), range))
}

fn whole_file(mut source: MemSource, object: &str, fault: FileFault) -> Arc<dyn Source> {
    let data = source.files().get(object).cloned().unwrap_or_default();
    match fault {
        FileFault::Missing => drop(source.remove(object)),
        FileFault::Empty => source.insert(object, Vec::new()),
        FileFault::Renamed => {
            source.remove(object);
            source.insert(format!("{object}.renamed"), data);
        }
        FileFault::Extra => source.insert(format!("{object}.stranger\n\u{1b}[2J"), b"not of this engine".to_vec()),
        FileFault::CannotOpen => {
            return Arc::new(FaultySource::new(Arc::new(source)).with(object, Fault::CannotOpen));
        }
        FileFault::Shrinking => {
            let half = data.len() as u64 / 2;
            return Arc::new(FaultySource::new(Arc::new(source)).with(object, Fault::Shrinks(half)));
        }
    }
    Arc::new(source)
}
