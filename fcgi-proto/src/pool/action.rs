//! What passes between a pool's policy and who carries it out.

/// One caller's turn: from [`acquire`](super::PoolPolicy::acquire) until it is released, cancelled,
/// timed out or refused. Later callers have greater ones; a pool never gives one twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ticket(pub(super) u64);

/// One connection of a pool. Later ones have greater ids; a pool never gives one twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnectionId(pub(super) u64);

impl ConnectionId {
    pub(super) const MIN: Self = Self(0);
}

/// What is to be done now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Action {
    /// The caller has a connection, until it gives it back.
    Grant {
        /// The caller.
        ticket: Ticket,
        /// Its connection.
        connection: ConnectionId,
        /// The caller opens it now, and says so with
        /// [`connected`](super::PoolPolicy::connected): nothing is connected ahead of its use
        /// . Otherwise it is open already, and may turn out to be dead.
        fresh: bool,
    },
    /// The caller waited for [`PoolLimits::wait_timeout`](super::PoolLimits::wait_timeout) in vain.
    TimedOut {
        /// The caller.
        ticket: Ticket,
    },
    /// The caller gets no connection: the pool is closed.
    Refused {
        /// The caller.
        ticket: Ticket,
    },
    /// Nobody uses the connection any more: close it, unless it is closed already.
    Close {
        /// The connection.
        connection: ConnectionId,
    },
}

/// In what state a caller gives its connection back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Release {
    /// The request is over, and the connection fit for another.
    Reusable,
    /// The connection could not be opened, was closed, or can't be trusted any more. It
    /// carries no new request; others on it go on until they are released.
    Closed,
    /// The caller sent nothing. An open connection goes back to the pool unchanged. One still being
    /// opened is abandoned.
    Unused,
}

/// How many there are of each.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct PoolStats {
    /// Connections: being opened, in use, idle, or about to be closed.
    pub connections: usize,
    /// Connections that are open and wait for a request.
    pub idle: usize,
    /// Callers that have a connection.
    pub active: usize,
    /// Callers that wait for one.
    pub waiting: usize,
}

/// Why a caller may not even wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// [`PoolLimits::waiting`](super::PoolLimits::waiting) was reached.
    #[error("no connection is free and {waiting} callers wait, as many as may")]
    Full {
        /// How many wait.
        waiting: usize,
    },
    /// [`close`](super::PoolPolicy::close) was called.
    #[error("the pool is closed")]
    Closed,
}

/// The pool's user did what can't be. Nothing was changed by the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyMisuse {
    /// It was released, cancelled, timed out or refused before, or is of another pool.
    #[error("{0:?} has ended or was never given")]
    UnknownTicket(Ticket),
    /// It has no connection yet.
    #[error("{0:?} still waits for a connection")]
    NotGranted(Ticket),
    /// Its connection is not open yet, so it can't have carried a request.
    #[error("the connection of {0:?} was never reported as connected")]
    NotConnected(Ticket),
    /// Its connection was open already.
    #[error("the connection of {0:?} was reported as connected before")]
    AlreadyConnected(Ticket),
}
