//! Who leads, as far as others see it: quick handlers, handlers that wait, and both beside each
//! other.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use fcgi::{Error, Request, Server};
use fcgi_blocking as fcgi;

use crate::{app::*, many::hello, streams::echo};

/// So many quick requests that the server's threads leave the waiting to each other.
fn be_quick(peer: &mut Peer) {
    for _ in 0..200 {
        peer.send(request(9, KEEP, &[], b""));
        assert_eq!(peer.answer(9), complete("hello"));
    }
}

/// Waits at the gate for a request with SLOW, echoes one with ECHO, and says hello otherwise.
fn mixed(gate: &Gate) -> impl Fn(Request) -> Result<(), Error> + Send + Sync + 'static {
    let gate = gate.clone();
    move |request: Request| {
        if request.param("SLOW").is_some() {
            gate.wait();
        }
        if request.param("ECHO").is_some() { echo(request) } else { hello(request) }
    }
}

#[test]
fn a_slow_handler_holds_up_no_answer_of_its_connection() {
    // The slow one is the first, in the middle, and the last of quick ones that come at once.
    for (threads, late) in [2, 3, 16].into_iter().flat_map(|n| [1, 10, 20].map(|late| (n, late))) {
        let gate = Gate::default();
        let app = serve(Server::new().threads(threads), mixed(&gate));
        let mut peer = app.dial();
        be_quick(&mut peer);
        let wire = (1..=20).map(|id| {
            let slow = [("SLOW", "1")];
            request(id, KEEP, if id == late { &slow } else { &[] }, b"")
        });
        peer.send(wire.collect::<Vec<_>>().concat());
        let mut answers = vec![Answer::default(); 21];
        let mut left = 19;
        while left > 0 {
            let record = peer.record();
            assert_ne!(record.id, late);
            left -= usize::from(answers[usize::from(record.id)].take(&record));
        }
        gate.open();
        assert_eq!(peer.answer(late), complete("hello"), "{threads} threads");
        for id in (1..=20).filter(|id| *id != usize::from(late)) {
            assert_eq!(answers[id], complete("hello"), "{threads} threads, request {id}");
        }
    }
}

#[test]
fn a_slow_handler_holds_up_no_other_connection() {
    // The slow one is on the connection that is read first, in the middle, and last.
    for (threads, late) in [1, 2, 16].into_iter().flat_map(|n| [0, 10, 19].map(|late| (n, late))) {
        let gate = Gate::default();
        let app = serve(Server::new().threads(threads), mixed(&gate));
        let mut peers: Vec<_> = (0..20).map(|_| app.dial()).collect();
        be_quick(&mut peers[0]);
        for (n, peer) in peers.iter_mut().enumerate() {
            let slow = [("SLOW", "1")];
            peer.send(request(1, KEEP, if n == late { &slow } else { &[] }, b""));
        }
        // A thread by itself runs no other handler meanwhile.
        if threads == 1 {
            gate.open();
        }
        for (_, peer) in peers.iter_mut().enumerate().filter(|(n, _)| *n != late) {
            assert_eq!(peer.answer(1), complete("hello"), "{threads} threads");
        }
        gate.open();
        assert_eq!(peers[late].answer(1), complete("hello"), "{threads} threads");
    }
}

#[test]
fn handlers_that_wait_for_input_hold_up_nobody() {
    for threads in [2, 3, 16] {
        let app = serve(Server::new().threads(threads), mixed(&Gate::default()));
        let mut peers: Vec<_> = (0..(threads - 1).min(8)).map(|_| app.dial()).collect();
        let mut quick = app.dial();
        be_quick(&mut quick);
        let whole = pattern(100 * 300, 1);
        for (round, piece) in whole.chunks(300).enumerate() {
            for (n, peer) in peers.iter_mut().enumerate() {
                if round == 0 {
                    peer.send([begin(1, RESPONDER, KEEP), params(1, &[("ECHO", "1")])].concat());
                }
                peer.send(stream(Type::Stdin, 1, piece));
                // Each of them in turn answers by itself, or after another connection's request.
                if (round + n) % 3 == 0 {
                    quick.send(request(9, KEEP, &[], b""));
                    assert_eq!(quick.answer(9), complete("hello"), "{threads} threads");
                }
                peer.expect_stdout(1, piece);
            }
        }
        for peer in &mut peers {
            peer.send(close(Type::Stdin, 1));
            assert_eq!(peer.answer(1), complete(""), "{threads} threads");
        }
    }
}

#[test]
fn a_body_without_an_end_holds_up_nobody() {
    for threads in [2, 3, 16] {
        let app = serve(Server::new().threads(threads), |request: Request| {
            let (mut stdin, mut all) = (request.stdin(), 0);
            while let Some(chunk) = stdin.chunk()? {
                all += chunk.len();
            }
            request.stdout().write_all(all.to_string())
        });
        let mut quick = app.dial();
        let mut sender = app.dial();
        sender.send([begin(1, RESPONDER, KEEP), params(1, &[])].concat());
        let (mut writer, enough) = (sender.writer(), Arc::new(AtomicBool::new(false)));
        let until = Arc::clone(&enough);
        let sent = thread::spawn(move || {
            let piece = stream(Type::Stdin, 1, &pattern(60_000, 1));
            let mut sent = 0;
            while !until.load(Ordering::Relaxed) {
                writer.write_all(&piece).unwrap();
                sent += 60_000;
            }
            writer.write_all(&close(Type::Stdin, 1)).unwrap();
            sent
        });
        for _ in 0..300 {
            quick.send(request(9, KEEP, &[], b""));
            assert_eq!(quick.answer(9), complete("0"), "{threads} threads");
        }
        enough.store(true, Ordering::Relaxed);
        let sent: usize = sent.join().unwrap();
        assert_eq!(sender.answer(1), complete(sent.to_string()), "{threads} threads");
    }
}

#[test]
fn a_handler_that_waits_learns_of_its_end_whoever_leads() {
    let app = serve(Server::new().threads(4), mixed(&Gate::default()));
    let mut quick = app.dial();
    for round in 0..50 {
        be_quick(&mut quick);
        let mut peer = app.dial();
        peer.send([begin(1, RESPONDER, KEEP), params(1, &[("ECHO", "1")])].concat());
        peer.send(stream(Type::Stdin, 1, b"some"));
        peer.expect_stdout(1, b"some");
        if round % 2 == 0 {
            peer.send(record(Type::AbortRequest, 1, b""));
            peer.record_of(Type::EndRequest);
        }
        // Else the peer hangs up.
    }
    be_quick(&mut quick);
}

#[test]
fn a_shutdown_ends_a_handler_that_leads() {
    let limit = std::time::Duration::from_millis(50);
    let server = Server::new().threads(2).stdin_timeout(None).shutdown_timeout(limit);
    let mut app = serve(server, mixed(&Gate::default()));
    let mut quick = app.dial();
    be_quick(&mut quick);
    let mut peer = app.dial();
    peer.send([begin(1, RESPONDER, KEEP), params(1, &[("ECHO", "1")])].concat());
    peer.send(stream(Type::Stdin, 1, b"some"));
    peer.expect_stdout(1, b"some");
    app.stop();
    app.stopped();
}

#[test]
fn all_threads_that_wait_for_a_request_learn_of_its_end() {
    let ended = Gate::default();
    let both = {
        let ended = ended.clone();
        move |request: Request| -> Result<(), Error> {
            std::thread::scope(|scope| {
                // One of the two leads, and the other sleeps.
                scope.spawn(|| {
                    request.cancelled();
                    ended.open();
                });
                while let Some(chunk) = request.stdin().chunk()? {
                    request.stdout().write_all(chunk)?;
                }
                Ok(())
            })
        }
    };
    let app = serve(Server::new().threads(1), both);
    let mut peer = app.dial();
    peer.send([begin(1, RESPONDER, KEEP), params(1, &[])].concat());
    for piece in pattern(100 * 30, 1).chunks(30) {
        peer.send(stream(Type::Stdin, 1, piece));
        peer.expect_stdout(1, piece);
    }
    peer.send(record(Type::AbortRequest, 1, b""));
    ended.wait();
    peer.record_of(Type::EndRequest);
}
