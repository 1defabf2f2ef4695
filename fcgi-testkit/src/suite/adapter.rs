//! The interface of an adapter to the suite.

use std::time::Duration;

use bytes::Bytes;
use fcgi_engine::{
    Address, Error, Listener, client,
    client::{Chunk, Collected},
    pool, server,
};
use fcgi_proto::{Values, pool::PoolStats};

use super::{FeedBody, Script};

/// An adapter under test.
pub trait Adapter: Send + Sync + 'static {
    /// The package whose examples the suite builds and runs.
    fn package(&self) -> &'static str;

    /// Whether a handler is a future, which can be dropped, and a body can be waited for while the
    /// response is read. If not, the cases that need this are left out.
    fn is_async(&self) -> bool;

    /// The number of threads of `hello` with `FCGI_THREADS=1`: one, and those that wait for others.
    fn fewest_threads(&self) -> u64;

    /// Starts to serve with these settings, in its own threads.
    fn serve(
        &self,
        listener: Listener,
        settings: server::Settings,
        script: Script,
    ) -> Box<dyn Serving>;

    /// Connects a client with these settings.
    ///
    /// # Errors
    /// Errors of the client.
    fn connect(
        &self,
        address: &Address,
        settings: client::Settings,
    ) -> Result<Box<dyn TestClient>, Error>;

    /// A pool of connections to an application.
    fn pool(
        &self,
        address: &Address,
        connection: client::Settings,
        settings: pool::Settings,
    ) -> Box<dyn TestPool>;

    /// Asks an application for its capacity.
    ///
    /// # Errors
    /// Errors of the client.
    fn query_values(&self, address: &Address, settings: client::Settings) -> Result<Values, Error>;
}

/// A running server. Dropping it ends it.
pub trait Serving: Send {
    /// Where it listens.
    fn address(&self) -> &Address;

    /// Starts the shutdown.
    fn stop(&mut self);

    /// Ends it without a shutdown, as dropping its future does.
    fn abandon(&mut self);

    /// Its result when it has ended; `None` if it still runs after this time.
    fn ended(&mut self, within: Duration) -> Option<Result<(), Error>>;
}

/// A request of the suite.
pub type TestRequest = client::Request<TestBody>;

/// A request's body.
#[derive(Debug, Default)]
pub enum TestBody {
    /// No bytes.
    #[default]
    Empty,
    /// In memory.
    Bytes(Bytes),
    /// As the test sends it.
    Feed(FeedBody),
}

impl From<Bytes> for TestBody {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u8>> for TestBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<&'static str> for TestBody {
    fn from(text: &'static str) -> Self {
        Self::Bytes(text.into())
    }
}

impl From<FeedBody> for TestBody {
    fn from(body: FeedBody) -> Self {
        Self::Feed(body)
    }
}

/// A client's connection, with blocking calls.
pub trait TestClient: Send {
    /// Sends a request and waits for the first bytes of its response, or its end.
    ///
    /// # Errors
    /// Errors of the client.
    fn send<'a>(&'a mut self, request: TestRequest) -> Result<Box<dyn TestResponse + 'a>, Error>;

    /// Sends a request, and aborts it at some point on the way.
    ///
    /// # Errors
    /// Errors of the client.
    fn send_and_cancel(
        &mut self,
        request: TestRequest,
        point: CancelPoint,
    ) -> Result<Progress, Error>;

    /// Whether another request can be sent.
    fn is_reusable(&self) -> bool;
}

/// A pool, with blocking calls.
pub trait TestPool: Send + Sync {
    /// Sends a request as soon as there is a connection, and waits for the first bytes of its
    /// response, or its end.
    ///
    /// # Errors
    /// Errors of the pool.
    fn send(&self, request: TestRequest) -> Result<Box<dyn TestResponse>, Error>;

    /// The application's capacity.
    ///
    /// # Errors
    /// Errors of the pool.
    fn values(&self) -> Result<Values, Error>;

    /// The numbers of connections and callers.
    fn stats(&self) -> PoolStats;

    /// Takes no more requests.
    fn close(&self);
}

/// A response in progress. Dropping it aborts the request.
pub trait TestResponse {
    /// The next bytes.
    ///
    /// # Errors
    /// Errors of the response.
    fn chunk(&mut self) -> Result<Option<Chunk>, Error>;

    /// The application's status, if the response was read to its end.
    fn app_status(&self) -> Option<u32>;

    /// All of the response.
    ///
    /// # Errors
    /// Errors of the response.
    fn collect(self: Box<Self>, limit: usize) -> Result<Collected, Error>;

    /// Detaches the request from its caller.
    fn detach(self: Box<Self>);
}

/// Where a request is aborted. The adapter defines the unit: a poll of a future, or some time.
#[derive(Clone, Copy, Debug)]
pub struct CancelPoint {
    /// How many units sending may take.
    pub sending: u32,
    /// How many chunks are read.
    pub chunks: u32,
    /// How many units each chunk may take.
    pub reading: u32,
}

/// How far an aborted request got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It was aborted.
    Cancelled,
    /// It had ended before.
    Finished,
}
