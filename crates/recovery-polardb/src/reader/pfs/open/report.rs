//! What opening a disk has to say about it.

use std::sync::Arc;

use recovery_core::{Evidence, Finding, Severity};

use super::{LeaderState, MOST_FINDINGS, Opening};
use crate::codes::pfs as codes;
use crate::format::pfs::object::{Kind, OBJECT_LEN, ObjectFault};
use crate::format::pfs::{BLOCK, CHUNK, ENTRY_LEN, LEADER_AT, META_LEN, META_START, block_address, block_of_tag};
use crate::model::pfs::{Doubt, FileSystem};
use crate::reader::pfs::PfsFile;
use crate::reader::pfs::behind::Behind;
use crate::reader::pfs::copies::block_range;
use crate::reader::pfs::heal::Healed;
use crate::reader::pfs::metadata::{Bad, ChunkState, Metadata, Origin};
use crate::reader::pfs::replay::{EntryDamage, Replayed};
use crate::reader::pfs::ring::{Ring, SlotFault};

impl Opening<'_> {
    pub(super) fn report_behind(&mut self, more: &Behind, at: Option<u64>) {
        if more.entries == 0 {
            return;
        }
        let severity = if more.transactions > 1 { Severity::Suspect } else { Severity::Note };
        let applied = if self.options.forward { "applied on request" } else { "not applied" };
        let text = format!(
            "{} entries continue the journal behind its head, with {} complete transactions; {applied}",
            more.entries, more.transactions
        );
        let mut finding = Finding::new(&codes::BEHIND_HEAD, severity, self.device.name()).summary(text);
        if let Some(at) = at {
            finding = finding.at(at, more.entries.saturating_mul(ENTRY_LEN as u64));
        }
        self.findings.push(finding);
    }

    pub(super) fn report_entries(&mut self, damage: &[EntryDamage], rebuilt: bool) {
        let (mut lost, mut first) = (0u64, None::<&EntryDamage>);
        for d in damage.iter().take(MOST_FINDINGS) {
            let text = match d.fault {
                None => format!("lsn {}: bit {} was wrong; corrected", d.lsn, d.bit),
                Some(fault) => format!("lsn {}: {fault}", d.lsn),
            };
            let severity = match d.fault {
                None => Severity::Damaged,
                Some(_) if rebuilt => Severity::Suspect,
                Some(_) => Severity::Lost,
            };
            let mut finding = Finding::new(&codes::ENTRY, severity, self.device.name()).summary(text);
            if let Some(SlotFault::Unread) = d.fault {
                finding.code = codes::UNREAD.code;
            }
            if let Some(at) = d.at {
                finding = finding.at(at, ENTRY_LEN as u64);
            }
            self.findings.push(finding.effect(u64::from(d.fault.is_some()), 0));
        }
        for d in damage.iter().filter(|d| d.fault.is_some()) {
            lost = lost.saturating_add(1);
            first = first.or(Some(d));
        }
        if damage.len() > MOST_FINDINGS {
            let text = format!("{} damaged entries in all, {lost} beyond correction", damage.len());
            let severity = if rebuilt { Severity::Suspect } else { Severity::Lost };
            self.findings.push(Finding::new(&codes::ENTRY, severity, self.device.name()).summary(text));
        }
        if let (Some(first), true) = (first, rebuilt) {
            let text = format!("{lost} entries of the history cannot be used, the first is lsn {}", first.lsn);
            self.findings.push(Finding::new(&codes::HISTORY, Severity::Suspect, self.device.name()).summary(text));
        }
    }

    pub(super) fn report_end(&mut self, leader: &LeaderState, done: &Replayed) {
        if done.stopped {
            let upto = done.last_txid.map_or_else(|| "none".to_owned(), |t| t.to_string());
            let text = format!("{} entries not applied; transaction applied last: {upto}", done.lost);
            let finding = Finding::new(&codes::TRANSACTIONS_LOST, Severity::Lost, self.device.name());
            self.findings.push(finding.summary(text).effect(done.lost, 0));
            return;
        }
        let Some(record) = leader.record() else { return };
        let ends = done.complete && done.last_txid == Some(record.head_txid);
        if !ends || done.disorder > 0 {
            let text = format!(
                "last entry is of transaction {:?}, the leader record names {}; {} transaction numbers do not follow",
                done.last_txid, record.head_txid, done.disorder
            );
            self.findings.push(Finding::new(&codes::JOURNAL_END, Severity::Suspect, self.device.name()).summary(text));
        }
    }

    pub(super) fn taken(&mut self, count: u64, what: &str) {
        if count > 0 {
            let text = format!("{count} {what} are damaged or unread here and whole in another copy");
            self.findings.push(Finding::new(&codes::DONATED, Severity::Damaged, self.device.name()).summary(text));
        }
    }

    /// Says how much of what is in use the first copy lacks and another one holds.
    pub(super) fn report_donated(&mut self, files: &FileSystem, ring: &Ring, chunks: u64) {
        let device = &self.device;
        let metadata = (0..chunks).map(|c| c.saturating_mul(CHUNK)).map(|at| at..at.saturating_add(BLOCK));
        let journal = (0..ring.size.div_ceil(BLOCK)).filter_map(|i| block_address(ring.block(i)?)).map(block_range);
        let data = files.nodes.values().filter(|n| !n.directory).flat_map(|n| {
            n.extents
                .iter()
                .filter_map(|e| Some(block_address(e.block)?..block_address(e.block)?.checked_add(e.written)?))
        });
        let used = metadata.chain(std::iter::once(block_range(LEADER_AT))).chain(journal).chain(data);
        let bytes = used.map(|r| device.donated_in(r)).fold(0, u64::saturating_add);
        if bytes > 0 {
            let text = format!("{bytes} bytes in use were never read from the disk here and come from another copy");
            self.findings.push(Finding::new(&codes::DONATED, Severity::Damaged, self.device.name()).summary(text));
        }
    }

    pub(super) fn report_objects(&mut self, metadata: &Metadata, healed: Healed) {
        for range in &metadata.unread {
            let finding = Finding::new(&codes::UNREAD, Severity::Damaged, self.device.name());
            let text = "metadata could not be read";
            self.findings.push(finding.at(range.start, range.end.saturating_sub(range.start)).summary(text));
        }
        for (chunk, _) in metadata.without.iter().filter(|(_, s)| **s == ChunkState::Blank) {
            self.blank_chunk(*chunk);
        }
        if healed.gaps > 0 {
            let text = format!("{} entries of the history cannot be used", healed.gaps);
            self.findings.push(Finding::new(&codes::HISTORY, Severity::Suspect, self.device.name()).summary(text));
        }
        if metadata.unsealed > 0 {
            let text = format!("{} objects carry no checksum", metadata.unsealed);
            self.findings.push(Finding::new(&codes::UNSEALED, Severity::Note, self.device.name()).summary(text));
        }
        for kind in Kind::ALL {
            self.report_table(metadata, kind);
        }
    }

    fn blank_chunk(&mut self, chunk: u64) {
        let at = chunk.saturating_mul(CHUNK).saturating_add(META_START);
        let text = format!("metadata of chunk {chunk} is all zero");
        let finding = Finding::new(&codes::BLANK_CHUNK, Severity::Damaged, self.device.name());
        self.findings.push(finding.at(at, META_LEN).summary(text));
    }

    /// One finding for neighbours that are damaged and healed in the same way.
    pub(super) fn report_table(&mut self, metadata: &Metadata, kind: Kind) {
        type Key = (u8, std::mem::Discriminant<ObjectFault>);
        let way = |bad: &Bad| match bad.healed {
            None => 0u8,
            Some(Origin::Journal { .. }) => 1,
            Some(Origin::History { .. }) => 2,
            Some(Origin::Corrected { .. }) => 3,
            Some(_) => 4,
        };
        let mut groups: Vec<(Key, u64, u64, Bad)> = Vec::new();
        for (number, bad) in &metadata.table(kind).bad {
            let key = (way(bad), std::mem::discriminant(&bad.fault));
            match groups.last_mut() {
                Some((k, first, count, _)) if *k == key && first.saturating_add(*count) == *number => {
                    *count = count.saturating_add(1);
                }
                _ => groups.push((key, *number, 1, *bad)),
            }
        }
        let many = groups.len();
        for ((way, _), first, count, bad) in groups.into_iter().take(MOST_FINDINGS) {
            self.findings.push(object_finding(self.device.name(), kind, first, count, &bad, way));
        }
        if many > MOST_FINDINGS {
            let text = format!("{many} damaged places among the {}s", kind.name());
            self.findings.push(Finding::new(&codes::OBJECT, Severity::Damaged, self.device.name()).summary(text));
        }
    }

    pub(super) fn mark_missing_data(&mut self, files: &mut FileSystem) {
        let mut found = Vec::new();
        for node in files.nodes.values().filter(|n| !n.directory) {
            let file = PfsFile::new("", Arc::clone(self.device.blob()), &node.extents, node.size);
            let unread = file.segments().iter().filter_map(|s| {
                let len = s.file.end.saturating_sub(s.file.start);
                s.device.map(|at| self.device.unread_in(at..at.saturating_add(len)))
            });
            let bytes = file.behind_device().saturating_add(unread.fold(0, u64::saturating_add));
            if bytes > 0 {
                found.push((node.ino, bytes));
            }
        }
        for (ino, bytes) in found {
            let path = String::from_utf8_lossy(&files.path(ino)).into_owned();
            if let Some(node) = files.nodes.get_mut(&ino) {
                node.doubts.push(Doubt::Data);
            }
            let text = format!("{bytes} bytes lie behind the end of the device or were never read from it");
            let finding = Finding::new(&codes::DATA_MISSING, Severity::Lost, path);
            if self.findings.len() < MOST_FINDINGS.saturating_mul(10) {
                self.findings.push(finding.summary(text).effect(1, bytes));
            }
        }
    }
}

fn object_finding(device: &str, kind: Kind, first: u64, count: u64, bad: &Bad, way: u8) -> Finding {
    let (code, severity, how) = match way {
        0 => (&codes::OBJECT_LOST, Severity::Lost, "no copy is left"),
        1 => (&codes::OBJECT, Severity::Damaged, "the journal overwrites it"),
        2 => (&codes::OBJECT, Severity::Damaged, "the history of the journal gives it back"),
        3 => (&codes::OBJECT, Severity::Damaged, "one bit was wrong; corrected"),
        _ => (&codes::OBJECT, Severity::Damaged, "the journal never mentions it: as mkfs made it"),
    };
    let what = if count == 1 {
        format!("{} {first}", kind.name())
    } else {
        format!("{count} objects from {} {first} on", kind.name())
    };
    let mut finding = Finding::new(code, severity, device).summary(format!("{what}: {}; {how}", bad.fault));
    if kind == Kind::BlockTag && count == 1 {
        finding = finding.evidence(Evidence::value("device block", block_of_tag(first), "-"));
    }
    if let ObjectFault::Checksum { stored, computed } = bad.fault {
        finding = finding.evidence(Evidence::checksum("crc32c from 0xfffffffe", stored, computed));
    }
    if let Some(at) = kind.address(first) {
        finding = finding.at(at, count.saturating_mul(OBJECT_LEN as u64));
    }
    finding.effect(if way == 0 { count } else { 0 }, 0)
}
