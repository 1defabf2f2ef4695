//! Our server with the [`routes`](crate::routes), and the [`Wire`] that reads along.

use std::sync::Arc;

use anyhow::{Context, Result};
use fcgi_testkit::peers;
use fcgi_tokio as fcgi;
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::oneshot, task::JoinHandle};

use crate::{
    routes::{self, Seen},
    wire::Wire,
};

/// A running server.
pub(crate) struct App {
    pub(crate) seen: Arc<Seen>,
    pub(crate) wire: Wire,
    port: u16,
    dir: TempDir,
    _stop: oneshot::Sender<()>,
    _server: JoinHandle<Result<(), fcgi::Error>>,
    // Its threads end last.
    _runtime: Runtime,
}

impl App {
    pub(crate) fn start() -> Result<Self> {
        let dir = peers::scratch()?;
        let runtime = runtime()?;
        let socket = dir.path().join("app.sock");
        let listener = fcgi::Listener::bind(&*socket)?;
        let seen = Arc::new(Seen::default());
        let handler = routes::handler(Arc::clone(&seen));
        let (stop, stopped) = oneshot::channel();
        let until = async move {
            let _ = stopped.await;
        };
        let serve = fcgi::Server::new().serve(listener, handler);
        let server = runtime.spawn(serve.with_graceful_shutdown(until));
        let wire = runtime.block_on(Wire::start(&dir.path().join("wire.sock"), &socket));
        let (wire, port) = wire.context("listening before the application")?;
        Ok(Self { seen, wire, port, dir, _stop: stop, _server: server, _runtime: runtime })
    }

    /// As `unix:PATH`.
    pub(crate) fn unix_address(&self) -> String {
        format!("unix:{}", self.dir.path().join("wire.sock").display())
    }

    /// As `tcp:127.0.0.1:PORT`.
    pub(crate) fn tcp_address(&self) -> String {
        format!("tcp:127.0.0.1:{}", self.port)
    }
}

/// A runtime for one end of a pair.
pub(crate) fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().context("starting a runtime")
}
