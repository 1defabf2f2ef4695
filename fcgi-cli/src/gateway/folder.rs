//! Private folders for programs that the gateway starts.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Write},
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
/// The file in a folder that all its users lock, what it says, and its name before it is locked.
const LOCK: &str = ".fcgi-gateway.lock";
const MARK: &[u8] = b"fcgi gateway removes this folder when nobody locks this file.\n";
const NEW_LOCK: &str = ".fcgi-gateway.new";
/// The length of the random end of a folder's name.
const RANDOM: usize = 6;

/// A folder that is removed with this value, or later if this process is killed.
#[derive(Debug)]
pub(super) struct Folder {
    folder: TempDir,
    /// `None` where there are no locks. Nobody takes such a folder for unused.
    _lock: Option<File>,
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
    builder.prefix(prefix).rand_bytes(RANDOM).permissions(Permissions::from_mode(0o700));
    let folder = builder.tempdir_in(parent)?;
    let lock = lock_new(folder.path())?;
    Ok(Folder { folder, _lock: lock })
}

/// Creates a new folder's lock; `None` if its file system has no locks.
fn lock_new(folder: &Path) -> io::Result<Option<File>> {
    let new = folder.join(NEW_LOCK);
    // NFS locks only what can be read.
    let mut lock = File::options().read(true).write(true).create_new(true).open(&new)?;
    lock.write_all(MARK)?;
    if flock(&lock, FlockOperation::LockShared).is_err() {
        fs::remove_file(new)?;
        return Ok(None);
    }
    // The file gets its final name only when it is locked.
    fs::rename(new, folder.join(LOCK))?;
    Ok(Some(lock))
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
        is_ours(name.as_encoded_bytes())
    });
    for path in folders.map(|entry| entry.path()) {
        if let Some(_lock) = lock_stale(&path) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Whether [`private_folder`] gives such names.
fn is_ours(name: &[u8]) -> bool {
    let mut prefixes = [SAMPLE, PHP, SPAWN].iter();
    let random = prefixes.find_map(|prefix| name.strip_prefix(prefix.as_bytes()));
    random.is_some_and(|random| {
        random.len() == RANDOM && random.iter().all(u8::is_ascii_alphanumeric)
    })
}

/// The lock of a folder that a gateway has made and that nobody uses.
fn lock_stale(folder: &Path) -> Option<File> {
    let metadata = fs::symlink_metadata(folder).ok()?;
    let is_private = metadata.is_dir() && metadata.mode() & 0o777 == 0o700;
    if !is_private || metadata.uid() != geteuid().as_raw() {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let lock = File::from(open(folder.join(LOCK), flags, Mode::empty()).ok()?);
    if !lock.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    (&lock).take(MARK.len() as u64 + 1).read_to_end(&mut text).ok()?;
    if text != MARK {
        return None;
    }
    flock(&lock, FlockOperation::NonBlockingLockExclusive).ok().map(|()| lock)
}
