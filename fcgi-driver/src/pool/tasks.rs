//! How the pool waits and wakes in an async runtime.

use std::{
    future::poll_fn,
    sync::{Arc, Weak},
    task::{Poll, Waker},
    time::Instant,
};

use fcgi_engine::pool;

use crate::{
    client::{Connection, Connector, Mux},
    deadline::Deadline,
    runtime::Runtime,
};

/// The runtime's connections, tasks and timers.
pub(super) struct Tasks<R: Runtime> {
    pub(super) connector: Connector<R>,
}

pub(super) type Desk<R> = pool::Desk<Tasks<R>>;
pub(super) type Place<R> = pool::Place<Tasks<R>>;

impl<R: Runtime> pool::Pooled for Tasks<R> {
    type Own = Box<Connection<R>>;
    type Shared = Mux<R>;
    type Who = Waker;

    fn now(&self) -> Instant {
        R::now()
    }

    fn wake(&self, who: Waker) {
        who.wake();
    }

    fn spawn_reaper(desk: &Arc<Desk<R>>) {
        if let Err(error) = R::spawn(reaper(Arc::downgrade(desk))) {
            // Idle connections are then closed late, and waits end late: when the pool is used next.
            tracing::warn!(%error, "no runtime to close idle connections and to end waits");
            desk.reaper_gone();
        }
    }
}

/// The task that closes idle connections and ends waits when their time is up. It runs only while
/// there is something to wait for.
async fn reaper<R: Runtime>(desk: Weak<Desk<R>>) {
    /// Lets another reaper start, however this one ends.
    struct Gone<R: Runtime>(Weak<Desk<R>>);
    impl<R: Runtime> Drop for Gone<R> {
        fn drop(&mut self) {
            if let Some(desk) = self.0.upgrade() {
                desk.reaper_gone();
            }
        }
    }
    let mut gone = Gone(desk);
    let mut deadline = Deadline::<R>::new();
    poll_fn(|cx| {
        loop {
            let Some(desk) = gone.0.upgrade() else { return Poll::Ready(()) };
            let until = desk.reap(cx.waker().clone());
            if until.is_none() {
                // From now on there may be another one.
                gone.0 = Weak::new();
                return Poll::Ready(());
            }
            if deadline.poll(cx, until, R::now()).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}
