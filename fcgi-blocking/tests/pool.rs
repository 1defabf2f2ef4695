//! The pool against applications made of raw bytes: who gets which connection, what is sent again.

mod raw_app;

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fcgi::{
    CancelHandle, Error, Phase, Pool,
    client::{Body, Chunk, Collected, Connector, Request},
    pool::{Builder, Response},
};
use fcgi_blocking as fcgi;
use raw_app::*;

const LIMIT: Duration = Duration::from_millis(200);
/// One that leaves time for what needs none, on any machine.
const AMPLE: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(100);

fn collect(sent: Result<Response, Error>) -> Result<Collected, Error> {
    sent?.collect(64 << 20)
}

fn say(pool: &Pool, body: &[u8]) -> Result<Collected, Error> {
    collect(pool.send(post(body)))
}

/// A pool that keeps its connections, however long.
fn builder(app: &RawApp) -> Builder {
    Pool::builder(app.address.clone()).keep_conn(true).idle_timeout(LONG).max_age(None)
}

/// An application that answers each request with its body, and counts.
#[derive(Clone, Default)]
struct Counts(Arc<[AtomicUsize; 3]>);

impl Counts {
    fn serve(&self, app: RawApp) {
        let counts = self.clone();
        app.serve(move |mut peer| {
            let [accepted, open, requests] = &*counts.0;
            accepted.fetch_add(1, Ordering::SeqCst);
            open.fetch_add(1, Ordering::SeqCst);
            while let Some((id, _, body)) = peer.try_request() {
                requests.fetch_add(1, Ordering::SeqCst);
                if peer.try_send(answer(id, &body)).is_err() {
                    break;
                }
            }
            open.fetch_sub(1, Ordering::SeqCst);
        });
    }

    fn accepted(&self) -> usize {
        self.0[0].load(Ordering::SeqCst)
    }

    fn open(&self) -> usize {
        self.0[1].load(Ordering::SeqCst)
    }

    fn requests(&self) -> usize {
        self.0[2].load(Ordering::SeqCst)
    }
}

#[test]
fn what_is_send_and_sync() {
    fn is_send<T: Send + 'static>() {}
    fn is_sync<T: Sync>() {}
    is_send::<Pool>();
    is_sync::<Pool>();
    is_send::<Response>();
}

// Connections.

#[test]
fn a_connection_is_used_again_and_again() {
    let (app, counts) = (RawApp::new(), Counts::default());
    let pool = builder(&app).build().unwrap();
    counts.serve(app);
    assert_eq!(pool.stats().connections, 0, "none is opened ahead of a request (Q-5)");
    for round in 0..50 {
        let body = pattern(round * 100, round as u64);
        assert_eq!(say(&pool, &body).unwrap(), stdout(body));
    }
    assert_eq!((counts.accepted(), counts.requests()), (1, 50));
    let stats = pool.stats();
    assert_eq!((stats.connections, stats.idle, stats.active, stats.waiting), (1, 1, 0, 0));
    drop(pool);
    until("the connections are closed", || counts.open() == 0);
}

#[test]
fn the_connection_goes_back_with_the_end_of_the_response() {
    let (app, counts) = (RawApp::new(), Counts::default());
    let pool = builder(&app).max_connections(1).build().unwrap();
    counts.serve(app);
    let mut response = pool.send(post(b"one")).unwrap();
    while response.chunk().unwrap().is_some() {}
    // It is still there, but needs nothing any more.
    assert_eq!(say(&pool, b"two").unwrap(), stdout("two"));
    assert_eq!(response.app_status(), Some(0));
    assert_eq!(counts.accepted(), 1);
}

#[test]
fn there_are_never_more_connections_than_allowed() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    /// The web server closed it, and said so before it connected again.
    fn is_hung_up(stream: &OwnedFd) -> bool {
        let mut fds = [PollFd::new(stream, PollFlags::empty())];
        poll(&mut fds, Some(&Timespec::default())).unwrap();
        fds[0].revents().contains(PollFlags::HUP)
    }
    let app = RawApp::new();
    let pool =
        builder(&app).max_connections(3).max_requests_per_connection(Some(4)).build().unwrap();
    let (most, accepted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, count) = (Arc::clone(&most), Arc::clone(&accepted));
    thread::spawn(move || {
        let mut open = Vec::new();
        loop {
            let mut peer = app.accept();
            count.fetch_add(1, Ordering::SeqCst);
            open.retain(|stream| !is_hung_up(stream));
            open.push(peer.socket());
            counted.fetch_max(open.len(), Ordering::SeqCst);
            thread::spawn(move || {
                while let Some((id, _, body)) = peer.try_request() {
                    if peer.try_send(answer(id, &body)).is_err() {
                        return;
                    }
                }
            });
        }
    });
    // All three at once, whatever the order in which the callers' threads run.
    let three = [(); 3].map(|()| pool.send(post(b"one of three")).unwrap());
    three.into_iter().for_each(|response| drop(response.collect(100).unwrap()));
    let callers: Vec<_> = (0..12)
        .map(|caller| {
            let pool = pool.clone();
            background(move || {
                for round in 0..20 {
                    let body = pattern(100, caller * 100 + round);
                    match round % 5 {
                        // Given up, which closes the connection.
                        0 => drop(pool.send(post(&body).param("X", "Y")).unwrap()),
                        _ => assert_eq!(say(&pool, &body).unwrap(), stdout(body)),
                    }
                    assert!(pool.stats().connections <= 3);
                }
            })
        })
        .collect();
    callers.into_iter().for_each(Background::join);
    assert_eq!(most.load(Ordering::SeqCst), 3);
    assert!(accepted.load(Ordering::SeqCst) >= 12 * 20 / 4);
    until("what was given up is drained", || pool.stats().active == 0);
}

#[test]
fn who_waits_is_served_in_turn_or_not_at_all() {
    let (app, counts) = (RawApp::new(), Counts::default());
    let pool = builder(&app)
        .max_connections(1)
        .max_waiting(1)
        .wait_timeout(Some(AMPLE))
        .connector(Connector::new().total_timeout(Some(LONG)))
        .build()
        .unwrap();
    counts.serve(app);
    let first = pool.send(post(b"one")).unwrap();
    let waiting = {
        let pool = pool.clone();
        background(move || {
            let start = Instant::now();
            (say(&pool, b"two"), start.elapsed())
        })
    };
    until("one waits", || pool.stats().waiting == 1);
    let error = say(&pool, b"three").unwrap_err();
    assert!(matches!(error, Error::PoolFull { waiting: 1, .. }), "{error}");
    assert!(error.to_string().contains("raw.sock"), "{error}");
    let (timed_out, waited) = waiting.join();
    match timed_out.unwrap_err() {
        Error::Timeout { phase: Phase::Acquire, limit, .. } => assert_eq!(limit, AMPLE),
        error => panic!("{error}"),
    }
    assert!(waited >= AMPLE);
    // Whoever waits when a connection becomes free gets it.
    let waiting = {
        let pool = pool.clone();
        background(move || say(&pool, b"two"))
    };
    until("one waits", || pool.stats().waiting == 1);
    assert_eq!(first.collect(100).unwrap(), stdout("one"));
    assert_eq!(waiting.join().unwrap(), stdout("two"));
    assert_eq!((counts.accepted(), counts.requests()), (1, 2));
}

#[test]
fn the_whole_requests_limit_counts_from_the_call() {
    let (app, counts) = (RawApp::new(), Counts::default());
    let connector = Connector::new().total_timeout(Some(AMPLE));
    let pool =
        builder(&app).max_connections(1).wait_timeout(None).connector(connector).build().unwrap();
    counts.serve(app);
    let _first = pool.send(post(b"one")).unwrap();
    match say(&pool, b"two").unwrap_err() {
        Error::Timeout { phase: Phase::Response, limit, .. } => assert_eq!(limit, AMPLE),
        error => panic!("{error}"),
    }
    assert_eq!(pool.stats().waiting, 0);
}

#[test]
fn idle_connections_close_in_time() {
    let (app, counts) = (RawApp::new(), Counts::default());
    let pool = builder(&app).idle_timeout(LIMIT).build().unwrap();
    counts.serve(app);
    for round in 1..3 {
        let start = Instant::now();
        say(&pool, b"body").unwrap();
        until("the round is over", || counts.accepted() == round && counts.open() == 0);
        assert!(start.elapsed() >= LIMIT);
        assert_eq!(pool.stats().connections, 0);
    }
}

#[test]
fn a_connection_that_was_closed_or_spoke_unasked_is_not_used() {
    for unasked in [None, Some(record(Type::Stdout, 1, b"late"))] {
        let app = RawApp::new();
        let pool = builder(&app).build().unwrap();
        let (answered, done) = (Gate::default(), Gate::default());
        let serving = background({
            let (answered, done) = (answered.clone(), done.clone());
            move || {
                let mut first = app.accept();
                let (id, _, body) = first.request();
                first.send(answer(id, &body));
                // After the response was read: what comes with it is a part of it.
                answered.wait();
                match unasked {
                    None => drop(first),
                    Some(bytes) => {
                        first.send(bytes);
                        ready_to_close(first);
                    }
                }
                done.open();
                app.accept().echo();
            }
        });
        assert_eq!(say(&pool, b"one").unwrap(), stdout("one"));
        answered.open();
        done.wait();
        // A body that can be read only once: it was sent once.
        let request = Request::responder().stdin(Body::from_reader(&b"two"[..]));
        assert_eq!(collect(pool.send(request)).unwrap(), stdout("two"));
        drop(pool);
        serving.join();
    }
}

/// Leaves a connection open until the web server closes it.
fn ready_to_close(mut peer: Peer) {
    thread::spawn(move || while let Ok(Some(_)) = peer.try_record() {});
}

#[test]
fn close_refuses_those_who_wait_and_those_who_come() {
    let (app, counts) = (RawApp::new(), Counts::default());
    let pool = builder(&app).max_connections(1).build().unwrap();
    counts.serve(app);
    let first = pool.send(post(b"one")).unwrap();
    let waiting = {
        let pool = pool.clone();
        background(move || say(&pool, b"two"))
    };
    until("one waits", || pool.stats().waiting == 1);
    pool.close();
    let error = waiting.join().unwrap_err();
    assert!(matches!(error, Error::PoolClosed { .. }), "{error}");
    let error = say(&pool, b"three").unwrap_err();
    assert!(matches!(error, Error::PoolClosed { .. }), "{error}");
    // What is under way ends in peace.
    assert_eq!(first.collect(100).unwrap(), stdout("one"));
    until("the connections are closed", || counts.open() == 0);
    assert_eq!(pool.stats().connections, 0);
}

#[test]
fn a_connect_error_is_the_callers_and_frees_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let address = fcgi::Address::unix(folder.path().join("none.sock"));
    let pool = Pool::builder(address).max_connections(1).build().unwrap();
    for _ in 0..3 {
        let error = say(&pool, b"one").unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error}");
    }
    assert_eq!(pool.stats().connections, 0);
}

// What is sent again.

/// Serves one request well; what then comes on the kept connection meets `second`; other
/// connections echo. Gives the requests that the application saw, and what the caller got.
fn on_a_kept_connection(
    second: impl FnOnce(&mut Peer) + Send + 'static,
    request: Request,
) -> (usize, Result<Collected, Error>) {
    let app = RawApp::new();
    let connector = Connector::new().first_byte_timeout(Some(AMPLE));
    let pool = builder(&app).connector(connector).build().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    thread::spawn(move || {
        let mut peer = app.accept();
        let (id, _, body) = peer.request();
        peer.send(answer(id, &body));
        // The request may have any body.
        peer.record_of(Type::BeginRequest);
        count.fetch_add(1, Ordering::SeqCst);
        second(&mut peer);
        drop(peer);
        app.serve(move |mut peer| {
            while let Some((id, _, body)) = peer.try_request() {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = peer.try_send(answer(id, &body));
            }
        });
    });
    say(&pool, b"first").unwrap();
    let result = collect(pool.send(request));
    until("what was aborted is drained", || pool.stats().active == 0);
    (seen.load(Ordering::SeqCst), result)
}

#[test]
fn a_kept_connection_that_fails_before_the_answer_is_tried_once_more_q_10() {
    let (seen, result) = on_a_kept_connection(|_| {}, post(b"again"));
    assert_eq!((seen, result.unwrap()), (2, stdout("again")));
    // A body that is gone can't be sent again.
    let request = Request::responder().stdin(Body::from_reader(&b"again"[..]));
    let (seen, result) = on_a_kept_connection(|_| {}, request);
    assert!(matches!(result, Err(Error::Truncated { .. })), "{result:?}");
    assert_eq!(seen, 1);
}

#[test]
fn what_was_answered_timed_out_or_broke_the_protocol_is_not_sent_again() {
    // A byte of the answer has come, even if only part of a header.
    for answered in [record(Type::Stdout, 1, b"x"), vec![1]] {
        let (seen, result) = on_a_kept_connection(move |peer| peer.send(answered), post(b"again"));
        assert!(matches!(result, Err(Error::Truncated { .. })), "{result:?}");
        assert_eq!(seen, 1);
    }
    let (seen, result) =
        on_a_kept_connection(|peer| peer.send(b"HTTP/1.1 400 Bad Request\r\n"), post(b"again"));
    assert!(matches!(result, Err(Error::Protocol { .. })), "{result:?}");
    assert_eq!(seen, 1);
    let (seen, result) = on_a_kept_connection(
        |peer| while peer.record().kind != Type::AbortRequest {},
        post(b"again"),
    );
    assert!(matches!(result, Err(Error::Timeout { phase: Phase::FirstByte, .. })), "{result:?}");
    assert_eq!(seen, 1);
    let (seen, result) = on_a_kept_connection(|peer| peer.send(end(1, 0, 2)), post(b"again"));
    assert!(matches!(result, Err(Error::Rejected { .. })), "{result:?}");
    assert_eq!(seen, 1);
}

#[test]
fn a_fresh_connection_that_fails_is_not_tried_again() {
    let app = RawApp::new();
    let pool = builder(&app).build().unwrap();
    let serving = background(move || {
        let mut peer = app.accept();
        peer.request();
        drop(peer);
        app.listener.set_nonblocking(true).unwrap();
        app
    });
    let error = say(&pool, b"once").unwrap_err();
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
    let app = serving.join();
    assert!(app.listener.accept().is_err(), "nobody connected again");
}

// Cancellation.

#[test]
fn a_dropped_response_leaves_nothing_to_others_h_11() {
    let (app, aborts) = (RawApp::new(), Arc::new(AtomicUsize::new(0)));
    let pool = builder(&app).max_connections(2).build().unwrap();
    let count = Arc::clone(&aborts);
    app.serve(move |mut peer| {
        while let Some((id, params, body)) = peer.try_request() {
            if params.is_empty() {
                let _ = peer.try_send(record(Type::Stdout, id, b"never ends"));
                let Ok(Some(record)) = peer.try_record() else { return };
                assert_eq!(record.kind, Type::AbortRequest);
                count.fetch_add(1, Ordering::SeqCst);
                let _ = peer.try_send(answer(id, b"late"));
            } else if peer.try_send(answer(id, &body)).is_err() {
                return;
            }
        }
    });
    for round in 0..20 {
        let mut response = pool.send(Request::responder()).unwrap();
        assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("never ends".into())));
        drop(response);
        let body = pattern(1000, round);
        assert_eq!(say(&pool, &body).unwrap(), stdout(body));
    }
    until("all are aborted", || aborts.load(Ordering::SeqCst) == 20);
    until("and drained", || pool.stats().active == 0);
}

#[test]
fn nothing_is_sent_of_a_request_that_was_cancelled_before() {
    let (app, counts) = (RawApp::new(), Counts::default());
    let pool = builder(&app).build().unwrap();
    counts.serve(app);
    let cancel = CancelHandle::new();
    cancel.cancel();
    // Without a connection, and with one that is kept.
    for before in 0..2 {
        let error = pool.send_cancellable(post(b"no"), &cancel).unwrap_err();
        assert!(matches!(error, Error::Cancelled { .. }), "{error}");
        assert_eq!(say(&pool, b"yes").unwrap(), stdout("yes"));
        assert_eq!(counts.requests(), before + 1);
        assert_eq!(counts.accepted(), 1);
    }
}

#[test]
fn cancel_while_waiting_for_a_connection_and_for_an_answer() {
    let app = RawApp::new();
    let connector = Connector::new().drain_timeout(AMPLE);
    let pool = builder(&app).max_connections(1).connector(connector).build().unwrap();
    let sent = Gate::default();
    let came = sent.clone();
    let serving = background(move || {
        let mut peer = app.accept();
        peer.request();
        came.open();
        assert_eq!(peer.record().kind, Type::AbortRequest);
        app.accept().echo();
    });
    let start = |cancel: &CancelHandle| {
        let (pool, cancel) = (pool.clone(), cancel.clone());
        background(move || collect(pool.send_cancellable(post(b"one"), &cancel)).unwrap_err())
    };
    let (first, second) = (CancelHandle::new(), CancelHandle::new());
    let answering = start(&first);
    sent.wait();
    let waiting = start(&second);
    until("one waits", || pool.stats().waiting == 1);
    second.cancel();
    let error = waiting.join();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    assert_eq!(pool.stats().waiting, 0);
    first.cancel();
    let error = answering.join();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    assert_eq!(pool.stats().active, 1, "it is being drained");
    assert_eq!(say(&pool, b"two").unwrap(), stdout("two"));
    drop(pool);
    serving.join();
}

#[test]
fn thirty_megabytes_both_ways_through_a_pool_q_15() {
    let app = RawApp::new();
    let pool = builder(&app).build().unwrap();
    app.serve(|mut peer| peer.echo());
    let body = pattern(30 << 20, 15);
    assert!(say(&pool, &body).unwrap().stdout == body, "the body came back changed");
}
