//! Bodies through this project's adapters, at both ends.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, ensure};
use async_global_executor::GlobalExecutorConfig;
use bytes::Bytes;
use futures_core::Stream;

use super::{BYTES, DIRECTION, Direction, HEAD, Over, PIECE};

/// Serves until it is killed.
pub(super) fn serve(over: Over, socket: &Path) -> Result<()> {
    match over {
        Over::Tokio => tokio_runtime()?.block_on(over_tokio::serve(socket)),
        Over::Smol => smol::block_on(over_smol::serve(socket)),
        Over::AsyncStd => {
            one_thread();
            async_std::task::block_on(over_async_std::serve(socket))
        }
        Over::Blocking | Over::Plain => blocking::serve(socket),
    }
}

/// Sends one request. Returns how many bytes of its answer arrived, without the head.
pub(super) fn send(over: Over, socket: &Path, direction: Direction, bytes: u64) -> Result<u64> {
    let all = match over {
        Over::Tokio => tokio_runtime()?.block_on(over_tokio::send(socket, direction, bytes)),
        Over::Smol => smol::block_on(over_smol::send(socket, direction, bytes)),
        Over::AsyncStd => {
            one_thread();
            async_std::task::block_on(over_async_std::send(socket, direction, bytes))
        }
        Over::Blocking | Over::Plain => blocking::send(socket, direction, bytes),
    }?;
    all.checked_sub(HEAD.len() as u64).context("the answer has no head")
}

fn tokio_runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn one_thread() {
    // Whoever starts async-std's executor first decides.
    let one = GlobalExecutorConfig::default().with_min_threads(1).with_max_threads(1);
    async_global_executor::init_with_config(one);
}

/// The body, in pieces from memory.
struct Pieces {
    piece: Bytes,
    left: u64,
}

impl Pieces {
    fn new(bytes: u64) -> Pieces {
        Pieces { piece: vec![b'x'; PIECE].into(), left: bytes / PIECE as u64 }
    }

    fn piece(&mut self) -> Option<Bytes> {
        self.left = self.left.checked_sub(1)?;
        Some(self.piece.clone())
    }
}

impl Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.get_mut().piece().map(Ok))
    }
}

impl io::Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.piece() else { return Ok(0) };
        // The body's reader asks for at most one piece.
        let n = buf.len().min(piece.len());
        buf[..n].copy_from_slice(&piece[..n]);
        Ok(n)
    }
}

/// The same for every async adapter.
macro_rules! carry {
    ($name:ident, $fcgi:ident) => {
        mod $name {
            use $fcgi as fcgi;

            use super::*;

            pub(super) async fn serve(socket: &Path) -> Result<()> {
                Ok(fcgi::serve(fcgi::Listener::bind(socket)?, answer).await?)
            }

            async fn answer(request: fcgi::Request) -> Result<(), fcgi::Error> {
                let (mut stdin, mut stdout) = (request.stdin(), request.stdout());
                stdout.write_chunk(HEAD).await?;
                match Direction::of(request.param_str(DIRECTION)) {
                    Direction::Up => while stdin.chunk().await?.is_some() {},
                    Direction::Down => {
                        let mut pieces = Pieces::new(BYTES);
                        while let Some(piece) = pieces.piece() {
                            stdout.write_chunk(piece).await?;
                        }
                    }
                    Direction::Echo => {
                        while let Some(chunk) = stdin.chunk().await? {
                            stdout.write_chunk(chunk).await?;
                        }
                    }
                }
                Ok(())
            }

            pub(super) async fn send(
                socket: &Path,
                direction: Direction,
                bytes: u64,
            ) -> Result<u64> {
                let body = Pieces::new(direction.out(bytes));
                let request = fcgi::client::Request::responder()
                    .param(DIRECTION, direction.to_string())
                    .stdin(fcgi::client::Body::from_stream(body));
                let mut client = fcgi::Client::connect(socket).await?;
                let (mut response, mut all) = (client.send(request).await?, 0);
                while let Some(chunk) = response.chunk().await? {
                    if let fcgi::client::Chunk::Stdout(bytes) = chunk {
                        all += bytes.len() as u64;
                    }
                }
                ensure!(response.app_status() == Some(0), "the request failed");
                Ok(all)
            }
        }
    };
}

carry!(over_tokio, fcgi_tokio);
carry!(over_smol, fcgi_smol);
carry!(over_async_std, fcgi_async_std);

mod blocking {
    use fcgi_blocking as fcgi;

    use super::*;

    pub(super) fn serve(socket: &Path) -> Result<()> {
        let server = fcgi::Server::from_env().threads(1);
        Ok(server.serve(fcgi::Listener::bind(socket)?, answer).run()?)
    }

    fn answer(request: fcgi::Request) -> Result<(), fcgi::Error> {
        let (mut stdin, mut stdout) = (request.stdin(), request.stdout());
        stdout.write_chunk(HEAD)?;
        match Direction::of(request.param_str(DIRECTION)) {
            Direction::Up => while stdin.chunk()?.is_some() {},
            Direction::Down => {
                let mut pieces = Pieces::new(BYTES);
                while let Some(piece) = pieces.piece() {
                    stdout.write_chunk(piece)?;
                }
            }
            Direction::Echo => {
                while let Some(chunk) = stdin.chunk()? {
                    stdout.write_chunk(chunk)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn send(socket: &Path, direction: Direction, bytes: u64) -> Result<u64> {
        let body = Pieces::new(direction.out(bytes));
        let request = fcgi::client::Request::responder()
            .param(DIRECTION, direction.to_string())
            .stdin(fcgi::client::Body::from_reader(body));
        let mut client = fcgi::Client::connect(socket)?;
        let (mut response, mut all) = (client.send(request)?, 0);
        while let Some(chunk) = response.chunk()? {
            if let fcgi::client::Chunk::Stdout(bytes) = chunk {
                all += bytes.len() as u64;
            }
        }
        ensure!(response.app_status() == Some(0), "the request failed");
        Ok(all)
    }
}
