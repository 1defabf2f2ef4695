//! What the pool's policy and its driver exchange.

use super::slots::Key;

/// One caller's turn, from [`acquire`](super::PoolPolicy::acquire) until it is released, cancelled,
/// timed out or refused. Later tickets compare greater; a pool never reuses one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ticket(pub(super) Key);

/// One connection of a pool. Later ids compare greater; a pool never reuses one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnectionId(pub(super) Key);

impl ConnectionId {
    pub(super) const MIN: Self = Self(Key::MIN);
}

/// What to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Action {
    /// The caller has a connection until it releases it.
    Grant {
        /// The caller.
        ticket: Ticket,
        /// Its connection.
        connection: ConnectionId,
        /// Whether the caller must open the connection now, and report it with
        /// [`connected`](super::PoolPolicy::connected): no connection is opened before it is needed
        /// . If false, the connection is open already, but may turn out to be dead.
        fresh: bool,
    },
    /// The caller waited for all of [`PoolLimits::wait_timeout`](super::PoolLimits::wait_timeout).
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

/// The state in which a caller gives its connection back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Release {
    /// The request is over, and the connection can carry another.
    Reusable,
    /// The connection could not be opened, was closed, or can't be trusted any more. It
    /// carries no new request; other requests on it go on until they are released.
    Closed,
    /// The caller sent nothing. An open connection goes back to the pool unchanged. One still being
    /// opened is abandoned.
    Unused,
}

/// The numbers of connections and callers.
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

/// Why a caller was turned away without waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// [`PoolLimits::waiting`](super::PoolLimits::waiting) callers wait already.
    #[error("no connection is free and {waiting} callers wait, the most allowed")]
    Full {
        /// How many wait.
        waiting: usize,
    },
    /// [`close`](super::PoolPolicy::close) was called.
    #[error("the pool is closed")]
    Closed,
}

/// The pool's user called something out of turn. The call changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyMisuse {
    /// The ticket was released, cancelled, timed out or refused before, or is another pool's.
    #[error("{0:?} has ended or was never given")]
    UnknownTicket(Ticket),
    /// The ticket has no connection yet.
    #[error("{0:?} still waits for a connection")]
    NotGranted(Ticket),
    /// The ticket's connection is not open yet, so it can't have carried a request.
    #[error("the connection of {0:?} was never reported as connected")]
    NotConnected(Ticket),
    /// The ticket's connection was open already.
    #[error("the connection of {0:?} was reported as connected before")]
    AlreadyConnected(Ticket),
}
