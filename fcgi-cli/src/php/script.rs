//! A temporary script that only the workers' user can read. It is removed with this process,
//! however that ends.

use std::{
    fs,
    io::{self, Read, Write},
    os::{
        fd::AsFd,
        unix::{fs::OpenOptionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
};

use clap::Args;
use rustix::{
    fs::{Gid, Mode, Uid, XattrFlags, fchmod, fchown, fsetxattr},
    io::Errno,
    process::geteuid,
};
use tempfile::{NamedTempFile, TempPath};

/// An access list: `struct posix_acl_xattr_header`, then its entries.
const ACL: &str = "system.posix_acl_access";
const ACL_VERSION: u32 = 2;
const NOBODY: u32 = u32::MAX;

/// The script. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Script {
    // Goes first: the guard would remove the file only when this process ends.
    path: TempPath,
    _guard: Option<Guard>,
}

impl Script {
    /// Writes a script into a folder, for a user to read.
    ///
    /// # Errors
    /// The folder can't be written to, or the file can't be given to the user: that requires root,
    /// or a file system with access lists.
    pub(super) fn write(folder: &Path, suffix: &str, user: u32, text: &[u8]) -> io::Result<Self> {
        let mut guard = None;
        let make = |path: &Path| {
            // It comes before the file, which is removed even if this process is killed at once.
            guard = Guard::start(path);
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
        };
        let mut builder = tempfile::Builder::new();
        let made = builder.prefix("fcgi-").suffix(suffix).rand_bytes(20).make_in(folder, make)?;
        let (mut file, path) = NamedTempFile::into_parts(made);
        let script = Self { path, _guard: guard };
        file.write_all(text)?;
        give(&file, user)?;
        Ok(script)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Lets only one user, and us, read the file.
fn give(file: &fs::File, user: u32) -> io::Result<()> {
    let me = geteuid();
    if me.as_raw() == user {
        return Ok(fchmod(file, Mode::RUSR)?);
    }
    if me.is_root() {
        fchmod(file, Mode::RUSR)?;
        match fchown(file, Some(Uid::from_raw(user)), None::<Gid>) {
            // A container's root may lack this right.
            Err(Errno::PERM) => {}
            given => return Ok(given?),
        }
    }
    Ok(fsetxattr(file.as_fd(), ACL, &access_list(user), XattrFlags::empty())?)
}

/// Read and write for the owner, read for one user, nothing for others.
fn access_list(user: u32) -> Vec<u8> {
    const READ: u16 = 4;
    const WRITE: u16 = 2;
    let owner = (0x01, READ | WRITE, NOBODY);
    let reader = (0x02, READ, user);
    let (group, mask, others) = ((0x04, 0, NOBODY), (0x10, READ, NOBODY), (0x20, 0, NOBODY));
    let mut list = ACL_VERSION.to_le_bytes().to_vec();
    for (tag, may, who) in [owner, reader, group, mask, others] {
        list.extend(u16::to_le_bytes(tag));
        list.extend(u16::to_le_bytes(may));
        list.extend(u32::to_le_bytes(who));
    }
    list
}

/// A process that removes a file when this one ends in any way, since nothing catches SIGKILL.
#[derive(Debug)]
struct Guard(Child);

impl Guard {
    /// If this program can't be started again, only the other ways remain.
    fn start(path: &Path) -> Option<Self> {
        let mut command = Command::new(crate::own_program().ok()?);
        command.arg("script-guard").arg(path);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // A Ctrl-C is only for the main process, whose end the guard notices.
        command.process_group(0);
        command.spawn().ok().map(Self)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Remove a file when stdin ends
#[derive(Args)]
pub(crate) struct ScriptGuard {
    path: PathBuf,
}

impl ScriptGuard {
    pub(crate) fn run(self) -> ExitCode {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        let _ = fs::remove_file(&self.path);
        ExitCode::SUCCESS
    }
}
