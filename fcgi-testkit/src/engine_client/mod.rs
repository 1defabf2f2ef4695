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

mod application;
mod callers;
mod driver;
mod invariants;
mod wire;

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use fcgi_engine::client::{Exchange, Session, Settings};
use fcgi_proto::{Limits, Rejection, RequestKey, Role, ServerConfig, ServerConnection};

use wire::{Tap, Wire};

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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Running,
    /// Aborted; its caller waits for the end.
    Draining,
    Gone,
}

/// A request, for its caller and for the second calculation.
struct Req {
    exchange: Box<Exchange>,
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
}
