//! Many connections of which few say anything: they are watched in another way, and served the same.

use std::time::Duration;

use fcgi::{AbortReason, Error, Request, Server};
use fcgi_blocking as fcgi;

use crate::{app::*, many::hello};

/// More than are polled whatever they say.
const MANY: usize = 150;
/// Requests after which those that said nothing are quiet.
const LONG: usize = 200;

fn says_hello(peer: &mut Peer) {
    peer.send(request(1, KEEP, &[], b""));
    assert_eq!(peer.answer(1), complete("hello"));
}

/// Keeps the server busy until the others are quiet.
fn wait_busily(app: &App) {
    let mut busy = app.dial();
    (0..LONG).for_each(|_| says_hello(&mut busy));
}

#[test]
fn quiet_connections_are_served_when_they_speak() {
    for threads in [1, 4] {
        let mut app = serve(Server::new().threads(threads), hello);
        let mut peers: Vec<_> = (0..MANY).map(|_| app.dial()).collect();
        for _ in 0..3 {
            wait_busily(&app);
            peers.iter_mut().for_each(says_hello);
        }
        // A request in two parts, with a pause between them in which it is quiet again.
        let wire = request(1, KEEP, &[], b"");
        peers.iter_mut().for_each(|peer| peer.send(&wire[..13]));
        wait_busily(&app);
        for peer in &mut peers {
            peer.send(&wire[13..]);
            assert_eq!(peer.answer(1), complete("hello"));
        }
        // Others take the places of those that leave.
        wait_busily(&app);
        peers.truncate(MANY / 3);
        peers.extend((0..MANY).map(|_| app.dial()));
        wait_busily(&app);
        peers.iter_mut().for_each(says_hello);
        wait_busily(&app);
        app.stop();
        peers.iter_mut().for_each(Peer::expect_close);
        app.stopped();
    }
}

#[test]
fn a_quiet_connections_limits_pass() {
    let limit = Some(Duration::from_secs(3));
    let server = Server::new().threads(1).first_record_timeout(limit).idle_timeout(limit);
    let app = serve(server, hello);
    // Each that speaks does so as soon as it is there, however slow the machine is with all of them.
    let dial_and_speak = |n| {
        let mut peer = app.dial();
        if n % 2 == 0 {
            says_hello(&mut peer);
        }
        peer
    };
    let mut peers: Vec<_> = (0..MANY).map(dial_and_speak).collect();
    let mut busy = app.dial();
    (0..LONG).for_each(|_| says_hello(&mut busy));
    peers.iter_mut().for_each(Peer::expect_close);
}

#[test]
fn a_handler_of_a_quiet_connection_hears_of_its_end_and_answers() {
    let waits = |request: Request| match request.param_str("WAIT") {
        Some(_) => {
            request.stdout().write_all("started")?;
            request.stdout().flush()?;
            assert_eq!(request.cancelled(), AbortReason::Requested);
            Ok::<_, Error>(7)
        }
        None => hello(request).map(|()| 0),
    };
    let app = serve(Server::new().threads(3), waits);
    let _others: Vec<_> = (0..MANY).map(|_| app.dial()).collect();
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[("WAIT", "1")], b""));
    peer.expect_stdout(1, "started");
    wait_busily(&app);
    peer.send(abort(1));
    assert_ne!(peer.answer(1).app_status, 0);
    wait_busily(&app);
    says_hello(&mut peer);
}
