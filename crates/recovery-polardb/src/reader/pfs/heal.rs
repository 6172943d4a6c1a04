//! Objects that are damaged in place: the newest image that the journal still holds, the correction
//! of one bit, the layout that `mkfs` makes. In this order of trust.

use std::collections::BTreeMap;

use recovery_core::parallel;
use recovery_core::{Context, Result};

use super::device::Device;
use super::metadata::{ChunkState, Metadata, Origin};
use super::replay::Live;
use super::ring::{Part, Ring, Slot};
use crate::format::pfs::object::{
    BlockTag, Direntry, Inode, InodeKind, Kind, NAME_FIELD, Object, ObjectFault, Payload,
};
use crate::format::pfs::{BLOCK, JOURNAL_INO, NONE, PAXOS_INO, ROOT_INO, block_of_tag, tag_of_block};

/// What healing had at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Healed {
    /// The ring goes back to the first entry ever written, without gaps.
    pub(super) whole_history: bool,
    /// Entries of the history that are damaged or missing.
    pub(super) gaps: u64,
    /// The history was read.
    pub(super) searched: bool,
}

/// Mends what can be mended. `head` is the last entry that counts: its slot and log sequence number.
pub(super) fn run(
    device: &Device,
    ring: &Ring,
    head: Option<(u64, u64)>,
    metadata: &mut Metadata,
    chunks: u64,
    cx: &Context,
) -> Result<Healed> {
    if !metadata.needs_healing() {
        return Ok(Healed::default());
    }
    let mut healed = Healed::default();
    if let Some((slot, lsn)) = head {
        healed = from_history(device, ring, slot, lsn, metadata, chunks, cx)?;
    }
    from_correction(metadata);
    from_layout(ring, metadata, chunks, healed.whole_history);
    doubtful(metadata);
    Ok(healed)
}

/// Mends what needs no later history: one wrong bit, and what `mkfs` makes.
pub(super) fn without_history(ring: &Ring, metadata: &mut Metadata, chunks: u64, whole_history: bool) {
    from_correction(metadata);
    from_layout(ring, metadata, chunks, whole_history);
    doubtful(metadata);
}

type Images = BTreeMap<(Kind, u64), (u64, Object)>;

fn wanted(part: Part, device: &Device, lsn: u64, metadata: &Metadata, chunks: u64) -> (Images, u64, Option<u64>) {
    let (mut images, mut bad, mut oldest) = (Images::new(), 0u64, None);
    for slot in part.slots(device, |i| lsn.checked_add(i)) {
        let (Slot::Good(entry) | Slot::Corrected(entry, _)) = slot else {
            bad = bad.saturating_add(1);
            continue;
        };
        oldest = oldest.or(Some(entry.lsn));
        let Some(kind) = entry.object.kind() else { continue };
        let number = entry.object.number();
        if kind.chunk(number) < chunks && metadata.is_unknown(kind, number) {
            images.insert((kind, number), (entry.lsn, entry.object));
        }
    }
    (images, bad, oldest)
}

/// The history is everything whose log sequence number fits its distance from the head.
fn history(ring: &Ring, slot: u64, lsn: u64) -> Live {
    let slots = ring.slots();
    let count = slots.min(lsn);
    let back = count.saturating_sub(1);
    let first = slot.saturating_add(slots).saturating_sub(back).checked_rem(slots).unwrap_or(0);
    Live { slot: first, count, lsn: lsn.saturating_sub(back) }
}

fn from_history(
    device: &Device,
    ring: &Ring,
    slot: u64,
    lsn: u64,
    metadata: &mut Metadata,
    chunks: u64,
    cx: &Context,
) -> Result<Healed> {
    let live = history(ring, slot, lsn);
    let mut next = live.lsn;
    let parts: Vec<(Part, u64)> = ring
        .parts(live.slot, live.count)
        .map(|part| {
            let first = next;
            next = next.saturating_add(part.count);
            (part, first)
        })
        .collect();
    let (mut images, mut bad, mut oldest) = (Images::new(), 0u64, None::<u64>);
    let known = &*metadata;
    let work = |(part, first): (Part, u64)| wanted(part, device, first, known, chunks);
    parallel::stream(cx, parts.into_iter(), cx.limits.threads.saturating_mul(2), work, |(newer, faults, first)| {
        images.extend(newer);
        oldest = oldest.or(first);
        bad = bad.saturating_add(faults);
        Ok(())
    })?;
    for ((kind, _), (lsn, object)) in images {
        metadata.apply(kind, &object, Origin::History { lsn });
    }
    // Places before the oldest entry were never written, or hold leftovers: they are no gaps.
    let before = oldest.map_or(live.count, |o| o.saturating_sub(live.lsn));
    let gaps = bad.saturating_sub(before.min(bad));
    Ok(Healed { whole_history: oldest == Some(1) && gaps == 0, gaps, searched: true })
}

fn from_correction(metadata: &mut Metadata) {
    for kind in Kind::ALL {
        let table = metadata.table(kind);
        let fixed: Vec<_> = table
            .bad
            .iter()
            .filter(|(_, bad)| bad.healed.is_none() && matches!(bad.fault, ObjectFault::Checksum { .. }))
            .filter_map(|(number, bad)| bad.object.correct(kind, *number))
            .collect();
        for (object, bit) in fixed {
            metadata.apply(kind, &object, Origin::Corrected { bit });
        }
    }
}

/// Objects that `mkfs` makes and that never change afterwards; with the whole history at hand, every
/// object that it does not mention.
fn from_layout(ring: &Ring, metadata: &mut Metadata, chunks: u64, whole_history: bool) {
    let mut made = Vec::new();
    for chunk in 0..chunks.min(1 << 20) {
        let touched = metadata.without.contains_key(&chunk);
        if touched {
            made.push((Kind::BlockTag, reserved_tag(chunk)));
        }
    }
    made.extend(fixed_objects(ring));
    for (kind, object) in made {
        if metadata.is_unknown(kind, object.number()) {
            metadata.apply(kind, &object, Origin::Layout);
        }
    }
    for kind in Kind::ALL {
        let open: Vec<u64> =
            metadata.table(kind).bad.iter().filter(|(_, b)| b.healed.is_none()).map(|(n, _)| *n).collect();
        for number in open {
            if kind == Kind::BlockTag && kind.index(number) == 0 {
                metadata.apply(kind, &reserved_tag(kind.chunk(number)), Origin::Layout);
            } else if whole_history {
                metadata.apply(kind, &Object::free(kind, number), Origin::Layout);
            }
        }
    }
    if whole_history {
        metadata.without.retain(|_, state| *state == ChunkState::Missing);
    }
}

fn reserved_tag(chunk: u64) -> Object {
    Object::new(&Payload::BlockTag(BlockTag::default()), Kind::BlockTag.number(chunk, 0), true, 0, 0)
}

fn fixed_objects(ring: &Ring) -> Vec<(Kind, Object)> {
    let entry = |number: u64, name: &[u8], ino: u64, dirino: u64, next: u64, prev: u64| {
        let mut field = [0; NAME_FIELD];
        field.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
        let payload = Payload::Direntry(Direntry { name: field, ino, dirino, extdeno: 0 });
        (Kind::Direntry, Object::new(&payload, number, true, next, prev))
    };
    let tag = |block: u64, ino: u64, blkid: u64, next: u64, prev: u64| {
        let payload = Payload::BlockTag(BlockTag { ino, blkid, ..BlockTag::default() });
        (Kind::BlockTag, Object::new(&payload, tag_of_block(block), true, next, prev))
    };
    let inode = |ino: u64, deno: u64, nblock: u64, size: u64, head: u64, tail: u64| {
        let inode = Inode { kind: InodeKind::File, deno, nlink: 1, nblock, size, ..Inode::default() };
        (Kind::Inode, Object::new(&Payload::Inode(inode), ino, true, head, tail))
    };
    let blocks: Vec<u64> = (0..ring.size.div_ceil(BLOCK).min(1 << 20)).filter_map(|i| ring.block(i)).collect();
    let number = |i: Option<usize>| i.and_then(|i| blocks.get(i)).map_or(0, |b| tag_of_block(*b));
    let mut out = vec![
        entry(0, b"", ROOT_INO, NONE, 0, 0),
        entry(1, b".pfs-paxos", PAXOS_INO, ROOT_INO, 2, 0),
        entry(2, b".pfs-journal", JOURNAL_INO, ROOT_INO, 0, 1),
        tag(1, PAXOS_INO, 0, 0, 0),
        inode(PAXOS_INO, 1, 1, BLOCK, 1, 1),
    ];
    let last = number(blocks.len().checked_sub(1));
    out.push(inode(JOURNAL_INO, 2, blocks.len() as u64, ring.size, number(Some(0)), last));
    for (i, block) in blocks.iter().enumerate() {
        let (next, prev) = (number(i.checked_add(1)), number(i.checked_sub(1)));
        out.push(tag(*block, JOURNAL_INO, i as u64, next, prev));
    }
    out
}

/// What is left is taken as it stands when it could be the object of its place, and marked.
fn doubtful(metadata: &mut Metadata) {
    for kind in Kind::ALL {
        let plausible = |number: u64, object: &Object| {
            let sane = object.kind() == Some(kind) && object.number() == number && object.used();
            sane && (kind != Kind::BlockTag || block_of_tag(number) > 0)
        };
        let table = metadata.table_mut(kind);
        let open: Vec<_> = table
            .bad
            .iter()
            .filter(|(n, b)| b.healed.is_none() && plausible(**n, &b.object))
            .map(|(_, b)| b.object)
            .collect();
        for object in open {
            let held = super::metadata::Held { object, origin: Origin::Doubtful };
            table.used.insert(object.number(), held);
        }
    }
}
