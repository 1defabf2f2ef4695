//! Tests a server's session without sockets, tasks or threads. Records, faults, handlers and times
//! are random, and these invariants must hold. `fcgi-engine`'s tests and a fuzz target share this
//! module.
//!
//! - A handler reads exactly what the web server sent to its request.
//! - The web server gets exactly what the handler wrote, complete if END_REQUEST follows. If a
//!   handler fails after part of its output and is alone, END_REQUEST does not follow.
//! - No waiter is forgotten: one that was not woken would gain nothing by looking.
//! - No deadline is missed, and none repeats without end.
//! - At the end the connection is closed and everything was given back.

mod peer;

use std::{
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fcgi_engine::{
    server::{
        Awaited, EndOfFile, Failed, HandlerEnd, Job, Session, Settings, Tally, Turn, Waiters, Write,
    },
    socket::Peer as Origin,
};
use fcgi_proto::{Input, Limits, Output, Rejection, RequestKey};

use peer::Peer;

/// How often each situation occurred.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    /// Handlers that ran.
    pub ran: usize,
    /// Requests that ended with END_REQUEST.
    pub ended: usize,
    /// Handlers that failed after output, alone on their connection.
    pub cut: usize,
    /// Handlers that noticed their cancellation.
    pub cancelled: usize,
    /// Waits that ended with a wake-up.
    pub woken: usize,
    /// Waits that went on.
    pub waited: usize,
    /// Deadlines that passed.
    pub deadlines: usize,
    /// Connections that were closed before their end was asked for.
    pub closed: usize,
    /// Handlers that read their input to its end.
    pub whole: usize,
}

/// Runs the steps that the bytes encode.
///
/// # Panics
/// If an invariant does not hold.
pub fn run(bytes: &[u8]) {
    let _ = explore(bytes);
}

/// The same, and returns how often each situation occurred.
///
/// # Panics
/// Like [`run`].
#[must_use]
pub fn explore(bytes: &[u8]) -> Seen {
    let (mut choices, mut seen) = (Choices(bytes), Seen::default());
    // One connection after the other.
    while !choices.0.is_empty() {
        (choices, seen) = match choices.below(2) {
            0 => live(World::<false>::new(choices, seen)),
            _ => live(World::<true>::new(choices, seen)),
        };
    }
    seen
}

/// Takes steps until the connection is closed.
fn live<const AT_ONCE: bool>(mut world: World<'_, AT_ONCE>) -> (Choices<'_>, Seen) {
    while !world.choices.0.is_empty() && !world.is_closed {
        world.step();
        world.settle();
    }
    world.end()
}

/// A fuzzer's bytes as choices; zeros after their end.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn below(&mut self, n: usize) -> usize {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*byte) % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// What was woken since the last wait, in adapters of [both kinds](Waiters::AT_ONCE).
#[derive(Debug, Default)]
struct Woken<const AT_ONCE: bool> {
    inputs: [bool; 2],
    output: bool,
    flush: bool,
    all: bool,
}

impl<const AT_ONCE: bool> Waiters for Woken<AT_ONCE> {
    const AT_ONCE: bool = AT_ONCE;

    type Woken = ();

    fn wake(&mut self, what: Awaited, (): &mut ()) -> bool {
        match what {
            Awaited::Input(input) => self.inputs[usize::from(input == Input::Data)] = true,
            Awaited::Output => self.output = true,
            Awaited::Flush => self.flush = true,
        }
        true
    }

    fn wake_all(&mut self, (): &mut ()) {
        self.all = true;
    }
}

/// What a handler waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wait {
    Read,
    Write(usize, Write),
    Flush,
    Cancelled,
}

/// A handler.
#[derive(Debug)]
struct Handler {
    key: RequestKey,
    /// The request's number at the peer.
    number: usize,
    started: bool,
    read: usize,
    rejected: bool,
    wait: Option<Wait>,
}

struct World<'a, const AT_ONCE: bool> {
    choices: Choices<'a>,
    seen: Seen,
    now: Instant,
    tally: Arc<Tally>,
    session: Session<Woken<AT_ONCE>>,
    peer: Peer,
    handlers: Vec<Handler>,
    is_closed: bool,
}

impl<'a, const AT_ONCE: bool> World<'a, AT_ONCE> {
    fn new(mut choices: Choices<'a>, seen: Seen) -> Self {
        let now = Instant::now();
        let mut settings = Settings { web_server_addrs: None, ..Settings::from_env() };
        let second = Duration::from_secs(1);
        let limit =
            |choices: &mut Choices<'_>| choices.pick(&[None, Some(second), Some(3 * second)]);
        settings.first_record = limit(&mut choices);
        settings.params = limit(&mut choices);
        settings.stdin = limit(&mut choices);
        settings.idle = limit(&mut choices);
        settings.write_stall = limit(&mut choices);
        settings.handler = limit(&mut choices);
        settings.abort_grace = choices.pick(&[Duration::ZERO, second]);
        settings.shutdown_grace = choices.pick(&[Duration::ZERO, second]);
        settings.cancel_on_disconnect = choices.below(4) > 0;
        settings.end_of_file = choices.pick(&[EndOfFile::HalfClosed, EndOfFile::Gone]);
        settings.max_requests = choices.pick(&[3, 1]);
        settings.config.failure_body = choices.below(4) > 0;
        let mut limits = Limits::server();
        limits.unread_request = choices.pick(&[64, 100_000]);
        limits.unread_connection = choices.pick(&[100, 100_000]);
        limits.send_high_water = choices.pick(&[50, 1000]);
        limits.requests = choices.pick(&[3, 1]);
        settings.config.limits = limits;
        let tally = Arc::new(Tally::new(settings));
        let session = Session::new(&tally, Origin::Unix, now);
        Self {
            choices,
            seen,
            now,
            tally,
            session,
            peer: Peer::default(),
            handlers: Vec::new(),
            is_closed: false,
        }
    }

    fn step(&mut self) {
        match self.choices.below(24) {
            0..=2 => self.peer.begin(self.choices.below(4), self.choices.below(2) == 0),
            3..=6 => self.peer.input(self.choices.below(4), self.choices.below(90)),
            7 => self.peer.end_input(self.choices.below(4)),
            8 => self.peer.abort(self.choices.below(4)),
            9..=11 => self.peer.deliver(self.choices.below(200)),
            12..=13 => self.peer.take(self.choices.below(250)),
            14 => match self.choices.below(6) {
                0 => self.peer.shutdown_write(),
                1 => self.peer.close(),
                2 => self.peer.say_garbage(),
                _ => {}
            },
            15 => self.now += Duration::from_millis(self.choices.below(256) as u64 * 10),
            16 => match self.choices.below(12) {
                0 => self.session.shutdown(self.now),
                1 => self.session.cancel(self.now),
                _ => {}
            },
            _ => self.handler_step(),
        }
    }

    fn handler_step(&mut self) {
        if self.handlers.is_empty() {
            return;
        }
        let index = self.choices.below(self.handlers.len());
        if !self.start(index) {
            return;
        }
        let action = self.choices.below(16);
        let handler = &mut self.handlers[index];
        if self.session.is_over(handler.key) {
            return self.finish(index, HandlerEnd::Dropped);
        }
        let wait = match action {
            0..=3 => Wait::Read,
            4..=8 => {
                let length = self.choices.below(80) + 1;
                Wait::Write(length, self.choices.pick(&[Write::Stream, Write::Record]))
            }
            9 => Wait::Flush,
            10 => Wait::Cancelled,
            11 => {
                handler.rejected = true;
                return self.session.reject(handler.key, Rejection::Overloaded);
            }
            12 => return self.finish(index, HandlerEnd::Returned(Err(Failed))),
            13 => return self.finish(index, HandlerEnd::Panicked),
            _ => {
                let app_status = self.choices.below(3) as u32;
                return self.finish(index, HandlerEnd::Returned(Ok(app_status)));
            }
        };
        if !self.attempt(index, wait) {
            self.handlers[index].wait = Some(wait);
        }
    }

    fn start(&mut self, index: usize) -> bool {
        let handler = &mut self.handlers[index];
        if !handler.started {
            if !self.session.start(handler.key) {
                self.handlers.swap_remove(index);
                return false;
            }
            handler.started = true;
            self.seen.ran += 1;
        }
        true
    }

    /// Completes what a handler waits for, if that is possible now.
    fn attempt(&mut self, index: usize, wait: Wait) -> bool {
        let Handler { key, number, .. } = self.handlers[index];
        if let Some(woken) = self.session.waiters(key) {
            *woken = Woken::default();
        }
        match wait {
            Wait::Read => {
                let max = self.choices.below(40) + 1;
                match self.session.read(key, Input::Stdin, max, || Some(self.now)) {
                    Poll::Pending => return false,
                    Poll::Ready(Ok(Some(bytes))) => {
                        assert!(bytes.len() <= max);
                        let read = &mut self.handlers[index].read;
                        self.peer.check_read(number, *read, &bytes);
                        *read += bytes.len();
                    }
                    Poll::Ready(Ok(None)) => {
                        self.peer.check_read_whole(number, self.handlers[index].read);
                        self.seen.whole += 1;
                    }
                    Poll::Ready(Err(_)) => assert!(self.session.cancelled(key).is_ready()),
                }
            }
            Wait::Write(length, how) => {
                let all = self.peer.next_output(number, length);
                let mut bytes = Bytes::copy_from_slice(&all);
                match self.session.write(key, Output::Stdout, &mut bytes, how) {
                    Poll::Pending => return false,
                    Poll::Ready(Ok(taken)) => {
                        assert_eq!(taken, all.len() - bytes.len());
                        self.peer.wrote(number, taken);
                    }
                    Poll::Ready(Err(_)) => assert!(self.session.cancelled(key).is_ready()),
                }
            }
            Wait::Flush => return self.session.flush(key).is_ready(),
            Wait::Cancelled => match self.session.cancelled(key) {
                Poll::Pending => return false,
                Poll::Ready(_) => self.seen.cancelled += 1,
            },
        }
        true
    }

    fn finish(&mut self, index: usize, end: HandlerEnd) {
        let Handler { key, number, rejected, .. } = self.handlers.swap_remove(index);
        let lives = self.session.cancelled(key).is_pending();
        let fails = !matches!(end, HandlerEnd::Returned(Ok(_)));
        if lives && fails && !rejected && self.peer.cut(number) {
            self.seen.cut += 1;
        }
        let now = self.now;
        self.session.finish(key, end, || now);
        assert!(self.session.cancelled(key).is_ready() && self.session.is_over(key));
    }

    /// Takes turns until nothing can be done, and checks the invariants.
    fn settle(&mut self) {
        let mut turns = 0;
        self.seen.deadlines +=
            usize::from(self.session.deadline().is_some_and(|at| at <= self.now));
        loop {
            turns += 1;
            assert!(turns < 1000, "turns without an end");
            let now = self.now;
            match self.session.turn(&mut self.peer, || now) {
                Turn::Run(Job { key, params, .. }) => {
                    let number = params.get_str("N").unwrap().parse().unwrap();
                    self.handlers.push(Handler {
                        key,
                        number,
                        started: false,
                        read: 0,
                        rejected: false,
                        wait: None,
                    });
                }
                Turn::Again => {}
                Turn::Wait => {
                    // It would come here again and again.
                    assert!(self.session.deadline().is_none_or(|at| at > self.now));
                    break;
                }
                Turn::Closed => {
                    self.seen.closed += usize::from(!self.is_closed);
                    self.is_closed = true;
                    self.session.handle_limits(self.now);
                    break;
                }
            }
        }
        while let Some(key) = self.session.poll_unstarted() {
            self.handlers.retain(|handler| handler.key != key || handler.started);
        }
        for index in 0..self.handlers.len() {
            let Handler { key, wait: Some(wait), .. } = self.handlers[index] else { continue };
            let woken = self.session.waiters(key).is_none_or(|woken| {
                woken.all
                    || match wait {
                        Wait::Read => woken.inputs[0],
                        Wait::Write(..) => woken.output,
                        Wait::Flush => woken.flush,
                        Wait::Cancelled => false,
                    }
            });
            // Writers are woken once half of the room is free, and not for each byte of it.
            let half = self.tally.settings().config.limits.send_high_water / 2;
            let later = matches!(wait, Wait::Write(..)) && self.session.queued() > half;
            let done = self.attempt(index, wait);
            assert!(woken || later || !done, "nobody woke the one who waits for {wait:?}");
            self.seen.woken += usize::from(woken && done);
            self.seen.waited += usize::from(!done);
            if done {
                self.handlers[index].wait = None;
            }
        }
    }

    /// The peer reads and sends only what it must, the handlers return, the server shuts down.
    fn end(mut self) -> (Choices<'a>, Seen) {
        self.peer.deliver(usize::MAX);
        self.peer.take(usize::MAX);
        self.settle();
        while let Some(index) = self.handlers.len().checked_sub(1) {
            if self.start(index) {
                let end = match self.session.is_over(self.handlers[index].key) {
                    true => HandlerEnd::Dropped,
                    false => HandlerEnd::Returned(Ok(0)),
                };
                self.finish(index, end);
            }
            self.peer.take(usize::MAX);
            self.settle();
        }
        self.session.shutdown(self.now);
        for jumps in 0.. {
            self.peer.take(usize::MAX);
            self.settle();
            // Requests that it took meanwhile were taken in good faith.
            while let Some(index) = self.handlers.len().checked_sub(1) {
                if self.start(index) {
                    self.finish(index, HandlerEnd::Returned(Ok(0)));
                }
            }
            if self.is_closed {
                break;
            }
            assert!(jumps < 100, "deadlines without an end");
            match self.session.deadline() {
                Some(at) => self.now = at.max(self.now),
                None => self.session.cancel(self.now),
            }
        }
        self.peer.take(usize::MAX);
        self.peer.check_end();
        self.seen.ended += self.peer.ended();
        assert_eq!(self.session.handlers(), 0);
        assert_eq!((self.tally.requests(), self.tally.connections()), (0, 0), "given back");
        (self.choices, self.seen)
    }
}
