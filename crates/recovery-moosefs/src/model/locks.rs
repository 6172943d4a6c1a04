//! Open files and locks.

use hashbrown::HashMap;

use crate::format::lock::{FlockRecord, OpenRecord, PlockRecord};

/// Ranges held by one owner.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) owner: u64,
    pub(crate) session: u32,
    pub(crate) pid: u32,
    /// First byte, one past the last, type; ascending.
    pub(crate) ranges: Vec<(u64, u64, u8)>,
}

/// Everything that ties a session to a file.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    open: HashMap<u32, HashMap<u32, u64>>,
    users: HashMap<u32, u32>,
    /// 1.6: sessions of each node, newest first.
    holders: HashMap<u32, Vec<u32>>,
    flocks: HashMap<u32, (u64, Vec<FlockRecord>)>,
    plocks: HashMap<u32, (u64, Vec<Holder>)>,
    seq: u64,
}

fn hash(inode: u32) -> u32 {
    inode.wrapping_mul(0x738A_2379) % 1024
}

impl Locks {
    pub(crate) fn is_open(&self, inode: u32) -> bool {
        self.users.contains_key(&inode)
    }

    pub(crate) fn holds(&self, session: u32, inode: u32) -> bool {
        self.open.get(&session).is_some_and(|m| m.contains_key(&inode))
    }

    /// False if the session holds the file already.
    pub(crate) fn acquire(&mut self, session: u32, inode: u32) -> bool {
        if self.holds(session, inode) {
            return false;
        }
        self.seq = self.seq.saturating_add(1);
        self.open.entry(session).or_default().insert(inode, self.seq);
        let n = self.users.entry(inode).or_insert(0);
        *n = n.saturating_add(1);
        true
    }

    /// False if the session does not hold the file. Locks of the session on the file go.
    pub(crate) fn release(&mut self, session: u32, inode: u32) -> bool {
        let Some(files) = self.open.get_mut(&session) else { return false };
        if files.remove(&inode).is_none() {
            return false;
        }
        if files.is_empty() {
            self.open.remove(&session);
        }
        self.closed(session, inode);
        true
    }

    fn closed(&mut self, session: u32, inode: u32) {
        if let Some(n) = self.users.get_mut(&inode) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                self.users.remove(&inode);
            }
        }
        if let Some((_, list)) = self.flocks.get_mut(&inode) {
            list.retain(|l| l.session != session);
            if list.is_empty() {
                self.flocks.remove(&inode);
            }
        }
        if let Some((_, list)) = self.plocks.get_mut(&inode) {
            list.retain(|l| l.session != session);
            if list.is_empty() {
                self.plocks.remove(&inode);
            }
        }
    }

    pub(crate) fn drop_session(&mut self, session: u32) {
        for inode in self.open.remove(&session).unwrap_or_default().into_keys() {
            self.closed(session, inode);
        }
    }

    // ---- 1.6: the node keeps its own list ----

    pub(crate) fn acquire_on_node(&mut self, session: u32, inode: u32) -> bool {
        let list = self.holders.entry(inode).or_default();
        if list.contains(&session) {
            return false;
        }
        list.insert(0, session);
        self.users.insert(inode, u32::try_from(list.len()).unwrap_or(u32::MAX));
        true
    }

    pub(crate) fn release_on_node(&mut self, session: u32, inode: u32) -> bool {
        let Some(list) = self.holders.get_mut(&inode) else { return false };
        let Some(at) = list.iter().position(|&s| s == session) else { return false };
        list.remove(at);
        if list.is_empty() {
            self.holders.remove(&inode);
            self.users.remove(&inode);
        }
        true
    }

    pub(crate) fn node_sessions(&self, inode: u32) -> &[u32] {
        self.holders.get(&inode).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn forget_node(&mut self, inode: u32) {
        self.holders.remove(&inode);
        self.users.remove(&inode);
    }

    // ---- BSD locks ----

    /// Whether a new lock is against one that is held; the session that holds it.
    pub(crate) fn flock_conflict(&self, inode: u32, writer: bool) -> Option<u32> {
        let first = self.flocks.get(&inode)?.1.first()?;
        (writer || first.kind == 1).then_some(first.session)
    }

    pub(crate) fn flock_add(&mut self, lock: FlockRecord) {
        self.seq = self.seq.saturating_add(1);
        self.flocks.entry(lock.inode).or_insert((self.seq, Vec::new())).1.insert(0, lock);
    }

    /// How many locks of the owner went; `None` if the file has none at all.
    pub(crate) fn flock_remove(&mut self, inode: u32, session: u32, owner: u64) -> Option<usize> {
        let (_, list) = self.flocks.get_mut(&inode)?;
        let before = list.len();
        list.retain(|l| l.session != session || l.owner != owner);
        let gone = before.saturating_sub(list.len());
        if list.is_empty() {
            self.flocks.remove(&inode);
        }
        Some(gone)
    }

    // ---- POSIX locks ----

    /// The session of another owner whose range is in the way.
    pub(crate) fn plock_conflict(&self, p: &PlockRecord) -> Option<u32> {
        self.plocks
            .get(&p.inode)?
            .1
            .iter()
            .filter(|h| h.owner != p.owner || h.session != p.session)
            .find(|h| h.ranges.iter().any(|r| (p.kind == 2 || r.2 == 2) && p.end > r.0 && p.start < r.1))
            .map(|h| h.session)
    }

    pub(crate) fn has_plocks(&self, inode: u32) -> bool {
        self.plocks.contains_key(&inode)
    }

    /// Sets (`kind` 1, 2) or clears (`kind` 0) a range.
    pub(crate) fn plock_set(&mut self, p: &PlockRecord) {
        self.seq = self.seq.saturating_add(1);
        let (_, list) = self.plocks.entry(p.inode).or_insert((self.seq, Vec::new()));
        match list.iter().position(|h| h.owner == p.owner && h.session == p.session) {
            Some(at) => {
                if let Some(h) = list.get_mut(at) {
                    apply_range(&mut h.ranges, p.kind, p.start, p.end);
                    if h.ranges.is_empty() {
                        list.remove(at);
                    }
                }
            }
            None if p.kind != 0 => {
                let ranges = vec![(p.start, p.end, p.kind)];
                list.push(Holder { owner: p.owner, session: p.session, pid: p.pid, ranges });
            }
            None => {}
        }
        if list.is_empty() {
            self.plocks.remove(&p.inode);
        }
    }

    /// Adds a range read from a file: behind the last holder if that is the same.
    pub(crate) fn plock_load(&mut self, p: &PlockRecord) {
        self.seq = self.seq.saturating_add(1);
        let (_, list) = self.plocks.entry(p.inode).or_insert((self.seq, Vec::new()));
        match list.last_mut() {
            Some(h) if h.owner == p.owner && h.session == p.session => h.ranges.push((p.start, p.end, p.kind)),
            _ => list.push(Holder {
                owner: p.owner,
                session: p.session,
                pid: p.pid,
                ranges: vec![(p.start, p.end, p.kind)],
            }),
        }
    }

    // ---- in the order they are stored ----

    pub(crate) fn open_records(&self) -> Vec<OpenRecord> {
        let mut all: Vec<(u32, u64, OpenRecord)> = Vec::new();
        for (&session, files) in &self.open {
            all.extend(files.iter().map(|(&inode, &seq)| (session % 4096, seq, OpenRecord { session, inode })));
        }
        all.sort_unstable_by_key(|&(bucket, seq, _)| (bucket, std::cmp::Reverse(seq)));
        all.into_iter().map(|e| e.2).collect()
    }

    pub(crate) fn flock_records(&self) -> Vec<FlockRecord> {
        let mut all: Vec<_> =
            self.flocks.iter().map(|(&i, (seq, list))| (hash(i), std::cmp::Reverse(*seq), list)).collect();
        all.sort_unstable_by_key(|e| (e.0, e.1));
        all.into_iter().flat_map(|e| e.2.iter().copied()).collect()
    }

    pub(crate) fn plock_records(&self) -> Vec<PlockRecord> {
        let mut all: Vec<_> =
            self.plocks.iter().map(|(&i, (seq, l))| (hash(i), std::cmp::Reverse(*seq), i, l)).collect();
        all.sort_unstable_by_key(|e| (e.0, e.1));
        let mut out = Vec::new();
        for (_, _, inode, list) in all {
            for h in list {
                out.extend(h.ranges.iter().map(|&(start, end, kind)| PlockRecord {
                    inode,
                    owner: h.owner,
                    session: h.session,
                    pid: h.pid,
                    start,
                    end,
                    kind,
                }));
            }
        }
        out
    }
}

/// Lays a range over the ranges of one owner: what is covered goes, what adjoins and is of the same type is joined.
fn apply_range(ranges: &mut Vec<(u64, u64, u8)>, kind: u8, mut start: u64, mut end: u64) {
    let mut out = Vec::with_capacity(ranges.len().saturating_add(2));
    let mut placed = kind == 0;
    for &(s, e, k) in ranges.iter() {
        if e < start {
            out.push((s, e, k));
        } else if s > end {
            if !placed {
                out.push((start, end, kind));
                placed = true;
            }
            out.push((s, e, k));
        } else if k == kind && kind != 0 {
            start = start.min(s);
            end = end.max(e);
        } else {
            if s < start {
                out.push((s, start, k));
            }
            if e > end {
                if !placed {
                    out.push((start, end, kind));
                    placed = true;
                }
                out.push((end, e, k));
            }
        }
    }
    if !placed {
        out.push((start, end, kind));
    }
    *ranges = out;
}
