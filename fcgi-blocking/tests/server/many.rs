//! Many requests and connections, on few threads.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use fcgi::{Error, Limits, Rejection, Request, Server};
use fcgi_blocking as fcgi;

use crate::{app::*, streams::echo};

pub fn hello(request: Request) -> Result<(), Error> {
    request.stdout().write_all("hello")
}

/// Says `started`, waits at the gate, says `done`.
pub fn gated(gate: &Gate) -> impl Fn(Request) -> Result<(), Error> + Send + Sync + 'static {
    let gate = gate.clone();
    move |request: Request| {
        request.stdout().write_all("started")?;
        request.stdout().flush()?;
        gate.wait();
        request.stdout().write_all("done")
    }
}

#[test]
fn keep_conn_set_keeps_fc_3_5_1() {
    for threads in [1, 2, 16] {
        let app = serve(Server::new().threads(threads), echo);
        let mut peer = app.dial();
        for round in 0..500u16 {
            // Any id will do, again and again.
            let id = [1, 2, u16::MAX][usize::from(round % 3)];
            let body = pattern(usize::from(round) * 37 + 1, u64::from(round));
            peer.send(request(id, KEEP, &[], &body));
            assert_eq!(peer.answer(id), complete(body));
        }
    }
}

#[test]
fn requests_of_one_connection_run_beside_each_other() {
    let gate = Gate::default();
    let threads = Arc::new(Mutex::new(HashSet::new()));
    let app = serve(Server::new().threads(4), {
        let (gate, threads) = (gate.clone(), Arc::clone(&threads));
        move |request: Request| {
            threads.lock().unwrap().insert(std::thread::current().id());
            gated(&gate)(request)
        }
    });
    let mut peer = app.dial();
    for id in [1, 3, 5] {
        peer.send(request(id, KEEP, &[], b""));
    }
    // All three have started before any goes on.
    let mut started: Vec<_> = (0..3)
        .map(|_| {
            let record = peer.record();
            assert_eq!(record.content, b"started");
            record.id
        })
        .collect();
    started.sort_unstable();
    assert_eq!(started, [1, 3, 5]);
    assert_eq!(threads.lock().unwrap().len(), 3, "each on a thread of its own");
    // And a quick one is not held up.
    gate.open();
    gate.open();
    gate.open();
    let mut answers = vec![Answer::default(); 6];
    let mut left = 3;
    while left > 0 {
        let record = peer.record();
        left -= usize::from(answers[usize::from(record.id)].take(&record));
    }
    for id in [1, 3, 5] {
        assert_eq!(answers[id], complete("done"));
    }
}

#[test]
fn interleaved_requests_on_more_and_on_fewer_threads() {
    const IDS: std::ops::RangeInclusive<u16> = 1..=20;
    for threads in [2, 3, 32] {
        let app = serve(Server::new().threads(threads), |request: Request| {
            let id = request.param_str("ID").unwrap_or_default().to_owned();
            request.stdout().write_all(format!("{id}:"))?;
            echo(request)
        });
        let mut wire = Vec::new();
        for id in IDS {
            wire.extend(begin(id, RESPONDER, KEEP));
        }
        for id in IDS.rev() {
            wire.extend(params(id, &[("ID", &id.to_string())]));
        }
        for round in 0..50u64 {
            for id in IDS {
                wire.extend(stream(Type::Stdin, id, &pattern(100, round * 100 + u64::from(id))));
            }
        }
        for id in IDS {
            wire.extend(close(Type::Stdin, id));
        }
        let mut peer = app.dial();
        peer.send(wire);
        let mut answers = vec![Answer::default(); 21];
        let mut left = 20;
        while left > 0 {
            let record = peer.record();
            left -= usize::from(answers[usize::from(record.id)].take(&record));
        }
        for id in IDS {
            let mut body = format!("{id}:").into_bytes();
            (0..50).for_each(|round| body.extend(pattern(100, round * 100 + u64::from(id))));
            assert_eq!(answers[usize::from(id)], complete(body), "request {id}");
        }
    }
}

/// Handlers of many connections at once, more of them than threads, each with input of its own.
#[test]
fn many_connections_on_few_threads() {
    for threads in [1, 3] {
        let app = serve(Server::new().threads(threads), echo);
        std::thread::scope(|scope| {
            for n in 0..20u64 {
                let app = &app;
                scope.spawn(move || {
                    let mut peer = app.dial();
                    for round in 0..50 {
                        let body = pattern(n as usize * 211 + round + 1, n);
                        let wire = request(1, KEEP, &[], &body);
                        let (first, rest) = wire.split_at(wire.len() / 2);
                        peer.send(first);
                        peer.send(rest);
                        assert_eq!(peer.answer(1), complete(body));
                    }
                });
            }
        });
    }
}

#[test]
fn silent_connections_hold_no_thread_h_16() {
    let app = serve(Server::new().threads(2), hello);
    // Silent at first, inside a header, inside PARAMS, and after a request.
    let mut silent: Vec<_> = (0..200).map(|_| app.dial()).collect();
    for (n, peer) in silent.iter_mut().enumerate() {
        match n % 4 {
            0 => {}
            1 => peer.send(&begin(1, RESPONDER, KEEP)[..5]),
            2 => {
                peer.send([&begin(1, RESPONDER, KEEP)[..], &params(1, &[("A", "1")])[..9]].concat())
            }
            _ => {
                peer.send(request(1, KEEP, &[], b""));
                assert_eq!(peer.answer(1), complete("hello"));
            }
        }
    }
    let mut good = app.dial();
    for _ in 0..10 {
        good.send(request(1, KEEP, &[], b""));
        assert_eq!(good.answer(1), complete("hello"));
    }
}

/// Requests whose STDIN never ends leave a thread for others.
#[test]
fn silent_input_holds_up_no_other_request() {
    let app = serve(Server::new().threads(16).stdin_timeout(None), echo);
    let mut silent: Vec<_> = (0..40).map(|_| app.dial()).collect();
    for (n, peer) in silent.iter_mut().enumerate() {
        peer.send([begin(1, RESPONDER, KEEP), params(1, &[])].concat());
        if n % 2 == 0 {
            peer.send(stream(Type::Stdin, 1, b"a"));
        }
    }
    let mut good = app.dial();
    for _ in 0..10 {
        good.send(request(1, KEEP, &[], b"whole at once"));
        assert_eq!(good.answer(1), complete("whole at once"));
    }
    // Whole a little later, which no other is: the server has seen it when it answers GET_VALUES.
    for _ in 0..10 {
        good.send([begin(1, RESPONDER, KEEP), params(1, &[])].concat());
        good.send(record(Type::GetValues, 0, &[]));
        assert_eq!(good.record().kind, Type::GetValuesResult);
        good.send([stream(Type::Stdin, 1, b"later"), close(Type::Stdin, 1)].concat());
        assert_eq!(good.answer(1), complete("later"));
    }
    // None of them was forgotten.
    for peer in &mut silent {
        peer.send([stream(Type::Stdin, 1, b"b"), close(Type::Stdin, 1)].concat());
    }
    for (n, peer) in silent.iter_mut().enumerate() {
        let mut answer = peer.answer(1);
        answer.stdout.retain(|byte| *byte != b'a');
        assert_eq!(answer, complete("b"), "{n}");
    }
}

#[test]
fn requests_wait_for_a_thread_in_their_order() {
    let (gate, order) = (Gate::default(), Arc::new(Mutex::new(Vec::new())));
    let app = serve(Server::new().threads(1), {
        let (gate, order) = (gate.clone(), Arc::clone(&order));
        move |request: Request| {
            gate.wait();
            order.lock().unwrap().push(request.param_str("N").unwrap().to_owned());
        }
    });
    let mut peers: Vec<_> = (0..5).map(|_| app.dial()).collect();
    for (n, peer) in peers.iter_mut().enumerate() {
        peer.send(request(1, KEEP, &[("N", &n.to_string())], b""));
        // The server answers GET_VALUES after it has seen the request, whether that runs or not.
        peer.send(record(Type::GetValues, 0, &[]));
        assert_eq!(peer.record().kind, Type::GetValuesResult);
    }
    for peer in &mut peers {
        gate.open();
        assert_eq!(peer.answer(1), failed(0));
    }
    assert_eq!(*order.lock().unwrap(), ["0", "1", "2", "3", "4"]);
}

#[test]
fn panics_cost_no_thread() {
    let app = serve(Server::new().threads(2), |request: Request| -> Result<(), Error> {
        if request.param("PANIC").is_some() {
            panic!("as the test asked");
        }
        request.stdout().write_all("fine")
    });
    let mut peer = app.dial();
    // More often than there are threads.
    for _ in 0..5 {
        peer.send(request(1, KEEP, &[("PANIC", "")], b""));
        assert_eq!(peer.answer(1), failed(fcgi::PANICKED));
    }
    peer.send(request(1, KEEP, &[], b""));
    assert_eq!(peer.answer(1), complete("fine"));
}

#[test]
fn requests_past_max_requests_get_overloaded_fc_5_5_2() {
    let gate = Gate::default();
    let app = serve(Server::new().max_requests(1), gated(&gate));
    let (mut one, mut two) = (app.dial(), app.dial());
    one.send(request(1, KEEP, &[], b""));
    one.expect_stdout(1, b"started");
    // On another connection, and on the same one.
    two.send(request(1, KEEP, &[], b""));
    assert_eq!(two.answer(1), rejected(Rejection::Overloaded));
    one.send(request(2, KEEP, &[], b""));
    assert_eq!(one.answer(2), rejected(Rejection::Overloaded));
    gate.open();
    assert_eq!(one.answer(1), complete("done"));
    // There is room again. A request counts until its handler is gone, which may be a moment after
    // its END_REQUEST.
    gate.open();
    until("there is room", || {
        two.send(request(1, KEEP, &[], b""));
        let answer = two.answer(1);
        assert!(answer == complete("starteddone") || answer == rejected(Rejection::Overloaded));
        answer == complete("starteddone")
    });
}

/// A request that was given up while it waited for a thread takes no place in the queue.
#[test]
fn aborted_requests_do_not_fill_the_queue_h_9() {
    let gate = Gate::default();
    let app = serve(Server::new().threads(2).max_requests(3), gated(&gate));
    let mut busy = app.dial();
    for id in [1, 2] {
        busy.send(request(id, KEEP, &[], b""));
        busy.expect_stdout(id, b"started");
    }
    let mut peer = app.dial();
    let stopped = Answer { app_status: fcgi::CANCELLED, ..complete("") };
    for together in [true, false, true, false] {
        for _ in 0..10 {
            peer.send(request(1, KEEP, &[], b""));
            if !together {
                // Its answer comes after the request was seen.
                peer.send(record(Type::GetValues, 0, &[]));
                assert_eq!(peer.record().kind, Type::GetValuesResult);
            }
            peer.send(abort(1));
            assert_eq!(peer.answer(1), stopped);
        }
    }
    peer.send(request(1, KEEP, &[], b""));
    gate.open();
    peer.expect_stdout(1, b"started");
    gate.open();
    gate.open();
    assert_eq!(peer.answer(1), complete("done"));
}

#[test]
fn one_thread_carries_one_request_a_connection_fc_5_5_2() {
    let gate = Gate::default();
    let app = serve(Server::new().threads(1), gated(&gate));
    let mut peer = app.dial();
    peer.send(request(1, KEEP, &[], b""));
    peer.expect_stdout(1, b"started");
    peer.send(request(2, KEEP, &[], b"ignored"));
    assert_eq!(peer.answer(2), rejected(Rejection::CantMpxConn));
    gate.open();
    assert_eq!(peer.answer(1), complete("done"));
    gate.open();
    peer.send(request(2, KEEP, &[], b""));
    assert_eq!(peer.answer(2), complete("starteddone"));
}

#[test]
fn get_values_tells_the_configuration_fc_4_1_1_fc_4_1_2_w_9() {
    let names = [("FCGI_MAX_CONNS", ""), ("FCGI_MAX_REQS", ""), ("FCGI_MPXS_CONNS", "")];
    for (threads, requests, mpxs) in [(4, 100, "1"), (4, 1, "0"), (1, 100, "0")] {
        // With one thread a connection takes one (W-14).
        let most = if mpxs == "1" { "100" } else { "1" };
        let gate = Gate::default();
        let mut limits = Limits::server();
        limits.requests = requests;
        let server = Server::new().max_connections(12).max_requests(345).limits(limits);
        let app = serve(server.threads(threads), gated(&gate));
        let mut peer = app.dial();
        let expected =
            [("FCGI_MAX_CONNS", "12"), ("FCGI_MAX_REQS", most), ("FCGI_MPXS_CONNS", mpxs)];
        peer.send(record(Type::GetValues, 0, &encode(&names)));
        let result = peer.record();
        assert_eq!((result.kind, result.id), (Type::GetValuesResult, 0));
        assert_eq!(result.content, encode(&expected));
        // In the middle of a request too.
        peer.send(request(1, KEEP, &[], b""));
        peer.expect_stdout(1, b"started");
        peer.send(record(Type::GetValues, 0, &encode(&names[2..])));
        assert_eq!(peer.record().content, encode(&expected[2..]));
        peer.send(record(Type::Other(77), 0, b"whatever"));
        let answer = peer.record();
        assert_eq!((answer.kind, answer.id), (Type::UnknownType, 0), "FC-4.2-1");
        assert_eq!(answer.content, [77, 0, 0, 0, 0, 0, 0, 0]);
        gate.open();
        assert_eq!(peer.answer(1), complete("done"));
    }
}
