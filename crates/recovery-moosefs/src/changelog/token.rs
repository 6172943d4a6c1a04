//! The smallest parsers: numbers, names, separators.

use nom::error::{ErrorKind, ParseError};
use nom::{Err, IResult};

use super::op::Span;

/// What was expected, and the rest of the line where it was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected<'a> {
    pub(crate) rest: &'a [u8],
    pub(crate) what: &'static str,
}

impl<'a> ParseError<&'a [u8]> for Expected<'a> {
    fn from_error_kind(rest: &'a [u8], _: ErrorKind) -> Self {
        Self { rest, what: "another character" }
    }
    fn append(_: &'a [u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

pub(crate) type In<'a> = &'a [u8];
pub(crate) type Out<'a, T> = IResult<In<'a>, T, Expected<'a>>;

#[cold]
pub(crate) fn fail<'a, T>(rest: In<'a>, what: &'static str) -> Out<'a, T> {
    Err(Err::Error(Expected { rest, what }))
}

pub(crate) const fn hex_digit(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

/// One given character.
#[inline]
pub(crate) fn eat(c: u8, what: &'static str) -> impl Fn(In<'_>) -> Out<'_, ()> {
    move |i| match i.split_first() {
        Some((&b, rest)) if b == c => Ok((rest, ())),
        _ => fail(i, what),
    }
}

macro_rules! eats {
    ($($name:ident $c:literal $what:literal),*) => {$(
        #[inline]
        pub(crate) fn $name(i: In<'_>) -> Out<'_, ()> {
            eat($c, $what)(i)
        }
    )*};
}
eats!(open b'(' "'('", close b')' "')'", comma b',' "','", colon b':' "':'");

/// A number by the rules of `strtoull`: blanks and a sign are tolerated, no digits are 0, overflow saturates.
#[inline]
pub(crate) fn num64(i: In<'_>) -> Out<'_, u64> {
    let mut v: u64 = 0;
    let mut rest = i;
    while let Some((&b, tail)) = rest.split_first() {
        let d = b.wrapping_sub(b'0');
        if d > 9 {
            break;
        }
        v = v.checked_mul(10).and_then(|v| v.checked_add(u64::from(d))).unwrap_or(u64::MAX);
        rest = tail;
    }
    if rest.len() == i.len() {
        return odd_number(i);
    }
    Ok((rest, v))
}

#[cold]
fn odd_number(i: In<'_>) -> Out<'_, u64> {
    let blanks = i.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    let mut rest = i.get(blanks..).unwrap_or_default();
    let mut negative = false;
    if let Some((&s @ (b'+' | b'-'), tail)) = rest.split_first() {
        negative = s == b'-';
        rest = tail;
    }
    if !rest.first().is_some_and(u8::is_ascii_digit) {
        return Ok((i, 0));
    }
    let (rest, v) = num64(rest)?;
    Ok((rest, if negative { v.wrapping_neg() } else { v }))
}

/// A number of 32 bits; longer ones lose their high bits, as in the original.
#[inline]
pub(crate) fn num32(i: In<'_>) -> Out<'_, u32> {
    let (i, v) = num64(i)?;
    Ok((i, (v & 0xFFFF_FFFF) as u32))
}

/// A number of 16 bits; larger ones are errors.
#[inline]
pub(crate) fn num16(i: In<'_>) -> Out<'_, u16> {
    let (rest, v) = num32(i)?;
    u16::try_from(v).map_or_else(|_| fail(i, "a number up to 65535"), |v| Ok((rest, v)))
}

/// A number of 8 bits; larger ones are errors.
#[inline]
pub(crate) fn num8(i: In<'_>) -> Out<'_, u8> {
    let (rest, v) = num32(i)?;
    u8::try_from(v).map_or_else(|_| fail(i, "a number up to 255"), |v| Ok((rest, v)))
}

/// A comma, then what `f` reads.
#[inline]
pub(crate) fn then<'a, T>(f: impl Fn(In<'a>) -> Out<'a, T>) -> impl Fn(In<'a>) -> Out<'a, T> {
    move |i| {
        let (i, ()) = comma(i)?;
        f(i)
    }
}

/// A comma and what `f` reads, or nothing.
#[inline]
pub(crate) fn maybe<'a, T>(f: impl Fn(In<'a>) -> Out<'a, T>) -> impl Fn(In<'a>) -> Out<'a, Option<T>> {
    move |i| {
        if i.first() == Some(&b',') {
            let (i, ()) = comma(i)?;
            let (i, v) = f(i)?;
            return Ok((i, Some(v)));
        }
        Ok((i, None))
    }
}

/// Escaped text up to (not including) `sep`, of at most `max` bytes when unescaped.
#[inline]
pub(crate) fn raw(sep: u8, max: usize) -> impl Fn(In<'_>) -> Out<'_, Span> {
    move |i| {
        let mut n = 0usize;
        let mut decoded = 0usize;
        while let Some(&b) = i.get(n) {
            if b == sep {
                let (_, rest) = i.split_at_checked(n).unwrap_or((i, &[]));
                if decoded > max {
                    return fail(rest, "a shorter name");
                }
                return Ok((rest, Span::new(i.len(), n)));
            }
            if b == b'%' {
                let ok = |k: usize| i.get(n.saturating_add(k)).is_some_and(|&h| hex_digit(h).is_some());
                if !ok(1) || !ok(2) {
                    return fail(i.get(n..).unwrap_or_default(), "two upper-case hexadecimal digits");
                }
                n += 2;
            } else if matches!(b, 0 | b'\r' | b'\n') {
                break;
            }
            n += 1;
            decoded += 1;
        }
        fail(i.get(n..).unwrap_or_default(), if sep == b',' { "','" } else { "')'" })
    }
}

/// A name of at most 255 bytes up to `sep`.
#[inline]
pub(crate) fn name(sep: u8) -> impl Fn(In<'_>) -> Out<'_, Span> {
    raw(sep, 255)
}

/// A path or value of any length up to `sep`.
#[inline]
pub(crate) fn data(sep: u8) -> impl Fn(In<'_>) -> Out<'_, Span> {
    raw(sep, usize::MAX)
}

/// `):` and then results.
#[inline]
pub(crate) fn results(i: In<'_>) -> Out<'_, ()> {
    let (i, ()) = close(i)?;
    colon(i)
}

/// The argument list of one number.
pub(crate) fn one32(i: In<'_>) -> Out<'_, u32> {
    let (i, ()) = open(i)?;
    let (i, v) = num32(i)?;
    let (i, ()) = close(i)?;
    Ok((i, v))
}

/// The argument list of one wide number.
pub(crate) fn one64(i: In<'_>) -> Out<'_, u64> {
    let (i, ()) = open(i)?;
    let (i, v) = num64(i)?;
    let (i, ()) = close(i)?;
    Ok((i, v))
}

/// The argument list of two numbers.
pub(crate) fn two32(i: In<'_>) -> Out<'_, (u32, u32)> {
    let (i, ()) = open(i)?;
    let (i, a) = num32(i)?;
    let (i, b) = then(num32)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, (a, b)))
}
