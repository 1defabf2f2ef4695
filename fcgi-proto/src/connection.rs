//! What both ends share: the [`Connection`] trait and the words of the protocol.

use bytes::BytesMut;

use crate::{ProtocolError, Transmit, UsageError};

/// One end of a FastCGI connection, as a state machine that is fed and drained.
///
/// Four kinds of method, which may be called in any order (no order panics):
/// - **getters**: `wants_read`, `is_reusable`, `is_closed`, `active_requests`, `error`;
/// - **`handle_*`**: tell what happened on the socket: `recv_buffer` + `handle_recv`,
///   `handle_eof`;
/// - **commands**, on the two types: `begin`, `query_values`, `request(key)` and what it gives;
/// - **`poll_*`**: what to do next: `poll_event`, `poll_transmit`.
///
/// After each `handle_*` and each command, drain `poll_event` until `None`, then
/// `poll_transmit` until `None` or the socket is full. Bytes are parsed in `poll_event`, so that
/// an application that is behind pauses the parser and thereby the socket.
pub trait Connection: sealed::Sealed {
    /// What this end reports.
    type Event;

    /// The window to read the peer's bytes into. Empty while the connection is paused, after the
    /// end of file and after an error. Bounded by [`Limits::recv_buffer`](crate::Limits::recv_buffer).
    /// The window belongs to the connection until the next call; report what was read with
    /// [`handle_recv`](Self::handle_recv).
    fn recv_buffer(&mut self) -> &mut [u8];

    /// The size of a buffer that [`lend`](Self::lend) would take: `None` while there is one, and
    /// while nothing is to be read.
    fn wants_buffer(&self) -> Option<usize>;

    /// Lends the connection a buffer for [`recv_buffer`](Self::recv_buffer), so that it makes none
    /// of its own. Ask for it with [`reclaim`](Self::reclaim) once the events are drained: a
    /// connection at rest keeps none.
    ///
    /// # Errors
    /// The buffer itself, when it is not of the size of [`wants_buffer`](Self::wants_buffer).
    fn lend(&mut self, buffer: BytesMut) -> Result<(), BytesMut>;

    /// Takes back a buffer that was lent, unless bytes in it are still needed. One that slices of
    /// were given out never comes back.
    fn reclaim(&mut self) -> Option<BytesMut>;

    /// Says that the first `n` bytes of [`recv_buffer`](Self::recv_buffer) are the peer's next
    /// bytes. 0 changes nothing; the end of file has its own call.
    ///
    /// # Errors
    /// [`UsageError::RecvOverrun`], [`UsageError::AfterEof`].
    fn handle_recv(&mut self, n: usize) -> Result<(), UsageError>;

    /// Says that the peer will send no more bytes. It may still read: requests that are whole are
    /// answered (FC-3.5-2), the others fail.
    fn handle_eof(&mut self);

    /// The next event. Drain it until `None`.
    ///
    /// # Errors
    /// The peer broke the protocol. The connection is over: every later call gives the same
    /// error, and nothing more is queued. A client's requests have ended, and what was received of
    /// their streams can still be read; a server still sends what it had queued.
    fn poll_event(&mut self) -> Result<Option<Self::Event>, ProtocolError>;

    /// The bytes to send next, as a [`bytes::Buf`] over all that is queued; they leave the queue
    /// as they are acknowledged by `advance`. `None` when nothing is queued.
    fn poll_transmit(&mut self) -> Option<Transmit<'_>>;

    /// Whether reading from the socket makes sense: false while paused, so that the socket pushes
    /// back on the peer, and after the end.
    fn wants_read(&self) -> bool;

    /// Whether the connection is at rest and may serve another request later.
    fn is_reusable(&self) -> bool;

    /// Whether nothing is left to do but to close the socket.
    fn is_closed(&self) -> bool;

    /// Requests that have begun and not ended.
    fn active_requests(&self) -> usize;

    /// The error that ended the connection.
    fn error(&self) -> Option<ProtocolError>;
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// Names one request of one connection. Request ids are reused; the generation in the key is not,
/// so that a key of an ended request reaches no other (H-11).
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct RequestKey {
    pub(crate) id: u16,
    /// Where its connection has it.
    pub(crate) place: u16,
    pub(crate) generation: u64,
}

impl core::hash::Hash for RequestKey {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        // It tells the keys of a connection apart by itself.
        state.write_u64(self.generation);
    }
}

impl RequestKey {
    /// The request id on the wire.
    #[must_use]
    pub const fn id(self) -> u16 {
        self.id
    }
}

/// What a web server asks an application to be (specification, section 6, which has no other role).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Answers an HTTP request, as a CGI program does (section 6.2).
    Responder,
    /// Allows or denies an HTTP request (section 6.3).
    Authorizer,
    /// Answers an HTTP request with a changed version of a file (section 6.4).
    Filter,
}

impl Role {
    /// The role with this number, if there is one.
    #[must_use]
    pub const fn from_u16(value: u16) -> Option<Self> {
        match value {
            1 => Some(Self::Responder),
            2 => Some(Self::Authorizer),
            3 => Some(Self::Filter),
            _ => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn as_u16(self) -> u16 {
        match self {
            Self::Responder => 1,
            Self::Authorizer => 2,
            Self::Filter => 3,
        }
    }

    /// Whether the role's input has this stream.
    #[must_use]
    pub const fn has_input(self, input: Input) -> bool {
        match input {
            Input::Stdin => !matches!(self, Self::Authorizer),
            Input::Data => matches!(self, Self::Filter),
        }
    }

    /// The stream that ends the role's input; `None` where PARAMS is all of it.
    #[must_use]
    pub const fn last_input(self) -> Option<Input> {
        match self {
            Self::Responder => Some(Input::Stdin),
            Self::Authorizer => None,
            Self::Filter => Some(Input::Data),
        }
    }
}

impl core::fmt::Display for Role {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Responder => "Responder",
            Self::Authorizer => "Authorizer",
            Self::Filter => "Filter",
        })
    }
}

/// A stream towards the application.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// `FCGI_STDIN`: the body of the HTTP request.
    Stdin,
    /// `FCGI_DATA`: a Filter's file.
    Data,
}

/// A stream towards the web server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Output {
    /// `FCGI_STDOUT`: the response.
    Stdout,
    /// `FCGI_STDERR`: error text.
    Stderr,
}

/// Why an application does not take a request: END_REQUEST's protocol statuses other than
/// REQUEST_COMPLETE (FC-5.5-1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rejection {
    /// `FCGI_CANT_MPX_CONN`: one request at a time on this connection.
    CantMpxConn,
    /// `FCGI_OVERLOADED`: out of some resource.
    Overloaded,
    /// `FCGI_UNKNOWN_ROLE`: the application does not play this role.
    UnknownRole,
}

impl Rejection {
    /// The protocol status on the wire.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        match self {
            Self::CantMpxConn => 1,
            Self::Overloaded => 2,
            Self::UnknownRole => 3,
        }
    }

    /// The rejection with this protocol status; 0 is none.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::CantMpxConn),
            2 => Some(Self::Overloaded),
            3 => Some(Self::UnknownRole),
            _ => None,
        }
    }
}

impl core::fmt::Display for Rejection {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::CantMpxConn => "CANT_MPX_CONN",
            Self::Overloaded => "OVERLOADED",
            Self::UnknownRole => "UNKNOWN_ROLE",
        })
    }
}
