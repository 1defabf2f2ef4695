//! Tests a client's session and its exchanges without sockets, tasks or threads. Requests, bodies,
//! answers, faults, partial writes, aborts and times are random, and these invariants must hold.
//! `fcgi-engine`'s tests and the fuzz target `engine_client` share this module.
//!
//! - No waiter is forgotten: a caller that is not woken would gain nothing by looking, and the
//!   driver would have no bytes to move.
//! - No byte is lost or given to another request: bodies and responses are patterns.
//! - The part of a response that came is handed out before its end or its error.
//! - Every time limit agrees with a second calculation, to the millisecond.
//! - At the end every request is over, and the session has none left.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, IoSlice},
    task::Poll,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use fcgi_engine::{
    Error, Phase,
    client::{Chunk, Exchange, Session, Settings},
    pump::Socket,
};
use fcgi_proto::{
    BeginRequest, Connection, Input, Limits, Output, Params, Rejection, RequestKey, Role,
    ServerConfig, ServerConnection, server::Event,
};

/// How often each situation occurred.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    /// Requests that were completed.
    pub complete: usize,
    /// Requests that the application refused.
    pub rejected: usize,
    /// Requests that lost their connection.
    pub truncated: usize,
    /// Requests whose application broke the protocol.
    pub protocol: usize,
    /// Requests whose connection could not be read.
    pub read_failed: usize,
    /// Requests that could not be sent at all.
    pub unsent: usize,
    /// Requests whose body failed.
    pub body_failed: usize,
    /// Requests that were aborted.
    pub aborted: usize,
    /// Waits for the first byte that took too long.
    pub first_byte: usize,
    /// Waits for the next byte that took too long.
    pub next_byte: usize,
    /// Requests that exceeded the total limit.
    pub total: usize,
    /// Requests that a connection refused.
    pub refused: usize,
    /// Writes that the socket took only partly.
    pub partial: usize,
    /// How often the connection was paused.
    pub paused: usize,
    /// Records that belonged to no response.
    pub stray: usize,
}

/// Runs the steps that the bytes encode.
///
/// # Panics
/// If an invariant does not hold.
pub fn run(bytes: &[u8]) {
    explore(bytes);
}

/// Like [`run`], and returns how often each situation occurred.
///
/// # Panics
/// If an invariant does not hold.
pub fn explore(bytes: &[u8]) -> Seen {
    let mut world = World::new(Choices(bytes));
    while !world.input.0.is_empty() {
        world.step();
    }
    world.end();
    world.seen
}

/// The rest of the bytes; zeros after their end.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The byte at a position of a request's stream.
fn pattern(stream: usize, request: usize, at: usize) -> u8 {
    (stream * 83 + request * 31 + at * 7 + at / 256) as u8
}

fn patterned(stream: usize, request: usize, from: usize, n: usize) -> Vec<u8> {
    (from..from + n).map(|at| pattern(stream, request, at)).collect()
}

const STDIN: usize = 0;
const DATA: usize = 1;
/// And STDERR after it.
const STDOUT: usize = 2;

// ---- The wire ---------------------------------------------------------------------------------

/// Cuts bytes into records: a second, simpler parser of the wire.
#[derive(Default)]
struct Tap {
    header: Vec<u8>,
    content: usize,
    padding: usize,
}

/// What a byte of the wire is.
enum Of {
    /// The last of a header: type, id, content length.
    Header(u8, u16, usize),
    /// Of a record's content.
    Content(u8, u16),
    Other,
}

impl Tap {
    fn is_at_boundary(&self) -> bool {
        self.header.is_empty()
    }

    fn push(&mut self, byte: u8) -> Of {
        let of = if self.header.len() < 8 {
            self.header.push(byte);
            if self.header.len() < 8 {
                return Of::Other;
            }
            self.content = usize::from(u16::from_be_bytes([self.header[4], self.header[5]]));
            self.padding = usize::from(self.header[6]);
            Of::Header(self.header[1], self.id(), self.content)
        } else if self.content > 0 {
            self.content -= 1;
            Of::Content(self.header[1], self.id())
        } else {
            self.padding -= 1;
            Of::Other
        };
        if self.content == 0 && self.padding == 0 {
            self.header.clear();
        }
        of
    }

    fn id(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }
}

/// The client's end of a socket.
#[derive(Default)]
struct Wire {
    /// How much it takes until the application reads.
    room: usize,
    /// How much it takes, or gives, at once.
    chunk: usize,
    to_app: VecDeque<u8>,
    from_app: VecDeque<u8>,
    taken: Vec<u8>,
    given: Vec<u8>,
    write_error: Option<io::ErrorKind>,
    /// Set after the last byte has come.
    read_error: Option<io::ErrorKind>,
    eof: bool,
    interrupted: bool,
    /// The driver is woken when there is something to read, or room.
    reading: bool,
    writing: bool,
    partial: usize,
}

impl Socket for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        assert!(!buf.is_empty(), "a read without a window would look like the end");
        if std::mem::take(&mut self.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let n = buf.len().min(self.chunk).min(self.from_app.len());
        if n == 0 {
            return match self.read_error {
                Some(kind) => Err(kind.into()),
                None if self.eof => Ok(0),
                None => {
                    self.reading = true;
                    Err(io::ErrorKind::WouldBlock.into())
                }
            };
        }
        for to in &mut buf[..n] {
            *to = self.from_app.pop_front().unwrap();
            self.given.push(*to);
        }
        Ok(n)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if std::mem::take(&mut self.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let n = all.len().min(self.chunk).min(self.room);
        if n == 0 {
            return match self.write_error {
                Some(io::ErrorKind::WriteZero) => Ok(0),
                Some(kind) => Err(kind.into()),
                None => {
                    self.writing = true;
                    Err(io::ErrorKind::WouldBlock.into())
                }
            };
        }
        self.partial += usize::from(n < all.len());
        self.room -= n;
        self.to_app.extend(&all[..n]);
        self.taken.extend(&all[..n]);
        Ok(n)
    }
}

// ---- The requests -----------------------------------------------------------------------------

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Running,
    /// Aborted; its caller waits for the end.
    Draining,
    Gone,
}

/// A request, for its caller and for the second calculation.
struct Req {
    exchange: Exchange,
    role: Role,
    stage: Stage,
    woken: bool,
    /// When its caller checks the time.
    alarm: Option<Instant>,
    body: [Body; 2],
    /// For each output: how much the application wrote, how much of that was read from the socket,
    /// and how much was handed out.
    wrote: [usize; 2],
    read: [usize; 2],
    handed: [usize; 2],
    started: Instant,
    /// When its limit starts to count.
    since: Instant,
    waiting: bool,
    /// How many of its bytes the socket took, and whether that was all.
    sent: usize,
    flushed: bool,
    app: Option<RequestKey>,
    ended: Option<Result<u32, Rejection>>,
    content_length: Option<usize>,
}

#[derive(Clone, Copy, Default)]
struct Body {
    len: usize,
    /// Available, handed over, and received by the application.
    ready: usize,
    given: usize,
    came: usize,
}

struct World<'a> {
    input: Choices<'a>,
    now: Instant,
    settings: Settings,
    session: Session<usize>,
    wire: Wire,
    /// The driver should look.
    task: bool,
    task_over: bool,
    requests: Vec<Req>,
    /// How much of the wire was examined.
    taken: Tap,
    given: Tap,
    sent_by_id: HashMap<u16, usize>,
    begun: VecDeque<usize>,
    came_by_id: HashMap<u16, usize>,
    app: ServerConnection,
    app_out: Tap,
    app_keys: HashMap<u16, usize>,
    app_over: bool,
    /// Where the incoming bytes stop being records.
    garbage: Option<usize>,
    given_bytes: usize,
    seen: Seen,
}

impl<'a> World<'a> {
    fn new(mut input: Choices<'a>) -> Self {
        let mut settings = Settings::new();
        settings.limits.requests = input.pick(&[1, 2, 4]);
        settings.limits.unread_request = input.pick(&[1, 1000, 1 << 18]);
        settings.limits.unread_connection = input.pick(&[1, 1000, 1 << 20]);
        settings.limits.recv_buffer = input.pick(&[8, 100, 1 << 16]);
        settings.limits.send_high_water = input.pick(&[1, 1000, 1 << 18]);
        settings.first_byte = input.pick(&[None, None, Some(ms(50)), Some(ms(1000))]);
        settings.next_byte = input.pick(&[None, Some(ms(10)), Some(ms(10)), Some(ms(1000))]);
        settings.total = input.pick(&[None, None, None, Some(ms(200))]);
        let mut limits = Limits::server();
        limits.requests = 1000;
        Self {
            wire: Wire {
                room: input.pick(&[0, 30, 1 << 20, 1 << 20]),
                chunk: input.pick(&[7, 100, 1 << 20]),
                ..Wire::default()
            },
            now: Instant::now(),
            session: Session::new("model".into(), settings),
            settings,
            task: true,
            task_over: false,
            requests: Vec::new(),
            taken: Tap::default(),
            given: Tap::default(),
            sent_by_id: HashMap::new(),
            begun: VecDeque::new(),
            came_by_id: HashMap::new(),
            app: ServerConnection::new(ServerConfig {
                limits,
                rejection_body: false,
                ..ServerConfig::default()
            }),
            app_out: Tap::default(),
            app_keys: HashMap::new(),
            app_over: false,
            garbage: None,
            given_bytes: 0,
            seen: Seen::default(),
            input,
        }
    }

    fn step(&mut self) {
        match self.input.below(64) {
            0..=3 => self.begin(),
            4..=17 => self.look(),
            18..=26 => self.turn(),
            27..=29 => self.body_comes(),
            30..=36 => self.app_reads(),
            37..=41 => self.app_writes(),
            42..=46 => self.app_ends(),
            47..=53 => self.app_sends(),
            54..=56 => self.more_room(),
            57..=59 => self.time_passes(),
            60 => self.give_up(),
            61 => self.stray(),
            62 => self.fault(),
            _ => self.wire.interrupted = true,
        }
        self.check_waits();
    }

    fn some(&mut self, is: impl Fn(&Req) -> bool) -> Option<usize> {
        let all: Vec<_> = (0..self.requests.len()).filter(|n| is(&self.requests[*n])).collect();
        (!all.is_empty()).then(|| self.input.pick(&all))
    }

    // ---- The callers ---------------------------------------------------------------------------

    fn begin(&mut self) {
        let role = self.input.pick(&[Role::Responder, Role::Authorizer, Role::Filter]);
        let number = self.requests.len();
        let mut body = [Body::default(); 2];
        for (body, input) in body.iter_mut().zip([Input::Stdin, Input::Data]) {
            if role.has_input(input) {
                body.len = self.input.pick(&[0, 1, 10, 500, 3_000]);
                body.ready = if self.input.below(2) == 0 { body.len } else { 0 };
            }
        }
        let mut params = Params::from_iter([("N", number.to_string())]);
        let mut content_length = None;
        if role.has_input(Input::Stdin) && self.input.below(8) == 0 {
            let length = body[STDIN].len + self.input.below(2);
            params.push("CONTENT_LENGTH", length.to_string());
            content_length = Some(length);
        }
        let keep_conn = self.settings.limits.requests > 1 || self.input.below(8) != 0;
        let begin = BeginRequest { role, keep_conn, params };
        let usable = self.session.is_usable();
        let mut exchange = match self.session.begin(&begin, self.now, self.now) {
            Ok(exchange) => exchange,
            Err(error) => {
                assert!(!usable && matches!(error, Error::Closed { .. } | Error::Usage(_)));
                self.seen.refused += 1;
                return;
            }
        };
        assert!(usable);
        exchange.begin_log(&begin, self.session.span(), || self.now);
        self.begun.push_back(number);
        // Its caller looks at once, and wakes the driver.
        self.task = true;
        self.requests.push(Req {
            exchange,
            role,
            stage: Stage::Running,
            woken: true,
            alarm: None,
            body,
            wrote: [0; 2],
            read: [0; 2],
            handed: [0; 2],
            started: self.now,
            since: self.now,
            waiting: false,
            sent: 0,
            flushed: false,
            app: None,
            ended: None,
            content_length,
        });
    }

    /// A caller looks at its request, whether it was woken or not.
    fn look(&mut self) {
        let Some(n) = self.some(|req| req.stage != Stage::Gone) else { return };
        if self.requests[n].stage == Stage::Draining {
            return self.look_for_the_end(n);
        }
        self.requests[n].woken = false;
        match self.poll(n) {
            Poll::Pending => {}
            Poll::Ready(polled) => {
                let now = self.now;
                let polled = self.requests[n].exchange.hand_out(polled, || now);
                self.handed_out(n, polled);
            }
        }
    }

    fn poll(&mut self, n: usize) -> Poll<Result<Option<Chunk>, Error>> {
        loop {
            let paused = !self.session.wants_read();
            self.seen.paused += usize::from(paused);
            let req = &mut self.requests[n];
            let now = self.now;
            let polled = self.session.poll(&mut req.exchange, || now);
            if polled.is_ready() {
                self.task |= paused;
                return polled;
            }
            self.session.wait(req.exchange.key(), |who| *who = Some(n));
            self.session.push(&mut req.exchange)?;
            self.task |= self.session.wants_write();
            let Some(input) = req.exchange.wants_body() else { break };
            let body = &mut req.body[input as usize];
            let at_hand = body.ready - body.given;
            if at_hand > 0 {
                let piece = patterned(input as usize, n, body.given, at_hand);
                body.given = body.ready;
                req.exchange.handle_body(Ok(Some(piece.into())))?;
            } else if body.given == body.len {
                req.exchange.handle_body(Ok(None))?;
            } else if self.input.below(32) == 31 {
                req.exchange.handle_body(Err(io::Error::other("no more")))?;
            } else {
                break;
            }
        }
        let req = &mut self.requests[n];
        let expected = req.limit(&self.settings, self.now);
        let limit = self.session.limit(&mut req.exchange, self.now);
        assert_eq!(limit.map(|limit| (limit.at, limit.phase)), expected, "request {n}");
        req.alarm = limit.map(|limit| limit.at);
        match limit {
            Some(limit) if limit.at <= self.now => Poll::Ready(Err(req.exchange.passed(limit))),
            _ => Poll::Pending,
        }
    }

    fn handed_out(&mut self, n: usize, polled: Result<Option<Chunk>, Error>) {
        let (now, settings) = (self.now, self.settings);
        let req = &mut self.requests[n];
        let all_handed = req.handed == req.read;
        match polled {
            Ok(Some(chunk)) => {
                let (output, bytes) = match &chunk {
                    Chunk::Stdout(bytes) => (0, bytes),
                    Chunk::Stderr(bytes) => (1, bytes),
                };
                let from = req.handed[output];
                assert!(*bytes == patterned(STDOUT + output, n, from, bytes.len()));
                req.handed[output] += bytes.len();
                assert!(req.handed[output] <= req.read[output]);
                (req.waiting, req.woken) = (false, true);
                return;
            }
            Ok(None) => {
                assert!(all_handed && req.handed == req.wrote);
                assert_eq!(req.ended, Some(Ok(req.exchange.app_status().unwrap())));
                self.seen.complete += 1;
            }
            Err(Error::Rejected { rejection, .. }) => {
                assert!(all_handed);
                assert_eq!(req.ended, Some(Err(rejection)));
                self.seen.rejected += 1;
            }
            Err(Error::Truncated { .. }) => {
                assert!(all_handed && (self.wire.eof || self.wire.read_error.is_some()));
                self.seen.truncated += 1;
            }
            Err(Error::Protocol { .. }) => {
                assert!(all_handed && self.garbage.is_some());
                self.seen.protocol += 1;
            }
            Err(Error::Io { doing: "read from", source, .. }) => {
                assert!(all_handed);
                assert_eq!(Some(source.kind()), self.wire.read_error);
                self.seen.read_failed += 1;
            }
            Err(Error::Io { source, .. }) => {
                assert_eq!(Some(source.kind()), self.wire.write_error);
                assert_eq!(req.sent, 0, "some of it was sent");
                assert!(!req.exchange.is_touched());
                self.seen.unsent += 1;
            }
            Err(Error::Timeout { phase, limit, .. }) => {
                let (seen, expected) = match phase {
                    Phase::FirstByte => (&mut self.seen.first_byte, settings.first_byte),
                    Phase::NextByte => (&mut self.seen.next_byte, settings.next_byte),
                    Phase::Response => (&mut self.seen.total, settings.total),
                    other => panic!("{other:?}"),
                };
                *seen += 1;
                assert_eq!(Some(limit), expected);
                let from = if phase == Phase::Response { req.started } else { req.since };
                assert!(now >= from + limit, "too early");
            }
            Err(Error::Body { .. }) => self.seen.body_failed += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(req.exchange.is_over());
        self.release(n);
    }

    /// The caller is done with the request, and waits for its end or not.
    fn release(&mut self, n: usize) {
        let key = self.requests[n].exchange.key();
        self.task |= self.session.abort(key);
        let drain = self.input.below(2) == 0;
        self.requests[n].stage = if drain { Stage::Draining } else { Stage::Gone };
        (self.requests[n].woken, self.requests[n].alarm) = (true, None);
        if !drain {
            self.forget(n);
        }
    }

    fn forget(&mut self, n: usize) {
        self.requests[n].stage = Stage::Gone;
        self.session.forget(self.requests[n].exchange.key());
        self.task |= self.session.is_closing() && self.session.is_unused();
    }

    fn look_for_the_end(&mut self, n: usize) {
        let key = self.requests[n].exchange.key();
        self.requests[n].woken = false;
        match self.session.ended(key) {
            Some(_) => self.forget(n),
            None => self.session.wait(key, |who| *who = Some(n)),
        }
    }

    fn give_up(&mut self) {
        let Some(n) = self.some(|req| req.stage == Stage::Running) else { return };
        let now = self.now;
        self.requests[n].exchange.give_up(|| now);
        self.seen.aborted += 1;
        self.release(n);
    }

    fn body_comes(&mut self) {
        let Some(n) = self.some(|req| req.stage == Stage::Running) else { return };
        let more = self.input.pick(&[1, 100, 3_000]);
        let req = &mut self.requests[n];
        for body in &mut req.body {
            body.ready = (body.ready + more).min(body.len);
        }
        req.woken = true;
    }

    fn time_passes(&mut self) {
        let next = self.requests.iter().filter_map(|req| req.alarm).min();
        self.now = match next {
            Some(next) if self.input.below(2) == 0 => self.now.max(next),
            _ => self.now + ms(1 + self.input.below(60) as u64),
        };
        for req in &mut self.requests {
            req.woken |= req.alarm.is_some_and(|at| at <= self.now);
        }
    }

    // ---- The driver ----------------------------------------------------------------------------

    fn turn(&mut self) {
        if self.task && !self.task_over {
            self.task = false;
            self.task_over = self.move_bytes();
        }
    }

    /// Works like the async adapters; true at the end of the connection.
    fn move_bytes(&mut self) -> bool {
        (self.wire.reading, self.wire.writing) = (false, false);
        let over = loop {
            self.events();
            let now = self.now;
            let wrote = self.session.write(&mut self.wire, || now);
            self.look_at_what_was_taken();
            if wrote.any {
                self.events();
            }
            if self.session.is_closed() || self.session.is_closing() && self.session.is_unused() {
                break true;
            }
            let read = self.session.read(&mut self.wire);
            self.look_at_what_was_given();
            if !read {
                break false;
            }
        };
        if over {
            self.session.handle_lost();
            self.events();
        }
        self.seen.partial += std::mem::take(&mut self.wire.partial);
        over
    }

    fn events(&mut self) {
        let requests = &mut self.requests;
        self.session.handle_events(|n| requests[n].woken = true);
    }

    fn look_at_what_was_taken(&mut self) {
        let taken = std::mem::take(&mut self.wire.taken);
        if taken.is_empty() {
            return;
        }
        let waiting: Vec<_> =
            (0..self.requests.len()).filter(|n| !self.requests[*n].flushed).collect();
        for byte in taken {
            // The first byte of its BEGIN_REQUEST is a request's first.
            if self.taken.is_at_boundary() {
                self.taken.header.clear();
            }
            match self.taken.push(byte) {
                Of::Header(1, id, _) => {
                    let n = self.begun.pop_front().unwrap();
                    assert_eq!(self.requests[n].exchange.key().id(), id);
                    self.sent_by_id.insert(id, n);
                    self.requests[n].sent = 8;
                }
                Of::Header(kind, id, 0) if id != 0 => {
                    let req = &mut self.requests[self.sent_by_id[&id]];
                    let last = match req.role.last_input() {
                        None => 4,
                        Some(Input::Stdin) => 5,
                        Some(Input::Data) => 8,
                    };
                    req.flushed |= kind == last;
                }
                _ => {}
            }
        }
        for n in waiting {
            let req = &mut self.requests[n];
            if !req.waiting && req.handed == [0; 2] {
                req.since = req.since.max(self.now);
            }
        }
    }

    fn look_at_what_was_given(&mut self) {
        for byte in std::mem::take(&mut self.wire.given) {
            if self.garbage.is_some_and(|at| self.given_bytes >= at) {
                // It is not a record.
                continue;
            }
            self.given_bytes += 1;
            if let Of::Content(kind @ (6 | 7), id) = self.given.push(byte) {
                if let Some(n) = self.came_by_id.get(&id) {
                    self.requests[*n].read[usize::from(kind - 6)] += 1;
                }
            }
        }
    }

    // ---- The application -----------------------------------------------------------------------

    fn app_reads(&mut self) {
        let most = self.input.pick(&[1, 20, 1000, 1 << 20]);
        let window = self.app.recv_buffer();
        let n = window.len().min(most).min(self.wire.to_app.len());
        for (to, byte) in window.iter_mut().zip(self.wire.to_app.drain(..n)) {
            *to = byte;
        }
        self.app.handle_recv(n).unwrap();
        self.app_events();
    }

    fn app_events(&mut self) {
        while let Some(event) = self.app.poll_event().expect("a client in order") {
            match event {
                Event::Request { key, params, .. } => {
                    let n: usize = params.get_str("N").unwrap().parse().unwrap();
                    self.requests[n].app = Some(key);
                    self.app_keys.insert(key.id(), n);
                    self.came_by_id.insert(key.id(), n);
                }
                Event::Readable { key, input } => {
                    let n = self.app_keys[&key.id()];
                    let mut request = self.app.request(key).unwrap();
                    while let Poll::Ready(Some(bytes)) = request.read(input, usize::MAX) {
                        let body = &mut self.requests[n].body[input as usize];
                        let stream = if input == Input::Stdin { STDIN } else { DATA };
                        assert!(bytes == patterned(stream, n, body.came, bytes.len()));
                        body.came += bytes.len();
                        assert!(body.came <= body.given);
                    }
                }
                Event::Writable { .. } | Event::Aborted { .. } => {}
            }
        }
    }

    /// A request that the application has and has not ended.
    fn at_app(&mut self) -> Option<(usize, RequestKey)> {
        let n = self.some(|req| req.app.is_some() && req.ended.is_none())?;
        Some((n, self.requests[n].app?))
    }

    fn app_writes(&mut self) {
        let Some((n, key)) = self.at_app() else { return };
        let output = self.input.below(2);
        let len = self.input.pick(&[1, 10, 300, 3_000]);
        let mut bytes =
            Bytes::from(patterned(STDOUT + output, n, self.requests[n].wrote[output], len));
        let to = [Output::Stdout, Output::Stderr][output];
        let Some(mut request) = self.app.request(key) else { return };
        if let Ok(taken) = request.write(to, &mut bytes) {
            self.requests[n].wrote[output] += taken;
        }
    }

    fn app_ends(&mut self) {
        let Some((n, key)) = self.at_app() else { return };
        let Some(request) = self.app.request(key) else { return };
        let req = &mut self.requests[n];
        if req.wrote == [0; 2] && self.input.below(8) == 0 {
            request.reject(Rejection::Overloaded).unwrap();
            // The page of a refusal.
            req.ended = Some(Err(Rejection::Overloaded));
            return;
        }
        let status = u32::from(self.input.byte());
        request.finish(status).unwrap();
        req.ended = Some(Ok(status));
    }

    fn app_sends(&mut self) {
        let most = self.input.pick(&[1, 9, 100, 1 << 20]);
        if self.app_over {
            return;
        }
        while let Some(mut queued) = self.app.poll_transmit() {
            let n = queued.remaining().min(most);
            let bytes = queued.copy_to_bytes(n);
            for byte in &bytes {
                self.app_out.push(*byte);
            }
            self.wire.from_app.extend(&bytes);
            if n == most {
                break;
            }
        }
        self.app_events();
        self.something_came();
    }

    fn something_came(&mut self) {
        self.task |= std::mem::take(&mut self.wire.reading);
    }

    fn more_room(&mut self) {
        self.wire.room += self.input.pick(&[1, 50, 1000, 1 << 20]);
        self.task |= std::mem::take(&mut self.wire.writing);
    }

    fn stray(&mut self) {
        if self.app_over || !self.app_out.is_at_boundary() {
            return;
        }
        let record: &[u8] = self.input.pick(&[
            &[1, 11, 0, 0, 0, 8, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0],
            &[1, 6, 0xEE, 0xEE, 0, 3, 0, 0, 1, 2, 3],
            &[1, 3, 0xEE, 0xEE, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 77, 0, 1, 0, 0, 0, 0],
            &[1, 10, 0, 0, 0, 0, 0, 0],
        ]);
        self.seen.stray += 1;
        self.wire.from_app.extend(record);
        self.something_came();
    }

    fn fault(&mut self) {
        match self.input.below(16) {
            _ if self.app_over => return,
            0 | 1 => self.wire.eof = true,
            2 => self.wire.read_error = Some(io::ErrorKind::ConnectionReset),
            3 => self.wire.read_error = Some(io::ErrorKind::Other),
            4 if self.app_out.is_at_boundary() => {
                self.garbage = Some(self.given_bytes + self.wire.from_app.len());
                self.wire.from_app.extend(GARBAGE);
            }
            5..=7 if self.wire.write_error.is_none() => {
                let kinds = [io::ErrorKind::BrokenPipe, io::ErrorKind::WriteZero];
                self.wire.write_error = Some(self.input.pick(&kinds));
                self.wire.room = 0;
                self.task |= std::mem::take(&mut self.wire.writing);
                return;
            }
            // This is rare, or most runs would be short.
            _ => return,
        }
        self.app_over = true;
        self.something_came();
    }

    // ---- The invariants ------------------------------------------------------------------------

    fn check_waits(&mut self) {
        if !self.task && !self.task_over {
            let (before, room) = (self.wire.from_app.len(), self.wire.room);
            let woken = |world: &Self| world.requests.iter().filter(|req| req.woken).count();
            let awake = woken(self);
            self.task_over = self.move_bytes();
            assert!(
                self.wire.from_app.len() == before
                    && self.wire.room == room
                    && woken(self) == awake
                    && !self.task_over,
                "there were bytes to move, and nobody was told"
            );
        }
        for n in 0..self.requests.len() {
            let req = &mut self.requests[n];
            if req.woken {
                continue;
            }
            match req.stage {
                Stage::Gone => {}
                Stage::Draining => {
                    let ended = self.session.ended(req.exchange.key());
                    assert_eq!(ended, None, "request {n} has ended, and nobody was told");
                }
                Stage::Running => {
                    let now = self.now;
                    let polled = self.session.poll(&mut req.exchange, || now);
                    assert!(polled.is_pending(), "request {n} has something: {polled:?}");
                    // It is notified of room once half of the limit is free.
                    if self.session.is_writable() && !self.session.wants_write() {
                        let pushed = self.session.push(&mut req.exchange).unwrap();
                        assert!(!pushed, "request {n} has room, and nobody was told");
                    }
                    let due = req.limit(&self.settings, self.now).map(|(at, _)| at);
                    assert!(due.is_none_or(|due| req.alarm.is_some_and(|alarm| alarm <= due)));
                }
            }
            let mismatch = req.content_length.is_some_and(|length| length != req.body[STDIN].len);
            if mismatch && req.flushed {
                assert!(!self.session.is_usable(), "Q-4");
            }
        }
    }

    /// Lets everything reach its end.
    fn end(&mut self) {
        // Counts the rounds in which no caller got anything: with little room a long answer takes many.
        let mut turns = 0;
        let handed = |world: &Self| -> usize {
            world.requests.iter().map(|req| req.handed.iter().sum::<usize>()).sum()
        };
        while self.requests.iter().any(|req| req.stage != Stage::Gone) {
            let before = handed(self);
            turns += 1;
            assert!(turns < 20_000, "no end of it: {:?}", self.session);
            self.wire.room += if self.wire.write_error.is_some() { 0 } else { 1 << 20 };
            self.wire.chunk = 1 << 20;
            self.task |= std::mem::take(&mut self.wire.writing);
            self.turn();
            for n in 0..self.requests.len() {
                for body in &mut self.requests[n].body {
                    body.ready = body.len;
                }
                match self.requests[n].stage {
                    Stage::Gone => {}
                    Stage::Draining if turns > 10_000 => self.forget(n),
                    Stage::Draining => self.look_for_the_end(n),
                    Stage::Running => {
                        if let Poll::Ready(polled) = self.poll(n) {
                            let now = self.now;
                            let polled = self.requests[n].exchange.hand_out(polled, || now);
                            self.handed_out(n, polled);
                        }
                    }
                }
                if let (Some(key), None) = (self.requests[n].app, self.requests[n].ended) {
                    self.app.request(key).unwrap().finish(0).unwrap();
                    self.requests[n].ended = Some(Ok(0));
                }
            }
            while !self.wire.to_app.is_empty() && !self.app.recv_buffer().is_empty() {
                self.app_reads();
            }
            self.app_sends();
            if handed(self) > before {
                turns -= 1;
            }
            if turns == 5_000 && !self.app_over {
                // This application has not received all of a request, and never will.
                (self.wire.eof, self.app_over) = (true, true);
                self.something_came();
            }
        }
        assert!(self.session.is_unused(), "a request is left");
    }
}

const GARBAGE: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

impl Req {
    /// The next limit to pass, by the second calculation.
    fn limit(&mut self, settings: &Settings, now: Instant) -> Option<(Instant, Phase)> {
        let answered = self.handed != [0; 2];
        if answered && !self.waiting {
            (self.waiting, self.since) = (true, now);
        }
        let pause = if answered {
            settings.next_byte.map(|limit| (self.since + limit, Phase::NextByte))
        } else {
            settings.first_byte.map(|limit| (self.since + limit, Phase::FirstByte))
        };
        let total = settings.total.map(|limit| (self.started + limit, Phase::Response));
        pause.into_iter().chain(total).min_by_key(|(at, _)| *at)
    }
}
