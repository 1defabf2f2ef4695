//! A server and a client over streams that are there already.

use std::{
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Duration,
};

use fcgi::client::Request;
use fcgi_blocking as fcgi;

/// More than is ever in transit at a time.
const BODY: usize = 300_000;

fn body() -> Vec<u8> {
    (0..BODY).map(|n| (n / 7) as u8).collect()
}

fn echo(request: fcgi::Request) -> Result<(), fcgi::Error> {
    let mut stdin = request.stdin();
    while let Some(chunk) = stdin.chunk()? {
        request.stdout().write_all(chunk)?;
    }
    Ok(())
}

/// Requests on one connection, which ends as an accepted one does.
fn serve_and_call(ours: OwnedFd, theirs: OwnedFd) {
    let serve = fcgi::Server::new().threads(2).serve_connection(ours, echo);
    let server = std::thread::spawn(|| serve.run());
    let mut client = fcgi::Client::over(theirs);
    for keep_conn in [true, true, false] {
        let request = Request::responder().stdin(body()).keep_conn(keep_conn);
        let answer = client.send(request).unwrap().collect(2 * BODY).unwrap();
        assert!(answer.stdout == body(), "it came back changed");
        assert_eq!(client.is_reusable(), keep_conn);
    }
    let error = client.send(Request::responder()).map(drop).unwrap_err();
    assert!(error.to_string().contains("(stream)"), "{error}");
    server.join().unwrap().unwrap();
}

#[test]
fn a_socket_that_somebody_else_connected_is_served_and_called() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    serve_and_call(ours.into(), theirs.into());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    serve_and_call(listener.accept().unwrap().0.into(), theirs.into());
}

/// What can't be polled itself goes through a socket pair and a thread.
#[test]
fn what_has_no_descriptor_goes_through_a_pair() {
    let (ours, relay) = UnixStream::pair().unwrap();
    let (mut far, theirs) = UnixStream::pair().unwrap();
    let (mut relay_in, mut relay_out) = (relay.try_clone().unwrap(), relay);
    let mut far_out = far.try_clone().unwrap();
    let mut copy = vec![std::thread::spawn(move || {
        let _ = std::io::copy(&mut far, &mut relay_out);
        let _ = relay_out.shutdown(std::net::Shutdown::Write);
    })];
    copy.push(std::thread::spawn(move || {
        let mut block = [0; 1024];
        while let Ok(n @ 1..) = relay_in.read(&mut block) {
            far_out.write_all(&block[..n]).unwrap();
        }
        let _ = far_out.shutdown(std::net::Shutdown::Write);
    }));
    serve_and_call(ours.into(), theirs.into());
    copy.into_iter().for_each(|thread| thread.join().unwrap());
}

fn waits(request: fcgi::Request) -> Result<(), fcgi::Error> {
    request.stdout().write_all("begun")?;
    request.stdout().flush()?;
    request.cancelled();
    Ok(())
}

#[test]
fn a_client_that_is_gone_ends_the_service() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let serve = fcgi::Server::new().threads(2).serve_connection(ours, waits);
    let server = std::thread::spawn(|| serve.run());
    let connector = fcgi::client::Connector::new().drain_timeout(Duration::ZERO);
    let mut client = connector.over(theirs);
    drop(client.send(Request::responder()).unwrap());
    drop(client);
    server.join().unwrap().unwrap();
}

#[test]
fn a_signal_ends_the_service() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let shutdown = fcgi::Shutdown::new();
    let serve = fcgi::Server::new().threads(2).serve_connection(ours, waits);
    let serve = serve.with_graceful_shutdown(&shutdown);
    let server = std::thread::spawn(|| serve.run());
    shutdown.trigger();
    server.join().unwrap().unwrap();
}

/// As over an accepted socket (FC-3.5-2).
#[test]
fn a_half_closed_unix_socket_is_answered() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    // BEGIN_REQUEST of a Responder, and empty PARAMS and STDIN.
    theirs.write_all(b"\x01\x01\0\x01\0\x08\0\0\0\x01\0\0\0\0\0\0").unwrap();
    theirs.write_all(b"\x01\x04\0\x01\0\0\0\0\x01\x05\0\x01\0\0\0\0").unwrap();
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    let late = |request: fcgi::Request| {
        // The end of file is noticed before the answer.
        std::thread::sleep(Duration::from_millis(50));
        request.stdout().write_all("answered")
    };
    fcgi::Server::new().threads(2).serve_connection(ours, late).run().unwrap();
    let mut answer = Vec::new();
    theirs.read_to_end(&mut answer).unwrap();
    assert!(answer.windows(8).any(|part| part == b"answered"), "{answer:?}");
}

/// A request behind a detached one waits no longer than its limit, even if that one never ends.
#[test]
fn a_request_behind_one_that_hangs_has_its_own_limit() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    // STDOUT of the first request; nothing else ever comes.
    ours.write_all(b"\x01\x06\0\x01\0\x05\0\0begun").unwrap();
    let (silent, _open) = UnixStream::pair().unwrap();
    let connector = fcgi::client::Connector::new().total_timeout(Duration::from_secs(2));
    let mut client = connector.over(theirs);
    let hangs = Request::responder().stdin(fcgi::client::Body::from_reader(silent));
    client.send(hangs).unwrap().detach();
    let error = client.send(Request::responder()).map(drop).unwrap_err();
    let is_late = matches!(error, fcgi::Error::Timeout { phase: fcgi::Phase::Response, .. });
    assert!(is_late, "{error:?}");
}
