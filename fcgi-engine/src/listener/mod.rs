//! Listening sockets that a server takes connections from: bound, inherited, or passed in.
//!
//! ```
//! use fcgi_engine::{Listener, Target};
//!
//! let listener = Listener::bind("tcp:127.0.0.1:0")?;
//! assert!(matches!(listener.local_addr().target(), Target::Tcp(port) if !port.ends_with(":0")));
//! # Ok::<(), fcgi_engine::Error>(())
//! ```

mod advice;
mod bind;
mod builder;
mod env;
mod file;
mod options;

use std::{
    io,
    net::TcpListener,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
};

use rustix::net;

pub use builder::ListenerBuilder;
pub use file::SocketFile;
pub use options::Account;

use crate::{Address, Error};
use advice::Failure;

/// Where a server takes connections from: one socket, or several. Dropping it removes the unix
/// sockets' files that it created.
///
/// It belongs to no runtime yet, so it can be created anywhere: before the runtime starts, or
/// before the process drops its privileges.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<ListeningSocket>,
}

/// One socket of a [`Listener`].
#[derive(Debug)]
#[non_exhaustive]
pub struct ListeningSocket {
    /// The socket.
    pub listener: StdListener,
    /// Where it listens. For TCP this has the port that the system chose.
    pub address: Address,
    /// Keep this as long as the socket: dropping it removes a unix socket's file.
    pub file: Option<SocketFile>,
}

/// A listening socket of the standard library.
#[derive(Debug)]
#[non_exhaustive]
pub enum StdListener {
    /// A unix socket.
    Unix(UnixListener),
    /// A TCP socket.
    Tcp(TcpListener),
}

impl Listener {
    /// Listens on a unix path or a TCP host and port, or on descriptor 0 for `-`
    /// (FCGI_LISTENSOCK_FILENO, FC-2.2-1). Takes anything that converts into an [`Address`].
    /// [`builder`](Self::builder) has more settings.
    ///
    /// A unix socket file that nobody listens on is replaced. Descriptor 0 is taken over:
    /// afterwards it is /dev/null, for this process and its children.
    ///
    /// # Errors
    /// [`Error::Address`] for a text that is not an address, [`Error::Listen`] for the rest.
    pub fn bind(address: impl TryInto<Address, Error: Into<Error>>) -> Result<Self, Error> {
        Self::builder(address).bind()
    }

    /// The socket that the process was started with, whoever started it:
    ///
    /// 1. all sockets that systemd passed (`LISTEN_FDS`, `LISTEN_PID`) and that nobody has taken by
    ///    [name](Self::from_env_named),
    /// 2. else descriptor 0, if it is a listening socket: a web server, spawn-fcgi or a process
    ///    manager put it there (FC-2.2-1),
    /// 3. else the address in `FCGI_ADDR`,
    /// 4. else `default`.
    ///
    /// If systemd passed sockets, the first call removes LISTEN_FDS and LISTEN_PID from the
    /// environment. Rust code may read the environment meanwhile, but C code in other threads may
    /// not (getenv(3), which getaddrinfo(3) and localtime_r(3) call). If there may be such threads,
    /// such as those of an async runtime, call this before they start.
    ///
    /// # Errors
    /// As for [`bind`](Self::bind); [`Error::Listen`] when systemd passed anything but listening
    /// stream sockets.
    pub fn from_env(default: impl TryInto<Address, Error: Into<Error>>) -> Result<Self, Error> {
        Self::builder(default).inherit_or_bind()
    }

    /// The sockets that systemd passed under a name (`FileDescriptorName=`; by default the socket
    /// unit's name), else one at `default`. For programs that listen for several purposes.
    ///
    /// # Errors
    /// As for [`from_env`](Self::from_env).
    pub fn from_env_named(
        name: &str,
        default: impl TryInto<Address, Error: Into<Error>>,
    ) -> Result<Self, Error> {
        Self::builder(default).name(name).inherit_or_bind()
    }

    /// All sockets that systemd passed (`LISTEN_FDS`, `LISTEN_PID`) and that nobody has taken yet;
    /// `None` if there are none. For programs that also have addresses of their own.
    ///
    /// # Errors
    /// [`Error::Listen`] when systemd passed anything but listening stream sockets.
    pub fn passed() -> Result<Option<Self>, Error> {
        env::passed(None)
    }

    /// Takes over a listening socket.
    ///
    /// # Errors
    /// [`Error::Listen`] when it is not a listening stream socket.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        let socket = StdListener::from_fd(fd).map_err(|failure| failure.at("a descriptor"))?;
        Ok(Self::from(socket))
    }

    /// Where it listens. For TCP this has the port that the system chose. Of several sockets, the
    /// first.
    #[must_use]
    pub fn local_addr(&self) -> &Address {
        &self.sockets[0].address
    }

    /// Where each of its sockets listens.
    pub fn local_addrs(&self) -> impl ExactSizeIterator<Item = &Address> {
        self.sockets.iter().map(|socket| &socket.address)
    }

    /// Joins this listener's sockets and another's, to be served as one.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.sockets.extend(other.sockets);
        self
    }

    /// Its sockets, at least one, for use by an adapter.
    #[must_use]
    pub fn into_sockets(self) -> Vec<ListeningSocket> {
        self.sockets
    }
}

impl ListeningSocket {
    /// A listener from a socket that somebody else made.
    fn inherited(listener: StdListener) -> Self {
        let address = listener.local_addr();
        Self { listener, address, file: None }
    }
}

impl From<StdListener> for Listener {
    fn from(listener: StdListener) -> Self {
        Self { sockets: vec![ListeningSocket::inherited(listener)] }
    }
}

/// Its file, if it has one, is left alone.
impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::from(StdListener::Unix(listener))
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::from(StdListener::Tcp(listener))
    }
}

impl StdListener {
    fn from_fd(fd: OwnedFd) -> Result<Self, Failure> {
        let listens = match net::sockopt::socket_acceptconn(&fd) {
            Err(rustix::io::Errno::NOTSOCK) => false,
            listens => listens.map_err(Failure::from)?,
        };
        if !listens {
            let source = io::Error::from(io::ErrorKind::InvalidInput);
            return Err(Failure::new("it is not a listening socket", source));
        }
        Ok(match net::sockopt::socket_domain(&fd).map_err(Failure::from)? {
            net::AddressFamily::UNIX => Self::Unix(UnixListener::from(fd)),
            _ => Self::Tcp(TcpListener::from(fd)),
        })
    }

    /// Makes it nonblocking, as an adapter needs it.
    ///
    /// # Errors
    /// The system's error.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Unix(listener) => listener.set_nonblocking(true),
            Self::Tcp(listener) => listener.set_nonblocking(true),
        }
    }

    /// Where it listens, according to the system.
    fn local_addr(&self) -> Address {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or(Address::STDIN, Address::from),
            Self::Unix(listener) => {
                let Ok(address) = listener.local_addr() else { return Address::STDIN };
                match address.as_pathname() {
                    Some(path) => Address::from(path),
                    None => Address::unix(format!("@{}", abstract_name(&address))),
                }
            }
        }
    }
}

impl AsFd for StdListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// The name of a socket without a file. Only Linux has such sockets.
fn abstract_name(address: &std::os::unix::net::SocketAddr) -> String {
    #[cfg(target_os = "linux")]
    if let Some(name) = std::os::linux::net::SocketAddrExt::as_abstract_name(address) {
        return String::from_utf8_lossy(name).into_owned();
    }
    let _ = address;
    String::new()
}
