//! `TTTTTTTT.history`: where a timeline branched off.
//!
//! Each line: parent timeline, position of the switch, reason, separated by blanks or tabs; `#` begins a comment.
//! Upstream: `src/backend/access/transam/timeline.c` (`readTimeLineHistory`).

use nom::branch::alt;
use nom::bytes::complete::take_while1;
use nom::character::complete::{char, hex_digit1, space0, space1, u32 as number};
use nom::combinator::{all_consuming, map, map_opt, rest};
use nom::sequence::{preceded, separated_pair};
use nom::{IResult, Parser};
use serde::Serialize;

use super::Lsn;

/// One branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Branch {
    /// The older timeline.
    pub timeline: u32,
    /// Where it was left.
    pub switch: Lsn,
    /// Why.
    pub reason: String,
}

/// A line that is neither a branch nor a comment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: expected a timeline, an LSN and a reason")]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
}

pub(crate) fn lsn(input: &str) -> IResult<&str, Lsn> {
    let pair = separated_pair(hex_digit1, char('/'), hex_digit1);
    map_opt(pair, |(hi, lo): (&str, &str)| format!("{hi}/{lo}").parse().ok()).parse(input)
}

fn branch(input: &str) -> IResult<&str, Branch> {
    let head = separated_pair(number, space1, lsn);
    let reason = alt((preceded(space1, rest), preceded(space0, nom::combinator::eof)));
    map((head, reason), |((timeline, switch), reason): (_, &str)| Branch {
        timeline,
        switch,
        reason: reason.trim_end().to_owned(),
    })
    .parse(input)
}

/// Reads a history file, oldest branch first.
///
/// # Errors
///
/// At the first line the server would refuse: malformed, or timelines that do not grow.
pub fn parse(text: &str) -> Result<Vec<Branch>, BadLine> {
    let mut out: Vec<Branch> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (_, found) = all_consuming(branch).parse(line).map_err(|_| BadLine { line: i + 1 })?;
        if out.last().is_some_and(|last| last.timeline >= found.timeline) {
            return Err(BadLine { line: i + 1 });
        }
        out.push(found);
    }
    Ok(out)
}

/// Timeline of a history file's name.
#[must_use]
pub fn timeline_of(name: &str) -> Option<u32> {
    let stem = name.strip_suffix(".history").filter(|s| s.len() == 8)?;
    let fine = |s: &str| {
        take_while1::<_, _, nom::error::Error<&str>>(|c: char| c.is_ascii_digit() || ('A'..='F').contains(&c))
            .parse(s)
            .is_ok_and(|(left, _)| left.is_empty())
    };
    if fine(stem) { u32::from_str_radix(stem, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn lines() {
        let text = "# c\n\n1\t0/3000148\tno recovery target specified\n2 1/0\n";
        let found = parse(text).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].timeline, found[0].switch, found[0].reason.as_str()),
            (1, Lsn(0x300_0148), "no recovery target specified")
        );
        assert_eq!(found[1].switch, Lsn(1 << 32));
        assert_eq!(parse("2 0/1 x\n1 0/2 y"), Err(BadLine { line: 2 }));
        assert_eq!(parse("x"), Err(BadLine { line: 1 }));
        assert_eq!(timeline_of("0000000A.history"), Some(10));
        assert_eq!(timeline_of("0000000a.history"), None);
        assert_eq!(timeline_of("00000001.history.tmp"), None);
    }
}
