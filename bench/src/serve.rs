//! The servers that `hello` and `scale` measure, each run as a separate process.

mod bare;
mod bare_threads;
mod bare_tokio;
mod blocking_shared;
mod cegla;
mod floor;
mod router;
mod scale;
mod tokio_fastcgi;

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use rustix::process::{Signal, set_parent_process_death_signal};

/// What every server answers on STDOUT.
pub(crate) const STDOUT: &[u8] = b"Content-Type: text/plain\r\n\r\nHello, world\n";

/// Which server to run, and on which socket.
#[derive(Subcommand)]
pub(crate) enum Serve {
    /// A bare epoll loop that finds the end of each request and writes a canned answer.
    Floor {
        /// The unix socket to listen on.
        socket: PathBuf,
    },
    /// The same work on tokio, with a task for each connection.
    BareTokio {
        /// The unix socket to listen on.
        socket: PathBuf,
    },
    /// The same work, with a thread for each connection.
    BareThreads {
        /// The unix socket to listen on.
        socket: PathBuf,
    },
    /// `hello` on fcgi-blocking, with several requests at once on a connection.
    BlockingShared {
        /// The unix socket to listen on.
        socket: PathBuf,
    },
    /// An axum router through FastCGI.
    AxumFastcgi {
        /// The unix socket to listen on.
        socket: PathBuf,
    },
    /// The same router under hyper alone.
    AxumHttp {
        /// The unix socket to listen on.
        socket: PathBuf,
    },
    /// The other end of `send-bodies`.
    Bodies {
        /// Which adapter, or a plain copy.
        #[arg(value_enum)]
        over: crate::bodies::Over,
        /// The unix socket to listen on.
        socket: PathBuf,
    },
    /// The documented server loop of the tokio-fastcgi crate.
    TokioFastcgi {
        /// The unix socket to listen on.
        socket: PathBuf,
    },
    /// The server of the cegla-fcgi crate.
    CeglaFcgi {
        /// The unix socket to listen on.
        socket: PathBuf,
    },
    /// This project's tokio server, as `scale` needs it.
    Scale {
        /// The unix socket to listen on.
        socket: PathBuf,
    },
    /// Turns into another program, which then ends with the benchmark too.
    Exec {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        args: Vec<OsString>,
    },
}

impl Serve {
    /// Serves until the benchmark ends.
    pub(crate) fn run(self) -> Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL)).context("prctl")?;
        match self {
            Serve::Floor { socket } => floor::serve(&socket),
            Serve::BareTokio { socket } => block_on(bare_tokio::serve(&socket)),
            Serve::BareThreads { socket } => bare_threads::serve(&socket),
            Serve::BlockingShared { socket } => blocking_shared::serve(&socket),
            Serve::AxumFastcgi { socket } => block_on(router::fastcgi(&socket)),
            Serve::AxumHttp { socket } => block_on(router::http(&socket)),
            Serve::Bodies { over, socket } => crate::bodies::serve_over(over, &socket),
            Serve::TokioFastcgi { socket } => block_on(tokio_fastcgi::serve(&socket)),
            Serve::CeglaFcgi { socket } => block_on(cegla::serve(&socket)),
            Serve::Scale { socket } => block_on(scale::serve(&socket)),
            Serve::Exec { program, args } => {
                let error = Command::new(&program).args(args).exec();
                Err(error).with_context(|| format!("cannot run {}", program.display()))
            }
        }
    }
}

/// Runs a server on tokio's single-threaded runtime.
fn block_on(server: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(server)
}
