//! What all connections of a server share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use fcgi_engine::{
    server::{Settings, Tally},
    socket::Peer,
};

use super::shared::Shared;

#[derive(Debug)]
pub(super) struct State<H> {
    pub(super) handler: H,
    pub(super) tally: Arc<Tally>,
    connections: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    open: HashMap<u64, Arc<Shared>>,
    last_id: u64,
    /// Waits for the last connection to close.
    idle: Option<Waker>,
}

impl<H> State<H> {
    pub(super) fn new(settings: Settings, handler: H) -> Self {
        Self { handler, tally: Arc::new(Tally::new(settings)), connections: Mutex::default() }
    }

    /// Registers a new connection.
    pub(super) fn connect(&self, peer: Peer, now: fn() -> Instant) -> (u64, Arc<Shared>) {
        let shared = Arc::new(Shared::new(&self.tally, peer, now));
        let mut connections = self.lock();
        connections.last_id += 1;
        let id = connections.last_id;
        connections.open.insert(id, Arc::clone(&shared));
        (id, shared)
    }

    fn disconnect(&self, id: u64) {
        let mut connections = self.lock();
        connections.open.remove(&id);
        if connections.open.is_empty() {
            if let Some(waker) = connections.idle.take() {
                waker.wake();
            }
        }
    }

    /// Lets every connection finish its requests.
    pub(super) fn shutdown(&self) {
        self.lock().open.values().for_each(|shared| shared.shutdown());
    }

    /// Ends every request, and its connection once the web server has been informed.
    pub(super) fn cancel(&self) {
        self.lock().open.values().for_each(|shared| shared.cancel());
    }

    /// Closes every connection at once.
    pub(super) fn abandon(&self) {
        self.lock().open.values().for_each(|shared| shared.abandon());
    }

    /// Ready once no connection is open.
    pub(super) fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut connections = self.lock();
        if connections.open.is_empty() {
            return Poll::Ready(());
        }
        connections.idle = Some(cx.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A registered connection. It stays registered as long as its task lives.
pub(super) struct Registered<H> {
    pub(super) state: Arc<State<H>>,
    pub(super) id: u64,
}

impl<H> Drop for Registered<H> {
    fn drop(&mut self) {
        self.state.disconnect(self.id);
    }
}
