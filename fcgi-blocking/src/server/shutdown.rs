//! The signal for a server to shut down.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use crate::waker::Waker;

/// Starts the graceful shutdown of the servers that it was passed to
/// ([`Serve::with_graceful_shutdown`](super::Serve::with_graceful_shutdown)), from any thread.
/// Clones are the same handle.
///
/// It takes a lock, so a signal handler must not call it. Use [`shutdown_signal`], which has a
/// thread that waits for the signal.
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

/// A handle that SIGTERM or SIGINT triggers, from when this is called. From then on the signals no
/// longer end the process by themselves. If it can't wait for the signals, it logs an error and the
/// handle is never triggered.
#[must_use]
pub fn shutdown_signal() -> Shutdown {
    let shutdown = Shutdown::new();
    if let Err(error) = shutdown.trigger_at_signal() {
        tracing::error!(%error, "can't wait for SIGTERM and SIGINT");
    }
    shutdown
}

/// The same handle.
impl From<&Shutdown> for Shutdown {
    fn from(shutdown: &Shutdown) -> Self {
        shutdown.clone()
    }
}

impl Shutdown {
    /// A handle that is not triggered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts the shutdown. A server that starts later stops at once.
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

    fn trigger_at_signal(&self) -> io::Result<()> {
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let shutdown = self.clone();
        let wait = move || {
            if signals.forever().next().is_some() {
                shutdown.trigger();
            }
        };
        thread::Builder::new().name("fcgi-signal".to_owned()).spawn(wait)?;
        Ok(())
    }

    /// Wakes this server when triggered. A server that registers too late to be woken sees the flag
    /// before it first waits.
    pub(super) fn register(&self, waker: &Arc<Waker>) {
        let mut servers = self.0.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|server| server.strong_count() > 0);
        servers.push(Arc::downgrade(waker));
    }
}
