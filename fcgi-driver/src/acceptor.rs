//! Listening sockets that a runtime has taken over.

use std::{
    fmt, io,
    net::TcpListener,
    os::unix::net::UnixListener,
    task::{Context, Poll},
};

use fcgi_engine::{
    Listener,
    listener::{ListeningSocket, SocketFile, StdListener},
    server::accept_failed,
    socket::{self, Peer},
};

use crate::{Address, Error, runtime::Runtime};

/// A [`Listener`] that a runtime takes over when the server starts. A server accepts anything that
/// converts into this: a `Listener`, or one of std's listeners.
pub struct Acceptor<R: Runtime> {
    sockets: Vec<Source<R>>,
    /// Which socket to ask first, so that a busy one does not keep the others waiting.
    next: usize,
}

struct Source<R: Runtime> {
    listener: State<R>,
    address: Address,
    file: Option<SocketFile>,
}

enum State<R: Runtime> {
    /// `None` once the runtime has taken it, or failed to.
    Std(Option<StdListener>),
    Runtime(R::Listener),
}

/// An accepted connection with its peer, or the error with the address of the socket.
pub(crate) type Accepted<R> = Result<(<R as Runtime>::Transport, Peer), (io::Error, Address)>;

impl<R: Runtime> Acceptor<R> {
    /// A listener that the runtime itself has created; `address` is its name in logs.
    pub fn from_runtime(listener: R::Listener, address: Address) -> Self {
        let listener = State::Runtime(listener);
        Self { sockets: vec![Source { listener, address, file: None }], next: 0 }
    }

    /// Where it listens. Of several sockets, the first.
    #[must_use]
    pub fn local_addr(&self) -> &Address {
        &self.sockets[0].address
    }

    /// Hands the sockets to the current runtime.
    pub(crate) fn register(&mut self) -> Result<(), Error> {
        for Source { listener, address, .. } in &mut self.sockets {
            if let State::Std(std) = listener {
                let taken = std.take().ok_or(io::Error::from(io::ErrorKind::NotConnected));
                let taken = taken.and_then(|std| {
                    std.set_nonblocking()?;
                    R::listen(std)
                });
                *listener = State::Runtime(taken.map_err(|error| accept_failed(address, error))?);
            }
        }
        Ok(())
    }

    pub(crate) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Accepted<R>> {
        let many = self.sockets.len();
        for turn in 0..many {
            let index = (self.next + turn) % many;
            let source = &mut self.sockets[index];
            let State::Runtime(listener) = &mut source.listener else { continue };
            if let Poll::Ready(accepted) = R::poll_accept(listener, cx) {
                self.next = (index + 1) % many;
                return Poll::Ready(accepted.map_err(|error| (error, source.address.clone())));
            }
        }
        Poll::Pending
    }

    /// Removes the files of our unix sockets, so that nobody finds them any more. Connections that
    /// were made before can still be accepted.
    pub(crate) fn hide(&mut self) {
        for source in &mut self.sockets {
            source.file = None;
        }
    }

    /// A connection that was waiting already; ready with `None` when none is left.
    pub(crate) fn poll_accept_last(&mut self, cx: &mut Context<'_>) -> Poll<Option<Accepted<R>>> {
        match self.poll_accept(cx) {
            // The order matters: a connection that comes after the first check wakes the task.
            Poll::Pending if self.sockets.iter().any(Source::is_readable) => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
            accepted => accepted.map(Some),
        }
    }
}

impl<R: Runtime> Source<R> {
    fn is_readable(&self) -> bool {
        match &self.listener {
            State::Runtime(listener) => R::listener_fd(listener).is_some_and(socket::is_readable),
            State::Std(_) => false,
        }
    }
}

impl<R: Runtime> From<Listener> for Acceptor<R> {
    fn from(listener: Listener) -> Self {
        let source = |socket| {
            let ListeningSocket { listener, address, file, .. } = socket;
            Source { listener: State::Std(Some(listener)), address, file }
        };
        Self { sockets: listener.into_sockets().into_iter().map(source).collect(), next: 0 }
    }
}

impl<R: Runtime> From<TcpListener> for Acceptor<R> {
    fn from(listener: TcpListener) -> Self {
        Listener::from(listener).into()
    }
}

impl<R: Runtime> From<UnixListener> for Acceptor<R> {
    fn from(listener: UnixListener) -> Self {
        Listener::from(listener).into()
    }
}

impl<R: Runtime> fmt::Debug for Acceptor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.sockets.iter().map(|source| &source.address).collect::<Vec<_>>();
        f.debug_struct("Acceptor").field("addresses", &addresses).finish_non_exhaustive()
    }
}
