//! Who may connect, and what a server says about a list of web servers that can't be right
//! (FC-3.2-1).
#![allow(missing_docs)]

use std::net::SocketAddr;

use fcgi_engine::{
    server::{Settings, Tally},
    socket::Peer,
};
use fcgi_testkit::logs;

/// A server's settings with this list, and what is logged until it has started.
fn start(list: &str) -> (Settings, String) {
    let mut settings = Settings::new();
    let log = logs::of(|| {
        settings = Settings::new().web_server_addrs_of(list);
        let _ = Tally::new(settings.clone());
    });
    (settings, log)
}

fn tcp(peer: &str) -> Peer {
    Peer::Tcp(peer.parse::<SocketAddr>().unwrap())
}

#[test]
fn a_list_of_addresses_in_any_form_admits_them_alone() {
    for list in ["127.0.0.1", " 192.0.2.1 , 127.0.0.1", "::ffff:127.0.0.1", "::1,127.0.0.1,"] {
        let (settings, log) = start(list);
        assert!(settings.admits(tcp("127.0.0.1:9")), "{list}");
        assert!(settings.admits(tcp("[::ffff:127.0.0.1]:9")), "{list}");
        assert!(!settings.admits(tcp("127.0.0.2:9")) && !settings.admits(Peer::Unix), "{list}");
        assert_eq!(log, "", "{list}");
    }
    for list in ["", " "] {
        let (settings, log) = start(list);
        assert!(settings.admits(tcp("127.0.0.1:9")) && settings.admits(Peer::Unix), "{list:?}");
        assert_eq!(log, "", "{list:?}");
    }
}

#[test]
fn what_is_no_address_is_named_at_the_start() {
    let (settings, log) = start("localhost, 127.0.0.1, 10.0.0.0/8");
    assert!(settings.admits(tcp("127.0.0.1:9")));
    assert!(log.contains("localhost") && log.contains("10.0.0.0/8"), "{log}");
    assert!(!log.contains("every connection"), "{log}");
    for list in ["nonsense", ",", "127.0.0.1:9000"] {
        let (settings, log) = start(list);
        assert!(!settings.admits(tcp("127.0.0.1:9")), "{list}");
        assert!(log.contains("every connection will be closed"), "{list}: {log}");
    }
}
