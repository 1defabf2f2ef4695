//! A unix socket that can't be connected to.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use rustix::{
    fs::{Access, access},
    process::{getegid, geteuid},
};

use super::cause::Cause;
use crate::discovery;

pub(super) fn of_connect(source: &io::Error, path: &Path) -> Option<Cause> {
    Some(match source.kind() {
        io::ErrorKind::NotFound => missing(path),
        io::ErrorKind::PermissionDenied => forbidden(path),
        io::ErrorKind::ConnectionRefused => refused(path),
        _ => return None,
    })
}

fn missing(path: &Path) -> Cause {
    let there: Vec<String> =
        discovery::sockets().iter().map(|socket| socket.display().to_string()).collect();
    let remedy = if there.is_empty() {
        "start the application, or look at its `listen`; a socket of another container needs a \
         shared volume"
            .to_owned()
    } else {
        format!("start the application, or look at its `listen`; there is {}", there.join(", "))
    };
    match path.ancestors().skip(1).find(|folder| folder.as_os_str().is_empty() || folder.is_dir()) {
        Some(folder) if Some(folder) != path.parent() => {
            let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            Cause::new(
                "no-socket",
                format!(
                    "there is no such socket, nor its folder: the path exists up to {}",
                    here.display()
                ),
                remedy,
            )
        }
        _ => Cause::new("no-socket", "there is no such socket", remedy),
    }
}

fn refused(path: &Path) -> Cause {
    match fs::metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => Cause::new(
            "no-socket",
            "that is no socket, but another kind of file",
            "name the application's socket, as in its `listen`",
        ),
        _ => Cause::new(
            "stale-socket",
            "the socket is there, but nobody listens: the process that made it has ended",
            "start the application; it replaces the file",
        ),
    }
}

fn forbidden(path: &Path) -> Cause {
    let me = name("/etc/passwd", geteuid().as_raw());
    let mut folders: Vec<&Path> =
        path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()).collect();
    folders.reverse();
    for folder in folders {
        if let (Err(_), Ok(meta)) = (access(folder, Access::EXEC_OK), fs::metadata(folder)) {
            return Cause::new(
                "permission",
                format!("the folder {} is {} and you are {me}", folder.display(), mode(&meta)),
                "run this as a user who may enter it, or open the folder (chmod o+x)",
            );
        }
    }
    let Ok(meta) = fs::metadata(path) else {
        return Cause::new("permission", format!("you are {me}"), "run this as another user");
    };
    let (owner, group) = (name("/etc/passwd", meta.uid()), name("/etc/group", meta.gid()));
    let my_group = name("/etc/group", getegid().as_raw());
    let remedy = if meta.mode() & 0o020 != 0 {
        format!("run this as {owner} or in the group {group} (yours is {my_group})")
    } else {
        format!("run this as {owner}")
    };
    Cause::new(
        "permission",
        format!("the socket is {} and you are {me}", mode(&meta)),
        format!("{remedy}, or set listen.owner, listen.group and listen.mode of the pool"),
    )
}

/// Mode, owner and group of a file, in the form of [`mode`].
pub(crate) fn owner_of(path: &Path) -> String {
    fs::metadata(path).map_or_else(|error| error.to_string(), |meta| mode(&meta))
}

/// The only user who may connect, besides root: nobody else may write to the socket.
pub(crate) fn only_user_of(meta: &fs::Metadata) -> Option<String> {
    (meta.mode() & 0o022 == 0).then(|| name("/etc/passwd", meta.uid()))
}

/// `0660 www-data:www-data`.
fn mode(meta: &fs::Metadata) -> String {
    let (owner, group) = (name("/etc/passwd", meta.uid()), name("/etc/group", meta.gid()));
    format!("{:04o} {owner}:{group}", meta.mode() & 0o7777)
}

/// The name for a number in a file such as /etc/passwd; otherwise the number.
pub(crate) fn name(file: &str, id: u32) -> String {
    let table = fs::read_to_string(file).unwrap_or_default();
    let named = table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| id.to_string())
}
