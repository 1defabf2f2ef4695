//! This program under strace, as a server that says hello: what a request costs in system calls.

use std::{
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, ExitCode},
};

use fcgi_blocking as fcgi;
use fcgi_testkit::{
    harness::{self, Case, Failed},
    peers::Peer as Tool,
    strace::{self, POLLS, READS, WRITES},
    wire::{KEEP, Peer, complete, request},
};

const REQUESTS: usize = 200;
const HELLO: &str = "Content-Type: text/plain\r\n\r\nHello, world\n";

/// Has this program serve, at the address and with as many threads as the arguments after it say.
const SERVE: &str = "serve-hello";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [command, address, threads] = arguments.as_slice() {
        if command == SERVE {
            return match serve(address, threads) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            };
        }
    }
    harness::run([Case::new("a_kept_request_is_one_read_and_one_write", || {
        count_calls().map_err(Failed::from)
    })
    .needs(&[Tool::Strace])])
}

fn serve(address: &str, threads: &str) -> Result<(), Box<dyn std::error::Error>> {
    let stop = fcgi::shutdown_signal();
    let listener = fcgi::Listener::bind(address)?;
    let hello = |request: fcgi::Request| request.stdout().write_all(HELLO);
    let server = fcgi::Server::new().threads(threads.parse()?);
    Ok(server.serve(listener, hello).with_graceful_shutdown(stop).run()?)
}

fn count_calls() -> Result<(), String> {
    let io = |error: std::io::Error| error.to_string();
    let program = std::env::current_exe().map_err(io)?;
    let folder = tempfile::tempdir().map_err(io)?;
    let socket = folder.path().join("app.sock");
    for threads in ["1", "16"] {
        let mut server = Command::new(&program);
        server.arg(SERVE).arg(format!("unix:{}", socket.display())).arg(threads);
        let calls = strace::count(&server, &socket, || exchange(&socket))?;
        calls.once_a_request(REQUESTS, &[READS, WRITES, POLLS])?;
    }
    Ok(())
}

/// All requests on one kept connection.
fn exchange(socket: &Path) -> Result<(), String> {
    let stream = UnixStream::connect(socket).map_err(|error| error.to_string())?;
    let mut peer = Peer::unix(stream);
    let hello = complete(HELLO);
    for _ in 0..REQUESTS {
        peer.send(request(1, KEEP, &[("REQUEST_METHOD", "GET")], b""));
        let answer = peer.answer(1);
        if answer != hello {
            return Err(format!("{answer:?}"));
        }
    }
    Ok(())
}
