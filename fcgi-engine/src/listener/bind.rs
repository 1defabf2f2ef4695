//! Binds an address.
//!
//! A unix socket's file gets its owner and mode between bind(2) and listen(2); nobody can connect
//! before listen(2). The umask belongs to the whole process and is left alone. Linux creates the
//! file with the mode of the unbound socket, so it never allows more than it should.

use std::{
    fs::{self, File, Permissions},
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
};

use nix::unistd::{Group, User};
use rustix::{io::Errno, net};

use super::{
    ListeningSocket, StdListener,
    advice::Failure,
    file::{FolderLock, SocketFile},
    options::{Account, Kind, Options},
};
use crate::{Address, Target, socket::stream_socket};

pub(super) fn bind(address: &Address, options: &Options) -> Result<ListeningSocket, Failure> {
    let failed = |error| Failure::binding(address, error);
    match address.target() {
        Target::Unix(path) => {
            let owner = options.owner.as_ref().map(user).transpose()?;
            let group = options.group.as_ref().map(group).transpose()?;
            let file = UnixFile { path, mode: options.mode, owner, group };
            let (listener, file) = file.listen(backlog(options)).map_err(failed)?;
            let listener = StdListener::Unix(listener);
            Ok(ListeningSocket { listener, address: address.clone(), file: Some(file) })
        }
        Target::Tcp(host_port) => {
            let listener = bind_tcp(address, host_port).map_err(failed)?;
            // Listens again, with our own backlog.
            net::listen(&listener, backlog(options)).map_err(|error| failed(error.into()))?;
            let address = listener.local_addr().map_err(failed)?.into();
            Ok(ListeningSocket { listener: StdListener::Tcp(listener), address, file: None })
        }
        Target::Stream => {
            let source = io::Error::from(io::ErrorKind::Unsupported);
            Err(Failure::new("a stream that is connected already takes no connections", source))
        }
        Target::Stdin => take_stdin().map(ListeningSocket::inherited),
    }
}

fn backlog(options: &Options) -> i32 {
    i32::try_from(options.backlog).unwrap_or(i32::MAX)
}

fn bind_tcp(address: &Address, host_port: &str) -> io::Result<TcpListener> {
    match address.any_port() {
        // Where there is IPv6, its socket takes IPv4 too.
        Some(port) => bind_first([
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        ]),
        None => bind_first(host_port.to_socket_addrs()?),
    }
}

/// Binds the first address that this machine has. If another process holds it, that is an error:
/// clients would otherwise go on connecting to that process, unnoticed.
fn bind_first(addresses: impl IntoIterator<Item = SocketAddr>) -> io::Result<TcpListener> {
    let mut missing = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpListener::bind(address) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrNotAvailable
                    || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) =>
            {
                missing = error;
            }
            other => return other,
        }
    }
    Err(missing)
}

/// What to do if descriptor 0 can't be listened on.
const PASS_ONE: &str = "start the program from a web server, spawn-fcgi or systemd, or give it an \
                        address; from_env and serve_http_auto read FCGI_ADDR";

/// The listening socket at descriptor 0, moved to a descriptor that is closed on exec. Descriptor 0
/// becomes /dev/null. If it stayed the socket, connections would be accepted but not answered for
/// as long as this process or one of its children lives.
pub(super) fn take_stdin() -> Result<StdListener, Failure> {
    let listener = StdListener::from_fd(io::stdin().as_fd().try_clone_to_owned()?);
    let listener = listener.map_err(|failure| failure.advise(PASS_ONE))?;
    // A chroot may lack it; a socket whose other end is closed does as well.
    let nothing = match File::open("/dev/null") {
        Ok(file) => OwnedFd::from(file),
        Err(_) => UnixStream::pair()?.0.into(),
    };
    rustix::stdio::dup2_stdin(nothing).map_err(Failure::from)?;
    Ok(listener)
}

/// A unix socket's file to be created.
struct UnixFile<'a> {
    path: &'a Path,
    mode: Option<u32>,
    owner: Option<u32>,
    group: Option<u32>,
}

impl UnixFile<'_> {
    /// Creates it. A socket file that nobody listens on any more is replaced.
    fn listen(&self, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
        // A socket that is bound but does not listen yet looks like an abandoned one.
        let _lock = FolderLock::of(self.path);
        match self.make(backlog) {
            // A file that is not a socket refuses connections too.
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && is_refused(self.path)?
                    && fs::symlink_metadata(self.path)?.file_type().is_socket() =>
            {
                fs::remove_file(self.path)?;
                self.make(backlog)
            }
            other => other,
        }
    }

    fn make(&self, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
        let mut socket = stream_socket(net::AddressFamily::UNIX, false)?;
        if let Some(mode) = self.mode {
            let unbound = File::from(socket);
            // Other systems may refuse this; nobody can connect yet there either.
            let _ = unbound.set_permissions(Permissions::from_mode(mode));
            socket = unbound.into();
        }
        net::bind(&socket, &net::SocketAddrUnix::new(self.path)?)?;
        // Removed again if the rest fails.
        let file = SocketFile::new(self.path)?;
        file.set_rights(self.mode, self.owner, self.group)?;
        net::listen(&socket, backlog)?;
        if !file.is_there() {
            // Somebody replaced the file, so nobody would find this socket.
            return Err(io::ErrorKind::AddrInUse.into());
        }
        Ok((UnixListener::from(socket), file))
    }
}

/// Whether nobody listens at a path. It does not wait: a full backlog means that somebody does.
fn is_refused(path: &Path) -> io::Result<bool> {
    let socket = stream_socket(net::AddressFamily::UNIX, true)?;
    let connected = net::connect(&socket, &net::SocketAddrUnix::new(path)?);
    Ok(connected == Err(Errno::CONNREFUSED))
}

fn user(account: &Account) -> Result<u32, Failure> {
    id(account, "user", |name| Ok(User::from_name(name)?.map(|user| user.uid.as_raw())))
}

fn group(account: &Account) -> Result<u32, Failure> {
    id(account, "group", |name| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw())))
}

fn id(
    account: &Account,
    what: &str,
    look_up: impl FnOnce(&str) -> nix::Result<Option<u32>>,
) -> Result<u32, Failure> {
    let name = match &account.0 {
        Kind::Id(id) => return Ok(*id),
        Kind::Name(name) => name,
    };
    match look_up(name) {
        Ok(Some(id)) => Ok(id),
        Ok(None) => name.parse().map_err(|_| {
            let advice = format!("there is no {what} {name:?}: make it, or name another");
            Failure::new(advice, io::ErrorKind::NotFound.into())
        }),
        Err(error) => {
            Err(Failure::new(format!("the {what} {name:?} can't be looked up"), error.into()))
        }
    }
}
