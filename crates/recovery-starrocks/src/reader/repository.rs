//! Finds the repository in a source and lists it once, recursively.

use std::sync::Arc;

use recovery_core::{Depth, Entry, Error, Reason, Result, Source};

use crate::format::names::{self, Prefix, Suffix, TabletFile, TabletPath};
use crate::model::repository::{Ending, Listing, Named, SnapshotDir, TabletDir, TabletEntry};

/// A repository that was listed.
#[derive(Debug)]
pub struct Repository {
    /// Where it lies.
    pub source: Arc<dyn Source>,
    /// What its listing shows.
    pub listing: Listing,
}

/// What a directory turned out to be.
enum Place {
    /// The repository directory itself.
    Here,
    /// A directory that holds repositories: directory, prefix, name.
    Above(Vec<(String, Prefix, String)>),
    /// Neither.
    Nothing,
}

impl Repository {
    /// Lists the repository in a source: the source is the repository directory, or a location that holds one. Where
    /// it holds several, `name` says which.
    ///
    /// # Errors
    ///
    /// When there is none, when there are several and none was named, or the source cannot be listed at all.
    pub fn open(source: Arc<dyn Source>, name: Option<&str>) -> Result<Self> {
        let (base, prefix, directory_name, hidden) = match look(source.as_ref())? {
            Place::Here => {
                let described = source.describe();
                let last = described.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
                let own = names::repository(last);
                (String::new(), own.map(|o| o.0), own.map(|o| o.1.to_owned()), None)
            }
            Place::Above(found) => choose(source.as_ref(), found, name)?,
            Place::Nothing => {
                return Err(Error::Unusable(format!(
                    "{}: no {}NAME, no {}NAME and no __repo_info here; give the repository directory or the location \
                     of CREATE REPOSITORY",
                    source.describe(),
                    Prefix::StarRocks,
                    Prefix::Palo
                )));
            }
        };
        let mut listing = Listing { base, prefix, directory_name, hidden, ..Listing::default() };
        fill(source.as_ref(), &mut listing);
        Ok(Self { source, listing })
    }

    /// The name: that in `__repo_info` if the caller read one, else the directory's.
    #[must_use]
    pub fn directory_name(&self) -> &str {
        self.listing.directory_name.as_deref().unwrap_or("")
    }
}

/// How sure this is a repository: 0 to 100, with the reason.
#[must_use]
pub fn probe(source: &dyn Source) -> (u8, String) {
    match look(source) {
        Ok(Place::Here) => (90, "holds __repo_info or __ss_ directories".to_owned()),
        Ok(Place::Above(found)) => {
            let first = found.first().map_or("", |f| f.0.as_str()).to_owned();
            (95, format!("holds {first}"))
        }
        Ok(Place::Nothing) | Err(_) => (0, String::new()),
    }
}

fn look(source: &dyn Source) -> Result<Place> {
    let mut above = Vec::new();
    let mut error = None;
    for entry in source.list("", Depth::One) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) => {
                error = Some(e);
                continue;
            }
        };
        let name = entry.name.as_str();
        if entry.is_file() && name == names::REPO_INFO {
            return Ok(Place::Here);
        }
        if !entry.is_dir() {
            continue;
        }
        if let Some((prefix, repo)) = names::repository(name) {
            above.push((name.to_owned(), prefix, repo.to_owned()));
        } else if names::label(name).is_some() {
            return Ok(Place::Here);
        }
    }
    match error {
        Some(e) if above.is_empty() => Err(e.into()),
        _ if above.is_empty() => Ok(Place::Nothing),
        _ => Ok(Place::Above(above)),
    }
}

type Chosen = (String, Option<Prefix>, Option<String>, Option<String>);

fn choose(source: &dyn Source, mut found: Vec<(String, Prefix, String)>, name: Option<&str>) -> Result<Chosen> {
    if let Some(name) = name {
        found.retain(|(dir, _, repo)| repo == name || dir == name);
    }
    found.sort_by(|a, b| (&a.2, a.1).cmp(&(&b.2, b.1)));
    let mut all: Vec<&str> = found.iter().map(|f| f.2.as_str()).collect();
    all.dedup();
    if all.len() > 1 {
        let list = all.join(", ");
        let message = format!(
            "{}: holds the repositories {list}; say which with --repository NAME, or give its directory",
            source.describe()
        );
        return Err(Error::refuse(Reason::Ambiguous, message));
    }
    let mut found = found.into_iter();
    let Some((dir, prefix, repo)) = found.next() else {
        let name = name.unwrap_or_default();
        return Err(Error::Usage(format!("{}: no repository {name:?} here", source.describe())));
    };
    Ok((dir, Some(prefix), Some(repo), found.next().map(|f| f.0)))
}

fn fill(source: &dyn Source, listing: &mut Listing) {
    let base = listing.base.clone();
    let skip = if base.is_empty() { 0 } else { base.len().saturating_add(1) };
    for entry in source.list(&base, Depth::All) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) => {
                listing.errors.push(e);
                continue;
            }
        };
        let Some(below) = entry.name.get(skip..).map(str::to_owned) else { continue };
        place(listing, entry, &below);
    }
    for snapshot in listing.snapshots.values_mut() {
        for tablet in snapshot.tablets.values_mut() {
            tablet.files.sort_by(|a, b| (&a.file.base, &a.file.entry.name).cmp(&(&b.file.base, &b.file.entry.name)));
        }
    }
}

fn place(listing: &mut Listing, entry: Entry, below: &str) {
    let mut parts = below.split('/');
    let first = parts.next().unwrap_or_default();
    if first == recovery_core::OWN_DIR {
        return;
    }
    let rest: Vec<&str> = parts.collect();
    if rest.is_empty() && first == names::REPO_INFO && entry.is_file() {
        listing.repo_info = Some(entry);
        return;
    }
    let Some(label) = names::label(first) else {
        if !entry.is_dir() {
            listing.strays.push(entry);
        }
        return;
    };
    if rest.is_empty() && !entry.is_dir() {
        listing.strays.push(entry);
        return;
    }
    let dir = if listing.base.is_empty() { first.to_owned() } else { format!("{}/{first}", listing.base) };
    let snapshot = listing.snapshots.entry(label.to_owned()).or_insert_with(|| SnapshotDir {
        label: label.to_owned(),
        dir,
        ..SnapshotDir::default()
    });
    place_in_snapshot(snapshot, entry, &rest);
}

fn place_in_snapshot(snapshot: &mut SnapshotDir, entry: Entry, rest: &[&str]) {
    match rest {
        [] => {}
        [name] if entry.is_file() => {
            let named = take_apart(entry, name);
            if named.base == names::META {
                snapshot.metas.push(named);
            } else if let Some(time) = named.base.strip_prefix(names::INFO) {
                snapshot.infos.push(Named { base: time.to_owned(), ..named });
            } else {
                snapshot.strays.push(named.entry);
            }
        }
        [content, ids @ ..] if *content == names::CONTENT => {
            let tablet = ids.get(..5).and_then(|ids| TabletPath::parse(ids.iter().copied()));
            match (tablet, ids.get(5..)) {
                (Some(path), Some(below)) => place_in_tablet(snapshot, path, entry, below),
                _ if entry.is_dir() => {}
                _ => snapshot.strays.push(entry),
            }
        }
        _ if entry.is_dir() => {}
        _ => snapshot.strays.push(entry),
    }
}

fn place_in_tablet(snapshot: &mut SnapshotDir, path: TabletPath, entry: Entry, below: &[&str]) {
    let dir = format!("{}/{}/{path}", snapshot.dir, names::CONTENT);
    let tablet =
        snapshot.tablets.entry(path).or_insert_with(|| TabletDir { path, dir, files: Vec::new(), manifest: None });
    match below {
        [] => {}
        [name] if entry.is_file() && *name == names::MANIFEST => tablet.manifest = Some(entry),
        [name] if entry.is_file() => {
            let file = take_apart(entry, name);
            let kind = TabletFile::parse(&file.base);
            tablet.files.push(TabletEntry { file, kind });
        }
        _ if entry.is_dir() => {}
        _ => snapshot.strays.push(entry),
    }
}

fn take_apart(entry: Entry, name: &str) -> Named {
    let (base, ending) = match names::split_suffix(name) {
        Some((base, Suffix::Md5(sum))) => (base, Ending::Md5(sum)),
        Some((base, Suffix::Part)) => (base, Ending::Part),
        // `10.hdr` without a sum is a whole base name; `__meta.xyz` is a base name with a wrong sum.
        Some((base, Suffix::Other(other))) if TabletFile::parse(name) == TabletFile::Unknown => {
            (base, Ending::Other(other.to_owned()))
        }
        _ => (name, Ending::None),
    };
    Named { base: base.to_owned(), ending, entry }
}
