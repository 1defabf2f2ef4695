//! How many connections a pool has, how long it keeps them, how long callers wait.

use core::time::Duration;

/// Limits of one pool. A 0 in [`connections`](Self::connections) or
/// [`requests_per_connection`](Self::requests_per_connection) counts as 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PoolLimits {
    /// Connections open or being opened at once. Default 8. Each occupies a worker of php-fpm, so
    /// more than its `pm.max_children` are of no use.
    pub connections: usize,
    /// Idle connections to keep. Default 8; past it, the one that has been idle longest is closed.
    pub idle: usize,
    /// How long to keep a connection idle after its last request. Default 1.5 s: libfcgi closes
    /// after 2 s, and an idle connection occupies a worker of php-fpm. With 0 none is
    /// kept, not even for a caller that waits.
    pub idle_timeout: Duration,
    /// Requests that one connection may carry before it is closed. Default unlimited.
    pub requests_per_connection: Option<u64>,
    /// The age since connecting at which a connection gets no more requests. Default 1 s, so that a
    /// busy pool does not keep php-fpm's workers from everybody else. Requests that it
    /// carries then still finish.
    pub age: Option<Duration>,
    /// Callers that may wait for a connection. Default 1,024; past it
    /// [`acquire`](super::PoolPolicy::acquire) fails. With 0 nobody waits: a caller that can't have
    /// a connection at once gets an error.
    pub waiting: usize,
    /// How long a caller may wait. Default 10 s. A caller that can have a connection gets it, even
    /// if this time has passed.
    pub wait_timeout: Option<Duration>,
}

impl PoolLimits {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            connections: 8,
            idle: 8,
            idle_timeout: Duration::from_millis(1500),
            requests_per_connection: None,
            age: Some(Duration::from_secs(1)),
            waiting: 1024,
            wait_timeout: Some(Duration::from_secs(10)),
        }
    }
}

impl Default for PoolLimits {
    /// [`PoolLimits::new`].
    fn default() -> Self {
        Self::new()
    }
}
