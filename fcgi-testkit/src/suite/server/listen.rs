//! Who may connect, and where to.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixListener},
};

use fcgi_engine::{Address, Listener, server::Settings};

use super::{echo, hello, settings, stopped};
use crate::suite::{Case, Serving, Suite, TestRequest, patient, signal::background, wire::*};

pub(super) const CASES: &[(&str, Case)] = cases![
    "server":
    web_server_addrs_are_honoured_fc_3_2_1,
    tcp_listens_at_the_port_that_the_system_chose,
    a_listening_descriptor_is_taken_over,
    several_sockets_are_served_as_one,
    a_burst_waits_in_the_backlog,
    an_unusable_listener_is_reported,
    a_stale_socket_file_is_replaced_and_a_live_one_is_not,
    the_socket_file_of_another_listener_is_not_removed,
];

fn web_server_addrs_are_honoured_fc_3_2_1(suite: &Suite) {
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
    for (addrs, served) in [
        (None, true),
        (Some(vec![elsewhere, localhost]), true),
        (Some(vec![mapped]), true),
        (Some(vec![elsewhere]), false),
        (Some(vec![]), false),
    ] {
        let settings = Settings { web_server_addrs: addrs.clone(), ..settings() };
        let serving = suite.tcp_app(settings, hello());
        let mut peer = Peer::dial(serving.address());
        if served {
            peer.send(request(1, KEEP, &[], b""));
            assert_eq!(peer.answer(1), complete("hello"), "{addrs:?}");
        } else {
            peer.expect_close();
        }
    }
    // One that is not TCP is none of the listed addresses.
    let settings = Settings { web_server_addrs: Some(vec![localhost]), ..settings() };
    suite.app(settings, hello()).dial().expect_close();
}

fn tcp_listens_at_the_port_that_the_system_chose(suite: &Suite) {
    let serving = suite.tcp_app(settings(), echo());
    let address = serving.address();
    assert!(!address.to_string().ends_with(":0"), "{address}");
    let mut client = suite.adapter.connect(address, patient()).unwrap();
    let request = TestRequest::responder().stdin("over tcp");
    assert_eq!(client.send(request).unwrap().collect(100).unwrap().stdout, "over tcp");
}

fn a_listening_descriptor_is_taken_over(suite: &Suite) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("given.sock");
    let given = UnixListener::bind(&path).unwrap();
    let listener = Listener::from_fd(OwnedFd::from(given)).unwrap();
    assert_eq!(*listener.local_addr(), Address::unix(&*path));
    let mut serving = suite.adapter.serve(listener, settings(), hello());
    let mut peer = Peer::dial(&Address::unix(path.clone()));
    peer.send(request(1, CLOSE, &[], b""));
    assert_eq!(peer.answer(1), complete("hello"));
    serving.stop();
    stopped(&mut *serving).unwrap();
    assert!(path.exists(), "whoever made the socket removes it");
}

fn several_sockets_are_served_as_one(suite: &Suite) {
    let (_folder, path, address) = unix_address();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = Address::from(tcp.local_addr().unwrap());
    let listener = Listener::bind(&address).unwrap().and(Listener::from(tcp));
    assert_eq!(listener.local_addrs().collect::<Vec<_>>(), [&address, &port]);
    let mut serving = suite.adapter.serve(listener, settings(), hello());
    for _ in 0..3 {
        for address in [&address, &port] {
            let mut peer = Peer::dial(address);
            peer.send(request(1, CLOSE, &[], b""));
            assert_eq!(peer.answer(1), complete("hello"), "{address}");
        }
    }
    // Those that wait in either backlog are served at the end (W-13).
    let mut peers = [Peer::dial(&address), Peer::dial(&port)];
    for peer in &mut peers {
        peer.send(request(1, CLOSE, &[], b""));
        peer.until_it_has_arrived();
    }
    serving.stop();
    for peer in &mut peers {
        assert_eq!(peer.answer(1), complete("hello"));
    }
    stopped(&mut *serving).unwrap();
    assert!(!path.exists(), "removed at the end");
}

/// A burst that comes before the server does waits for it. Where the backlog is full, a connection
/// is not made before somebody accepts.
fn a_burst_waits_in_the_backlog(suite: &Suite) {
    const BURST: usize = 300;
    let (_folder, _, path) = unix_address();
    for address in [path, "tcp:127.0.0.1:0".parse().unwrap()] {
        let listener = Listener::bind(address).unwrap();
        let address = listener.local_addr().clone();
        let dial = move || (0..BURST).map(|_| Peer::dial(&address)).collect::<Vec<_>>();
        let mut peers = background(dial).join();
        let _serving = suite.adapter.serve(listener, settings(), hello());
        for peer in &mut peers {
            peer.send(request(1, CLOSE, &[], b""));
            assert_eq!(peer.answer(1), complete("hello"));
        }
    }
}

/// Also if the server is to end before it has noticed: connections may have waited there. Of a TCP
/// listener accept(2) tells, of a unix one only poll(2).
fn an_unusable_listener_is_reported(suite: &Suite) {
    for stops in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if rustix::net::shutdown(&listener, rustix::net::Shutdown::Read).is_err() {
            return; // this system shuts down no listener
        }
        is_reported(suite, Listener::from(listener), stops);
        let (_folder, path, _) = unix_address();
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Read).unwrap();
        is_reported(suite, Listener::from(listener), stops);
    }
}

fn is_reported(suite: &Suite, listener: Listener, stops: bool) {
    let address = listener.local_addr().to_string();
    let mut serving = suite.adapter.serve(listener, settings(), hello());
    if stops {
        serving.stop();
    }
    let error = stopped(&mut *serving).unwrap_err();
    assert_eq!(error.to_string(), format!("accept connections at {address}"));
}

fn end(mut serving: Box<dyn Serving>) {
    serving.stop();
    stopped(&mut *serving).unwrap();
}

fn listen(suite: &Suite, address: &Address) -> Box<dyn Serving> {
    suite.adapter.serve(Listener::bind(address).unwrap(), settings(), hello())
}

fn a_stale_socket_file_is_replaced_and_a_live_one_is_not(suite: &Suite) {
    let (_folder, path, address) = unix_address();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std leaves the file behind");
    let first = listen(suite, &address);
    let again = || io::Error::from(Listener::bind(&address).unwrap_err()).kind();
    assert_eq!(again(), ErrorKind::AddrInUse);
    assert!(path.exists());
    end(first);
    assert!(!path.exists(), "removed at the end");
    // A file that is not a socket is left alone.
    std::fs::write(&path, "precious").unwrap();
    assert_eq!(again(), ErrorKind::AddrInUse);
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

fn the_socket_file_of_another_listener_is_not_removed(suite: &Suite) {
    let (_folder, path, address) = unix_address();
    let old = listen(suite, &address);
    // Somebody has put another in its place, as a restart without a pause does.
    std::fs::remove_file(&path).unwrap();
    let new = listen(suite, &address);
    end(old);
    assert!(path.exists(), "the new listener's file");
    end(new);
    assert!(!path.exists());
}
