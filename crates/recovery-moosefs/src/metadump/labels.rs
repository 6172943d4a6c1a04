//! Label expressions and masks as they are typed.

use crate::format::sclass::StorageMode;

fn letters(mask: u32) -> String {
    (b'A'..=b'Z').zip(0u32..).filter(|(_, k)| mask & (1 << k) != 0).map(|(c, _)| char::from(c)).collect()
}

pub(super) fn masks(list: &[[u32; 4]]) -> String {
    let one = |m: &[u32; 4]| {
        let parts: Vec<String> = m.iter().take_while(|v| **v != 0).map(|&v| letters(v)).collect();
        if parts.is_empty() { "*".to_owned() } else { parts.join("+") }
    };
    list.iter().map(one).collect::<Vec<_>>().join(":")
}

/// A postfix label expression as it is typed: `A|B`, `A&B`, `~A`, `*`.
fn infix(rpn: &[u8]) -> String {
    let mut stack: Vec<(String, u8)> = Vec::new();
    for &b in rpn.iter().take_while(|&&b| b != 0) {
        match b {
            0xFF => stack.push(("*".to_owned(), 0)),
            0xC0..=0xFE => stack.push((char::from(b'A'.saturating_add(b & 0x3F)).to_string(), 0)),
            0x40..=0xBF => {
                let n = usize::from(b & 0x3F).saturating_add(2);
                let (level, sign) = if b >= 0x80 { (1, "&") } else { (2, "|") };
                let Some(at) = stack.len().checked_sub(n) else { return "ERROR".to_owned() };
                let parts: Vec<String> =
                    stack.drain(at..).map(|(s, l)| if l > level { format!("({s})") } else { s }).collect();
                stack.push((parts.join(sign), level));
            }
            1 => match stack.pop() {
                Some((s, 0)) => stack.push((format!("~{s}"), 0)),
                Some((s, _)) => stack.push((format!("~({s})"), 0)),
                None => return "ERROR".to_owned(),
            },
            _ => return "ERROR".to_owned(),
        }
    }
    match stack.as_slice() {
        [] => "*".to_owned(),
        [(only, _)] => only.clone(),
        _ => "ERROR".to_owned(),
    }
}

pub(super) fn expression(m: &StorageMode) -> String {
    let mut out = String::new();
    if m.ec > 0 {
        let parts = m.ec >> 4;
        let data = if parts == 4 || parts == 8 { format!("{parts}+") } else { String::new() };
        out = format!("@{data}{}", m.ec & 15);
    }
    let mut rest = m.labels.as_slice();
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|l| infix(l) == infix(first)).count();
        if !out.is_empty() {
            out.push(',');
        }
        if same > 1 {
            out.push_str(&same.to_string());
        }
        out.push_str(&infix(first));
        rest = rest.get(same..).unwrap_or_default();
    }
    if m.unique != 0 {
        out.push('/');
        out.push_str(&if m.unique & (1 << 31) != 0 {
            "[IP]".to_owned()
        } else if m.unique & (1 << 30) != 0 {
            "[RACK]".to_owned()
        } else {
            letters(m.unique)
        });
    }
    match m.labels_mode {
        0 => out.push_str(":LOOSE"),
        1 => out.push_str(":STD"),
        2 => out.push_str(":STRICT"),
        _ => {}
    }
    out
}
