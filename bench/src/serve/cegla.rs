//! The server of the `cegla-fcgi` crate, which answers with `http` types.

use std::convert::Infallible;
use std::io;
use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use cegla_fcgi::server::{Runtime, server_handle_fcgi};
use http::Response;
use http_body_util::{BodyExt as _, Full};
use tokio::net::UnixListener;

/// Starts the crate's tasks on the runtime that runs the server.
struct Spawn;

impl Runtime for Spawn {
    fn spawn(&self, future: impl Future + Send + 'static) {
        tokio::spawn(async move {
            future.await;
        });
    }
}

/// Accepts connections and answers every request on them; the body is left unread.
pub(super) async fn serve(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    let tasks = tokio::task::LocalSet::new();
    let accepting = async {
        loop {
            let (stream, _) = listener.accept().await?;
            tasks.spawn_local(server_handle_fcgi(stream, Spawn, |_, _| async {
                let body = Full::new(Bytes::from_static(b"Hello, world\n"));
                let body = body.map_err(|never: Infallible| -> io::Error { match never {} });
                let response = Response::builder().header("Content-Type", "text/plain").body(body);
                response.map_err(io::Error::other)
            }));
        }
    };
    tasks.run_until(accepting).await
}
