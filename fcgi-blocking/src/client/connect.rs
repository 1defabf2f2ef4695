//! Connecting with a time limit.

use std::{
    io,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    os::fd::AsFd,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use fcgi_engine::{client::Pauses, socket};
use rustix::{
    event::PollFlags,
    io::Errno,
    net::{self, AddressFamily},
};

use super::{
    CancelHandle,
    wait::{On, Waited, wait},
};
use crate::{Address, Target, stream::Stream, waker::Waker};

/// Why no connection was made.
pub(super) enum Failure {
    Io(io::Error),
    TimedOut,
    Cancelled,
}

impl<E: Into<io::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Io(error.into())
    }
}

/// One attempt to connect, with its limit and its cancel handle.
pub(super) struct Attempt<'a> {
    pub(super) limit: Option<Duration>,
    pub(super) cancel: Option<&'a CancelHandle>,
    /// Created when it is needed.
    pub(super) waker: &'a mut Option<Arc<Waker>>,
}

impl Attempt<'_> {
    pub(super) fn connect(mut self, address: &Address) -> Result<Stream, Failure> {
        if self.cancel.is_some_and(CancelHandle::is_cancelled) {
            return Err(Failure::Cancelled);
        }
        match address.target() {
            Target::Unix(path) => self.unix(path),
            Target::Tcp(host_port) => self.tcp(host_port),
            _ => Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        }
    }

    fn until(&self) -> Option<Instant> {
        self.limit.and_then(|limit| Instant::now().checked_add(limit))
    }

    fn unix(&mut self, path: &Path) -> Result<Stream, Failure> {
        let until = self.until();
        let mut pauses = Pauses::new();
        loop {
            match socket::connect_unix(path) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let again = pauses.next(Instant::now(), until).ok_or(Failure::TimedOut)?;
                    self.wait(None, Some(again))?;
                }
                connected => return Ok(Stream::unix(connected?)?),
            }
        }
    }

    fn tcp(&mut self, host_port: &str) -> Result<Stream, Failure> {
        let mut failure = Failure::Io(io::Error::new(
            io::ErrorKind::NotFound,
            "the host's name stands for no address",
        ));
        let addresses = host_port.to_socket_addrs()?;
        let until = self.until();
        for address in addresses {
            match self.tcp_to(address, until) {
                Err(Failure::Io(error)) => failure = Failure::Io(error),
                other => return other,
            }
        }
        Err(failure)
    }

    fn tcp_to(&mut self, address: SocketAddr, until: Option<Instant>) -> Result<Stream, Failure> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket::stream_socket(family, true)?;
        match net::connect(&socket, &address) {
            Ok(()) => {}
            // The system continues to connect in the background.
            Err(Errno::INPROGRESS | Errno::INTR) => {
                let on = (socket.as_fd(), PollFlags::OUT);
                if self.wait(Some(on), until)? == Waited::TimedOut {
                    return Err(Failure::TimedOut);
                }
                net::sockopt::socket_error(&socket)??;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Stream::tcp(TcpStream::from(socket))?)
    }

    fn wait(&mut self, on: Option<On<'_>>, until: Option<Instant>) -> Result<Waited, Failure> {
        loop {
            match wait(on, until, self.cancel, self.waker)? {
                Waited::Woken if self.cancel.is_some_and(CancelHandle::is_cancelled) => {
                    return Err(Failure::Cancelled);
                }
                Waited::Woken => {}
                waited => return Ok(waited),
            }
        }
    }
}
