//! Tests a pool's desk without sockets, tasks or threads. Callers, failures, answers and times are
//! random, and these invariants must hold. `fcgi-engine`'s tests and the fuzz target `engine_pool`
//! share this module.
//!
//! - No waiter is forgotten: a caller that is not woken would gain nothing by looking.
//! - There are never more connections than the limit, including those that are being closed, nor
//!   more requests on one.
//! - Every wait and every idle connection ends in time, although only the reaper watches the clock.
//! - A request is sent again only if it can't have been started.
//! - At the end everything was given back, and all connections are closed.
//! - What closes a connection or wakes a caller may call into the same pool: no lock is held.

mod adapter;
mod callers;
mod invariants;
mod looks;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use fcgi_engine::{
    Address,
    client::Replay,
    pool::{Asking, Desk, Lease, Sending, Settings},
};
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Params, RequestKey, Role, pool::ConnectionId,
};

use adapter::{Fake, World};

/// How often each situation occurred.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    /// Connections opened.
    pub opened: usize,
    /// Connections reused by one caller.
    pub reused: usize,
    /// Connections joined while others were on them.
    pub joined: usize,
    /// Requests sent again.
    pub retried: usize,
    /// Requests sent again alone.
    pub retried_alone: usize,
    /// Requests not sent again.
    pub failed: usize,
    /// Waits that timed out.
    pub timed_out: usize,
    /// Callers that a pool had no room for.
    pub full: usize,
    /// Callers refused by a closed pool.
    pub refused: usize,
    /// Callers that waited for another's GET_VALUES.
    pub waited_for_values: usize,
    /// Calls into the pool from within the closing of a connection.
    pub reentered: usize,
    /// Idle connections that were closed.
    pub expired: usize,
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
    Model::run(Input(bytes))
}

/// The rest of the bytes; zeros after their end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A body that may be read only once.
#[derive(Default, Debug)]
struct FakeBody {
    once: bool,
}

impl Replay for FakeBody {
    fn replay(&self) -> Option<Self> {
        (!self.once).then(Self::default)
    }

    fn is_empty(&self) -> bool {
        !self.once
    }
}

struct Caller {
    lease: Lease<Fake>,
    sending: Sending<FakeBody>,
    stage: Stage,
    once: bool,
    keep: bool,
    tries: usize,
    fresh: bool,
}

enum Stage {
    Queued,
    /// Another caller asks.
    Waits,
    Asks(Asking<Fake>),
    /// It opens a connection, which others may share.
    Opens(bool),
    /// It has a connection, by its number.
    Has(usize),
    /// Its request was begun on it.
    Sent(usize),
}

struct Model {
    desk: Arc<Desk<Fake>>,
    fake: Fake,
    settings: Settings,
    key: RequestKey,
    /// By number; those that have gone are `None`.
    callers: Vec<Option<Caller>>,
    ids: Vec<Option<ConnectionId>>,
    reaper: Option<Duration>,
    closed: bool,
}

impl Model {
    fn run(mut input: Input<'_>) -> Seen {
        let mut model = Self::new(&mut input);
        while !input.0.is_empty() {
            model.step(&mut input);
        }
        model.end()
    }

    fn new(input: &mut Input<'_>) -> Self {
        let mut settings = Settings::new();
        settings.limits.connections = input.below(4);
        settings.limits.idle = input.below(4);
        settings.limits.idle_timeout = input.pick(&[ms(0), ms(5), ms(30), ms(200), Duration::MAX]);
        settings.limits.requests_per_connection = input.pick(&[None, None, Some(1), Some(3)]);
        settings.limits.age = input.pick(&[None, None, Some(ms(0)), Some(ms(20)), Some(ms(90))]);
        settings.limits.waiting = input.pick(&[0, 2, 1000, 1000]);
        settings.limits.wait_timeout =
            input.pick(&[None, Some(ms(0)), Some(ms(10)), Some(ms(40)), Some(Duration::MAX)]);
        settings.multiplex = input.pick(&[1, 3, 8, 8]);
        settings.keep_conn = input.below(3) > 0;
        let world = World {
            start: Instant::now(),
            now: Duration::ZERO,
            woken: BTreeSet::new(),
            connections: Vec::new(),
            opening: 0,
            most: settings.limits.connections.max(1),
            spawned: false,
            inside: false,
            seen: Seen::default(),
        };
        let fake = Fake { world: Arc::new(Mutex::new(world)), desk: Arc::default() };
        let address = Address::unix("/app");
        let desk = Arc::new(Desk::new(address, fake.clone(), settings));
        let _ = fake.desk.set(Arc::downgrade(&desk));
        let begin = BeginRequest { role: Role::Responder, keep_conn: true, params: Params::new() };
        let key = ClientConnection::new(ClientConfig::default()).begin(begin).expect("the first");
        let (callers, ids) = (Vec::new(), Vec::new());
        Self { desk, fake, settings, key, callers, ids, reaper: None, closed: false }
    }

    fn seen(&self, count: impl FnOnce(&mut Seen)) {
        count(&mut self.fake.world().seen);
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..=3 => self.arrive(input),
            4 => self.leave(input),
            5 | 6 => self.pass(input),
            7 => self.peer_closes(input),
            8 if input.below(64) == 0 => {
                self.closed = true;
                self.desk.close();
            }
            _ => self.go_on(input),
        }
        // Sometimes several things happen before anybody looks.
        if input.below(4) > 0 {
            self.settle();
        }
    }
}
