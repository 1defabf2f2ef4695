//! What the tests of the client and of the pool share.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test program uses a part of it"
)]

use bytes::Bytes;
use fcgi::{
    Address, Client, Error,
    client::{Collected, Connector, Request},
};
use fcgi_blocking as fcgi;

pub use fcgi_testkit::{
    signal::{Background, Gate, PATIENCE, Random, background, pattern, until},
    wire::*,
};

pub fn post(body: &[u8]) -> Request {
    let length = body.len().to_string();
    Request::responder().param("CONTENT_LENGTH", length).stdin(Bytes::copy_from_slice(body))
}

pub fn call(client: &mut Client, request: Request) -> Result<Collected, Error> {
    client.send(request)?.collect(64 << 20)
}

pub fn stdout(bytes: impl Into<Bytes>) -> Collected {
    let mut collected = Collected::default();
    collected.stdout = bytes.into();
    collected
}

pub fn connect(
    app: RawApp,
    peer: impl FnOnce(&mut Peer) + Send + 'static,
) -> (Client, Background<Peer>) {
    // An aborted request's END_REQUEST may come late on a machine under load.
    connect_by(&Connector::new().drain_timeout(PATIENCE), app, peer)
}

/// A client and the application's end of its connection, on which `peer` runs.
pub fn connect_by(
    connector: &Connector,
    app: RawApp,
    peer: impl FnOnce(&mut Peer) + Send + 'static,
) -> (Client, Background<Peer>) {
    let client = connector.connect(&app.address).unwrap();
    let running = background(move || {
        let mut accepted = app.accept();
        peer(&mut accepted);
        accepted
    });
    (client, running)
}

/// Listens with a backlog of nothing, and fills it.
pub fn full_backlog() -> (tempfile::TempDir, Address, rustix::fd::OwnedFd, Vec<rustix::fd::OwnedFd>)
{
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("full.sock");
    let address = SocketAddrUnix::new(&path).unwrap();
    let socket = || {
        rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::NONBLOCK,
            None,
        )
        .unwrap()
    };
    let listener = socket();
    rustix::net::bind(&listener, &address).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let mut connected = Vec::new();
    loop {
        let next = socket();
        match rustix::net::connect(&next, &address) {
            Ok(()) => connected.push(next),
            Err(error) => {
                assert_eq!(error, rustix::io::Errno::AGAIN);
                return (folder, Address::unix(path), listener, connected);
            }
        }
        assert!(connected.len() < 10, "no backlog is that long");
    }
}
