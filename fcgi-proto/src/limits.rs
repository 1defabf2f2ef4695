//! How much one connection may cost, whatever its peer sends.
//!
//! Nothing here is allocated in advance, and nothing is allocated in proportion to what a peer
//! merely declares. Each limit says what happens when it is reached: the connection *pauses*
//! ([`wants_read`](crate::Connection::wants_read) is false and the socket pushes back), one
//! *request fails*, or the *connection fails*.
//!
//! ```
//! use fcgi_proto::{Limits, ServerConfig, ServerConnection};
//!
//! let mut limits = Limits::default();
//! limits.params_bytes = 16 * 1024;
//! limits.requests = 1; // a second concurrent request gets CANT_MPX_CONN
//! let server = ServerConnection::new(ServerConfig { limits, ..ServerConfig::default() });
//! # let _ = server;
//! ```

/// What happens when one request holds more unread bytes than it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum FullRequest {
    /// The whole connection pauses until the request is read: FastCGI has no window per request,
    /// so the requests beside it wait too.
    #[default]
    Pause,
    /// The request is given up, so that the others go on: a server drops its input and reports
    /// `Aborted`, a client sends ABORT_REQUEST and reports `Outcome::Overrun`.
    Abort,
}

/// Limits of one connection. All sizes are in bytes. A limit of 0 that would block all progress is
/// treated as 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// The largest window handed out to read into. A connection starts with 4 KiB (or this, if it
    /// is less) and grows to this while reads fill the window. Default 64 KiB; at least 8.
    pub recv_buffer: usize,
    /// PARAMS of one request, as encoded. Default 256 KiB; past it the request fails (FC-3.4-5).
    pub params_bytes: usize,
    /// PARAMS of all requests whose PARAMS have not ended. Default 1 MiB; past it the request
    /// that got there is refused with OVERLOADED.
    pub params_bytes_connection: usize,
    /// Pairs of one request. Default 2,048; past it the request fails (H-6).
    pub params_pairs: usize,
    /// Requests at once. Default 1 for a client (Q-10) and 100 for a server; with 1, a server
    /// answers a second with CANT_MPX_CONN, with more OVERLOADED past them (FC-5.5-2).
    pub requests: usize,
    /// Unread stream bytes of one request. Default 256 KiB; at it [`full_request`](Self::full_request)
    /// decides.
    pub unread_request: usize,
    /// Unread stream bytes of the connection. Default 1 MiB; at it the connection pauses.
    pub unread_connection: usize,
    /// See [`FullRequest`]. Default `Pause`.
    pub full_request: FullRequest,
    /// Bytes queued to be sent at which `write` takes no more. Default 256 KiB.
    pub send_high_water: usize,
    /// Bytes of replies that the connection makes by itself (GET_VALUES_RESULT, UNKNOWN_TYPE,
    /// refusals) waiting to be sent. Default 16 KiB; past it the connection pauses until the peer
    /// reads (H-9).
    pub reply_bytes: usize,
    /// Records in a row, of fewer than 8 bytes, that change nothing: second empty records, records
    /// of inactive ids, of unknown types, requests aborted before they were whole. A client counts
    /// them whatever their length, and unasked answers to management records too. Default 10,000;
    /// past it the connection fails (H-9).
    pub idle_records: u32,
    /// Stream records in a row with fewer than 8 bytes. Default 1,000,000, since a stream may be
    /// cut in any way (FC-3.3-8); past it the connection fails.
    pub tiny_records: u32,
    /// Bytes of records that are no part of a response, headers and padding included: of inactive
    /// ids, of unknown types, second ends of a stream, answers to management records that nobody
    /// asked for. Each byte of a response makes up for one, and the end of a request for all. For a
    /// client; default 1 MiB; past it the connection fails (Q-21).
    pub stray_bytes: usize,
    /// Aborted ids that a client keeps out of use because a late END_REQUEST may still come for
    /// them (Q-12). Default 16; past it the connection takes no more requests.
    pub tombstones: usize,
}

impl Limits {
    /// The defaults of a client: one request at a time.
    #[must_use]
    pub const fn client() -> Self {
        Self { requests: 1, ..Self::server() }
    }

    /// The defaults of a server.
    #[must_use]
    pub const fn server() -> Self {
        Self {
            recv_buffer: 64 * 1024,
            params_bytes: 256 * 1024,
            params_bytes_connection: 1024 * 1024,
            params_pairs: 2048,
            requests: 100,
            unread_request: 256 * 1024,
            unread_connection: 1024 * 1024,
            full_request: FullRequest::Pause,
            send_high_water: 256 * 1024,
            reply_bytes: 16 * 1024,
            idle_records: 10_000,
            tiny_records: 1_000_000,
            stray_bytes: 1024 * 1024,
            tombstones: 16,
        }
    }

    /// These, but for sizes that would pause a connection for ever.
    pub(crate) fn usable(mut self) -> Self {
        for size in [
            &mut self.unread_request,
            &mut self.unread_connection,
            &mut self.send_high_water,
            &mut self.reply_bytes,
        ] {
            *size = (*size).max(1);
        }
        self
    }
}

impl Default for Limits {
    /// [`Limits::server`].
    fn default() -> Self {
        Self::server()
    }
}
