//! What a socket can be asked, and the process of its descriptor 0.
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

use std::{fmt, io, net::SocketAddr, os::fd::AsFd};

use rustix::{event, net};

/// Where an accepted connection comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Peer {
    /// A unix socket, whose other end has no name.
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

/// Whether this process was started by a FastCGI web server: descriptor 0 is a socket without a
/// peer (FC-2.2-1). A CGI program has something else there. Ask before descriptor 0 is taken over.
#[must_use]
pub fn is_fastcgi() -> bool {
    matches!(net::getpeername(io::stdin()), Err(rustix::io::Errno::NOTCONN))
}

/// Whether a peer has hung up, whatever is still to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
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
