//! Many sorted inputs as one.

use crate::format::key::{KeyOrder, user_key};
use crate::reader::{TableError, TableScan};

/// One sorted input, restricted to a shard.
pub(crate) enum Input<'a> {
    /// Blocks of a table.
    Table(Box<TableScan>),
    /// Entries in memory; the next one is `entries[at - 1]`.
    Memory {
        /// Sorted internal entries.
        entries: &'a [(Vec<u8>, Vec<u8>)],
        /// How many have been given.
        at: usize,
    },
}

impl Input<'_> {
    pub(crate) fn advance(&mut self) -> Result<bool, TableError> {
        match self {
            Self::Table(scan) => scan.advance(),
            Self::Memory { entries, at } => {
                *at = at.saturating_add(1);
                Ok(*at <= entries.len())
            }
        }
    }

    fn entry(&self) -> Option<&(Vec<u8>, Vec<u8>)> {
        match self {
            Self::Memory { entries, at } => entries.get(at.checked_sub(1)?),
            Self::Table(_) => None,
        }
    }

    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        match self {
            Self::Table(scan) => scan.key(),
            Self::Memory { .. } => self.entry().map_or(&[], |(key, _)| key),
        }
    }

    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        match self {
            Self::Table(scan) => scan.value(),
            Self::Memory { .. } => self.entry().map_or(&[], |(_, value)| value),
        }
    }
}

/// The merge. Inputs that still have entries are kept sorted, the one with the smallest key last.
pub(crate) struct Merge<'a> {
    inputs: Vec<Input<'a>>,
    active: Vec<usize>,
    order: &'a KeyOrder,
    lower: Option<&'a [u8]>,
    /// Damage met in salvage mode; `None` means that damage is an error.
    pub(crate) damage: Option<Vec<TableError>>,
}

impl<'a> Merge<'a> {
    pub(crate) fn new(
        inputs: Vec<Input<'a>>,
        order: &'a KeyOrder,
        lower: Option<&'a [u8]>,
        salvage: bool,
    ) -> Result<Self, TableError> {
        let count = inputs.len();
        let mut merge = Self { inputs, active: Vec::new(), order, lower, damage: salvage.then(Vec::new) };
        for input in 0..count {
            if merge.advance_to_lower(input)? {
                merge.insert(input);
            }
        }
        Ok(merge)
    }

    fn advance_to_lower(&mut self, number: usize) -> Result<bool, TableError> {
        while self.advance_input(number)? {
            let key = user_key(self.inputs.get(number).map_or(&[], Input::key));
            let below =
                |lower: &[u8]| self.order.compare_without_timestamp(self.order.without_timestamp(key), lower).is_lt();
            if !self.lower.is_some_and(below) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves one input on, past damage where that is allowed.
    fn advance_input(&mut self, number: usize) -> Result<bool, TableError> {
        let Some(input) = self.inputs.get_mut(number) else { return Ok(false) };
        loop {
            match (input.advance(), &mut self.damage) {
                (Ok(more), _) => return Ok(more),
                (Err(error), Some(damage)) => damage.push(error),
                (Err(error), None) => return Err(error),
            }
        }
    }

    fn key_of(&self, input: usize) -> &[u8] {
        self.inputs.get(input).map_or(&[], Input::key)
    }

    fn insert(&mut self, input: usize) {
        let key = self.key_of(input);
        let place = self.active.partition_point(|other| self.order.compare_internal(self.key_of(*other), key).is_gt());
        self.active.insert(place, input);
    }

    /// The input that holds the smallest internal key.
    #[inline]
    pub(crate) fn current(&self) -> Option<&Input<'a>> {
        self.inputs.get(*self.active.last()?)
    }

    /// Moves behind the smallest key.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<(), TableError> {
        let Some(input) = self.active.last().copied() else { return Ok(()) };
        if !self.advance_input(input)? {
            self.active.pop();
            return Ok(());
        }
        let second = self.active.len().checked_sub(2).and_then(|n| self.active.get(n)).copied();
        let moved =
            second.is_some_and(|second| self.order.compare_internal(self.key_of(second), self.key_of(input)).is_lt());
        if moved {
            self.active.pop();
            self.insert(input);
        }
        Ok(())
    }
}
