//! The input of the web server's end of a connection, and the events that it reports.

use crate::{Limits, Output, Params, Rejection, RequestKey, Role, Values};

/// How a [`ClientConnection`](super::ClientConnection) behaves.
#[derive(Clone, Copy, Debug)]
pub struct ClientConfig {
    /// Default [`Limits::client`]: one request at a time. Allow more only for an application that
    /// reports `FCGI_MPXS_CONNS=1`.
    pub limits: Limits,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self { limits: Limits::client() }
    }
}

/// A request to start.
#[derive(Clone, Debug)]
pub struct BeginRequest {
    /// The role to request.
    pub role: Role,
    /// Asks the application to leave the connection open (FC-3.5-1).
    pub keep_conn: bool,
    /// The parameters, sent in this order.
    pub params: Params,
}

/// What a [`ClientConnection`](super::ClientConnection) reports. It is exhaustive on purpose: the
/// code that drives the connection must know each event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A stream without unread bytes now has some, or has ended.
    Readable {
        /// The request.
        key: RequestKey,
        /// The stream.
        output: Output,
    },
    /// A request whose `write` did not take everything can write again.
    Writable {
        /// The request.
        key: RequestKey,
    },
    /// The request has ended. The output that came before can still be read.
    Finished {
        /// The request.
        key: RequestKey,
        /// How it ended.
        outcome: Outcome,
    },
    /// The answer to [`query_values`](super::ClientConnection::query_values).
    Values(Values),
    /// The application does not know a management record type that was sent to it (FC-4.2-1).
    UnknownType(u8),
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// The application completed it.
    Complete {
        /// What a CGI program would pass to `exit`: 0 is success.
        app_status: u32,
    },
    /// The application refused it (FC-5.5-1, Q-13).
    Rejected(Rejection),
    /// The connection ended before END_REQUEST.
    Truncated,
    /// This end aborted it under [`FullRequest::Abort`](crate::FullRequest::Abort), because its
    /// output was not read.
    Overrun,
}
