//! Which snapshots stay.

use std::collections::{BTreeMap, BTreeSet};

use recovery_core::{Context, Error, Result};
use serde::{Deserialize, Serialize};

use super::{Seen, too_young};
use crate::format::names::Timestamp;

/// Retention rules. A snapshot stays when any of them says so. Each database is counted by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rules {
    /// The newest so many.
    pub keep_last: Option<u64>,
    /// The newest of each of so many days that have one; a day is the front end's, as the timestamp names it.
    pub keep_daily: Option<u64>,
    /// All not older than this before the newest, in milliseconds.
    pub keep_within_ms: Option<i64>,
    /// These go. Without another rule all others stay.
    pub snapshots: Vec<String>,
}

/// Why a snapshot stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// `--keep-last`.
    Last,
    /// `--keep-daily`.
    Daily,
    /// `--keep-within`.
    Within,
    /// No rule asks for its removal.
    NotAsked,
    /// No job description: a backup may be under way.
    Unfinished,
    /// Less than a day old.
    Young,
}

impl Why {
    /// In words.
    pub(super) fn text(self) -> String {
        match self {
            Self::Last => "among the last",
            Self::Daily => "the newest of its day",
            Self::Within => "within the time kept",
            Self::NotAsked => "not named",
            Self::Unfinished => "unfinished: its backup may still run",
            Self::Young => "younger than 24 hours",
        }
        .to_owned()
    }
}

impl Rules {
    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.retention() && self.snapshots.is_empty()
    }

    const fn retention(&self) -> bool {
        self.keep_last.is_some() || self.keep_daily.is_some() || self.keep_within_ms.is_some()
    }

    /// Why each snapshot stays; nothing for those that go. `all` is newest first.
    pub(super) fn keep(&self, all: &[Seen<'_>], cx: &Context) -> Vec<BTreeSet<Why>> {
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        let mut days: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
        all.iter()
            .map(|seen| {
                let mut why = BTreeSet::new();
                if !seen.finished {
                    return BTreeSet::from([Why::Unfinished]);
                }
                if too_young(seen.time, cx) {
                    why.insert(Why::Young);
                }
                let database = seen.database.as_str();
                let count = last.entry(database).or_default();
                *count = count.saturating_add(1);
                if self.keep_last.is_some_and(|n| *count <= n) {
                    why.insert(Why::Last);
                }
                let known = days.entry(database).or_default();
                let new_day = known.insert(day(seen));
                if new_day && self.keep_daily.is_some_and(|n| known.len() as u64 <= n) {
                    why.insert(Why::Daily);
                }
                let first = *newest.entry(database).or_insert(seen.time);
                if self.keep_within_ms.is_some_and(|ms| first.saturating_sub(seen.time) <= ms) {
                    why.insert(Why::Within);
                }
                if self.snapshots.contains(&seen.snapshot.label) {
                    // Named to go: the rules keep the others.
                    why.retain(|w| *w == Why::Young);
                } else if !self.retention() {
                    why.insert(Why::NotAsked);
                }
                why
            })
            .collect()
    }
}

/// The day of a snapshot, by its name, else by its instant.
fn day(seen: &Seen<'_>) -> String {
    let time = Timestamp::parse(&seen.timestamp).unwrap_or_else(|| Timestamp::from_millis(seen.time));
    format!("{:04}-{:02}-{:02}", time.year, time.month, time.day)
}

/// `30d`, `12h`, `2w`, `1m` (30 days), `1y` (365 days), or several in a row: `1y6m`.
///
/// # Errors
///
/// When it is none of these.
pub fn duration_ms(text: &str) -> Result<i64> {
    let bad = || Error::Usage(format!("--keep-within {text}: expected a time such as 30d, 12h, 2w or 1y6m"));
    let mut total = 0i64;
    let mut number = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let hours = match c {
            'h' => 1,
            'd' => 24,
            'w' => 24 * 7,
            'm' => 24 * 30,
            'y' => 24 * 365,
            _ => return Err(bad()),
        };
        let n: i64 = number.parse().map_err(|_| bad())?;
        let ms = n.checked_mul(hours * 3_600_000).ok_or_else(bad)?;
        total = total.checked_add(ms).ok_or_else(bad)?;
        number.clear();
    }
    if total == 0 || !number.is_empty() { Err(bad()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration_ms("30d").unwrap(), 30 * 86_400_000);
        assert_eq!(duration_ms("1y6m").unwrap(), (365 + 180) * 86_400_000);
        assert_eq!(duration_ms("12h").unwrap(), 43_200_000);
        for bad in ["", "d", "30", "3x", "-1d", "99999999999999999999d", "9999999999999y"] {
            assert!(duration_ms(bad).is_err(), "{bad}");
        }
    }
}
