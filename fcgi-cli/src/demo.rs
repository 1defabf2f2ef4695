//! `fcgi demo`: one request to an application on a private socket, record by record.

use std::{
    io::Write,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use fcgi_tokio::{self as fcgi, client::Request};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

use crate::trace::{Direction, Tracer, escape, heading};

const BODY: &str = "name=world&greeting=hello";

pub(crate) async fn run() -> ExitCode {
    match demo().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere left to report a failure of stderr.
            let _ = writeln!(std::io::stderr(), "fcgi demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> anyhow::Result<()> {
    // The folder is the user's alone, and so are the sockets in it.
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let application = fcgi::Address::Unix(folder.path().join("application.sock"));
    let listener =
        fcgi::Listener::bind(&application).with_context(|| format!("listen at {application}"))?;
    let serve = fcgi::Server::new().serve(listener, echo);

    let wire = folder.path().join("wire.sock");
    let tap = UnixListener::bind(&wire).context("listen for the tap")?;
    let lines = Arc::new(Mutex::new(vec![heading()]));
    let relay = relay(tap, folder.path().join("application.sock"), Arc::clone(&lines));

    let answer = tokio::select! {
        answer = call(fcgi::Address::Unix(wire)) => answer?,
        served = serve => { served.context("serve")?; anyhow::bail!("the application ended") }
        relayed = relay => { relayed.context("relay")?; anyhow::bail!("the tap ended") }
    };
    let mut stdout = anstream::stdout().lock();
    for line in lines.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        writeln!(stdout, "{line}")?;
    }
    writeln!(stdout, "\nThe response on STDOUT, app status {}:\n", answer.app_status)?;
    write!(stdout, "{}", escape(&answer.stdout, b"\r\n\t"))?;
    writeln!(stdout)?;
    Ok(())
}

async fn call(address: fcgi::Address) -> anyhow::Result<fcgi::client::Collected> {
    let mut client = fcgi::Client::connect(&address).await?;
    let request = Request::responder()
        .param("REQUEST_METHOD", "POST")
        .param("SCRIPT_NAME", "/demo")
        .param("QUERY_STRING", "")
        .param("CONTENT_TYPE", "application/x-www-form-urlencoded")
        .param("CONTENT_LENGTH", BODY.len().to_string())
        .param("SERVER_PROTOCOL", "HTTP/1.1")
        .param("HTTP_HOST", "localhost")
        .stdin(BODY);
    Ok(client.send(request).await?.collect(1 << 20).await?)
}

/// The application: its parameters and its STDIN, sent back.
async fn echo(request: fcgi::Request) -> Result<(), fcgi::Error> {
    let mut page = b"Content-Type: text/plain\r\n\r\n".to_vec();
    for (name, value) in request.params() {
        page.extend([name, b"=", value, b"\n"].concat());
    }
    page.push(b'\n');
    page.extend(request.stdin().read_to_end(1 << 20).await?);
    page.push(b'\n');
    request.stderr().write_all("this line is for the web server's error log\n").await?;
    request.stdout().write_all(page).await
}

/// Carries one connection to the application and notes the records that pass.
async fn relay(
    tap: UnixListener,
    application: std::path::PathBuf,
    lines: Arc<Mutex<Vec<String>>>,
) -> anyhow::Result<()> {
    let (web_server, _) = tap.accept().await?;
    let application = UnixStream::connect(application).await?;
    let (from_web, to_web) = web_server.into_split();
    let (from_app, to_app) = application.into_split();
    tokio::try_join!(
        carry(from_web, to_app, Tracer::new(Direction::ToApplication), &lines),
        carry(from_app, to_web, Tracer::new(Direction::ToWebServer), &lines),
    )?;
    Ok(())
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut tracer: Tracer,
    lines: &Mutex<Vec<String>>,
) -> anyhow::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return Ok(to.shutdown().await?);
        }
        let new = tracer.push(&buffer[..n])?;
        lines.lock().unwrap_or_else(PoisonError::into_inner).extend(new);
        to.write_all(&buffer[..n]).await?;
    }
}
