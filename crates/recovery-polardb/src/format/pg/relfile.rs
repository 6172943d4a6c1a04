//! Names of the files below `base`, `global` and a tablespace.
//!
//! `NUMBER`, `NUMBER_fsm`, `NUMBER_vm`, `NUMBER_init`, each with `.SEGMENT` from the second segment on, and
//! `tBACKEND_NUMBER…` for temporary relations. Upstream: `src/common/relpath.c`, `src/bin/pg_checksums/pg_checksums.c` (the files it skips).

use serde::Serialize;

/// Part of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fork {
    /// The rows.
    Main,
    /// Free-space map.
    Fsm,
    /// Visibility map.
    Vm,
    /// What an unlogged relation is reset to.
    Init,
}

/// A relation file's name, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct RelFile {
    /// File number of the relation (relfilenode).
    pub number: u32,
    /// Which fork.
    pub fork: Fork,
    /// Which segment, from 0.
    pub segment: u32,
    /// Whether it belongs to a temporary relation, which the server removes at start.
    pub temporary: bool,
}

impl RelFile {
    /// Takes a file name apart; `None` when it is not a relation's.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (name, temporary) = match name.strip_prefix('t') {
            Some(rest) => {
                let (backend, rest) = rest.split_once('_')?;
                number(backend)?;
                (rest, true)
            }
            None => (name, false),
        };
        let (stem, segment) = match name.split_once('.') {
            Some((stem, seg)) => (stem, number(seg).filter(|&s| s > 0)?),
            None => (name, 0),
        };
        let (digits, fork) = match stem.split_once('_') {
            None => (stem, Fork::Main),
            Some((digits, "fsm")) => (digits, Fork::Fsm),
            Some((digits, "vm")) => (digits, Fork::Vm),
            Some((digits, "init")) => (digits, Fork::Init),
            Some(_) => return None,
        };
        Some(Self { number: number(digits).filter(|&n| n > 0)?, fork, segment, temporary })
    }

    /// The name of the file, the inverse of [`parse`](Self::parse); not for temporary relations, whose backend it does
    /// not know.
    #[must_use]
    pub fn file_name(&self) -> String {
        let fork = match self.fork {
            Fork::Main => "",
            Fork::Fsm => "_fsm",
            Fork::Vm => "_vm",
            Fork::Init => "_init",
        };
        let segment = if self.segment == 0 { String::new() } else { format!(".{}", self.segment) };
        format!("{}{fork}{segment}", self.number)
    }
}

fn number(text: &str) -> Option<u32> {
    let canonical =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

/// Whether a name below `base`, `global` or a tablespace is one of the server's own files that hold no pages.
#[must_use]
pub fn known_other(name: &str) -> bool {
    const EXACT: [&str; 6] =
        ["pg_control", "pg_filenode.map", "PG_VERSION", "config_exec_params", "polar_settings.conf", "pg_kmgr"];
    EXACT.contains(&name)
        || name.starts_with("pg_internal.init")
        || name.starts_with("pgsql_tmp")
        || name.starts_with("pg_control.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let file = |number, fork, segment, temporary| Some(RelFile { number, fork, segment, temporary });
        assert_eq!(RelFile::parse("1259"), file(1259, Fork::Main, 0, false));
        assert_eq!(RelFile::parse("1259.3"), file(1259, Fork::Main, 3, false));
        assert_eq!(RelFile::parse("1259_fsm.1"), file(1259, Fork::Fsm, 1, false));
        for name in ["1259", "1259.3", "1259_fsm.1", "16400_vm", "16400_init"] {
            assert_eq!(RelFile::parse(name).map(|f| f.file_name()).as_deref(), Some(name));
        }
        assert_eq!(RelFile::parse("t3_16400_vm"), file(16400, Fork::Vm, 0, true));
        for other in [
            "",
            "0",
            "1259.0",
            "1259.",
            "01",
            "x",
            "1259_xyz",
            "1259_vm_fsm",
            "t_5",
            "+5",
            "99999999999",
            "pg_control",
            "1 ",
        ] {
            assert_eq!(RelFile::parse(other), None, "{other}");
        }
    }
}
