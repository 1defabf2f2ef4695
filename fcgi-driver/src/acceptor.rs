//! Listening sockets that a runtime takes over.

use std::{fmt, net::TcpListener, os::unix::net::UnixListener};

use fcgi_engine::{Listener, server::Sockets};

use crate::{Address, Error, runtime::Runtime};

/// A [`Listener`] that a runtime takes over when the server starts. A server accepts anything that
/// converts into this: a `Listener`, or one of std's listeners.
pub struct Acceptor<R: Runtime>(State<R>);

enum State<R: Runtime> {
    Std(Listener),
    Runtime(R::Listener, Address),
}

impl<R: Runtime> Acceptor<R> {
    /// A listener that the runtime itself has created; `address` is its name in logs.
    pub fn from_runtime(listener: R::Listener, address: Address) -> Self {
        Self(State::Runtime(listener, address))
    }

    /// Where it listens. Of several sockets, the first.
    #[must_use]
    pub fn local_addr(&self) -> &Address {
        match &self.0 {
            State::Std(listener) => listener.local_addr(),
            State::Runtime(_, address) => address,
        }
    }

    /// Hands the sockets to the current runtime.
    pub(crate) fn register(self) -> Result<Sockets<R::Listener>, Error> {
        match self.0 {
            State::Std(listener) => Sockets::adopt(listener, R::listen),
            State::Runtime(listener, address) => Ok(Sockets::one(listener, address)),
        }
    }
}

impl<R: Runtime> From<Listener> for Acceptor<R> {
    fn from(listener: Listener) -> Self {
        Self(State::Std(listener))
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
        f.debug_struct("Acceptor").field("address", self.local_addr()).finish_non_exhaustive()
    }
}
