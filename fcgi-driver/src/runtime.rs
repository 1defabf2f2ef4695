//! What an adapter provides: sockets, a timer, spawn.
//!
//! The engine is written against these traits and names no runtime. An adapter implements
//! [`Runtime`] on an empty type and re-exports [`Client`](crate::client::Client) and
//! [`Server`](crate::server::Server) with it filled in; nothing else is needed to bring FastCGI to
//! another runtime.

use std::{
    future::Future,
    io::{self, IoSlice},
    os::{fd::BorrowedFd, unix::net::UnixStream},
    task::{Context, Poll},
    time::Instant,
};

use fcgi_engine::socket::{HangUp, Peer};

use crate::{Address, StdListener};

/// Waits for signals that a runtime was to listen for. Where that failed, it says so and waits for
/// ever: it is the end of a server, and not its beginning.
pub async fn signalled(registered: io::Result<impl Future<Output = ()>>) {
    match registered {
        Ok(signal) => signal.await,
        Err(error) => {
            tracing::error!(%error, "SIGTERM and SIGINT can't be waited for");
            std::future::pending().await
        }
    }
}

/// Runs what is left to do for an application beside the others. Where there is no runtime, that
/// shows in the log: whoever left it has no result to look at.
pub(crate) fn spawn_or_warn<R: Runtime>(
    address: &str,
    future: impl Future<Output = ()> + Send + 'static,
) {
    if let Err(error) = R::spawn(future) {
        tracing::warn!(%error, address, "what was left to do for a request was given up");
    }
}

/// A connected stream socket.
pub trait Transport: std::fmt::Debug + Send + Unpin + 'static {
    /// Ready when a read may find something. It needs no buffer, so that an idle connection holds
    /// none; it makes no system call when the runtime knows that there is nothing to read.
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads; 0 is the end of file. After a short read the runtime should know that there is
    /// nothing more, and not try again to find that out.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes some of the slices, in one call.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Whether the peer has hung up, as the system has it now, whatever is still to be read:
    /// [`socket::hang_up`](fcgi_engine::socket::hang_up) for a socket.
    fn hang_up(&self) -> HangUp;

    /// Whether a read would find something, as the system has it now: a runtime hears of what came
    /// to a socket at rest only when it is next asked.
    /// [`socket::is_readable`](fcgi_engine::socket::is_readable) for a socket.
    fn is_readable(&self) -> bool;

    /// Tells the peer that nothing more will come:
    /// [`socket::shutdown_write`](fcgi_engine::socket::shutdown_write) for a socket.
    fn shutdown_write(&self);

    /// Whether [`poll_read`](Self::poll_read) has the system fill the buffer, with as many bytes as
    /// it says: true for a socket. Any other code gets a buffer without another connection's bytes,
    /// which it could take for what it has read. False by default.
    fn fills(&self) -> bool {
        false
    }

    /// What kind of peer it has, for a connection that no listener accepted: [`Peer::Unix`] for a
    /// unix socket, which tells a peer that only ends its sending from one that is gone (FC-3.5-2).
    /// [`Peer::Stream`] by default.
    fn peer(&self) -> Peer {
        Peer::Stream
    }

    /// Refuses what the peer sends from now on; says whether that was possible. What it sent before
    /// can still be read: [`socket::refuse_input`](fcgi_engine::socket::refuse_input) for a socket.
    /// A server that leaves loses no request then (W-13). By default it is not possible.
    fn refuse_input(&self) -> bool {
        false
    }
}

/// A timer that can be set again.
pub trait Timer: Send + Unpin + 'static {
    /// Ready once `deadline` has passed. The deadline may differ from call to call; the task is
    /// woken for the last one.
    fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()>;
}

/// A runtime's sockets, timer and spawn.
pub trait Runtime: Sized + Send + Sync + 'static {
    /// Its stream socket, of either kind.
    type Transport: Transport;
    /// Its listening socket, of either kind.
    type Listener: Send + Unpin + 'static;
    /// Its timer.
    type Timer: Timer;

    /// Connects to a unix or TCP address. Never called with [`Address::STDIN`].
    fn connect(address: &Address) -> impl Future<Output = io::Result<Self::Transport>> + Send;

    /// Takes over a connected socket, which is in non-blocking mode: a CGI request comes over one. By
    /// default a runtime takes none, and serves no CGI.
    ///
    /// # Errors
    /// What the runtime says when it registers the socket, or that there is none here.
    fn adopt(stream: UnixStream) -> io::Result<Self::Transport> {
        let _ = stream;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes over a listening socket, which is in non-blocking mode.
    ///
    /// # Errors
    /// What the runtime says when it registers the socket, or that there is none here.
    fn listen(listener: StdListener) -> io::Result<Self::Listener>;

    /// Accepts a connection, and says where from.
    fn poll_accept(
        listener: &mut Self::Listener,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Self::Transport, Peer)>>;

    /// The descriptor of a listening socket; `None` where the system knows of none.
    ///
    /// At its end a server asks the system for the connections that still wait: a runtime hears of
    /// them only when it is next asked. Without a descriptor, the first
    /// [`poll_accept`](Self::poll_accept) that is pending says that none does.
    fn listener_fd(listener: &Self::Listener) -> Option<BorrowedFd<'_>>;

    /// A timer that is not set.
    fn timer() -> Self::Timer;

    /// The time, by the clock that the timers go by (which a test may have paused).
    fn now() -> Instant;

    /// Runs a future beside the others.
    ///
    /// # Errors
    /// There is no runtime here to run it; the future is dropped.
    fn spawn(future: impl Future<Output = ()> + Send + 'static) -> io::Result<()>;
}
