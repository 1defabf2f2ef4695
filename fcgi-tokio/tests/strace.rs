//! `hello` under strace: what a request costs in system calls.

use std::process::{Command, ExitCode};

use fcgi_testkit::{
    examples::Examples,
    harness::{self, Case, Failed},
    peers::Peer,
    strace::{self, READS, WRITES},
};
use fcgi_tokio as fcgi;

const REQUESTS: usize = 200;

fn main() -> ExitCode {
    harness::run([Case::new("a_kept_request_is_one_read_and_one_write", || {
        count_calls().map_err(Failed::from)
    })
    .needs(&[Peer::Strace])])
}

fn count_calls() -> Result<(), String> {
    let io = |error: std::io::Error| error.to_string();
    let examples = Examples::build("fcgi-tokio", &["hello"]).map_err(io)?;
    let folder = tempfile::tempdir().map_err(io)?;
    let socket = folder.path().join("app.sock");
    let address = format!("unix:{}", socket.display());
    let mut hello = Command::new(examples.path("hello"));
    hello.arg(&address).env("FCGI_THREADS", "1");
    let calls = strace::count(&hello, &socket, || exchange(&address))?;
    calls.once_a_request(REQUESTS, &[READS, WRITES])
}

/// All requests on one kept connection.
fn exchange(address: &str) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let mut client = fcgi::Client::connect(address).await.map_err(|e| e.to_string())?;
        for _ in 0..REQUESTS {
            let request = fcgi::client::Request::responder().param("REQUEST_METHOD", "GET");
            let response = client.send(request).await.map_err(|e| e.to_string())?;
            let answer = response.collect(1000).await.map_err(|e| e.to_string())?;
            if !answer.stdout.ends_with(b"Hello, world\n") {
                return Err(format!("{answer:?}"));
            }
        }
        Ok(())
    })
}
