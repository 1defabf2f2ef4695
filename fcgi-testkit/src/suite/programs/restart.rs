//! Restarts: a request that was sent before its connection was closed is never lost (W-13, FC-7-1).

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use super::Running;
use crate::suite::{Case, Suite, signal::until, wire::*};

pub(super) const CASES: &[(&str, Case)] = cases![
    "programs":
    sigterm_serves_what_was_sent_before_w_13,
    sigterm_serves_what_waits_at_descriptor_0_w_13,
    restarts_under_load_lose_no_request_w_13,
    restarts_under_load_lose_no_request_of_kept_connections_w_13,
];

const HELLO: &str = "Content-Type: text/plain\r\n\r\nHello, world\n";
/// Connections that wait to be accepted.
const WAITING: usize = 20;
const RESTARTS: usize = 20;
const CALLERS: usize = 16;

impl Running {
    /// Stops the process, does `meanwhile`, sends SIGTERM, and lets the process continue: it sees
    /// everything at once.
    fn terminate_behind<R>(&self, meanwhile: impl FnOnce() -> R) -> R {
        self.signal("-STOP");
        until("it stands still", || self.state() == 'T');
        let result = meanwhile();
        self.signal("-TERM");
        self.signal("-CONT");
        result
    }

    /// The process's state in `/proc`: `T` if it is stopped.
    fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit(") ").next().unwrap().chars().next().unwrap()
    }

    /// Whether it has taken descriptor 0 over.
    fn has_taken_over(&self) -> bool {
        let zero = std::fs::read_link(format!("/proc/{}/fd/0", self.child.id()));
        zero.is_ok_and(|path| path == Path::new("/dev/null"))
    }
}

/// Starts `hello` on a socket that other processes may have too.
fn hello_on(suite: &Suite, path: &Path, listener: OwnedFd) -> Running {
    let mut command = suite.programs().command("hello");
    let child = command.arg("-").stdin(Stdio::from(listener)).spawn().unwrap();
    let address = format!("unix:{}", path.display());
    // The process that bound the socket removes its folder.
    let running = Running { child, address, folder: tempfile::tempdir().unwrap() };
    until("it has taken descriptor 0 over", || running.has_taken_over());
    running
}

/// Sends requests on connections that nobody has accepted.
fn wait_in_the_backlog(dial: impl Fn() -> Peer) -> Vec<Peer> {
    let dial_and_send = |_| {
        let mut peer = dial();
        peer.send(request(1, CLOSE, &[], b"body"));
        peer
    };
    (0..WAITING).map(dial_and_send).collect()
}

fn answered(mut peer: Peer) {
    assert_eq!(peer.answer(1), complete(HELLO));
    peer.expect_close();
}

fn sigterm_serves_what_was_sent_before_w_13(suite: &Suite) {
    let mut hello = suite.programs().start("hello");
    // One connection that was used before, and one that only sent a query.
    let (mut kept, mut fresh) = (hello.dial(), hello.dial());
    kept.send(request(1, KEEP, &[], b""));
    assert_eq!(kept.answer(1), complete(HELLO));
    fresh.send(record(Type::GetValues, 0, b""));
    assert_eq!(fresh.record().kind, Type::GetValuesResult);
    let waiting = hello.terminate_behind(|| {
        kept.send(request(2, KEEP, &[], b"body"));
        fresh.send(request(1, KEEP, &[], b"body"));
        wait_in_the_backlog(|| hello.dial())
    });
    assert_eq!(kept.answer(2), complete(HELLO));
    kept.expect_close();
    waiting.into_iter().chain([fresh]).for_each(answered);
    assert_eq!(hello.exit_status().code(), Some(0));
}

fn sigterm_serves_what_waits_at_descriptor_0_w_13(suite: &Suite) {
    let (_folder, path, _) = unix_address();
    let mut hello = hello_on(suite, &path, UnixListener::bind(&path).unwrap().into());
    let waiting = hello.terminate_behind(|| wait_in_the_backlog(|| hello.dial()));
    waiting.into_iter().for_each(answered);
    assert_eq!(hello.exit_status().code(), Some(0));
}

/// Counts what happened to the requests.
#[derive(Debug, Default)]
struct Figures {
    answered: AtomicUsize,
    /// The connection was closed before the request could be sent: nothing was lost.
    crossed: AtomicUsize,
    /// The whole request was sent before the connection was closed, and has no answer.
    lost: AtomicUsize,
}

impl Figures {
    /// Sends a request. Returns `None` if the connection can't carry another one.
    fn call(&self, peer: &mut Peer, keep_conn: bool) -> Option<()> {
        // A unix socket takes bytes only for as long as its peer is open.
        if peer.try_send(request(1, keep_conn, &[], b"")).is_err() {
            self.crossed.fetch_add(1, Ordering::SeqCst);
            return None;
        }
        let whole = self.answer(peer).unwrap_or_default();
        let counter = if whole { &self.answered } else { &self.lost };
        counter.fetch_add(1, Ordering::SeqCst);
        (whole && keep_conn).then_some(())
    }

    /// Reads the answer. Returns whether it was complete.
    fn answer(&self, peer: &mut Peer) -> io::Result<bool> {
        let mut answer = Answer::default();
        while let Some(record) = peer.try_record()? {
            if answer.take(&record) {
                return Ok(answer == complete(HELLO));
            }
        }
        Ok(false)
    }
}

/// The next process listens on the same socket before the previous one has to exit.
fn restarts(suite: &Suite, keep_conn: bool) {
    let (_folder, path, address) = unix_address();
    let listener = UnixListener::bind(&path).unwrap();
    let start = || hello_on(suite, &path, listener.try_clone().unwrap().into());
    let (figures, over) = (Figures::default(), AtomicBool::new(false));
    let load = || {
        while !over.load(Ordering::SeqCst) {
            let mut peer = Peer::dial(&address);
            while figures.call(&mut peer, keep_conn).is_some() && !over.load(Ordering::SeqCst) {}
        }
    };
    // After the callers have ended, it gets no more requests.
    let mut running = start();
    thread::scope(|scope| {
        (0..CALLERS).for_each(|_| drop(scope.spawn(load)));
        let end = EndOnDrop(&over);
        for _ in 0..RESTARTS {
            let next = start();
            let before = figures.answered.load(Ordering::SeqCst);
            running.signal("-TERM");
            assert_eq!(running.exit_status().code(), Some(0));
            until("the next one answers", || {
                figures.answered.load(Ordering::SeqCst) > before + CALLERS
            });
            running = next;
        }
        drop(end);
    });
    assert_eq!(figures.lost.load(Ordering::SeqCst), 0, "keep_conn {keep_conn}: {figures:?}");
}

/// Ends the callers, however the test ends.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn restarts_under_load_lose_no_request_w_13(suite: &Suite) {
    restarts(suite, CLOSE);
}

fn restarts_under_load_lose_no_request_of_kept_connections_w_13(suite: &Suite) {
    restarts(suite, KEEP);
}
