//! The arguments of `SCSET`, in the forms of 3.x and 4.x.

use super::op::{ClassArgs, ClassSet, ModeArgs, Op};
use super::token::{
    In, Out, close, colon, comma, eat, fail, hex_digit, maybe, name, num8, num16, num32, num64, open, results, then,
};

const MAX_LABELS: u8 = 9;
const EXPRESSION: usize = 128;

pub(crate) fn sc_set(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, class) = name(b',')(i)?;
    let (i, new) = then(num8)(i)?;
    let (i, ()) = comma(i)?;
    let (i, mut args) = match i.first() {
        Some(b'W') => masks(i)?,
        Some(b'C' | b'1') => expressions(i)?,
        _ => return fail(i, "'W', 'C' or '1'"),
    };
    let (i, ()) = results(i)?;
    let (i, id) = num16(i)?;
    if let ClassArgs::Expressions { description: None, group, .. } = &mut args {
        *group = u8::try_from(id).ok().filter(|&g| g < 10).unwrap_or(0);
    }
    Ok((i, Op::ScSet(Box::new(ClassSet { name: class, new, args, id }))))
}

fn masks(i: In<'_>) -> Out<'_, ClassArgs> {
    let (mut i, mut counts) = (i, [0u8; 3]);
    for (n, (count, letter)) in counts.iter_mut().zip([b'W', b'K', b'A']).enumerate() {
        if n > 0 {
            i = comma(i)?.0;
        }
        let (rest, ()) = eat(letter, "'W', 'K' or 'A'")(i)?;
        (i, *count) = num8(rest)?;
        if *count > MAX_LABELS {
            return fail(i, "at most 9 labels");
        }
    }
    let (i, mode) = then(num8)(i)?;
    let (i, delay) = then(num16)(i)?;
    let (mut i, admin) = then(num8)(i)?;
    let mut lists: [Vec<[u32; 4]>; 3] = Default::default();
    if counts.iter().all(|&c| c == 0) {
        i = then(eat(b'-', "'-'"))(i)?.0;
    }
    for (list, count) in lists.iter_mut().zip(counts) {
        for _ in 0..count {
            let mut mask = [0u32; 4];
            for m in &mut mask {
                (i, *m) = then(num32)(i)?;
            }
            list.push(mask);
        }
    }
    Ok((i, ClassArgs::Masks { lists, mode, delay, admin }))
}

fn mode(letter: u8, ec: bool) -> impl Fn(In<'_>) -> Out<'_, (u8, ModeArgs)> {
    move |i| {
        let (i, ()) = eat(letter, "'C', 'K', 'A' or 'T'")(i)?;
        let (i, ()) = open(i)?;
        let (i, count) = num8(i)?;
        let (i, ()) = colon(i)?;
        let (mut i, unique) = num32(i)?;
        let mut m = ModeArgs { ec: 0, unique, labels_mode: 0xFF, labels: Vec::new() };
        if ec {
            let (rest, ()) = colon(i)?;
            (i, m.ec) = num8(rest)?;
        }
        if i.first() == Some(&b':') {
            let (rest, ()) = colon(i)?;
            (i, m.labels_mode) = num8(rest)?;
        }
        let (i, ()) = close(i)?;
        if count > MAX_LABELS {
            return fail(i, "at most 9 labels");
        }
        Ok((i, (count, m)))
    }
}

fn delay(i: In<'_>) -> Out<'_, (u8, u16, u64)> {
    if i.first() != Some(&b'(') {
        let (i, d) = num16(i)?;
        return Ok((i, (1, d, 0)));
    }
    let (i, ()) = open(i)?;
    let (i, mode) = num8(i)?;
    let (i, ()) = colon(i)?;
    let (mut i, d) = num16(i)?;
    let mut size = 0;
    if i.first() == Some(&b':') {
        let (rest, ()) = colon(i)?;
        (i, size) = num64(rest)?;
    }
    let (i, ()) = close(i)?;
    Ok((i, (mode, d, size)))
}

fn expressions(i: In<'_>) -> Out<'_, ClassArgs> {
    let (mut i, mut description, mut priority, mut group) = (i, None, 0, 0);
    if i.first() == Some(&b'1') {
        let (rest, ()) = eat(b'1', "'1'")(i)?;
        let (rest, d) = then(name(b','))(rest)?;
        let (rest, p) = then(num32)(rest)?;
        let (rest, g) = then(num8)(rest)?;
        let (rest, ()) = comma(rest)?;
        (i, description, priority, group) = (rest, Some(d), p, g);
    }
    let (i, c) = mode(b'C', false)(i)?;
    let (i, k) = then(mode(b'K', false))(i)?;
    let (i, a) = then(mode(b'A', true))(i)?;
    let (i, t) = then(mode(b'T', true))(i)?;
    let (i, labels_mode) = then(num8)(i)?;
    let (i, (archive_mode, delay, min_size)) = then(delay)(i)?;
    let (i, min_retention) = then(num16)(i)?;
    let (mut i, admin) = then(num8)(i)?;
    let mut modes = [c, k, a, t];
    if modes.iter().all(|m| m.0 == 0) {
        i = then(eat(b'-', "'-'"))(i)?.0;
    }
    for (count, m) in &mut modes {
        for _ in 0..*count {
            let (rest, e) = then(hex)(i)?;
            m.labels.push(e);
            i = rest;
        }
    }
    let modes = Box::new(modes.map(|m| m.1));
    Ok((
        i,
        ClassArgs::Expressions {
            description,
            priority,
            group,
            modes,
            labels_mode,
            archive_mode,
            delay,
            min_size,
            min_retention,
            admin,
        },
    ))
}

fn hex(i: In<'_>) -> Out<'_, Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = i;
    while let [h, l, tail @ ..] = rest {
        let (Some(h), Some(l)) = (hex_digit(*h), hex_digit(*l)) else { break };
        out.push(h << 4 | l);
        rest = tail;
    }
    if out.len() > EXPRESSION {
        return fail(i, "a label expression of at most 128 bytes");
    }
    Ok((rest, out))
}

/// `(glob,uid,gid,priority,mask,class,retention,set[,clear])`.
pub(crate) fn pat_add(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, glob) = name(b',')(i)?;
    let (i, euid) = then(num32)(i)?;
    let (i, egid) = then(num32)(i)?;
    let (i, priority) = then(num8)(i)?;
    let (i, mask) = then(num8)(i)?;
    let (i, class) = then(num8)(i)?;
    let (i, retention) = then(num16)(i)?;
    let (i, set) = then(num8)(i)?;
    let (i, clear) = maybe(num8)(i)?;
    let (i, ()) = close(i)?;
    let clear = clear.unwrap_or(0);
    let args = super::op::PatternArgs { glob, euid, egid, priority, mask, class, retention, set, clear };
    Ok((i, Op::PatAdd(Box::new(args))))
}
