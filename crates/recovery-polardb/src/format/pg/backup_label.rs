//! `backup_label`: where a base backup began. A server that finds one starts from it, not from `pg_control`.
//!
//! Upstream: `src/backend/access/transam/xlogrecovery.c` (`read_backup_label`), 11: `xlog.c`. PolarDB also knows
//! `polar_exclusive_backup_label` and `polar_non_exclusive_backup_label` with the same text.

use nom::bytes::complete::tag;
use nom::character::complete::{char, hex_digit1, u32 as number};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};
use serde::Serialize;

use super::Lsn;
use super::history::lsn;

/// What a label says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BackupLabel {
    /// Where replay begins.
    pub start: Lsn,
    /// Segment that holds it.
    pub start_segment: String,
    /// The backup's checkpoint.
    pub checkpoint: Lsn,
    /// How it was made.
    pub method: String,
    /// From which kind of server.
    pub from: String,
    /// Timeline (from 11 on).
    pub timeline: Option<u32>,
}

fn first_line(input: &str) -> IResult<&str, (Lsn, &str)> {
    (preceded(tag("START WAL LOCATION: "), lsn), delimited(tag(" (file "), hex_digit1, char(')'))).parse(input)
}

/// Reads a label; `None` when one of its two necessary lines is missing.
#[must_use]
pub fn parse(text: &str) -> Option<BackupLabel> {
    let mut lines = text.lines();
    let (_, (start, segment)) = first_line(lines.next()?).ok()?;
    let (_, checkpoint) =
        preceded(tag::<_, _, nom::error::Error<&str>>("CHECKPOINT LOCATION: "), lsn).parse(lines.next()?).ok()?;
    let mut out = BackupLabel { start, start_segment: segment.to_owned(), checkpoint, ..BackupLabel::default() };
    for line in lines {
        match line.split_once(": ") {
            Some(("BACKUP METHOD", v)) => v.clone_into(&mut out.method),
            Some(("BACKUP FROM", v)) => v.clone_into(&mut out.from),
            Some(("START TIMELINE", v)) => out.timeline = number::<_, nom::error::Error<&str>>(v).ok().map(|(_, n)| n),
            _ => {}
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_label() {
        let text = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: x\nLABEL: y\nSTART TIMELINE: 1\n";
        let label = parse(text).unwrap();
        assert_eq!((label.start, label.checkpoint, label.timeline), (Lsn(0x200_0028), Lsn(0x200_0060), Some(1)));
        assert_eq!(parse("START WAL LOCATION: 0/2 (file 1)\n"), None);
        assert_eq!(parse(""), None);
    }
}
