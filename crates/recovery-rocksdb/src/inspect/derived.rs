//! Tables that a compaction consumed and nobody says so: MANIFEST and info log are both lost.
//!
//! An input that was not deleted yet looks like any other table. Taken for a live one it brings deleted keys back, and
//! hides newer values whose sequence numbers the compaction took off. Its entries betray it: an internal key stands in
//! one live table only, so a table of a smaller number that shares one with a table of a larger number was read to
//! write that. It is left out where nothing it holds would be missed, and reported as doubtful where something might.

use std::collections::BTreeMap;

use recovery_core::{Context, Error, Finding, Severity};

use super::gather::{Gathered, record_limit};
use crate::codes;
use crate::format::SequenceNumber;
use crate::format::file_name::{self, FileKind};
use crate::format::key::{KeyOrder, ValueType, packed, user_key};
use crate::placement;
use crate::reader::{TableOptions, TableReader, TableScan, Tombstone};
use crate::salvage::Salvaged;
use crate::witness::tables::FOUND;
use crate::witness::{Class, LiveTable, Resolved, ResolvedFamily, Trust};

/// What the comparison of one table with the others gave.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// Entries that a later table holds under the same internal key: proof that it was consumed.
    shared: u64,
    /// Keys whose value a later table holds with the sequence number taken off: a hint of the same.
    alike: u64,
    /// Keys and tombstones that would be missed without it.
    missed: u64,
    /// Keys behind the last one that a later table has too: a compaction that was cut off had not come so far.
    behind: u64,
    /// Keys whose value in a later table differs and has no sequence number: nobody can tell which is newer.
    unclear: u64,
}

impl Account {
    const fn is_missed(&self) -> bool {
        self.missed > 0 || self.unclear > 0
    }

    /// Read by a compaction, to its last key: what later tables lack of it was deleted there.
    const fn is_consumed(&self) -> bool {
        self.shared > 0 && (!self.is_missed() || self.behind == 0)
    }

    const fn is_doubtful(&self) -> bool {
        (self.shared > 0 || self.alike > 0) && self.is_missed() && !self.is_consumed()
    }
}

/// Takes out of every family the tables that were surely consumed, and says which may have been.
///
/// # Errors
///
/// Interruption.
pub(super) fn settle(g: &Gathered, r: &mut Resolved, cx: &Context) -> Result<(), Error> {
    if r.trust == Trust::Whole {
        return Ok(());
    }
    let mut findings = Vec::new();
    let mut gone: Vec<(u32, u64, u64)> = Vec::new();
    for family in r.families.values() {
        let Some(order) = &family.order else { continue };
        let accounts = accounts(g, family, order, cx)?;
        for (number, account) in accounts {
            let Some(table) = family.tables.get(&number) else { continue };
            if account.is_consumed() {
                gone.push((family.id, number, table.on_disk.unwrap_or(number)));
            } else if account.is_doubtful() {
                findings.push(suspect(number, &account));
            }
        }
    }
    r.findings.extend(findings);
    for (family, number, on_disk) in gone {
        if let Some(family) = r.families.get_mut(&family) {
            family.tables.remove(&number);
        }
        r.classes.insert(on_disk, Class::Obsolete);
        r.claim(format!("table {number} is obsolete"), "later tables hold everything that is in it");
    }
    Ok(())
}

fn suspect(number: u64, account: &Account) -> Finding {
    let Account { shared, alike, missed, unclear, .. } = account;
    let both = shared.saturating_add(*alike);
    let summary = format!(
        "{both} of its entries stand in later tables too: a compaction may have consumed it. It is used, since {missed} keys would be missed without it and of {unclear} nobody can tell which value is newer"
    );
    Finding::new(&codes::MAYBE_OBSOLETE, Severity::Suspect, file_name::table(number)).summary(summary)
}

/// Compares every table that no log tells of with the others it overlaps.
fn accounts(
    g: &Gathered,
    family: &ResolvedFamily,
    order: &KeyOrder,
    cx: &Context,
) -> Result<BTreeMap<u64, Account>, Error> {
    let usable: Vec<&LiveTable> =
        family.tables.values().filter(|t| t.on_disk.is_some() && !t.smallest.is_empty()).collect();
    let mut out = BTreeMap::new();
    for table in &usable {
        let beside = usable.iter().filter(|l| l.number != table.number && placement::overlap(order, table, l));
        let (later, earlier): (Vec<&LiveTable>, Vec<&LiveTable>) = beside
            .copied()
            .partition(|l| l.number > table.number && (l.witness == FOUND || is_zeroed(table) && is_zeroed(l)));
        if later.iter().any(|l| may_hold(table, l)) {
            let mut sides = Sides { own: None, later: Vec::new(), earlier: Vec::new() };
            sides.own = Side::open(g, order, table, cx);
            sides.later = later.iter().filter_map(|l| Side::open(g, order, l, cx)).collect();
            sides.earlier = earlier.iter().filter_map(|l| Side::open(g, order, l, cx)).collect();
            out.insert(table.number, sides.account(order, cx)?);
        }
    }
    Ok(out)
}

/// Whether the sequence numbers of a table were taken off: it was at the bottom, where no two tables overlap.
const fn is_zeroed(table: &LiveTable) -> bool {
    table.exact && table.seqnos.0 == 0
}

/// Whether a later table can hold entries of an earlier one: the ranges of sequence numbers meet, or were taken off.
const fn may_hold(table: &LiveTable, later: &LiveTable) -> bool {
    later.seqnos.0 == 0 || !later.exact || later.seqnos.0 <= table.seqnos.1
}

/// The versions of one key in one of the tables.
#[derive(Clone, PartialEq, Eq)]
struct Version {
    packed: u64,
    value: Vec<u8>,
}

impl Version {
    const fn sequence(&self) -> u64 {
        self.packed >> 8
    }

    const fn kind(&self) -> u64 {
        self.packed & 0xff
    }
}

/// A table, read in step with others.
struct Side {
    scan: TableScan,
    tombstones: Vec<Tombstone>,
    there: bool,
}

impl Side {
    fn open(g: &Gathered, order: &KeyOrder, table: &LiveTable, cx: &Context) -> Option<Self> {
        let item = g.item(FileKind::Table, table.on_disk?)?;
        let options = TableOptions {
            global_seqno: table.global_seqno.map(SequenceNumber),
            timestamp_size: order.timestamp_size(),
            block_limit: record_limit(cx),
            ..TableOptions::default()
        };
        let blob = g.source.open(&item.entry).ok()?;
        let (scan, tombstones) = if table.damaged {
            let salvaged = Salvaged::run(&blob, &options, Some(order), cx).ok()?;
            (salvaged.scan(), salvaged.tombstones.clone())
        } else {
            let reader = TableReader::open(blob, options).ok()?;
            (reader.scan().ok()?, reader.tombstones().ok()?)
        };
        let mut side = Self { scan, tombstones, there: true };
        side.advance();
        Some(side)
    }

    fn advance(&mut self) {
        self.there = self.there && self.scan.advance().unwrap_or(false);
    }

    /// Moves to `key` and takes all its versions.
    fn take(&mut self, key: &[u8], order: &KeyOrder, out: &mut Vec<Version>) {
        while self.there && order.compare(user_key(self.scan.key()), key).is_lt() {
            self.advance();
        }
        while self.there && user_key(self.scan.key()) == key {
            out.push(Version { packed: packed(self.scan.key()), value: self.scan.value().to_vec() });
            self.advance();
        }
    }
}

struct Sides {
    own: Option<Side>,
    later: Vec<Side>,
    earlier: Vec<Side>,
}

impl Sides {
    fn account(mut self, order: &KeyOrder, cx: &Context) -> Result<Account, Error> {
        let mut account = Account::default();
        let Some(mut own) = self.own.take() else { return Ok(account) };
        let kept = |t: &&Tombstone| !self.later.iter().any(|l| l.tombstones.contains(t));
        account.missed = own.tombstones.iter().filter(kept).count() as u64;
        let (mut key, mut steps) = (Vec::new(), 0_u64);
        let (mut ours, mut theirs, mut older) = (Vec::new(), Vec::new(), Vec::new());
        while own.there {
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(65_536) {
                cx.cancelled()?;
            }
            key.clear();
            key.extend_from_slice(user_key(own.scan.key()));
            for list in [&mut ours, &mut theirs, &mut older] {
                list.clear();
            }
            own.take(&key, order, &mut ours);
            self.later.iter_mut().for_each(|side| side.take(&key, order, &mut theirs));
            self.earlier.iter_mut().for_each(|side| side.take(&key, order, &mut older));
            judge(&ours, &theirs, &older, &mut account);
        }
        Ok(account)
    }
}

/// Judges one key: its newest version in the table against what the others hold of it.
fn judge(ours: &[Version], theirs: &[Version], older: &[Version], account: &mut Account) {
    let Some(newest) = ours.iter().max_by_key(|v| v.sequence()) else { return };
    // Without sequence numbers only the later one of two versions can be live.
    let is_shared = |v: &&Version| theirs.iter().any(|t| t == *v || (t.sequence() == 0 && t.packed == v.packed));
    let shared = ours.iter().filter(is_shared).count() as u64;
    account.shared = account.shared.saturating_add(shared);
    account.behind = if theirs.is_empty() { account.behind.saturating_add(1) } else { 0 };
    if is_shared(&newest) || theirs.iter().any(|t| t.sequence() > newest.sequence()) {
        return;
    }
    match theirs.iter().find(|t| t.sequence() == 0 && newest.sequence() > 0) {
        Some(t) if t.kind() == newest.kind() && t.value == newest.value => {
            account.alike = account.alike.saturating_add(1);
        }
        Some(_) => account.unclear = account.unclear.saturating_add(1),
        // A deletion goes when nothing older is left to delete.
        None if is_deletion(newest) && theirs.is_empty() && older.is_empty() => {}
        None => account.missed = account.missed.saturating_add(1),
    }
}

fn is_deletion(version: &Version) -> bool {
    [ValueType::Deletion, ValueType::SingleDeletion, ValueType::DeletionWithTimestamp]
        .iter()
        .any(|kind| u64::from(kind.byte()) == version.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(sequence: u64, kind: ValueType, value: &[u8]) -> Version {
        Version { packed: sequence << 8 | u64::from(kind.byte()), value: value.to_vec() }
    }

    #[test]
    fn an_internal_key_in_two_tables_proves_a_compaction() {
        let put = |sequence: u64, value: &[u8]| version(sequence, ValueType::Value, value);
        let mut account = Account::default();
        judge(&[put(5, b"a")], &[put(5, b"a")], &[], &mut account);
        judge(&[put(6, b"a")], &[put(9, b"b")], &[], &mut account);
        judge(&[version(7, ValueType::Deletion, b"")], &[], &[], &mut account);
        assert!(account.shared == 1 && !account.is_missed());
        judge(&[version(7, ValueType::Deletion, b"")], &[], &[put(2, b"x")], &mut account);
        assert!(account.missed == 1 && account.is_doubtful());
        judge(&[put(8, b"a")], &[put(8, b"a")], &[], &mut account);
        assert!(account.is_consumed(), "read to its last key");
        let mut account = Account::default();
        judge(&[put(5, b"a")], &[put(0, b"a")], &[], &mut account);
        judge(&[put(6, b"a")], &[put(0, b"b")], &[], &mut account);
        assert!(account.alike == 1 && account.unclear == 1 && account.is_doubtful());
    }
}
