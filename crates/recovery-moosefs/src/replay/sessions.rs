//! Sessions, open files and locks.

use super::{Conflict, Replayer, ensure};
use crate::changelog::Op;
use crate::changelog::op::{LockKind, SessionArgs};
use crate::dialect::Dialect;
use crate::format::lock::{FlockRecord, PlockRecord};
use crate::format::session::{SessionRecord, goal_groups};
use crate::model::{Outcome, Status};

impl Replayer {
    pub(super) fn acquire(&mut self, first: u32, second: u32) -> Outcome {
        if self.is(Dialect::V16) {
            self.model.node(first)?;
            return ensure(self.model.locks.acquire_on_node(second, first), Status::EINVAL);
        }
        ensure(self.model.locks.acquire(first, second), Status::MISMATCH)
    }

    pub(super) fn release(&mut self, first: u32, second: u32) -> Outcome {
        if self.is(Dialect::V16) {
            return ensure(self.model.locks.release_on_node(second, first), Status::EINVAL);
        }
        self.resolve(|c| c.session == first && c.inode == second);
        ensure(self.model.locks.release(first, second), Status::MISMATCH)
    }

    pub(super) fn count_session(&mut self, id: u32) -> Outcome {
        ensure(id == self.model.next_session, Status::MISMATCH)?;
        self.model.next_session = id.wrapping_add(1);
        Ok(())
    }

    pub(super) fn session(&mut self, a: &SessionArgs, info: &[u8], new: bool) -> Outcome {
        let end = info.iter().rposition(|&b| b != 0).map_or(0, |p| p.saturating_add(1));
        let narrow = |g: u32| (g & 0xFF) as u8;
        let mut record = SessionRecord {
            id: a.id,
            exports: a.exports,
            ip: a.ip,
            root: a.root,
            flags: (a.flags & 0x7F) as u8,
            umask: a.umask,
            goals: a.goals.map(narrow),
            groups: a.groups.unwrap_or_else(|| goal_groups(a.goals)),
            trash: a.trash,
            ids: a.ids,
            disables: a.disables,
            disconnected: 0,
            counters: Vec::new(),
            info: info.get(..end).unwrap_or_default().to_vec(),
        };
        if new {
            self.model.charge((end as u64).saturating_add(256))?;
            ensure(a.id == self.model.next_session, Status::MISMATCH)?;
            self.model.next_session = match (self.is(Dialect::V4), a.id.wrapping_add(1)) {
                (true, 0x8000_0000) => 1,
                (_, next) => next,
            };
            let seq = self.model.next_seq();
            self.model.sessions.insert(a.id, (seq, record));
            return Ok(());
        }
        let (_, old) = self.model.sessions.get_mut(&a.id).ok_or(Status::MISMATCH)?;
        record.disconnected = old.disconnected;
        record.counters = std::mem::take(&mut old.counters);
        *old = record;
        Ok(())
    }

    pub(super) fn connected(&mut self, id: u32, disconnected: u32) -> Outcome {
        self.model.sessions.get_mut(&id).ok_or(Status::NOTFOUND)?.1.disconnected = disconnected;
        Ok(())
    }

    pub(super) fn drop_session(&mut self, id: u32) -> Outcome {
        ensure(self.model.sessions.remove(&id).is_some(), Status::BADSESSIONID)?;
        self.resolve(|c| c.session == id);
        self.model.locks.drop_session(id);
        Ok(())
    }

    fn resolve(&mut self, mine: impl Fn(&Conflict) -> bool) {
        for c in self.conflicts.iter_mut().rev().take_while(|c| !c.resolved) {
            c.resolved |= mine(c);
        }
    }

    fn conflict(&mut self, change: u64, session: u32, inode: u32) {
        self.conflicts.push(Conflict { change, session, inode, resolved: false });
    }

    pub(super) fn flock(&mut self, id: u64, inode: u32, session: u32, owner: u64, kind: LockKind) -> Outcome {
        let writer = match kind {
            LockKind::Unlock => {
                let gone = self.model.locks.flock_remove(inode, session, owner).ok_or(Status::MISMATCH)?;
                return ensure(gone > 0, Status::MISMATCH);
            }
            LockKind::Read => false,
            LockKind::Write => true,
            LockKind::Unknown => return Err(Status::EINVAL),
        };
        if let Some(holder) = self.model.locks.flock_conflict(inode, writer) {
            self.conflict(id, holder, inode);
        }
        self.model.charge(32)?;
        self.model.locks.flock_add(FlockRecord { inode, owner, session, kind: u8::from(writer) });
        Ok(())
    }

    pub(super) fn posix_lock(&mut self, id: u64, op: &Op) -> Outcome {
        let Op::PosixLock { inode, session, owner, kind, start, end, pid } = *op else {
            return Err(Status::MISMATCH);
        };
        let kind = match kind {
            LockKind::Unlock => 0,
            LockKind::Read => 1,
            LockKind::Write => 2,
            LockKind::Unknown => return Err(Status::EINVAL),
        };
        let lock = PlockRecord { inode, owner, session, pid, start, end, kind };
        if kind == 0 {
            ensure(self.model.locks.has_plocks(inode) || self.is(Dialect::V3), Status::MISMATCH)?;
        } else if let Some(holder) = self.model.locks.plock_conflict(&lock) {
            self.conflict(id, holder, inode);
        }
        self.model.charge(48)?;
        self.model.locks.plock_set(&lock);
        Ok(())
    }
}
