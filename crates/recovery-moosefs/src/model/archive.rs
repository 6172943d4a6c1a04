//! The archive flag of chunks, and classes whose files come back from the archive when they change (4.x).

use super::Model;
use super::node::{BY_ATIME, BY_CTIME, BY_MTIME, KEEP_MODE, Node};
use crate::dialect::Dialect;

impl Model {
    /// Brings a file of a class with reversible archive mode back from the archive (4.x).
    #[inline]
    pub(crate) fn check_archive(&mut self, inode: u32, ts: u32, fields: u8) {
        if self.dialect == Dialect::V4 {
            self.check_archive_mode(inode, ts, fields);
        }
    }

    fn check_archive_mode(&mut self, inode: u32, ts: u32, fields: u8) {
        let Ok(n) = self.node(inode) else { return };
        if !n.is_file() || n.flags & KEEP_MODE != 0 {
            return;
        }
        let n = *n;
        let Some((mode, hours, min_size)) = self.classes.reversible(n.class) else { return };
        if mode & fields == 0 {
            return;
        }
        if n.length >= min_size {
            let mut reference = 0;
            for (bit, time) in [(BY_CTIME, n.ctime), (BY_MTIME, n.mtime), (BY_ATIME, n.atime)] {
                if mode & bit != 0 {
                    reference = reference.max(time);
                }
            }
            if reference.checked_add(hours.saturating_mul(3600)).is_some_and(|t| t < ts) {
                return;
            }
        }
        self.set_archived(&n, false);
        if let Ok(n) = self.node_mut(inode) {
            n.flags |= KEEP_MODE;
        }
    }

    /// Sets or clears the archive flag of all chunks of a file; the number of chunks and of those changed.
    pub(crate) fn set_archived(&mut self, n: &Node, archived: bool) -> (u64, u64) {
        let (mut all, mut changed) = (0u64, 0u64);
        for i in 0..n.b {
            let id = self.tables.get(n.table()).get(i as usize).copied().unwrap_or(0);
            if id == 0 {
                continue;
            }
            all = all.saturating_add(1);
            if let Some(c) = self.chunks.get_mut(id) {
                let flags = (c.flags & 2) | u8::from(archived);
                if flags != c.flags {
                    c.flags = flags;
                    changed = changed.saturating_add(1);
                }
            }
        }
        (all, changed)
    }
}
