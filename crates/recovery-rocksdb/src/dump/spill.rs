//! WAL records that do not fit into memory: sorted runs in files without a name, read back as tables.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::Arc;

use recovery_core::{Error, FileBlob};

use crate::reader::TableOptions;
use crate::writer::{TableWriter, WriterOptions};

use super::view::{FamilyView, ViewTable};

/// Bytes of WAL records held in memory before they are written out.
pub(super) const ENOUGH: u64 = 24 << 20;

/// Where the runs go.
pub(super) struct Spill {
    dir: PathBuf,
    runs: u64,
}

impl Spill {
    pub(super) const fn new(dir: PathBuf) -> Self {
        Self { dir, runs: 0 }
    }

    /// Writes the point entries of the view's memtable out as one sorted table.
    pub(super) fn write(&mut self, view: &mut FamilyView) -> Result<(), Error> {
        if view.memtable.is_empty() {
            return Ok(());
        }
        view.sort_memtable();
        // The same record twice (a WAL copied under a second number, say) is one entry.
        view.memtable.dedup_by(|(a, _), (b, _)| a == b);
        let (file, path) = self.create()?;
        let shown = path.display().to_string();
        let failed = |e: std::io::Error| Error::write(&shown, "write", e);
        let order = view.order.clone();
        let mut writer = TableWriter::new(BufWriter::new(file), WriterOptions { order, ..WriterOptions::default() });
        let written =
            view.memtable.iter().try_for_each(|(key, value)| writer.add(key, value)).and_then(|()| writer.finish());
        let extent = written.as_ref().ok().and_then(|w| w.summary.smallest.clone().zip(w.summary.largest.clone()));
        let blob = written.map_err(failed).and_then(|_| Ok(FileBlob::open(&path, shown.clone())?));
        // Without a name the file goes away with this process, however that ends.
        let removed = fs::remove_file(&path).map_err(failed);
        let options = TableOptions { timestamp_size: view.order.timestamp_size(), ..TableOptions::default() };
        view.tables.push(ViewTable { blob: Arc::new(blob?), options, bounds: None, extent, salvaged: None });
        removed?;
        view.memtable.clear();
        view.memtable.shrink_to_fit();
        Ok(())
    }

    fn create(&mut self) -> Result<(File, PathBuf), Error> {
        loop {
            self.runs = self.runs.saturating_add(1);
            let path = self.dir.join(format!(".recover-dump-{}-{}", std::process::id(), self.runs));
            match File::options().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((file, path)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::write(path.display().to_string(), "create", e)),
            }
        }
    }
}
