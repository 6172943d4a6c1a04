//! Storage classes, goals and patterns.

use crate::dialect::Dialect;
use crate::format::sclass::{Class, MODE_GLOBAL, Rules, StorageMode};
use crate::format::small::PatternRecord;

use super::glob::Glob;
use super::{Outcome, Status};

/// Ids of classes are below this.
pub(crate) const MAX_CLASS: usize = 256;
const MAX_PATTERNS: usize = 1024;
/// Classes 1 to 9 of 3.x cannot be renamed or deleted.
const FIRST_OWN: u16 = 10;

/// The class table, with how many nodes use each class, and the patterns.
#[derive(Debug)]
pub struct Classes {
    pub(crate) table: Vec<Option<Class>>,
    pub(crate) users: Vec<u64>,
    pub(crate) first_unused: u16,
    pub(crate) ec_version: u8,
    pub(crate) patterns: Vec<(PatternRecord, Glob)>,
}

fn copies(n: u16) -> Class {
    let list = vec![[0u32; 4]; usize::from(n)];
    Class {
        id: n,
        name: n.to_string().into_bytes(),
        admin: 0,
        mode: 1,
        delay: 0,
        rules: Rules::Masks { create: list.clone(), keep: list.clone(), archive: list, chunks: Vec::new() },
    }
}

fn blank_mode(labels: usize, ec: u8) -> StorageMode {
    StorageMode { ec, unique: 0, labels_mode: MODE_GLOBAL, labels: vec![Vec::new(); labels] }
}

fn default_class(id: u16, name: &str, description: &str, keep: usize, ec: u8) -> Class {
    Class {
        id,
        name: name.into(),
        admin: 0,
        mode: 1,
        delay: if ec == 0 { 0 } else { 24 },
        rules: Rules::Expressions {
            modes: Box::new([
                blank_mode(0, 0),
                blank_mode(keep, 0),
                blank_mode(usize::from(ec != 0), ec),
                blank_mode(0, 0),
            ]),
            description: description.into(),
            priority: 0,
            group: 0,
            archive_mode: 1,
            min_size: if ec == 0 { 0 } else { 524_288 },
            min_retention: 0,
        },
    }
}

impl Classes {
    /// What is defined before a file is loaded.
    pub(crate) fn before_load(dialect: Dialect) -> Self {
        let mut c = Self {
            table: vec![None; MAX_CLASS],
            users: vec![0; MAX_CLASS],
            first_unused: 1,
            ec_version: 0,
            patterns: Vec::new(),
        };
        if dialect == Dialect::V3 {
            for n in 1..FIRST_OWN {
                c.put(copies(n));
            }
        }
        c
    }

    /// What is defined in a new filesystem.
    pub(crate) fn new_filesystem(dialect: Dialect) -> Self {
        let mut c = Self::before_load(dialect);
        if dialect == Dialect::V4 {
            let parts = |n| format!("2 copies in KEEP state, {n} data parts plus 1 checksum part in ARCHIVE state");
            c.put(default_class(1, "2CP", "2 copies", 2, 0));
            c.put(default_class(2, "3CP", "3 copies", 3, 0));
            c.put(default_class(3, "EC4+1", &parts(4), 2, 0x41));
            c.put(default_class(4, "EC8+1", &parts(8), 2, 0x81));
            c.ec_version = 2;
        }
        c
    }

    pub(crate) fn put(&mut self, class: Class) {
        self.first_unused = self.first_unused.max(class.id.saturating_add(1));
        if let Some(slot) = self.table.get_mut(usize::from(class.id)) {
            *slot = Some(class);
        }
    }

    pub(crate) fn get(&self, id: u8) -> Option<&Class> {
        self.table.get(usize::from(id)).and_then(Option::as_ref)
    }

    /// Counts a node in or out of its class.
    #[inline]
    pub(crate) fn use_class(&mut self, id: u8, more: bool) {
        if let Some(n) = self.users.get_mut(usize::from(id)) {
            *n = if more { n.saturating_add(1) } else { n.saturating_sub(1) };
        }
    }

    /// Many nodes of a class at once.
    pub(crate) fn add_users(&mut self, id: u8, count: u64) {
        if let Some(n) = self.users.get_mut(usize::from(id)) {
            *n = n.saturating_add(count);
        }
    }

    fn by_name(&self, name: &[u8]) -> Option<u16> {
        self.table.iter().flatten().find(|c| c.name == name).map(|c| c.id)
    }

    fn lowest_free(&mut self) -> Outcome<u16> {
        let used = usize::from(self.first_unused);
        let gap = self.table.iter().take(used).skip(1).position(Option::is_none);
        let id = match gap {
            Some(at) => at.saturating_add(1),
            None => used,
        };
        if id >= MAX_CLASS {
            return Err(Status::CLASSLIMIT);
        }
        let id = u16::try_from(id).map_err(|_| Status::CLASSLIMIT)?;
        self.first_unused = self.first_unused.max(id.saturating_add(1));
        Ok(id)
    }

    /// `SCSET`.
    pub(crate) fn set(&mut self, mut class: Class, new: bool, expect: u16) -> Outcome {
        if !name_ok(&class.name) {
            return Err(Status::EINVAL);
        }
        let known = self.by_name(&class.name);
        let id = match (known, new) {
            (Some(_), true) => return Err(Status::CLASSEXISTS),
            (Some(id), false) => id,
            (None, true) => self.lowest_free()?,
            (None, false) => return Err(Status::NOSUCHCLASS),
        };
        if id != expect {
            return Err(Status::MISMATCH);
        }
        self.check(&mut class)?;
        class.id = id;
        self.put(class);
        Ok(())
    }

    fn check(&self, class: &mut Class) -> Outcome {
        match &mut class.rules {
            Rules::Masks { create, keep, archive, .. } => {
                if create.is_empty() || keep.is_empty() || archive.is_empty() {
                    return Err(Status::EINVAL);
                }
            }
            Rules::Expressions { modes, archive_mode, .. } => {
                let [_, keep, archive, trash] = modes.as_mut();
                if keep.labels.is_empty() {
                    return Err(Status::EINVAL);
                }
                for m in [archive, trash] {
                    if m.ec == 0 {
                        continue;
                    }
                    if self.ec_version < 1 {
                        return Err(Status::MISMATCH);
                    }
                    match m.ec >> 4 {
                        0 => m.ec |= 0x80,
                        4 if self.ec_version < 2 => return Err(Status::MISMATCH),
                        4 | 8 => {}
                        _ => return Err(Status::EINVAL),
                    }
                    if m.labels.is_empty() || m.labels.len() > 2 || m.ec & 0xF > 9 {
                        return Err(Status::EINVAL);
                    }
                }
                if *archive_mode == 0 || *archive_mode & 0xC0 != 0 {
                    return Err(Status::EINVAL);
                }
            }
        }
        Ok(())
    }

    /// `SCDUP`.
    pub(crate) fn duplicate(&mut self, name: &[u8], new: &[u8], source: u16, expect: u16) -> Outcome {
        if !name_ok(name) || !name_ok(new) || (source == 0) != (expect == 0) {
            return Err(Status::EINVAL);
        }
        let id = self.by_name(name).ok_or(Status::NOSUCHCLASS)?;
        if id != source {
            return Err(Status::MISMATCH);
        }
        if self.by_name(new).is_some() {
            return Err(Status::CLASSEXISTS);
        }
        let to = self.lowest_free()?;
        if to != expect {
            return Err(Status::MISMATCH);
        }
        if let Some(Some(mut copy)) = self.table.get(usize::from(id)).cloned() {
            copy.name = new.to_vec();
            copy.id = to;
            self.put(copy);
        }
        Ok(())
    }

    /// `SCREN`.
    pub(crate) fn rename(&mut self, name: &[u8], new: &[u8], expect: u16, dialect: Dialect) -> Outcome {
        if !name_ok(name) || !name_ok(new) {
            return Err(Status::EINVAL);
        }
        let id = self.by_name(name).ok_or(Status::NOSUCHCLASS)?;
        if dialect == Dialect::V3 && id < FIRST_OWN {
            return Err(Status::EPERM);
        }
        if id != expect {
            return Err(Status::MISMATCH);
        }
        if self.by_name(new).is_some() {
            return Err(Status::CLASSEXISTS);
        }
        if let Some(Some(class)) = self.table.get_mut(usize::from(id)) {
            class.name = new.to_vec();
        }
        Ok(())
    }

    /// `SCDEL`.
    pub(crate) fn delete(&mut self, name: &[u8], expect: u16, dialect: Dialect) -> Outcome {
        if !name_ok(name) {
            return Err(Status::EINVAL);
        }
        let id = self.by_name(name).ok_or(Status::NOSUCHCLASS)?;
        if dialect == Dialect::V3 && id < FIRST_OWN {
            return Err(Status::EPERM);
        }
        if self.users.get(usize::from(id)).is_some_and(|&n| n > 0) {
            return Err(Status::CLASSINUSE);
        }
        if id != expect {
            return Err(Status::MISMATCH);
        }
        self.patterns.retain(|p| u16::from(p.0.class) != id);
        if let Some(slot) = self.table.get_mut(usize::from(id)) {
            *slot = None;
        }
        Ok(())
    }

    /// `PATADD`, and a pattern read from a file.
    pub(crate) fn add_pattern(&mut self, p: PatternRecord) -> Outcome {
        if p.glob.is_empty() || (p.mask & 4 != 0 && ((p.set == 0 && p.clear == 0) || p.set & p.clear != 0)) {
            return Err(Status::EINVAL);
        }
        if self.patterns.iter().any(|(o, _)| o.glob == p.glob && o.euid == p.euid && o.egid == p.egid) {
            return Err(Status::PATTERNEXISTS);
        }
        if self.patterns.len() >= MAX_PATTERNS {
            return Err(Status::PATLIMIT);
        }
        let glob = Glob::new(&p.glob);
        self.patterns.push((p, glob));
        self.patterns.sort_by(|(a, _), (b, _)| {
            b.priority.cmp(&a.priority).then(a.class.cmp(&b.class)).then(a.glob.cmp(&b.glob))
        });
        Ok(())
    }

    /// `PATDEL`.
    pub(crate) fn delete_pattern(&mut self, glob: &[u8], euid: u32, egid: u32) -> Outcome {
        let before = self.patterns.len();
        self.patterns.retain(|(p, _)| p.glob != glob || p.euid != euid || p.egid != egid);
        if self.patterns.len() == before { Err(Status::NOSUCHPATTERN) } else { Ok(()) }
    }

    /// The first pattern for a new name.
    pub(crate) fn matching(&self, uid: u32, gids: &[u32], name: &[u8]) -> Option<&PatternRecord> {
        self.patterns
            .iter()
            .find(|(p, glob)| {
                (p.euid == u32::MAX || p.euid == uid)
                    && (p.egid == u32::MAX || gids.contains(&p.egid))
                    && glob.matches(name)
            })
            .map(|(p, _)| p)
    }

    /// Which class counts when a chunk belongs to several: the one of the highest rank.
    pub(crate) fn rank(&self, id: u8) -> u64 {
        let Some(Class { rules: Rules::Expressions { modes, priority, .. }, .. }) = self.get(id) else {
            return u64::from(id);
        };
        let [_, keep, archive, trash] = modes.as_ref();
        let (kept, archived) = (keep.labels.len() as u64, archive.labels.len() as u64);
        let ec = u64::from((archive.ec & 0xF).min(1));
        let goal = if ec > 0 { if ec >= kept { ec.saturating_add(1) } else { kept } } else { archived.max(kept) };
        let mut r = (u64::from(*priority) << 4).saturating_add(goal);
        for bit in
            [archive.ec & 0xF != 0, keep.has_labels() || archive.has_labels(), trash.ec & 0xF != 0, trash.has_labels()]
        {
            r = (r << 1) | u64::from(bit);
        }
        (r << 8) | u64::from(id)
    }

    /// When files of a class that came back from the archive are put there again: mode bits, hours, least size.
    pub(crate) fn reversible(&self, id: u8) -> Option<(u8, u32, u64)> {
        let class = self.get(id)?;
        let Rules::Expressions { archive_mode, min_size, .. } = &class.rules else { return None };
        (archive_mode & 8 != 0 && (class.delay > 0 || *min_size > 0)).then_some((
            *archive_mode,
            u32::from(class.delay),
            *min_size,
        ))
    }

    pub(crate) fn min_retention(&self, id: u8) -> u32 {
        match self.get(id).map(|c| &c.rules) {
            Some(Rules::Expressions { min_retention, .. }) => u32::from(*min_retention),
            _ => 0,
        }
    }
}

fn name_ok(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= 255
}

/// Turns a class of 3.x into one of 4.x, as the newer program does when it loads an older file.
pub(crate) fn upgrade(class: &Class) -> Class {
    let Rules::Masks { create, keep, archive, .. } = &class.rules else { return class.clone() };
    let mode = |list: &[[u32; 4]], same: bool| {
        // a mode equal to "keep" is emptied as a whole, its labels mode too
        if same {
            return StorageMode::default();
        }
        let labels = list.iter().map(expression).collect();
        StorageMode { ec: 0, unique: 0, labels_mode: MODE_GLOBAL, labels }
    };
    let name = if class.name.is_empty() { format!("sclass_{}", class.id).into_bytes() } else { class.name.clone() };
    Class {
        id: class.id,
        name,
        admin: class.admin,
        mode: class.mode,
        delay: class.delay.saturating_mul(24),
        rules: Rules::Expressions {
            modes: Box::new([
                mode(create, same(create, keep)),
                mode(keep, false),
                mode(archive, same(archive, keep)),
                mode(&[], false),
            ]),
            description: Vec::new(),
            priority: 0,
            group: u8::try_from(class.id).ok().filter(|&g| g < 10).unwrap_or(0),
            archive_mode: 1,
            min_size: 0,
            min_retention: 0,
        },
    }
}

fn same(a: &[[u32; 4]], b: &[[u32; 4]]) -> bool {
    a.len() == b.len() && a.iter().map(expression).eq(b.iter().map(expression))
}

/// A group of label masks as a postfix expression.
pub(crate) fn expression(masks: &[u32; 4]) -> Vec<u8> {
    let (mut out, mut ors) = (Vec::new(), 0u8);
    for mask in masks.iter().take_while(|m| **m != 0) {
        let mut ands = 0u8;
        for bit in 0..26u8 {
            if mask & (1 << bit) != 0 {
                out.push(0xC0 | bit);
                ands += 1;
            }
        }
        if ands > 1 {
            out.push(0x80 + (ands - 2));
        }
        ors += 1;
    }
    if ors > 1 {
        out.push(0x40 + (ors - 2));
    }
    out.push(0);
    out
}
