//! Aborted requests that have not ended yet. One thread waits for all of them in a pool, while
//! there are any.

use std::{
    fmt,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    thread,
    time::Instant,
};

use fcgi_engine::pool::Lease;
use fcgi_proto::RequestKey;
use rustix::{
    event::{self, PollFd, PollFlags},
    io::Errno,
};

use super::threads::{Place, Threads};
use crate::{
    stream::Stream,
    waker::{Waker, poll_timeout},
};

/// A request that was aborted, with its place on a connection.
pub(super) struct Drain {
    /// It is dropped before the lease: a connection is closed before another is opened in its
    /// place.
    stream: Arc<Stream>,
    lease: Lease<Threads>,
    key: RequestKey,
    until: Option<Instant>,
    interest: PollFlags,
}

impl Drain {
    /// Starts to wait, for as long as the connector's settings say. Returns `None` if the lease has
    /// no request.
    pub(super) fn new(mut lease: Lease<Threads>) -> Option<Self> {
        let limit = lease.desk().adapter().connector.settings.drain;
        let stream = match lease.place()? {
            Place::Own(link) => Arc::clone(&link.stream),
            Place::Shared(mux) => Arc::clone(mux.stream()),
        };
        // A limit too large to add means no limit.
        let until = Instant::now().checked_add(limit);
        Some(Self { key: lease.key()?, lease, until, stream, interest: PollFlags::empty() })
    }

    fn finish(self, reusable: bool) {
        drop(self.stream);
        self.lease.finish(reusable);
    }

    /// Moves bytes without waiting. Ready once the request has ended: true if the connection can
    /// carry others.
    fn poll(&mut self, waker: Option<&Arc<Waker>>) -> Poll<bool> {
        let polled = match self.lease.place() {
            Some(Place::Own(link)) => link.poll_drained(self.key),
            Some(Place::Shared(mux)) => mux.poll_drained(self.key, waker),
            None => Ok(false),
        };
        match polled {
            Ok(reusable) => Poll::Ready(reusable),
            Err(interest) => {
                self.interest = interest;
                match self.until {
                    Some(until) if Instant::now() >= until => Poll::Ready(false),
                    _ => Poll::Pending,
                }
            }
        }
    }
}

/// All of a pool's aborted requests.
#[derive(Default)]
pub(super) struct Drains(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    /// Those that the thread has not taken yet.
    new: Vec<Drain>,
    /// Interrupts the thread's poll, while there is a thread.
    waker: Option<Arc<Waker>>,
}

impl Drains {
    /// Waits for the end of the request, and then gives the connection back; closes it if that
    /// takes too long.
    pub(super) fn push(self: &Arc<Self>, mut drain: Drain) {
        // Most often the request has already ended.
        if let Poll::Ready(reusable) = drain.poll(None) {
            return drain.finish(reusable);
        }
        let mut queue = self.lock();
        queue.new.push(drain);
        if let Some(waker) = &queue.waker {
            return waker.wake();
        }
        let started = Waker::new().map(Arc::new).and_then(|waker| {
            let (drains, woken) = (Arc::clone(self), Arc::clone(&waker));
            let thread = thread::Builder::new().name("fcgi-drain".to_owned());
            thread.spawn(move || drains.run(&woken)).map(|_| waker)
        });
        match started {
            Ok(waker) => queue.waker = Some(waker),
            Err(error) => {
                let new = std::mem::take(&mut queue.new);
                drop(queue);
                tracing::warn!(%error, "no thread to wait for the end of an aborted request");
                // Their connections are closed.
                drop(new);
            }
        }
    }

    fn run(&self, waker: &Arc<Waker>) {
        /// Lets another thread start, however this one ends.
        struct Gone<'a>(&'a Drains);
        impl Drop for Gone<'_> {
            fn drop(&mut self) {
                self.0.lock().waker = None;
            }
        }
        let gone = Gone(self);
        let mut all = Vec::new();
        loop {
            let mut queue = self.lock();
            all.append(&mut queue.new);
            if all.is_empty() {
                queue.waker = None;
                std::mem::forget(gone);
                return;
            }
            drop(queue);
            let mut rest = Vec::new();
            for mut drain in all {
                match drain.poll(Some(waker)) {
                    Poll::Ready(reusable) => drain.finish(reusable),
                    Poll::Pending => rest.push(drain),
                }
            }
            all = rest;
            if !all.is_empty() && wait(&all, waker).is_err() {
                // Their connections are closed.
                all.clear();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while the lock is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until one of them can go on or its time is over, or until others are added.
fn wait(all: &[Drain], waker: &Waker) -> Result<(), Errno> {
    // A descriptor that is polled for nothing still reports that its peer is gone, at once and for
    // ever.
    let polled = all.iter().filter(|drain| !drain.interest.is_empty());
    let mut fds: Vec<_> = polled
        .map(|drain| PollFd::from_borrowed_fd(drain.stream.as_fd(), drain.interest))
        .collect();
    fds.push(PollFd::from_borrowed_fd(waker.as_fd(), PollFlags::IN));
    let until = all.iter().filter_map(|drain| drain.until).min();
    match event::poll(&mut fds, poll_timeout(until).as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error),
    }
    waker.drain();
    Ok(())
}

impl fmt::Debug for Drains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drains").finish_non_exhaustive()
    }
}
