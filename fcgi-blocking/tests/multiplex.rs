//! A pool whose requests share connections, against applications made of raw bytes.

mod raw_app;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use fcgi::{
    CancelHandle, Error, Phase, Pool, Values,
    client::{Body, Chunk, Collected, Connector, Request},
    pool::{Builder, Response},
};
use fcgi_blocking as fcgi;
use raw_app::*;

const LIMIT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(100);

fn collect(sent: Result<Response, Error>) -> Result<Collected, Error> {
    sent?.collect(64 << 20)
}

/// Requests that share one connection, which does not end with time.
fn builder(app: &RawApp) -> Builder {
    Pool::builder(app.address.clone())
        .idle_timeout(LONG)
        .max_age(None)
        .max_connections(1)
        .multiplex(8)
        .connector(Connector::new().values_timeout(LONG))
}

fn start(pool: &Pool, request: Request) -> Background<Result<Collected, Error>> {
    let pool = pool.clone();
    background(move || collect(pool.send(request)))
}

/// Answers a GET_VALUES on a connection of its own.
fn values(app: &RawApp, pairs: &[(&str, &str)]) {
    let mut peer = app.accept();
    assert_eq!(peer.record().kind, Type::GetValues);
    peer.send(record(Type::GetValuesResult, 0, &encode(pairs)));
    peer.expect_close();
}

const MULTIPLEXES: &[(&str, &str)] = &[("FCGI_MPXS_CONNS", "1")];

/// The next so many requests of one connection, by their bodies, however they are interleaved.
fn requests(peer: &mut Peer, n: usize) -> HashMap<Vec<u8>, u16> {
    let (mut bodies, mut whole) = (HashMap::<u16, Vec<u8>>::new(), HashMap::new());
    while whole.len() < n {
        let Record { kind, id, content } = peer.record();
        match kind {
            Type::BeginRequest => assert!(bodies.insert(id, Vec::new()).is_none(), "id {id}"),
            Type::Stdin if content.is_empty() => {
                whole.insert(bodies.remove(&id).unwrap(), id);
            }
            Type::Stdin => bodies.get_mut(&id).unwrap().extend(content),
            _ => {}
        }
    }
    whole
}

/// Echoes many requests at once, record by record; ends one that is aborted.
fn echo_all(mut peer: Peer) {
    while let Ok(Some(Record { kind, id, content })) = peer.try_record() {
        let reply = match kind {
            Type::GetValues => record(Type::GetValuesResult, 0, &encode(MULTIPLEXES)),
            Type::AbortRequest => end(id, 1, 0),
            Type::Stdin if content.is_empty() => end(id, 0, 0),
            Type::Stdin => record(Type::Stdout, id, &content),
            _ => continue,
        };
        if peer.try_send(reply).is_err() {
            return;
        }
    }
}

#[test]
fn requests_share_a_connection_and_answers_may_be_interleaved() {
    let app = RawApp::new();
    let pool = builder(&app).build().unwrap();
    let serving = background(move || {
        values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        let mut ids: Vec<_> = requests(&mut peer, 5).into_iter().collect();
        // Small ids (FC-3.3-7); the last that came is answered first.
        ids.sort();
        let mut sorted: Vec<_> = ids.iter().map(|(_, id)| *id).collect();
        sorted.sort_unstable();
        assert_eq!(sorted, [1, 2, 3, 4, 5]);
        for byte in 0..ids[0].0.len() {
            for (body, id) in &ids {
                peer.send(record(Type::Stdout, *id, &body[byte..=byte]));
            }
        }
        for (_, id) in ids.iter().rev() {
            peer.send(end(*id, u32::from(*id), 0));
        }
        // And once more, all on the same connection.
        let (body, id) = requests(&mut peer, 1).into_iter().next().unwrap();
        peer.send(answer(id, &body));
        peer.expect_close();
    });
    let calls: Vec<_> = (0..5).map(|n| (n, start(&pool, post(&pattern(50, n))))).collect();
    for (n, call) in calls {
        let answer = call.join().unwrap();
        assert_eq!(answer.stdout, pattern(50, n));
        assert!((1..=5).contains(&answer.app_status));
    }
    assert_eq!(collect(pool.send(post(b"last"))).unwrap(), stdout("last"));
    assert_eq!(pool.stats().connections, 1);
    drop(pool);
    serving.join();
}

#[test]
fn megabytes_both_ways_on_one_connection_q_15() {
    let app = RawApp::new();
    let pool = builder(&app).build().unwrap();
    app.serve(echo_all);
    let calls: Vec<_> = (0..6)
        .map(|n| {
            let body = pattern(3 << 20, n);
            let request = if n % 2 == 0 {
                post(&body)
            } else {
                Request::responder().stdin(Body::from_reader(std::io::Cursor::new(body)))
            };
            (n, start(&pool, request))
        })
        .collect();
    for (n, call) in calls {
        assert!(call.join().unwrap().stdout == pattern(3 << 20, n), "{n} came back changed");
    }
    assert_eq!(pool.stats().connections, 1);
}

#[test]
fn an_abort_of_one_leaves_the_others_alone() {
    let app = RawApp::new();
    let connector = Connector::new().values_timeout(LONG).first_byte_timeout(Some(LIMIT * 10));
    let pool = builder(&app).connector(connector).build().unwrap();
    let serving = background(move || {
        values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        let ids = requests(&mut peer, 4);
        let id = |body: &str| ids[body.as_bytes()];
        peer.send(record(Type::Stdout, id("dropped"), b"something"));
        peer.send(record(Type::Stdout, id("stays"), b"some"));
        let mut aborted = Vec::new();
        for _ in 0..3 {
            let abort = peer.record();
            assert_eq!(abort.kind, Type::AbortRequest);
            aborted.push(abort.id);
            if abort.id == id("cancelled") {
                // Late, and for nobody.
                peer.send(answer(abort.id, b"late"));
            }
        }
        aborted.sort_unstable();
        let mut expected = [id("dropped"), id("cancelled"), id("silent")];
        expected.sort_unstable();
        assert_eq!(aborted, expected);
        peer.send([record(Type::Stdout, id("stays"), b"thing"), end(id("stays"), 0, 0)].concat());
    });
    let cancel = CancelHandle::new();
    let cancelled = {
        let (pool, cancel) = (pool.clone(), cancel.clone());
        background(move || collect(pool.send_cancellable(post(b"cancelled"), &cancel)))
    };
    let silent = start(&pool, post(b"silent"));
    let stays = {
        let pool = pool.clone();
        background(move || {
            let mut response = pool.send(post(b"stays")).unwrap();
            let mut out = Vec::new();
            while let Some(Chunk::Stdout(bytes)) = response.chunk().unwrap() {
                out.extend_from_slice(&bytes);
            }
            out
        })
    };
    let dropped = pool.send(post(b"dropped")).unwrap();
    drop(dropped);
    cancel.cancel();
    let error = cancelled.join().unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    let error = silent.join().unwrap_err();
    assert!(matches!(error, Error::Timeout { phase: Phase::FirstByte, .. }), "{error}");
    assert_eq!(stays.join(), b"something");
    serving.join();
}

#[test]
fn one_that_is_not_read_holds_up_the_others_until_it_is() {
    let app = RawApp::new();
    let pool = builder(&app).build().unwrap();
    let serving = background(move || {
        values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        let ids = requests(&mut peer, 2);
        peer.send(record(Type::Stdout, ids[&b"slow"[..]], b"first"));
        peer.send(answer(ids[&b"slow"[..]], &pattern(3 << 20, 1)));
        peer.send(answer(ids[&b"quick"[..]], b"at last"));
        peer
    });
    let quick = start(&pool, post(b"quick"));
    let mut slow = pool.send(post(b"slow")).unwrap();
    assert!(matches!(slow.chunk().unwrap(), Some(Chunk::Stdout(_))));
    thread::sleep(LIMIT);
    let mut came = 5;
    while let Some(Chunk::Stdout(bytes)) = slow.chunk().unwrap() {
        came += bytes.len();
    }
    assert!(came >= 3 << 20);
    assert_eq!(quick.join().unwrap(), stdout("at last"));
    serving.join();
}

#[test]
fn a_lost_connection_fails_its_requests_and_those_that_joined_it_try_again() {
    let app = RawApp::new();
    let pool = builder(&app).build().unwrap();
    let under_way = Gate::default();
    let read = under_way.clone();
    let serving = background(move || {
        values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        let opener = requests(&mut peer, 1);
        assert!(opener.contains_key(&b"opens"[..]));
        read.open();
        let joined = requests(&mut peer, 1);
        assert!(joined.contains_key(&b"joins"[..]));
        drop(peer);
        let mut peer = app.accept();
        let (body, id) = requests(&mut peer, 1).into_iter().next().unwrap();
        peer.send(answer(id, &body));
        peer
    });
    let opens = start(&pool, post(b"opens"));
    under_way.wait();
    let joins = start(&pool, post(b"joins"));
    let error = opens.join().unwrap_err();
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
    assert_eq!(joins.join().unwrap(), stdout("joins"));
    serving.join();
}

#[test]
fn cant_mpx_conn_ends_the_sharing_and_is_repeated_q_11() {
    let app = RawApp::new();
    let pool = builder(&app).max_connections(2).keep_conn(true).build().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let (first, second) = (post(b"first"), post(b"second"));
    let under_way = Gate::default();
    let read = under_way.clone();
    let serving = background(move || {
        values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        let id = requests(&mut peer, 1)[&b"first"[..]];
        read.open();
        let refused = requests(&mut peer, 1)[&b"second"[..]];
        peer.send(end(refused, 0, 1));
        // One that can't be replayed is refused for good.
        let mut own = app.accept();
        let (again, ..) = own.request();
        own.send(answer(again, b"second"));
        peer.send(answer(id, b"first"));
        let ready = move |mut peer: Peer| {
            thread::spawn(move || {
                while let Some((id, _, body)) = peer.try_request() {
                    if peer.try_send(answer(id, &body)).is_err() {
                        return;
                    }
                }
            });
        };
        ready(peer);
        ready(own);
        loop {
            count.fetch_add(1, Ordering::SeqCst);
            ready(app.accept());
        }
    });
    let first = start(&pool, first);
    under_way.wait();
    assert_eq!(collect(pool.send(second)).unwrap(), stdout("second"));
    assert_eq!(first.join().unwrap(), stdout("first"));
    // From now on one request a connection, of which there are two.
    assert_eq!(pool.values().unwrap().mpxs_conns, Some(false));
    let calls: Vec<_> = (0..6).map(|n| (n, start(&pool, post(&pattern(100, n))))).collect();
    for (n, call) in calls {
        assert_eq!(call.join().unwrap(), stdout(pattern(100, n)));
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1, "the two connections are kept");
    assert_eq!(pool.stats().connections, 2);
    drop(serving);
}

#[test]
fn cant_mpx_conn_for_a_body_that_is_gone_is_the_callers_error() {
    let app = RawApp::new();
    let pool = builder(&app).max_connections(2).build().unwrap();
    let under_way = Gate::default();
    let read = under_way.clone();
    let serving = background(move || {
        values(&app, MULTIPLEXES);
        let mut peer = app.accept();
        let id = requests(&mut peer, 1)[&b"first"[..]];
        read.open();
        let refused = requests(&mut peer, 1)[&b"second"[..]];
        peer.send(end(refused, 0, 1));
        peer.record_of(Type::BeginRequest);
        (peer, id)
    });
    let _first = start(&pool, post(b"first"));
    under_way.wait();
    let request = Request::responder().stdin(Body::from_reader(&b"second"[..]));
    let error = collect(pool.send(request)).unwrap_err();
    assert!(matches!(error, Error::Rejected { .. }), "{error}");
    drop(serving);
}

#[test]
fn without_an_answer_to_get_values_nothing_is_shared_q_7_q_9() {
    // It is silent, closes, does not know the question, says no.
    type Reply = Option<Vec<u8>>;
    let no = record(Type::GetValuesResult, 0, &encode(&[("FCGI_MPXS_CONNS", "0")]));
    let unknown = record(Type::UnknownType, 0, &[9, 0, 0, 0, 0, 0, 0, 0]);
    let replies: [Reply; 4] = [None, Some(Vec::new()), Some(unknown), Some(no)];
    for reply in replies {
        let says_no = reply.as_ref().is_some_and(|reply| reply.len() > 16);
        let app = RawApp::new();
        let connector = Connector::new().values_timeout(if reply.is_none() { LIMIT } else { LONG });
        let pool = builder(&app).max_connections(3).connector(connector).build().unwrap();
        let (reached, at) = mpsc::channel();
        let serving = background(move || {
            let mut asked = app.accept();
            assert_eq!(asked.record().kind, Type::GetValues);
            match reply {
                Some(bytes) if bytes.is_empty() => drop(asked),
                Some(bytes) => {
                    asked.send(bytes);
                    asked.expect_close();
                }
                None => asked.expect_close(),
            }
            // Two at once, on a connection each.
            let mut one = app.accept();
            let (id, _, body) = one.request();
            reached.send(()).unwrap();
            let mut two = app.accept();
            let (other, _, second) = two.request();
            two.send(answer(other, &second));
            one.send(answer(id, &body));
            (one, two)
        });
        let first = start(&pool, post(b"first"));
        at.recv_timeout(PATIENCE).unwrap();
        assert_eq!(collect(pool.send(post(b"second"))).unwrap(), stdout("second"));
        assert_eq!(first.join().unwrap(), stdout("first"));
        let expected = says_no.then_some(false);
        assert_eq!(pool.values().unwrap(), Values { mpxs_conns: expected, ..Values::default() });
        serving.join();
    }
}

#[test]
fn values_are_asked_once_and_limit_the_pool() {
    let app = RawApp::new();
    let pool = builder(&app).max_connections(5).multiplex(1).keep_conn(true).build().unwrap();
    let serving = background(move || {
        values(&app, &[("FCGI_MAX_CONNS", "1"), ("FCGI_MPXS_CONNS", "1")]);
        let mut peer = app.accept();
        for _ in 0..3 {
            let (id, _, body) = peer.request();
            peer.send(answer(id, &body));
        }
        app.listener.set_nonblocking(true).unwrap();
        assert!(app.listener.accept().is_err(), "one connection, and one question");
    });
    let expected = Values { max_conns: Some(1), max_reqs: None, mpxs_conns: Some(true) };
    assert_eq!(pool.values().unwrap(), expected);
    assert_eq!(pool.values().unwrap(), expected);
    // It was not told to share connections.
    let calls: Vec<_> = (0..3).map(|n| (n, start(&pool, post(&pattern(9, n))))).collect();
    for (n, call) in calls {
        assert_eq!(call.join().unwrap(), stdout(pattern(9, n)));
    }
    serving.join();
}

#[test]
fn whoever_leaves_early_leaves_nothing_to_the_others_h_11() {
    let app = RawApp::new();
    let pool = builder(&app).max_connections(2).multiplex(4).build().unwrap();
    app.serve(echo_all);
    let counts = Arc::new(Mutex::new((0, 0)));
    let callers: Vec<_> = (0..8u64)
        .map(|caller| {
            let (pool, counts) = (pool.clone(), Arc::clone(&counts));
            background(move || {
                let mut random = Random::new(0x9ABC_DEF1 + caller * 77);
                for round in 0..60 {
                    let size = [10, 1000, 100_000, 400_000][random.below(4) as usize];
                    let body = pattern(size, caller * 1000 + round);
                    let cancel = CancelHandle::new();
                    let canceller = (random.below(3) == 0).then(|| {
                        let (cancel, pause) = (cancel.clone(), random.below(3000).into());
                        background(move || {
                            thread::sleep(Duration::from_micros(pause));
                            cancel.cancel();
                        })
                    });
                    let chunks =
                        if random.below(3) == 0 { random.below(5).into() } else { u64::MAX };
                    match read(&pool, &body, &cancel, chunks) {
                        Ok(None) | Err(Error::Cancelled { .. }) => counts.lock().unwrap().0 += 1,
                        Ok(Some(out)) => {
                            assert!(out == body, "{caller} {round}: another request's bytes");
                            counts.lock().unwrap().1 += 1;
                        }
                        Err(error) => panic!("{caller} {round}: {error}"),
                    }
                    canceller.map(Background::join);
                }
            })
        })
        .collect();
    callers.into_iter().for_each(Background::join);
    let (left, finished) = *counts.lock().unwrap();
    assert!(left > 30 && finished > 100, "{left} {finished}");
    assert_eq!(pool.stats().waiting, 0);
    until("what was aborted is drained", || pool.stats().active == 0);
    assert!(pool.stats().connections <= 2);
}

/// Reads so many chunks; the whole response, if there were no more.
fn read(
    pool: &Pool,
    body: &[u8],
    cancel: &CancelHandle,
    chunks: u64,
) -> Result<Option<Vec<u8>>, Error> {
    let mut response = pool.send_cancellable(post(body), cancel)?;
    let (mut out, mut n) = (Vec::new(), 0);
    while n < chunks {
        match response.chunk()? {
            Some(Chunk::Stdout(bytes)) => out.extend_from_slice(&bytes),
            Some(chunk) => panic!("{chunk:?}"),
            None => return Ok(Some(out)),
        }
        n += 1;
    }
    Ok(None)
}
