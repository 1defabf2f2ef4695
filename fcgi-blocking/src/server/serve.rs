//! The life of a server: it starts its threads, and when it shuts down it lets requests finish.

use std::{fmt, os::fd::OwnedFd, sync::Arc};

use fcgi_engine::{
    Listener,
    cgi::{self, Relay},
    server::Sockets,
};

use super::{Server, engine::Engine, handler::Handler, leader::Leader, shutdown::Shutdown};
use crate::{Address, Error, stream::Stream};

/// A server that is ready to start: [`run`](Self::run) it, as it is or [with a
/// signal](Self::with_graceful_shutdown).
#[must_use = "it serves once `run` is called"]
pub struct Serve<H> {
    server: Server,
    source: Source,
    handler: H,
    shutdown: Shutdown,
}

impl Server {
    /// Serves once [`run`](Serve::run) is called: for ever, or until a
    /// [signal](Serve::with_graceful_shutdown).
    pub fn serve<H: Handler>(self, listener: impl Into<Listener>, handler: H) -> Serve<H> {
        Serve::new(self, Source::Listener(listener.into()), handler)
    }

    /// Serves in the way in which the process was started, once [`run`](Serve::run) is called. As a
    /// CGI program, with GATEWAY_INTERFACE in the environment and no listening socket on descriptor
    /// 0, it serves one request. Otherwise it serves FastCGI with the listener that
    /// [`Listener::from_env`] finds.
    ///
    /// A CGI program gives up descriptor 1 at once: what it prints goes to standard error, which is
    /// the web server's log. `run` fails with [`Error::Listen`] if the process was started in
    /// neither way, and with [`Error::Io`] if a CGI response could not be written whole.
    pub fn serve_auto<H: Handler>(self, handler: H) -> Serve<H> {
        Serve::new(self, Source::auto(), handler)
    }

    /// Serves one connection to its end once [`run`](Serve::run) is called. It may be anything with
    /// a descriptor that poll(2) can wait for, such as a socket of any family, and becomes
    /// nonblocking. Whoever made the connection has decided who may connect.
    ///
    /// A stream with its own buffer, such as TLS, does not work: poll(2) can't see that
    /// buffer. For such streams use an async adapter, or a socket pair with a thread that copies
    /// the bytes.
    ///
    /// Each call is a separate server with its own threads: by default four of them run handlers
    /// ([`threads`](Self::threads)), and one waits.
    pub fn serve_connection<H: Handler>(self, io: impl Into<OwnedFd>, handler: H) -> Serve<H> {
        Serve::new(self, Source::Connection(io.into()), handler)
    }
}

/// Where requests come from.
type Source = cgi::Source<Listener, OwnedFd>;

/// How many threads run the requests of a single connection.
const THREADS_OF_ONE: usize = 4;

/// The default number of threads that run handlers.
fn default_threads(source: &Source) -> usize {
    match source {
        Source::Listener(_) => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            cores.saturating_mul(4).max(16)
        }
        _ => THREADS_OF_ONE,
    }
}

impl<H: Handler> Serve<H> {
    fn new(server: Server, source: Source, handler: H) -> Self {
        Self { server, source, handler, shutdown: Shutdown::new() }
    }

    /// Serves until `signal` is triggered. Then it takes no more connections, lets requests finish
    /// for at most [`shutdown_timeout`], and ends the rest as failed (FC-7-1).
    ///
    /// Requests that were sent before it closes are served: it still accepts connections that wait,
    /// and keeps connections without a request open for [`shutdown_grace`](Server::shutdown_grace)
    /// (W-13). The next process may listen on the same socket meanwhile.
    ///
    /// [`run`](Self::run) returns when all handlers have. Handlers that ignore their cancellation
    /// for the longer of `shutdown_timeout` and [`abort_grace`](Server::abort_grace) are logged and
    /// left behind on their threads, which end when the handler returns, or with the process.
    ///
    /// [`shutdown_timeout`]: Server::shutdown_timeout
    pub fn with_graceful_shutdown(mut self, signal: impl Into<Shutdown>) -> Self {
        self.shutdown = signal.into();
        self
    }

    /// Serves for ever, or until the signal; a single connection to its end.
    ///
    /// # Errors
    /// [`Error::Io`] when the listener can't accept any more, or the threads can't be started.
    /// Failures of single connections are only logged.
    pub fn run(self) -> Result<(), Error> {
        let Self { server, source, handler, shutdown } = self;
        let address = match &source {
            Source::Listener(listener) => listener.local_addr().clone(),
            _ => Address::STREAM,
        };
        let start = |source| Error::Io {
            address: address.to_string().into(),
            doing: "start threads for",
            source,
        };
        let threads = server.threads.unwrap_or_else(|| default_threads(&source));
        let engine = Engine::new(server.settings, threads, Box::new(handler), shutdown.clone())
            .map_err(start)?;
        let engine = Arc::new(engine);
        let mut relay = None;
        let leader = match source {
            Source::Listener(listener) => Leader::new(&engine, Sockets::adopt(listener, Ok)?),
            Source::Connection(io) => Leader::of_one(&engine, Stream::over(io)),
            Source::Cgi(cgi, connection) => {
                relay = Some(Relay::thread().spawn(|| cgi.run()).map_err(cgi::failed)?);
                Leader::of_one(&engine, Stream::over(connection.into()))
            }
            Source::Failed(error) => return Err(error),
        };
        shutdown.register(&engine.pool.wakeups.waker);
        let mut threads = Vec::with_capacity(engine.threads + 1);
        for n in 0..=engine.threads {
            let engine_of_thread = Arc::clone(&engine);
            let thread = std::thread::Builder::new().name(format!("fcgi-{n}"));
            match thread.spawn(move || engine_of_thread.run()) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    engine.stop();
                    engine.fail(start(error));
                    break;
                }
            }
        }
        engine.pool.start(leader);
        let mut relayed = Ok(());
        match engine.pool.wait_stopped() {
            0 => {
                for thread in threads {
                    // Can't fail: panics of handlers are caught.
                    let _ = thread.join();
                }
                // The connection is closed, so the relay ends too.
                if let Some(relay) = relay {
                    relayed = Relay::ended(relay.join());
                }
            }
            n => {
                let limit = engine.last_wait();
                tracing::error!("shutdown: {n} handlers left behind, cancelled for {limit:?}");
            }
        }
        // Why the server has ended comes first: the relay only sees that its connection is closed.
        engine.error().map_or(relayed, Err)
    }
}

impl<H> fmt::Debug for Serve<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, source, shutdown, .. } = self;
        let mut fields = f.debug_struct("Serve");
        fields.field("server", server).field("source", source).field("shutdown", shutdown);
        fields.finish_non_exhaustive()
    }
}
