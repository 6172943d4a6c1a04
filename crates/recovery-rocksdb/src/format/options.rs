//! `OPTIONS-N`: the options in force, as text (upstream `options/options_parser.cc`).
//!
//! ```text
//! [Version]
//!   rocksdb_version=9.8.4
//! [DBOptions]
//!   wal_dir=/fast/wal
//! [CFOptions "default"]
//!   comparator=leveldb.BytewiseComparator
//! [TableOptions/BlockBasedTable "default"]
//!   block_size=4096
//! ```
//!
//! Families stand in the order of their creation, so their ids ascend; dropped ones are missing. In values and names a
//! backslash escapes the next character (`\n`, `\r`, `\\`, `\#`, `\:`), and `#` begins a comment.

use nom::IResult;
use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_while1};
use nom::character::complete::{anychar, char, not_line_ending, space0};
use nom::combinator::{map, opt, rest, verify};
use nom::multi::fold_many0;
use nom::sequence::{delimited, pair, preceded, terminated};

/// One `[kind "name"]` section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// `Version`, `DBOptions`, `CFOptions`, `TableOptions/BlockBasedTable`, ….
    pub kind: String,
    /// Name of the family, unescaped.
    pub name: Option<String>,
    /// `key=value` pairs in order, values unescaped.
    pub entries: Vec<(String, String)>,
}

impl Section {
    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// A parsed options file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Sections in order.
    pub sections: Vec<Section>,
    /// Lines that are neither section, entry, comment nor empty, by number from 1.
    pub bad_lines: Vec<usize>,
}

fn escaped(input: &str) -> IResult<&str, char> {
    preceded(
        char('\\'),
        map(anychar, |c| match c {
            'n' => '\n',
            'r' => '\r',
            other => other,
        }),
    )
    .parse(input)
}

fn text(stop: impl Fn(char) -> bool + Copy) -> impl FnMut(&str) -> IResult<&str, String> {
    move |input| {
        let plain = verify(anychar, move |c: &char| *c != '\\' && !stop(*c));
        fold_many0(alt((escaped, plain)), String::new, |mut s, c| {
            s.push(c);
            s
        })
        .parse(input)
    }
}

fn section_line(input: &str) -> IResult<&str, Section> {
    let kind = take_while1(|c: char| c != '"' && c != ']' && c != '\\');
    let name = delimited(char('"'), text(|c| c == '"'), char('"'));
    let (rest, (kind, name)) = delimited(char('['), pair(kind, opt(name)), pair(space0, char(']'))).parse(input)?;
    Ok((rest, Section { kind: kind.trim().to_owned(), name, entries: Vec::new() }))
}

fn entry_line(input: &str) -> IResult<&str, (String, String)> {
    let key = terminated(take_while1(|c: char| c != '=' && c != '[' && c != '#'), char('='));
    let (rest, (key, value)) = pair(key, text(|c| c == '#')).parse(input)?;
    Ok((rest, (key.trim().to_owned(), value.trim().to_owned())))
}

fn comment(input: &str) -> IResult<&str, &str> {
    preceded(pair(space0, tag("#")), rest).parse(input)
}

fn one_line(input: &str) -> IResult<&str, &str> {
    terminated(not_line_ending, take_till(|c| c != '\r' && c != '\n')).parse(input)
}

impl Options {
    /// Parses the whole text; what is no option line is counted, never fatal.
    #[must_use]
    pub fn parse(input: &str) -> Self {
        let mut out = Self::default();
        for (i, line) in input.lines().enumerate() {
            let line = one_line(line).map_or(line, |(_, l)| l).trim();
            if line.is_empty() || comment(line).is_ok() {
                continue;
            }
            if let Ok((_, section)) = section_line(line) {
                out.sections.push(section);
            } else if let (Ok((_, entry)), Some(section)) = (entry_line(line), out.sections.last_mut()) {
                section.entries.push(entry);
            } else {
                out.bad_lines.push(i.saturating_add(1));
            }
        }
        out
    }

    /// The `DBOptions` value of `key`.
    #[must_use]
    pub fn db(&self, key: &str) -> Option<&str> {
        self.sections.iter().find(|s| s.kind == "DBOptions").and_then(|s| s.get(key))
    }

    /// Version that wrote the file.
    #[must_use]
    pub fn writer(&self) -> Option<&str> {
        self.sections.iter().find(|s| s.kind == "Version").and_then(|s| s.get("rocksdb_version"))
    }

    /// The families in order.
    pub fn families(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(|s| s.kind == "CFOptions" && s.name.is_some())
    }

    /// The section of one family.
    #[must_use]
    pub fn family(&self, name: &str) -> Option<&Section> {
        self.families().find(|s| s.name.as_deref() == Some(name))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXT: &str = "# comment\n[Version]\n  rocksdb_version=9.8.4\n[DBOptions]\n  wal_dir=/a\\#b # note\n  junk\n\
        [CFOptions \"default\"]\n  comparator=leveldb.BytewiseComparator\n  compression_opts={level=3;parallel=1;}\n\
        [TableOptions/BlockBasedTable \"default\"]\n  block_size=4096\n[CFOptions \"a\\\"b\"]\n  num_levels=1\n";

    #[test]
    fn sections_families_and_escapes() {
        let o = Options::parse(TEXT);
        assert_eq!(o.writer(), Some("9.8.4"));
        assert_eq!(o.db("wal_dir"), Some("/a#b"));
        assert_eq!(o.families().map(|s| s.name.clone().unwrap()).collect::<Vec<_>>(), ["default", "a\"b"]);
        assert_eq!(o.family("default").unwrap().get("compression_opts"), Some("{level=3;parallel=1;}"));
        assert_eq!(o.family("a\"b").unwrap().get("num_levels"), Some("1"));
        assert_eq!(o.bad_lines, [6]);
    }

    #[test]
    fn any_cut_parses() {
        for (i, _) in TEXT.char_indices() {
            let _ = Options::parse(TEXT.get(..i).unwrap());
        }
    }
}
