//! The process's file descriptors, divided so that no use of them starves another.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For the standard streams, listeners, the runtime, look-ups, and programs that the gateway
/// starts.
const OTHERS: usize = 64;

/// How many descriptors each use may have.
#[derive(Debug)]
pub(super) struct Descriptors {
    /// The process's limit.
    pub(super) limit: usize,
    /// Clients' connections.
    pub(super) clients: usize,
    /// Files being sent to clients.
    pub(super) files: usize,
    /// Bodies stored in files.
    pub(super) stored: usize,
}

impl Descriptors {
    /// Raises the process's limit as far as possible, and divides it.
    pub(super) fn share(clients: usize, connections: usize) -> Self {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // If that is refused, the current limit must do.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        let limit = getrlimit(Resource::Nofile).current;
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let rest = limit.saturating_sub(OTHERS).saturating_sub(connections);
        let clients = clients.min(rest / 2).max(1);
        let rest = rest.saturating_sub(clients);
        let stored = (rest / 2).max(1);
        let files = rest.saturating_sub(stored).max(1);
        Self { limit, clients, files, stored }
    }
}
