//! What the page says about logs.

use std::thread;

use anyhow::{Context, Result, ensure};
use fcgi_tokio as fcgi;

use crate::{
    application::{Place, get, is},
    starters::wait_for,
};

/// What a handler writes to STDERR is in the web server's log, with the request's line.
pub(crate) fn stderr() -> Result<()> {
    let place = Place::new()?;
    let listener = fcgi::Listener::builder(place.path("app.sock")).mode(0o666).bind()?;
    let runtime = tokio::runtime::Runtime::new().context("starting a runtime")?;
    thread::spawn(move || runtime.block_on(async { fcgi::serve(listener, report).await }));
    let server = place.nginx(None)?;
    is(&get(server.port(), "/report?of=today")?, 200, "done\n")?;
    wait_for(|| server.log().contains("the disk is nearly full"))?;
    let log = server.log();
    let line = log.lines().find(|line| line.contains("the disk is nearly full"));
    let line = line.context("the line has gone")?;
    ensure!(line.contains("\"GET /report?of=today HTTP/1.1\""), "not with its request: {line}");
    Ok(())
}

async fn report(request: fcgi::Request) -> Result<(), fcgi::Error> {
    request.stderr().write_all(b"the disk is nearly full").await?;
    request.stdout().write_all(b"Content-Type: text/plain\r\n\r\ndone\n").await
}
