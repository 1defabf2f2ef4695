//! An application in all three roles that sends back what it got, for trying out web servers,
//! clients, and this crate.
//!
//! `echo ADDR`, where ADDR is `unix:PATH`, `tcp:HOST:PORT`, or `-` for descriptor 0. A Responder
//! sends back its parameters and its STDIN, a Filter its DATA too; an Authorizer allows requests
//! with credentials. These parameters control it: ECHO_SLEEP_MS, ECHO_REPEAT_BYTES, ECHO_STDERR,
//! ECHO_EXIT, ECHO_PANIC, ECHO_FAIL_AFTER_BYTES. On SIGTERM or SIGINT it finishes its requests and
//! ends.

use std::time::Duration;

use bytes::Bytes;
use fcgi_blocking as fcgi;

const HEAD: &str = "Content-Type: text/plain\r\n\r\n";
/// The largest STDIN of a Filter request, since it is held until its end.
const FILTER_STDIN: usize = 1 << 30;
/// The most requests at once. Most threads sleep, since this program tries out slow answers.
const THREADS: usize = 128;

fn main() -> anyhow::Result<()> {
    let Some(address) = std::env::args().nth(1) else { anyhow::bail!("usage: echo ADDR") };
    // This comes first: whoever sees the socket may send the signal.
    let stop = fcgi::shutdown_signal();
    let listener = fcgi::Listener::bind(address)?;
    let server = fcgi::Server::from_env().threads(THREADS);
    Ok(server.serve(listener, echo).with_graceful_shutdown(stop).run()?)
}

fn echo(request: fcgi::Request) -> anyhow::Result<u32> {
    // An empty value counts as absent.
    let given = |name| request.param(name).filter(|value| !value.is_empty());
    let number = |name| request.param_str(name).and_then(|value| value.parse::<u64>().ok());
    if let Some(ms) = number("ECHO_SLEEP_MS") {
        if let Some(reason) = request.cancelled_within(Duration::from_millis(ms)) {
            return Err(fcgi::Error::Aborted(reason).into());
        }
    }
    assert!(given("ECHO_PANIC").is_none(), "ECHO_PANIC");
    if let Some(text) = given("ECHO_STDERR") {
        request.stderr().write_all(text)?;
    }
    if let Some(n) = number("ECHO_FAIL_AFTER_BYTES") {
        repeat(&request, n)?;
        anyhow::bail!("ECHO_FAIL_AFTER_BYTES");
    }
    match (request.role(), number("ECHO_REPEAT_BYTES")) {
        (fcgi::Role::Authorizer, _) => authorize(&request)?,
        (_, Some(n)) => repeat(&request, n)?,
        (_, None) => send_back(&request)?,
    }
    Ok(number("ECHO_EXIT").and_then(|status| status.try_into().ok()).unwrap_or(0))
}

fn send_back(request: &fcgi::Request) -> Result<(), fcgi::Error> {
    let mut out = request.stdout();
    let mut stdin = request.stdin();
    let mut params = HEAD.as_bytes().to_vec();
    for (name, value) in request.params() {
        params.extend([name, b"=", value, b"\n"].concat());
    }
    params.push(b'\n');
    if request.role() == fcgi::Role::Filter {
        // A Filter's output starts after its STDIN (FC-6.4-1).
        let body = stdin.read_to_end(FILTER_STDIN)?;
        out.write_chunk(params)?;
        out.write_chunk(body)?;
    } else {
        out.write_chunk(params)?;
    }
    while let Some(chunk) = stdin.chunk()? {
        out.write_chunk(chunk)?;
    }
    let mut data = request.data();
    while let Some(chunk) = data.chunk()? {
        out.write_chunk(chunk)?;
    }
    Ok(())
}

fn repeat(request: &fcgi::Request, mut n: u64) -> Result<(), fcgi::Error> {
    static BLOCK: [u8; 64 * 1024] = [b'x'; 64 * 1024];
    let mut out = request.stdout();
    out.write_all(HEAD)?;
    while n > 0 {
        let take = n.min(BLOCK.len() as u64);
        out.write_chunk(Bytes::from_static(&BLOCK[..take as usize]))?;
        n -= take;
    }
    Ok(())
}

fn authorize(request: &fcgi::Request) -> Result<(), fcgi::Error> {
    // Some web servers send an empty parameter for a field that is not there.
    let credentials = request.param_str("HTTP_AUTHORIZATION").filter(|given| !given.is_empty());
    let answer = match credentials {
        Some(credentials) => {
            let user = credentials.replace(char::is_control, "");
            format!("Status: 200 OK\r\nVariable-REMOTE_USER: {user}\r\n\r\n")
        }
        None => "Status: 403 Forbidden\r\n\r\n".to_owned(),
    };
    request.stdout().write_all(answer)
}
