//! Entry types (`log/LogEntryType`).

/// Type of a log entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryType(u8);

/// Names in the order of their numbers, from 1.
const NAMES: [&str; 43] = [
    "LN_TX",
    "LN",
    "MapLN_TX",
    "MapLN",
    "NameLN_TX",
    "NameLN",
    "DelDupLN_TX",
    "DelDupLN",
    "DupCountLN_TX",
    "DupCountLN",
    "FileSummaryLN",
    "IN",
    "BIN",
    "DIN",
    "DBIN",
    "DbTree",
    "Commit",
    "Abort",
    "CkptStart",
    "CkptEnd",
    "INDelete",
    "BINDelta",
    "DupBINDelta",
    "Trace",
    "FileHeader",
    "INDupDelete",
    "Prepare",
    "RollbackStart",
    "RollbackEnd",
    "Matchpoint",
    "DEL_LN_TX",
    "DEL_LN",
    "INS_LN_TX",
    "INS_LN",
    "UPD_LN_TX",
    "UPD_LN",
    "NewBINDelta",
    "ImmutableFile",
    "RestoreRequired",
    "ReservedFileLN",
    "ExtinctScanLN",
    "ExtinctScanLN_TX",
    "Erased",
];

macro_rules! kinds {
    ($($(#[$d:meta])* $name:ident = $n:literal;)*) => {$(
        $(#[$d])*
        pub const $name: Self = Self($n);
    )*};
}

impl EntryType {
    kinds! {
        /// Old record, transactional.
        LN_TX = 1;
        /// Old record.
        LN = 2;
        /// Description of a database.
        MAP_LN = 4;
        /// Name of a database, transactional.
        NAME_LN_TX = 5;
        /// Name of a database.
        NAME_LN = 6;
        /// Utilization of a file.
        FILE_SUMMARY_LN = 11;
        /// Upper tree node.
        IN = 12;
        /// Bottom tree node.
        BIN = 13;
        /// Roots of the two system trees.
        DB_TREE = 16;
        /// End of a transaction that counts.
        COMMIT = 17;
        /// End of a transaction that does not.
        ABORT = 18;
        /// Begin of a checkpoint.
        CKPT_START = 19;
        /// End of a checkpoint.
        CKPT_END = 20;
        /// Old changes to a bottom tree node.
        BIN_DELTA = 22;
        /// Debug message.
        TRACE = 24;
        /// First entry of each file.
        FILE_HEADER = 25;
        /// Two-phase commit, first phase.
        PREPARE = 27;
        /// Begin of a rollback period.
        ROLLBACK_START = 28;
        /// End of a rollback period.
        ROLLBACK_END = 29;
        /// Point at which two nodes may agree.
        MATCHPOINT = 30;
        /// Deletion, transactional.
        DEL_LN_TX = 31;
        /// Deletion.
        DEL_LN = 32;
        /// Insertion, transactional.
        INS_LN_TX = 33;
        /// Insertion.
        INS_LN = 34;
        /// Update, transactional.
        UPD_LN_TX = 35;
        /// Update.
        UPD_LN = 36;
        /// Changes to a bottom tree node.
        NEW_BIN_DELTA = 37;
        /// Last entry of a file that must not be written any more.
        IMMUTABLE_FILE = 38;
        /// The environment must be restored before it may be opened.
        RESTORE_REQUIRED = 39;
        /// File kept in reserve by the cleaner.
        RESERVED_FILE_LN = 40;
        /// Extinction task.
        EXTINCT_SCAN_LN = 41;
        /// Extinction task, transactional.
        EXTINCT_SCAN_LN_TX = 42;
        /// Entry whose content was erased.
        ERASED = 43;
    }

    /// The type with this number.
    #[must_use]
    pub const fn new(n: u8) -> Option<Self> {
        if n >= 1 && n <= 43 { Some(Self(n)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// JE's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.get(usize::from(self.0).wrapping_sub(1)).copied().unwrap_or("?")
    }

    /// The type with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let i = NAMES.iter().position(|n| n.eq_ignore_ascii_case(name))?;
        Self::new(u8::try_from(i).ok()?.wrapping_add(1))
    }

    /// Whether it belongs to a transaction as a change of a record.
    #[must_use]
    pub const fn is_transactional_ln(self) -> bool {
        matches!(self.0, 1 | 3 | 5 | 7 | 9 | 31 | 33 | 35 | 42)
    }

    /// Whether it changes a record of a user (or replicated system) database.
    #[must_use]
    pub const fn is_user_ln(self) -> bool {
        matches!(self.0, 1 | 2 | 31..=36)
    }

    /// Whether it is a record of any database.
    #[must_use]
    pub const fn is_ln(self) -> bool {
        matches!(self.0, 1..=11 | 31..=36 | 40..=42)
    }

    /// Whether it deletes a record.
    #[must_use]
    pub const fn is_delete(self) -> bool {
        matches!(self.0, 31 | 32)
    }

    /// Whether it is a node of a tree.
    #[must_use]
    pub const fn is_node(self) -> bool {
        matches!(self.0, 12..=15 | 22 | 23 | 37)
    }

    /// Whether two nodes may agree on it as the last common entry.
    #[must_use]
    pub const fn is_sync_point(self) -> bool {
        matches!(self.0, 17 | 18 | 30)
    }
}

impl std::fmt::Display for EntryType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(EntryType::COMMIT.name(), "Commit");
        assert_eq!(EntryType::FILE_HEADER.name(), "FileHeader");
        assert_eq!(EntryType::NEW_BIN_DELTA.name(), "NewBINDelta");
        assert_eq!(EntryType::ERASED.name(), "Erased");
        for n in 1..=43 {
            let t = EntryType::new(n).unwrap();
            assert_eq!(EntryType::from_name(t.name()), Some(t));
        }
        assert!(EntryType::new(0).is_none() && EntryType::new(44).is_none());
    }
}
