//! A unix socket's file.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::fs::{self, AtFlags, FlockOperation, Gid, Uid};

/// A unix socket's file. Dropping this removes the file, unless another server has replaced it
/// meanwhile.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl SocketFile {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), id: id(path)? })
    }

    /// Whether the path still leads to it.
    pub(super) fn is_there(&self) -> bool {
        id(&self.path).is_ok_and(|id| id == self.id)
    }

    /// Sets its mode, its owner and its group. Whoever may rename files in its folder can replace
    /// it with another file or a link at any time; such a replacement is left as it is.
    pub(super) fn set_rights(
        &self,
        mode: Option<u32>,
        owner: Option<u32>,
        group: Option<u32>,
    ) -> io::Result<()> {
        if mode.is_none() && owner.is_none() && group.is_none() {
            return Ok(());
        }
        let handle = Handle::open(&self.path)?;
        let metadata = handle.metadata(&self.path)?;
        let is_ours = metadata.file_type().is_socket()
            && (metadata.dev(), metadata.ino()) == self.id
            // A file with a second name may be somebody else's socket.
            && metadata.nlink() == 1;
        if !is_ours {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        // The umask may have removed some bits.
        if let Some(mode) = mode.filter(|mode| metadata.mode() & 0o7777 != *mode) {
            handle.set_mode(&self.path, mode)?;
        }
        if owner.is_some() || group.is_some() {
            let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
            handle.set_owner(&self.path, owner, group)?;
        }
        Ok(())
    }
}

fn id(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there() {
            // Somebody else may have removed it. A drop can't report an error.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The file itself, whatever its path leads to now.
#[cfg(target_os = "linux")]
struct Handle(File);

#[cfg(target_os = "linux")]
impl Handle {
    fn open(path: &Path) -> io::Result<Self> {
        use fs::{Mode, OFlags};
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(fs::open(path, flags, Mode::empty())?.into()))
    }

    fn metadata(&self, _: &Path) -> io::Result<std::fs::Metadata> {
        self.0.metadata()
    }

    fn set_mode(&self, _: &Path, mode: u32) -> io::Result<()> {
        use std::os::{fd::AsRawFd, unix::fs::PermissionsExt};
        // Kernels before 6.6 can't change the mode through such a descriptor directly.
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let set = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
        set.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::other(
                "the umask is stricter than the mode, and /proc, which is needed to set the mode, \
                 is not mounted",
            ),
            _ => error,
        })
    }

    fn set_owner(&self, _: &Path, owner: Option<Uid>, group: Option<Gid>) -> io::Result<()> {
        Ok(fs::chownat(&self.0, "", owner, group, AtFlags::EMPTY_PATH)?)
    }
}

/// Other systems have no descriptor for a socket's file. Its path is used, without following links.
#[cfg(not(target_os = "linux"))]
struct Handle;

#[cfg(not(target_os = "linux"))]
impl Handle {
    fn open(_: &Path) -> io::Result<Self> {
        Ok(Self)
    }

    fn metadata(&self, path: &Path) -> io::Result<std::fs::Metadata> {
        std::fs::symlink_metadata(path)
    }

    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        let mode = fs::Mode::from_bits_truncate(mode as fs::RawMode);
        Ok(fs::chmodat(fs::CWD, path, mode, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn set_owner(&self, path: &Path, owner: Option<Uid>, group: Option<Gid>) -> io::Result<()> {
        Ok(fs::chownat(fs::CWD, path, owner, group, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// Keeps other servers from creating a socket in a folder at the same time.
pub(super) struct FolderLock {
    _folder: Option<File>,
}

impl FolderLock {
    /// Another server holds the lock only for a moment. A process that holds it for longer is not a
    /// server, so this does not wait for it. Nor is the lock needed if the folder can't be read.
    pub(super) fn of(path: &Path) -> Self {
        const TRIES: u32 = 100;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new("."))).ok();
        if let Some(folder) = &folder {
            for _ in 0..TRIES {
                match fs::flock(folder, FlockOperation::NonBlockingLockExclusive) {
                    Err(rustix::io::Errno::WOULDBLOCK) => thread::sleep(Duration::from_millis(10)),
                    _ => break,
                }
            }
        }
        Self { _folder: folder }
    }
}
