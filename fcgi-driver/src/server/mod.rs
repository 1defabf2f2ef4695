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
mod turns;

use std::marker::PhantomData;

use fcgi_engine::server::Settings;

pub use fcgi_engine::server::{CANCELLED, EndOfFile, FAILED, Failed, IntoAppStatus, PANICKED};
pub use handler::Handler;
pub use request::{InputStream, OutputStream, Request};
pub use serve::Serve;

use crate::{Acceptor, runtime::Runtime};
use serve::Source;

/// The settings of a FastCGI application, each with a default. [`serve`](Self::serve) starts with
/// them.
#[derive(Clone, Debug)]
pub struct Server<R> {
    pub(crate) settings: Settings,
    runtime: PhantomData<fn() -> R>,
}

impl<R> Default for Server<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> Server<R> {
    const fn with(settings: Settings) -> Self {
        Self { settings, runtime: PhantomData }
    }

    fcgi_engine::server_setters!();

    fcgi_engine::setters! {
        /// How long a handler whose request was aborted may run on before it is dropped. It learns of
        /// the abort from [`Request::cancelled`] and from its streams. Default zero: dropped at once;
        /// `None` never drops it.
        abort_grace(limit or MAX) { self.settings.abort_grace }

        /// How long a handler may take in all, from the end of PARAMS. After that it is dropped and its
        /// request fails: with a page with status 500 if nothing was written, otherwise the response is
        /// cut off (W-12). Default no limit.
        handler_timeout(limit) { self.settings.handler }
    }
}

impl<R: Runtime> Server<R> {
    /// Serves requests. Await the result: it runs until it is dropped, or until a
    /// [signal](Serve::with_graceful_shutdown).
    pub fn serve<H: Handler>(self, listener: impl Into<Acceptor<R>>, handler: H) -> Serve<R, H> {
        Serve::new(self.settings, Source::Listener(listener.into()), handler)
    }

    /// Serves in the way in which the process was started. As a CGI program, with GATEWAY_INTERFACE
    /// in the environment and no listening socket on descriptor 0, it serves one request. Otherwise
    /// it serves FastCGI with the listener that [`Listener::from_env`](crate::Listener::from_env)
    /// finds. Await the result.
    ///
    /// A CGI program gives up descriptor 1 at once: what it prints goes to standard error, which is
    /// the web server's log.
    ///
    /// # Errors
    /// The result fails with [`Error::Listen`](crate::Error::Listen) if the process was started in
    /// neither way, and with [`Error::Io`](crate::Error::Io) if a CGI response could not be written
    /// whole.
    pub fn serve_auto<H: Handler>(self, handler: H) -> Serve<R, H> {
        Serve::new(self.settings, Source::auto(), handler)
    }

    /// Serves one connection, over any stream of the runtime: TLS, vsock, a pipe in memory, or a
    /// socket that was accepted elsewhere. Await the result to run it. It serves until the end of
    /// the connection, or until a [signal](Serve::with_graceful_shutdown). It does not check who
    /// connects; whoever made the connection has decided that.
    ///
    /// Each call is a separate server, so limits on requests apply to each connection alone. The
    /// result is never an error: the way in which the connection ended is only logged.
    ///
    /// # Cancellation safety
    /// Dropping the future closes the connection and cancels its requests.
    pub fn serve_connection<H: Handler>(
        self,
        io: impl Into<R::Transport>,
        handler: H,
    ) -> Serve<R, H> {
        Serve::new(self.settings, Source::Connection(io.into()), handler)
    }
}
