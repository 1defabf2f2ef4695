//! A connection whose request goes on without its caller.

use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use fcgi_engine::client::Session;

use super::{Connection, Exchange};
use crate::{
    Error,
    runtime::{Runtime, spawn_or_warn},
    wakers::wait,
};

/// Where a client's connection comes back to.
pub(super) struct Away<R: Runtime> {
    address: Arc<str>,
    /// How long a request may take.
    total: Option<Duration>,
    door: Arc<Mutex<Door<R>>>,
}

/// The other side of it, which the request's task has.
pub(super) struct Home<R: Runtime>(Arc<Mutex<Door<R>>>);

enum Door<R: Runtime> {
    /// The request has not ended. The client may wait for that.
    Out(Option<Waker>),
    Back(Box<Connection<R>>),
    /// Nobody runs the request.
    Gone,
}

impl<R: Runtime> Away<R> {
    pub(super) fn new(session: &Session<Waker>) -> (Self, Home<R>) {
        let door = Arc::new(Mutex::new(Door::Out(None)));
        let (address, total) = (Arc::clone(session.address()), session.settings().total);
        (Self { address, total, door: Arc::clone(&door) }, Home(door))
    }

    pub(super) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// How long a request may take over the connection.
    pub(super) fn total(&self) -> Option<Duration> {
        self.total
    }

    /// Whether the connection is still out, or is fit for another request.
    pub(super) fn is_reusable(&self) -> bool {
        match &*lock(&self.door) {
            Door::Out(_) => true,
            Door::Back(connection) => connection.is_reusable(),
            Door::Gone => false,
        }
    }

    /// The connection, once the request has ended.
    pub(super) fn poll_back(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Box<Connection<R>>, Error>> {
        let _before;
        let mut door = lock(&self.door);
        if let Door::Out(waker) = &mut *door {
            _before = wait(waker, cx);
            return Poll::Pending;
        }
        Poll::Ready(match std::mem::replace(&mut *door, Door::Gone) {
            Door::Back(connection) => Ok(connection),
            Door::Out(_) | Door::Gone => Err(self.gone()),
        })
    }

    pub(super) fn gone(&self) -> Error {
        Error::Closed { address: Arc::clone(&self.address) }
    }
}

impl<R: Runtime> Home<R> {
    fn enter(&self, with: Door<R>) {
        // The waker runs the runtime's code, and a connection's end a subscriber's.
        let before = std::mem::replace(&mut *lock(&self.0), with);
        if let Door::Out(Some(waker)) = before {
            waker.wake();
        }
    }
}

/// The request's task has ended, or was dropped before that.
impl<R: Runtime> Drop for Home<R> {
    fn drop(&mut self) {
        if matches!(*lock(&self.0), Door::Out(_)) {
            self.enter(Door::Gone);
        }
    }
}

impl<R: Runtime> fmt::Debug for Away<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Away").field("address", &self.address).finish_non_exhaustive()
    }
}

fn lock<R: Runtime>(door: &Mutex<Door<R>>) -> MutexGuard<'_, Door<R>> {
    door.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Moves a request on to its end, in a task of its own, and then hands the connection back.
pub(super) fn run<R: Runtime>(
    mut connection: Box<Connection<R>>,
    mut exchange: Exchange<R>,
    home: Home<R>,
) {
    let address = exchange.address();
    spawn_or_warn::<R>(&address, async move {
        while let Ok(Some(_)) = poll_fn(|cx| connection.poll_exchange(cx, &mut exchange)).await {}
        connection.abort(exchange.key());
        home.enter(Door::Back(connection));
    });
}
