//! Where a client's connection is: with the client, or with a detached request.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use super::Session;
use crate::Error;

/// The place of a client's connection `C`. While a detached request uses it, the client's next
/// request waits, as `W`: a task's waker, or a thread.
pub struct Place<C, W> {
    address: Arc<str>,
    total: Option<Duration>,
    at: At<C, W>,
}

enum At<C, W> {
    Here(C),
    Away(Arc<Mutex<Door<C, W>>>),
}

enum Door<C, W> {
    /// The request has not ended. The client may wait for that.
    Out(Option<W>),
    Back(C),
    /// Nobody runs the request any more.
    Gone,
}

/// Brings a connection back to its client. If it is dropped before that, the connection is lost.
pub struct Home<C, W> {
    door: Arc<Mutex<Door<C, W>>>,
    wake: fn(W),
}

impl<C, W> Place<C, W> {
    /// The place of a connection that is with its client.
    pub fn new<S>(connection: C, session: impl FnOnce(&C) -> &Session<S>) -> Self {
        let session = session(&connection);
        let (address, total) = (Arc::clone(session.address()), session.settings().total);
        Self { address, total, at: At::Here(connection) }
    }

    /// The application's address.
    pub fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// The time limit of a whole request on the connection.
    pub fn total(&self) -> Option<Duration> {
        self.total
    }

    /// The connection, if it is here.
    pub fn connection(&mut self) -> Option<&mut C> {
        match &mut self.at {
            At::Here(connection) => Some(connection),
            At::Away(_) => None,
        }
    }

    /// The connection. It is here once [`poll_back`](Self::poll_back) was ready, unless it is lost.
    ///
    /// # Errors
    /// [`Error::Closed`] if it is lost.
    pub fn here(&mut self) -> Result<&mut C, Error> {
        match &mut self.at {
            At::Here(connection) => Ok(connection),
            At::Away(_) => Err(Error::Closed { address: Arc::clone(&self.address) }),
        }
    }

    /// Ready once no detached request uses the connection; `wait` notes whom to wake.
    pub fn poll_back(&mut self, wait: impl FnOnce(&mut Option<W>)) -> Poll<()> {
        let At::Away(door) = &self.at else { return Poll::Ready(()) };
        let before = {
            let mut door = lock(door);
            if let Door::Out(who) = &mut *door {
                wait(who);
                return Poll::Pending;
            }
            mem::replace(&mut *door, Door::Gone)
        };
        if let Door::Back(connection) = before {
            self.at = At::Here(connection);
        }
        Poll::Ready(())
    }

    /// Lends the connection to a detached request. [`Home`] brings it back.
    pub fn detach(&mut self, wake: fn(W)) -> Option<(C, Home<C, W>)> {
        let door = Arc::new(Mutex::new(Door::Out(None)));
        match mem::replace(&mut self.at, At::Away(Arc::clone(&door))) {
            At::Here(connection) => Some((connection, Home { door, wake })),
            away @ At::Away(_) => {
                self.at = away;
                None
            }
        }
    }

    /// Whether the connection is here and fit for another request, or may still come back.
    pub fn is_reusable(&self, is_fit: impl FnOnce(&C) -> bool) -> bool {
        match &self.at {
            At::Here(connection) => is_fit(connection),
            At::Away(door) => match &*lock(door) {
                Door::Out(_) => true,
                Door::Back(connection) => is_fit(connection),
                Door::Gone => false,
            },
        }
    }
}

impl<C, W> Home<C, W> {
    /// Called when the request has ended.
    pub fn back(self, connection: C) {
        self.enter(Door::Back(connection));
    }

    fn enter(&self, with: Door<C, W>) {
        // The waker and the end of a connection run other people's code, so don't hold the lock.
        let before = mem::replace(&mut *lock(&self.door), with);
        if let Door::Out(Some(who)) = before {
            (self.wake)(who);
        }
    }
}

/// Whatever ran the request has ended, or was dropped before that.
impl<C, W> Drop for Home<C, W> {
    fn drop(&mut self) {
        if matches!(*lock(&self.door), Door::Out(_)) {
            self.enter(Door::Gone);
        }
    }
}

impl<C, W> fmt::Debug for Place<C, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("address", &self.address).finish_non_exhaustive()
    }
}

impl<C, W> fmt::Debug for Home<C, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Home").finish_non_exhaustive()
    }
}

fn lock<C, W>(door: &Mutex<Door<C, W>>) -> MutexGuard<'_, Door<C, W>> {
    // Nothing panics while the lock is held.
    door.lock().unwrap_or_else(PoisonError::into_inner)
}
