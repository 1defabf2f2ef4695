//! `serve_http_auto` where a web server starts it: one process a request, as a CGI program.

use std::{
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};
use fcgi_testkit::{
    examples::Examples,
    harness::Case,
    http::{HttpConnection, Upload, pattern},
    peers::{Peer, WebServer, WebServerKind, scratch},
    program,
    signal::until,
};
use fcgi_tokio::{self as fcgi, client::Request};
use tempfile::TempDir;

use crate::support::{Outcome, block_on, call, text};

pub(crate) fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn() -> Outcome, peer| {
        Case::new(format!("cgi_program_of_{name}"), run).needs(&[peer])
    };
    vec![
        case("apache", apache, Peer::Apache),
        case("lighttpd", lighttpd, Peer::Lighttpd),
        case("fcgiwrap", fcgiwrap, Peer::Fcgiwrap),
    ]
}

/// The adapters whose `auto` is run: one for each way to wait.
const ADAPTERS: &[&str] = &["tokio", "async-std", "blocking"];

/// Bytes of a body: more than a pipe holds.
const BODY: u64 = 300_000;
/// Bytes of a body that a pipe holds.
const SMALL: u64 = 30_000;

/// A folder with a program for each adapter, which the web server's user may run.
fn programs() -> anyhow::Result<TempDir> {
    let folder = scratch()?;
    for adapter in ADAPTERS {
        let built = Examples::build(&format!("fcgi-{adapter}"), &["auto"])?.path("auto");
        let program = folder.path().join(format!("{adapter}.cgi"));
        program::copy(built, program)?;
    }
    Ok(folder)
}

/// Asks each program, by HTTP; `chunked` where the web server gives it a body without a length.
fn check(port: u16, chunked: bool) -> anyhow::Result<()> {
    for adapter in ADAPTERS {
        // Apache closes its client's connection after a failure.
        let mut browser = HttpConnection::connect(("127.0.0.1", port))?;
        let name = format!("/cgi/{adapter}.cgi");
        let page = browser.get(&format!("{name}/news?a=b"))?;
        let said = text(&page.body);
        ensure!(page.head.status == 200, "{name}: {} {said}", page.head.status);
        ensure!(said == format!("GET {name}/news?a=b\n"), "{name}: {said}");
        ensure!(page.head.field("content-type") == Some("text/plain"), "{name}: {:?}", page.head);
        for upload in [Upload::Length(BODY), Upload::Chunked(BODY)] {
            if matches!(upload, Upload::Chunked(_)) && !chunked {
                continue;
            }
            let echo = browser.upload(&name, upload)?;
            let whole: Vec<u8> = (0..BODY).map(pattern).collect();
            ensure!(echo.head.status == 200, "{name}: {}", echo.head.status);
            ensure!(echo.body == whole, "{name}: {} bytes came back", echo.body.len());
        }
        let failed = browser.get(&format!("{name}/fail"))?;
        ensure!(failed.head.status == 500, "{name}/fail: {}", failed.head.status);
    }
    Ok(())
}

fn apache() -> Outcome {
    let folder = programs()?;
    let apache = WebServer::apache(&format!(
        r#"
LoadModule alias_module @MODULES@/mod_alias.so
LoadModule cgid_module @MODULES@/mod_cgid.so
ScriptSock @DIR@/cgid
ScriptAlias "/cgi/" "{0}/"
<Directory "{0}">
  Require all granted
</Directory>
"#,
        folder.path().display()
    ))?;
    check(apache.port(), true).map_err(|error| format!("{error:#}\n{}", apache.log()))?;
    // What a program prints is in the web server's log, and no part of its answer.
    assert!(apache.log().contains("asked for /cgi/"), "{}", apache.log());
    Ok(())
}

fn lighttpd() -> Outcome {
    let folder = programs()?;
    let config = |dir: &Path, port: u16| {
        format!(
            r#"
server.modules = ( "mod_alias", "mod_cgi" )
server.document-root = "{dir}"
server.bind = "127.0.0.1"
server.port = {port}
server.errorlog = "{dir}/log"
server.upload-dirs = ( "{dir}" )
alias.url = ( "/cgi/" => "{folder}/" )
cgi.assign = ( ".cgi" => "" )
"#,
            dir = dir.display(),
            folder = folder.path().display()
        )
    };
    let lighttpd = WebServer::with_config(WebServerKind::Lighttpd, config)?;
    check(lighttpd.port(), true).map_err(|error| format!("{error:#}\n{}", lighttpd.log()))?;
    Ok(())
}

/// fcgiwrap is a FastCGI application that runs a CGI program for each request.
fn fcgiwrap() -> Outcome {
    let folder = programs()?;
    let socket = folder.path().join("fcgiwrap.sock");
    let mut command = Command::new(Peer::Fcgiwrap.find()?);
    command.args(["-s", &format!("unix:{}", socket.display())]);
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _fcgiwrap = Killed(command.spawn()?);
    until("fcgiwrap listens", || UnixStream::connect(&socket).is_ok());
    block_on(async {
        for adapter in ADAPTERS {
            let program = folder.path().join(format!("{adapter}.cgi"));
            ask(&fcgi::Address::unix(&socket), &program).await?;
        }
        Ok(())
    })
}

async fn ask(address: &fcgi::Address, program: &Path) -> anyhow::Result<()> {
    let program = program.to_str().context("its name is a text")?;
    let request = |method: &str| {
        Request::responder()
            .param("GATEWAY_INTERFACE", "CGI/1.1")
            .param("SERVER_PROTOCOL", "HTTP/1.1")
            .param("REQUEST_METHOD", method)
            .param("REQUEST_URI", "/app/news?a=b")
            .param("SCRIPT_FILENAME", program)
    };
    let answer = call(address, request("GET")).await?;
    let page = text(&answer.stdout);
    ensure!(page.ends_with("\r\n\r\nGET /app/news?a=b\n"), "{program}: {page}");
    // fcgiwrap passes on the whole body before it reads the answer: an echo must fit into its pipe.
    let body: Vec<u8> = (0..SMALL).map(pattern).collect();
    let post = request("POST").param("CONTENT_LENGTH", SMALL.to_string());
    let answer = call(address, post.stdin(body.clone())).await?;
    ensure!(answer.stdout.ends_with(&body), "{program}: {} bytes", answer.stdout.len());
    Ok(())
}

/// It does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
