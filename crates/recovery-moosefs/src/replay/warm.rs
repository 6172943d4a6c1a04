//! Looking ahead: what the next changes will touch is read before they are applied.
//!
//! In a filesystem of millions of nodes nearly every change waits for memory several times, one wait after the other:
//! the index, the node, the table of names, the edge, its text, the child. Read for a group of changes stage by stage,
//! these waits overlap. The values read are thrown away.

use super::Replayer;
use crate::changelog::Op;
use crate::changelog::merge::Entry;
use crate::model::arena::NONE;

/// Changes looked at together.
pub(crate) const GROUP: usize = 32;

/// What one change will touch, as far as its line tells.
#[derive(Clone, Copy)]
struct Touch {
    nodes: [u32; 2],
    chunk: u64,
    edge: u32,
}

const NOTHING: Touch = Touch { nodes: [0, 0], chunk: 0, edge: NONE };

impl Replayer {
    /// Reads what a group of changes is going to need.
    pub(crate) fn warm(&self, group: &[Entry]) {
        let m = &self.model;
        let mut all = [NOTHING; GROUP];
        let mut seen = 0u64;
        // the index of nodes, of chunks and of names
        for (t, e) in all.iter_mut().zip(group) {
            let Ok(op) = &e.op else { continue };
            match op {
                Op::Access { inode }
                | Op::Attr { inode, .. }
                | Op::AmTime { inode, .. }
                | Op::Length { inode, .. }
                | Op::Trunc { inode, .. }
                | Op::SetXattr { inode, .. } => t.nodes[0] = *inode,
                Op::Write { inode, chunk, .. } => (t.nodes[0], t.chunk) = (*inode, *chunk),
                Op::Unlock { id } => t.chunk = *id,
                Op::Create { parent, .. } | Op::Unlink { parent, .. } => t.nodes[0] = *parent,
                Op::Move { from, to, .. } => t.nodes = [*from, *to],
                _ => {}
            }
            for n in &mut t.nodes {
                *n = if *n == 0 { NONE } else { m.slot(*n).unwrap_or(NONE) };
            }
            if t.chunk != 0 {
                t.chunk = m.chunks.index.get(t.chunk).map_or(0, |s| u64::from(s).saturating_add(1));
            }
            if let Some(hash) = e.hash {
                t.edge = m.names.find(hash, |_| true).unwrap_or(NONE);
            }
        }
        // nodes, chunks and edges
        for t in &mut all {
            for n in t.nodes.into_iter().filter(|&n| n != NONE) {
                let n = m.nodes.get(n);
                seen ^= u64::from(n.mode);
            }
            if let Some(slot) = t.chunk.checked_sub(1).and_then(|s| u32::try_from(s).ok()) {
                seen ^= u64::from(m.chunks.slots.get(slot).version);
            }
            t.nodes[0] = NONE;
            if t.edge != NONE {
                t.nodes[0] = m.edges.get(t.edge).child;
            }
        }
        // texts and children of edges
        for t in &mut all {
            if t.edge != NONE {
                let e = m.edges.get(t.edge);
                seen ^= m.texts.get(e.text()).len() as u64;
                t.nodes[0] = m.slot(t.nodes[0]).unwrap_or(NONE);
                for other in [e.next, e.prev] {
                    seen ^= u64::from(m.edges.get(other).child);
                }
            }
        }
        for t in &all {
            if t.edge != NONE {
                seen ^= u64::from(m.nodes.get(t.nodes[0]).mode);
            }
        }
        std::hint::black_box(seen);
    }
}
