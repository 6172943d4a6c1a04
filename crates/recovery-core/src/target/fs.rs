//! The changes a directory target makes, one call each, so that tests can record and replay them.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::Output;

/// A file being written.
pub trait FsFile: Output {
    /// Makes content and length durable.
    ///
    /// # Errors
    ///
    /// When the system fails.
    fn sync(&mut self) -> io::Result<()>;
}

/// Every change a target makes to a file system. Reading goes straight to the system.
pub trait Fs: Send + Sync + std::fmt::Debug {
    /// Makes one directory.
    ///
    /// # Errors
    ///
    /// As the system call.
    fn mkdir(&self, path: &Path, mode: Option<u32>) -> io::Result<()>;
    /// Makes a new file, which must not exist.
    ///
    /// # Errors
    ///
    /// As the system call.
    fn create(&self, path: &Path, mode: Option<u32>) -> io::Result<Box<dyn FsFile>>;
    /// Opens a file for appending, making it if needed.
    ///
    /// # Errors
    ///
    /// As the system call.
    fn append(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;
    /// Makes a hard link.
    ///
    /// # Errors
    ///
    /// As the system call.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a clone that shares blocks, and makes it durable.
    ///
    /// # Errors
    ///
    /// As the system call; many file systems cannot.
    fn clone_file(&self, from: &Path, to: &Path, mode: Option<u32>) -> io::Result<()>;
    /// Renames.
    ///
    /// # Errors
    ///
    /// As the system call.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a directory's entries durable.
    ///
    /// # Errors
    ///
    /// As the system call.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    ///
    /// As the system call.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    ///
    /// # Errors
    ///
    /// As the system call.
    fn rmdir(&self, path: &Path) -> io::Result<()>;
}

/// Where Linux keeps the security label of a file.
const LABEL: &str = "security.selinux";

/// The machine's file system.
#[derive(Clone, Debug, Default)]
pub struct RealFs {
    /// Owner and group of new files, when we may give files away.
    pub owner: Option<(u32, u32)>,
    /// Security label of new files, where the source carries one and we may set it.
    pub label: Option<Vec<u8>>,
}

impl RealFs {
    /// New files get the owner and the security label of the directory they were rescued from, when we are allowed to
    /// give them.
    #[must_use]
    pub fn like(source_root: Option<&Path>) -> Self {
        let root = rustix::process::geteuid().is_root();
        let Some(from) = source_root.filter(|_| root) else { return Self::default() };
        let owner = std::fs::metadata(from).ok().map(|m| (m.uid(), m.gid())).filter(|o| *o != (0, 0));
        Self { owner, label: label_of(from) }
    }

    fn adopt(&self, path: &Path) -> io::Result<()> {
        if let Some(label) = &self.label {
            // A file system without labels, or a policy against ours: the service's own relabelling is then needed anyway.
            let _ = rustix::fs::lsetxattr(path, LABEL, label, rustix::fs::XattrFlags::empty());
        }
        match self.owner {
            Some((uid, gid)) => std::os::unix::fs::lchown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    fn finish(&self, path: &Path, mode: Option<u32>) -> io::Result<()> {
        self.adopt(path)?;
        match mode {
            Some(mode) => std::fs::set_permissions(path, Permissions::from_mode(mode & 0o7777)),
            None => Ok(()),
        }
    }
}

fn label_of(path: &Path) -> Option<Vec<u8>> {
    let mut label = vec![0; 4096];
    let n = rustix::fs::getxattr(path, LABEL, &mut label[..]).ok()?;
    label.truncate(n);
    (n > 0).then_some(label)
}

struct RealFile {
    file: File,
    /// Whether the file ends in a hole that its length does not yet show.
    open_end: bool,
}

impl Write for RealFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.open_end = false;
        self.file.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Output for RealFile {
    fn hole(&mut self, n: u64) -> io::Result<()> {
        let n = i64::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        self.file.seek(SeekFrom::Current(n))?;
        self.open_end = true;
        Ok(())
    }
}

impl FsFile for RealFile {
    fn sync(&mut self) -> io::Result<()> {
        if self.open_end {
            let end = self.file.stream_position()?;
            self.file.set_len(end)?;
        }
        self.file.sync_all()
    }
}

impl Fs for RealFs {
    fn mkdir(&self, path: &Path, mode: Option<u32>) -> io::Result<()> {
        std::fs::create_dir(path)?;
        self.finish(path, mode)
    }

    fn create(&self, path: &Path, mode: Option<u32>) -> io::Result<Box<dyn FsFile>> {
        // O_EXCL does not follow a link that someone put there.
        let file = OpenOptions::new().write(true).create_new(true).mode(mode.unwrap_or(0o644)).open(path)?;
        self.finish(path, mode)?;
        Ok(Box::new(RealFile { file, open_end: false }))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = OpenOptions::new().append(true).create(true).mode(0o644).open(path)?;
        Ok(Box::new(RealFile { file, open_end: false }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn clone_file(&self, from: &Path, to: &Path, mode: Option<u32>) -> io::Result<()> {
        let source = File::open(from)?;
        let target = OpenOptions::new().write(true).create_new(true).mode(mode.unwrap_or(0o644)).open(to)?;
        if let Err(e) = rustix::fs::ioctl_ficlone(&target, &source) {
            drop(target);
            std::fs::remove_file(to)?;
            return Err(e.into());
        }
        self.finish(to, mode)?;
        target.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn rmdir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir(path)
    }
}
