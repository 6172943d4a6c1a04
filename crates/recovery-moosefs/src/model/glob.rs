//! Globs of patterns, matched as the 4.x master matches them.
//!
//! `*` any run, `?` any byte, `[a-z]` and `[!a-z]` a range, `\` makes the next byte literal. In the middle of a glob
//! the master steps over a match by the length of the *first* piece, not of the piece it matched; the result of a
//! replay depends on it, so it is the same here. Source: upstream `mfscommon/globengine.c`.

#[derive(Clone, Debug, PartialEq, Eq)]
enum Atom {
    Byte(u8),
    Any,
    Range(Box<[bool; 256]>),
}

/// A compiled glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    pieces: Vec<Vec<Atom>>,
    star_first: bool,
    star_last: bool,
}

fn range(mut body: &[u8]) -> Box<[bool; 256]> {
    let negative = body.first() == Some(&b'!');
    if negative {
        body = body.get(1..).unwrap_or_default();
    }
    let mut set = Box::new([negative; 256]);
    while let Some((&a, rest)) = body.split_first() {
        let b = match rest {
            [b'-', b, tail @ ..] => {
                body = tail;
                *b
            }
            _ => {
                body = rest;
                a
            }
        };
        for v in a..=b {
            if let Some(slot) = set.get_mut(usize::from(v)) {
                *slot = !negative;
            }
        }
    }
    set
}

impl Glob {
    /// Compiles a glob.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let text = text.split(|&b| b == 0).next().unwrap_or_default();
        let (mut stars, mut pieces, mut current): (Vec<bool>, Vec<Vec<Atom>>, Vec<Atom>) =
            (Vec::new(), Vec::new(), Vec::new());
        let mut rest = text;
        while let Some((&c, tail)) = rest.split_first() {
            rest = tail;
            match c {
                b'*' => {
                    if !current.is_empty() {
                        pieces.push(std::mem::take(&mut current));
                        stars.push(false);
                    }
                    if stars.last() != Some(&true) {
                        stars.push(true);
                    }
                }
                b'?' => current.push(Atom::Any),
                b'[' => match tail.iter().position(|&b| b == b']') {
                    Some(end) => {
                        current.push(Atom::Range(range(tail.get(..end).unwrap_or_default())));
                        rest = tail.get(end.saturating_add(1)..).unwrap_or_default();
                    }
                    None => current.push(Atom::Byte(b'[')),
                },
                b'\\' => match tail.split_first() {
                    Some((&next, after)) => {
                        current.push(Atom::Byte(next));
                        rest = after;
                    }
                    None => current.push(Atom::Byte(b'\\')),
                },
                other => current.push(Atom::Byte(other)),
            }
        }
        if !current.is_empty() {
            pieces.push(current);
            stars.push(false);
        }
        Self { pieces, star_first: stars.first() == Some(&true), star_last: stars.last() == Some(&true) }
    }

    /// Whether a name matches.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        let (Some(first), Some(last)) = (self.pieces.first(), self.pieces.last()) else {
            return self.star_first || self.star_last;
        };
        if name.len() < self.pieces.iter().map(Vec::len).sum() {
            return false;
        }
        if self.pieces.len() == 1 {
            return match (self.star_first, self.star_last) {
                (true, true) => closest(first, name).is_some(),
                (false, true) => prefix(first, name),
                (true, false) => suffix(first, name),
                (false, false) => first.len() == name.len() && prefix(first, name),
            };
        }
        let start = if self.star_first { closest(first, name) } else { prefix(first, name).then_some(0) };
        let Some(mut rest) = start.and_then(|p| name.get(p.saturating_add(first.len())..)) else { return false };
        let middle = self.pieces.get(1..self.pieces.len().saturating_sub(1)).unwrap_or_default();
        for piece in middle {
            let Some(p) = closest(piece, rest) else { return false };
            match rest.get(p.saturating_add(first.len())..) {
                Some(tail) => rest = tail,
                None => return false,
            }
        }
        if self.star_last { closest(last, rest).is_some() } else { suffix(last, rest) }
    }
}

fn prefix(piece: &[Atom], name: &[u8]) -> bool {
    piece.len() <= name.len()
        && piece.iter().zip(name).all(|(a, &b)| match a {
            Atom::Byte(c) => *c == b,
            Atom::Any => true,
            Atom::Range(set) => set.get(usize::from(b)).copied().unwrap_or(false),
        })
}

fn suffix(piece: &[Atom], name: &[u8]) -> bool {
    name.len().checked_sub(piece.len()).and_then(|at| name.get(at..)).is_some_and(|tail| prefix(piece, tail))
}

fn closest(piece: &[Atom], name: &[u8]) -> Option<usize> {
    (0..=name.len().checked_sub(piece.len())?).find(|&p| name.get(p..).is_some_and(|rest| prefix(piece, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match() {
        let ok = |g: &[u8], n: &[u8]| Glob::new(g).matches(n);
        assert!(ok(b"*.tmp", b"a.tmp") && !ok(b"*.tmp", b"a.tmpx") && ok(b"a*", b"abc") && ok(b"*b*", b"abc"));
        assert!(ok(b"[!0-9]?", b"ab") && !ok(b"[!0-9]?", b"1b") && ok(b"\\*x", b"*x") && !ok(b"\\*x", b"ax"));
        assert!(ok(b"*", b"") && ok(b"a*c", b"abc") && !ok(b"a*c", b"ab") && ok(b"abc", b"abc"));
    }
}
