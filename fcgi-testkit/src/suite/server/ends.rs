//! Connections that one end closes: nothing is lost, and the other end notices.

use std::{io::Write, thread::sleep, time::Duration};

use bytes::Bytes;

use super::{echo, hello, settings};
use crate::suite::{
    Case, Gate, Script, Step, Suite,
    signal::{background, pattern, until},
    wire::*,
};

pub(super) const CASES: &[(&str, Case)] = cases![
    "server":
    a_client_that_still_writes_loses_nothing_w_16,
    a_client_whose_request_has_something_behind_it_may_still_write_w_16,
    a_client_that_reads_last_gets_its_answer_w_16,
    a_lost_peer_is_noticed_though_its_input_is_not_read_w_8,
    the_end_of_file_over_tcp_means_that_the_peer_is_gone_w_17,
    the_end_of_file_over_tcp_leaves_time_for_an_answer_fc_3_5_2,
    who_reads_slowly_after_its_end_of_file_over_tcp_gets_the_answer_fc_3_5_2,
];

fn a_client_that_still_writes_loses_nothing_w_16(suite: &Suite) {
    let body = pattern(100_000, 5);
    for script in [hello(), echo()] {
        let unix = suite.app(settings(), script.clone());
        let tcp = suite.tcp_app(settings(), script);
        for address in [unix.serving.address(), tcp.address()] {
            for _ in 0..5 {
                let mut peer = Peer::dial(address);
                let mut to = peer.writer();
                peer.send([begin(1, RESPONDER, CLOSE), params(1, &[])].concat());
                let rest = [stream(Type::Stdin, 1, &body), close(Type::Stdin, 1)].concat();
                let sending =
                    background(move || rest.chunks(1000).try_for_each(|c| to.write_all(c)));
                let answer = peer.answer(1);
                assert!(answer == complete("hello") || answer == complete(body.clone()));
                sending.join().expect("all of STDIN is taken");
                // Another record behind the answer.
                peer.send(close(Type::Data, 1));
                peer.expect_close();
                peer.send(close(Type::Data, 1));
            }
        }
    }
}

fn a_client_whose_request_has_something_behind_it_may_still_write_w_16(suite: &Suite) {
    let app = suite.app(settings(), hello());
    let whole = request(1, CLOSE, &[], b"");
    for behind in [close(Type::Data, 1), abort(7)] {
        let mut peer = Peer::dial(app.serving.address());
        peer.send([&whole[..], &behind].concat());
        assert_eq!(peer.answer(1), complete("hello"));
        peer.send(close(Type::Data, 1));
    }
}

fn a_client_that_reads_last_gets_its_answer_w_16(suite: &Suite) {
    // More than a unix socket holds, and no more than a handler can write without waiting.
    let body = pattern(350_000, 9);
    let script = Script::new([Step::Stdout(body.clone().into())]);
    let unix = suite.app(settings(), script.clone());
    let tcp = suite.tcp_app(settings(), script);
    for address in [unix.serving.address(), tcp.address()] {
        for keep_conn in [KEEP, CLOSE] {
            let mut peer = Peer::dial(address);
            // More than the sockets and the server hold, and sent before a byte is read.
            peer.send(request(1, keep_conn, &[], &[b'x'; 8 << 20]));
            assert!(peer.answer(1) == complete(body.clone()), "the answer is not whole");
        }
    }
}

/// Waits for ever, and reads nothing.
fn deaf() -> Script {
    Script::new([Step::say("started"), Step::Flush, Step::Stuck])
}

fn a_lost_peer_is_noticed_though_its_input_is_not_read_w_8(suite: &Suite) {
    let unix = suite.app(settings(), deaf());
    let script = deaf();
    let probe = script.probe();
    let tcp = suite.tcp_app(settings(), script);
    for n in 0..2 {
        // More than a request may leave unread, so that nobody reads the connection.
        for (address, probe, reset) in
            [(unix.serving.address(), &unix.probe, false), (tcp.address(), &probe, true)]
        {
            let mut peer = Peer::dial(address);
            let mut to = peer.writer();
            let wire = [begin(1, RESPONDER, KEEP), params(1, &[])].concat();
            peer.send(&wire);
            peer.expect_stdout(1, "started");
            let sending = background(move || {
                let _ = to.write_all(&stream(Type::Stdin, 1, &[b'x'; 4 << 20]));
            });
            std::thread::sleep(super::SOON / 4);
            assert_eq!(probe.ended(), n);
            if reset {
                peer.reset_on_close();
            }
            peer.shutdown();
            drop(peer);
            sending.join();
            probe.wait_ended(n + 1);
        }
    }
}

fn the_end_of_file_over_tcp_means_that_the_peer_is_gone_w_17(suite: &Suite) {
    let script = deaf();
    let probe = script.probe();
    let tcp = suite.tcp_app(settings(), script);
    // Its input is whole and was read; whole, but still in the socket; not whole.
    let whole = request(1, KEEP, &[], b"body");
    let unread = request(1, KEEP, &[], &[b'x'; 280_000]);
    let part = [begin(1, RESPONDER, KEEP), params(1, &[])].concat();
    for (n, wire) in [whole, unread, part].into_iter().enumerate() {
        let mut peer = Peer::dial(tcp.address());
        peer.send(wire);
        peer.expect_stdout(1, "started");
        peer.shutdown_write();
        until("the handler ends", || probe.ended() > n);
    }
}

/// Sends a request whose input fits into the socket and is not read before `pause` has passed. Returns
/// whether it was answered.
fn is_answered_after(suite: &Suite, pause: Duration) -> bool {
    let gate = Gate::default();
    let script =
        Script::new([Step::say("started"), Step::Flush, Step::Pass(gate.clone()), Step::Stdin]);
    let tcp = suite.tcp_app(settings(), script);
    let mut peer = Peer::dial(tcp.address());
    // More than a request may leave unread, so that nobody reads the connection.
    peer.send(request(1, CLOSE, &[], &[b'x'; 280_000]));
    peer.expect_stdout(1, "started");
    peer.shutdown_write();
    sleep(pause);
    gate.open();
    loop {
        match peer.try_record() {
            Ok(Some(record)) if record.kind == Type::EndRequest => return true,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return false,
        }
    }
}

fn the_end_of_file_over_tcp_leaves_time_for_an_answer_fc_3_5_2(suite: &Suite) {
    // The time is short, and a busy machine may take all of it.
    let in_time = (0..10).any(|_| is_answered_after(suite, Duration::from_millis(120)));
    assert!(in_time, "never answered");
}

fn who_reads_slowly_after_its_end_of_file_over_tcp_gets_the_answer_fc_3_5_2(suite: &Suite) {
    // More than the sockets hold.
    let (block, many) = (Bytes::from_static(&[b'x'; 65_536]), 1_000);
    let script = Script::new([Step::Flood(block.clone(), many, Default::default())]);
    let tcp = suite.tcp_app(settings(), script);
    let mut peer = Peer::dial(tcp.address());
    peer.send(request(1, CLOSE, &[], b""));
    peer.shutdown_write();
    sleep(Duration::from_millis(800));
    assert_eq!(peer.answer(1).stdout.len(), block.len() * many);
    peer.expect_close();
}
