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
//! - Closing a connection or waking a caller may call into the same pool: no lock is held.
//! - What closes a connection or wakes a caller may call into the same pool: no lock is held.

use std::{
    collections::BTreeSet,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    task::Poll,
    time::{Duration, Instant},
};

use fcgi_engine::{
    Address, Error,
    client::Request,
    pool::{Asking, Desk, Lease, Open, Place, Pooled, Reached, Replay, Sending, Settings},
};
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Params, Rejection, RequestKey, Role, Values,
    pool::ConnectionId,
};

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
    let mut input = Input(bytes);
    // An async adapter's reaper also ends waits; a blocking one's callers do so themselves.
    if input.below(2) == 0 { Model::<true>::run(input) } else { Model::<false>::run(input) }
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

// ---- The adapter ------------------------------------------------------------------------------

/// A waiter: a caller by its number, the reaper, or nobody who looks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Who {
    Caller(usize),
    Reaper,
    Reentered,
}

#[derive(Debug)]
struct World {
    start: Instant,
    now: Duration,
    woken: BTreeSet<Who>,
    connections: Vec<Connection>,
    /// Callers that may have a connection that the pool does not know yet.
    opening: usize,
    most: usize,
    spawned: bool,
    /// Inside a call from the closing of a connection.
    inside: bool,
    seen: Seen,
}

/// A connection, as the application sees it.
#[derive(Debug)]
struct Connection {
    shared: bool,
    open: bool,
    /// The application has closed it.
    dead: bool,
    /// It takes no more requests, and closes after the last one.
    closing: bool,
    leases: usize,
    requests: usize,
    carried: u64,
    opened: Duration,
    used: Duration,
    handles: Weak<()>,
}

/// The adapter. `ENDS` is whether its reaper ends waits.
struct Fake<const ENDS: bool> {
    world: Arc<Mutex<World>>,
    desk: Arc<OnceLock<Weak<Desk<Self>>>>,
}

impl<const ENDS: bool> Clone for Fake<ENDS> {
    fn clone(&self) -> Self {
        Self { world: Arc::clone(&self.world), desk: Arc::clone(&self.desk) }
    }
}

/// A connection for one request at a time.
struct Own<const ENDS: bool>(usize, Fake<ENDS>);

/// A handle of a shared connection.
#[derive(Clone)]
struct Shared {
    number: usize,
    _handle: Arc<()>,
}

impl<const ENDS: bool> Drop for Own<ENDS> {
    fn drop(&mut self) {
        self.1.reenter();
        self.1.world().connections[self.0].open = false;
    }
}

impl<const ENDS: bool> Fake<ENDS> {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls into the pool, as a log subscriber with its own requests might.
    fn reenter(&self) {
        let Some(desk) = self.desk.get().and_then(Weak::upgrade) else { return };
        if std::mem::replace(&mut self.world().inside, true) {
            return;
        }
        let mut lease = Lease::acquire(&desk);
        if let Ok(lease) = &mut lease {
            if let Poll::Ready(Ok(true)) =
                lease.poll_ready(false, |who| *who = Some(Who::Reentered))
            {
                self.world().check_room();
            }
        }
        drop(lease);
        assert!(desk.stats().connections < 1000);
        let mut world = self.world();
        world.inside = false;
        world.seen.reentered += 1;
    }
}

impl World {
    /// One more connection is about to be opened.
    fn check_room(&self) {
        let open = self.connections.iter().filter(|connection| connection.open).count();
        assert!(open + self.opening < self.most, "more connections than there may be");
    }
}

impl<const ENDS: bool> Pooled for Fake<ENDS> {
    type Own = Own<ENDS>;
    type Shared = Shared;
    type Who = Who;
    const ENDS_WAITS: bool = ENDS;

    fn now(&self) -> Instant {
        let world = self.world();
        world.start + world.now
    }

    fn wake(&self, who: Who) {
        self.world().woken.insert(who);
        self.reenter();
    }

    fn is_quiet(&self, place: &mut Place<Self>) -> bool {
        let (Place::Own(Own(number, _)) | Place::Shared(Shared { number, .. })) = place;
        let connection = &self.world().connections[*number];
        connection.open && !connection.dead && !connection.closing
    }

    fn forget(&self, shared: &Shared, _: RequestKey) {
        let connection = &mut self.world().connections[shared.number];
        connection.requests -= 1;
        connection.open &= !(connection.closing && connection.requests == 0);
    }

    fn close(&self, shared: Shared) {
        self.reenter();
        let connection = &mut self.world().connections[shared.number];
        connection.closing = true;
        connection.open &= connection.requests > 0;
    }

    fn spawn_reaper(desk: &Arc<Desk<Self>>) {
        let mut world = desk.adapter().world();
        assert!(!world.spawned, "two reapers");
        world.spawned = true;
        world.woken.insert(Who::Reaper);
    }
}

// ---- The callers ------------------------------------------------------------------------------

/// A body that may be read only once.
#[derive(Default, Debug)]
struct FakeBody {
    once: bool,
}

impl Replay for FakeBody {
    fn replay(&self) -> Option<Self> {
        (!self.once).then(Self::default)
    }
}

struct Caller<const ENDS: bool> {
    lease: Lease<Fake<ENDS>>,
    sending: Sending<FakeBody>,
    stage: Stage<ENDS>,
    once: bool,
    keep: bool,
    tries: usize,
    fresh: bool,
}

enum Stage<const ENDS: bool> {
    Queued,
    /// Another caller asks.
    Waits,
    Asks(Asking<Fake<ENDS>>),
    /// It opens a connection, which others may share.
    Opens(bool),
    /// It has a connection, by its number.
    Has(usize),
    /// Its request was begun on it.
    Sent(usize),
}

struct Model<const ENDS: bool> {
    desk: Arc<Desk<Fake<ENDS>>>,
    fake: Fake<ENDS>,
    settings: Settings,
    key: RequestKey,
    /// By number; those that have gone are `None`.
    callers: Vec<Option<Caller<ENDS>>>,
    ids: Vec<Option<ConnectionId>>,
    reaper: Option<Duration>,
    closed: bool,
}

impl<const ENDS: bool> Model<ENDS> {
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

    fn arrive(&mut self, input: &mut Input<'_>) {
        let lease = match Lease::acquire(&self.desk) {
            Ok(lease) => lease,
            Err(Error::PoolFull { waiting, .. }) => {
                assert!(waiting >= self.settings.limits.waiting, "there was room");
                return self.seen(|seen| seen.full += 1);
            }
            Err(Error::PoolClosed { .. }) => {
                assert!(self.closed);
                return self.seen(|seen| seen.refused += 1);
            }
            Err(error) => panic!("{error}"),
        };
        let (once, keep) = (input.below(3) == 0, input.below(4) > 0);
        let request = Request::responder().keep_conn(keep).stdin(FakeBody { once });
        let keep = keep && self.settings.keep_conn;
        let sending = Sending::new(request, &self.settings);
        let (stage, tries) = (Stage::Queued, 0);
        let caller = Caller { lease, sending, stage, once, keep, tries, fresh: false };
        self.callers.push(Some(caller));
        // It looks at once.
        self.fake.world().woken.insert(Who::Caller(self.callers.len() - 1));
    }

    /// One of the existing callers, if there are any.
    fn any(&self, input: &mut Input<'_>) -> Option<usize> {
        let there = |(at, caller): (usize, &Option<_>)| caller.is_some().then_some(at);
        let all: Vec<_> = self.callers.iter().enumerate().filter_map(there).collect();
        (!all.is_empty()).then(|| input.pick(&all))
    }

    fn leave(&mut self, input: &mut Input<'_>) {
        let Some(at) = self.any(input) else { return };
        self.gone(at, false);
    }

    /// A caller drops what it has, in any state.
    fn gone(&mut self, at: usize, reusable: bool) {
        let Some(Caller { lease, stage, .. }) = self.callers[at].take() else { return };
        self.unopened(&stage);
        if let Stage::Has(number) | Stage::Sent(number) = stage {
            let mut world = self.fake.world();
            let now = world.now;
            let connection = &mut world.connections[number];
            connection.leases -= 1;
            if reusable {
                connection.used = now;
            }
            if matches!(stage, Stage::Has(_)) {
                connection.carried -= 1;
            }
        }
        match stage {
            Stage::Sent(_) => lease.finish(reusable),
            _ => drop(lease),
        }
    }

    /// A connection that was not opened no longer counts.
    fn unopened(&self, stage: &Stage<ENDS>) {
        if matches!(stage, Stage::Waits | Stage::Asks(_) | Stage::Opens(_)) {
            self.fake.world().opening -= 1;
        }
    }

    fn pass(&mut self, input: &mut Input<'_>) {
        let by = input.pick(&[0, 1, 1, 3, 7, 20, 60]);
        self.fake.world().now += ms(by);
    }

    fn peer_closes(&mut self, input: &mut Input<'_>) {
        let connections = self.fake.world().connections.len();
        if connections == 0 {
            return;
        }
        let number = connections - 1 - input.below(connections.min(8));
        let shared = {
            let connection = &mut self.fake.world().connections[number];
            connection.dead = true;
            connection.shared
        };
        if let (true, Some(id)) = (shared, self.ids[number]) {
            self.desk.handle_closed(id);
        }
    }

    /// An event that a caller waits for, other than from the pool, happens.
    fn go_on(&mut self, input: &mut Input<'_>) {
        let Some(at) = self.any(input) else { return };
        let Some(caller) = &mut self.callers[at] else { return };
        match &caller.stage {
            Stage::Queued | Stage::Waits => {}
            Stage::Asks(_) => {
                let values = Values {
                    max_conns: input.pick(&[None, None, Some(1), Some(2), Some(100)]),
                    max_reqs: input.pick(&[None, Some(1), Some(2), Some(100)]),
                    mpxs_conns: input.pick(&[None, Some(false), Some(true), Some(true)]),
                };
                let asked = std::mem::replace(&mut caller.stage, Stage::Waits);
                if let (Stage::Asks(asking), true) = (asked, input.below(4) > 0) {
                    asking.answer(Ok(values)).expect("an answer");
                    assert!(self.desk.values().is_some());
                    self.look(at);
                } else {
                    // It failed, and so does the caller; another one asks.
                    self.gone(at, false);
                }
            }
            Stage::Opens(_) if input.below(6) == 0 => self.gone(at, false),
            &Stage::Opens(shared) => self.open(at, shared),
            Stage::Has(_) => self.begin(at, input.below(8) == 0),
            Stage::Sent(_) => match input.below(4) {
                0 => self.fail(at, input),
                1 => self.gone(at, false),
                _ => self.gone(at, self.is_reusable(at)),
            },
        }
    }

    /// Whether the connection can carry another request, which the adapter knows.
    fn is_reusable(&self, at: usize) -> bool {
        let Some(Caller { stage: Stage::Sent(number), keep, .. }) = &self.callers[at] else {
            return false;
        };
        let connection = &self.fake.world().connections[*number];
        !connection.dead && (*keep || connection.shared)
    }

    fn open(&mut self, at: usize, shared: bool) {
        let Some(caller) = &mut self.callers[at] else { return };
        let handle = Arc::new(());
        let number = {
            let mut world = self.fake.world();
            world.opening -= 1;
            let (opened, carried) = (world.now, 1);
            world.check_room();
            world.seen.opened += 1;
            world.connections.push(Connection {
                shared,
                open: true,
                dead: false,
                closing: false,
                leases: 1,
                requests: 0,
                carried,
                opened,
                used: opened,
                handles: Arc::downgrade(&handle),
            });
            world.connections.len() - 1
        };
        let place = if shared {
            Place::Shared(Shared { number, _handle: handle })
        } else {
            Place::Own(Own(number, self.fake.clone()))
        };
        caller.stage = Stage::Has(number);
        self.ids.push(caller.lease.connected(place));
        assert_eq!(self.ids.len() - 1, number);
    }

    fn begin(&mut self, at: usize, in_vain: bool) {
        let Some(caller) = &mut self.callers[at] else { return };
        let Stage::Has(number) = caller.stage else { return };
        let (shared, open) = {
            let connection = &self.fake.world().connections[number];
            (connection.shared, connection.open)
        };
        let (begin, bodies) = caller.lease.start(&mut caller.sending);
        assert_eq!(begin.keep_conn, caller.keep || shared, "FCGI_KEEP_CONN");
        caller.tries += 1;
        if !open || in_vain && shared {
            // It has just ended.
            return self.judge(at, |address| Error::Closed { address }, Reached::Nothing);
        }
        assert_eq!(bodies.take()[0].once, caller.once, "a body that was read before");
        caller.lease.begun(self.key);
        caller.stage = Stage::Sent(number);
        self.fake.world().connections[number].requests += 1;
    }

    fn fail(&mut self, at: usize, input: &mut Input<'_>) {
        let reached = input.pick(&[Reached::Begun, Reached::Begun, Reached::Answered]);
        match input.below(4) {
            0 => self.judge(at, |address| Error::Truncated { address }, reached),
            1 => {
                let source = || io::ErrorKind::ConnectionReset.into();
                let io = |address| Error::Io { address, doing: "read from", source: source() };
                self.judge(at, io, reached);
            }
            2 => {
                let rejection = Rejection::CantMpxConn;
                self.judge(at, |address| Error::Rejected { address, rejection }, reached);
            }
            _ => {
                let rejection = Rejection::Overloaded;
                self.judge(at, |address| Error::Rejected { address, rejection }, reached);
            }
        }
    }

    fn judge(&mut self, at: usize, error: impl FnOnce(Arc<str>) -> Error, reached: Reached) {
        let Some(caller) = &mut self.callers[at] else { return };
        let (Stage::Has(number) | Stage::Sent(number)) = caller.stage else { return };
        let error = error(self.desk.name());
        let shared = self.fake.world().connections[number].shared;
        let again = match (&error, reached) {
            (Error::Closed { .. }, Reached::Nothing) => shared,
            (Error::Truncated { .. } | Error::Io { .. }, Reached::Begun) => !caller.fresh,
            (Error::Rejected { rejection: Rejection::CantMpxConn, .. }, _) => shared,
            _ => false,
        };
        let at_hand = !caller.once || reached == Reached::Nothing;
        let again = again && caller.tries < 3 && at_hand;
        let alone = matches!(error, Error::Rejected { .. });
        if again {
            self.fake.world().connections[number].leases -= 1;
        }
        match caller.lease.judge(&mut caller.sending, error, reached) {
            Ok(()) => {
                assert!(again, "sent again");
                caller.stage = Stage::Queued;
                if alone {
                    let mut world = self.fake.world();
                    let now = world.now;
                    world.connections[number].used = now;
                    drop(world);
                    assert_ne!(self.desk.values().and_then(|values| values.mpxs_conns), Some(true));
                    self.seen(|seen| seen.retried_alone += 1);
                } else {
                    self.seen(|seen| seen.retried += 1);
                }
                self.fake.world().woken.insert(Who::Caller(at));
            }
            Err(_) => {
                assert!(!again, "not sent again");
                self.seen(|seen| seen.failed += 1);
                self.gone(at, false);
            }
        }
    }

    // ---- The looks -----------------------------------------------------------------------------

    /// Everybody who was woken, or whose time has come, looks, until nobody is left.
    fn settle(&mut self) {
        for rounds in 0.. {
            assert!(rounds < 10_000, "somebody looks for ever");
            let now = self.fake.world().now;
            let woken = self.fake.world().woken.pop_first();
            match woken {
                Some(Who::Caller(at)) => self.look(at),
                Some(Who::Reaper) => self.reap(),
                Some(Who::Reentered) => {}
                None if self.reaper.is_some_and(|until| until <= now) => self.reap(),
                None => match (!ENDS).then(|| self.late()).flatten() {
                    Some(at) => self.look(at),
                    None => break,
                },
            }
        }
        self.check();
    }

    fn reap(&mut self) {
        if !self.fake.world().spawned {
            return;
        }
        let start = self.fake.world().start;
        self.fake.world().spawned = false;
        self.reaper = self.desk.reap(Who::Reaper).map(|until| until - start);
        let mut world = self.fake.world();
        let now = world.now;
        world.spawned |= self.reaper.is_some();
        assert!(self.reaper.is_none_or(|until| until > now), "it would look for ever");
    }

    /// A caller whose wait is over.
    fn late(&self) -> Option<usize> {
        let now = self.fake.now();
        self.callers.iter().position(|caller| {
            caller.as_ref().is_some_and(|caller| {
                matches!(caller.stage, Stage::Queued)
                    && caller.lease.deadline().is_some_and(|end| end <= now)
            })
        })
    }

    fn look(&mut self, at: usize) {
        let now = self.fake.now();
        let Some(caller) = &mut self.callers[at] else { return };
        let wait = |who: &mut Option<Who>| *who = Some(Who::Caller(at));
        if matches!(caller.stage, Stage::Queued) {
            if !ENDS && caller.lease.deadline().is_some_and(|end| end <= now) {
                caller.lease.handle_time();
            }
            match caller.lease.poll_ready(false, wait) {
                Poll::Pending => return,
                Poll::Ready(Ok(true)) => {
                    (caller.stage, caller.fresh) = (Stage::Waits, true);
                    let mut world = self.fake.world();
                    world.check_room();
                    world.opening += 1;
                }
                Poll::Ready(Ok(false)) => return self.granted(at),
                Poll::Ready(Err(error)) => return self.turned_away(at, &error),
            }
        }
        let Some(caller) = &mut self.callers[at] else { return };
        if !matches!(caller.stage, Stage::Waits) {
            return;
        }
        match caller.lease.poll_open(wait) {
            Poll::Pending => self.seen(|seen| seen.waited_for_values += 1),
            Poll::Ready(Ok(Open::Ask(asking))) => caller.stage = Stage::Asks(asking),
            Poll::Ready(Ok(Open::Own)) => caller.stage = Stage::Opens(false),
            Poll::Ready(Ok(Open::Shared(requests))) => {
                assert!(requests > 1 && requests <= self.settings.multiplex);
                caller.stage = Stage::Opens(true);
            }
            Poll::Ready(Err(_)) => self.gone(at, false),
        }
    }

    /// A caller has an open connection.
    fn granted(&mut self, at: usize) {
        let Some(caller) = &mut self.callers[at] else { return };
        let Some(Place::Own(Own(number, _)) | Place::Shared(Shared { number, .. })) =
            caller.lease.place()
        else {
            panic!("ready without a connection");
        };
        let number = *number;
        (caller.stage, caller.fresh) = (Stage::Has(number), false);
        let mut world = self.fake.world();
        let connection = &mut world.connections[number];
        assert!(connection.open && !connection.dead, "a dead connection was handed on");
        connection.leases += 1;
        connection.carried += 1;
        let most = if connection.shared { self.settings.multiplex } else { 1 };
        assert!(connection.leases <= most, "more requests at once than there may be");
        let joined = connection.leases > 1;
        world.seen.joined += usize::from(joined);
        world.seen.reused += usize::from(!joined);
    }

    fn turned_away(&mut self, at: usize, error: &Error) {
        match error {
            Error::Timeout { limit, .. } => {
                assert_eq!(Some(*limit), self.settings.limits.wait_timeout);
                self.seen(|seen| seen.timed_out += 1);
            }
            Error::PoolClosed { .. } => {
                assert!(self.closed, "refused by an open pool");
                self.seen(|seen| seen.refused += 1);
            }
            error => panic!("{error}"),
        }
        self.gone(at, false);
    }

    // ---- The invariants ------------------------------------------------------------------------

    /// Nobody is left who was woken: nothing may be overdue.
    fn check(&mut self) {
        let now = self.fake.now();
        let (mut active, mut waiting) = (0, 0);
        for at in 0..self.callers.len() {
            let Some(caller) = &mut self.callers[at] else { continue };
            let wait = |who: &mut Option<Who>| *who = Some(Who::Caller(at));
            match caller.stage {
                Stage::Queued => {
                    assert!(caller.lease.poll_ready(false, wait).is_pending(), "a lost wake-up");
                    assert!(caller.lease.deadline().is_none_or(|end| end > now), "waits too long");
                    assert!(!self.closed, "waits at a closed pool");
                    waiting += 1;
                }
                Stage::Waits => {
                    assert!(caller.lease.poll_open(wait).is_pending(), "a lost wake-up");
                    active += 1;
                }
                _ => active += 1,
            }
        }
        let stats = self.desk.stats();
        assert_eq!((stats.active, stats.waiting), (active, waiting));
        self.check_connections(stats.idle);
    }

    fn check_connections(&self, idle: usize) {
        let world = self.fake.world();
        let limits = &self.settings.limits;
        let at_rest =
            world.connections.iter().filter(|connection| connection.open && connection.leases == 0);
        let at_rest: Vec<_> = at_rest.collect();
        assert_eq!(at_rest.len(), idle, "not all that are idle are open, or the other way round");
        assert!(idle <= limits.idle && (idle == 0 || !self.closed));
        for connection in at_rest {
            assert!(self.settings.keep_conn || connection.shared, "kept unasked");
            assert!(world.now - connection.used < limits.idle_timeout, "idle for too long");
            let age = world.now - connection.opened;
            assert!(limits.age.is_none_or(|most| age < most), "too old");
            let most = limits.requests_per_connection.unwrap_or(u64::MAX);
            assert!(connection.carried < most, "worn out");
        }
    }

    /// Everybody leaves, and time passes.
    fn end(mut self) -> Seen {
        self.settle();
        for at in 0..self.callers.len() {
            self.gone(at, self.is_reusable(at));
        }
        self.settle();
        let idle = self.desk.stats().idle;
        self.fake.world().now += ms(1000);
        if self.settings.limits.idle_timeout == Duration::MAX {
            self.closed = true;
            self.desk.close();
        }
        self.settle();
        self.seen(|seen| seen.expired += idle);
        let stats = self.desk.stats();
        assert_eq!((stats.connections, stats.active, stats.waiting), (0, 0, 0));
        let world = self.fake.world();
        for connection in &world.connections {
            assert!(!connection.open, "left open");
            assert_eq!(connection.handles.strong_count(), 0, "a handle is left");
        }
        world.seen
    }
}

impl<const ENDS: bool> fmt::Debug for Fake<ENDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake").finish_non_exhaustive()
    }
}
