//! Private folders for programs that the gateway starts.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, open},
    process::geteuid,
};
use tempfile::TempDir;

/// The prefixes of the folders' names, one for each kind of application.
pub(super) const SAMPLE: &str = "fcgi-gateway-";
pub(super) const PHP: &str = "fcgi-php-";
pub(super) const SPAWN: &str = "fcgi-spawn-";
/// The file in a folder that all its users lock.
const LOCK: &str = "lock";

/// A folder that is removed with this value, or later if this process is killed.
#[derive(Debug)]
pub(super) struct Folder {
    folder: TempDir,
    _lock: File,
}

impl Folder {
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// A folder that nobody else can enter, with a path short enough for a socket's 107 bytes. It first
/// removes folders of gateways that were killed together with their guards.
pub(super) fn private_folder(prefix: &str) -> io::Result<Folder> {
    /// The longest path of a temporary folder that leaves room for names in it.
    const LONGEST: usize = 60;
    let short = Path::new("/tmp");
    let parent = match std::env::temp_dir() {
        long if long.as_os_str().len() > LONGEST && short.is_dir() => short.to_owned(),
        usual => usual,
    };
    remove_stale(&parent);
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).permissions(Permissions::from_mode(0o700));
    let folder = builder.tempdir_in(parent)?;
    // The file gets its final name only when it is locked.
    let new = folder.path().join("lock.new");
    let lock = File::create(&new)?;
    flock(&lock, FlockOperation::LockShared)?;
    fs::rename(new, folder.path().join(LOCK))?;
    Ok(Folder { folder, _lock: lock })
}

/// Marks a folder as used by this process too, as long as the file is open.
pub(super) fn use_folder(folder: &Path) -> Option<File> {
    let lock = File::open(folder.join(LOCK)).ok()?;
    flock(&lock, FlockOperation::LockShared).ok().map(|()| lock)
}

/// Removes this user's folders that nobody uses any more.
fn remove_stale(parent: &Path) {
    // Entries that can't be read stay.
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        [SAMPLE, PHP, SPAWN].iter().any(|prefix| name.starts_with(prefix.as_bytes()))
    });
    for path in folders.map(|entry| entry.path()) {
        if let Some(_lock) = lock_stale(&path) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// The lock of a folder that nobody uses.
fn lock_stale(folder: &Path) -> Option<File> {
    let metadata = fs::symlink_metadata(folder).ok()?;
    if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let lock = File::from(open(folder.join(LOCK), flags, Mode::empty()).ok()?);
    flock(&lock, FlockOperation::NonBlockingLockExclusive).ok().map(|()| lock)
}
