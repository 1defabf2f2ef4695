//! The application's side: accepts connections and runs a handler on each request.
//!
//! ```no_run
//! use fcgi_tokio as fcgi; // or any other adapter
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), fcgi::Error> {
//! let listener = fcgi::Listener::from_env("unix:/run/app.sock")?;
//! let hello = |request: fcgi::Request| async move {
//!     request.stdout().write_all("Content-Type: text/plain\r\n\r\nhello\n").await
//! };
//! fcgi::serve(listener, hello).with_graceful_shutdown(fcgi::shutdown_signal()).await
//! # }
//! ```

mod connection;
mod handler;
mod request;
mod serve;
mod shared;
mod state;

use std::{fmt, marker::PhantomData, time::Duration};

use fcgi_engine::server::Settings;

pub use fcgi_engine::server::{CANCELLED, EndOfFile, FAILED, Failed, IntoAppStatus, PANICKED};
pub use handler::Handler;
pub use request::{InputStream, OutputStream, Request};
pub use serve::Serve;

use crate::{Acceptor, runtime::Runtime};

/// A FastCGI application's settings, by value: each has a default, and [`serve`](Self::serve) starts
/// with them.
pub struct Server<R> {
    pub(crate) settings: Settings,
    runtime: PhantomData<fn() -> R>,
}

impl<R> Clone for Server<R> {
    fn clone(&self) -> Self {
        Self { settings: self.settings.clone(), runtime: PhantomData }
    }
}

impl<R> fmt::Debug for Server<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("settings", &self.settings).finish()
    }
}

impl<R> Default for Server<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> Server<R> {
    /// The defaults. Nothing is read from the environment.
    #[must_use]
    pub fn new() -> Self {
        Self { settings: Settings::new(), runtime: PhantomData }
    }

    /// The same as [`new`](Self::new).
    #[must_use]
    pub fn builder() -> Self {
        Self::new()
    }

    /// The defaults, and what FCGI_WEB_SERVER_ADDRS in the environment says (FC-3.2-1): the only
    /// addresses that connections are taken from.
    #[must_use]
    pub fn from_env() -> Self {
        Self { settings: Settings::from_env(), runtime: PhantomData }
    }

    fcgi_engine::server_setters!();

    /// How long a handler whose request was aborted may go on before it is dropped; it learns of
    /// the abort from [`Request::cancelled`] and from its streams. Default zero: dropped at once.
    #[must_use]
    pub fn abort_grace(mut self, grace: Duration) -> Self {
        self.settings.abort_grace = grace;
        self
    }

    /// How long a handler may take in all, from the end of PARAMS. Then it is dropped and its request
    /// fails: a page with status 500 if nothing was written, else the response is cut (W-12). Default
    /// no limit.
    #[must_use]
    pub fn handler_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.settings.handler = limit.into();
        self
    }
}

impl<R: Runtime> Server<R> {
    /// Serves, once what this gives is awaited: until the future is dropped, or until a
    /// [signal](Serve::with_graceful_shutdown).
    pub fn serve<H: Handler>(self, listener: impl Into<Acceptor<R>>, handler: H) -> Serve<R, H> {
        Serve::new(self.settings, listener.into(), handler)
    }

    /// Serves as the process was started, once what this gives is awaited: one request when that was
    /// as a CGI program, with GATEWAY_INTERFACE in the environment and no listening socket on
    /// descriptor 0; else FastCGI at what [`Listener::from_env`](crate::Listener::from_env) finds.
    ///
    /// As a CGI program it takes over descriptor 1 at once: what is printed goes to standard error,
    /// which is the web server's log.
    ///
    /// # Errors
    /// What is awaited fails with [`Error::Listen`](crate::Error::Listen) when the process was started
    /// as neither, and with [`Error::Io`](crate::Error::Io) when a CGI request's answer could not be
    /// written whole.
    pub fn serve_auto<H: Handler>(self, handler: H) -> Serve<R, H> {
        Serve::auto(self.settings, handler)
    }

    /// Serves one connection, over any stream of the runtime's, once what this gives is awaited: TLS,
    /// vsock, a pipe in memory, a socket that was accepted elsewhere. It serves to the connection's
    /// end, or lets the requests under way finish after a [signal](Serve::with_graceful_shutdown).
    /// Whoever has made the connection has decided who may connect.
    ///
    /// Each call is a server of its own: the limits on requests hold for each connection by itself.
    /// What is awaited gives no error: how the connection ended is logged.
    ///
    /// # Cancellation safety
    /// Dropping the future closes the connection and cancels its requests.
    pub fn serve_connection<H: Handler>(
        self,
        io: impl Into<R::Transport>,
        handler: H,
    ) -> Serve<R, H> {
        Serve::connection(self.settings, io.into(), handler)
    }
}
