//! The server against web servers made of raw bytes.

mod common;

use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use common::*;
use fcgi::{
    AbortReason, Address, Error, Limits, Listener, Rejection, Request, Role, Roles, Server,
};
use fcgi_tokio as fcgi;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::Notify,
};

/// What a handler of this number waits for until the test lets it go.
#[derive(Clone, Default)]
struct Gate(Arc<Notify>);

impl Gate {
    fn open(&self) {
        self.0.notify_one();
    }

    async fn pass(&self) {
        self.0.notified().await;
    }
}

async fn hello(request: Request) -> Result<(), Error> {
    request.stdout().write_all("hello").await
}

async fn echo(request: Request) -> Result<(), Error> {
    let (mut stdin, mut stdout) = (request.stdin(), request.stdout());
    while let Some(chunk) = stdin.chunk().await? {
        stdout.write_all(chunk).await?;
    }
    Ok(())
}

fn complete(stdout: impl AsRef<[u8]>) -> Answer {
    Answer { stdout: stdout.as_ref().to_vec(), stdout_closed: true, ..Answer::default() }
}

fn rejected(rejection: Rejection) -> Answer {
    let page =
        "Status: 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\nService Unavailable\n";
    Answer { protocol_status: rejection.as_u8(), ..complete(page) }
}

// Roles and streams.

#[tokio::test]
async fn responder_fc_6_1_1_fc_6_2_1() {
    let app = serve(Server::new(), async |request: Request| -> Result<u32, Error> {
        assert_eq!(request.role(), Role::Responder);
        assert!(!request.keep_conn());
        assert_eq!(request.data().chunk().await?, None);
        let pairs: Vec<_> = request.params().iter().map(|(n, v)| [n, b"=", v].concat()).collect();
        request.stdout().write_all(pairs.join(&b' ')).await?;
        request.stderr().write_all("warning").await?;
        let body = request.stdin().read_to_end(100).await?;
        request.stdout().write_all([b"|".as_slice(), &body].concat()).await?;
        Ok(7)
    });
    let mut peer = app.dial().await;
    peer.send(request(1, CLOSE, &[("B", "2"), ("A", "1"), ("B", "")], b"body")).await;
    let answer = peer.answer(1).await;
    assert_eq!(answer.stdout, b"B=2 A=1 B=|body");
    assert_eq!(answer.stderr, b"warning");
    assert!(answer.stdout_closed && answer.stderr_closed, "FC-6.1-1");
    assert_eq!((answer.app_status, answer.protocol_status), (7, 0));
    peer.expect_close().await;
}

#[tokio::test]
async fn authorizer_fc_6_3_1() {
    let app = serve(Server::new(), async |request: Request| -> Result<(), Error> {
        assert_eq!(request.role(), Role::Authorizer);
        assert_eq!(request.stdin().chunk().await?, None);
        request.stdout().write_all("Status: 200\r\n\r\n").await
    });
    let mut peer = app.dial().await;
    for empty_stdin in [false, true] {
        peer.send(begin(1, AUTHORIZER, KEEP)).await;
        peer.send(params(1, &[("REQUEST_METHOD", "GET")])).await;
        if empty_stdin {
            peer.send(close(Type::Stdin, 1)).await;
        }
        assert_eq!(peer.answer(1).await, complete("Status: 200\r\n\r\n"));
    }
}

#[tokio::test]
async fn filter_fc_6_4_1() {
    let app = serve(Server::new(), async |request: Request| -> Result<(), Error> {
        assert_eq!(request.role(), Role::Filter);
        let stdin = request.stdin().read_to_end(1 << 20).await?;
        request.stdout().write_all([&stdin[..], b"|"].concat()).await?;
        let data = request.data().read_to_end(1 << 20).await?;
        request.stdout().write_all(data).await
    });
    let mut peer = app.dial().await;
    peer.send([begin(1, FILTER, KEEP), params(1, &[("FCGI_DATA_LENGTH", "8")])].concat()).await;
    peer.send([stream(Type::Stdin, 1, b"form"), close(Type::Stdin, 1)].concat()).await;
    // Output may start once STDIN has ended.
    assert_eq!(peer.record().await.content, b"form|");
    peer.send([stream(Type::Data, 1, b"the file"), close(Type::Data, 1)].concat()).await;
    assert_eq!(peer.answer(1).await, complete("the file"));
}

#[tokio::test]
async fn response_begins_before_stdin_ends_and_bytes_pass_through_fc_6_2_1() {
    let app = serve(Server::new(), async |request: Request| -> Result<(), Error> {
        request.stdout().write_all("start").await?;
        echo(request).await
    });
    let mut peer = app.dial().await;
    peer.send([begin(1, RESPONDER, KEEP), params(1, &[])].concat()).await;
    assert_eq!(peer.record().await.content, b"start");
    for chunk in ["one", "two", "three"] {
        peer.send(stream(Type::Stdin, 1, chunk.as_bytes())).await;
        assert_eq!(peer.record().await.content, chunk.as_bytes());
    }
    // The first half of a record is there before the second has been sent.
    let last = record(Type::Stdin, 1, b"abcdefgh");
    peer.send(&last[..12]).await;
    assert_eq!(peer.record().await.content, b"abcd");
    peer.send(&last[12..]).await;
    assert_eq!(peer.record().await.content, b"efgh");
    peer.send(close(Type::Stdin, 1)).await;
    assert_eq!(peer.answer(1).await, complete(""));
}

#[tokio::test]
async fn a_body_over_the_handlers_limit_is_an_error() {
    let app = serve(Server::new(), async |request: Request| {
        match request.stdin().read_to_end(10).await {
            Ok(body) => body.len() as u32,
            Err(Error::InputTooLarge { limit: 10 }) => 99,
            Err(error) => panic!("{error}"),
        }
    });
    let mut peer = app.dial().await;
    for (len, status) in [(0, 0), (10, 10), (11, 99), (50_000, 99)] {
        peer.send(request(1, KEEP, &[], &pattern(len, 1))).await;
        assert_eq!(peer.answer(1).await.app_status, status);
    }
}

#[tokio::test]
async fn a_handler_may_reject_fc_5_5_1() {
    let app = serve(Server::new().rejection_body(false), async |request: Request| {
        request.reject(Rejection::Overloaded);
    });
    let mut peer = app.dial().await;
    peer.send(request(1, KEEP, &[], b"")).await;
    let answer = Answer { protocol_status: 2, ..Answer::default() };
    assert_eq!(peer.answer(1).await, answer);
}

#[tokio::test]
async fn what_was_flushed_is_with_the_peer_while_the_handler_goes_on() {
    let gate = Gate::default();
    let app = serve(Server::new(), {
        let gate = gate.clone();
        move |request: Request| {
            let gate = gate.clone();
            async move {
                request.stdout().write_all("early").await?;
                request.stdout().flush().await?;
                gate.pass().await;
                request.stdout().write_all("late").await
            }
        }
    });
    let mut peer = app.dial().await;
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.record().await.content, b"early");
    gate.open();
    assert_eq!(peer.answer(1).await, complete("late"));
}

// Backpressure.

/// What the sockets' buffers, one chunk and the queue may hold together.
const IN_FLIGHT: usize = 2 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_writes_no_faster_than_its_peer_reads_h_12() {
    const CHUNK: usize = 64 * 1024;
    const TOTAL: usize = 100 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let app = serve(Server::new(), {
        let written = Arc::clone(&written);
        move |request: Request| {
            let written = Arc::clone(&written);
            async move {
                let block = Bytes::from(vec![b'x'; CHUNK]);
                for _ in 0..TOTAL / CHUNK {
                    request.stdout().write_all(block.clone()).await?;
                    written.fetch_add(CHUNK, Ordering::SeqCst);
                }
                Ok::<_, Error>(())
            }
        }
    });
    let mut peer = app.dial().await;
    peer.send(request(1, CLOSE, &[], b"")).await;
    // A reader that comes late: the time only gives a handler that does not wait room to show it.
    until(|| written.load(Ordering::SeqCst) >= 2 * CHUNK).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut read = 0;
    let mut most = 0;
    loop {
        most = most.max(written.load(Ordering::SeqCst).saturating_sub(read));
        let record = peer.record().await;
        match record.kind {
            Type::Stdout => read += record.content.len(),
            _ => break assert_eq!(record.end(), (0, 0)),
        }
    }
    assert_eq!(read, TOTAL);
    assert!(most <= IN_FLIGHT, "{most} bytes were written ahead of the reader");
    peer.expect_close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stdin_that_is_not_read_pushes_back() {
    let gate = Gate::default();
    let app = serve(Server::new(), {
        let gate = gate.clone();
        move |request: Request| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                echo(request).await
            }
        }
    });
    let body = pattern(20 << 20, 7);
    let peer = app.dial().await;
    let (mut from, mut to) = peer.io.into_split();
    let sent = Arc::new(AtomicUsize::new(0));
    let wire = request(1, CLOSE, &[], &body);
    let sender = tokio::spawn({
        let sent = Arc::clone(&sent);
        async move {
            for piece in wire.chunks(16 * 1024) {
                to.write_all(piece).await.unwrap();
                sent.fetch_add(piece.len(), Ordering::SeqCst);
            }
            to
        }
    });
    until(|| sent.load(Ordering::SeqCst) >= 128 * 1024).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let ahead = sent.load(Ordering::SeqCst);
    assert!(ahead <= IN_FLIGHT, "{ahead} bytes were taken from the peer and not read");
    gate.open();
    let mut wire = Vec::new();
    within(from.read_to_end(&mut wire)).await.unwrap();
    let mut peer = Peer::new(tokio::io::join(wire.as_slice(), tokio::io::sink()));
    assert!(peer.answer(1).await == complete(body), "the body came back changed");
    within(sender).await.unwrap();
}

// Many requests.

#[tokio::test]
async fn requests_interleave_on_one_connection_and_a_slow_one_stalls_none() {
    const SLOW: u16 = 7;
    const IDS: std::ops::RangeInclusive<u16> = 1..=20;
    let gate = Gate::default();
    let app = serve(Server::new(), {
        let gate = gate.clone();
        move |request: Request| {
            let gate = gate.clone();
            async move {
                let id = request.param_str("ID").unwrap_or_default().to_owned();
                request.stdout().write_all(format!("{id}:")).await?;
                if id == SLOW.to_string() {
                    gate.pass().await;
                }
                echo(request).await
            }
        }
    });
    let peer = app.dial().await;
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
    let expected = |id: u16| {
        let mut body = format!("{id}:").into_bytes();
        (0..50).for_each(|round| body.extend(pattern(100, round * 100 + u64::from(id))));
        complete(body)
    };
    let (from, mut to) = peer.io.into_split();
    tokio::spawn(async move {
        to.write_all(&wire).await.unwrap();
        // Its end would close the connection's sending side.
        std::future::pending::<()>().await;
    });
    let mut peer = Peer::new(tokio::io::join(from, tokio::io::sink()));
    let mut answers = vec![Answer::default(); 21];
    let mut done = Vec::new();
    while done.len() < 19 {
        let record = peer.record().await;
        if answers[usize::from(record.id)].take(&record) {
            assert_ne!(record.id, SLOW);
            done.push(record.id);
        }
    }
    gate.open();
    loop {
        let record = peer.record().await;
        assert_eq!(record.id, SLOW);
        if answers[usize::from(SLOW)].take(&record) {
            break;
        }
    }
    for id in IDS {
        assert_eq!(answers[usize::from(id)], expected(id), "request {id}");
    }
}

#[tokio::test]
async fn keep_conn_clear_closes_fc_3_5_1() {
    let app = serve(Server::new(), hello);
    let mut peer = app.dial().await;
    peer.send(request(1, CLOSE, &[], b"")).await;
    assert_eq!(peer.answer(1).await, complete("hello"));
    peer.expect_close().await;
}

#[tokio::test]
async fn keep_conn_set_keeps_fc_3_5_1() {
    let app = serve(Server::new(), echo);
    let mut peer = app.dial().await;
    for round in 0..100u16 {
        // Any id will do, again and again.
        let id = [1, 2, u16::MAX][usize::from(round % 3)];
        let body = pattern(usize::from(round) * 37, u64::from(round));
        peer.send(request(id, KEEP, &[], &body)).await;
        assert_eq!(peer.answer(id).await, complete(body));
    }
}

#[tokio::test]
async fn a_panic_ends_its_request_and_nothing_else() {
    let gate = Gate::default();
    let app = serve(Server::new(), {
        let gate = gate.clone();
        move |request: Request| {
            let gate = gate.clone();
            async move {
                match request.param_str("DO") {
                    Some("panic at once") => panic!("as the test asked"),
                    Some("panic later") => {
                        request.stdout().write_all("partial").await?;
                        tokio::task::yield_now().await;
                        panic!("as the test asked");
                    }
                    Some("wait") => gate.pass().await,
                    _ => {}
                }
                request.stdout().write_all("fine").await
            }
        }
    });
    let panicked = Answer { app_status: fcgi::PANICKED, ..complete("") };
    assert_eq!(fcgi::PANICKED, 101);
    let mut peer = app.dial().await;
    // Alone, run by the connection's own task.
    peer.send(request(1, KEEP, &[("DO", "panic at once")], b"")).await;
    assert_eq!(peer.answer(1).await, panicked);
    peer.send(request(1, KEEP, &[("DO", "panic later")], b"")).await;
    assert_eq!(peer.answer(1).await, Answer { stdout: b"partial".to_vec(), ..panicked.clone() });
    // Beside another, whichever came first.
    for (waits, panics) in [(1, 2), (2, 1)] {
        let (mut one, mut two) = (vec![("DO", "wait")], vec![("DO", "panic at once")]);
        if waits == 2 {
            std::mem::swap(&mut one, &mut two);
        }
        peer.send([request(1, KEEP, &one, b""), request(2, KEEP, &two, b"")].concat()).await;
        assert_eq!(peer.answer(panics).await, panicked);
        gate.open();
        assert_eq!(peer.answer(waits).await, complete("fine"));
    }
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.answer(1).await, complete("fine"));
}

// Cancellation.

/// A handler that waits for ever after it has said `started`.
fn stuck(dropped: &Flag) -> impl Fn(Request) -> BoxFuture + Send + Sync + 'static {
    let dropped = dropped.clone();
    move |request: Request| {
        let guard = dropped.on_drop();
        Box::pin(async move {
            let _guard = guard;
            request.stdout().write_all("started").await?;
            std::future::pending::<()>().await;
            Ok(5)
        })
    }
}

type BoxFuture = std::pin::Pin<Box<dyn Future<Output = Result<u32, Error>> + Send>>;

#[tokio::test]
async fn abort_drops_the_handler_fc_5_4_1() {
    for input in [close(Type::Stdin, 1), stream(Type::Stdin, 1, b"half a bo"), Vec::new()] {
        let dropped = Flag::default();
        let app = serve(Server::new(), stuck(&dropped));
        let mut peer = app.dial().await;
        peer.send([begin(1, RESPONDER, KEEP), params(1, &[]), input].concat()).await;
        assert_eq!(peer.record().await.content, b"started");
        assert!(!dropped.is_set());
        peer.send(abort(1)).await;
        assert_eq!(
            peer.answer(1).await,
            Answer { app_status: fcgi::CANCELLED, ..complete("") },
            "END_REQUEST with REQUEST_COMPLETE"
        );
        dropped.wait().await;
    }
}

#[tokio::test]
async fn abort_reaches_a_handler_beside_others_and_only_that() {
    let gate = Gate::default();
    let dropped = Flag::default();
    let app = serve(Server::new(), {
        let (gate, stuck) = (gate.clone(), stuck(&dropped));
        move |request: Request| -> BoxFuture {
            if request.param("STUCK").is_some() {
                return stuck(request);
            }
            let gate = gate.clone();
            Box::pin(async move {
                gate.pass().await;
                request.stdout().write_all("fine").await?;
                Ok(0)
            })
        }
    });
    let mut peer = app.dial().await;
    peer.send([request(1, KEEP, &[], b""), request(2, KEEP, &[("STUCK", "")], b"")].concat()).await;
    assert_eq!(peer.record().await.content, b"started");
    // Ids that are not active, first (FC-3.3-6).
    peer.send([abort(9), abort(2)].concat()).await;
    assert_eq!(peer.answer(2).await.app_status, fcgi::CANCELLED);
    dropped.wait().await;
    gate.open();
    assert_eq!(peer.answer(1).await, complete("fine"));
    // Again, now that the other one is in the connection's own task.
    peer.send([request(2, KEEP, &[("STUCK", "")], b""), request(1, KEEP, &[], b"")].concat()).await;
    assert_eq!(peer.record().await.content, b"started");
    peer.send(abort(2)).await;
    assert_eq!(peer.answer(2).await.app_status, fcgi::CANCELLED);
    gate.open();
    assert_eq!(peer.answer(1).await, complete("fine"));
}

#[tokio::test]
async fn abort_with_grace_lets_the_handler_answer_fc_5_4_1() {
    let server = Server::new().abort_grace(Duration::from_secs(3600));
    let app = serve(server, async |request: Request| -> Result<u32, Error> {
        request.stdout().write_all("started").await?;
        assert_eq!(request.cancelled().await, AbortReason::Requested);
        // Its streams say so too.
        let aborted = |error| matches!(error, Error::Aborted(AbortReason::Requested));
        assert!(request.stdin().chunk().await.is_err_and(aborted));
        assert!(request.stdout().write_all("x").await.is_err_and(aborted));
        Ok(42)
    });
    let mut peer = app.dial().await;
    peer.send([begin(1, RESPONDER, KEEP), params(1, &[])].concat()).await;
    assert_eq!(peer.record().await.content, b"started");
    peer.send(abort(1)).await;
    assert_eq!(peer.answer(1).await, Answer { app_status: 42, ..complete("") });
}

#[tokio::test(start_paused = true)]
async fn abort_grace_ends() {
    tick();
    let dropped = Flag::default();
    let server = Server::new().abort_grace(Duration::from_secs(5));
    let app = serve(server, stuck(&dropped));
    let mut peer = app.dial().await;
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.record().await.content, b"started");
    let start = tokio::time::Instant::now();
    peer.send(abort(1)).await;
    assert_eq!(peer.answer(1).await.app_status, fcgi::CANCELLED);
    assert_took(start, Duration::from_secs(5));
    dropped.wait().await;
}

#[tokio::test]
async fn a_lost_peer_drops_every_handler_w_8() {
    let dropped = [Flag::default(), Flag::default()];
    let app = serve(Server::new(), {
        let stuck = [stuck(&dropped[0]), stuck(&dropped[1])];
        move |request: Request| stuck[usize::from(request.param("SECOND").is_some())](request)
    });
    let mut peer = app.dial().await;
    peer.send([request(1, KEEP, &[], b""), request(2, KEEP, &[("SECOND", "")], b"")].concat())
        .await;
    assert_eq!(peer.record().await.content, b"started");
    assert_eq!(peer.record().await.content, b"started");
    drop(peer);
    dropped[0].wait().await;
    dropped[1].wait().await;
}

#[tokio::test]
async fn a_lost_peer_is_told_to_a_handler_with_grace_w_8() {
    let told = Flag::default();
    let server = Server::new().abort_grace(Duration::from_secs(3600));
    let mut app = serve(server, {
        let told = told.clone();
        move |request: Request| {
            let told = told.clone();
            async move {
                request.stdout().write_all("started").await?;
                assert_eq!(request.cancelled().await, AbortReason::Disconnected);
                told.set();
                Ok::<_, Error>(())
            }
        }
    });
    let mut peer = app.dial().await;
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.record().await.content, b"started");
    drop(peer);
    told.wait().await;
    // And it holds nothing up.
    app.stop();
    app.stopped().await;
}

#[tokio::test]
async fn half_close_after_the_last_byte_still_gets_the_response_fc_3_5_2_w_8() {
    let gate = Gate::default();
    let app = serve(Server::new(), {
        let gate = gate.clone();
        move |request: Request| {
            let gate = gate.clone();
            async move {
                request.stdout().write_all("started").await?;
                gate.pass().await;
                echo(request).await
            }
        }
    });
    for keep_conn in [KEEP, CLOSE] {
        let mut peer = app.dial().await;
        peer.send(request(1, keep_conn, &[], b"body")).await;
        peer.io.shutdown().await.unwrap();
        assert_eq!(peer.record().await.content, b"started");
        gate.open();
        assert_eq!(peer.answer(1).await, complete("body"));
        peer.expect_close().await;
    }
}

#[tokio::test]
async fn half_close_inside_the_body_cancels() {
    let dropped = Flag::default();
    let app = serve(Server::new(), stuck(&dropped));
    let mut peer = app.dial().await;
    peer.send([begin(1, RESPONDER, KEEP), params(1, &[]), stream(Type::Stdin, 1, b"ha")].concat())
        .await;
    assert_eq!(peer.record().await.content, b"started");
    peer.io.shutdown().await.unwrap();
    dropped.wait().await;
}

#[tokio::test]
async fn a_server_that_is_dropped_drops_its_handlers() {
    let dropped = Flag::default();
    let app = serve(Server::new(), stuck(&dropped));
    let mut peer = app.dial().await;
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.record().await.content, b"started");
    app.task.abort();
    dropped.wait().await;
    peer.expect_close().await;
}

// Limits.

/// Says `started`, waits at the gate, says `done`.
fn gated(gate: &Gate) -> impl Fn(Request) -> BoxFuture + Send + Sync + 'static {
    let gate = gate.clone();
    move |request: Request| {
        let gate = gate.clone();
        Box::pin(async move {
            request.stdout().write_all("started").await?;
            gate.pass().await;
            request.stdout().write_all("done").await?;
            Ok(0)
        })
    }
}

#[tokio::test]
async fn requests_past_max_requests_get_overloaded_fc_5_5_2() {
    let gate = Gate::default();
    let app = serve(Server::new().max_requests(1), gated(&gate));
    let (mut one, mut two) = (app.dial().await, app.dial().await);
    one.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(one.record().await.content, b"started");
    // On another connection, and on the same one.
    two.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(two.answer(1).await, rejected(Rejection::Overloaded));
    one.send(request(2, KEEP, &[], b"")).await;
    assert_eq!(one.answer(2).await, rejected(Rejection::Overloaded));
    gate.open();
    assert_eq!(one.answer(1).await, complete("done"));
    // There is room again.
    gate.open();
    two.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(two.answer(1).await, complete("starteddone"));
}

#[tokio::test]
async fn a_refusal_without_a_page_where_that_is_wanted_w_2() {
    let gate = Gate::default();
    let app = serve(Server::new().max_requests(0).rejection_body(false), gated(&gate));
    let mut peer = app.dial().await;
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.answer(1).await, Answer { protocol_status: 2, ..Answer::default() });
}

#[tokio::test]
async fn connections_past_max_connections_get_overloaded_fc_5_5_2() {
    let app = serve(Server::new().max_connections(1).first_record_timeout(None), hello);
    let mut one = app.dial().await;
    one.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(one.answer(1).await, complete("hello"));
    let mut two = app.dial().await;
    two.send(request(1, KEEP, &[], b"body")).await;
    assert_eq!(two.answer(1).await, rejected(Rejection::Overloaded));
    // The first is as it was.
    one.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(one.answer(1).await, complete("hello"));
    // Nor is the second refused for ever: a web server that keeps it would never get an answer.
    drop(one);
    within(async {
        loop {
            two.send(request(1, KEEP, &[], b"")).await;
            if two.answer(1).await == complete("hello") {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn requests_past_limits_requests_get_overloaded_fc_5_5_2() {
    let gate = Gate::default();
    let mut limits = Limits::server();
    limits.requests = 2;
    let app = serve(Server::new().limits(limits), gated(&gate));
    let mut peer = app.dial().await;
    for id in [1, 2] {
        peer.send(request(id, KEEP, &[], b"")).await;
        assert_eq!(peer.record().await.content, b"started");
    }
    peer.send(request(3, KEEP, &[], b"ignored")).await;
    assert_eq!(peer.answer(3).await, rejected(Rejection::Overloaded));
    gate.open();
    gate.open();
}

#[tokio::test]
async fn a_second_request_gets_cant_mpx_conn_fc_5_5_2() {
    let gate = Gate::default();
    let mut limits = Limits::server();
    limits.requests = 1;
    let app = serve(Server::new().limits(limits), gated(&gate));
    let mut peer = app.dial().await;
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.record().await.content, b"started");
    peer.send(request(2, KEEP, &[], b"ignored")).await;
    assert_eq!(peer.answer(2).await, rejected(Rejection::CantMpxConn));
    gate.open();
    assert_eq!(peer.answer(1).await, complete("done"));
    gate.open();
    peer.send(request(2, KEEP, &[], b"")).await;
    assert_eq!(peer.answer(2).await, complete("starteddone"));
}

#[tokio::test]
async fn get_values_tells_the_configuration_fc_4_1_1_fc_4_1_2_w_9() {
    let names = [("FCGI_MAX_CONNS", ""), ("FCGI_MAX_REQS", ""), ("FCGI_MPXS_CONNS", "")];
    for (requests, mpxs) in [(100, "1"), (1, "0")] {
        let gate = Gate::default();
        let mut limits = Limits::server();
        limits.requests = requests;
        let server = Server::new().max_connections(12).max_requests(345).limits(limits);
        let app = serve(server, gated(&gate));
        let mut peer = app.dial().await;
        let expected =
            [("FCGI_MAX_CONNS", "12"), ("FCGI_MAX_REQS", "345"), ("FCGI_MPXS_CONNS", mpxs)];
        peer.send(record(Type::GetValues, 0, &encode(&names))).await;
        let result = peer.record().await;
        assert_eq!((result.kind, result.id), (Type::GetValuesResult, 0));
        assert_eq!(result.content, encode(&expected));
        // In the middle of a request too, and in another one's PARAMS.
        peer.send(request(1, KEEP, &[], b"")).await;
        assert_eq!(peer.record().await.content, b"started");
        peer.send(record(Type::GetValues, 0, &encode(&names[2..]))).await;
        assert_eq!(peer.record().await.content, encode(&expected[2..]));
        peer.send(record(Type::GetValues, 0, &encode(&[("NO_SUCH_NAME", "x")]))).await;
        let result = peer.record().await;
        assert_eq!((result.kind, result.content), (Type::GetValuesResult, Vec::new()));
        gate.open();
        assert_eq!(peer.answer(1).await, complete("done"));
    }
}

#[tokio::test]
async fn unknown_management_types_are_answered_fc_4_2_1() {
    let app = serve(Server::new(), hello);
    let mut peer = app.dial().await;
    peer.send(record(Type::Other(77), 0, b"whatever")).await;
    let answer = peer.record().await;
    assert_eq!((answer.kind, answer.id), (Type::UnknownType, 0));
    assert_eq!(answer.content, [77, 0, 0, 0, 0, 0, 0, 0]);
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.answer(1).await, complete("hello"));
}

#[tokio::test]
async fn unknown_roles_are_refused_and_the_connection_goes_on_fc_5_1_2() {
    let app = serve(Server::new().roles(Roles::RESPONDER), hello);
    let mut peer = app.dial().await;
    for role in [0, 9, u16::MAX, AUTHORIZER, FILTER] {
        peer.send([begin(1, role, KEEP), params(1, &[("A", "1")])].concat()).await;
        peer.send([stream(Type::Stdin, 1, b"ignored"), close(Type::Stdin, 1)].concat()).await;
        let answer = Answer { protocol_status: 3, ..Answer::default() };
        assert_eq!(peer.answer(1).await, answer, "role {role}");
    }
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.answer(1).await, complete("hello"));
    peer.send(begin(1, 9, CLOSE)).await;
    assert_eq!(peer.answer(1).await.protocol_status, 3);
    peer.expect_close().await;
}

// Who may connect, and where to.

async fn on_tcp(server: Server) -> (TcpStream, tokio::task::JoinHandle<std::io::Result<()>>) {
    let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
    let Address::Tcp(address) = listener.local_address().clone() else { panic!("not TCP") };
    let task = tokio::spawn(server.serve(listener, hello));
    (TcpStream::connect(&*address).await.unwrap(), task)
}

#[tokio::test]
async fn web_server_addrs_are_honoured_fc_3_2_1() {
    let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    for (addrs, served) in [
        (None, true),
        (Some(vec![elsewhere, localhost]), true),
        (Some(vec![elsewhere]), false),
        (Some(vec![]), false),
    ] {
        let server = Server::new().web_server_addrs(addrs.clone());
        let (stream, _task) = on_tcp(server).await;
        let mut peer = Peer::new(stream);
        if served {
            peer.send(request(1, KEEP, &[], b"")).await;
            assert_eq!(peer.answer(1).await, complete("hello"), "{addrs:?}");
        } else {
            peer.expect_close().await;
        }
    }
    // One that is not TCP is none of the listed addresses.
    let app = serve(Server::new().web_server_addrs(Some(vec![localhost])), hello);
    app.dial().await.expect_close().await;
}

#[tokio::test]
async fn tcp_listens_at_the_port_that_the_system_chose() {
    let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_address().clone();
    assert!(!address.to_string().ends_with(":0"), "{address}");
    tokio::spawn(Server::new().serve(listener, echo));
    let mut client = fcgi::Client::connect(&address).await.unwrap();
    let request = fcgi::client::Request::responder().stdin("over tcp");
    let answer = within(client.send(request)).await.unwrap().collect(100).await.unwrap();
    assert_eq!(answer.stdout, "over tcp");
}

#[tokio::test]
async fn a_listening_descriptor_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("given.sock");
    let given = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let listener = Listener::from_fd(OwnedFd::from(given)).unwrap();
    let task = tokio::spawn(Server::new().serve(listener, hello));
    let mut peer = Peer::new(UnixStream::connect(&path).await.unwrap());
    peer.send(request(1, CLOSE, &[], b"")).await;
    assert_eq!(peer.answer(1).await, complete("hello"));
    task.abort();
    let _ = task.await;
    assert!(path.exists(), "whoever made the socket removes it");
    // What does not listen is refused.
    let (one, _two) = std::os::unix::net::UnixStream::pair().unwrap();
    let error = Listener::from_fd(OwnedFd::from(one)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    let file = std::fs::File::create(folder.path().join("file")).unwrap();
    let error = Listener::from_fd(OwnedFd::from(file)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let address = Address::Unix(path.clone());
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std leaves the file behind");
    let first = Listener::bind(&address).unwrap();
    let error = Listener::bind(&address).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(path.exists());
    drop(first);
    assert!(!path.exists(), "removed on drop");
    // A file that is no socket is left alone.
    std::fs::write(&path, "precious").unwrap();
    let error = Listener::bind(&address).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn the_socket_file_of_another_listener_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let address = Address::Unix(path.clone());
    let old = Listener::bind(&address).unwrap();
    // Somebody has put another in its place, as a restart without a pause does.
    std::fs::remove_file(&path).unwrap();
    let new = Listener::bind(&address).unwrap();
    drop(old);
    assert!(path.exists(), "the new listener's file");
    drop(new);
    assert!(!path.exists());
}

// The end.

#[tokio::test]
async fn shutdown_closes_idle_connections_and_finishes_requests_fc_7_1() {
    let gate = Gate::default();
    let mut app = serve(Server::new(), gated(&gate));
    let (mut silent, mut idle, mut busy) = (app.dial().await, app.dial().await, app.dial().await);
    gate.open();
    idle.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(idle.answer(1).await, complete("starteddone"));
    busy.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(busy.record().await.content, b"started");
    app.stop();
    silent.expect_close().await;
    idle.expect_close().await;
    assert!(!app.path().exists(), "takes no more connections");
    // A request that comes now is too late.
    busy.send(request(2, KEEP, &[], b"")).await;
    assert_eq!(busy.answer(2).await, rejected(Rejection::Overloaded));
    assert!(!app.task.is_finished());
    gate.open();
    assert_eq!(busy.answer(1).await, complete("done"));
    busy.expect_close().await;
    app.stopped().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_cancels_what_takes_too_long() {
    tick();
    let dropped = Flag::default();
    let server = Server::new().shutdown_timeout(Duration::from_secs(7));
    let mut app = serve(server, stuck(&dropped));
    let mut peer = app.dial().await;
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.record().await.content, b"started");
    let start = tokio::time::Instant::now();
    app.stop();
    peer.expect_close().await;
    app.stopped().await;
    assert_took(start, Duration::from_secs(7));
    assert!(dropped.is_set());
}

/// The answer is there, whole, though the peer is still busy sending what nobody reads.
async fn early_answer_arrives(server: Server, role: u16, expected: Answer) {
    let (stream, _task) = on_tcp(server).await;
    let mut wire = [begin(1, role, CLOSE), params(1, &[])].concat();
    wire.extend(crate::stream(Type::Stdin, 1, &pattern(8 << 20, 3)));
    wire.extend(close(Type::Stdin, 1));
    let mut peer = Peer::new(stream);
    // All of it first: a reset in between would fail this, or lose the answer.
    peer.send(wire).await;
    assert_eq!(peer.answer(1).await, expected);
    peer.expect_close().await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_a_big_upload_is_not_lost_fc_6_2_1() {
    early_answer_arrives(Server::new(), RESPONDER, complete("hello")).await;
}

#[tokio::test]
async fn a_refusal_of_a_big_upload_is_not_lost() {
    let unknown = Answer { protocol_status: 3, ..Answer::default() };
    early_answer_arrives(Server::new(), 9, unknown).await;
    let full = Server::new().max_requests(0);
    early_answer_arrives(full, RESPONDER, rejected(Rejection::Overloaded)).await;
    let full = Server::new().max_connections(0);
    early_answer_arrives(full, RESPONDER, rejected(Rejection::Overloaded)).await;
}

#[tokio::test]
async fn protocol_errors_close_the_connection_and_cancel_its_requests() {
    for garbage in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),       // FC-3.3-4
        record(Type::Stdin, 0, b"x"),             // FC-3.3-5, H-8
        record(Type::BeginRequest, 2, b"short"),  // FC-5.1-1, H-5
        begin(1, RESPONDER, KEEP),                // FC-3.3-10
        record(Type::GetValuesResult, 0, b""),    // FC-3.3-11, W-11
        stream(Type::Stdin, 1, b"after its end"), // FC-3.3-12
    ] {
        let dropped = Flag::default();
        let app = serve(Server::new(), stuck(&dropped));
        let mut peer = app.dial().await;
        peer.send(request(1, KEEP, &[], b"")).await;
        assert_eq!(peer.record().await.content, b"started");
        peer.send(garbage).await;
        // A reset is as good, where bytes of the peer's were left unread.
        let _ = peer.try_record().await.map(|record| assert_eq!(record, None));
        dropped.wait().await;
    }
}

// Time limits, by a clock that tests own.

/// A limit is kept to within what `tick` adds.
fn assert_took(start: tokio::time::Instant, limit: Duration) {
    let took = start.elapsed();
    assert!(took >= limit && took < limit + Duration::from_secs(1), "{took:?} for {limit:?}");
}

const LIMIT: Duration = Duration::from_secs(5);
const LATER: Duration = Duration::from_secs(20);

/// A server with one limit nearer than the others.
fn limited(set: impl FnOnce(Server, Option<Duration>) -> Server) -> Server {
    let server = Server::new()
        .first_record_timeout(Some(LATER))
        .params_timeout(Some(LATER))
        .idle_timeout(Some(LATER))
        .write_timeout(Some(LATER))
        .handler_timeout(Some(LATER));
    set(server, Some(LIMIT))
}

#[tokio::test(start_paused = true)]
async fn first_record_limit_h_16() {
    tick();
    let app = serve(limited(Server::first_record_timeout), hello);
    for begun in [b"".as_slice(), &begin(1, RESPONDER, KEEP)[..7]] {
        let start = tokio::time::Instant::now();
        let mut peer = app.dial().await;
        peer.send(begun).await;
        peer.expect_close().await;
        assert_took(start, LIMIT);
    }
    // It is for the first record only.
    let mut peer = app.dial().await;
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.answer(1).await, complete("hello"));
    tokio::time::sleep(LIMIT * 2).await;
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.answer(1).await, complete("hello"));
}

#[tokio::test(start_paused = true)]
async fn params_limit_h_16() {
    tick();
    let app = serve(limited(Server::params_timeout), hello);
    let mut peer = app.dial().await;
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.answer(1).await, complete("hello"));
    // Slow, not silent: a byte each second does not prolong it.
    let start = tokio::time::Instant::now();
    peer.send(begin(1, RESPONDER, KEEP)).await;
    let slow = record(Type::Params, 1, &encode(&[("NAME", "a value of some length")]));
    let (mut from, mut to) = peer.io.into_split();
    let dripping = tokio::spawn(async move {
        for byte in slow {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if to.write_all(&[byte]).await.is_err() {
                break;
            }
        }
    });
    let mut rest = Vec::new();
    let _ = within(from.read_to_end(&mut rest)).await;
    assert_eq!(rest, b"");
    assert_took(start, LIMIT);
    within(dripping).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn idle_limit() {
    tick();
    let app = serve(limited(Server::idle_timeout), hello);
    let mut peer = app.dial().await;
    for _ in 0..3 {
        peer.send(request(1, KEEP, &[], b"")).await;
        assert_eq!(peer.answer(1).await, complete("hello"));
        tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
    }
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.answer(1).await, complete("hello"));
    let start = tokio::time::Instant::now();
    peer.expect_close().await;
    assert_took(start, LIMIT);
}

#[tokio::test(start_paused = true)]
async fn write_limit_is_for_a_peer_that_reads_nothing() {
    tick();
    let dropped = Flag::default();
    let server = limited(Server::write_timeout).handler_timeout(None);
    let app = serve(server, {
        let dropped = dropped.clone();
        move |request: Request| {
            let guard = dropped.on_drop();
            async move {
                let _guard = guard;
                let block = Bytes::from(vec![b'x'; 64 * 1024]);
                for _ in 0..128 {
                    request.stdout().write_all(block.clone()).await?;
                }
                Ok::<_, Error>(())
            }
        }
    });
    // Slow for much longer than the limit, but never for so long without a read.
    let mut peer = app.dial().await;
    peer.send(request(1, CLOSE, &[], b"")).await;
    for _ in 0..10 {
        tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
        // More than the sockets hold, so that there was something to write again.
        let mut read = 0;
        while read < 512 * 1024 {
            read += peer.record().await.content.len();
        }
    }
    assert!(!dropped.is_set());
    let start = tokio::time::Instant::now();
    dropped.wait().await;
    assert_took(start, LIMIT);
}

#[tokio::test(start_paused = true)]
async fn no_other_limit_ends_a_handler_that_runs() {
    tick();
    let server = limited(|server, _| server.handler_timeout(None)).idle_timeout(Some(LIMIT));
    let app = serve(server, async |request: Request| -> Result<(), Error> {
        tokio::time::sleep(LATER * 2).await;
        // More than the sockets take: the write waits for its reader, and is done in time.
        request.stdout().write_all(vec![b'x'; 1 << 20]).await?;
        request.stdout().flush().await?;
        tokio::time::sleep(LATER * 2).await;
        request.stdout().write_all("end").await
    });
    let mut peer = app.dial().await;
    for _ in 0..2 {
        peer.send(request(1, KEEP, &[], b"")).await;
        let answer = peer.answer(1).await;
        assert_eq!(answer.stdout.len(), (1 << 20) + 3);
        assert_eq!(answer.app_status, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn handler_limit() {
    tick();
    let dropped = Flag::default();
    let app = serve(limited(Server::handler_timeout), {
        let stuck = stuck(&dropped);
        move |request: Request| -> BoxFuture {
            if request.param("STUCK").is_some() {
                return stuck(request);
            }
            Box::pin(async move {
                tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
                Ok(3)
            })
        }
    });
    let mut peer = app.dial().await;
    let start = tokio::time::Instant::now();
    peer.send(request(1, KEEP, &[("STUCK", "")], b"")).await;
    peer.send(request(2, KEEP, &[], b"")).await;
    assert_eq!(peer.record().await.content, b"started");
    assert_eq!(peer.answer(2).await.app_status, 3);
    assert_eq!(peer.answer(1).await, Answer { app_status: fcgi::CANCELLED, ..complete("") });
    assert_took(start, LIMIT);
    assert!(dropped.is_set());
    // The connection goes on.
    peer.send(request(1, KEEP, &[], b"")).await;
    assert_eq!(peer.answer(1).await.app_status, 3);
}
