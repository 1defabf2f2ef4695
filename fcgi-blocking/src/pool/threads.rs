//! How the pool waits and wakes with threads.

use std::{
    sync::{Arc, Weak},
    thread::{self, Thread},
    time::Instant,
};

use fcgi_engine::pool;

use crate::client::{Connector, link::Link, mux::Mux, wait::park};

/// The system's connections and threads.
#[derive(Debug)]
pub(super) struct Threads {
    pub(super) connector: Connector,
}

pub(super) type Desk = pool::Desk<Threads>;
pub(super) type Place = pool::Place<Threads>;

impl pool::Pooled for Threads {
    type Own = Box<Link>;
    type Shared = Mux;
    type Who = Thread;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wake(&self, who: Thread) {
        who.unpark();
    }

    fn spawn_reaper(desk: &Arc<Desk>) {
        let weak = Arc::downgrade(desk);
        let reaper = thread::Builder::new().name("fcgi-pool".to_owned());
        if let Err(error) = reaper.spawn(move || reap(&weak)) {
            // Idle connections are then closed late, and waits end late: when the pool is used next.
            tracing::warn!(%error, "no thread to close idle connections and to end waits");
            desk.reaper_gone();
        }
    }
}

/// Sleeps from one of the policy's deadlines to the next, until there is none, or the pool is gone.
/// A connection that is always used again costs a wake-up now and then, but no new thread.
fn reap(desk: &Weak<Desk>) {
    while let Some(until) = desk.upgrade().and_then(|desk| desk.reap(thread::current())) {
        park(Some(until));
    }
}
