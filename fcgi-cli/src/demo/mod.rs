//! `fcgi demo`: one request to an application on a private socket, record by record.

mod echo;
mod tap;

use std::{
    fs::Permissions,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    process::ExitCode,
};

use anstyle::Style;
use anyhow::Context;
use clap::Args;
use fcgi_engine::text::escape;
use fcgi_tokio::{
    self as fcgi,
    client::{Collected, Request},
};
use tokio::{net::UnixListener, sync::oneshot};

use crate::{
    complain,
    exit::Exit,
    trace::{self, Record},
};

const BODY: &str = "\
A request travels in records.
Each has a header of 8 bytes:
what it is, whose it is, and the
lengths of content and padding.
PARAMS are those of CGI. A stream
ends with an empty record, and
END_REQUEST ends the request. The
connection can then carry more.
";

/// The limit of the demo's response, which has some 600 bytes.
const MAX_RESPONSE: usize = 1 << 20;

/// Show a request and its response, record by record
///
/// Starts a small application on a socket in a private temporary folder, sends it one request with
/// a body, and prints each record that crossed the wire in both directions, then the response. It
/// needs no other program and leaves nothing behind. It uses colours on a terminal unless NO_COLOR
/// is set.
#[derive(Args)]
pub(crate) struct Demo {}

impl Demo {
    pub(crate) async fn run(self) -> ExitCode {
        let written = match exchange().await {
            Ok((records, response)) => print(&records, &response),
            Err(error) => {
                complain(&format!("fcgi demo: {error:#}"));
                return Exit::Io.into();
            }
        };
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                complain(&format!("fcgi demo: write to stdout: {error}"));
                Exit::Io.into()
            }
            _ => ExitCode::SUCCESS,
        }
    }
}

/// Runs the application, the tap and the web server's side, until all three are done.
async fn exchange() -> anyhow::Result<(Vec<Record>, Collected)> {
    let folder = tempfile::Builder::new()
        .prefix("fcgi-demo-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .context("make a temporary folder")?;
    let application = folder.path().join("application");
    let wire = folder.path().join("wire");
    let address = fcgi::Address::unix(application.clone());
    let listener = fcgi::Listener::bind(address)?;
    let tap = UnixListener::bind(&wire)
        .with_context(|| format!("listen at {}", fcgi::Address::unix(wire.clone())))?;

    let (done, stop) = oneshot::channel::<()>();
    let serve = async {
        let stop = async { stop.await.unwrap_or_default() };
        // The environment may limit applications' web servers; this one's is this command.
        let serve = fcgi::Server::new().serve(listener, echo::echo);
        serve.with_graceful_shutdown(stop).await.context("serve")
    };
    let tap = async { tap::tap(tap, &application).await.context("tap") };
    let call = async {
        let response = call(&fcgi::Address::unix(wire)).await;
        // Nobody waits for it if the server has failed.
        let _ = done.send(());
        response
    };
    let ((), records, response) = tokio::try_join!(serve, tap, call)?;
    folder.close().context("remove the temporary folder")?;
    Ok((records, response))
}

async fn call(address: &fcgi::Address) -> anyhow::Result<Collected> {
    let request = Request::responder()
        .param("REQUEST_METHOD", "POST")
        .param("SCRIPT_NAME", "/demo")
        .param("SCRIPT_FILENAME", "/srv/demo")
        .param("QUERY_STRING", "lang=en")
        .param("CONTENT_TYPE", "text/plain")
        .param("CONTENT_LENGTH", BODY.len().to_string())
        .param("SERVER_PROTOCOL", "HTTP/1.1")
        .param("REMOTE_ADDR", "192.0.2.7")
        .param("HTTP_HOST", "www.example.org")
        .param("ECHO_STDERR", "a line for the log")
        .stdin(BODY);
    let mut client = fcgi::Client::connect(address).await?;
    Ok(client.send(request).await?.collect(MAX_RESPONSE).await?)
}

fn print(records: &[Record], response: &Collected) -> io::Result<()> {
    let bold = Style::new().bold();
    let mut out = anstream::stdout().lock();
    writeln!(
        out,
        "A web server (here the fcgi command) posts {} bytes to an application:\n",
        BODY.len()
    )?;
    write!(out, "{}", trace::table(records))?;
    let status = response.app_status;
    for (bytes, title) in [
        (&response.stderr, "STDERR, for the web server's error log:"),
        (&response.stdout, "STDOUT, the response:"),
    ] {
        writeln!(out, "\n{bold}{title}{bold:#}")?;
        let text = escape(bytes, b"\r\n\t").replace("\r\n", "\n");
        writeln!(out, "{}", text.trim_end())?;
    }
    writeln!(out, "\nThe application ended with status {status}.")?;
    out.flush()
}
