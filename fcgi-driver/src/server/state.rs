//! What all connections of a server share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Instant,
};

use fcgi_engine::{
    server::{Settings, Tally},
    socket::Peer,
};

use super::shared::Shared;
use crate::wakers::{self, Locked, Wakeful, Wakes, wait};

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
    woken: Wakes,
}

impl Wakeful for Connections {
    type Later = Wakes;

    fn later(&mut self) -> Option<Wakes> {
        (!self.woken.is_empty()).then(|| std::mem::take(&mut self.woken))
    }
}

impl<H> State<H> {
    pub(super) fn new(settings: Settings, handler: H) -> Self {
        Self { handler, tally: Arc::new(Tally::new(settings)), connections: Mutex::default() }
    }

    /// Registers a new connection, until the first of the values is dropped.
    pub(super) fn connect(
        self: &Arc<Self>,
        peer: Peer,
        now: fn() -> Instant,
    ) -> (Registered<H>, Arc<Shared>) {
        let shared = Arc::new(Shared::new(&self.tally, peer, now));
        let mut connections = self.lock();
        connections.last_id += 1;
        let id = connections.last_id;
        connections.open.insert(id, Arc::clone(&shared));
        (Registered { state: Arc::clone(self), id }, shared)
    }

    fn disconnect(&self, id: u64) {
        let mut connections = self.lock();
        let Connections { open, idle, woken, .. } = &mut *connections;
        let gone = open.remove(&id);
        if open.is_empty() {
            woken.take(idle);
        }
        drop(connections);
        // It may hold the last of the handler's values.
        drop(gone);
    }

    /// Lets every connection finish its requests.
    pub(super) fn shutdown(&self) {
        self.open().iter().for_each(|shared| shared.shutdown());
    }

    /// Ends every request, and its connection once the web server has been informed.
    pub(super) fn cancel(&self) {
        self.open().iter().for_each(|shared| shared.cancel());
    }

    /// Closes every connection at once.
    pub(super) fn abandon(&self) {
        self.open().iter().for_each(|shared| shared.abandon());
    }

    /// The connections, without the lock, since using them may run foreign code.
    fn open(&self) -> Vec<Arc<Shared>> {
        self.lock().open.values().cloned().collect()
    }

    /// Ready once no connection is open.
    pub(super) fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<()> {
        let _before;
        let mut connections = self.lock();
        if connections.open.is_empty() {
            return Poll::Ready(());
        }
        _before = wait(&mut connections.idle, cx);
        Poll::Pending
    }

    fn lock(&self) -> Locked<'_, Connections> {
        wakers::lock(&self.connections)
    }
}

/// A registered connection. It stays registered as long as its task lives.
pub(super) struct Registered<H> {
    pub(super) state: Arc<State<H>>,
    id: u64,
}

impl<H> Drop for Registered<H> {
    fn drop(&mut self) {
        self.state.disconnect(self.id);
    }
}
