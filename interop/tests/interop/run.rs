//! The peers of a pair while they run.

use std::{fmt::Display, io, time::Duration};

use anyhow::{Context, Result, ensure};
use fcgi_testkit::{
    http::{HttpConnection, Reply},
    peers,
};
use tempfile::TempDir;

use crate::app::App;

/// No check depends on it: it turns a hang into a failure.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// What stands between the test's HTTP client and the application, and both of them.
pub(crate) struct Started {
    port: u16,
    /// Before each path.
    prefix: &'static str,
    /// Ours, where it is behind the web server.
    app: Option<App>,
    /// For the files that let a slow response go on.
    pub(crate) gates: TempDir,
    expected: &'static [(&'static str, &'static str)],
    peers: Vec<Box<dyn Running>>,
}

/// Something that runs until it is dropped.
trait Running: Send + Sync {
    /// The end of its log.
    fn log(&self) -> String;
}

struct Logged<P>(P, fn(&P) -> String);

impl<P: Send + Sync> Running for Logged<P> {
    fn log(&self) -> String {
        (self.1)(&self.0)
    }
}

impl Started {
    pub(crate) fn new(port: u16, prefix: &'static str, app: Option<App>) -> Result<Self> {
        let gates = peers::scratch()?;
        Ok(Self { port, prefix, app, gates, expected: &[], peers: Vec::new() })
    }

    /// Keeps a peer running as long as this, and shows its log where a check fails.
    pub(crate) fn with<P: Send + Sync + 'static>(mut self, peer: P, log: fn(&P) -> String) -> Self {
        self.peers.push(Box::new(Logged(peer, log)));
        self
    }

    /// Our server, for the checks that only it has.
    pub(crate) fn app(&self) -> Result<&App> {
        self.app.as_ref().context("this pair has no server of ours")
    }

    /// Sets what checks are known to come to.
    pub(crate) fn expecting(mut self, values: &'static [(&'static str, &'static str)]) -> Self {
        self.expected = values;
        self
    }

    /// Whether a check is known to come to this.
    pub(crate) fn expects(&self, check: &str, value: &str) -> bool {
        self.expected.contains(&(check, value))
    }

    pub(crate) fn connect(&self) -> io::Result<HttpConnection> {
        HttpConnection::connect(("127.0.0.1", self.port))
    }

    /// The path of a route.
    pub(crate) fn path(&self, route: impl Display) -> String {
        format!("{}/{route}", self.prefix)
    }

    /// GET on a connection of its own; the status has to be `status`.
    pub(crate) fn get(&self, route: impl Display, status: u16) -> Result<Reply> {
        expect(self.connect()?.get(&self.path(route))?, status)
    }

    /// The ends of the peers' logs.
    pub(crate) fn log(&self) -> String {
        self.peers.iter().map(|peer| peer.log()).collect::<Vec<_>>().join("\n")
    }
}

/// The reply, if it has this status.
pub(crate) fn expect(reply: Reply, status: u16) -> Result<Reply> {
    let page = String::from_utf8_lossy(&reply.body[..reply.body.len().min(1000)]).into_owned();
    ensure!(reply.head.status == status, "status {}, not {status}: {page}", reply.head.status);
    Ok(reply)
}
