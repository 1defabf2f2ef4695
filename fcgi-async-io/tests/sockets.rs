//! The sockets and the timer, by what the driver asks of them.

use std::{
    future::{Future, poll_fn},
    io::{ErrorKind, IoSlice, Read, Write},
    net::TcpListener,
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use async_io::block_on;
use fcgi_async_io::{AsyncIo, Spawn, Timer, Transport};
use fcgi_driver::{
    Address, Error, Phase, StdListener,
    client::Connector,
    runtime::{Runtime, Timer as _, Transport as _},
};
use fcgi_engine::socket::{HangUp, Peer};

/// A thread for each task.
#[derive(Clone, Copy, Debug)]
enum Threads {}

impl Spawn for Threads {
    fn spawn(future: impl Future<Output = ()> + Send + 'static) {
        thread::spawn(|| block_on(future));
    }
}

type R = AsyncIo<Threads>;

/// Counts how often a task is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn wait(&self) {
        let start = Instant::now();
        while self.0.load(Ordering::SeqCst) == 0 {
            assert!(start.elapsed() < Duration::from_secs(60), "not woken");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("app.sock")
    }
}

/// A transport and its peer's plain socket.
fn pair() -> (Transport, UnixStream) {
    let folder = Folder::new();
    let listener = UnixListener::bind(folder.path()).unwrap();
    let transport = block_on(R::connect(&Address::unix(folder.path()))).unwrap();
    (transport, listener.accept().unwrap().0)
}

fn polled<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_short_read_is_followed_by_a_wait() {
    let (mut transport, mut peer) = pair();
    let mut buffer = [0; 8];
    assert!(polled(|cx| transport.poll_read_ready(cx)).is_pending(), "nothing has come");
    // A socket that is read often is watched in another way.
    for word in ["short", "more", "and", "more", "and", "more"] {
        peer.write_all(word.as_bytes()).unwrap();
        block_on(poll_fn(|cx| transport.poll_read_ready(cx))).unwrap();
        let read = polled(|cx| transport.poll_read(cx, &mut buffer));
        assert!(matches!(read, Poll::Ready(Ok(n)) if n == word.len()), "{read:?}");
        assert!(polled(|cx| transport.poll_read_ready(cx)).is_pending(), "it is known to be empty");
    }
    // What comes before the wait is found all the same, and so is the end.
    drop(peer);
    let read = block_on(poll_fn(|cx| transport.poll_read(cx, &mut buffer)));
    assert_eq!(read.unwrap(), 0);
}

#[test]
fn after_a_full_buffer_there_may_be_more() {
    let (mut transport, mut peer) = pair();
    peer.write_all(&[7; 16]).unwrap();
    let mut buffer = [0; 8];
    for _ in 0..2 {
        let read = block_on(poll_fn(|cx| transport.poll_read(cx, &mut buffer)));
        assert_eq!(read.unwrap(), 8);
        assert!(polled(|cx| transport.poll_read_ready(cx)).is_ready(), "without a wait");
    }
    // There was not, and the next bytes are waited for.
    let late = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        peer.write_all(b"late").unwrap();
        peer
    });
    let read = block_on(poll_fn(|cx| transport.poll_read(cx, &mut buffer)));
    assert_eq!((read.unwrap(), &buffer[..4]), (4, &b"late"[..]));
    late.join().unwrap();
}

#[test]
fn a_busy_socket_sees_the_end_behind_its_last_bytes() {
    let (mut transport, mut peer) = pair();
    let mut buffer = [0; 8];
    for _ in 0..8 {
        peer.write_all(b"some").unwrap();
        let read = block_on(poll_fn(|cx| transport.poll_read(cx, &mut buffer)));
        assert_eq!(read.unwrap(), 4);
    }
    // The end comes together with bytes, is not reported again, and can be read again and again.
    peer.write_all(b"last").unwrap();
    drop(peer);
    for expected in [4, 0, 0] {
        let read = block_on(poll_fn(|cx| transport.poll_read(cx, &mut buffer)));
        assert_eq!(read.unwrap(), expected);
    }
}

#[test]
fn many_busy_sockets_wake_their_own_tasks() {
    let mut pairs: Vec<_> = (0..300).map(|_| pair()).collect();
    let mut buffer = [0; 8];
    for round in 0..6 {
        let woken: Vec<_> = pairs.iter().map(|_| Arc::new(Woken::default())).collect();
        for ((transport, _), woken) in pairs.iter_mut().zip(&woken) {
            let waker = Waker::from(Arc::clone(woken));
            let ready = transport.poll_read_ready(&mut Context::from_waker(&waker));
            assert!(ready.is_pending(), "nothing has come");
        }
        // All but the first, which stays silent.
        for (_, peer) in &mut pairs[1..] {
            peer.write_all(&[round]).unwrap();
        }
        for ((transport, _), woken) in pairs.iter_mut().zip(&woken).skip(1) {
            woken.wait();
            let read = block_on(poll_fn(|cx| transport.poll_read(cx, &mut buffer)));
            assert_eq!((read.unwrap(), buffer[0]), (1, round));
        }
        assert_eq!(woken[0].0.load(Ordering::SeqCst), 0, "nothing came on its socket");
        // Others get their places.
        pairs.truncate(200);
        pairs.extend((0..100).map(|_| pair()));
    }
}

#[test]
fn a_full_socket_is_waited_for() {
    let (mut transport, mut peer) = pair();
    let block = vec![1; 100_000];
    let mut sent = 0;
    while let Poll::Ready(n) = polled(|cx| transport.poll_write(cx, &[IoSlice::new(&block)])) {
        sent += n.unwrap();
    }
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all
    });
    let slices = [IoSlice::new(b"the "), IoSlice::new(b"last ")];
    let n = block_on(poll_fn(|cx| transport.poll_write(cx, &slices))).unwrap();
    assert_eq!(n, 9, "several slices in one call");
    transport.shutdown_write();
    let all = reader.join().unwrap();
    assert_eq!(all.len(), sent + n);
    assert!(all.ends_with(b"the last "));
}

#[test]
fn a_peer_that_has_gone_is_known() {
    let (mut transport, peer) = pair();
    assert_eq!(transport.hang_up(), HangUp::No);
    drop(peer);
    assert_eq!(transport.hang_up(), HangUp::Gone);
    let wrote = polled(|cx| transport.poll_write(cx, &[IoSlice::new(b"x")]));
    assert!(
        matches!(&wrote, Poll::Ready(Err(error)) if error.kind() == ErrorKind::BrokenPipe),
        "{wrote:?}"
    );
}

#[test]
fn every_address_of_a_host_is_tried() {
    // A system's localhost has ::1, 127.0.0.1 or both; only one of them is listened on.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let transport = block_on(R::connect(&format!("localhost:{port}").parse().unwrap()));
    assert!(transport.is_ok(), "{transport:?}");
    drop(listener);
    let refused = block_on(R::connect(&format!("127.0.0.1:{port}").parse().unwrap()));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let unknown = block_on(R::connect(&"no-such-host.invalid:9".parse().unwrap()));
    assert!(unknown.is_err());
    let stdin = block_on(R::connect(&Address::STDIN));
    assert_eq!(stdin.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_full_backlog_says_so() {
    let folder = Folder::new();
    let listener = UnixListener::bind(folder.path()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = Address::unix(folder.path());
    let _first = block_on(R::connect(&address)).unwrap();
    let error = block_on(R::connect(&address)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert_eq!(error.to_string(), "the socket's backlog is full");
}

#[test]
fn a_connect_that_hangs_runs_into_its_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = Address::from(listener.local_addr().unwrap());
    let limit = Duration::from_millis(200);
    let connector = Connector::<R>::new().connect_timeout(Some(limit));
    // The kernel completes a connection or two beyond the backlog, and answers no more.
    let mut connected = Vec::new();
    let error = loop {
        assert!(connected.len() < 20, "the backlog does not fill");
        match block_on(connector.connect(&address)) {
            Ok(client) => connected.push(client),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, Error::Timeout { phase: Phase::Connect, limit: of, .. } if of == limit),
        "{error:?}"
    );
}

#[test]
fn a_listener_accepts_what_comes_together() {
    let folder = Folder::new();
    let listener = UnixListener::bind(folder.path()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut listener = R::listen(StdListener::Unix(listener)).unwrap();
    assert!(polled(|cx| R::poll_accept(&mut listener, cx)).is_pending());
    let _peers = [(); 3].map(|()| UnixStream::connect(folder.path()).unwrap());
    for _ in 0..3 {
        let accepted = block_on(poll_fn(|cx| R::poll_accept(&mut listener, cx)));
        assert_eq!(accepted.unwrap().1, Peer::Unix);
    }
    assert!(polled(|cx| R::poll_accept(&mut listener, cx)).is_pending());

    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    tcp.set_nonblocking(true).unwrap();
    let address = tcp.local_addr().unwrap();
    let mut listener = R::listen(StdListener::Tcp(tcp)).unwrap();
    let peer = std::net::TcpStream::connect(address).unwrap();
    let (transport, from) = block_on(poll_fn(|cx| R::poll_accept(&mut listener, cx))).unwrap();
    assert_eq!(from, Peer::Tcp(peer.local_addr().unwrap()));
    assert!(rustix::net::sockopt::tcp_nodelay(transport.as_socket().unwrap()).unwrap(), "no delay");
    let connected = block_on(R::connect(&Address::from(address))).unwrap();
    assert!(rustix::net::sockopt::tcp_nodelay(connected.as_socket().unwrap()).unwrap(), "no delay");
}

#[test]
fn a_timer_goes_by_its_last_deadline() {
    let mut timer = R::timer();
    let start = R::now();
    let far = start + Duration::from_secs(3600);
    assert!(polled(|cx| timer.poll_until(cx, far)).is_pending());
    for wait in [20, 60] {
        let soon = start + Duration::from_millis(wait);
        block_on(poll_fn(|cx| timer.poll_until(cx, soon)));
        assert!(R::now() >= soon);
        assert!(polled(|cx| timer.poll_until(cx, soon)).is_ready(), "it has passed");
        assert!(polled(|cx| timer.poll_until(cx, far)).is_pending(), "set again");
    }
}

#[test]
fn a_timer_wakes_the_task_that_asked_last() {
    let mut timer: Timer = R::timer();
    let until = R::now() + Duration::from_secs(3);
    let [first, second] = [(); 2].map(|()| Arc::new(Woken::default()));
    for woken in [&first, &second] {
        let waker = Waker::from(Arc::clone(woken));
        assert!(timer.poll_until(&mut Context::from_waker(&waker), until).is_pending());
    }
    second.wait();
    assert_eq!(first.0.load(Ordering::SeqCst), 0);
}

#[test]
fn timers_fire_in_the_order_of_their_deadlines() {
    // A machine under load may need longer to set them than the first ones last.
    let in_order = [30, 300, 3000, 30_000].into_iter().any(fire_in_order);
    assert!(in_order, "they could not be set in time");
}

/// Sets timers of one, two and three times so many milliseconds, and one that is never reached.
/// Returns whether all of them were set before the first was to fire.
fn fire_in_order(wait: u64) -> bool {
    let start = R::now();
    let mut set = [3_600_000, 3 * wait, 2 * wait, wait].map(|wait| {
        let (mut timer, woken) = (R::timer(), Arc::new(Woken::default()));
        let until = start + Duration::from_millis(wait);
        let waker = Waker::from(Arc::clone(&woken));
        let ready = timer.poll_until(&mut Context::from_waker(&waker), until);
        assert!(ready.is_pending() || R::now() >= until);
        (Some(timer), woken, until)
    });
    // One that is dropped wakes nobody, and holds up none of the others.
    set[2].0 = None;
    if R::now() >= set[3].2 {
        return false;
    }
    for at in [3, 1] {
        let (timer, woken, until) = &mut set[at];
        woken.wait();
        assert!(R::now() >= *until);
        let timer = timer.as_mut().unwrap();
        assert!(polled(|cx| timer.poll_until(cx, *until)).is_ready(), "it has passed");
    }
    for unset in [&set[0], &set[2]] {
        assert_eq!(unset.1.0.load(Ordering::SeqCst), 0);
    }
    true
}

#[test]
fn a_spawned_future_runs_by_itself() {
    let (mut transport, mut peer) = pair();
    <R as Runtime>::spawn(async move {
        let mut buffer = [0; 100];
        let n = poll_fn(|cx| transport.poll_read(cx, &mut buffer)).await.unwrap();
        let slices = [IoSlice::new(&buffer[..n])];
        poll_fn(|cx| transport.poll_write(cx, &slices)).await.unwrap();
    })
    .unwrap();
    peer.write_all(b"and back").unwrap();
    let mut back = Vec::new();
    peer.read_to_end(&mut back).unwrap();
    assert_eq!(back, b"and back");
}
