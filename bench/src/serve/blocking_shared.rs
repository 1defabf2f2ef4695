//! `hello` on fcgi-blocking with two threads, so that it accepts several requests at once on a
//! connection; a server with one thread refuses that. The threads share one processor like all
//! others.

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use fcgi_blocking::{Error, Listener, Request, Server};

/// Accepts connections and answers every request on them.
pub(super) fn serve(socket: &Path) -> Result<()> {
    let server = Server::from_env().threads(2);
    Ok(server.serve(Listener::bind(socket)?, answer).run()?)
}

fn answer(request: Request) -> Result<(), Error> {
    request.stdout().write_chunk(Bytes::from_static(super::STDOUT))
}
