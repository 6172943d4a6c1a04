//! The two clocks of PostgreSQL's files: seconds since 1970 and microseconds since 2000.

const DAY: i64 = 86_400;
/// Seconds from 1970-01-01 to 2000-01-01, PostgreSQL's epoch for timestamps.
pub const PG_EPOCH: i64 = 10_957 * DAY;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// Year, month (1 to 12) and day of a number of days since 1970-01-01, in the Gregorian calendar.
fn civil(days: i64) -> (i64, usize, i64) {
    let z = days.saturating_add(719_468);
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, usize::try_from(month).unwrap_or(1), day)
}

/// Seconds since 1970 as the C locale's `%c` in UTC, which is what `pg_controldata` prints there.
#[must_use]
pub fn ctime(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let name = MONTHS.get(month.wrapping_sub(1)).unwrap_or(&"???");
    let week = usize::try_from(days.rem_euclid(7)).ok().and_then(|d| DAYS.get(d)).unwrap_or(&"???");
    format!("{week} {name} {day:>2} {:02}:{:02}:{:02} {year}", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Microseconds since 2000 as the server prints a timestamp in UTC.
#[must_use]
pub fn timestamp(micros: i64) -> String {
    let seconds = micros.div_euclid(1_000_000).saturating_add(PG_EPOCH);
    let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let clock = format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    let fraction = format!("{:06}", micros.rem_euclid(1_000_000));
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{clock}{dot}{fraction} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        assert_eq!(ctime(0), "Thu Jan  1 00:00:00 1970");
        assert_eq!(ctime(951_782_400), "Tue Feb 29 00:00:00 2000");
        assert_eq!(ctime(-1), "Wed Dec 31 23:59:59 1969");
        assert_eq!(timestamp(0), "2000-01-01 00:00:00 UTC");
        assert_eq!(timestamp(1_500_000), "2000-01-01 00:00:01.5 UTC");
        // The ends of the range must not overflow.
        let _ = (ctime(i64::MAX), ctime(i64::MIN), timestamp(i64::MAX), timestamp(i64::MIN));
    }
}
