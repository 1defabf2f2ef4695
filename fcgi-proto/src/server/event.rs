//! What the application's end of a connection reports.

use crate::{Input, Params, RequestKey, Role};

/// What a [`ServerConnection`](super::ServerConnection) reports. It is exhaustive on purpose: the
/// code that drives the connection must know each event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request whose PARAMS are complete.
    /// [`ServerConnection::request`](super::ServerConnection::request) gives access to its streams.
    Request {
        /// Identifies the request from now on.
        key: RequestKey,
        /// The role that it asks for.
        role: Role,
        /// Its parameters.
        params: Params,
        /// Whether the connection stays open afterwards (FC-3.5-1).
        keep_conn: bool,
    },
    /// A stream without unread bytes now has some, or has ended.
    Readable {
        /// The request.
        key: RequestKey,
        /// The stream.
        input: Input,
    },
    /// A request whose `write` did not take everything can write again.
    Writable {
        /// The request.
        key: RequestKey,
    },
    /// The web server aborted a request. The application should end it as soon as it can, with a
    /// status of its choice (FC-5.4-1).
    Aborted {
        /// The request.
        key: RequestKey,
        /// Why it was aborted.
        reason: AbortReason,
    },
}

/// A request that came whole, with all of its input: what
/// [`ServerConnection::poll_whole`](super::ServerConnection::poll_whole) returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Identifies the request from now on.
    pub key: RequestKey,
    /// The role that it asks for.
    pub role: Role,
    /// Whether the connection stays open afterwards (FC-3.5-1).
    pub keep_conn: bool,
    /// Its parameters.
    pub params: Params,
}

/// Why a request was aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AbortReason {
    /// ABORT_REQUEST.
    Requested,
    /// The connection ended before the request's input did, or in both directions.
    Disconnected,
    /// More unread input than [`unread_request`](crate::Limits::unread_request), under
    /// [`FullRequest::Abort`](crate::FullRequest::Abort).
    Overrun,
}
