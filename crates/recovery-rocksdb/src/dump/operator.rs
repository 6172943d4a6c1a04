//! Well-known merge operators, evaluated on request.
//!
//! An operator is the application's code, so an unknown one is never guessed: its operands are listed. These four are
//! upstream's own, and their results are those of `utilities/merge_operators/{uint64add,put,max,sortlist}.cc` and
//! `string_append/stringappend.cc`.

/// A merge operator whose rule is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeOperator {
    /// Sums 8-byte little-endian numbers, wrapping; anything of another length counts as 0.
    UInt64Add,
    /// Joins with a delimiter.
    StringAppend {
        /// What stands between the parts.
        delimiter: Vec<u8>,
    },
    /// The bytewise largest.
    Max,
    /// The newest operand.
    Put,
}

impl MergeOperator {
    /// The operator of that name: as in table properties (`UInt64AddOperator`) or in options (`uint64add`,
    /// `{id=StringAppendOperator;delimiter=,}`).
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        let name = name.trim();
        if let Some(inner) = name.strip_prefix('{').and_then(|n| n.strip_suffix('}')) {
            let field = |key: &str| inner.split(';').find_map(|part| part.trim().strip_prefix(key)?.strip_prefix('='));
            let operator = Self::by_name(field("id")?)?;
            return Some(match (operator, field("delimiter").or_else(|| field("delim"))) {
                (Self::StringAppend { .. }, Some(delimiter)) => {
                    Self::StringAppend { delimiter: delimiter.as_bytes().to_vec() }
                }
                (operator, _) => operator,
            });
        }
        Some(match name {
            "uint64add" | "UInt64AddOperator" => Self::UInt64Add,
            "stringappend" | "StringAppendOperator" | "stringappendtest" | "StringAppendTESTOperator" => {
                Self::StringAppend { delimiter: b",".to_vec() }
            }
            "max" | "MaxOperator" => Self::Max,
            "put" | "put_v1" | "PutOperator" => Self::Put,
            _ => return None,
        })
    }

    /// Applies operands, the oldest first, to a base value.
    #[must_use]
    pub fn apply<'a>(&self, base: Option<&'a [u8]>, operands: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let number = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).map_or(0, u64::from_le_bytes);
        match self {
            Self::UInt64Add => {
                let sum = operands.fold(base.map_or(0, number), |sum, operand| sum.wrapping_add(number(operand)));
                sum.to_le_bytes().to_vec()
            }
            Self::StringAppend { delimiter } => {
                let mut out: Option<Vec<u8>> = base.map(<[u8]>::to_vec);
                for operand in operands {
                    match &mut out {
                        Some(out) => {
                            out.extend_from_slice(delimiter);
                            out.extend_from_slice(operand);
                        }
                        None => out = Some(operand.to_vec()),
                    }
                }
                out.unwrap_or_default()
            }
            Self::Max => base.into_iter().chain(operands).max().unwrap_or_default().to_vec(),
            Self::Put => operands.last().or(base).unwrap_or_default().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn apply(name: &str, base: Option<&[u8]>, operands: &[&[u8]]) -> Vec<u8> {
        MergeOperator::by_name(name).unwrap().apply(base, operands.iter().copied())
    }

    #[test]
    fn known_operators() {
        let n = |x: u64| x.to_le_bytes();
        assert_eq!(apply("UInt64AddOperator", Some(&n(5)), &[&n(7), &n(u64::MAX)]), n(11));
        assert_eq!(apply("uint64add", Some(b"odd"), &[&n(7)]), n(7));
        assert_eq!(apply("stringappend", None, &[b"a", b"b"]), b"a,b");
        assert_eq!(apply("{id=stringappend;delimiter=;}", Some(b"x"), &[b"a"]), b"xa");
        assert_eq!(apply("{id=StringAppendOperator;delimiter=--}", Some(b"x"), &[b"a"]), b"x--a");
        assert_eq!(apply("max", Some(b"b"), &[b"a", b"c"]), b"c");
        assert_eq!(apply("PutOperator", Some(b"b"), &[b"a", b"c"]), b"c");
        assert_eq!(MergeOperator::by_name("com.example.Custom"), None);
    }
}
