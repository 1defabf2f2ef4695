//! Our server with an echo application, on a runtime of its own.

use std::future::Future;

use fcgi_testkit::harness::Failed;
use fcgi_tokio as fcgi;
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::oneshot, task::JoinHandle, time::timeout};

use crate::support::{BLOCK, Kind, LIMIT, MOST, Outcome};

pub(crate) const HEAD: &str = "Content-Type: text/plain\r\n\r\n";

/// A running server.
pub(crate) struct App {
    address: fcgi::Address,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), fcgi::Error>>,
    runtime: Runtime,
    _dir: TempDir,
}

impl App {
    pub(crate) fn start(kind: Kind, handler: impl fcgi::Handler) -> Result<Self, Failed> {
        let dir = tempfile::tempdir()?;
        let address = match kind {
            Kind::Unix => fcgi::Address::unix(dir.path().join("app.sock")),
            Kind::Tcp => "tcp:127.0.0.1:0".parse()?,
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listener = fcgi::Listener::bind(address)?;
        let address = listener.local_addr().clone();
        let (stop, stopped) = oneshot::channel();
        let until = async move {
            // A case that fails drops the sender.
            let _ = stopped.await;
        };
        let serve = fcgi::Server::new().serve(listener, handler);
        let server = runtime.spawn(serve.with_graceful_shutdown(until));
        Ok(Self { address, stop, server, runtime, _dir: dir })
    }

    pub(crate) fn address(&self) -> &fcgi::Address {
        &self.address
    }

    /// Runs a future beside the server.
    pub(crate) fn block_on(&self, case: impl Future<Output = Outcome>) -> Outcome {
        self.runtime.block_on(async { timeout(LIMIT, case).await? })
    }

    /// Stops the server, which must have ended its requests and connections.
    pub(crate) fn stop(self) -> Outcome {
        let _ = self.stop.send(());
        self.runtime.block_on(async { timeout(LIMIT, self.server).await })???;
        Ok(())
    }
}

/// Answers with the parameters as `NAME=VALUE` lines, an empty line, STDIN, and a Filter's DATA;
/// allows an Authorizer's request.
pub(crate) async fn echo(request: fcgi::Request) -> Result<(), fcgi::Error> {
    let mut out = request.stdout();
    if request.role() == fcgi::Role::Authorizer {
        return out.write_all("Status: 200 OK\r\nVariable-REMOTE_USER: ada\r\n\r\n").await;
    }
    let mut stdin = request.stdin();
    let mut page = HEAD.as_bytes().to_vec();
    for (name, value) in request.params() {
        page.extend([name, b"=", value, b"\n"].concat());
    }
    page.push(b'\n');
    if request.role() == fcgi::Role::Filter {
        page.extend(stdin.read_to_end(MOST).await?);
        out.write_all(page).await?;
        let mut data = request.data();
        while let Some(chunk) = data.chunk().await? {
            out.write_all(chunk).await?;
        }
        return Ok(());
    }
    out.write_all(page).await?;
    while let Some(chunk) = stdin.chunk().await? {
        out.write_all(chunk).await?;
    }
    Ok(())
}

/// Answers with `left` bytes of the pattern.
pub(crate) async fn download(request: &fcgi::Request, mut left: u64) -> Result<(), fcgi::Error> {
    let mut out = request.stdout();
    out.write_all(HEAD).await?;
    while left > 0 {
        let n = left.min(BLOCK.len() as u64);
        out.write_all(BLOCK.slice(..n as usize)).await?;
        left -= n;
    }
    Ok(())
}
