//! A connection whose request goes on without its caller.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use fcgi_engine::observe;

use super::{CancelHandle, Exchange, Link, Wake, link::Session, wait::park};
use crate::{Error, Phase};

/// Where a client's connection comes back to.
pub(super) struct Away {
    address: Arc<str>,
    /// How long a request may take.
    total: Option<Duration>,
    door: Arc<Mutex<Door>>,
}

/// The other side of it, which the request's thread has.
pub(super) struct Home(Arc<Mutex<Door>>);

enum Door {
    /// The request has not ended. The client's thread may wait for that.
    Out(Option<Thread>),
    Back(Box<Link>),
    /// Nobody runs the request.
    Gone,
}

impl Away {
    pub(super) fn new(session: &Session) -> (Self, Home) {
        let door = Arc::new(Mutex::new(Door::Out(None)));
        let (address, total) = (Arc::clone(session.address()), session.settings().total);
        (Self { address, total, door: Arc::clone(&door) }, Home(door))
    }

    pub(super) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// Whether the connection is still out, or is fit for another request.
    pub(super) fn is_reusable(&self) -> bool {
        match &*lock(&self.door) {
            Door::Out(_) => true,
            Door::Back(link) => link.is_reusable(),
            Door::Gone => false,
        }
    }

    /// Waits for the end of the request, and gives the connection to one whose time counts from
    /// `started`.
    pub(super) fn wait(
        &self,
        started: Instant,
        cancel: Option<&CancelHandle>,
    ) -> Result<Box<Link>, Error> {
        let until = self.total.and_then(|limit| Some((started.checked_add(limit)?, limit)));
        let _registration = cancel.map(|cancel| cancel.wakes(Wake::Park(thread::current())));
        loop {
            {
                let mut door = lock(&self.door);
                if let Door::Out(waits) = &mut *door {
                    *waits = Some(thread::current());
                } else {
                    return match std::mem::replace(&mut *door, Door::Gone) {
                        Door::Back(link) => Ok(link),
                        Door::Out(_) | Door::Gone => Err(self.gone()),
                    };
                }
            }
            if cancel.is_some_and(CancelHandle::is_cancelled) {
                return Err(Error::Cancelled { address: Arc::clone(&self.address) });
            }
            match until {
                Some((until, limit)) if Instant::now() >= until => {
                    let address = Arc::clone(&self.address);
                    return Err(observe::client_timeout(address, Phase::Response, limit));
                }
                until => park(until.map(|(until, _)| until)),
            }
        }
    }

    pub(super) fn gone(&self) -> Error {
        Error::Closed { address: Arc::clone(&self.address) }
    }
}

impl Home {
    fn enter(&self, with: Door) {
        // A connection's end runs a subscriber's code.
        let before = std::mem::replace(&mut *lock(&self.0), with);
        if let Door::Out(Some(thread)) = before {
            thread.unpark();
        }
    }
}

/// The request's thread has ended, or there was none.
impl Drop for Home {
    fn drop(&mut self) {
        if matches!(*lock(&self.0), Door::Out(_)) {
            self.enter(Door::Gone);
        }
    }
}

impl fmt::Debug for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Away").field("address", &self.address).finish_non_exhaustive()
    }
}

fn lock(door: &Mutex<Door>) -> MutexGuard<'_, Door> {
    door.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Moves a request on to its end, in a thread of its own, and then hands the connection back.
pub(super) fn run(mut link: Box<Link>, mut exchange: Exchange, home: Home) {
    spawn(move || {
        while let Ok(Some(_)) = exchange.chunk(&mut link) {}
        exchange.abort(&mut link);
        link.session.forget(exchange.core.key());
        home.enter(Door::Back(link));
    });
}

/// Starts the thread of a request that goes on without its caller.
pub(crate) fn spawn(run: impl FnOnce() + Send + 'static) {
    // What the request has is dropped with `run`, which aborts it.
    if let Err(error) = thread::Builder::new().name("fcgi-detached".into()).spawn(run) {
        tracing::warn!(%error, "no thread for a detached request: it is aborted");
    }
}
