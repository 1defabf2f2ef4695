//! Listening sockets before a runtime takes them over, and what a connected one can be asked.
//!
//! ```
//! use fcgi_engine::{ListeningSocket, Target};
//!
//! let socket = ListeningSocket::bind(&"tcp:127.0.0.1:0".parse()?)?;
//! assert!(matches!(socket.address.target(), Target::Tcp(port) if !port.ends_with(":0")));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    fmt,
    fs::File,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::{event, net};

use crate::{Address, Target};

/// A listening socket of the standard library, in non-blocking mode.
#[derive(Debug)]
pub enum StdListener {
    /// A unix socket.
    Unix(UnixListener),
    /// A TCP socket.
    Tcp(TcpListener),
}

impl StdListener {
    fn bind(address: &Address) -> io::Result<Self> {
        let listener = match address.target() {
            Target::Unix(path) => Self::Unix(bind_unix(path)?),
            Target::Tcp(host_port) => Self::Tcp(match address.any_port() {
                // IPv6's takes IPv4 too, where there is IPv6.
                Some(port) => TcpListener::bind(
                    &[
                        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
                        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
                    ][..],
                )?,
                None => TcpListener::bind(host_port)?,
            }),
            Target::Stdin => return take_stdin(),
        };
        listener.nonblocking()
    }

    fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let listens = match net::sockopt::socket_acceptconn(&fd) {
            Err(rustix::io::Errno::NOTSOCK) => false,
            listens => listens?,
        };
        if !listens {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor is no listening socket",
            ));
        }
        let listener = match net::sockopt::socket_domain(&fd)? {
            net::AddressFamily::UNIX => Self::Unix(UnixListener::from(fd)),
            _ => Self::Tcp(TcpListener::from(fd)),
        };
        listener.nonblocking()
    }

    fn nonblocking(self) -> io::Result<Self> {
        match &self {
            Self::Unix(listener) => listener.set_nonblocking(true)?,
            Self::Tcp(listener) => listener.set_nonblocking(true)?,
        }
        Ok(self)
    }
}

/// The listening socket at descriptor 0, moved to one that is closed on exec. What is left there is
/// /dev/null: were it the socket, connections would be taken in, and not answered, for as long as
/// this process or a child of its lives.
fn take_stdin() -> io::Result<StdListener> {
    let listener = StdListener::from_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
    // A chroot may be without it; a socket whose other end is closed is as empty.
    let nothing = match File::open("/dev/null") {
        Ok(file) => OwnedFd::from(file),
        Err(_) => UnixStream::pair()?.0.into(),
    };
    rustix::stdio::dup2_stdin(nothing)?;
    Ok(listener)
}

/// Binds a path; a socket there that nobody listens on any more is replaced.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        // A file that is no socket refuses too.
        Err(error)
            if error.kind() == io::ErrorKind::AddrInUse
                && is_refused(path)?
                && std::fs::symlink_metadata(path)?.file_type().is_socket() =>
        {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        other => other,
    }
}

/// Whether nobody listens at a path. It does not wait: a backlog that is full is somebody's.
fn is_refused(path: &Path) -> io::Result<bool> {
    let socket = net::socket(net::AddressFamily::UNIX, net::SocketType::STREAM, None)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    let connected = net::connect(&socket, &net::SocketAddrUnix::new(path)?);
    Ok(connected == Err(rustix::io::Errno::CONNREFUSED))
}

/// A listening socket, where it listens, and its file. A unix socket's file is removed when this
/// is dropped.
#[derive(Debug)]
pub struct ListeningSocket {
    /// The socket.
    pub listener: StdListener,
    /// Where it listens: for TCP with the port that the system chose.
    pub address: Address,
    /// To be kept for as long as the socket is: removes a unix socket's file when dropped.
    pub file: Option<SocketFile>,
}

impl ListeningSocket {
    /// Listens at a unix path or a TCP host and port, or on descriptor 0 for `-`
    /// (FCGI_LISTENSOCK_FILENO, FC-2.2-1). A unix socket file that nobody listens on is replaced.
    /// Descriptor 0 is taken over: after that it is /dev/null, for this process and its children.
    ///
    /// # Errors
    /// The socket's own; [`io::ErrorKind::InvalidInput`] when descriptor 0 does not listen.
    pub fn bind(address: &Address) -> io::Result<Self> {
        let listener = StdListener::bind(address)?;
        let address = match &listener {
            StdListener::Tcp(tcp) if address.is_callable() => Address::from(tcp.local_addr()?),
            _ => address.clone(),
        };
        let file = match address.target() {
            Target::Unix(path) => Some(SocketFile::new(path)?),
            _ => None,
        };
        Ok(Self { listener, address, file })
    }

    /// Takes over a listening socket, from systemd's socket activation for example.
    ///
    /// # Errors
    /// As for [`bind`](Self::bind).
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let listener = StdListener::from_fd(fd)?;
        Ok(Self { listener, address: Address::STDIN, file: None })
    }
}

/// A unix socket's file, which is removed when this is dropped, unless another server has put its
/// own in its place meanwhile.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), id: file_id(path)? })
    }
}

fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if file_id(&self.path).is_ok_and(|id| id == self.id) {
            // Somebody else may have removed it; there is nobody to tell.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Where an accepted connection comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// A unix socket, whose other end has no name.
    Unix,
    /// A TCP socket.
    Tcp(SocketAddr),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix => f.write_str("unix"),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// Whether this process was started by a FastCGI web server: descriptor 0 is a socket without a
/// peer (FC-2.2-1). A CGI program has something else there. Ask before descriptor 0 is taken over.
#[must_use]
pub fn is_fastcgi() -> bool {
    matches!(net::getpeername(io::stdin()), Err(rustix::io::Errno::NOTCONN))
}

/// Whether a peer has hung up, whatever is still to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HangUp {
    /// Not that the socket knows.
    No,
    /// It has closed its sending side at least: TCP knows no more before a reset.
    EndOfFile,
    /// It has closed both sides, or has reset the connection.
    Gone,
}

/// Whether the peer has hung up, as the system has it now.
#[must_use]
pub fn hang_up(fd: impl AsFd) -> HangUp {
    let mut fds = [event::PollFd::new(&fd, END_OF_FILE)];
    // What can't be asked says nothing.
    let _ = event::poll(&mut fds, Some(&event::Timespec::default()));
    let seen = fds[0].revents();
    if seen.intersects(event::PollFlags::HUP | event::PollFlags::ERR) {
        HangUp::Gone
    } else if seen.intersects(END_OF_FILE) {
        HangUp::EndOfFile
    } else {
        HangUp::No
    }
}

/// What poll(2) is asked for to hear of an end of file behind bytes that nobody reads.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub const END_OF_FILE: event::PollFlags = event::PollFlags::RDHUP;
/// What poll(2) is asked for to hear of an end of file behind bytes that nobody reads: nothing, since
/// this system can't say.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub const END_OF_FILE: event::PollFlags = event::PollFlags::empty();

/// Whether a read would not have to wait: there are bytes, or the end of file, or an error.
#[must_use]
pub fn is_readable(fd: impl AsFd) -> bool {
    let mut fds = [event::PollFd::new(&fd, event::PollFlags::IN)];
    // What can't be asked is not to be relied on.
    event::poll(&mut fds, Some(&event::Timespec::default())).is_err()
        || !fds[0].revents().is_empty()
}

/// Tells the peer that nothing more will come.
pub fn shutdown_write(fd: impl AsFd) {
    // A peer that is gone already needs no telling.
    let _ = net::shutdown(fd, net::Shutdown::Write);
}

/// Refuses what the peer sends from now on; says whether that was possible. What it sent before can
/// still be read, up to the end of file. Linux's unix sockets can do so: TCP takes what comes, and
/// other systems forget what came.
#[must_use]
pub fn refuse_input(fd: impl AsFd) -> bool {
    cfg!(target_os = "linux")
        && net::sockopt::socket_domain(&fd) == Ok(net::AddressFamily::UNIX)
        && net::shutdown(fd, net::Shutdown::Read).is_ok()
}
