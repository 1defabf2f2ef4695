//! The counts of a whole server.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use fcgi_proto::ServerConfig;

use super::Settings;
use crate::socket::Peer;

/// A server's settings, with the numbers of its requests and connections.
#[derive(Debug)]
pub struct Tally {
    settings: Settings,
    /// The configuration of each connection.
    config: Arc<ServerConfig>,
    requests: Arc<AtomicUsize>,
    served: Arc<AtomicUsize>,
}

impl Tally {
    /// A server without connections. If its settings admit nobody, it says so.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        if settings.web_server_addrs.as_ref().is_some_and(Vec::is_empty) {
            tracing::error!(
                "every connection will be closed: FCGI_WEB_SERVER_ADDRS has no address"
            );
        }
        let config = Arc::new(settings.connection());
        Self { settings, config, requests: Arc::default(), served: Arc::default() }
    }

    /// The server's settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether to serve a connection from this peer (FC-3.2-1). A refusal is logged.
    #[must_use]
    pub fn admits(&self, peer: Peer) -> bool {
        let admits = self.settings.admits(peer);
        if !admits {
            tracing::warn!(%peer, "connection closed: not in FCGI_WEB_SERVER_ADDRS");
        }
        admits
    }

    /// Requests whose handlers have not returned.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Connections that hold a place, so that their requests are served.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Counts the requests of a new connection.
    pub(super) fn count(&self) -> Count {
        Count { all: Arc::clone(&self.requests), most: self.settings.max_requests, here: 0 }
    }

    /// Counts a connection. `None` if the limit is reached: its requests are refused until there is
    /// room.
    pub(super) fn place(&self) -> Option<Count> {
        let (all, most) = (Arc::clone(&self.served), self.settings.max_connections);
        let mut place = Count { all, most, here: 0 };
        place.begin().then_some(place)
    }
}

/// A connection's part of a number that has a limit: its requests, or itself. What has not ended
/// counts until this is dropped.
#[derive(Debug)]
pub(super) struct Count {
    all: Arc<AtomicUsize>,
    most: usize,
    here: usize,
}

impl Count {
    /// Counts one more; false if the limit is reached (FC-5.5-2).
    #[inline]
    pub(super) fn begin(&mut self) -> bool {
        let begins = self.all.fetch_add(1, Ordering::Relaxed) < self.most;
        if begins {
            self.here += 1;
        } else {
            self.all.fetch_sub(1, Ordering::Relaxed);
        }
        begins
    }

    /// One of those that began here has ended.
    #[inline]
    pub(super) fn end(&mut self) {
        self.here -= 1;
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.all.fetch_sub(self.here, Ordering::Relaxed);
    }
}
