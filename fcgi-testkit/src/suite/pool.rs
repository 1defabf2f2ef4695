//! Tests the pool against raw applications, and against the adapter's own server.

use std::{
    collections::HashMap,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fcgi_engine::{Address, Error, Listener, Phase, client, client::Chunk, pool::Settings, server};
use fcgi_proto::{Rejection, Values};

use super::{
    Case, Script, Step, Suite, TestPool, TestRequest, patient,
    signal::{Background, Gate, PATIENCE, background, pattern, until},
    wire::*,
};

pub(super) const CASES: &[&[(&str, Case)]] = &[cases![
    "pool":
    by_default_each_request_has_a_connection_of_its_own_q_16,
    requests_one_after_the_other_share_a_connection,
    a_request_may_ask_for_a_connection_that_is_not_kept_fc_3_5_1,
    without_a_request_nothing_is_kept_by_default_q_5,
    never_more_connections_than_it_may,
    a_kept_connection_that_fails_before_the_first_byte_is_tried_once_more_q_10,
    a_fresh_connection_is_not_tried_again,
    nothing_is_tried_again_after_the_first_byte,
    a_connection_closed_while_idle_costs_no_request,
    an_idle_connection_is_closed_in_time_q_5,
    waiting_has_a_time_limit,
    not_more_wait_than_may,
    a_closed_pool_refuses,
    no_application_is_an_error_and_costs_no_place,
    a_dropped_response_leaves_nothing_to_the_next_h_11,
    a_dropped_response_is_drained_and_its_connection_used_again,
    a_detached_response_is_read_to_its_end_and_its_connection_used_again,
    an_application_that_ignores_an_abort_loses_its_connection_q_6,
    a_detached_response_goes_on_after_the_pool_was_closed,
    a_connection_that_is_not_kept_is_closed_with_its_dropped_response,
    a_request_that_timed_out_is_drained_too,
    a_refusal_leaves_the_connection_fit_q_13,
    requests_share_a_connection_where_it_is_offered,
    a_shared_connection_is_always_to_be_kept_fc_3_5_1,
    who_is_to_open_a_connection_waits_for_the_answer_to_get_values,
    multiplexing_that_is_not_offered_keeps_nothing_q_7,
    an_abort_leaves_the_others_on_its_connection_alone,
    a_shared_connection_is_drained_and_used_again,
    an_abort_that_is_ignored_costs_a_shared_connection_its_next_requests_q_6,
    cant_mpx_conn_makes_it_fall_back_q_11,
    a_silent_get_values_is_given_up_q_9,
    a_get_values_that_is_closed_means_defaults_q_7,
    fifty_threads_of_the_adapters_own_server,
]];

impl Suite {
    fn pool(&self, address: &Address, settings: Settings) -> Box<dyn TestPool> {
        self.adapter.pool(address, patient(), settings)
    }
}

/// Connections are kept, whatever their age, and callers wait long for one.
fn settings(connections: usize) -> Settings {
    let mut settings = Settings::new();
    settings.keep_conn = true;
    settings.limits.connections = connections;
    settings.limits.age = None;
    settings.limits.idle_timeout = PATIENCE;
    settings.limits.wait_timeout = Some(PATIENCE);
    settings
}

fn multiplexing() -> Settings {
    Settings { multiplex: 10, ..settings(1) }
}

fn numbered(n: usize) -> TestRequest {
    TestRequest::responder().param("N", n.to_string())
}

/// A request that somebody waits for.
type Call = Background<Result<Vec<u8>, Error>>;

fn call(pool: &dyn TestPool, request: TestRequest) -> Result<Vec<u8>, Error> {
    Ok(pool.send(request)?.collect(64 << 20)?.stdout.to_vec())
}

/// The next request's id and its parameter N; `None` at the end of the connection. Requests that
/// share the connection may interleave.
fn next(peer: &mut Peer) -> Option<(u16, Vec<u8>)> {
    let mut all = HashMap::<u16, Vec<u8>>::new();
    next_of(peer, &mut all)
}

/// As [`next`], with the PARAMS of requests that are not whole yet in `params`.
fn next_of(peer: &mut Peer, params: &mut HashMap<u16, Vec<u8>>) -> Option<(u16, Vec<u8>)> {
    loop {
        let record = peer.try_record().ok().flatten()?;
        match record.kind {
            Type::BeginRequest => assert_eq!(params.insert(record.id, Vec::new()), None),
            Type::Params => params.get_mut(&record.id).unwrap().extend(record.content),
            Type::Stdin if record.content.is_empty() => {
                let pairs = decode(&params.remove(&record.id).unwrap());
                let n = pairs.into_iter().find(|(name, _)| name == b"N").map(|(_, value)| value);
                return Some((record.id, n.unwrap_or_default()));
            }
            Type::Stdin => {}
            _ => panic!("{record:?}"),
        }
    }
}

/// Takes a request and answers with its number.
fn serve_one(peer: &mut Peer) -> bool {
    let Some((id, n)) = next(peer) else { return false };
    peer.send(answer(id, &n));
    true
}

/// As [`serve_one`]; gives the request's FCGI_KEEP_CONN.
fn serve_one_kept(peer: &mut Peer) -> bool {
    let begin = peer.record();
    assert_eq!(begin.kind, Type::BeginRequest);
    let params = peer.stream_of(Type::Params, begin.id);
    peer.stream_of(Type::Stdin, begin.id);
    peer.send(answer(begin.id, &decode(&params)[0].1));
    begin.content[2] == 1
}

/// Takes the connection on which GET_VALUES is asked, and answers it.
fn answer_values(app: &RawApp, pairs: &[(&str, &str)]) {
    let mut peer = app.accept();
    let asked = peer.record();
    assert_eq!((asked.kind, asked.id), (Type::GetValues, 0));
    assert_eq!(asked.content.len() % 8, 0, "Q-9");
    peer.send(record(Type::GetValuesResult, 0, &encode(pairs)));
    peer.expect_end();
}

fn by_default_each_request_has_a_connection_of_its_own_q_16(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, Settings::new());
    let application = background(move || {
        for _ in 0..5 {
            let mut peer = app.accept();
            assert!(!serve_one_kept(&mut peer), "FCGI_KEEP_CONN");
            // This side does not wait for the application's close.
            peer.expect_end();
        }
    });
    for n in 0..5 {
        assert_eq!(call(&*pool, numbered(n)).unwrap(), n.to_string().as_bytes());
        assert_eq!(pool.stats().connections, 0);
    }
    application.join();
}

fn a_request_may_ask_for_a_connection_that_is_not_kept_fc_3_5_1(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(1));
    let application = background(move || {
        let mut peer = app.accept();
        assert!(serve_one_kept(&mut peer));
        assert!(!serve_one_kept(&mut peer));
        peer.expect_end();
        assert!(serve_one_kept(&mut app.accept()));
    });
    for n in 0..3 {
        let request = numbered(n).keep_conn(n != 1);
        assert_eq!(call(&*pool, request).unwrap(), n.to_string().as_bytes());
    }
    application.join();
}

fn without_a_request_nothing_is_kept_by_default_q_5(suite: &Suite) {
    let app = RawApp::new();
    let mut connection = patient();
    connection.limits.requests = 0;
    let pool = suite.adapter.pool(&app.address, connection, Settings::new());
    let application = background(move || app.accept().expect_end());
    // It is seen to be one too many only when its connection is there.
    let error = call(&*pool, numbered(1)).unwrap_err();
    assert!(matches!(error, Error::Closed { .. } | Error::Usage(_)), "{error}");
    assert_eq!(pool.stats().connections, 0);
    application.join();
}

fn requests_one_after_the_other_share_a_connection(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(4));
    let application = background(move || {
        let mut peer = app.accept();
        (0..100).for_each(|_| assert!(serve_one(&mut peer)));
        peer
    });
    for n in 0..100 {
        assert_eq!(call(&*pool, numbered(n)).unwrap(), n.to_string().as_bytes());
    }
    let stats = pool.stats();
    assert_eq!((stats.connections, stats.idle, stats.active, stats.waiting), (1, 1, 0, 0));
    application.join();
}

fn never_more_connections_than_it_may(suite: &Suite) {
    let app = RawApp::new();
    let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, settings(3)));
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    thread::spawn(move || {
        loop {
            let mut peer = app.accept();
            let now = open.fetch_add(1, Ordering::SeqCst) + 1;
            seen.fetch_max(now, Ordering::SeqCst);
            let open = Arc::clone(&open);
            thread::spawn(move || {
                let mut served = 0;
                // Some connections close after an answer.
                while serve_one(&mut peer) && served < 7 {
                    served += 1;
                }
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    let callers: Vec<_> = (0..20)
        .map(|caller| {
            let pool = Arc::clone(&pool);
            background(move || {
                for n in (0..20).map(|n| caller * 100 + n) {
                    assert_eq!(call(&*pool, numbered(n)).unwrap(), n.to_string().as_bytes());
                }
            })
        })
        .collect();
    callers.into_iter().for_each(|caller| caller.join());
    // One that closes by itself may be counted until its thread has noticed.
    let most = most.load(Ordering::SeqCst);
    assert!((1..=6).contains(&most), "{most}");
    assert!(pool.stats().connections <= 3);
}

fn a_kept_connection_that_fails_before_the_first_byte_is_tried_once_more_q_10(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(1));
    let application = background(move || {
        let mut first = app.accept();
        assert!(serve_one(&mut first));
        let seen = next(&mut first).unwrap();
        drop(first);
        let mut second = app.accept();
        let again = next(&mut second).unwrap();
        assert_eq!(seen, again);
        second.send(answer(again.0, &again.1));
        // It is seen twice, and no more.
        next(&mut second)
    });
    for n in 0..2 {
        let request = numbered(n).param("CONTENT_LENGTH", "5").stdin("bytes");
        assert_eq!(call(&*pool, request).unwrap(), n.to_string().as_bytes());
    }
    drop(pool);
    assert_eq!(application.join(), None);
}

fn a_fresh_connection_is_not_tried_again(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(1));
    let application = background(move || {
        let mut first = app.accept();
        next(&mut first).unwrap();
        drop(first);
        assert!(serve_one(&mut app.accept()));
    });
    let error = call(&*pool, numbered(1)).unwrap_err();
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
    assert_eq!(call(&*pool, numbered(2)).unwrap(), b"2");
    application.join();
}

fn nothing_is_tried_again_after_the_first_byte(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(1));
    let application = background(move || {
        let mut first = app.accept();
        assert!(serve_one(&mut first));
        let (id, _) = next(&mut first).unwrap();
        first.send(record(Type::Stdout, id, b"some"));
        drop(first);
        let mut second = app.accept();
        let (id, n) = next(&mut second).unwrap();
        assert_eq!(n, b"3");
        second.send(answer(id, &n));
    });
    assert_eq!(call(&*pool, numbered(1)).unwrap(), b"1");
    let error = call(&*pool, numbered(2)).unwrap_err();
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
    assert_eq!(call(&*pool, numbered(3)).unwrap(), b"3");
    application.join();
}

fn a_connection_closed_while_idle_costs_no_request(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(1));
    let application = background(move || {
        for _ in 0..5 {
            assert!(serve_one(&mut app.accept()));
        }
    });
    for n in 0..5 {
        assert_eq!(call(&*pool, numbered(n)).unwrap(), n.to_string().as_bytes());
    }
    application.join();
}

fn an_idle_connection_is_closed_in_time_q_5(suite: &Suite) {
    let app = RawApp::new();
    let mut settings = settings(1);
    settings.limits.idle_timeout = Duration::from_millis(100);
    let pool = suite.pool(&app.address, settings);
    let application = background(move || {
        let mut peer = app.accept();
        assert!(serve_one(&mut peer));
        peer.expect_close();
    });
    assert_eq!(call(&*pool, numbered(1)).unwrap(), b"1");
    application.join();
    until("it is counted no more", || pool.stats().connections == 0);
}

fn waiting_has_a_time_limit(suite: &Suite) {
    let app = RawApp::new();
    let mut settings = settings(1);
    settings.limits.wait_timeout = Some(Duration::from_millis(200));
    let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, settings));
    let (first, mut peer, reply) = busy(&app, &pool);
    let error = call(&*pool, numbered(2)).unwrap_err();
    assert!(matches!(error, Error::Timeout { phase: Phase::Acquire, .. }), "{error}");
    let address = app.address.to_string();
    assert_eq!(
        error.to_string(),
        format!("{address}: no free connection of the pool within 200ms")
    );
    peer.send(reply);
    assert_eq!(first.join().unwrap(), b"1");
}

fn not_more_wait_than_may(suite: &Suite) {
    let app = RawApp::new();
    let mut settings = settings(1);
    settings.limits.wait_timeout = None;
    settings.limits.waiting = 1;
    let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, settings));
    let (first, mut peer, reply) = busy(&app, &pool);
    let waits = Arc::clone(&pool);
    let second = background(move || call(&*waits, numbered(2)));
    until("the second waits", || pool.stats().waiting == 1);
    let error = call(&*pool, numbered(3)).unwrap_err();
    assert!(matches!(error, Error::PoolFull { waiting: 1, .. }), "{error}");
    peer.send(reply);
    assert_eq!(first.join().unwrap(), b"1");
    assert!(serve_one(&mut peer));
    assert_eq!(second.join().unwrap(), b"2");
}

/// Request 1 on the pool's only connection, the application's end of it, and the reply to send.
fn busy(app: &RawApp, pool: &Arc<dyn TestPool>) -> (Call, Peer, Vec<u8>) {
    let pool = Arc::clone(pool);
    let first = background(move || call(&*pool, numbered(1)));
    let mut peer = app.accept();
    let (id, n) = next(&mut peer).unwrap();
    (first, peer, answer(id, &n))
}

fn a_closed_pool_refuses(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(1));
    let application = background(move || {
        let mut peer = app.accept();
        assert!(serve_one(&mut peer));
        peer.expect_close();
    });
    assert_eq!(call(&*pool, numbered(1)).unwrap(), b"1");
    pool.close();
    application.join();
    let error = call(&*pool, numbered(2)).unwrap_err();
    assert!(matches!(error, Error::PoolClosed { .. }), "{error}");
}

fn no_application_is_an_error_and_costs_no_place(suite: &Suite) {
    let (_folder, _, address) = unix_address();
    let pool = suite.pool(&address, settings(1));
    for n in 0..5 {
        let error = call(&*pool, numbered(n)).unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error}");
        assert_eq!(error.to_string(), format!("connect to {address}"));
        assert!(error.report().to_string().starts_with(&format!("{error}: ")), "it has a cause");
    }
    assert_eq!(pool.stats().connections, 0);
}

fn a_dropped_response_leaves_nothing_to_the_next_h_11(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(1));
    thread::spawn(move || {
        loop {
            let mut peer = app.accept();
            while let Ok(Some(begin)) = peer.try_record() {
                if begin.kind == Type::AbortRequest {
                    // Late, and more of the same; it may have closed by now.
                    let late = [record(Type::Stdout, begin.id, b"old"), end(begin.id, 0, 0)];
                    let _ = peer.writer().write_all(&late.concat());
                    continue;
                }
                let params = peer.stream_of(Type::Params, begin.id);
                peer.stream_of(Type::Stdin, begin.id);
                let n = decode(&params)[0].1.clone();
                if n.ends_with(b"0") {
                    peer.send(record(Type::Stdout, begin.id, b"part"));
                } else {
                    peer.send(answer(begin.id, &n));
                }
            }
        }
    });
    for round in 0..20 {
        let mut response = pool.send(numbered(round * 10)).unwrap();
        assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("part".into())));
        drop(response);
        let n = round * 10 + 1;
        assert_eq!(call(&*pool, numbered(n)).unwrap(), n.to_string().as_bytes());
    }
}

/// Takes a request, sends a part of an answer, and waits for its abort.
fn aborted(peer: &mut Peer) -> u16 {
    let (id, _) = next(peer).unwrap();
    peer.send(record(Type::Stdout, id, b"part"));
    let abort = peer.record();
    assert_eq!((abort.kind, abort.id), (Type::AbortRequest, id));
    id
}

/// Sends a request and drops its response after the first part.
fn give_up(pool: &dyn TestPool, n: usize) {
    let mut response = pool.send(numbered(n)).unwrap();
    assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("part".into())));
}

fn a_dropped_response_is_drained_and_its_connection_used_again(suite: &Suite) {
    let app = RawApp::new();
    let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, settings(1)));
    let drains = Gate::default();
    let waits = drains.clone();
    let application = background(move || {
        let mut peer = app.accept();
        for round in 0..3 {
            let id = aborted(&mut peer);
            if round == 0 {
                waits.wait();
            }
            peer.send([record(Type::Stdout, id, b"late"), end(id, 1, 0)].concat());
            assert!(serve_one(&mut peer));
        }
    });
    give_up(&*pool, 0);
    assert_eq!(pool.stats().active, 1, "it is being drained");
    let next = Arc::clone(&pool);
    let next = background(move || call(&*next, numbered(1)));
    until("the next waits", || pool.stats().waiting == 1);
    drains.open();
    assert_eq!(next.join().unwrap(), b"1");
    for n in [2, 4] {
        give_up(&*pool, n);
        assert_eq!(call(&*pool, numbered(n + 1)).unwrap(), (n + 1).to_string().as_bytes());
    }
    application.join();
}

fn a_detached_response_is_read_to_its_end_and_its_connection_used_again(suite: &Suite) {
    for settings in [settings(1), multiplexing()] {
        let app = RawApp::new();
        let shared = settings.multiplex > 1;
        let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, settings));
        let (goes_on, ended) = (Gate::default(), Gate::default());
        let (waits, ends) = (goes_on.clone(), ended.clone());
        let body = pattern(4 << 20, 1);
        let expected = body.clone();
        let application = background(move || {
            if shared {
                answer_values(&app, MULTIPLEXES);
            }
            let mut peer = app.accept();
            let begin = peer.record();
            peer.stream_of(Type::Params, begin.id);
            peer.send(record(Type::Stdout, begin.id, b"first"));
            waits.wait();
            assert!(peer.stream_of(Type::Stdin, begin.id) == expected);
            peer.send(answer(begin.id, &[b'x'; 30_000]));
            ends.open();
            assert!(serve_one(&mut peer), "on the same connection");
        });
        let request = TestRequest::responder().stdin(body);
        let mut response = pool.send(request).unwrap();
        assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("first".into())));
        response.detach();
        assert_eq!(pool.stats().active, 1, "it goes on");
        goes_on.open();
        ended.wait();
        assert_eq!(call(&*pool, numbered(7)).unwrap(), b"7");
        application.join();
    }
}

fn drained_within(limit: Duration) -> client::Settings {
    let mut connection = patient();
    connection.drain = limit;
    connection
}

fn an_application_that_ignores_an_abort_loses_its_connection_q_6(suite: &Suite) {
    let app = RawApp::new();
    let limit = Duration::from_millis(100);
    let pool = suite.adapter.pool(&app.address, drained_within(limit), settings(1));
    let application = background(move || {
        for _ in 0..2 {
            let mut deaf = app.accept();
            aborted(&mut deaf);
            deaf.expect_end();
        }
        assert!(serve_one(&mut app.accept()));
    });
    for n in 0..2 {
        let started = Instant::now();
        give_up(&*pool, n);
        until("the place is free", || pool.stats().active == 0);
        assert!(started.elapsed() >= limit);
        assert_eq!(pool.stats().connections, 0);
    }
    assert_eq!(call(&*pool, numbered(2)).unwrap(), b"2");
    application.join();
}

/// There is nothing to drain it for. The application hears of the abort, and of the end.
fn a_connection_that_is_not_kept_is_closed_with_its_dropped_response(suite: &Suite) {
    for request_keeps in [true, false] {
        let app = RawApp::new();
        let settings = Settings { keep_conn: !request_keeps, ..settings(1) };
        let drain = drained_within(Duration::from_secs(600));
        let pool = suite.adapter.pool(&app.address, drain, settings);
        let application = background(move || {
            let mut peer = app.accept();
            aborted(&mut peer);
            // It never ends the request.
            peer.expect_end();
            assert!(serve_one(&mut app.accept()));
        });
        let mut response = pool.send(numbered(0).keep_conn(request_keeps)).unwrap();
        assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("part".into())));
        drop(response);
        assert_eq!(pool.stats().connections, 0, "it takes no place");
        assert_eq!(call(&*pool, numbered(1)).unwrap(), b"1");
        application.join();
    }
}

/// It is a request like any other that is under way.
fn a_detached_response_goes_on_after_the_pool_was_closed(suite: &Suite) {
    for settings in [settings(1), multiplexing()] {
        let app = RawApp::new();
        let shared = settings.multiplex > 1;
        let pool = suite.pool(&app.address, settings);
        let (goes_on, body) = (Gate::default(), pattern(4 << 20, 1));
        let (waits, expected) = (goes_on.clone(), body.clone());
        let application = background(move || {
            if shared {
                answer_values(&app, MULTIPLEXES);
            }
            let mut peer = app.accept();
            let begin = peer.record();
            peer.stream_of(Type::Params, begin.id);
            peer.send(record(Type::Stdout, begin.id, b"first"));
            waits.wait();
            assert!(peer.stream_of(Type::Stdin, begin.id) == expected);
            peer.send(answer(begin.id, &[b'x'; 30_000]));
            peer.expect_end();
        });
        let mut response = pool.send(TestRequest::responder().stdin(body)).unwrap();
        assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("first".into())));
        response.detach();
        pool.close();
        assert!(matches!(call(&*pool, numbered(1)), Err(Error::PoolClosed { .. })));
        assert_eq!(pool.stats().active, 1, "it goes on");
        goes_on.open();
        application.join();
        until("it has ended", || pool.stats().connections == 0);
    }
}

fn a_request_that_timed_out_is_drained_too(suite: &Suite) {
    for settings in [settings(1), multiplexing()] {
        let app = RawApp::new();
        let mut connection = patient();
        // Long enough for an answer that needs no time, on any machine.
        connection.first_byte = Some(Duration::from_secs(3));
        let pool = suite.adapter.pool(&app.address, connection, settings);
        let application = background(move || {
            if settings.multiplex > 1 {
                answer_values(&app, MULTIPLEXES);
            }
            let mut peer = app.accept();
            let (id, _) = next(&mut peer).unwrap();
            assert_eq!(peer.record().kind, Type::AbortRequest);
            peer.send([record(Type::Stdout, id, b"late"), end(id, 1, 0)].concat());
            assert!(serve_one(&mut peer));
        });
        let error = call(&*pool, numbered(0)).unwrap_err();
        assert!(matches!(error, Error::Timeout { phase: Phase::FirstByte, .. }), "{error}");
        until("it is drained", || pool.stats().active == 0);
        assert_eq!(call(&*pool, numbered(1)).unwrap(), b"1");
        application.join();
    }
}

fn a_refusal_leaves_the_connection_fit_q_13(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, settings(1));
    let application = background(move || {
        let mut peer = app.accept();
        let (id, _) = next(&mut peer).unwrap();
        peer.send(end(id, 0, Rejection::Overloaded.as_u8()));
        assert!(serve_one(&mut peer));
    });
    let error = call(&*pool, numbered(1)).unwrap_err();
    assert!(matches!(error, Error::Rejected { rejection: Rejection::Overloaded, .. }), "{error}");
    assert_eq!(call(&*pool, numbered(2)).unwrap(), b"2");
    application.join();
}

const MULTIPLEXES: &[(&str, &str)] = &[("FCGI_MPXS_CONNS", "1"), ("FCGI_MAX_REQS", "50")];

fn requests_share_a_connection_where_it_is_offered(suite: &Suite) {
    let app = RawApp::new();
    let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, multiplexing()));
    let application = background(move || {
        answer_values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        let mut params = HashMap::new();
        let requests: Vec<_> = (0..5).map(|_| next_of(&mut peer, &mut params).unwrap()).collect();
        let mut ids: Vec<_> = requests.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3, 4, 5], "FC-3.3-7");
        // The last first, and in pieces.
        for (id, n) in requests.iter().rev() {
            peer.send(record(Type::Stdout, *id, n));
        }
        for (id, n) in &requests {
            peer.send([record(Type::Stdout, *id, n), end(*id, 0, 0)].concat());
        }
        peer
    });
    let callers: Vec<_> = (0..5)
        .map(|n| {
            let pool = Arc::clone(&pool);
            background(move || (n, call(&*pool, numbered(n)).unwrap()))
        })
        .collect();
    for caller in callers {
        let (n, stdout) = caller.join();
        assert_eq!(stdout, format!("{n}{n}").as_bytes());
    }
    application.join();
    assert_eq!(pool.values().unwrap().mpxs_conns, Some(true));
}

fn a_shared_connection_is_always_to_be_kept_fc_3_5_1(suite: &Suite) {
    let app = RawApp::new();
    let settings = Settings { keep_conn: false, ..multiplexing() };
    let pool = suite.pool(&app.address, settings);
    let application = background(move || {
        answer_values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        (0..4).for_each(|_| assert!(serve_one_kept(&mut peer)));
        peer
    });
    for n in 0..4 {
        let request = numbered(n).keep_conn(n % 2 == 0);
        assert_eq!(call(&*pool, request).unwrap(), n.to_string().as_bytes());
    }
    application.join();
}

fn who_is_to_open_a_connection_waits_for_the_answer_to_get_values(suite: &Suite) {
    let app = RawApp::new();
    let settings = Settings { multiplex: 10, ..settings(3) };
    let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, settings));
    let asked = Gate::default();
    let asks = asked.clone();
    let all_wait = Gate::default();
    let waits = all_wait.clone();
    let application = background(move || {
        let mut peer = app.accept();
        assert_eq!(peer.record().kind, Type::GetValues);
        asks.open();
        waits.wait();
        peer.send(record(Type::GetValuesResult, 0, &encode(MULTIPLEXES)));
        peer.expect_end();
        // Those that have waited know now that they can share.
        let mut peers: Vec<_> = (0..3).map(|_| app.accept()).collect();
        peers.iter_mut().for_each(|peer| assert!(serve_one_kept(peer)));
        peers
    });
    let caller = |n| {
        let pool = Arc::clone(&pool);
        background(move || assert_eq!(call(&*pool, numbered(n)).unwrap(), n.to_string().as_bytes()))
    };
    let mut callers = vec![caller(0)];
    asked.wait();
    callers.extend([caller(1), caller(2)]);
    until("all have a place", || pool.stats().active == 3);
    all_wait.open();
    callers.into_iter().for_each(|caller| caller.join());
    application.join();
}

fn multiplexing_that_is_not_offered_keeps_nothing_q_7(suite: &Suite) {
    let app = RawApp::new();
    let settings = Settings { keep_conn: false, ..multiplexing() };
    let pool = suite.pool(&app.address, settings);
    let application = background(move || {
        answer_values(&app, &[("FCGI_MPXS_CONNS", "0")]);
        for _ in 0..2 {
            let mut peer = app.accept();
            assert!(!serve_one_kept(&mut peer));
            peer.expect_end();
        }
    });
    for n in 0..2 {
        assert_eq!(call(&*pool, numbered(n)).unwrap(), n.to_string().as_bytes());
    }
    application.join();
}

fn an_abort_leaves_the_others_on_its_connection_alone(suite: &Suite) {
    let app = RawApp::new();
    let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, multiplexing()));
    let application = background(move || {
        answer_values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        let (first, _) = next(&mut peer).unwrap();
        peer.send(record(Type::Stdout, first, b"part"));
        let (second, n) = next(&mut peer).unwrap();
        peer.send(record(Type::Stdout, second, &n));
        let aborted = peer.record();
        assert_eq!((aborted.kind, aborted.id), (Type::AbortRequest, first));
        peer.send([record(Type::Stdout, first, b"late"), end(first, 0, 0)].concat());
        peer.send([record(Type::Stdout, second, &n), end(second, 0, 0)].concat());
        peer
    });
    let mut first = pool.send(numbered(1)).unwrap();
    assert_eq!(first.chunk().unwrap(), Some(Chunk::Stdout("part".into())));
    let mut second = pool.send(numbered(2)).unwrap();
    assert_eq!(second.chunk().unwrap(), Some(Chunk::Stdout("2".into())));
    drop(first);
    assert_eq!(second.chunk().unwrap(), Some(Chunk::Stdout("2".into())));
    assert_eq!(second.chunk().unwrap(), None);
    assert_eq!(second.app_status(), Some(0));
    application.join();
}

fn a_shared_connection_is_drained_and_used_again(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, multiplexing());
    let application = background(move || {
        answer_values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        for _ in 0..3 {
            let id = aborted(&mut peer);
            peer.send([record(Type::Stdout, id, b"late"), end(id, 1, 0)].concat());
            assert!(serve_one(&mut peer));
        }
    });
    for n in [0, 2, 4] {
        give_up(&*pool, n);
        // Nobody else reads the connection.
        until("it is drained", || pool.stats().active == 0);
        assert_eq!(call(&*pool, numbered(n + 1)).unwrap(), (n + 1).to_string().as_bytes());
    }
    application.join();
}

fn an_abort_that_is_ignored_costs_a_shared_connection_its_next_requests_q_6(suite: &Suite) {
    let app = RawApp::new();
    let limit = Duration::from_millis(100);
    let settings = Settings { multiplex: 10, ..settings(2) };
    let pool: Arc<dyn TestPool> =
        Arc::from(suite.adapter.pool(&app.address, drained_within(limit), settings));
    let goes_on = Gate::default();
    let waits = goes_on.clone();
    let application = background(move || {
        answer_values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        let (stays, n) = next(&mut peer).unwrap();
        peer.send(record(Type::Stdout, stays, &n));
        aborted(&mut peer);
        // It goes on with what it has, and gets nothing new.
        let mut fresh = app.accept();
        assert!(serve_one(&mut fresh));
        waits.wait();
        peer.send(answer(stays, b" and more"));
        peer.expect_end();
        fresh
    });
    let mut stays = pool.send(numbered(0)).unwrap();
    assert_eq!(stays.chunk().unwrap(), Some(Chunk::Stdout("0".into())));
    give_up(&*pool, 1);
    until("it was drained in vain", || pool.stats().active == 1);
    assert_eq!(call(&*pool, numbered(2)).unwrap(), b"2");
    goes_on.open();
    assert_eq!(stays.chunk().unwrap(), Some(Chunk::Stdout(" and more".into())));
    assert_eq!(stays.chunk().unwrap(), None);
    application.join();
}

fn cant_mpx_conn_makes_it_fall_back_q_11(suite: &Suite) {
    let app = RawApp::new();
    let settings = Settings { multiplex: 10, ..settings(2) };
    let pool: Arc<dyn TestPool> = Arc::from(suite.pool(&app.address, settings));
    let begun = Gate::default();
    let first_begun = begun.clone();
    let application = background(move || {
        answer_values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        let first = next(&mut peer).unwrap();
        first_begun.open();
        let second = next(&mut peer).unwrap();
        peer.send(end(second.0, 0, Rejection::CantMpxConn.as_u8()));
        // It comes again, alone.
        let mut other = app.accept();
        let again = next(&mut other).unwrap();
        assert_eq!(again.1, second.1);
        other.send(answer(again.0, &again.1));
        peer.send(answer(first.0, &first.1));
        (peer, other)
    });
    let busy = Arc::clone(&pool);
    let first = background(move || call(&*busy, numbered(1)));
    begun.wait();
    let second = call(&*pool, numbered(2)).unwrap();
    assert_eq!((second, first.join().unwrap()), (b"2".to_vec(), b"1".to_vec()));
    application.join();
    assert_eq!(pool.values().unwrap().mpxs_conns, Some(false));
}

fn a_silent_get_values_is_given_up_q_9(suite: &Suite) {
    let app = RawApp::new();
    let mut limits = patient();
    limits.values = Duration::from_millis(100);
    let pool = suite.adapter.pool(&app.address, limits, multiplexing());
    let application = background(move || {
        let mut silent = app.accept();
        assert_eq!(silent.record().kind, Type::GetValues);
        let mut peer = app.accept();
        (0..2).for_each(|_| assert!(serve_one(&mut peer)));
    });
    assert_eq!(call(&*pool, numbered(1)).unwrap(), b"1");
    assert_eq!(call(&*pool, numbered(2)).unwrap(), b"2");
    assert_eq!(pool.values().unwrap(), Values::default());
    application.join();
}

fn a_get_values_that_is_closed_means_defaults_q_7(suite: &Suite) {
    let app = RawApp::new();
    let pool = suite.pool(&app.address, multiplexing());
    let application = background(move || {
        assert_eq!(app.accept().record().kind, Type::GetValues);
        assert!(serve_one(&mut app.accept()));
    });
    assert_eq!(call(&*pool, numbered(1)).unwrap(), b"1");
    assert_eq!(pool.values().unwrap(), Values::default());
    application.join();
}

fn fifty_threads_of_the_adapters_own_server(suite: &Suite) {
    let script = Script::new([Step::Param("N"), Step::Stdin]);
    let (_folder, _, address) = unix_address();
    let limits = server::Settings { web_server_addrs: None, ..server::Settings::from_env() };
    let serving = suite.adapter.serve(Listener::bind(address).unwrap(), limits, script);
    for multiplex in [1, 20] {
        let settings = Settings { multiplex, ..settings(4) };
        let pool: Arc<dyn TestPool> = Arc::from(suite.pool(serving.address(), settings));
        let callers: Vec<_> = (0..50)
            .map(|n| {
                let pool = Arc::clone(&pool);
                background(move || {
                    for round in 0..10 {
                        let body = vec![b'a' + round; 3_000 * usize::from(round)];
                        let request = numbered(n)
                            .param("CONTENT_LENGTH", body.len().to_string())
                            .stdin(body.clone());
                        let expected = [n.to_string().as_bytes(), &body].concat();
                        assert_eq!(call(&*pool, request).unwrap(), expected);
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join());
        assert!(pool.stats().connections <= 4);
    }
}
