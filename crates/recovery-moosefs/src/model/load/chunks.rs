//! The section `CHNK`, and who refers to a chunk.

use super::feed::{Feed, Flow};
use super::outline::Section;
use super::parts::records;
use super::{Issue, IssueKind, LoadError, Loader};
use crate::format::Item;
use crate::format::crc::{Pieces, piece};
use crate::format::small::ChunkRecord;
use crate::model::Model;
use crate::model::chunks::Chunks;

/// Reads the chunks; needs nothing else of the file.
pub(super) fn chunks(
    loader: &mut Loader<'_>,
    s: &Section,
    by_class: bool,
    flat: bool,
) -> Result<(Chunks, u32), LoadError> {
    let mut feed = Feed::new(loader.blob, s.start, s.end);
    let count = usize::try_from(s.size() / ChunkRecord::fixed_size(s.version) as u64).unwrap_or(0);
    let mut out = Chunks::new(count, count as u64, by_class);
    out.next = feed.one("CHNK", |c| Ok(c.u64_be("nextchunkid")?))?;
    let mut pieces = Pieces::default();
    pieces.add_sum(piece(&out.next.to_be_bytes()));
    let sums = loader.options.checksums;
    let mut pairs = Vec::new();
    let mut places = Vec::with_capacity(GROUP);
    let outcome = records(loader, s, &mut feed, |c, found| {
        let rest = c.rest();
        let item = ChunkRecord::decode(c, s.version)?;
        let bytes = super::parts::spent!(c, rest);
        if sums {
            let (fixed, dynamic) = bytes.split_at(ChunkRecord::fixed_size(s.version).min(bytes.len()));
            pieces.add(fixed);
            if !dynamic.is_empty() {
                pieces.add(dynamic);
            }
        }
        let Item::Record(r) = item else { return Ok(Flow::End) };
        let (slot, chunk) = out.push(r.id).ok_or(LoadError::Full("chunks"))?;
        chunk.version = if flat { r.version } else { r.version & 0xBFFF_FFFF };
        chunk.locked = r.locked;
        chunk.flags = r.flags;
        if by_class && s.version >= 0x12 {
            pairs.clear();
            pairs.extend(
                r.pairs.as_chunks::<4>().0.iter().map(|&[class, a, b, n]| (class, u32::from_be_bytes([0, a, b, n]))),
            );
            out.load_pairs(slot, &pairs, r.class);
        }
        places.push((c.offset().saturating_sub(bytes.len() as u64), bytes.len()));
        if places.len() >= GROUP {
            claim(&mut out, &mut places, found);
        }
        Ok(Flow::Go)
    });
    let mut found = Vec::new();
    claim(&mut out, &mut places, &mut found);
    for i in found {
        loader.issue(i)?;
    }
    outcome?;
    out.loaded();
    Ok((out, pieces.value()))
}

/// Records taken into the index together.
const GROUP: usize = 256;

fn claim(out: &mut Chunks, places: &mut Vec<(u64, usize)>, found: &mut Vec<Issue>) {
    let first = out.slots.slots().len().saturating_sub(places.len());
    out.claim(u32::try_from(first).unwrap_or(u32::MAX), |at, id| {
        let (at, len) = places.get(at).copied().unwrap_or_default();
        let text = format!("chunk {id:016X} stands twice");
        found.push(Issue { kind: IssueKind::Duplicate, at, length: len as u64, text });
    });
    places.clear();
}

/// Counts references from the chunk tables of the files. Where they are listed by class, the order in which the
/// master walks its nodes decides.
pub(super) fn count_references(model: &mut Model) {
    if !model.chunks.by_class {
        // nothing was freed yet, so the tables hold the ids of files and zeros
        for &id in model.tables.words() {
            if id > 0 {
                model.chunks.count_file(id);
            }
        }
        return;
    }
    for slot in model.node_order() {
        let n = *model.nodes.get(slot);
        if !n.is_file() {
            continue;
        }
        for i in 0..n.b {
            let id = model.tables.get(n.table()).get(i as usize).copied().unwrap_or(0);
            if id > 0 {
                model.chunk_add_file(id, n.class);
            }
        }
    }
}
