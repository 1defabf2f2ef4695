//! What all clients share: a request to send, what comes back, and how long to wait.
//!
//! [`Request`] is generic over the adapter's type of body.
//!
//! ```
//! use fcgi_engine::client::Request;
//!
//! let request: Request<Vec<u8>> = Request::responder()
//!     .param("SCRIPT_FILENAME", "/srv/index.php")
//!     .param("REQUEST_METHOD", "GET");
//! assert_eq!(request.begin().params.get_str("REQUEST_METHOD"), Some("GET"));
//! ```

mod body;
mod carrier;
mod exchange;
mod place;
mod response;
mod session;

use std::{
    io,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fcgi_proto::{BeginRequest, Input, Limits, Params, Role};

use crate::Joined;

pub use body::{Bodies, PieceReader, Pieces, Replay};
pub use carrier::Carrier;
pub use exchange::{Exchange, Limit};
pub use place::{Home, Place};
pub use session::{Session, Settling, Wrote};

/// A request to send. `B` is the adapter's body.
#[derive(Debug)]
pub struct Request<B> {
    begin: BeginRequest,
    /// STDIN and DATA. In a box, since a request is moved often and most have none.
    bodies: Option<Box<[B; 2]>>,
}

impl<B> Request<B> {
    /// A request with this role, without parameters, with empty bodies, and with a kept connection.
    #[must_use]
    pub fn new(role: Role) -> Self {
        let begin = BeginRequest { role, keep_conn: true, params: Params::new() };
        Self { begin, bodies: None }
    }

    /// A Responder request.
    #[must_use]
    pub fn responder() -> Self {
        Self::new(Role::Responder)
    }

    /// An Authorizer request. Its only input is its parameters.
    #[must_use]
    pub fn authorizer() -> Self {
        Self::new(Role::Authorizer)
    }

    /// A Filter request.
    #[must_use]
    pub fn filter() -> Self {
        Self::new(Role::Filter)
    }

    /// Adds a parameter. If CONTENT_LENGTH turns out not to be the length of STDIN, the connection
    /// is not reused (Q-4).
    #[must_use]
    pub fn param(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.begin.params.push(name, value);
        self
    }

    /// Adds parameters.
    #[must_use]
    pub fn params<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        mut self,
        params: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.begin.params.extend(params);
        self
    }

    /// Adds all parameters of a block in one step. Requests that are alike can
    /// [share](Params::shared) a block that was encoded once:
    ///
    /// ```
    /// use fcgi_engine::client;
    /// use fcgi_proto::Params;
    /// # type Request = client::Request<Vec<u8>>;
    ///
    /// let shared = Params::from_iter([
    ///     ("SCRIPT_FILENAME", "/srv/index.php"),
    ///     ("REQUEST_METHOD", "GET"),
    /// ])
    /// .shared();
    /// for page in ["page=1", "page=2"] {
    ///     let request = Request::responder().append_params(&shared).param("QUERY_STRING", page);
    ///     assert_eq!(request.begin().params.len(), 3);
    /// }
    /// let request = Request::responder().append_params(&shared);
    /// assert_eq!(request.begin().params, shared, "not even copied");
    /// ```
    #[must_use]
    pub fn append_params(mut self, params: &Params) -> Self {
        self.begin.params.append(params);
        self
    }

    /// Whether to ask the application to keep the connection open (FC-3.5-1). Default true.
    ///
    /// A pool asks only if it also keeps connections. On a connection that several requests share
    /// it always asks, since the connection would otherwise close under the others.
    #[must_use]
    pub fn keep_conn(mut self, keep_conn: bool) -> Self {
        self.begin.keep_conn = keep_conn;
        self
    }

    /// The request's head: its role, its parameters in the order in which they are sent, and
    /// whether to keep the connection.
    #[must_use]
    pub const fn begin(&self) -> &BeginRequest {
        &self.begin
    }
}

impl<B: Default> Request<B> {
    /// STDIN: the body of the HTTP request. An Authorizer has none.
    #[must_use]
    pub fn stdin(self, body: impl Into<B>) -> Self {
        self.body(Input::Stdin, body.into())
    }

    /// DATA: a Filter's file.
    #[must_use]
    pub fn data(self, body: impl Into<B>) -> Self {
        self.body(Input::Data, body.into())
    }

    fn body(mut self, input: Input, body: B) -> Self {
        self.bodies.get_or_insert_with(Default::default)[input as usize] = body;
        self
    }

    /// The request's head, and STDIN and DATA.
    #[must_use]
    pub fn into_parts(self) -> (BeginRequest, [B; 2]) {
        (self.begin, self.bodies.map(|bodies| *bodies).unwrap_or_default())
    }
}

impl<B: Replay> Request<B> {
    /// A request from its parts.
    #[must_use]
    pub fn from_parts(begin: BeginRequest, bodies: [B; 2]) -> Self {
        let has_body = !bodies.iter().all(Replay::is_empty);
        Self { begin, bodies: has_body.then(|| Box::new(bodies)) }
    }

    /// The request's head, and its bodies, to be sent once.
    #[must_use]
    pub fn into_bodies(self) -> (BeginRequest, Bodies<B>) {
        (self.begin, Bodies::once(self.bodies))
    }
}

/// Bytes of a response, in the order in which they came. The specification has these two streams and
/// no other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Chunk {
    /// Of STDOUT: the CGI response.
    Stdout(Bytes),
    /// Of STDERR: error text. It may hold anything, control bytes too (H-10).
    Stderr(Bytes),
}

/// A whole response.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Collected {
    /// STDOUT: the CGI response.
    pub stdout: Bytes,
    /// STDERR: error text.
    pub stderr: Bytes,
    /// What a CGI program would pass to `exit`: 0 is success.
    pub app_status: u32,
}

impl Collected {
    /// Of STDOUT and STDERR.
    #[doc(hidden)]
    #[must_use]
    pub fn new([stdout, stderr]: &mut [Joined; 2], app_status: Option<u32>) -> Self {
        let app_status = app_status.unwrap_or_default();
        Self { stdout: stdout.take(), stderr: stderr.take(), app_status }
    }
}

/// What one connection of a client may cost, and how long it waits.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Default [`Limits::client`].
    pub limits: Limits,
    /// How long connecting may take. Default 10 s.
    pub connect: Option<Duration>,
    /// How long the first byte of a response may take, from the last byte that could be sent.
    /// Default 60 s.
    pub first_byte: Option<Duration>,
    /// How long the next byte of a response may take, from the one before or from the last byte that
    /// could be sent. Default 60 s.
    pub next_byte: Option<Duration>,
    /// How long a whole request may take, from when it is sent. Default no limit.
    pub total: Option<Duration>,
    /// How long an aborted request may take to end before its connection is closed (Q-6). Default 1
    /// s.
    pub drain: Duration,
    /// How long the answer to GET_VALUES may take (Q-7, Q-9). Default 1 s.
    pub values: Duration,
}

impl Settings {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            limits: Limits::client(),
            connect: Some(Duration::from_secs(10)),
            first_byte: Some(Duration::from_secs(60)),
            next_byte: Some(Duration::from_secs(60)),
            total: None,
            drain: Duration::from_secs(1),
            values: Duration::from_secs(1),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

/// The builder methods that set the [`Settings`] in `self.settings`, for an adapter's builder.
#[doc(hidden)]
#[macro_export]
macro_rules! client_setters {
    () => {
        $crate::setters! {
            /// What one connection may cost. Default
            /// [`Limits::client`](fcgi_proto::Limits::client).
            limits(limits: ::fcgi_proto::Limits) { self.settings.limits = limits }

            /// How long connecting may take. Default 10 s.
            connect_timeout(limit) { self.settings.connect }

            /// How long the first byte of a response may take, from the last byte that could be
            /// sent. Default 60 s.
            first_byte_timeout(limit) { self.settings.first_byte }

            /// How long the next byte of a response may take, from the one before or from the last
            /// byte that could be sent. Default 60 s.
            next_byte_timeout(limit) { self.settings.next_byte }

            /// How long a whole request may take, from when it is sent. Default no limit.
            total_timeout(limit) { self.settings.total }

            /// How long an aborted request may take to end before its connection is closed (Q-6).
            /// Default 1 s; `None` waits for ever.
            drain_timeout(limit or MAX) { self.settings.drain }

            /// How long an application may take to answer GET_VALUES. Many never do (Q-7, Q-9).
            /// Default 1 s; `None` waits for ever.
            values_timeout(limit or MAX) { self.settings.values }
        }
    };
}

/// When to connect again to a unix socket whose backlog is full: nothing reports when it has room.
#[derive(Debug)]
pub struct Pauses(Duration);

impl Pauses {
    const FIRST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(50);

    /// Before the first attempt.
    #[must_use]
    pub const fn new() -> Self {
        Self(Self::FIRST)
    }

    /// The time of the next attempt, after one that failed; `None` once `until` has passed.
    pub fn next(&mut self, now: Instant, until: Option<Instant>) -> Option<Instant> {
        if until.is_some_and(|until| now >= until) {
            return None;
        }
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LONGEST);
        Some(until.map_or(now + pause, |until| until.min(now + pause)))
    }
}

impl Default for Pauses {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether an error is how an early close by the application shows up on this side (Q-8).
#[must_use]
pub fn is_close(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
