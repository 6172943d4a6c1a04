//! Names and attributes of nodes.

use crate::changelog::op::{AclArgs, Attribute, Op, QuotaArgs, RecoverArgs, SnapshotArgs};
use crate::changelog::token::{
    In, Out, close, colon, comma, data, fail, maybe, name, num8, num16, num32, num64, open, results, then,
};
use crate::changelog::unescape;

pub(crate) fn attr(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, mode) = then(num32)(i)?;
    let (i, uid) = then(num32)(i)?;
    let (i, gid) = then(num32)(i)?;
    let (i, atime) = then(num32)(i)?;
    let (i, mtime) = then(num32)(i)?;
    let (i, first) = maybe(num32)(i)?;
    let (i, second) = maybe(num32)(i)?;
    let (i, ()) = close(i)?;
    let (winattr, aclmode) = match (first, second) {
        (Some(w), Some(a)) => (w, a),
        (Some(a), None) => (0, a),
        _ => (0, mode),
    };
    let (winattr, aclmode) = ((winattr & 0xFF) as u8, (aclmode & 0xFFFF) as u16);
    Ok((i, Op::Attr { inode, mode, uid, gid, atime, mtime, winattr, aclmode }))
}

pub(crate) fn create(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, parent) = num32(i)?;
    let (i, n) = then(name(b','))(i)?;
    let (i, ()) = comma(i)?;
    let (i, kind) = match i.split_first() {
        Some((b, _)) if b.is_ascii_digit() => num8(i)?,
        Some((&b, rest)) => (rest, b),
        None => return fail(i, "a node type"),
    };
    let (mut i, mode) = then(num16)(i)?;
    let mut umask = 0;
    if kind < 16 {
        (i, umask) = then(num16)(i)?;
    }
    let (i, uid) = then(num32)(i)?;
    let (i, gid) = then(num32)(i)?;
    let (i, rdev) = then(num32)(i)?;
    let (i, ()) = results(i)?;
    let (i, inode) = num32(i)?;
    Ok((i, Op::Create { parent, name: n, kind, mode, umask, uid, gid, rdev, inode }))
}

pub(crate) fn link(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, parent) = then(num32)(i)?;
    let (i, n) = then(name(b')'))(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::Link { inode, parent, name: n }))
}

pub(crate) fn rename(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, from) = num32(i)?;
    let (i, n) = then(name(b','))(i)?;
    let (i, to) = then(num32)(i)?;
    let (i, ()) = comma(i)?;
    let plain = i.iter().find(|b| matches!(b, b',' | b'(' | b')')) != Some(&b',');
    let (i, new_name) = name(if plain { b')' } else { b',' })(i)?;
    let (i, mode) = maybe(num8)(i)?;
    let (i, ()) = results(i)?;
    let (i, inode) = num32(i)?;
    Ok((i, Op::Move { from, name: n, to, new_name, mode: mode.unwrap_or(0), inode }))
}

pub(crate) fn symlink(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, parent) = num32(i)?;
    let (i, n) = then(name(b','))(i)?;
    let (i, path) = then(data(b','))(i)?;
    let (i, uid) = then(num32)(i)?;
    let (i, gid) = then(num32)(i)?;
    let (i, ()) = results(i)?;
    let (i, inode) = num32(i)?;
    Ok((i, Op::Symlink { parent, name: n, path, uid, gid, inode }))
}

pub(crate) fn unlink(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, parent) = num32(i)?;
    let (i, n) = then(name(b')'))(i)?;
    let (i, ()) = results(i)?;
    let (i, inode) = num32(i)?;
    Ok((i, Op::Unlink { parent, name: n, inode }))
}

pub(crate) fn amtime(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, atime) = then(num32)(i)?;
    let (i, mtime) = then(num32)(i)?;
    let (i, ctime) = then(num32)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::AmTime { inode, atime, mtime, ctime }))
}

pub(crate) fn setpath(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, path) = then(data(b')'))(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::SetPath { inode, path }))
}

pub(crate) fn setxattr(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, n) = then(name(b','))(i)?;
    let (i, value) = then(data(b','))(i)?;
    let (i, mode) = then(num32)(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::SetXattr { inode, name: n, value, mode }))
}

pub(crate) fn setacl(i: In<'_>) -> Out<'_, Op> {
    let mut a = AclArgs::default();
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, mode) = then(num16)(i)?;
    let (i, change_ctime) = then(num8)(i)?;
    let (mut i, kind) = then(num8)(i)?;
    (a.inode, a.mode, a.change_ctime, a.kind) = (inode, mode, change_ctime, kind);
    for field in a.perms.iter_mut().chain(&mut a.named) {
        (i, *field) = then(num16)(i)?;
    }
    let (i, blob) = then(data(b')'))(i)?;
    a.blob = blob;
    let (i, ()) = close(i)?;
    Ok((i, Op::SetAcl(Box::new(a))))
}

pub(crate) fn addattr(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, flags) = then(num8)(i)?;
    let (i, blob) = then(data(b')'))(i)?;
    let (i, ()) = close(i)?;
    Ok((i, Op::AddAttr { inode, flags, blob }))
}

pub(crate) fn set(i: In<'_>, what: Attribute) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, uid) = then(num32)(i)?;
    let (mut i, source) = then(num32)(i)?;
    let mut value = source;
    if what == Attribute::Class {
        (i, value) = then(num32)(i)?;
    }
    let (i, mode) = then(num32)(i)?;
    let (i, ()) = results(i)?;
    let (i, changed) = num32(i)?;
    let (i, same) = then(num32)(i)?;
    let (i, denied) = then(num32)(i)?;
    Ok((i, Op::Set { what, inode, uid, source, value, mode, expect: [changed, same, denied] }))
}

pub(crate) fn trash_recover(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, parent) = then(num32)(i)?;
    let (i, path) = then(data(b','))(i)?;
    let (i, umask) = then(num16)(i)?;
    let (i, uid) = then(num32)(i)?;
    let (i, gid) = then(num32)(i)?;
    let (i, copy_sgid) = then(num8)(i)?;
    let (i, ()) = results(i)?;
    let (i, ()) = open(i)?;
    let (i, used) = data(b')')(i)?;
    Ok((i, Op::TrashRecover(Box::new(RecoverArgs { inode, parent, path, umask, uid, gid, copy_sgid, used }))))
}

pub(crate) fn quota(i: In<'_>) -> Out<'_, Op> {
    let mut q = QuotaArgs::default();
    let (i, ()) = open(i)?;
    let (mut i, inode) = num32(i)?;
    q.inode = inode;
    let [soft, hard] = &mut q.inodes;
    for field in [&mut q.exceeded, &mut q.flags, &mut q.time, soft, hard] {
        (i, *field) = then(num32)(i)?;
    }
    for field in &mut q.limits {
        (i, *field) = then(num64)(i)?;
    }
    let (i, grace) = maybe(num32)(i)?;
    q.grace = grace;
    let (i, ()) = close(i)?;
    Ok((i, Op::Quota(Box::new(q))))
}

pub(crate) fn archchg(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, uid) = then(num32)(i)?;
    let (i, cmd) = then(num8)(i)?;
    let (i, ()) = results(i)?;
    let (i, changed) = num64(i)?;
    let (i, unchanged) = then(num64)(i)?;
    let (i, denied) = then(num32)(i)?;
    Ok((i, Op::ArchChg { inode, uid, cmd, changed, unchanged, denied }))
}

pub(crate) fn autoarch(i: In<'_>) -> Out<'_, Op> {
    let (i, ()) = open(i)?;
    let (i, inode) = num32(i)?;
    let (i, reftime) = then(num32)(i)?;
    let (i, in_trash) = maybe(num8)(i)?;
    let (i, ()) = results(i)?;
    let (mut i, arch) = num32(i)?;
    let mut trash = 0;
    if in_trash.is_some() {
        (i, trash) = then(num32)(i)?;
    }
    Ok((i, Op::AutoArch { inode, reftime, in_trash, arch, trash }))
}

/// The groups: `[g1,g2]`, a count and raw words, or one group.
pub(crate) fn gids(i: In<'_>) -> Out<'_, Vec<u32>> {
    if let Some((b'[', mut i)) = i.split_first() {
        let mut list = Vec::new();
        loop {
            match i.split_first() {
                Some((b']', rest)) => return Ok((rest, list)),
                Some((b',', rest)) => i = rest,
                Some((b, _)) if b.is_ascii_digit() => {
                    let (rest, g) = num32(i)?;
                    list.push(g);
                    i = rest;
                }
                _ => return fail(i, "a number, ',' or ']'"),
            }
        }
    }
    let (i, n) = num32(i)?;
    let rest = i.get(1..).unwrap_or_default();
    let raw = rest.iter().take_while(|&&b| b != b')').any(|b| !b.is_ascii_digit());
    if !raw {
        return Ok((i, vec![n]));
    }
    let (after, blob) = then(data(b','))(i)?;
    let mut bytes = Vec::new();
    unescape(blob.of(i), &mut bytes);
    if bytes.len() as u64 != u64::from(n).saturating_mul(4) {
        return fail(i, "four bytes a group");
    }
    let list = bytes.as_chunks::<4>().0.iter().map(|c| u32::from_le_bytes(*c)).collect();
    Ok((after, list))
}

pub(crate) fn snapshot(i: In<'_>) -> Out<'_, Op> {
    let mut s = SnapshotArgs::default();
    let (i, ()) = open(i)?;
    let (i, source) = num32(i)?;
    let (i, parent) = then(num32)(i)?;
    let (i, n) = then(name(b','))(i)?;
    let (i, mode) = then(num32)(i)?;
    (s.source, s.parent, s.name, s.mode) = (source, parent, n, mode);
    if i.first() == Some(&b')') {
        s.old = true;
        let (i, ()) = close(i)?;
        return Ok((i, Op::Snapshot(Box::new(s))));
    }
    let (i, flags) = then(num32)(i)?;
    let (i, uid) = then(num32)(i)?;
    let (i, list) = then(gids)(i)?;
    let (i, umask) = then(num32)(i)?;
    let (mut i, ()) = close(i)?;
    (s.flags, s.uid, s.gids, s.umask) = (flags, uid, list, umask);
    if i.first() == Some(&b':') {
        let mut e = [0u32; 6];
        i = colon(i)?.0;
        for (k, v) in e.iter_mut().enumerate() {
            if k > 0 {
                i = comma(i)?.0;
            }
            (i, *v) = num32(i)?;
        }
        s.expect = Some(e);
    }
    Ok((i, Op::Snapshot(Box::new(s))))
}
