//! `PG_VERSION`: the major version as text.

/// Major version of a `PG_VERSION` file; `None` when it is not one.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let plain = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok().filter(|&v| v >= 10) } else { None }
}

/// Major version that writes WAL pages with this magic, as far as known.
#[must_use]
pub const fn of_wal_magic(magic: u16) -> Option<u32> {
    match magic {
        0xD098 => Some(11),
        0xD101 => Some(12),
        0xD106 => Some(13),
        0xD10D => Some(14),
        0xD110 => Some(15),
        0xD113 => Some(16),
        0xD116 => Some(17),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(parse(b"15\n"), Some(15));
        assert_eq!(parse(b"11"), Some(11));
        for bad in [&b""[..], b"9.6\n", b"abc", b"+5", b"\xff", b"150"] {
            assert_eq!(parse(bad), None);
        }
    }
}
