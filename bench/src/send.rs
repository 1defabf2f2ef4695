//! Clients that `client` measures in addition to this project's `blast`. They have the same
//! arguments and output.

mod bare;
mod cegla;
mod fastcgi_client;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use tokio::task::JoinSet;

use crate::sample::Sample;

/// The client to run.
#[derive(Clone, Copy, ValueEnum)]
enum Which {
    Bare,
    FastcgiClient,
    CeglaFcgi,
}

/// A client's run.
#[derive(Args)]
pub(crate) struct Send {
    #[arg(value_enum)]
    which: Which,
    socket: PathBuf,
    requests: u64,
    connections: u64,
    /// Opens a connection for each request.
    #[arg(long)]
    no_keep_conn: bool,
}

impl Send {
    /// Sends the requests and prints how long that took.
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(self.requests > 0 && self.connections > 0, "nothing is asked for");
        let keep = !self.no_keep_conn;
        let start = Instant::now();
        match self.which {
            Which::Bare => bare::send(&self.socket, self.requests, self.connections, keep)?,
            Which::FastcgiClient => self.share(|socket, share| async move {
                fastcgi_client::send(&socket, share, keep).await
            })?,
            Which::CeglaFcgi => {
                self.share(|socket, share| async move { cegla::send(&socket, share, keep).await })?
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let (requests, rate) = (self.requests, self.requests as f64 / seconds);
        println!("requests={requests} seconds={seconds:.6} rps={rate:.0}");
        Ok(())
    }

    /// Runs a task for each connection on tokio's single-threaded runtime.
    fn share<F: Future<Output = Result<()>> + 'static>(
        &self,
        mut send: impl FnMut(PathBuf, u64) -> F,
    ) -> Result<()> {
        let (each, more) = (self.requests / self.connections, self.requests % self.connections);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let mut tasks = JoinSet::new();
            for n in 0..self.connections {
                tasks.spawn_local(send(self.socket.clone(), each + u64::from(n < more)));
            }
            while let Some(sent) = tasks.join_next().await {
                sent??;
            }
            Ok(())
        })
    }
}

/// The parameters of every request, as text.
fn params() -> Vec<(String, String)> {
    let text = |bytes: bytes::Bytes| String::from_utf8_lossy(&bytes).into_owned();
    let params = Sample::small().request.params;
    params.into_iter().map(|(name, value)| (text(name), text(value))).collect()
}

async fn connect(socket: &Path) -> Result<tokio::net::UnixStream> {
    Ok(tokio::net::UnixStream::connect(socket).await?)
}
