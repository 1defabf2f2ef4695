//! The web server's side: connects to an application and sends requests.
//!
//! ```no_run
//! use fcgi_tokio as fcgi; // or any other adapter
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = fcgi::Client::connect("/run/php-fpm.sock").await?;
//! let request = fcgi::client::Request::responder()
//!     .param("SCRIPT_FILENAME", "/srv/index.php")
//!     .param("REQUEST_METHOD", "GET");
//! let answer = client.send(request).await?.collect(1 << 20).await?;
//! println!("{}", String::from_utf8_lossy(&answer.stdout));
//! # Ok(())
//! # }
//! ```

mod away;
mod body;
mod connection;
mod exchange;
mod mux;
mod over;
mod response;

use std::{
    fmt,
    future::{pending, poll_fn},
    io,
    marker::PhantomData,
    pin::pin,
    sync::Arc,
    time::Instant,
};

use fcgi_engine::{
    client::{Carrier, Pauses, Session, Settings},
    observe,
};
use fcgi_proto::Values;

pub use body::Body;
pub(crate) use connection::Connection;
use connection::Place;
pub(crate) use exchange::Exchange;
pub use fcgi_engine::client::{Chunk, Collected};
pub(crate) use mux::Mux;
pub use response::Response;
pub(crate) use response::response;

use crate::{
    Address, Error, Phase,
    deadline::{within, within_total},
    runtime::Runtime,
    wakers::wait,
};

/// A request to send.
pub type Request = fcgi_engine::client::Request<Body>;

/// Settings for connecting, and time limits. Each setting has a default; [`connect`](Self::connect)
/// makes a [`Client`].
#[derive(Clone, Debug)]
pub struct Connector<R> {
    settings: Settings,
    runtime: PhantomData<fn() -> R>,
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
        Self { settings: Settings::new(), runtime: PhantomData }
    }

    fcgi_engine::client_setters!();

    pub(crate) fn settings(&self) -> Settings {
        self.settings
    }

    /// Connects to an [`Address`], or what converts into one, such as `/run/app.sock` or
    /// `host:9000`.
    ///
    /// # Errors
    /// [`Error::Connect`], [`Error::Timeout`], [`Error::NotCallable`]; [`Error::Address`] for a
    /// text that is not an address.
    ///
    /// # Cancellation safety
    /// Dropping the future closes the connection, if there is one yet.
    pub async fn connect(
        &self,
        address: impl TryInto<Address, Error: Into<Error>>,
    ) -> Result<Client<R>, Error> {
        let address = address.try_into().map_err(Into::into)?;
        let connection = Box::new(self.open(&address, address.to_string().into()).await?);
        Ok(Client { place: connection.into_place(), address })
    }

    /// Opens a connection to the address of this name.
    pub(crate) async fn open(
        &self,
        address: &Address,
        name: Arc<str>,
    ) -> Result<Connection<R>, Error> {
        let io = self.dial(address, &name).await?;
        Ok(Connection::new(io, name, self.settings))
    }

    /// A connected socket.
    pub(crate) async fn dial(
        &self,
        address: &Address,
        name: &Arc<str>,
    ) -> Result<R::Transport, Error> {
        let name = || Arc::clone(name);
        if !address.is_callable() {
            return Err(Error::NotCallable { address: name() });
        }
        let until = self.settings.connect.and_then(|limit| R::now().checked_add(limit));
        let mut pauses = Pauses::new();
        while let Some(connected) = within::<R, _>(until, pin!(R::connect(address))).await {
            match connected {
                Ok(io) => return Ok(io),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let Some(again) = pauses.next(R::now(), until) else { break };
                    within::<R, _>(Some(again), pin!(pending::<()>())).await;
                }
                Err(source) => return Err(Error::Connect { address: name(), source }),
            }
        }
        let limit = self.settings.connect.unwrap_or_default();
        Err(observe::client_timeout(name(), Phase::Connect, limit))
    }

    /// Asks an application for its capacity, on a separate connection. What it does not report is
    /// `None`, and so is everything if it does not answer or closes the connection (Q-7, Q-9).
    ///
    /// # Errors
    /// As for [`connect`](Self::connect); [`Error::Protocol`].
    ///
    /// # Cancellation safety
    /// Dropping the future closes the connection.
    pub async fn query_values(
        &self,
        address: impl TryInto<Address, Error: Into<Error>>,
    ) -> Result<Values, Error> {
        let address = address.try_into().map_err(Into::into)?;
        let mut client = self.open(&address, address.to_string().into()).await?;
        let until = client.session.ask_values(R::now())?;
        let values = |session: &mut Session<_>, _| session.values();
        let values = poll_fn(|cx| client.poll_until(cx, until, values)).await;
        client.session.handle_values(values)
    }
}

/// A connection to an application. It carries one request at a time.
pub struct Client<R: Runtime> {
    place: Place<R>,
    address: Address,
}

impl<R: Runtime> Client<R> {
    fcgi_engine::client_methods! {
        [async; .await], Response<'_, R>,
        send(client, request) {
            let started = R::now();
            let (begin, mut bodies) = request.into_bodies();
            let connection = client.ready(started).await?;
            let core = connection.begin(&begin, &bodies, [started, R::now()], R::now)?;
            let exchange = Exchange::new(core, bodies.take());
            let mut response = Response { running: Some((&mut client.place, exchange)) };
            let first = response.chunk().await?;
            if let Some((_, exchange)) = &mut response.running {
                exchange.core.hold(first);
            }
            Ok(response)
        }
    }

    /// The connection, once it can carry a request whose time counts from `started`.
    async fn ready(&mut self, started: Instant) -> Result<&mut Connection<R>, Error> {
        if self.place.connection().is_none() {
            let (total, name) = (self.place.total(), Arc::clone(self.place.address()));
            within_total::<R, _>(total, started, || name, pin!(self.here())).await?;
        }
        let connection = self.place.here()?;
        if !connection.session.is_fresh() {
            connection.settle(Some(started)).await?;
        }
        Ok(connection)
    }

    /// The connection, once no detached request has it.
    async fn here(&mut self) -> Result<&mut Connection<R>, Error> {
        poll_fn(|cx| {
            let mut _before = None;
            self.place.poll_back(|who| _before = wait(who, cx))
        })
        .await;
        Ok(self.place.here()?)
    }
}

impl<R: Runtime> fmt::Debug for Client<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}
