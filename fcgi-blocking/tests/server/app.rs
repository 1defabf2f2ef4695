//! Servers on sockets of their own.

use std::{path::PathBuf, thread::JoinHandle};

use fcgi::{Address, Handler, Listener, Server, Shutdown};
use fcgi_blocking as fcgi;
use tempfile::TempDir;

pub use fcgi_testkit::{
    signal::{Gate, pattern, until},
    wire::*,
};

/// A server on a unix socket in a temporary folder, or on TCP.
pub struct App {
    folder: TempDir,
    pub address: Address,
    shutdown: Shutdown,
    thread: Option<JoinHandle<Result<(), fcgi_blocking::Error>>>,
}

/// Serves from now on.
pub fn serve(server: Server, handler: impl Handler) -> App {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::unix(folder.path().join("app.sock"));
    serve_at(folder, &address, server, handler)
}

pub fn serve_tcp(server: Server, handler: impl Handler) -> App {
    let folder = tempfile::tempdir().unwrap();
    serve_at(folder, &"tcp:127.0.0.1:0".parse().unwrap(), server, handler)
}

fn serve_at(folder: TempDir, address: &Address, server: Server, handler: impl Handler) -> App {
    // One of the tests reads the log: no other may log before this.
    fcgi_testkit::logs::install();
    let listener = Listener::bind(address).unwrap();
    let address = listener.local_addr().clone();
    let shutdown = Shutdown::new();
    let serve = server.serve(listener, handler).with_graceful_shutdown(&shutdown);
    let thread = std::thread::spawn(|| serve.run());
    App { folder, address, shutdown, thread: Some(thread) }
}

impl App {
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("app.sock")
    }

    pub fn dial(&self) -> Peer {
        Peer::dial(&self.address)
    }

    /// Begins the shutdown.
    pub fn stop(&self) {
        self.shutdown.trigger();
    }

    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().unwrap().is_finished()
    }

    /// Waits for the end of the shutdown.
    pub fn stopped(&mut self) {
        until("the server ends", || self.is_finished());
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for App {
    fn drop(&mut self) {
        // Handlers that a test left waiting see their connections close.
        self.shutdown.trigger();
    }
}
