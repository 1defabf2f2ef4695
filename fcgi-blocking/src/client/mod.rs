//! The web server's side: connects to an application and sends requests.
//!
//! A [`Client`] is one connection, which carries one request at a time. A [`Connector`] makes it,
//! with time limits. Calls block, in poll(2), until there is something to hand out, a limit passes,
//! or a [`CancelHandle`] ends them from another thread. A [`Pool`](crate::Pool) keeps connections
//! and shares them between threads.
//!
//! ```no_run
//! use fcgi_blocking as fcgi;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = fcgi::Client::connect("/run/php-fpm.sock")?;
//! let request = fcgi::client::Request::responder()
//!     .param("SCRIPT_FILENAME", "/srv/index.php")
//!     .param("REQUEST_METHOD", "GET");
//! let answer = client.send(request)?.collect(1 << 20)?;
//! println!("{}", String::from_utf8_lossy(&answer.stdout));
//! # Ok(())
//! # }
//! ```

pub(crate) mod away;
mod body;
mod cancel;
mod connect;
pub(crate) mod exchange;
pub(crate) mod link;
pub(crate) mod mux;
mod over;
mod patience;
mod response;
pub(crate) mod wait;

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use fcgi_engine::{
    client::{Carrier, Settings},
    observe,
};
use fcgi_proto::Values;

pub use body::Body;
pub use cancel::CancelHandle;
pub(crate) use cancel::Wake;
pub use fcgi_engine::client::{Chunk, Collected};
pub use response::Response;

use crate::{Address, Error, Phase, stream::Stream, waker::Waker};
use connect::{Attempt, Failure};
use exchange::Exchange;
use link::{Link, Place, Session};
pub(crate) use patience::Patience;

/// A request to send.
pub type Request = fcgi_engine::client::Request<Body>;

/// Settings for connecting, and time limits. Each setting has a default; [`connect`](Self::connect)
/// makes a [`Client`].
#[derive(Clone, Debug, Default)]
pub struct Connector {
    pub(crate) settings: Settings,
}

impl Connector {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { settings: Settings::new() }
    }

    fcgi_engine::client_setters!();

    /// Connects to an [`Address`], or what converts into one, such as `/run/app.sock` or
    /// `host:9000`. The system looks up a host's name and may take as long as it likes: the limit
    /// counts from when its addresses are known, and covers all of them. If a unix socket's backlog
    /// is full, it tries again until the limit.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::Timeout`], [`Error::NotCallable`].
    pub fn connect(
        &self,
        address: impl TryInto<Address, Error: Into<Error>>,
    ) -> Result<Client, Error> {
        self.client(address.try_into().map_err(Into::into)?, None)
    }

    fn client(&self, address: Address, cancel: Option<&CancelHandle>) -> Result<Client, Error> {
        let link = self.link(&address, cancel)?;
        Ok(Client::new(link, address))
    }

    /// Like [`connect`](Self::connect), but another thread can cancel it.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect); [`Error::Cancelled`].
    pub fn connect_cancellable(
        &self,
        address: impl TryInto<Address, Error: Into<Error>>,
        cancel: &CancelHandle,
    ) -> Result<Client, Error> {
        self.client(address.try_into().map_err(Into::into)?, Some(cancel))
    }

    /// Asks an application for its capacity, on a separate connection. What it does not report is
    /// `None`, and so is everything if it does not answer or closes the connection (Q-7, Q-9).
    ///
    /// # Errors
    /// As for [`connect`](Self::connect); [`Error::Protocol`].
    pub fn query_values(
        &self,
        address: impl TryInto<Address, Error: Into<Error>>,
    ) -> Result<Values, Error> {
        let address = address.try_into().map_err(Into::into)?;
        let patience = Patience::new(Instant::now(), None, None);
        query(&mut self.link(&address, None)?, &patience)
    }

    fn link(&self, address: &Address, cancel: Option<&CancelHandle>) -> Result<Link, Error> {
        let name = address.to_string().into();
        let dialled = dial(address, &name, self.settings.connect, cancel);
        let (stream, waker) = dialled.map_err(observe::logged)?;
        Ok(Link::new(stream, Session::new(name, self.settings), waker))
    }
}

/// A connected socket, and the waker that ends a wait for it, if one was needed. A time limit is
/// not logged yet: it may stand for the limit of the whole request.
pub(crate) fn dial(
    address: &Address,
    name: &Arc<str>,
    limit: Option<Duration>,
    cancel: Option<&CancelHandle>,
) -> Result<(Stream, Option<Arc<Waker>>), Error> {
    let name = Arc::clone(name);
    if !address.is_callable() {
        return Err(Error::NotCallable { address: name });
    }
    let mut waker = None;
    match (Attempt { limit, cancel, waker: &mut waker }).connect(address) {
        Ok(stream) => Ok((stream, waker)),
        Err(Failure::Io(source)) => Err(Error::Connect { address: name, source }),
        Err(Failure::Cancelled) => Err(Error::Cancelled { address: name }),
        Err(Failure::TimedOut) => {
            let (phase, limit) = (Phase::Connect, limit.unwrap_or_default());
            Err(Error::Timeout { address: name, phase, limit })
        }
    }
}

/// Asks for the capacity on a new connection.
pub(crate) fn query(link: &mut Link, patience: &Patience<'_>) -> Result<Values, Error> {
    let until = link.session.ask_values(Instant::now())?;
    let values = link.wait_for(until, patience.cancel, |session, _| session.values())?;
    if values.is_none() {
        // If the limit of the whole request ended the wait, that is not an answer.
        patience.check(link.session.address())?;
    }
    link.session.handle_values(values)
}

/// A connection to an application. It carries one request at a time.
#[derive(Debug)]
pub struct Client {
    place: Place,
    address: Address,
    /// Cancels the next request.
    cancel: Option<CancelHandle>,
}

impl Client {
    fcgi_engine::client_methods! {
        [;], Response<'_>,
        send(client, request) {
            let cancel = client.cancel.take();
            client.begin(request, cancel)
        }
    }

    /// Like [`send`](Self::send), with the caller's handle instead of the one of
    /// [`cancel_handle`](Self::cancel_handle).
    ///
    /// # Errors
    /// As for [`send`](Self::send); [`Error::Cancelled`].
    pub fn send_cancellable(
        &mut self,
        request: Request,
        cancel: &CancelHandle,
    ) -> Result<Response<'_>, Error> {
        self.begin(request, Some(cancel.clone()))
    }

    /// A handle that cancels the next request sent on this client, from before it is sent until it
    /// has ended, and no other request.
    #[must_use]
    pub fn cancel_handle(&mut self) -> CancelHandle {
        self.cancel.get_or_insert_default().clone()
    }

    fn new(link: Link, address: Address) -> Self {
        let place = Place::new(Box::new(link), |link| &link.session);
        Self { place, address, cancel: None }
    }

    fn begin(
        &mut self,
        request: Request,
        cancel: Option<CancelHandle>,
    ) -> Result<Response<'_>, Error> {
        let name = Arc::clone(self.place.address());
        let started = Instant::now();
        // Wait until no detached request uses the connection.
        let patience = Patience::new(started, self.place.total(), cancel.as_ref());
        let wait = |who: &mut Option<_>| *who = Some(thread::current());
        patience.wait(&name, || self.place.poll_back(wait))?;
        let link = self.place.here()?;
        if !link.session.is_fresh() {
            link.settle(started, cancel.as_ref())?;
        }
        let (begin, mut bodies) = request.into_bodies();
        let core = link.begin(&begin, &bodies, [started, Instant::now()], Instant::now)?;
        let exchange = Exchange::new(core, bodies.take(), cancel);
        let mut response = Response::new(&mut self.place, exchange);
        response.first()?;
        Ok(response)
    }
}
