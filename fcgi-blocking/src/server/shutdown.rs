//! How a server is told to leave.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};

use crate::waker::Waker;

/// Begins the graceful shutdown of the servers that were given it
/// ([`Server::serve_until`](super::Server::serve_until)), from any thread. Clones are one handle.
///
/// It takes a lock, so that a signal handler must not call it: let a thread wait for the signal
/// (`signal_hook::iterator::Signals`, `sigwait`) and call it from there.
///
/// ```
/// let shutdown = fcgi_blocking::Shutdown::new();
/// let stop = shutdown.clone();
/// std::thread::spawn(move || stop.trigger()).join().unwrap();
/// assert!(shutdown.is_triggered());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<State>);

#[derive(Debug, Default)]
struct State {
    triggered: AtomicBool,
    servers: Mutex<Vec<Weak<Waker>>>,
}

impl Shutdown {
    /// A handle that was not triggered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the shutdown. A server that starts later stops at once.
    pub fn trigger(&self) {
        self.0.triggered.store(true, Ordering::SeqCst);
        for server in self.0.servers.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if let Some(waker) = server.upgrade() {
                waker.wake();
            }
        }
    }

    /// Whether it was triggered.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.0.triggered.load(Ordering::SeqCst)
    }

    /// Wakes this server when triggered. One that registers too late to be woken sees the flag
    /// before it first waits.
    pub(super) fn register(&self, waker: &Arc<Waker>) {
        let mut servers = self.0.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|server| server.strong_count() > 0);
        servers.push(Arc::downgrade(waker));
    }
}
