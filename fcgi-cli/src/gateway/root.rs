//! Files below a folder, opened through a handle to it: the file that was checked is the one that
//! is sent, even if names change in between.

use std::{
    fs::{self, File, Metadata},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, open, openat, statat},
    io::Errno,
};

/// How a file is opened: without waiting at a pipe, and without taking over a terminal.
const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A folder, held open.
#[derive(Debug)]
pub(super) struct Root {
    handle: OwnedFd,
    /// Absolute, without links.
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
    follow_links: bool,
}

/// A regular file, open for reading, as it was found.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) metadata: Metadata,
}

/// What a name stands for.
#[derive(Debug)]
pub(super) enum Entry {
    File(Opened),
    /// A regular file that we may not read. A script's application may be allowed to.
    Unreadable,
    Directory,
    /// Something that only a link out of the folder leads to: the link, below the folder.
    Outside(PathBuf),
    /// Nothing, or neither a file nor a folder: reading a pipe could take for ever.
    Missing,
}

/// Whether a look-up may wait for the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    /// Use only what the kernel has in memory.
    Never,
    Disk,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unknown {
    /// It would have to wait for the disk.
    Wait,
    /// Descriptors, memory or the disk failed.
    Failed(io::Error),
}

impl Root {
    /// # Errors
    /// The folder does not exist, or can't be opened.
    pub(super) fn open(path: &Path, follow_links: bool) -> io::Result<Self> {
        let path = fs::canonicalize(path)?;
        let handle = open(&path, FOLDER, Mode::empty())?;
        let metadata = File::from(handle.try_clone()?).metadata()?;
        Ok(Self { handle, path, id: id(&metadata), follow_links })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether `path` still leads here.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        // If the path leads nowhere now, keep this folder.
        fs::metadata(path).map_or(true, |metadata| id(&metadata) == self.id)
    }

    /// What is at a path below the folder.
    pub(super) fn look(&self, below: &Path, wait: Wait) -> Result<Entry, Unknown> {
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let opened = match self.open_at_once(below, wait) {
            Err(_) if wait == Wait::Never => return Err(Unknown::Wait),
            // An absolute link, a file that we may not read, or an old kernel.
            Err(Errno::XDEV | Errno::ACCESS | Errno::PERM | Errno::NOSYS | Errno::AGAIN) => {
                self.open_by_steps(below)
            }
            opened => opened.map(Found::Opened),
        };
        match opened {
            Ok(Found::Opened(None)) => Ok(Entry::Missing),
            Ok(Found::Opened(Some(file))) => {
                let metadata = file.metadata().map_err(Unknown::Failed)?;
                Ok(match metadata.file_type() {
                    kind if kind.is_file() => Entry::File(Opened { file, metadata }),
                    kind if kind.is_dir() => Entry::Directory,
                    _ => Entry::Missing,
                })
            }
            Ok(Found::Unreadable(FileType::RegularFile)) => Ok(Entry::Unreadable),
            Ok(Found::Unreadable(FileType::Directory)) => Ok(Entry::Directory),
            Ok(Found::Unreadable(_)) => Ok(Entry::Missing),
            Ok(Found::Outside) => Ok(Entry::Outside(self.link(below))),
            Err(error) => Err(Unknown::Failed(error.into())),
        }
    }

    /// The first part of a path that leads out of the folder.
    fn link(&self, below: &Path) -> PathBuf {
        let is_inside = |part: &&Path| {
            fs::canonicalize(self.path.join(part)).is_ok_and(|real| real.starts_with(&self.path))
        };
        let mut parts: Vec<_> = below.ancestors().collect();
        parts.reverse();
        parts.into_iter().find(|part| !is_inside(part)).unwrap_or(below).to_owned()
    }

    /// Opens in one step, if the kernel can; `None` if nothing is there.
    fn open_at_once(&self, below: &Path, wait: Wait) -> Result<Option<File>, Errno> {
        #[cfg(target_os = "linux")]
        let opened = {
            use rustix::fs::{ResolveFlags, openat2};
            let mut resolve = ResolveFlags::NO_MAGICLINKS;
            if !self.follow_links {
                resolve |= ResolveFlags::BENEATH;
            }
            if wait == Wait::Never {
                resolve |= ResolveFlags::CACHED;
            }
            openat2(&self.handle, below, READ, Mode::empty(), resolve)
        };
        #[cfg(not(target_os = "linux"))]
        let opened = match wait {
            Wait::Never => Err(Errno::AGAIN),
            Wait::Disk => Err(Errno::NOSYS),
        };
        present(opened)
    }

    /// Opens step by step. If links must not lead out, the path is resolved first, and then no step
    /// follows a link.
    fn open_by_steps(&self, below: &Path) -> Result<Found, Errno> {
        let real;
        let below = if self.follow_links {
            below
        } else {
            match fs::canonicalize(self.path.join(below)) {
                Ok(path) => real = path,
                Err(error) => return is_absent(&error).map(|()| Found::Opened(None)),
            }
            match real.strip_prefix(&self.path) {
                Ok(below) => below,
                Err(_) => return Ok(Found::Outside),
            }
        };
        let no_links = if self.follow_links { OFlags::empty() } else { OFlags::NOFOLLOW };
        let mut folder = self.handle.try_clone().map_err(|_| Errno::MFILE)?;
        let mut names = below.components().filter(|step| matches!(step, Component::Normal(_)));
        let Some(mut name) = names.next() else {
            return Ok(Found::Opened(Some(folder.into())));
        };
        for next in names {
            match present(openat(&folder, name.as_os_str(), FOLDER | no_links, Mode::empty()))? {
                Some(file) => folder = file.into(),
                None => return Ok(Found::Opened(None)),
            }
            name = next;
        }
        match present(openat(&folder, name.as_os_str(), READ | no_links, Mode::empty())) {
            Err(Errno::ACCESS | Errno::PERM) => {
                let flags = match self.follow_links {
                    true => AtFlags::empty(),
                    false => AtFlags::SYMLINK_NOFOLLOW,
                };
                let found = statat(folder.as_fd(), name.as_os_str(), flags);
                Ok(match found {
                    Ok(stat) => Found::Unreadable(FileType::from_raw_mode(stat.st_mode as _)),
                    Err(_) => Found::Opened(None),
                })
            }
            opened => opened.map(Found::Opened),
        }
    }
}

enum Found {
    Opened(Option<File>),
    Outside,
    Unreadable(FileType),
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// `None` if it does not exist, or can't be opened at all.
fn present(opened: Result<OwnedFd, Errno>) -> Result<Option<File>, Errno> {
    match opened {
        Ok(handle) => Ok(Some(handle.into())),
        Err(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::NAMETOOLONG
            | Errno::NXIO
            | Errno::NODEV
            | Errno::INVAL
            | Errno::ILSEQ,
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the error if the system failed, and nothing if the file just does not exist.
fn is_absent(error: &io::Error) -> Result<(), Errno> {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO)) => Err(error),
        _ => Ok(()),
    }
}

/// A path's bytes as a path.
pub(super) fn as_path(name: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(name))
}
