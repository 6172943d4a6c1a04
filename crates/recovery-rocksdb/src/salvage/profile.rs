//! How the blocks of a table are sealed and wrapped, found without its footer.
//!
//! The footer alone names checksum algorithm, context and container. When it is lost, the blocks themselves tell: a
//! block that decodes under a container and whose stored checksum equals what one algorithm computes is a witness for
//! both. With a context (format version 6) each block gives the base that would make it verify; a second block that
//! gives the same base confirms it.

use std::collections::BTreeMap;

use crate::format::compression::{Container, Decompressor};
use crate::format::handle::TRAILER_LEN;
use crate::format::{ChecksumType, Seal};

use super::extent::{self, Effort};
use super::walk::{FoundKind, Window, classify};

/// What a footer would say about blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Checksum algorithm and context.
    pub seal: Seal,
    /// How compressed payloads are wrapped.
    pub container: Container,
}

/// Places tried with every algorithm before the dear ones are left out.
pub(crate) const NEAR: u64 = 1 << 20;
/// Blocks that are enough to be sure.
const WITNESSES: usize = 24;

/// Votes for (algorithm byte, base, legacy container).
type Votes = BTreeMap<(u8, u32, bool), usize>;

const ALGORITHMS: [ChecksumType; 5] = ChecksumType::ALL;

impl Profile {
    /// Finds the profile that most blocks speak for; `None` when nothing decodes.
    pub(crate) fn guess(window: &mut Window<'_>, limit: usize) -> Option<Self> {
        let mut votes = Votes::new();
        let mut at = 0;
        let (mut witnesses, mut slid, mut start) = (0, 0_u64, true);
        while at < window.len() && witnesses < WITNESSES {
            let Ok(bytes) = window.look(at, 1 << 20) else {
                at = next_sector(at);
                continue;
            };
            let effort = match slid {
                _ if start => Effort::Start,
                0..NEAR => Effort::Slide,
                _ => Effort::Hurry,
            };
            let found = witness(bytes, at, limit, effort, &mut votes);
            start = found.is_some();
            match found {
                Some(length) => {
                    witnesses = witnesses.saturating_add(1);
                    at = at.saturating_add(length as u64).saturating_add(TRAILER_LEN as u64);
                }
                None => (at, slid) = (at.saturating_add(1), slid.saturating_add(1)),
            }
        }
        // A block always gives *some* base, so a context needs two that agree. A plain match needs no second.
        let fits = |((_, base, _), count): &(&(u8, u32, bool), &usize)| *base == 0 || **count >= 2;
        let rank = |((algorithm, base, legacy), count): &(&(u8, u32, bool), &usize)| {
            (**count, *base == 0, !*legacy, *algorithm)
        };
        let best = votes.iter().filter(fits).max_by_key(rank).map(|(vote, _)| *vote);
        best.and_then(Self::of_vote).or_else(|| Self::confirmed_at_start(window, &votes))
    }

    fn of_vote((algorithm, base, legacy): (u8, u32, bool)) -> Option<Self> {
        let algorithm = ChecksumType::from_byte(algorithm)?;
        let container = if legacy { Container::Legacy } else { Container::Sized };
        Some(Self { seal: Seal { algorithm, base }, container })
    }

    /// One witness alone: believed when some block at the very beginning of the file verifies with it.
    fn confirmed_at_start(window: &mut Window<'_>, votes: &Votes) -> Option<Self> {
        let bytes = window.look(0, 64 << 10).ok()?;
        let head = bytes.get(..(64 << 10).min(bytes.len())).unwrap_or_default();
        let candidates = votes.keys().take(64).filter(|(algorithm, ..)| *algorithm != 0);
        candidates.filter_map(|vote| Self::of_vote(*vote)).find(|profile| {
            let verifies = |length: usize| super::walk::verifies(*profile, head, length, 0);
            extent::every_length(head).any(verifies)
        })
    }
}

pub(crate) fn next_sector(at: u64) -> u64 {
    (at / 512).saturating_add(1).saturating_mul(512)
}

/// Lets the block at the head of `bytes`, if there is one, vote; gives its length.
fn witness(bytes: &[u8], at: u64, limit: usize, effort: Effort, votes: &mut Votes) -> Option<usize> {
    let mut voted = None;
    for container in [Container::Sized, Container::Legacy] {
        for length in extent::lengths(bytes, container, None, effort) {
            let sealed = bytes.get(..length.saturating_add(1)).unwrap_or_default();
            let (Some((kind, payload)), Some(stored)) =
                (sealed.split_last(), bytes.get(sealed.len()..).and_then(crate::format::coding::fixed32))
            else {
                continue;
            };
            let mut raw = Vec::new();
            let unpacked = Decompressor::default().unpack(*kind, payload, container, None, limit, &mut raw);
            let decodes = unpacked.is_ok() && !matches!(classify(&raw, at, &[]), FoundKind::Opaque);
            // A compressed payload that ends where it should but does not decode may want a dictionary.
            if !decodes && *kind == 0 {
                continue;
            }
            let legacy = container == Container::Legacy;
            for algorithm in ALGORITHMS.into_iter().filter(|a| decodes || *a != ChecksumType::None) {
                let plain = algorithm.of(sealed);
                let base = if plain == stored { 0 } else { Seal::base_from(stored, plain, at) };
                if base != 0 && legacy {
                    continue;
                }
                let count = votes.entry((algorithm.byte(), base, legacy)).or_default();
                *count = count.saturating_add(1);
            }
            voted = voted.or(Some(length));
        }
    }
    voted
}
