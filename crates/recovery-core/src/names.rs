//! Names and values from input are hostile: one place that makes them safe for each use.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::error::{Error, Result};

/// Longest path component in bytes (the limit of common file systems).
const MAX_COMPONENT: usize = 255;

/// Accepts a name as one component of an output path.
///
/// # Errors
///
/// When it is empty, `.`, `..`, too long, or holds a '/' or NUL.
pub fn component(name: &str) -> Result<&str> {
    let bad = name.is_empty() || name == "." || name == ".." || name.len() > MAX_COMPONENT;
    if bad || name.contains(['/', '\0']) {
        return Err(Error::Usage(format!("{}: not usable as a file name", terminal(name))));
    }
    Ok(name)
}

/// Makes any name usable as one component: what is not safe is written as `%` and two hexadecimal digits.
#[must_use]
pub fn escaped_component(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.char_indices() {
        let leading_dot = i == 0 && c == '.';
        if c == '/' || c == '%' || c.is_control() || leading_dot {
            let mut buf = [0; 4];
            for byte in c.encode_utf8(&mut buf).bytes() {
                let _ = write!(out, "%{byte:02x}");
            }
        } else {
            out.push(c);
        }
    }
    if out.is_empty() {
        out.push_str("%00");
    }
    let mut end = out.len().min(MAX_COMPONENT);
    while !out.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    out.truncate(end);
    out
}

/// Accepts a '/'-separated path below the result's root.
///
/// # Errors
///
/// When one of its parts is not a [`component`], or it lies in the tool's own `.recover`.
pub fn relative_path(path: &str) -> Result<&str> {
    for part in path.split('/') {
        component(part)?;
    }
    if path.split('/').next() == Some(crate::target::OWN_DIR) {
        return Err(Error::Usage(format!("{}: the name is kept for the tool itself", terminal(path))));
    }
    Ok(path)
}

/// Escapes control bytes, so that a hostile name cannot steer a terminal.
#[must_use]
pub fn terminal(text: &str) -> Cow<'_, str> {
    // Bidirectional overrides reorder what a person reads; they are as hostile as an escape sequence.
    let hostile = |c: char| {
        c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    if !text.contains(hostile) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if hostile(c) {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Like [`terminal`], but line feeds and tabs stay: for whole messages.
#[must_use]
pub fn terminal_lines(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(|l| l.split('\t').map(terminal).collect::<Vec<_>>().join("\t")).collect();
    lines.join("\n")
}

/// Quotes a word for a POSIX shell.
#[must_use]
pub fn shell(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

/// Quotes a string value of PostgreSQL's configuration files: `'it''s'`.
///
/// # Errors
///
/// When it holds a line break or NUL, which such a file cannot hold.
pub fn conf_value(value: &str) -> Result<String> {
    if value.contains(['\n', '\r', '\0']) {
        return Err(Error::Usage(format!("{}: not usable in a configuration file", terminal(value))));
    }
    Ok(format!("'{}'", value.replace('\\', r"\\").replace('\'', "''")))
}

/// Quotes a string literal of MySQL-like SQL (StarRocks, Doris).
#[must_use]
pub fn sql_string(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\0' => out.push_str("\\0"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Quotes an identifier of MySQL-like SQL.
#[must_use]
pub fn sql_name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Escapes text for HTML, also inside quoted attributes.
#[must_use]
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' && c != '\t' => {
                let _ = write!(out, "{}", c.escape_default());
            }
            c => out.push(c),
        }
    }
    out
}

/// What stands in place of a secret.
pub const REDACTED: &str = "***";

/// Whether a key's value must not appear in reports.
#[must_use]
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["secret", "password", "passwd", "access_key", "accesskey", "token", "credential", "private_key"]
        .iter()
        .any(|s| key.contains(s))
        || key == "primary_conninfo"
        || key == "pwd"
}

/// The value to show for a key: `***` for a secret, an address without user info and query.
#[must_use]
pub fn redact<'a>(key: &str, value: &'a str) -> Cow<'a, str> {
    if is_secret(key) { Cow::Borrowed(REDACTED) } else { redact_url(value) }
}

/// An address without its user info and query; other text unchanged.
#[must_use]
pub fn redact_url(value: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = value.split_once("://") else { return Cow::Borrowed(value) };
    let (authority, path) = rest.find(['/', '?', '#']).map_or((rest, ""), |i| rest.split_at(i));
    let query = path.find('?');
    let user = authority.rfind('@');
    if query.is_none() && user.is_none() {
        return Cow::Borrowed(value);
    }
    let host = user.and_then(|i| authority.get(i.saturating_add(1)..)).unwrap_or(authority);
    let path = query.and_then(|i| path.get(..i)).unwrap_or(path);
    let hidden_user = if user.is_some() { "***@" } else { "" };
    let hidden_query = if query.is_some() { "?***" } else { "" };
    Cow::Owned(format!("{scheme}://{hidden_user}{host}{path}{hidden_query}"))
}

/// Redacts the secrets of a JSON value in place.
pub fn redact_json(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, inner) in map.iter_mut() {
                if is_secret(key) && !inner.is_null() {
                    *inner = REDACTED.into();
                } else {
                    redact_json(inner);
                }
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(redact_json),
        serde_json::Value::String(text) => {
            if let Cow::Owned(shown) = redact_url(text) {
                *text = shown;
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_cannot_escape() {
        for bad in ["", ".", "..", "a/../b", "/etc", "a//b", "a/", "nul\0", ".recover/x"] {
            assert!(relative_path(bad).is_err(), "{bad:?}");
        }
        assert_eq!(relative_path("pg_wal/0001.history").unwrap(), "pg_wal/0001.history");
    }

    #[test]
    fn secrets_are_hidden() {
        assert_eq!(redact("aws_secret_key", "hunter2"), "***");
        assert_eq!(redact("location", "s3://user:pw@host/b?sig=1"), "s3://***@host/b?***");
        assert_eq!(redact("location", "s3://bucket/prefix"), "s3://bucket/prefix");
        let mut json = serde_json::json!({"a": [{"password": "x", "n": 1}], "u": "http://a:b@c/"});
        redact_json(&mut json);
        assert_eq!(json, serde_json::json!({"a": [{"password": "***", "n": 1}], "u": "http://***@c/"}));
    }

    #[test]
    fn quoting_is_by_the_syntax() {
        assert_eq!(shell("it's"), r"'it'\''s'");
        assert_eq!(conf_value(r"a'b\").unwrap(), r"'a''b\\'");
        assert!(conf_value("a\nshared_preload_libraries='x'").is_err());
        assert_eq!(sql_name("a`b"), "`a``b`");
        assert_eq!(html("<script>&\u{1b}[2J"), "&lt;script&gt;&amp;\\u{1b}[2J");
        assert_eq!(terminal("a\u{1b}[2Jb\u{202e}"), "a\\u{1b}[2Jb\\u{202e}");
    }

    proptest! {
        #[test]
        fn any_name_becomes_a_component(name in any::<String>()) {
            let escaped = escaped_component(&name);
            prop_assert!(component(&escaped).is_ok());
            prop_assert!(!escaped.contains(char::is_control));
        }
    }
}
