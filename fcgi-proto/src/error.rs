//! What can go wrong, in three tiers: a [`ProtocolError`] ends the connection, an [`Outcome`] ends
//! one request and is an event, and a [`UsageError`] is the caller's own mistake and changes
//! nothing.
//!
//! [`Outcome`]: crate::client::Outcome
//!
//! ```
//! use fcgi_proto::{Connection, ProtocolErrorKind, ServerConfig, ServerConnection};
//!
//! let mut server = ServerConnection::new(ServerConfig::default());
//! server.recv_buffer()[..8].copy_from_slice(b"GET / HT");
//! server.handle_recv(8)?;
//! let error = server.poll_event().unwrap_err();
//! assert_eq!(error.kind, ProtocolErrorKind::Version(b'G'));
//! assert_eq!(server.poll_event().unwrap_err(), error, "sticky");
//! # Ok::<(), fcgi_proto::UsageError>(())
//! ```

use crate::record::RecordType;

/// The peer broke the protocol and the connection can't recover. Every later call returns the same
/// error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("protocol error at byte {offset} from the peer: {kind}")]
pub struct ProtocolError {
    /// What was wrong.
    pub kind: ProtocolErrorKind,
    /// Where the offending record starts, in bytes since the connection began.
    pub offset: u64,
}

/// What the peer did wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolErrorKind {
    /// FC-3.3-4.
    #[error("record version {0} instead of 1")]
    Version(u8),
    /// FC-3.3-5.
    #[error("{0} record with request id 0, which only management records have")]
    ZeroRequestId(RecordType),
    /// FC-3.3-11, W-11.
    #[error("{0} record, which only this side may send")]
    WrongDirection(RecordType),
    /// FC-5.1-1, FC-5.5-1, FC-4.2-1.
    #[error("{record_type} record with {length} bytes of content instead of 8")]
    ContentLength {
        /// The record's type.
        record_type: RecordType,
        /// Its content length, in bytes.
        length: u16,
    },
    /// FC-3.3-10.
    #[error("BEGIN_REQUEST for request id {0}, which is active")]
    DuplicateBegin(u16),
    /// FC-3.3-12.
    #[error("{record_type} data of request id {request_id} after the end of that stream")]
    DataAfterEnd {
        /// The stream.
        record_type: RecordType,
        /// The request.
        request_id: u16,
    },
    /// FC-5.5-1.
    #[error("END_REQUEST of request id {request_id} with protocol status {status}")]
    ProtocolStatus {
        /// The request.
        request_id: u16,
        /// The status, which is not one of 0..=3.
        status: u8,
    },
    /// H-9: [`Limits::idle_records`](crate::Limits::idle_records) or
    /// [`Limits::tiny_records`](crate::Limits::tiny_records) was exceeded.
    #[error("{0} records in a row that bring nothing or next to nothing")]
    RecordFlood(u32),
    /// Q-21: [`Limits::stray_bytes`](crate::Limits::stray_bytes) was exceeded.
    #[error("more than {0} bytes of records that are no part of a request or response")]
    StrayBytes(usize),
}

/// The caller asked for something impossible. The call changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// The connection is closed, closing or failed; no request can start on it.
    #[error("the connection takes no more requests")]
    Closed,
    /// As many requests as [`Limits::requests`](crate::Limits::requests) are active.
    #[error("the connection has {0} active requests, as many as it may have")]
    TooManyRequests(usize),
    /// Every id is in use, or reserved until the peer's END_REQUEST for it arrives.
    #[error("no request id is free")]
    NoFreeId,
    /// A name or a value is 2^31 bytes or longer (FC-3.4-1).
    #[error("a parameter's name or value has {0} bytes; the protocol allows 2,147,483,647")]
    PairTooLong(usize),
    /// The role has no such stream (FC-6.1-1).
    #[error("the request's role has no such stream")]
    StreamNotInRole,
    /// DATA was written before the end of STDIN (FC-6.4-1).
    #[error("DATA written before the end of STDIN")]
    DataBeforeStdin,
    /// The stream was finished before.
    #[error("the stream was finished before")]
    StreamFinished,
    /// The request was aborted or has ended.
    #[error("the request was aborted or has ended")]
    RequestEnded,
    /// A GET_VALUES is under way.
    #[error("a GET_VALUES query is under way")]
    QueryPending,
    /// More bytes were reported as read than the receive buffer holds.
    #[error("{given} bytes reported as read into a buffer of {room}")]
    RecvOverrun {
        /// The number of bytes reported.
        given: usize,
        /// The size of [`recv_buffer`](crate::Connection::recv_buffer).
        room: usize,
    },
    /// Bytes were reported as read after the end of file.
    #[error("bytes reported as read after the end of file")]
    AfterEof,
}
