//! What all connections of a server share.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use fcgi_engine::server::Settings;
use fcgi_proto::ServerConfig;

use super::shared::Shared;

#[derive(Debug)]
pub(super) struct State<H> {
    pub(super) handler: H,
    pub(super) settings: Settings,
    /// Of each connection.
    config: ServerConfig,
    requests: Arc<AtomicUsize>,
    served: Arc<AtomicUsize>,
    connections: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    open: HashMap<u64, Arc<Shared>>,
    last_id: u64,
    /// Waits for the last one to close.
    idle: Option<Waker>,
}

impl<H> State<H> {
    pub(super) fn new(settings: Settings, handler: H) -> Self {
        Self {
            handler,
            config: settings.connection(),
            settings,
            requests: Arc::default(),
            served: Arc::default(),
            connections: Mutex::default(),
        }
    }

    /// Registers a new connection.
    pub(super) fn connect(&self) -> (u64, Arc<Shared>) {
        let mut connections = self.lock();
        let shared = Arc::new(Shared::new(self.config));
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

    /// Counts a request; `None` when it is one too many (FC-5.5-2).
    pub(super) fn request_begins(&self) -> Option<Counted> {
        Counted::new(&self.requests, self.settings.max_requests)
    }

    /// Counts a connection whose requests are served; `None` when it is one too many, whose
    /// requests are refused for as long as it is.
    pub(super) fn place(&self) -> Option<Counted> {
        Counted::new(&self.served, self.settings.max_connections)
    }

    /// Lets every connection finish what it has.
    pub(super) fn shutdown(&self) {
        for shared in self.lock().open.values() {
            let mut inner = shared.lock();
            inner.connection.shutdown();
            inner.wake_task();
        }
    }

    /// Ends every connection.
    pub(super) fn cancel(&self) {
        for shared in self.lock().open.values() {
            let mut inner = shared.lock();
            inner.connection.handle_disconnect();
            inner.wake_task();
        }
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

/// A connection in the register, for as long as its task lives.
pub(super) struct Registered<'a, H> {
    pub(super) state: &'a State<H>,
    pub(super) id: u64,
}

impl<H> Drop for Registered<'_, H> {
    fn drop(&mut self) {
        self.state.disconnect(self.id);
    }
}

/// A request or a connection that counts as long as this lives.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let counted = Self(Arc::clone(count));
        (before < most).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
