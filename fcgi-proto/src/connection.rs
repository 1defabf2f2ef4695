//! What both ends share: the [`Connection`] trait and the protocol's types.

use bytes::{Bytes, BytesMut};

use crate::{ProtocolError, Transmit, UsageError};

/// One end of a FastCGI connection, as a state machine that is fed and drained.
///
/// Four kinds of method, which may be called in any order (no order panics):
/// - **getters**: `wants_read`, `is_reusable`, `is_closed`, `active_requests`, `error`;
/// - **`handle_*`** report what happened on the socket: `recv_buffer` + `handle_recv`,
///   `handle_eof`;
/// - **commands** are on the two types: `begin`, `query_values`, `request(key)` and its handle;
/// - **`poll_*`** say what to do next: `poll_event`, `poll_transmit`.
///
/// After each `handle_*` and each command, drain `poll_event` until it returns `None`, then drain
/// `poll_transmit` until it returns `None` or the socket is full. `poll_event` is where bytes are
/// parsed, so an application that falls behind pauses the parser and, through it, the socket.
pub trait Connection: sealed::Sealed {
    /// The events of this end.
    type Event;

    /// The window to read the peer's bytes into. It is empty while the connection is paused, after
    /// the end of file and after an error. [`Limits::recv_buffer`](crate::Limits::recv_buffer)
    /// bounds its size. The window is valid until the next call. Report the bytes read with
    /// [`handle_recv`](Self::handle_recv).
    fn recv_buffer(&mut self) -> &mut [u8];

    /// The size of buffer that [`lend`](Self::lend) accepts now. `None` while the connection has a
    /// buffer, and while there is nothing to read.
    fn wants_buffer(&self) -> Option<usize>;

    /// Lends the connection a buffer for [`recv_buffer`](Self::recv_buffer), so that it allocates
    /// none itself. Take it back with [`reclaim`](Self::reclaim) once the events are drained:
    /// an idle connection needs no buffer.
    ///
    /// # Errors
    /// The buffer itself, if its size is not that of [`wants_buffer`](Self::wants_buffer).
    fn lend(&mut self, buffer: BytesMut) -> Result<(), BytesMut>;

    /// Takes back a lent buffer. `None` while its bytes are still needed, or slices of it are kept,
    /// and for good once the connection has replaced it for that reason, or it was
    /// [retired](Self::retire).
    fn reclaim(&mut self) -> Option<BytesMut>;

    /// Takes away a lent buffer that was parsed, although slices of it are kept. The connection can
    /// be lent another one then. Once the slices are dropped, [`Bytes::try_into_mut`] makes a buffer
    /// to lend of this one. `None` if there is none of that kind.
    fn retire(&mut self) -> Option<Bytes>;

    /// Reports that the first `n` bytes of [`recv_buffer`](Self::recv_buffer) are the peer's next
    /// bytes. 0 changes nothing; report the end of file with [`handle_eof`](Self::handle_eof).
    ///
    /// # Errors
    /// [`UsageError::RecvOverrun`], [`UsageError::AfterEof`].
    fn handle_recv(&mut self, n: usize) -> Result<(), UsageError>;

    /// Reports that the peer will send no more bytes. It may still read: complete requests are
    /// answered (FC-3.5-2), the others fail.
    fn handle_eof(&mut self);

    /// The next event. Drain it until `None`.
    ///
    /// # Errors
    /// The peer broke the protocol. The connection is over: every later call returns the same
    /// error, and nothing more is queued. A client's requests have ended, but the output that was
    /// received can still be read. A server still sends what it had queued.
    fn poll_event(&mut self) -> Result<Option<Self::Event>, ProtocolError>;

    /// The bytes to send next, as a [`bytes::Buf`] over the whole queue. `advance` removes them
    /// from the queue. `None` when nothing is queued.
    fn poll_transmit(&mut self) -> Option<Transmit<'_>>;

    /// Whether to read from the socket. False after the end, and while the connection is paused, so
    /// that the socket pushes back on the peer.
    fn wants_read(&self) -> bool;

    /// Whether the connection is idle and can carry another request.
    fn is_reusable(&self) -> bool;

    /// Whether the connection is finished: all that is left is to close the socket.
    fn is_closed(&self) -> bool;

    /// The number of requests that have begun and not ended.
    fn active_requests(&self) -> usize;

    /// The error that ended the connection.
    fn error(&self) -> Option<ProtocolError>;
}

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// Identifies one request of one connection. Request ids are reused but generations are not, so the
/// key of an ended request never reaches another one (H-11).
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct RequestKey {
    pub(crate) id: u16,
    /// Its slot in the connection's table of requests.
    pub(crate) place: u16,
    pub(crate) generation: u64,
}

impl core::hash::Hash for RequestKey {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        // The generation alone is unique within a connection.
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

/// What a web server asks an application to do. The specification has no other roles (section 6).
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
    /// The role with this number, if it is a known one.
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

    /// Whether a request of this role has this input stream.
    #[must_use]
    pub const fn has_input(self, input: Input) -> bool {
        match input {
            Input::Stdin => !matches!(self, Self::Authorizer),
            Input::Data => matches!(self, Self::Filter),
        }
    }

    /// The stream that ends the role's input; `None` if the role has only PARAMS.
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

/// Why an application refuses a request: the protocol statuses of END_REQUEST other than
/// REQUEST_COMPLETE (FC-5.5-1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rejection {
    /// `FCGI_CANT_MPX_CONN`: this connection takes one request at a time.
    CantMpxConn,
    /// `FCGI_OVERLOADED`: out of some resource.
    Overloaded,
    /// `FCGI_UNKNOWN_ROLE`: the application does not support this role.
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

    /// The rejection with this protocol status; `None` for 0 and for unknown ones.
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
