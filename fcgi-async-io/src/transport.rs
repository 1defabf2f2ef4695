//! Unix and TCP sockets, and other streams.

use std::{
    any::Any,
    io::{self, IoSlice, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
    task::{Context, Poll, ready},
};

#[cfg(any(feature = "async-net", feature = "async-std"))]
use std::os::fd::OwnedFd;

use async_io::Async;
use fcgi_driver::{Over, StdListener, runtime};
use fcgi_engine::socket::{self, HangUp, Peer, StdSocket};
use futures_io::{AsyncRead, AsyncWrite};

use crate::watch::Watch;

/// A connected unix or TCP socket, the latter without Nagle's delay, or any other stream.
#[derive(Debug)]
pub struct Transport {
    stream: Stream,
    /// Whether a read may find something, so that it need not wait first.
    readable: bool,
    /// The end of input, or an error, is among what comes next.
    ended: bool,
    watched: Watched,
}

/// How a socket is watched for input.
#[derive(Debug)]
enum Watched {
    /// By the reactor, for one event at a time. This is cheaper for a socket that is only read a few
    /// times: the number of reads so far.
    Once(u8),
    /// All the time.
    Always(Watch),
    /// By the reactor, because the system has no room for more.
    Full,
}

/// From this many reads on a socket is watched all the time. A connection that is not kept needs
/// two: for its request, and for the end of file.
const BUSY: u8 = 3;

#[derive(Debug)]
enum Stream {
    /// A socket that was just connected or accepted, which the reactor does not watch yet. `None` if
    /// it could not watch it: it is closed then.
    New(Option<StdSocket>),
    Unix(Async<UnixStream>),
    Tcp(Async<TcpStream>),
    /// Any other stream.
    Other(Box<dyn runtime::Transport>),
}

/// Accepts any stream, such as TLS, vsock, or a pipe in memory. An `Async` of a socket from std is
/// used as that socket, and so is a socket of smol or async-std if its feature is enabled.
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> From<T> for Transport {
    fn from(io: T) -> Self {
        let io: Box<dyn Any + Send> = Box::new(io);
        let io = match io.downcast::<Async<UnixStream>>() {
            Ok(unix) => return Self::new(Stream::Unix(*unix)),
            Err(io) => io,
        };
        let io = match io.downcast::<Async<TcpStream>>() {
            Ok(tcp) => return Self::tcp(*tcp),
            Err(io) => io,
        };
        if let Some(socket) = runtimes_socket(&*io) {
            return socket;
        }
        match io.downcast::<T>() {
            Ok(io) => Self::new(Stream::Other(Box::new(Over::new(*io)))),
            Err(_) => unreachable!("it was made of one"),
        }
    }
}

impl Transport {
    /// The descriptor of a socket; other streams have none.
    #[must_use]
    pub fn as_socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.stream {
            Stream::New(socket) => socket.as_ref().map(AsFd::as_fd),
            Stream::Unix(stream) => Some(stream.as_fd()),
            Stream::Tcp(stream) => Some(stream.as_fd()),
            Stream::Other(_) => None,
        }
    }

    fn new(stream: Stream) -> Self {
        Self { stream, readable: false, ended: false, watched: Watched::Once(0) }
    }

    /// A socket that was accepted a moment ago. Mostly its first request has come by now: to read
    /// it at once saves waiting for it.
    fn accepted(mut self) -> Self {
        self.readable = true;
        self
    }

    /// A unix socket can be written to at once, so nothing waits for it before the answer.
    pub(crate) fn connect_unix(path: &Path) -> io::Result<Self> {
        let socket = StdSocket::Unix(socket::connect_unix(path)?);
        Ok(Self::new(Stream::New(Some(socket))))
    }

    /// Lets the reactor watch a new socket.
    fn watch(&mut self) -> io::Result<()> {
        if let Stream::New(socket) = &mut self.stream {
            self.stream = match socket.take() {
                Some(StdSocket::Unix(unix)) => Stream::Unix(Async::new_nonblocking(unix)?),
                Some(StdSocket::Tcp(tcp)) => Stream::Tcp(Async::new_nonblocking(tcp)?),
                _ => return Err(io::ErrorKind::NotConnected.into()),
            };
        }
        Ok(())
    }

    /// Waits until something has come; true if that includes the end of input, as far as is known.
    fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.watch()?;
        if matches!(self.watched, Watched::Once(reads) if reads >= BUSY) {
            if let Some(socket) = self.as_socket() {
                self.watched = Watch::new(socket).map_or(Watched::Full, Watched::Always);
            }
        }
        if let Watched::Always(watch) = &self.watched {
            return watch.poll_readable(cx);
        }
        let arrived = match &self.stream {
            Stream::Unix(stream) => stream.poll_readable(cx),
            Stream::Tcp(stream) => stream.poll_readable(cx),
            Stream::New(_) | Stream::Other(_) => Poll::Ready(Ok(())),
        };
        arrived.map_ok(|()| false)
    }

    /// Tries each of the host's addresses in order.
    pub(crate) async fn connect_tcp(host_port: &str) -> io::Result<Self> {
        let mut failure = None;
        for address in resolve(host_port).await? {
            match Async::<TcpStream>::connect(address).await {
                Ok(stream) => return Ok(Self::tcp(stream)),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the host has no address")
        }))
    }

    fn tcp(stream: Async<TcpStream>) -> Self {
        // Some systems refuse this for a connection that is gone already.
        let _ = stream.get_ref().set_nodelay(true);
        Self::new(Stream::Tcp(stream))
    }
}

/// If this is a socket of smol or async-std, returns it as such, under another descriptor, since
/// its clones may share the one that it has. If there is no descriptor left, it is used like any
/// other stream.
fn runtimes_socket(io: &(dyn Any + Send)) -> Option<Transport> {
    #[cfg(feature = "async-net")]
    {
        if let Some(unix) = io.downcast_ref::<async_net::unix::UnixStream>() {
            return Some(Transport::new(Stream::Unix(again(unix)?)));
        }
        if let Some(tcp) = io.downcast_ref::<async_net::TcpStream>() {
            return Some(Transport::tcp(again(tcp)?));
        }
    }
    #[cfg(feature = "async-std")]
    {
        if let Some(unix) = io.downcast_ref::<async_std::os::unix::net::UnixStream>() {
            return Some(Transport::new(Stream::Unix(again(unix)?)));
        }
        if let Some(tcp) = io.downcast_ref::<async_std::net::TcpStream>() {
            return Some(Transport::tcp(again(tcp)?));
        }
    }
    let _ = io;
    None
}

/// The same socket under another descriptor. It stays in non-blocking mode.
#[cfg(any(feature = "async-net", feature = "async-std"))]
fn again<S: From<OwnedFd> + AsFd>(socket: &impl AsFd) -> Option<Async<S>> {
    let descriptor = socket.as_fd().try_clone_to_owned().ok()?;
    Async::new_nonblocking(S::from(descriptor)).ok()
}

/// Looks a name up in a separate thread, since the system's resolver blocks.
async fn resolve(host_port: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host_port.parse() {
        return Ok(vec![address]);
    }
    let host_port = host_port.to_owned();
    blocking::unblock(move || Ok(host_port.to_socket_addrs()?.collect())).await
}

impl runtime::Transport for Transport {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Stream::Other(stream) = &mut self.stream {
            return stream.poll_read_ready(cx);
        }
        if !self.readable {
            // Registers first and does not call the socket: that saves a read that finds nothing.
            self.ended = ready!(self.poll_arrival(cx))?;
            self.readable = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            let read = match &mut self.stream {
                Stream::New(socket) => opened(socket)?.read(buf),
                Stream::Unix(stream) => stream.get_ref().read(buf),
                Stream::Tcp(stream) => stream.get_ref().read(buf),
                Stream::Other(stream) => return stream.poll_read(cx, buf),
            };
            match read {
                Ok(n) => {
                    // An end is reported only once.
                    self.ended |= n == 0 && !buf.is_empty();
                    self.readable = self.ended || n == buf.len();
                    if let Watched::Once(reads) = &mut self.watched {
                        *reads = reads.saturating_add(1);
                    }
                    return Poll::Ready(Ok(n));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let wrote = match (&mut self.stream, slices) {
                (Stream::Other(stream), slices) => return stream.poll_write(cx, slices),
                (Stream::New(socket), slices) => opened(socket)?.write(slices),
                (Stream::Unix(stream), [one]) => stream.get_ref().write(one),
                (Stream::Tcp(stream), [one]) => stream.get_ref().write(one),
                (Stream::Unix(stream), many) => stream.get_ref().write_vectored(many),
                (Stream::Tcp(stream), many) => stream.get_ref().write_vectored(many),
            };
            match wrote {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                wrote => return Poll::Ready(wrote),
            }
            self.watch()?;
            ready!(match &self.stream {
                Stream::Unix(stream) => stream.poll_writable(cx),
                Stream::Tcp(stream) => stream.poll_writable(cx),
                Stream::New(_) | Stream::Other(_) => Poll::Ready(Ok(())),
            })?;
        }
    }

    fn write_at_once(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.stream {
            Stream::Other(stream) => stream.write_at_once(slices),
            // A write asks the system anyway.
            Stream::New(_) | Stream::Unix(_) | Stream::Tcp(_) => {
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }

    fn widen(&self) -> bool {
        match &self.stream {
            Stream::New(Some(StdSocket::Unix(stream))) => socket::widen(stream),
            Stream::Unix(stream) => socket::widen(stream),
            Stream::New(_) | Stream::Tcp(_) => false,
            Stream::Other(stream) => stream.widen(),
        }
    }

    fn hang_up(&self) -> HangUp {
        match &self.stream {
            Stream::Other(stream) => stream.hang_up(),
            _ => self.as_socket().map_or(HangUp::Gone, socket::hang_up),
        }
    }

    fn is_readable(&self) -> bool {
        match &self.stream {
            Stream::Other(stream) => stream.is_readable(),
            _ => self.as_socket().is_none_or(socket::is_readable),
        }
    }

    fn fills(&self) -> bool {
        match &self.stream {
            Stream::Other(stream) => stream.fills(),
            _ => true,
        }
    }

    fn peer(&self) -> Peer {
        match &self.stream {
            Stream::Unix(_) | Stream::New(Some(StdSocket::Unix(_))) => Peer::Unix,
            Stream::Tcp(_) | Stream::New(_) => Peer::Stream,
            Stream::Other(stream) => stream.peer(),
        }
    }

    fn shutdown_write(&self) {
        match &self.stream {
            Stream::Other(stream) => stream.shutdown_write(),
            _ => self.as_socket().map(socket::shutdown_write).unwrap_or_default(),
        }
    }

    fn refuse_input(&self) -> bool {
        match &self.stream {
            Stream::Other(stream) => stream.refuse_input(),
            _ => self.as_socket().is_some_and(socket::refuse_input),
        }
    }
}

/// A new socket, unless the reactor could not watch it.
fn opened(socket: &mut Option<StdSocket>) -> io::Result<&StdSocket> {
    socket.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
}

impl Drop for Transport {
    fn drop(&mut self) {
        if let Watched::Always(watch) = std::mem::replace(&mut self.watched, Watched::Full) {
            if let Some(socket) = self.as_socket() {
                watch.remove(socket);
            }
        }
    }
}

impl AsFd for TransportListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(unix) => unix.get_ref().as_fd(),
            Self::Tcp(tcp) => tcp.get_ref().as_fd(),
        }
    }
}

/// A listening socket.
#[derive(Debug)]
#[non_exhaustive]
pub enum TransportListener {
    /// A unix socket.
    Unix(Async<UnixListener>),
    /// A TCP socket.
    Tcp(Async<TcpListener>),
}

impl TransportListener {
    /// A listener on this socket, which is in nonblocking mode.
    pub(crate) fn new(listener: StdListener) -> io::Result<Self> {
        match listener {
            StdListener::Unix(unix) => Async::new_nonblocking(unix).map(Self::Unix),
            StdListener::Tcp(tcp) => Async::new_nonblocking(tcp).map(Self::Tcp),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(crate) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Transport, Peer)>> {
        loop {
            match self.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                accepted => return Poll::Ready(accepted),
            }
            ready!(match self {
                Self::Unix(unix) => unix.poll_readable(cx),
                Self::Tcp(tcp) => tcp.poll_readable(cx),
            })?;
        }
    }

    fn accept(&self) -> io::Result<(Transport, Peer)> {
        let (socket, peer) = match self {
            Self::Unix(unix) => socket::accept_unix(unix.as_fd()),
            Self::Tcp(tcp) => socket::accept_tcp(tcp.as_fd()),
        }?;
        Ok((Transport::new(Stream::New(Some(socket))).accepted(), peer))
    }
}
