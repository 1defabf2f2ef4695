//! What can be asked about a socket, and about descriptor 0 of the process.
//!
//! ```
//! use std::os::unix::net::UnixStream;
//!
//! use fcgi_engine::socket::{HangUp, hang_up};
//!
//! let (ours, theirs) = UnixStream::pair()?;
//! assert_eq!(hang_up(&ours), HangUp::No);
//! drop(theirs);
//! assert_eq!(hang_up(&ours), HangUp::Gone);
//! # Ok::<(), std::io::Error>(())
//! ```

use std::{
    fmt,
    io::{self, IoSlice, Read, Write},
    net::{SocketAddr, TcpStream},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

use rustix::{event, io::Errno, net};

/// Where an accepted connection comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Peer {
    /// A unix socket. Its other end has no name.
    Unix,
    /// A TCP socket.
    Tcp(SocketAddr),
    /// Any other stream.
    Stream,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix => f.write_str("unix"),
            Self::Tcp(address) => address.fmt(f),
            Self::Stream => f.write_str("stream"),
        }
    }
}

/// Whether a FastCGI web server started this process: descriptor 0 is a socket without a peer
/// (FC-2.2-1). A CGI program has something else there. Ask before descriptor 0 is taken over.
#[must_use]
pub fn is_fastcgi() -> bool {
    matches!(net::getpeername(io::stdin()), Err(Errno::NOTCONN))
}

/// Connects to a unix socket, which takes no time. The stream does not block.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) if the socket's backlog is full; nothing reports when
/// it has room.
pub fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let address = net::SocketAddrUnix::new(path)?;
    let socket = stream_socket(net::AddressFamily::UNIX, true)?;
    loop {
        match net::connect(&socket, &address) {
            Ok(()) => return Ok(socket.into()),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let full = "the socket's backlog is full";
                return Err(io::Error::new(io::ErrorKind::WouldBlock, full));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A stream socket that is closed on exec, and perhaps does not block.
///
/// # Errors
/// The system's.
pub fn stream_socket(family: net::AddressFamily, nonblocking: bool) -> io::Result<OwnedFd> {
    #[cfg(not(target_vendor = "apple"))]
    let socket = {
        let mut flags = net::SocketFlags::CLOEXEC;
        flags.set(net::SocketFlags::NONBLOCK, nonblocking);
        net::socket_with(family, net::SocketType::STREAM, flags, None)?
    };
    #[cfg(target_vendor = "apple")]
    let socket = {
        let socket = net::socket(family, net::SocketType::STREAM, None)?;
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&socket, nonblocking)?;
        socket
    };
    Ok(socket)
}

/// A connected socket that does not block and that no runtime watches: many connections end before
/// anybody has to wait for them.
#[derive(Debug)]
#[non_exhaustive]
pub enum StdSocket {
    /// A unix socket.
    Unix(UnixStream),
    /// A TCP socket, without Nagle's delay.
    Tcp(TcpStream),
}

impl StdSocket {
    /// Reads what has come; 0 is the end of file.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when there is nothing to read; errors of the socket.
    #[inline]
    pub fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => (&*stream).read(buf),
            Self::Tcp(stream) => (&*stream).read(buf),
        }
    }

    /// Writes some of the slices in one call.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when it is full; errors of the socket.
    #[inline]
    pub fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, slices) {
            (Self::Unix(stream), [one]) => (&*stream).write(one),
            (Self::Unix(stream), many) => (&*stream).write_vectored(many),
            (Self::Tcp(stream), [one]) => (&*stream).write(one),
            (Self::Tcp(stream), many) => (&*stream).write_vectored(many),
        }
    }
}

impl AsFd for StdSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

/// Accepts a connection at a unix socket, and its peer.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) when none waits; the system's.
pub fn accept_unix(listener: BorrowedFd<'_>) -> io::Result<(StdSocket, Peer)> {
    let (socket, _) = accept(listener)?;
    Ok((StdSocket::Unix(socket.into()), Peer::Unix))
}

/// Accepts a connection at a TCP socket, and its peer.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) when none waits; the system's.
pub fn accept_tcp(listener: BorrowedFd<'_>) -> io::Result<(StdSocket, Peer)> {
    let (socket, peer) = accept(listener)?;
    let stream = TcpStream::from(socket);
    // The system may leave the address out.
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    let peer = peer.map_or_else(|| stream.peer_addr(), Ok)?;
    // Some systems refuse this for a connection that is gone already.
    let _ = stream.set_nodelay(true);
    Ok((StdSocket::Tcp(stream), Peer::Tcp(peer)))
}

/// Accepts a socket that does not block and is closed on exec: in one call, where the system can.
fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<net::SocketAddrAny>)> {
    let accept = || {
        #[cfg(not(target_vendor = "apple"))]
        return net::acceptfrom_with(
            listener,
            net::SocketFlags::CLOEXEC | net::SocketFlags::NONBLOCK,
        );
        #[cfg(target_vendor = "apple")]
        return net::acceptfrom(listener);
    };
    let accepted = loop {
        match accept() {
            Err(Errno::INTR) => {}
            accepted => break accepted?,
        }
    };
    #[cfg(target_vendor = "apple")]
    {
        rustix::io::fcntl_setfd(&accepted.0, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&accepted.0, true)?;
    }
    Ok(accepted)
}

/// Whether a peer has hung up, whatever there still is to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HangUp {
    /// Not as far as the socket knows.
    No,
    /// It has closed at least its sending side. TCP knows no more until a reset.
    EndOfFile,
    /// It has closed both sides, or reset the connection.
    Gone,
}

impl HangUp {
    /// As poll(2) reports it.
    #[must_use]
    pub fn of(seen: event::PollFlags) -> Self {
        if seen.intersects(event::PollFlags::HUP | event::PollFlags::ERR) {
            Self::Gone
        } else if seen.intersects(END_OF_FILE) {
            Self::EndOfFile
        } else {
            Self::No
        }
    }
}

/// Whether the peer has hung up, as the system knows it now.
#[must_use]
pub fn hang_up(fd: impl AsFd) -> HangUp {
    let mut fds = [event::PollFd::new(&fd, END_OF_FILE)];
    // If poll(2) fails, nothing is known.
    let _ = event::poll(&mut fds, Some(&event::Timespec::default()));
    HangUp::of(fds[0].revents())
}

/// The poll(2) flag that reports an end of file behind bytes that nobody reads.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub const END_OF_FILE: event::PollFlags = event::PollFlags::RDHUP;
/// The poll(2) flag that reports an end of file behind bytes that nobody reads: none, because this
/// system has no such flag.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub const END_OF_FILE: event::PollFlags = event::PollFlags::empty();

/// Whether a read would not wait: there are bytes, the end of file, or an error.
#[must_use]
pub fn is_readable(fd: impl AsFd) -> bool {
    let mut fds = [event::PollFd::new(&fd, event::PollFlags::IN)];
    // If poll(2) fails, don't rely on the socket.
    event::poll(&mut fds, Some(&event::Timespec::default())).is_err()
        || !fds[0].revents().is_empty()
}

/// Writes some of the slices in one call, whatever a runtime knows of the socket.
///
/// # Errors
/// [`WouldBlock`](io::ErrorKind::WouldBlock) when the socket is full; the system's.
pub fn write(fd: impl AsFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    // Apple's sockets have an option for this, which the standard library sets.
    #[cfg(target_vendor = "apple")]
    let flags = net::SendFlags::empty();
    #[cfg(not(target_vendor = "apple"))]
    let flags = net::SendFlags::NOSIGNAL;
    let written = match slices {
        [one] => net::send(fd, one, flags),
        many => net::sendmsg(fd, many, &mut net::SendAncillaryBuffer::default(), flags),
    };
    Ok(written?)
}

/// What a unix socket that was full once may hold. Linux grants as much without a setting of the
/// system, and takes it twice, to account for its own overhead.
const WIDE: usize = 208 * 1024;

/// Lets a unix socket hold more than it does by default; true if it now does. It is reported as
/// writable only when it is nearly empty, so with little room both sides wait in turn.
///
/// TCP adapts its room to the network, but only as long as nobody sets it.
#[must_use]
pub fn widen(unix: impl AsFd) -> bool {
    let room = || net::sockopt::socket_send_buffer_size(&unix);
    room().is_ok_and(|before| {
        before <= WIDE
            && net::sockopt::set_socket_send_buffer_size(&unix, WIDE).is_ok()
            && room().is_ok_and(|now| now > before)
    })
}

/// Shuts down the sending side, so that the peer sees the end of file.
pub fn shutdown_write(fd: impl AsFd) {
    // A peer that is gone does not need it.
    let _ = net::shutdown(fd, net::Shutdown::Write);
}

/// Refuses what the peer sends from now on; true if that was possible. What it sent before can
/// still be read, up to the end of file. Only Linux's unix sockets can do this: TCP takes more all
/// the same, and other systems drop what came before.
#[must_use]
pub fn refuse_input(fd: impl AsFd) -> bool {
    cfg!(target_os = "linux")
        && net::sockopt::socket_domain(&fd) == Ok(net::AddressFamily::UNIX)
        && net::shutdown(fd, net::Shutdown::Read).is_ok()
}
