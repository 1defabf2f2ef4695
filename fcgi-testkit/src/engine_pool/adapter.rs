//! An adapter without sockets: connections are numbers, and time passes when a test says so.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    task::Poll,
    time::{Duration, Instant},
};

use fcgi_engine::{
    client::{Carrier, Session},
    pool::{Desk, Lease, Pooled},
};
use fcgi_proto::RequestKey;

use super::Seen;

/// A waiter: a caller by its number, the reaper, or nobody who looks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Who {
    Caller(usize),
    Reaper,
    Reentered,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) start: Instant,
    pub(super) now: Duration,
    pub(super) woken: BTreeSet<Who>,
    pub(super) connections: Vec<Connection>,
    /// Callers that may have a connection that the pool does not know yet.
    pub(super) opening: usize,
    pub(super) most: usize,
    pub(super) spawned: bool,
    /// Inside a call from the closing of a connection.
    pub(super) inside: bool,
    pub(super) seen: Seen,
}

/// A connection, as the application sees it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) shared: bool,
    pub(super) open: bool,
    /// The application has closed it.
    pub(super) dead: bool,
    /// It takes no more requests, and closes after the last one.
    pub(super) closing: bool,
    pub(super) leases: usize,
    pub(super) requests: usize,
    pub(super) carried: u64,
    pub(super) opened: Duration,
    pub(super) used: Duration,
    pub(super) handles: Weak<()>,
}

/// The adapter.
pub(super) struct Fake {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) desk: Arc<OnceLock<Weak<Desk<Self>>>>,
}

impl Clone for Fake {
    fn clone(&self) -> Self {
        Self { world: Arc::clone(&self.world), desk: Arc::clone(&self.desk) }
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake").finish_non_exhaustive()
    }
}

/// A connection for one request at a time.
pub(super) struct Own(pub(super) usize, pub(super) Fake);

/// A handle of a shared connection.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) number: usize,
    pub(super) fake: Fake,
    pub(super) _handle: Arc<()>,
}

impl Drop for Own {
    fn drop(&mut self) {
        self.1.reenter();
        self.1.world().connections[self.0].open = false;
    }
}

impl Fake {
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls into the pool, as a log subscriber with its own requests might.
    fn reenter(&self) {
        let Some(desk) = self.desk.get().and_then(Weak::upgrade) else { return };
        if std::mem::replace(&mut self.world().inside, true) {
            return;
        }
        let mut lease = Lease::acquire(&desk);
        if let Ok(lease) = &mut lease {
            if let Poll::Ready(Ok(true)) =
                lease.poll_ready(false, |who| *who = Some(Who::Reentered))
            {
                self.world().check_room();
            }
        }
        drop(lease);
        assert!(desk.stats().connections < 1000);
        let mut world = self.world();
        world.inside = false;
        world.seen.reentered += 1;
    }
}

impl World {
    /// One more connection is about to be opened.
    pub(super) fn check_room(&self) {
        let open = self.connections.iter().filter(|connection| connection.open).count();
        assert!(open + self.opening < self.most, "more connections than there may be");
    }
}

impl Pooled for Fake {
    type Own = Own;
    type Shared = Shared;
    type Who = Who;

    fn now(&self) -> Instant {
        let world = self.world();
        world.start + world.now
    }

    fn wake(&self, who: Who) {
        self.world().woken.insert(who);
        self.reenter();
    }

    fn spawn_reaper(desk: &Arc<Desk<Self>>) {
        let mut world = desk.adapter().world();
        assert!(!world.spawned, "two reapers");
        world.spawned = true;
        world.woken.insert(Who::Reaper);
    }
}

impl Carrier for Own {
    type Who = ();

    fn with<T>(&mut self, _: impl FnOnce(&mut Session<()>, &dyn Fn() -> bool) -> T) -> T {
        panic!("it has no session");
    }

    fn is_quiet(&mut self) -> bool {
        self.1.world().connections[self.0].takes_more()
    }
}

impl Carrier for Shared {
    type Who = ();

    fn with<T>(&mut self, _: impl FnOnce(&mut Session<()>, &dyn Fn() -> bool) -> T) -> T {
        panic!("it has no session");
    }

    fn is_quiet(&mut self) -> bool {
        self.fake.world().connections[self.number].takes_more()
    }

    fn forget(&mut self, _: RequestKey) {
        let connection = &mut self.fake.world().connections[self.number];
        connection.requests -= 1;
        connection.open &= !(connection.closing && connection.requests == 0);
    }

    fn close(&mut self) {
        self.fake.reenter();
        let connection = &mut self.fake.world().connections[self.number];
        connection.closing = true;
        connection.open &= connection.requests > 0;
    }
}

impl Connection {
    fn takes_more(&self) -> bool {
        self.open && !self.dead && !self.closing
    }
}
