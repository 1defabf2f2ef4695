//! A client's session without sockets, tasks or threads: random requests, an application made of
//! raw records, partial reads and writes, faults and times, against what must hold whatever
//! happens. `fcgi-engine`'s tests and the fuzz target `engine_client` share it.
//!
//! - Nobody who waits is forgotten: whoever is not woken has nothing to gain by looking.
//! - Every byte arrives in order in its own request, in both directions. What came before an error
//!   is handed on before it, to the last byte.
//! - A request ends as the application said, or as what befell its connection says.
//! - Each limit is the one that the model computes, and ends a request that waits past it.
//! - In the end nobody waits, and a connection on which nothing went wrong can carry another
//!   request.

mod application;

use std::{
    collections::{BTreeSet, VecDeque},
    io::{self, IoSlice},
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fcgi_engine::{
    Error, Phase,
    client::{Chunk, Exchange, Limit, Session, Settings},
    pump::Socket,
};
use fcgi_proto::{BeginRequest, Limits, Params, Role, Values};

use crate::{
    choices::{Choices, noise},
    wire::{Type, encode, record},
};
use application::{Application, Ending, LONGEST};

/// How often what was to be tested came about.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    /// Requests begun.
    pub begun: usize,
    /// Requests begun beside others.
    pub beside: usize,
    /// Requests that a connection did not take.
    pub refused: usize,
    /// Requests that ended with an app status.
    pub complete: usize,
    /// Requests that the application refused.
    pub rejected: usize,
    /// Requests cut by the end of the connection.
    pub truncated: usize,
    /// Requests that failed with their socket.
    pub io: usize,
    /// Requests that a protocol error ended.
    pub protocol: usize,
    /// Requests whose first byte did not come in time.
    pub first_byte: usize,
    /// Requests whose next byte did not come in time.
    pub next_byte: usize,
    /// Requests that took too long in all.
    pub total: usize,
    /// Requests given up by their caller.
    pub given_up: usize,
    /// Requests whose body failed.
    pub body: usize,
    /// Writes that the socket took a part of.
    pub blocked: usize,
    /// Connections fit for another request in the end.
    pub reusable: usize,
    /// Questions for the capacity that were answered.
    pub values: usize,
}

/// Runs what the bytes say.
///
/// # Panics
/// When something does not hold.
pub fn run(bytes: &[u8]) {
    explore(bytes);
}

/// [`run`], which also says what came about.
///
/// # Panics
/// When something does not hold.
pub fn explore(bytes: &[u8]) -> Seen {
    let mut choices = Choices::new(bytes);
    if choices.below(32) == 0 { ask(&mut choices) } else { Model::new(&mut choices).go(choices) }
}

const ROLES: [Role; 4] = [Role::Responder, Role::Responder, Role::Authorizer, Role::Filter];
/// Requests in all.
const MOST: usize = 20;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn settings(choices: &mut Choices<'_>) -> Settings {
    let mut limits = Limits::client();
    limits.requests = choices.pick(&[1, 1, 2, 4]);
    limits.recv_buffer = choices.pick(&[limits.recv_buffer, 8, 64, 1000]);
    limits.unread_request = choices.pick(&[limits.unread_request, 1, 100]);
    limits.unread_connection = choices.pick(&[limits.unread_connection, 1, 300]);
    limits.send_high_water = choices.pick(&[limits.send_high_water, 1, 100]);
    // How the application cuts its records is drawn: no flood.
    (limits.idle_records, limits.tiny_records) = (u32::MAX, u32::MAX);
    let mut limit = || choices.pick(&[None, Some(ms(20)), Some(ms(100)), Some(Duration::MAX)]);
    let [first_byte, next_byte, total] = [limit(), limit(), limit()];
    Settings {
        limits,
        first_byte,
        next_byte,
        total: total.filter(|_| choices.below(2) == 0),
        values: ms(50),
        ..Settings::new()
    }
}

/// The socket between the two ends.
#[derive(Default)]
struct Wire {
    /// Bytes that may still be written until the application reads, and what was.
    room: usize,
    written: VecDeque<u8>,
    wrote: usize,
    /// What the application has sent that was not read, and how much was read.
    came: VecDeque<u8>,
    read: usize,
    /// Behind that: the end, or a fault.
    end: Option<Result<(), io::ErrorKind>>,
    /// The application takes no more.
    broken: Option<io::ErrorKind>,
    /// It has said so.
    refused: bool,
    /// Bytes of one call, at most.
    piece: usize,
    interrupted: bool,
}

impl Socket for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let n = buf.len().min(self.came.len()).min(self.piece);
        if n == 0 {
            return match self.end {
                None => Err(io::ErrorKind::WouldBlock.into()),
                Some(Ok(())) => Ok(0),
                Some(Err(kind)) => Err(kind.into()),
            };
        }
        for (to, byte) in buf.iter_mut().zip(self.came.drain(..n)) {
            *to = byte;
        }
        self.read += n;
        Ok(n)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(slices.iter().any(|slice| !slice.is_empty()), "a write of nothing");
        if std::mem::take(&mut self.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if let Some(kind) = self.broken {
            self.refused = true;
            return Err(kind.into());
        }
        let most = self.room.min(self.piece);
        if most == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let before = self.written.len();
        self.written.extend(slices.iter().flat_map(|slice| slice.iter()).take(most));
        let n = self.written.len() - before;
        (self.room, self.wrote) = (self.room - n, self.wrote + n);
        Ok(n)
    }
}

/// A request, as its caller sees it.
struct Caller {
    number: usize,
    exchange: Exchange,
    /// The bodies: how long they are, and how much of them was handed over.
    lengths: [usize; 2],
    given: [usize; 2],
    /// A body that fails at its end.
    fails: bool,
    /// Bytes of STDOUT and STDERR that came.
    came: [usize; 2],
    answered: bool,
    /// The next byte is waited for since then.
    waiting: Option<Instant>,
    started: Instant,
    /// What the socket had read when it began.
    read_before: usize,
    /// When its timer goes off.
    limit: Option<Limit>,
    /// It is polled without being woken: it has just begun, or its body has more.
    ready: bool,
}

struct Model {
    /// Nothing goes wrong: in the end the connection can carry another request.
    calm: bool,
    session: Session<usize>,
    settings: Settings,
    wire: Wire,
    application: Application,
    now: Instant,
    callers: Vec<Caller>,
    woken: BTreeSet<usize>,
    /// The last poll came to nothing, or to bytes of a body that were queued.
    pushed: bool,
    /// When bytes were written last.
    wrote_at: Option<Instant>,
    begun: usize,
    /// Nothing went wrong that would cost the connection.
    clean: bool,
    keeps: bool,
    /// A request asked for the connection to be closed after it.
    closes: bool,
    seen: Seen,
}

impl Model {
    fn new(choices: &mut Choices<'_>) -> Self {
        let calm = choices.below(3) == 0;
        let mut settings = settings(choices);
        if calm {
            (settings.first_byte, settings.next_byte, settings.total) = (None, None, None);
        }
        Self {
            calm,
            session: Session::new("unix:/model".into(), settings),
            settings,
            wire: Wire { room: 4096, piece: usize::MAX, ..Wire::default() },
            application: Application::default(),
            now: Instant::now(),
            callers: Vec::new(),
            woken: BTreeSet::new(),
            pushed: false,
            wrote_at: None,
            begun: 0,
            clean: true,
            keeps: true,
            closes: false,
            seen: Seen::default(),
        }
    }

    fn go(mut self, mut choices: Choices<'_>) -> Seen {
        while !choices.is_empty() && !(self.session.is_closing() && self.session.is_unused()) {
            let op = choices.below(16);
            let which = choices.below(16);
            match op {
                0 | 1 => self.begin(&mut choices),
                2 | 3 => drop(self.turn()),
                4 => drop(self.poll_woken()),
                5 => drop(self.poll_one(which)),
                6 => self.take(choices.pick(&[1, 7, 40, 1000, 100_000])),
                7 | 8 => self.application.say(which, &mut choices, &mut self.wire.came),
                9 => self.application.end(which, self.calm, &mut choices, &mut self.wire.came),
                10 => self.settle(),
                11 => self.pass(ms(choices.pick(&[0, 1, 5, 20, 60]))),
                12 => self.wire.piece = choices.pick(&[usize::MAX, 1, 3, 8, 100]),
                13 => self.wire.interrupted = true,
                14 if which < 4 && !self.calm => self.give_up(choices.below(16)),
                15 if which == 0 && !self.calm => self.fault(&mut choices),
                15 => self.refresh(),
                _ => {}
            }
        }
        self.finish(&mut choices);
        self.seen
    }

    // ---- The callers ---------------------------------------------------------------------------

    fn begin(&mut self, choices: &mut Choices<'_>) {
        if self.begun == MOST {
            return;
        }
        let number = self.begun;
        let role = choices.pick(&ROLES);
        let mut length = || match choices.below(6) {
            n @ 0..4 => n * 20,
            4 => 500,
            _ => LONGEST,
        };
        let lengths = [length(), length()];
        let keep_conn = choices.below(16) > 0 || self.calm;
        // A length that is not that of the body costs the connection.
        let told = choices.below(16);
        let mut params = Params::from_iter([("N", number.to_string())]);
        if told < 2 && !self.calm && role != Role::Authorizer {
            params.push("CONTENT_LENGTH", (lengths[0] + told).to_string());
        }
        let begin = BeginRequest { role, keep_conn, params };
        let usable = self.session.is_usable();
        let beside = !self.session.is_unused();
        let exchange = match self.session.begin(&begin, self.now, self.now) {
            Ok(exchange) => exchange,
            Err(error) => {
                assert!(!usable, "{error}, though it is usable");
                assert!(matches!(error, Error::Closed { .. } | Error::Usage(_)), "{error}");
                self.seen.refused += 1;
                return;
            }
        };
        assert!(usable, "begun on a connection that is not usable");
        assert!(!self.closes && !self.wire.refused, "begun on a connection that closes");
        self.closes |= !keep_conn;
        self.begun += 1;
        self.seen.begun += 1;
        self.seen.beside += usize::from(beside);
        self.keeps &= keep_conn && (self.calm || told != 1);
        self.callers.push(Caller {
            number,
            exchange,
            lengths,
            given: [0; 2],
            fails: choices.below(16) == 0 && role != Role::Authorizer && !self.calm,
            came: [0; 2],
            answered: false,
            waiting: None,
            started: self.now,
            read_before: self.wire.read,
            limit: None,
            ready: true,
        });
    }

    /// Polls those who were woken, or have a reason of their own; says whether that came to
    /// anything.
    fn poll_woken(&mut self) -> bool {
        let late = |limit: Limit| limit.at <= self.now;
        let callers = self.callers.iter().filter(|caller| {
            caller.ready || caller.limit.is_some_and(late) || self.woken.contains(&caller.number)
        });
        let numbers: Vec<usize> = callers.map(|caller| caller.number).collect();
        numbers.into_iter().fold(false, |any, number| any | self.poll(number))
    }

    /// Polls one whether it was woken or not, as a task may be that waits for other things too.
    fn poll_one(&mut self, which: usize) -> bool {
        let caller = self.callers.get(which % self.callers.len().max(1));
        let number = caller.map(|caller| caller.number);
        number.is_some_and(|number| self.poll(number))
    }

    /// What an adapter does for a caller; says whether that came to anything.
    fn poll(&mut self, number: usize) -> bool {
        let Some(at) = self.callers.iter().position(|caller| caller.number == number) else {
            return false;
        };
        self.woken.remove(&number);
        let mut caller = self.callers.swap_remove(at);
        caller.ready = false;
        let mut any = false;
        self.pushed = true;
        let over = loop {
            let polled = self.session.poll(&mut caller.exchange, self.now);
            match polled {
                Poll::Ready(Ok(Some(chunk))) => {
                    (any, self.pushed) = (true, false);
                    self.chunk(&mut caller, chunk);
                    continue;
                }
                Poll::Ready(Err(error @ Error::Timeout { .. })) => break Some(Err(error)),
                Poll::Ready(_) | Poll::Pending => self.check_touched(&caller),
            }
            if let Poll::Ready(end) = polled {
                break Some(end);
            }
            self.session.wait(caller.exchange.key(), |who| *who = Some(number));
            match self.session.push(&mut caller.exchange) {
                Ok(pushed) => any |= pushed,
                Err(error) => panic!("{error}"),
            }
            let limit = self.session.limit(&mut caller.exchange, self.now);
            self.check_limit(&mut caller, limit);
            caller.limit = limit;
            if let Some(input) = caller.exchange.wants_body() {
                any = true;
                let piece = self.piece(&mut caller, input as usize);
                if let Err(error) = caller.exchange.handle_body(piece) {
                    break Some(Err(error));
                }
                continue;
            }
            // Whoever asks for the time has seen that nothing has come.
            break match limit {
                Some(limit) if limit.at <= self.now && !self.can_read() => {
                    Some(Err(caller.exchange.passed(limit)))
                }
                _ => None,
            };
        };
        match over {
            Some(end) => {
                self.pushed = false;
                self.over(caller, end);
                true
            }
            None => {
                self.callers.push(caller);
                any
            }
        }
    }

    /// Whether a read would find something.
    fn can_read(&self) -> bool {
        self.session.wants_read() && (!self.wire.came.is_empty() || self.wire.end.is_some())
    }

    fn piece(&self, caller: &mut Caller, stream: usize) -> io::Result<Option<Bytes>> {
        let (given, length) = (&mut caller.given[stream], caller.lengths[stream]);
        if *given == length {
            return if caller.fails { Err(io::Error::other("it broke")) } else { Ok(None) };
        }
        let n = (length - *given).min(700);
        let piece = noise(caller.number, stream, *given, n);
        *given += n;
        Ok(Some(Bytes::from(piece)))
    }

    fn chunk(&mut self, caller: &mut Caller, chunk: Chunk) {
        let (stream, bytes) = match &chunk {
            Chunk::Stdout(bytes) => (0, bytes.clone()),
            Chunk::Stderr(bytes) => (1, bytes.clone()),
        };
        assert!(!bytes.is_empty());
        let expected = noise(caller.number, 2 + stream, caller.came[stream], bytes.len());
        assert!(bytes == expected, "other bytes than the application sent for this request");
        caller.came[stream] += bytes.len();
        (caller.answered, caller.waiting) = (true, None);
        let now = self.now;
        let handed = caller.exchange.hand_out(Ok(Some(chunk)), || now);
        assert!(handed.is_ok_and(|chunk| chunk.is_some()) && !caller.exchange.is_over());
    }

    /// Before it is begun nothing of an answer can have come, and a byte after that is one.
    fn check_touched(&self, caller: &Caller) {
        let came = self.wire.read > caller.read_before;
        let begun = self.application.has_begun(caller.number);
        let touched = caller.exchange.is_touched();
        assert!(!touched || came, "touched by nothing");
        assert!(touched || !(came && begun), "a byte after its beginning");
    }

    /// The limit, computed once more.
    fn check_limit(&self, caller: &mut Caller, limit: Option<Limit>) {
        let (phase, since, pause) = if caller.answered {
            let since = *caller.waiting.get_or_insert(self.now);
            (Phase::NextByte, since, self.settings.next_byte)
        } else {
            // From the last byte of it; before that, from the last byte that the socket took.
            let sent = self.application.sent_at(caller.number).or(self.wrote_at);
            let since = sent.map_or(caller.started, |at| at.max(caller.started));
            (Phase::FirstByte, since, self.settings.first_byte)
        };
        let pause = pause.and_then(|pause| Some((since.checked_add(pause)?, phase)));
        let total = self.settings.total;
        let total =
            total.and_then(|total| Some((caller.started.checked_add(total)?, Phase::Response)));
        let expected = pause.into_iter().chain(total).min_by_key(|(at, _)| *at);
        assert_eq!(limit.map(|limit| (limit.at, limit.phase)), expected);
    }

    /// Judges a request's end.
    fn over(&mut self, mut caller: Caller, end: Result<Option<Chunk>, Error>) {
        let number = caller.number;
        let timed_out = matches!(end, Err(Error::Timeout { .. } | Error::Body { .. }));
        if !timed_out {
            // Whatever was read of it was handed on before.
            let read = self.application.output(number, self.wire.read);
            assert_eq!(caller.came, read, "bytes of {number} are missing before {end:?}");
        }
        let ending = self.application.ending(number, self.wire.read);
        let lost = self.wire.end.is_some();
        match &end {
            Ok(Some(_)) => unreachable!(),
            Ok(None) => {
                let Some(Ending::Complete(status)) = ending else { panic!("it has not ended") };
                self.seen.complete += 1;
                let now = self.now;
                caller.exchange.hand_out(Ok(None), || now).unwrap();
                assert_eq!(caller.exchange.app_status(), Some(status));
            }
            Err(Error::Rejected { .. }) => {
                assert_eq!(ending, Some(Ending::Rejected));
                self.seen.rejected += 1;
            }
            Err(Error::Truncated { .. }) => {
                assert!(lost && self.wire.came.is_empty() && ending.is_none());
                self.seen.truncated += 1;
            }
            Err(Error::Io { .. }) => {
                let read = matches!(self.wire.end, Some(Err(_)));
                assert!((read || self.wire.broken.is_some()) && ending.is_none());
                self.seen.io += 1;
            }
            Err(Error::Protocol { .. }) => {
                assert!(self.application.speaks_garbage() && ending.is_none());
                self.seen.protocol += 1;
            }
            Err(Error::Timeout { phase, .. }) => {
                let count = match phase {
                    Phase::FirstByte => &mut self.seen.first_byte,
                    Phase::NextByte => &mut self.seen.next_byte,
                    _ => &mut self.seen.total,
                };
                *count += 1;
                let late = match (caller.limit, self.settings.total) {
                    (Some(limit), _) if limit.at <= self.now => true,
                    (_, Some(total)) => self.now - caller.started >= total,
                    _ => false,
                };
                assert!(late, "timed out early");
            }
            Err(Error::Body { .. }) => {
                assert!(caller.fails);
                self.seen.body += 1;
            }
            Err(error) => panic!("{error}"),
        }
        let whole = end.is_ok() || matches!(end, Err(Error::Rejected { .. }));
        self.clean &= whole && self.application.has_waited(number);
        let now = self.now;
        if end.is_err() {
            let handed = caller.exchange.hand_out(end, || now);
            assert!(handed.is_err());
        }
        assert!(caller.exchange.is_over());
        self.leave(caller);
    }

    fn give_up(&mut self, which: usize) {
        if self.callers.is_empty() {
            return;
        }
        let mut caller = self.callers.swap_remove(which % self.callers.len());
        let now = self.now;
        caller.exchange.give_up(|| now);
        self.clean = false;
        self.seen.given_up += 1;
        self.leave(caller);
    }

    fn leave(&mut self, caller: Caller) {
        let key = caller.exchange.key();
        self.woken.remove(&caller.number);
        self.session.abort(key);
        self.session.forget(key);
        self.session.wait(key, |_| panic!("a request that was forgotten"));
    }

    // ---- The connection ------------------------------------------------------------------------

    /// What an adapter does for the connection; says whether that came to anything.
    fn turn(&mut self) -> bool {
        let mut any = false;
        for _ in 0..8 {
            self.handle_events();
            let wrote = self.session.write(&mut self.wire, self.now);
            assert_eq!(wrote.blocked, self.session.is_blocked());
            if wrote.any {
                any = true;
                self.wrote_at = Some(self.now);
                self.handle_events();
            }
            self.seen.blocked += usize::from(wrote.blocked);
            self.application.note_written(self.wire.wrote, &self.wire.written, self.now);
            if self.session.is_closed() || !self.session.read(&mut self.wire) {
                break;
            }
            any = true;
        }
        self.handle_events();
        any
    }

    fn handle_events(&mut self) {
        let woken = &mut self.woken;
        self.session.handle_events(|number| {
            woken.insert(number);
        });
    }

    /// The application reads.
    fn take(&mut self, n: usize) {
        let n = n.min(self.wire.written.len());
        drop(self.wire.written.drain(..n));
        self.wire.room += n;
        self.application.take(n);
    }

    fn refresh(&mut self) {
        self.wire.room = self.wire.room.max(4096);
    }

    fn fault(&mut self, choices: &mut Choices<'_>) {
        self.clean = false;
        let end = match choices.below(5) {
            0 => Ok(()),
            1 => Err(io::ErrorKind::ConnectionReset),
            2 => Err(io::ErrorKind::TimedOut),
            3 => return self.wire.broken = Some(io::ErrorKind::BrokenPipe),
            _ => return self.application.speak_garbage(&mut self.wire.came),
        };
        // Some of what it said is lost with it.
        let left = self.wire.came.len();
        self.wire.came.truncate(left.saturating_sub(choices.below(40)));
        self.wire.end = self.wire.end.or(Some(end));
        self.application.fall_silent();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Everything that moves by itself, until nothing does: then nobody who waits may gain by
    /// looking.
    fn settle(&mut self) {
        while self.turn() | self.poll_woken() {}
        let numbers: Vec<usize> = self.callers.iter().map(|caller| caller.number).collect();
        for number in numbers {
            // While the socket is full there may be some room before it is worth a wake-up.
            let full = self.session.wants_write();
            let gained = self.poll(number);
            assert!(!gained || full && self.pushed, "a lost wake-up of {number}");
        }
    }

    // ---- The end -------------------------------------------------------------------------------

    fn finish(&mut self, choices: &mut Choices<'_>) {
        self.wire.piece = usize::MAX;
        let silent = choices.below(3) == 0 && !self.calm;
        for _ in 0..1000 {
            self.refresh();
            self.settle();
            self.take(usize::MAX);
            self.settle();
            if self.callers.is_empty() {
                break;
            }
            let next = self.callers.iter().filter_map(|caller| Some(caller.limit?.at)).min();
            match next {
                // Each limit that is there is kept.
                Some(next) if silent || self.wire.end.is_some() => self.now = self.now.max(next),
                _ if self.application.end_all(self.calm, &mut self.wire.came) || self.calm => {}
                _ => self.wire.end = Some(Ok(())),
            }
        }
        assert!(self.callers.is_empty(), "a request without an end");
        self.refresh();
        self.settle();
        self.take(usize::MAX);
        self.settle();
        assert!(self.session.is_unused() && self.session.take_waiting().is_none());
        assert!(self.clean || !self.calm);
        if self.clean && self.keeps && self.wire.end.is_none() && self.wire.came.is_empty() {
            assert!(self.session.is_reusable(), "fit for another request");
            self.seen.reusable += 1;
        }
    }
}

/// GET_VALUES: what was said, or nothing.
fn ask(choices: &mut Choices<'_>) -> Seen {
    let settings = settings(choices);
    let mut session = Session::<usize>::new("unix:/model".into(), settings);
    let mut wire = Wire { room: usize::MAX, piece: choices.pick(&[1, 8, 1000]), ..Wire::default() };
    let start = Instant::now();
    let until = session.ask_values(start).unwrap();
    assert_eq!(until, Some(start + settings.values));
    let pairs = encode(&[("FCGI_MPXS_CONNS", "1"), ("FCGI_MAX_CONNS", "7")]);
    let said = Values { max_conns: Some(7), max_reqs: None, mpxs_conns: Some(true) };
    let (bytes, end, expected) = match choices.below(5) {
        0 => (record(Type::GetValuesResult, 0, &pairs), None, Some(Ok(said))),
        1 => (record(Type::UnknownType, 0, &[9; 8]), None, Some(Ok(Values::default()))),
        2 => (Vec::new(), Some(Ok(())), Some(Ok(Values::default()))),
        3 => (b"HTTP/1.1 400\r\n".to_vec(), None, Some(Err(()))),
        _ => (Vec::new(), None, None),
    };
    wire.came.extend(&bytes);
    wire.end = end;
    loop {
        session.handle_events(|_| {});
        session.write(&mut wire, start);
        if !session.read(&mut wire) {
            break;
        }
    }
    session.handle_events(|_| {});
    assert!(!wire.written.is_empty(), "it was asked");
    match session.poll_values() {
        Poll::Pending => assert_eq!(expected, None),
        Poll::Ready(values) => assert_eq!(Some(values.map_err(drop)), expected),
    }
    Seen { values: 1, ..Seen::default() }
}
