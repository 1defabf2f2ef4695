//! The web server's side: connects to an application and sends requests.
//!
//! ```no_run
//! use fcgi_tokio as fcgi; // or any other adapter
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = fcgi::Client::connect(&"unix:/run/php-fpm.sock".parse()?).await?;
//! let request = fcgi::client::Request::responder()
//!     .param("SCRIPT_FILENAME", "/srv/index.php")
//!     .param("REQUEST_METHOD", "GET");
//! let answer = client.send(request).await?.collect(1 << 20).await?;
//! println!("{}", String::from_utf8_lossy(&answer.stdout));
//! # Ok(())
//! # }
//! ```

mod body;
mod response;

use std::{
    future::{Future, poll_fn},
    io,
    marker::PhantomData,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Limits, Params, Role, Values,
    client::Event,
};

pub use body::Body;
pub use response::{Chunk, Collected, Response};

use crate::{
    Address, Error, Phase,
    deadline::Deadline,
    pump::{self, Read, Wrote},
    runtime::Runtime,
};

/// A request to send.
#[derive(Debug)]
pub struct Request {
    role: Role,
    params: Params,
    keep_conn: bool,
    stdin: Body,
    data: Body,
}

impl Request {
    /// A request of this role, with no parameters, empty bodies, and the connection kept.
    #[must_use]
    pub fn new(role: Role) -> Self {
        Self {
            role,
            params: Params::new(),
            keep_conn: true,
            stdin: Body::empty(),
            data: Body::empty(),
        }
    }

    /// A Responder request.
    #[must_use]
    pub fn responder() -> Self {
        Self::new(Role::Responder)
    }

    /// An Authorizer request, whose input is its parameters alone.
    #[must_use]
    pub fn authorizer() -> Self {
        Self::new(Role::Authorizer)
    }

    /// A Filter request.
    #[must_use]
    pub fn filter() -> Self {
        Self::new(Role::Filter)
    }

    /// Adds a parameter. The connection is not reused when CONTENT_LENGTH is not what STDIN turns
    /// out to have (Q-4).
    #[must_use]
    pub fn param(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.params.push(name, value);
        self
    }

    /// Adds parameters.
    #[must_use]
    pub fn params<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        mut self,
        params: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.params.extend(params);
        self
    }

    /// STDIN: the body of the HTTP request. Not for an Authorizer, which has none.
    #[must_use]
    pub fn stdin(mut self, body: impl Into<Body>) -> Self {
        self.stdin = body.into();
        self
    }

    /// DATA: a Filter's file.
    #[must_use]
    pub fn data(mut self, body: impl Into<Body>) -> Self {
        self.data = body.into();
        self
    }

    /// Whether the application is asked to keep the connection open (FC-3.5-1). Default true.
    #[must_use]
    pub fn keep_conn(mut self, keep_conn: bool) -> Self {
        self.keep_conn = keep_conn;
        self
    }
}

/// How to connect and how long to wait. Each setting has a default; [`connect`](Self::connect)
/// makes a [`Client`].
#[derive(Debug)]
pub struct Connector<R> {
    limits: Limits,
    connect: Option<Duration>,
    first_byte: Option<Duration>,
    next_byte: Option<Duration>,
    total: Option<Duration>,
    drain: Duration,
    values: Duration,
    runtime: PhantomData<fn() -> R>,
}

impl<R> Clone for Connector<R> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<R: Runtime> Default for Connector<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Runtime> Connector<R> {
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
            runtime: PhantomData,
        }
    }

    /// What one connection may cost. Default [`Limits::client`].
    #[must_use]
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How long connecting may take. Default 10 s.
    #[must_use]
    pub const fn connect_timeout(mut self, limit: Option<Duration>) -> Self {
        self.connect = limit;
        self
    }

    /// How long the first byte of a response may take, from the last byte that could be sent.
    /// Default 60 s.
    #[must_use]
    pub const fn first_byte_timeout(mut self, limit: Option<Duration>) -> Self {
        self.first_byte = limit;
        self
    }

    /// How long the next byte of a response may take. Default 60 s.
    #[must_use]
    pub const fn next_byte_timeout(mut self, limit: Option<Duration>) -> Self {
        self.next_byte = limit;
        self
    }

    /// How long a whole request may take, from `send`. Default no limit.
    #[must_use]
    pub const fn total_timeout(mut self, limit: Option<Duration>) -> Self {
        self.total = limit;
        self
    }

    /// How long an aborted request may take to end before the connection is given up, when the
    /// client is used again (Q-6). Default 1 s.
    #[must_use]
    pub const fn drain_timeout(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }

    /// How long an application may take to answer GET_VALUES; many never do (Q-7, Q-9). Default
    /// 1 s.
    #[must_use]
    pub const fn values_timeout(mut self, limit: Duration) -> Self {
        self.values = limit;
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::Timeout`], [`Error::NotCallable`].
    ///
    /// # Cancellation safety
    /// Dropping the future closes the connection, if there is one yet.
    pub async fn connect(&self, address: &Address) -> Result<Client<R>, Error> {
        let name: Arc<str> = address.to_string().into();
        if *address == Address::Stdin {
            return Err(Error::NotCallable { address: name });
        }
        let mut connect = pin!(R::connect(address));
        let mut deadline = Deadline::<R>::new();
        let until = self.connect.and_then(|limit| R::now().checked_add(limit));
        let connected = poll_fn(|cx| match connect.as_mut().poll(cx) {
            Poll::Ready(connected) => Poll::Ready(Some(connected)),
            Poll::Pending => deadline.poll(cx, until, R::now()).map(|()| None),
        })
        .await;
        let io = match connected {
            Some(Ok(io)) => io,
            Some(Err(source)) => return Err(Error::Connect { address: name, source }),
            None => {
                let limit = self.connect.unwrap_or_default();
                return Err(Error::Timeout { address: name, phase: Phase::Connect, limit });
            }
        };
        Ok(Client {
            io,
            connection: ClientConnection::new(ClientConfig { limits: self.limits }),
            address: name,
            settings: self.clone(),
            deadline,
            write_gone: false,
            used: false,
            closed: false,
        })
    }

    /// Asks an application for its capacity, on a connection of its own. What it does not say, or
    /// all of it when it does not answer or closes, is `None` (Q-7, Q-9).
    ///
    /// # Errors
    /// As for [`connect`](Self::connect); [`Error::Protocol`].
    ///
    /// # Cancellation safety
    /// Dropping the future closes the connection.
    pub async fn query_values(&self, address: &Address) -> Result<Values, Error> {
        let mut client = self.connect(address).await?;
        client.connection.query_values()?;
        let until = R::now().checked_add(self.values);
        poll_fn(|cx| client.poll_values(cx, until)).await
    }
}

/// A connection to an application, which carries one request at a time.
#[derive(Debug)]
pub struct Client<R: Runtime> {
    io: R::Transport,
    connection: ClientConnection,
    address: Arc<str>,
    settings: Connector<R>,
    deadline: Deadline<R>,
    /// The application takes no more bytes, but may still have sent some.
    write_gone: bool,
    /// A request was sent before.
    used: bool,
    /// Not to be used again.
    closed: bool,
}

impl<R: Runtime> Client<R> {
    /// Connects with the default settings; [`Connector`] has others.
    ///
    /// # Errors
    /// As for [`Connector::connect`].
    ///
    /// # Cancellation safety
    /// Dropping the future closes the connection, if there is one yet.
    pub async fn connect(address: &Address) -> Result<Self, Error> {
        Connector::new().connect(address).await
    }

    /// Sends a request and waits for the first bytes of its response, or its end. STDIN and DATA
    /// go on being sent while the response is read (Q-15).
    ///
    /// A response that was dropped before its end is drained first, for
    /// [`drain_timeout`](Connector::drain_timeout).
    ///
    /// # Errors
    /// [`Error::Closed`] when the connection can't be used again; what [`Response::chunk`] can
    /// meet.
    ///
    /// # Cancellation safety
    /// Dropping the future aborts the request: nothing of it reaches a later one.
    pub async fn send(&mut self, request: Request) -> Result<Response<'_, R>, Error> {
        if std::mem::replace(&mut self.used, true) {
            self.settle().await?;
        }
        let Request { role, params, keep_conn, stdin, data } = request;
        let content_length =
            params.get_str("CONTENT_LENGTH").and_then(|length| length.parse().ok());
        let key = self.connection.begin(BeginRequest { role, keep_conn, params })?;
        let mut response = Response::new(self, key, role, [stdin, data], content_length);
        response.first().await?;
        Ok(response)
    }

    /// Whether another request can be sent, as far as is known: the application may close a kept
    /// connection at any time.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        !self.closed && !self.write_gone && self.connection.is_reusable()
    }

    /// Where the application is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Waits for the end of a request that was aborted, and notices a connection that the
    /// application has closed meanwhile.
    async fn settle(&mut self) -> Result<(), Error> {
        let until = R::now().checked_add(self.settings.drain);
        let settled = poll_fn(|cx| self.poll_settled(cx, until)).await;
        if settled && self.is_reusable() {
            return Ok(());
        }
        self.closed = true;
        Err(Error::Closed { address: Arc::clone(&self.address) })
    }

    fn poll_settled(
        &mut self,
        cx: &mut Context<'_>,
        until: Option<std::time::Instant>,
    ) -> Poll<bool> {
        loop {
            while let Ok(Some(_)) = self.connection.poll_event() {}
            self.write(cx);
            match pump::read(&mut self.io, &mut self.connection, cx) {
                Read::Some => {}
                Read::Nothing => break,
                Read::Eof | Read::Gone(_) => return Poll::Ready(false),
            }
        }
        if self.closed || self.connection.is_closed() || self.connection.is_reusable() {
            return Poll::Ready(true);
        }
        self.deadline.poll(cx, until, R::now()).map(|()| false)
    }

    fn poll_values(
        &mut self,
        cx: &mut Context<'_>,
        until: Option<std::time::Instant>,
    ) -> Poll<Result<Values, Error>> {
        loop {
            match self.connection.poll_event() {
                Ok(Some(Event::Values(values))) => return Poll::Ready(Ok(values)),
                Ok(Some(Event::UnknownType(_))) => return Poll::Ready(Ok(Values::default())),
                Ok(Some(_)) => continue,
                Ok(None) => {}
                Err(source) => {
                    let address = Arc::clone(&self.address);
                    return Poll::Ready(Err(Error::Protocol { address, source }));
                }
            }
            self.write(cx);
            match pump::read(&mut self.io, &mut self.connection, cx) {
                Read::Some => {}
                Read::Nothing => break,
                Read::Eof | Read::Gone(_) => return Poll::Ready(Ok(Values::default())),
            }
        }
        self.deadline.poll(cx, until, R::now()).map(|()| Ok(Values::default()))
    }

    /// Writes what is queued; says whether any byte went out.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        if self.write_gone {
            return false;
        }
        match pump::write(&mut self.io, &mut self.connection, cx) {
            Wrote::Some { .. } => true,
            Wrote::Nothing | Wrote::Blocked => false,
            Wrote::Gone(error) => {
                tracing::debug!(address = &*self.address, %error, "application takes no more");
                self.write_gone = true;
                false
            }
        }
    }

    /// Sends what can be sent at once, from where nothing can be waited for.
    fn write_now(&mut self) {
        self.write(&mut Context::from_waker(Waker::noop()));
    }
}

/// A reset is how an application that closes early looks like from here (Q-8).
fn is_close(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
