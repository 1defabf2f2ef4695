//! tokio's sockets, timers and spawn.

use std::{
    future::{Future, poll_fn},
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use fcgi_driver::{Address, StdListener, Target, runtime};
use fcgi_engine::socket::{self, HangUp, Peer, StdSocket};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    runtime::{Handle, RuntimeFlavor},
    signal::unix::{SignalKind, signal},
    time::Sleep,
};

use crate::{Connected, Listening, Reading};

/// The tokio runtime. It is always the current one.
#[derive(Clone, Copy, Debug)]
pub enum Tokio {}

/// A connected socket.
#[derive(Debug)]
#[non_exhaustive]
pub enum Transport {
    /// A socket that was just connected or accepted. It becomes [`Reading`](Self::Reading) or
    /// [`Tcp`](Self::Tcp) when something is waited for.
    Connected(Connected),
    /// A unix socket that is watched for reading. It becomes [`Unix`](Self::Unix) when it is full.
    Reading(Reading),
    /// A unix socket.
    Unix(UnixStream),
    /// A TCP socket, without Nagle's delay.
    Tcp(TcpStream),
    /// Any other stream.
    Stream(Box<dyn runtime::Transport>),
}

/// A listening socket.
#[derive(Debug)]
#[non_exhaustive]
pub enum TransportListener {
    /// A unix socket.
    Unix(UnixListener),
    /// A TCP socket.
    Tcp(TcpListener),
    /// A socket of the standard library.
    Std(Listening),
}

/// A timer.
#[derive(Debug, Default)]
pub struct Timer(Option<Pin<Box<Sleep>>>);

impl runtime::Runtime for Tokio {
    type Transport = Transport;
    type Listener = TransportListener;
    type Timer = Timer;

    async fn connect(address: &Address) -> io::Result<Transport> {
        let runtime = current()?;
        match address.target() {
            // tokio's own would first wait until it can be written to, which it can at once.
            Target::Unix(path) => {
                let stream = socket::connect_unix(path)?;
                Ok(Transport::Connected(Connected::new(StdSocket::Unix(stream), runtime)))
            }
            Target::Tcp(host_port) => {
                let stream = TcpStream::connect(host_port).await?;
                let _ = stream.set_nodelay(true);
                Ok(Transport::Tcp(stream))
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn adopt(stream: std::os::unix::net::UnixStream) -> io::Result<Transport> {
        current()?;
        UnixStream::from_std(stream).map(Transport::Unix)
    }

    fn listen(listener: StdListener) -> io::Result<TransportListener> {
        current()?;
        Listening::new(listener).map(TransportListener::Std)
    }

    fn poll_accept(
        listener: &mut TransportListener,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Transport, Peer)>> {
        Poll::Ready(match listener {
            TransportListener::Unix(unix) => ready!(unix.poll_accept(cx))
                .map(|(stream, _)| (Transport::Unix(stream), Peer::Unix)),
            TransportListener::Tcp(tcp) => {
                ready!(tcp.poll_accept(cx)).map(|(stream, peer)| {
                    // Some systems refuse this for a connection that is gone already.
                    let _ = stream.set_nodelay(true);
                    (Transport::Tcp(stream), Peer::Tcp(peer))
                })
            }
            TransportListener::Std(std) => {
                let (socket, peer) = ready!(std.poll_accept(cx))?;
                let accepted = Connected::accepted(socket, current()?);
                Ok((Transport::Connected(accepted), peer))
            }
        })
    }

    fn listener_fd(listener: &TransportListener) -> Option<BorrowedFd<'_>> {
        Some(listener.as_fd())
    }

    fn timer() -> Timer {
        Timer::default()
    }

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn is_alone() -> bool {
        let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
        matches!(flavor, Ok(RuntimeFlavor::CurrentThread))
    }

    fn spawn(future: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        current()?.spawn(future);
        Ok(())
    }
}

/// The current runtime. There may be none, for instance where a response is dropped.
fn current() -> io::Result<Handle> {
    Handle::try_current()
        .map_err(|_| io::Error::other("there is no tokio runtime here: call it from inside one"))
}

/// Waits for SIGTERM or SIGINT, from when it is called, for
/// [`with_graceful_shutdown`](crate::Serve::with_graceful_shutdown). From then on the signals no
/// longer end the process by themselves. If it can't wait for the signals, it logs an error and
/// never completes.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send + 'static {
    let registered = current().and_then(|_| {
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        Ok(poll_fn(move |cx| match (term.poll_recv(cx), int.poll_recv(cx)) {
            (Poll::Pending, Poll::Pending) => Poll::Pending,
            _ => Poll::Ready(()),
        }))
    });
    runtime::signalled(registered)
}

impl Transport {
    /// The descriptor of a socket; other streams have none.
    #[must_use]
    pub fn as_socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Connected(stream) => stream.as_socket(),
            Self::Reading(socket) => socket.as_socket(),
            Self::Unix(stream) => Some(stream.as_fd()),
            Self::Tcp(stream) => Some(stream.as_fd()),
            Self::Stream(_) => None,
        }
    }

    /// Lets the runtime watch a new socket.
    fn watch(&mut self) -> io::Result<()> {
        if let Self::Connected(new) = self {
            *self = new.watch()?;
        }
        Ok(())
    }
}

impl runtime::Transport for Transport {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Connected(new) if new.is_readable() => return Poll::Ready(Ok(())),
            _ => self.watch()?,
        }
        match self {
            Self::Connected(new) => Poll::Ready(new.closed()),
            Self::Reading(socket) => socket.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Stream(stream) => stream.poll_read_ready(cx),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Self::Connected(new) = self {
            match new.read(buf) {
                Some(read) => return Poll::Ready(read),
                None => self.watch()?,
            }
        }
        let mut buf = ReadBuf::new(buf);
        ready!(match self {
            Self::Connected(new) => Poll::Ready(new.closed()),
            Self::Reading(socket) => return socket.poll_read(cx, buf.initialize_unfilled()),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut buf),
            Self::Stream(stream) => return stream.poll_read(cx, buf.initialize_unfilled()),
        })?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Self::Connected(new) = self {
            match new.write(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.watch()?,
                written => return Poll::Ready(written),
            }
        }
        if let Self::Reading(socket) = self {
            match socket.write(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    *self = Self::Unix(socket.watch_writes()?);
                }
                written => return Poll::Ready(written),
            }
        }
        match (self, slices) {
            (Self::Connected(new), _) => Poll::Ready(new.closed()),
            (Self::Reading(socket), _) => Poll::Ready(socket.write(slices)),
            (Self::Unix(stream), [one]) => Pin::new(stream).poll_write(cx, one),
            (Self::Tcp(stream), [one]) => Pin::new(stream).poll_write(cx, one),
            (Self::Unix(stream), many) => Pin::new(stream).poll_write_vectored(cx, many),
            (Self::Tcp(stream), many) => Pin::new(stream).poll_write_vectored(cx, many),
            (Self::Stream(stream), slices) => stream.poll_write(cx, slices),
        }
    }

    fn write_at_once(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => socket::write(stream, slices),
            Self::Stream(stream) => stream.write_at_once(slices),
            Self::Connected(_) | Self::Reading(_) | Self::Tcp(_) => {
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }

    fn widen(&self) -> bool {
        match self {
            Self::Connected(new) if new.is_unix() => new.as_socket().is_some_and(socket::widen),
            Self::Reading(socket) => socket.as_socket().is_some_and(socket::widen),
            Self::Unix(stream) => socket::widen(stream),
            Self::Connected(_) | Self::Tcp(_) => false,
            Self::Stream(stream) => stream.widen(),
        }
    }

    fn hang_up(&self) -> HangUp {
        match self {
            Self::Connected(new) => new.as_socket().map_or(HangUp::Gone, socket::hang_up),
            Self::Reading(reading) => reading.as_socket().map_or(HangUp::Gone, socket::hang_up),
            Self::Unix(stream) => socket::hang_up(stream),
            Self::Tcp(stream) => socket::hang_up(stream),
            Self::Stream(stream) => stream.hang_up(),
        }
    }

    fn is_readable(&self) -> bool {
        match self {
            Self::Connected(new) => new.as_socket().is_none_or(socket::is_readable),
            Self::Reading(reading) => reading.as_socket().is_none_or(socket::is_readable),
            Self::Unix(stream) => socket::is_readable(stream),
            Self::Tcp(stream) => socket::is_readable(stream),
            Self::Stream(stream) => stream.is_readable(),
        }
    }

    fn fills(&self) -> bool {
        match self {
            Self::Connected(_) | Self::Reading(_) | Self::Unix(_) | Self::Tcp(_) => true,
            Self::Stream(stream) => stream.fills(),
        }
    }

    fn peer(&self) -> Peer {
        match self {
            Self::Connected(new) if new.is_unix() => Peer::Unix,
            Self::Reading(_) | Self::Unix(_) => Peer::Unix,
            Self::Connected(_) | Self::Tcp(_) => Peer::Stream,
            Self::Stream(stream) => stream.peer(),
        }
    }

    fn shutdown_write(&self) {
        match self {
            Self::Connected(new) => new.as_socket().map(socket::shutdown_write).unwrap_or_default(),
            Self::Reading(reading) => {
                reading.as_socket().map(socket::shutdown_write).unwrap_or_default();
            }
            Self::Unix(stream) => socket::shutdown_write(stream),
            Self::Tcp(stream) => socket::shutdown_write(stream),
            Self::Stream(stream) => stream.shutdown_write(),
        }
    }

    fn refuse_input(&self) -> bool {
        match self {
            Self::Connected(new) => new.as_socket().is_some_and(socket::refuse_input),
            Self::Reading(reading) => reading.as_socket().is_some_and(socket::refuse_input),
            Self::Unix(stream) => socket::refuse_input(stream),
            Self::Tcp(stream) => socket::refuse_input(stream),
            Self::Stream(stream) => stream.refuse_input(),
        }
    }
}

impl AsFd for TransportListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
            Self::Std(listener) => listener.as_fd(),
        }
    }
}

impl runtime::Timer for Timer {
    fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let deadline = tokio::time::Instant::from_std(deadline);
        match &mut self.0 {
            Some(sleep) if sleep.deadline() == deadline => {}
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => self.0 = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}
