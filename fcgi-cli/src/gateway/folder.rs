//! Private folders for what the gateway starts.

use std::{fs::Permissions, io, os::unix::fs::PermissionsExt, path::Path};

use tempfile::TempDir;

/// A folder that nobody else can enter, with a path short enough for a socket's 107 bytes.
pub(super) fn private_folder(prefix: &str) -> io::Result<TempDir> {
    /// Of a temporary folder's path, to leave room for names in it.
    const LONGEST: usize = 60;
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix).permissions(Permissions::from_mode(0o700));
    let short = Path::new("/tmp");
    if std::env::temp_dir().as_os_str().len() > LONGEST && short.is_dir() {
        return builder.tempdir_in(short);
    }
    builder.tempdir()
}
