//! Points in time as people write them.

use recovery_core::{Error, Result};

/// Until when, or from when: a change or a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A change.
    Id(u64),
    /// Unix time.
    Time(u32),
}

impl std::str::FromStr for Point {
    type Err = Error;

    /// Digits are the id of a change; `@1700000000` is unix time; `2026-11-22`, `2026-11-22T10:30`,
    /// `2026-11-22 10:30:05Z` are UTC.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::Usage(format!(
                "{text:?} is neither the id of a change nor a time such as 2026-11-22T10:30:00 (UTC) or @1700000000"
            ))
        };
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().map(Self::Id).map_err(|_| bad());
        }
        let seconds = match text.strip_prefix('@') {
            Some(digits) => digits.parse().ok(),
            None => seconds(text),
        };
        seconds.and_then(|s| u32::try_from(s).ok()).map(Self::Time).ok_or_else(bad)
    }
}

fn seconds(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let [year, month, day] = numbers(date, '-')?;
    let parts = time.split(':').count();
    let [hour, minute, second] = if parts == 2 {
        let [h, m] = numbers(time, ':')?;
        [h, m, 0]
    } else {
        numbers(time, ':')?
    };
    let fits = (1970..=2106).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    fits.then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn numbers<const N: usize>(text: &str, sep: char) -> Option<[i64; N]> {
    let parts: Vec<i64> = text
        .split(sep)
        .map(|p| if p.len() <= 4 && !p.is_empty() { p.parse::<u16>().ok().map(i64::from) } else { None })
        .collect::<Option<_>>()?;
    parts.try_into().ok()
}

/// Days since 1970-01-01; Howard Hinnant, "chrono-compatible low-level date algorithms".
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y / 400;
    let yoe = y % 400;
    let doy = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// Unix time as `2026-11-22T10:30:05Z`.
#[must_use]
pub fn utc(seconds: u32) -> String {
    let seconds = i64::from(seconds);
    let (z, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("2023-11-14T22:13:20Z", 1_700_000_000),
            ("2023-11-14 22:13:20", 1_700_000_000),
            ("2024-02-29T12:00", 1_709_208_000),
            ("@1700000000", 1_700_000_000),
        ] {
            assert_eq!(text.parse::<Point>().unwrap(), Point::Time(seconds));
            assert_eq!(utc(seconds).parse::<Point>().unwrap(), Point::Time(seconds));
        }
        assert_eq!(utc(1_709_208_000), "2024-02-29T12:00:00Z");
        assert_eq!("1700000000".parse::<Point>().unwrap(), Point::Id(1_700_000_000));
        for bad in ["", "yesterday", "2024-13-01", "2024-1-1T25:00", "12:00", "-5", "2300-01-01", "@x", "2024-01-01T1"]
        {
            assert!(bad.parse::<Point>().is_err(), "{bad}");
        }
    }
}
