//! What an adapter must provide: sockets, a timer, and spawn.
//!
//! The driver is written against these traits and depends on no runtime. An adapter implements
//! [`Runtime`] on an empty type and re-exports [`Client`](crate::client::Client) and
//! [`Server`](crate::server::Server) for it. Nothing else is needed to bring FastCGI to another
//! runtime.

use std::{
    future::Future,
    io::{self, IoSlice},
    os::{fd::BorrowedFd, unix::net::UnixStream},
    task::{Context, Poll},
    time::Instant,
};

use fcgi_engine::socket::{HangUp, Peer};

use crate::{Address, StdListener};

/// Waits for the signals that a runtime registered. If registering failed, this logs an error and
/// waits for ever: the signals would end the server, so their absence must not.
pub async fn signalled(registered: io::Result<impl Future<Output = ()>>) {
    match registered {
        Ok(signal) => signal.await,
        Err(error) => {
            tracing::error!(%error, "can't wait for SIGTERM and SIGINT");
            std::future::pending().await
        }
    }
}

/// Finishes work for an application in a task of its own. If there is no runtime, this is logged,
/// since the caller is gone and sees no result.
pub(crate) fn spawn_or_warn<R: Runtime>(
    address: &str,
    future: impl Future<Output = ()> + Send + 'static,
) {
    if let Err(error) = R::spawn(future) {
        tracing::warn!(%error, address, "no runtime is left to finish a request: it was dropped");
    }
}

/// A connected stream socket.
pub trait Transport: std::fmt::Debug + Send + Unpin + 'static {
    /// Ready when a read may find something. It takes no buffer, so that an idle connection needs
    /// none. It makes no system call if the runtime knows that there is nothing to read.
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads; 0 is the end of file. After a short read the runtime should remember that there is
    /// nothing more, and not try again to find out.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes some of the slices in one call.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Like [`poll_write`](Self::poll_write), which was just pending, but asks the system, whatever
    /// the runtime knows. For a unix socket, which is reported as writable only once it is nearly
    /// empty: [`socket::write`](fcgi_engine::socket::write). Default, and where `poll_write` asks the
    /// system itself: it is full.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it is full; errors of the socket.
    fn write_at_once(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let _ = slices;
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Lets a full socket hold more, if it can; true if it now does. For a unix socket:
    /// [`socket::widen`](fcgi_engine::socket::widen). Default: it can't.
    fn widen(&self) -> bool {
        false
    }

    /// Whether the peer has hung up, as the system knows it now, whatever there still is to read.
    /// For a socket: [`socket::hang_up`](fcgi_engine::socket::hang_up).
    fn hang_up(&self) -> HangUp;

    /// Whether a read would find something, as the system knows it now. A runtime notices bytes on
    /// an idle socket only when it next checks for events. For a socket:
    /// [`socket::is_readable`](fcgi_engine::socket::is_readable).
    fn is_readable(&self) -> bool;

    /// Shuts down the sending side. For a socket:
    /// [`socket::shutdown_write`](fcgi_engine::socket::shutdown_write).
    fn shutdown_write(&self);

    /// Whether it is the system that fills the buffer of [`poll_read`](Self::poll_read), with as
    /// many bytes as it reports: true for a socket. Any other code gets a buffer without another
    /// connection's bytes, since it could report those as read. Default false.
    fn fills(&self) -> bool {
        false
    }

    /// The kind of the peer, for a connection that no listener accepted. [`Peer::Unix`] for a unix
    /// socket, which distinguishes a peer that only stops sending from one that is gone (FC-3.5-2).
    /// Default [`Peer::Stream`].
    fn peer(&self) -> Peer {
        Peer::Stream
    }

    /// Refuses what the peer sends from now on; true if that was possible. What it sent before can
    /// still be read. With this, a server that shuts down loses no request (W-13). For a socket:
    /// [`socket::refuse_input`](fcgi_engine::socket::refuse_input). Default: not possible.
    fn refuse_input(&self) -> bool {
        false
    }
}

/// A timer that can be set again.
pub trait Timer: Send + Unpin + 'static {
    /// Ready once `deadline` has passed. The deadline may differ from call to call; the task is
    /// woken for the latest one.
    fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()>;
}

/// A runtime's sockets, timer and spawn. No value of it is needed; it can be copied and shown so that
/// types which name it can derive that.
pub trait Runtime: Copy + std::fmt::Debug + Send + Sync + 'static {
    /// Its stream socket, of either kind.
    type Transport: Transport;
    /// Its listening socket, of either kind.
    type Listener: Send + Unpin + 'static;
    /// Its timer.
    type Timer: Timer;

    /// Connects to a unix or TCP address. Never called with [`Address::STDIN`].
    fn connect(address: &Address) -> impl Future<Output = io::Result<Self::Transport>> + Send;

    /// Takes over a connected socket in nonblocking mode. A CGI request comes over one. The default
    /// takes none, so that CGI can't be served.
    ///
    /// # Errors
    /// The runtime's error when it registers the socket, or that there is no runtime here.
    fn adopt(stream: UnixStream) -> io::Result<Self::Transport> {
        let _ = stream;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes over a listening socket in nonblocking mode.
    ///
    /// # Errors
    /// The runtime's error when it registers the socket, or that there is no runtime here.
    fn listen(listener: StdListener) -> io::Result<Self::Listener>;

    /// Accepts a connection, with its peer.
    fn poll_accept(
        listener: &mut Self::Listener,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Self::Transport, Peer)>>;

    /// The descriptor of a listening socket; `None` if it has none.
    ///
    /// When a server shuts down, it asks the system for connections that still wait, since a
    /// runtime notices them only when it next checks for events. Without a descriptor, the first
    /// [`poll_accept`](Self::poll_accept) that is pending means that none waits.
    fn listener_fd(listener: &Self::Listener) -> Option<BorrowedFd<'_>>;

    /// A timer that is not set.
    fn timer() -> Self::Timer;

    /// The time of the clock that the timers use (a test may have paused it).
    fn now() -> Instant;

    /// Whether this thread runs all tasks of its runtime. Then those of several connections that
    /// have something to write do it one after the other, so that a web server that sleeps is woken
    /// once for all of it.
    fn is_alone() -> bool {
        false
    }

    /// Runs a future in its own task.
    ///
    /// # Errors
    /// There is no runtime here to run it; the future is dropped.
    fn spawn(future: impl Future<Output = ()> + Send + 'static) -> io::Result<()>;
}
