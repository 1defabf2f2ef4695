//! How much one connection may cost, whatever its peer sends.
//!
//! Nothing is allocated in advance, and a length that the peer only declares allocates nothing.
//! Each limit says what happens when it is reached: the connection *pauses*
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

/// What happens when one request reaches its limit of unread bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum FullRequest {
    /// The whole connection pauses until the request is read. FastCGI has no window per request, so
    /// the other requests on the connection wait too.
    #[default]
    Pause,
    /// The request is aborted, so that the others go on. A server drops its input and reports
    /// `Aborted`; a client sends ABORT_REQUEST and reports `Outcome::Overrun`.
    Abort,
}

/// Limits of one connection. All sizes are in bytes. A limit of 0 that would block all progress is
/// treated as 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// The largest window to read into. A connection starts with 4 KiB (or this, if it is less) and
    /// grows up to this while reads fill the window. Default 64 KiB; at least 8.
    pub recv_buffer: usize,
    /// Encoded bytes of one request's PARAMS. Default 256 KiB; past it the request fails
    /// (FC-3.4-5).
    pub params_bytes: usize,
    /// Encoded bytes of all requests whose PARAMS have not ended yet. Default 1 MiB; the request
    /// that exceeds it is refused with OVERLOADED.
    pub params_bytes_connection: usize,
    /// Parameters of one request. Default 2,048; past it the request fails (H-6).
    pub params_pairs: usize,
    /// Concurrent requests. Default 1 for a client (Q-10) and 100 for a server. A server with a
    /// limit of 1 answers a second request with CANT_MPX_CONN, and with a higher limit answers
    /// requests past it with OVERLOADED (FC-5.5-2).
    pub requests: usize,
    /// Unread stream bytes of one request. Default 256 KiB; past it,
    /// [`full_request`](Self::full_request) decides.
    pub unread_request: usize,
    /// Unread stream bytes of the connection. Default 1 MiB; past it the connection pauses.
    pub unread_connection: usize,
    /// What happens at [`unread_request`](Self::unread_request). Default `Pause`.
    pub full_request: FullRequest,
    /// Queued bytes at which `write` takes no more. Default 256 KiB.
    pub send_high_water: usize,
    /// Unsent bytes of the replies that the connection makes by itself (GET_VALUES_RESULT,
    /// UNKNOWN_TYPE, refusals). Default 16 KiB; past it the connection pauses until the peer reads
    /// (H-9).
    pub reply_bytes: usize,
    /// Consecutive records of fewer than 8 bytes that change nothing: repeated empty records,
    /// records of inactive ids or unknown types, requests aborted before they were complete. A
    /// client counts them whatever their length, and unrequested answers to management records too.
    /// Default 10,000; past it the connection fails (H-9).
    pub idle_records: u32,
    /// Consecutive stream records with fewer than 8 bytes. Default 1,000,000, because a stream may
    /// be cut in any way (FC-3.3-8); past it the connection fails.
    pub tiny_records: u32,
    /// Bytes of records that belong to no request or response, headers and padding included. For a
    /// client these are records of inactive ids and unknown types, repeated ends of a stream, and
    /// unrequested answers to management records; for a server, streams that the request's role does
    /// not have, such as an Authorizer's STDIN (FC-6.3-1). Each byte of a stream cancels one of
    /// them. All are cancelled by the end of a response, and by the start of a request. Default
    /// 1 MiB; past it the connection fails (Q-21).
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

    /// The same limits, with sizes raised that would pause a connection for ever.
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
