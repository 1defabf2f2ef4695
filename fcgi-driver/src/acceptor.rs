//! Listening sockets that a runtime has taken over.

use std::{
    fmt, io,
    net::TcpListener,
    os::unix::net::UnixListener,
    task::{Context, Poll},
    time::Instant,
};

use fcgi_engine::{
    Listener,
    listener::StdListener,
    server::{Sockets, Tally, accept_failed},
    socket::{self, Peer},
};

use crate::{Address, Error, runtime::Runtime};

/// A [`Listener`] that a runtime takes over when the server starts. A server accepts anything that
/// converts into this: a `Listener`, or one of std's listeners.
pub struct Acceptor<R: Runtime>(Sockets<State<R>>);

enum State<R: Runtime> {
    /// `None` once the runtime has taken it, or failed to.
    Std(Option<StdListener>),
    Runtime(R::Listener),
}

/// An accepted connection with its peer, if it is to be served.
type Accepted<R> = Option<(<R as Runtime>::Transport, Peer)>;

impl<R: Runtime> Acceptor<R> {
    /// A listener that the runtime itself has created; `address` is its name in logs.
    pub fn from_runtime(listener: R::Listener, address: Address) -> Self {
        Self(Sockets::one(State::Runtime(listener), address))
    }

    /// Where it listens. Of several sockets, the first.
    #[must_use]
    pub fn local_addr(&self) -> &Address {
        self.0.local_addr()
    }

    /// Hands the sockets to the current runtime.
    pub(crate) fn register(&mut self) -> Result<(), Error> {
        for (listener, address) in self.0.iter_mut() {
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

    /// See [`Sockets::poll_accept`].
    pub(crate) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
        tally: &Tally,
    ) -> Poll<Result<Accepted<R>, Error>> {
        self.0.poll_accept(tally, R::now, |listener| match listener {
            State::Runtime(listener) => R::poll_accept(listener, cx),
            State::Std(_) => Poll::Pending,
        })
    }

    /// See [`Sockets::paused_until`].
    pub(crate) fn paused_until(&mut self) -> Option<Instant> {
        self.0.paused_until(R::now)
    }

    /// See [`Sockets::hide`].
    pub(crate) fn hide(&mut self) {
        self.0.hide();
    }

    /// Whether a connection waits that may be accepted, but that the runtime has not noticed.
    pub(crate) fn has_more(&mut self) -> bool {
        self.0.accepts(R::now) && self.0.iter().any(|(listener, _)| listener.is_readable())
    }
}

impl<R: Runtime> State<R> {
    fn is_readable(&self) -> bool {
        match self {
            Self::Runtime(listener) => R::listener_fd(listener).is_some_and(socket::is_readable),
            Self::Std(_) => false,
        }
    }
}

impl<R: Runtime> From<Listener> for Acceptor<R> {
    fn from(listener: Listener) -> Self {
        Self(Sockets::new(listener, |listener| State::Std(Some(listener))))
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
        let addresses = self.0.iter().map(|(_, address)| address).collect::<Vec<_>>();
        f.debug_struct("Acceptor").field("addresses", &addresses).finish_non_exhaustive()
    }
}
