//! Stands between a client and an application, to see or change what neither of them shows.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use fcgi_tokio as fcgi;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpStream, UnixListener, UnixStream},
};

/// A unix socket whose connections are passed on to an application.
pub(crate) struct Relay {
    connections: Arc<AtomicUsize>,
    dir: TempDir,
}

impl Relay {
    /// Starts it, inside the runtime. `edit` may change the first bytes of each connection.
    pub(crate) fn start(to: fcgi::Address, edit: fn(&mut [u8])) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let listener = UnixListener::bind(dir.path().join("relay.sock"))?;
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (to, count) = (to.clone(), Arc::clone(&count));
                // How a connection ends is its two ends' business.
                tokio::spawn(async move {
                    let mut first = vec![0; 4096];
                    let n = stream.read(&mut first).await?;
                    // A health check sends nothing.
                    if n == 0 {
                        return Ok(());
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    edit(&mut first[..n]);
                    pass(stream, to, &first[..n]).await
                });
            }
        });
        Ok(Self { connections, dir })
    }

    /// Where it listens, as `unix:PATH`.
    pub(crate) fn address(&self) -> String {
        format!("unix:{}", self.dir.path().join("relay.sock").display())
    }

    /// How many connections have carried bytes.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn pass(from: UnixStream, to: fcgi::Address, first: &[u8]) -> io::Result<()> {
    match to.target() {
        fcgi::Target::Unix(path) => between(from, UnixStream::connect(path).await?, first).await,
        fcgi::Target::Tcp(at) => between(from, TcpStream::connect(at).await?, first).await,
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

async fn between(
    mut from: UnixStream,
    mut to: impl AsyncRead + AsyncWrite + Unpin,
    first: &[u8],
) -> io::Result<()> {
    to.write_all(first).await?;
    copy_bidirectional(&mut from, &mut to).await?;
    Ok(())
}
