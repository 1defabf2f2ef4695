//! A tap on a connection: it relays the bytes of both directions and records them.

use std::{cell::RefCell, path::Path};

use anyhow::Context;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

use crate::trace::{Direction, Record, Recorder};

/// Accepts one connection, relays it to the application until both ends have closed, and returns
/// the records in the order in which they passed.
pub(super) async fn tap(listener: UnixListener, application: &Path) -> anyhow::Result<Vec<Record>> {
    let (web_server, _) = listener.accept().await.context("accept")?;
    let application = UnixStream::connect(application).await.context("connect")?;
    let (from_web, to_web) = web_server.into_split();
    let (from_app, to_app) = application.into_split();
    let records = RefCell::new(Vec::new());
    tokio::try_join!(
        carry(from_web, to_app, Direction::ToApplication, &records),
        carry(from_app, to_web, Direction::ToWebServer, &records),
    )?;
    Ok(records.into_inner())
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    records: &RefCell<Vec<Record>>,
) -> anyhow::Result<()> {
    let mut recorder = Recorder::new(direction);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            anyhow::ensure!(recorder.is_at_boundary(), "the connection ended within a record");
            return Ok(to.shutdown().await?);
        }
        // Recorded before it is relayed, so that an answer can't come before its question.
        recorder.push(&buffer[..n], &mut records.borrow_mut())?;
        to.write_all(&buffer[..n]).await?;
    }
}
