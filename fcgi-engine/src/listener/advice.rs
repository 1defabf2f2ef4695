//! Why a listener could not be made, and what to do about it.

use std::{fs, io, os::unix::fs::FileTypeExt, path::Path};

use rustix::io::Errno;

use crate::{Address, Error, Target};

/// A listener that could not be made.
#[derive(Debug)]
pub(super) struct Failure {
    advice: String,
    source: io::Error,
}

impl Failure {
    pub(super) fn new(advice: impl Into<String>, source: io::Error) -> Self {
        Self { advice: advice.into(), source }
    }

    /// Adds what to do.
    pub(super) fn advise(self, what: &str) -> Self {
        Self { advice: format!("{}: {what}", self.advice), ..self }
    }

    /// An address that could not be bound.
    pub(super) fn binding(address: &Address, source: io::Error) -> Self {
        let advice = match address.target() {
            Target::Unix(path) => unix(path, &source),
            Target::Tcp(host_port) => tcp(host_port, &source),
            Target::Stdin | Target::Stream => None,
        };
        match advice {
            Some(advice) => Self::new(advice, source),
            None => Self::from(source),
        }
    }

    pub(super) fn at(self, address: &str) -> Error {
        Error::Listen { address: address.into(), advice: self.advice, source: self.source }
    }
}

impl From<io::Error> for Failure {
    fn from(source: io::Error) -> Self {
        Self::new("the system refused", source)
    }
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        Self::from(io::Error::from(error))
    }
}

fn unix(path: &Path, error: &io::Error) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    Some(match error.kind() {
        io::ErrorKind::AddrInUse => {
            let file = fs::symlink_metadata(path).map(|file| file.file_type());
            match file {
                Ok(file) if file.is_socket() => {
                    "another process listens there: stop it, or choose another path"
                }
                Ok(file) if file.is_dir() => "this is a folder: add the name of a file to the path",
                _ => "a file is in the way that is not a socket: remove it, or choose another path",
            }
            .to_owned()
        }
        io::ErrorKind::NotFound if folder.is_dir() => {
            format!("{} can't hold sockets: choose another folder", folder.display())
        }
        io::ErrorKind::NotFound => {
            format!("there is no folder {}: make it first", folder.display())
        }
        io::ErrorKind::NotADirectory => format!("{} is not a folder", folder.display()),
        io::ErrorKind::PermissionDenied if error.raw_os_error() == Some(EPERM) => {
            "this process may not give the socket to that owner or group: run it as root, or as a \
             member of the group"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => format!(
            "this process may not make a file in {}: give it a folder of its own, such as systemd's \
             RuntimeDirectory=",
            folder.display()
        ),
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("{} is read-only: choose another path", folder.display())
        }
        _ if error.raw_os_error() == Some(NAMETOOLONG) => {
            "the path is too long for a socket, which takes about 100 bytes: choose a shorter one"
                .to_owned()
        }
        _ => return None,
    })
}

const EPERM: i32 = Errno::PERM.raw_os_error();
const NAMETOOLONG: i32 = Errno::NAMETOOLONG.raw_os_error();

fn tcp(host_port: &str, error: &io::Error) -> Option<String> {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens at this port: stop it, or choose another port"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 are for root and CAP_NET_BIND_SERVICE: choose a higher one"
        }
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this machine has that address: :PORT is all of them"
        }
        // Errors of the resolver have no error number.
        _ if error.raw_os_error().is_none() => {
            let host = host_port.rsplit_once(':').map_or(host_port, |(host, _)| host);
            return Some(format!("the host {host:?} is not known: check its name"));
        }
        _ => return None,
    };
    Some(advice.to_owned())
}
