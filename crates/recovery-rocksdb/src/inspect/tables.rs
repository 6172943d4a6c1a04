//! What is found in one table.

use std::collections::BTreeMap;
use std::sync::Arc;

use recovery_core::{Blob, Class, Context, Coverage, Entry, Finding, Severity, Source};

use super::gather::Gathered;
use crate::codes;
use crate::format::TableProperties;
use crate::format::key::{KeyOrder, SequenceNumber};
use crate::reader::{TableError, TableOptions, TableReader};
use crate::salvage::{Depth, LostRange, Mend, Salvaged, TableDamage, check_table};

/// What a table is, as far as it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableState {
    /// Everything that was looked at is good.
    Good,
    /// Something is damaged.
    Damaged(String),
    /// A kind of table that is recognised and not supported.
    Unsupported(String),
    /// No bytes.
    Empty,
    /// Nothing in it is a table.
    Nothing,
    /// It cannot be read.
    Unread(String),
}

/// Facts about one table.
#[derive(Clone, Debug)]
pub struct TableFacts {
    /// Its name.
    pub object: String,
    /// Its size.
    pub size: u64,
    /// What it is.
    pub state: TableState,
    /// Its properties, where they could be read.
    pub properties: Option<TableProperties>,
    /// Smallest internal key.
    pub smallest: Option<Vec<u8>>,
    /// Largest internal key.
    pub largest: Option<Vec<u8>>,
    /// Smallest and largest sequence number, the smallest where it is known.
    pub seqnos: Option<(Option<u64>, u64)>,
    /// Point entries and range tombstones.
    pub entries: Option<u64>,
    /// Oldest blob file its entries refer to.
    pub oldest_blob: Option<u64>,
    /// What could be had of a damaged table.
    pub salvage: Option<SalvageFacts>,
    /// Findings of its verification.
    pub findings: Vec<Finding>,
    /// What is known of its bytes.
    pub coverage: Coverage,
}

/// What could be had of a damaged table.
#[derive(Clone, Debug, Default)]
pub struct SalvageFacts {
    /// Entries in good blocks.
    pub entries: u64,
    /// Entries that are gone, where the properties tell how many there were.
    pub lost: Option<u64>,
    /// Good range tombstones.
    pub tombstones: u64,
    /// Range tombstones that are gone; `None` when nobody knows.
    pub tombstones_lost: Option<u64>,
    /// Stretches of lost data blocks.
    pub ranges: Vec<LostRange>,
    /// Whether the database itself would refuse to open the table.
    pub refused: bool,
    /// Whether every entry and tombstone is there.
    pub complete: bool,
    /// Whether the timestamps of its keys were not persisted.
    pub stripped: bool,
}

impl SalvageFacts {
    /// Range tombstones that are gone; `expected` is what another witness counted. `None` when nobody knows.
    #[must_use]
    pub fn range_deletions_lost(&self, expected: Option<u64>) -> Option<u64> {
        self.tombstones_lost.or_else(|| expected.map(|n| n.saturating_sub(self.tombstones)))
    }

    /// Entries that are gone; `expected` is what another witness counted. `None` when nobody knows.
    #[must_use]
    pub fn entries_lost(&self, expected: Option<u64>) -> Option<u64> {
        let counted = || expected.map(|n| n.saturating_sub(self.entries));
        if self.complete { Some(0) } else { self.lost.or_else(counted) }
    }
}

/// What reading a table needs to know from outside.
#[derive(Clone, Debug, Default)]
pub struct Hint {
    /// Global sequence number.
    pub global_seqno: Option<u64>,
    /// Order of its keys.
    pub order: Option<KeyOrder>,
    /// Size of the file whose boundaries and sequence numbers the MANIFEST or the log holds.
    pub known_size: Option<u64>,
}

/// Hints for all tables.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    by_number: BTreeMap<u64, Hint>,
}

impl From<&Gathered> for Hints {
    fn from(g: &Gathered) -> Self {
        let mut by_number: BTreeMap<u64, Hint> = BTreeMap::new();
        for (number, table) in &g.log.tables {
            let hint = by_number.entry(*number).or_default();
            hint.global_seqno = table.global_seqno;
            let name = table.creation.as_ref().and_then(|c| c.comparator.as_deref());
            hint.order = name.and_then(KeyOrder::by_name);
            hint.known_size = table.creation.as_ref().filter(|c| c.seqnos.is_some()).map(|c| c.size);
        }
        for manifest in g.manifests.values() {
            for family in manifest.version.families.values() {
                let name = family.comparator.as_deref().and_then(|c| std::str::from_utf8(c).ok());
                for (number, file) in &family.files {
                    let hint = by_number.entry(*number).or_default();
                    hint.order = name.and_then(KeyOrder::by_name).or(hint.order.take());
                    hint.global_seqno = Some(file.largest_seqno);
                    hint.known_size = Some(file.size);
                }
            }
        }
        Self { by_number }
    }
}

impl Hints {
    /// The hint for one table.
    #[must_use]
    pub fn of(&self, number: u64) -> Hint {
        self.by_number.get(&number).cloned().unwrap_or_default()
    }
}

/// The order of a table's keys: what is known from outside, else what its properties name, else bytewise.
fn order_of(hint: &Hint, properties: &TableProperties) -> KeyOrder {
    let named = properties.comparator.as_deref().and_then(KeyOrder::by_name);
    hint.order.clone().or(named).unwrap_or_default()
}

/// Looks at one table as far as the context's check asks.
pub fn look(source: &dyn Source, entry: &Entry, hint: &Hint, mend: Mend, cx: &Context) -> TableFacts {
    let mut facts = TableFacts {
        object: entry.name.clone(),
        size: entry.size,
        state: TableState::Good,
        properties: None,
        smallest: None,
        largest: None,
        seqnos: None,
        entries: None,
        oldest_blob: None,
        salvage: None,
        findings: Vec::new(),
        coverage: Coverage::new(entry.size),
    };
    if entry.size == 0 {
        facts.state = TableState::Empty;
        return facts;
    }
    let blob = match source.open(entry) {
        Ok(blob) => blob,
        Err(e) => {
            facts.state = TableState::Unread(e.to_string());
            facts.coverage.mark(0..entry.size, Class::Unread);
            return facts;
        }
    };
    let options = TableOptions {
        global_seqno: hint.global_seqno.map(SequenceNumber),
        block_limit: super::gather::record_limit(cx),
        mend,
        ..TableOptions::default()
    };
    let order = hint.order.clone();
    let check = match check_table(&blob, &options, order.as_ref(), Depth::from(cx.check), cx) {
        Ok(check) => check,
        Err(e) => {
            facts.state = TableState::Unread(e.to_string());
            return facts;
        }
    };
    facts.properties.clone_from(&check.properties);
    facts.coverage.clone_from(&check.coverage);
    facts.findings = check.findings(&codes::TABLE_DAMAGED, &codes::TOMBSTONES_LOST, &entry.name, cx);
    if let Some(what) = check.unsupported {
        facts.state = TableState::Unsupported(what);
        return facts;
    }
    if check.nothing {
        facts.state = TableState::Nothing;
        return facts;
    }
    if let Some(salvaged) = &check.salvaged {
        facts.properties = facts.properties.take().or_else(|| salvaged.properties.clone());
        facts.salvage = Some(salvage_facts(salvaged, &check.damages));
    }
    if check.damages.iter().any(|d| d.severity > Severity::Note) {
        let worst = check.damages.iter().max_by_key(|d| d.severity);
        facts.state = TableState::Damaged(worst.map(|d| d.summary.clone()).unwrap_or_default());
        return facts;
    }
    if let Err(e) = bounds(&mut facts, blob, options, hint) {
        facts.state = TableState::Damaged(e.to_string());
        facts.findings.push(
            Finding::new(&codes::TABLE_DAMAGED, Severity::Damaged, entry.name.clone())
                .at(0, entry.size)
                .summary(e.to_string()),
        );
        facts.coverage.mark(0..entry.size, Class::Damaged);
    }
    facts
}

fn salvage_facts(salvaged: &Salvaged, damages: &[TableDamage]) -> SalvageFacts {
    SalvageFacts {
        entries: salvaged.entries(),
        lost: salvaged.entries_lost(),
        tombstones: salvaged.tombstones.len() as u64,
        tombstones_lost: salvaged.tombstones_lost,
        ranges: salvaged.lost.clone(),
        // Filters are skipped when they are damaged, data blocks are met when they are read.
        refused: damages.iter().any(|d| d.severity > Severity::Note && !matches!(d.what, "filter" | "data block")),
        complete: salvaged.is_complete(),
        stripped: salvaged.is_stripped(),
    }
}

/// Boundaries and sequence numbers: from the ends of the table, or from all of it when nothing else has them.
fn bounds(facts: &mut TableFacts, blob: Arc<dyn Blob>, options: TableOptions, hint: &Hint) -> Result<(), TableError> {
    let reader = TableReader::open(blob, options)?;
    let order = order_of(hint, reader.properties());
    // What another witness of the same file has is not counted again: that would mean reading all of it.
    let known = hint.known_size == Some(facts.size) && reader.properties().num_entries.is_some();
    let mut summary = if known { reader.ends(&order)? } else { reader.summary(&order, false)? };
    if summary.smallest_seqno.is_none() && !known && !summary.exact {
        summary = reader.summary(&order, true)?;
    }
    facts.smallest = summary.smallest.map(crate::format::InternalKey::into_bytes);
    facts.largest = summary.largest.map(crate::format::InternalKey::into_bytes);
    facts.seqnos = summary.largest_seqno.map(|l| (summary.smallest_seqno.map(|s| s.0), l.0));
    facts.entries = Some(summary.points.saturating_add(summary.range_deletions));
    Ok(())
}
