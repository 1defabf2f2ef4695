//! The pool's policy against a plain model: any order of calls, at any times, with callers that
//! leave, connections that fail, and misuse.
#![allow(missing_docs)]

mod model;

use std::time::Duration;

use fcgi_proto::pool::{Action, ConnectionId, PoolLimits, PoolPolicy, PoolStats, Release, Ticket};
use model::{Conn, Model, Need, Waiter};
use proptest::{collection::vec, option, prelude::*, sample::select};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

// ---- What is done to the pool ------------------------------------------------------------------

#[derive(Clone, Copy, Debug)]
enum Call {
    Acquire,
    AcquireOpen,
    Connected(Pick),
    Release(Pick, Release),
    ReleaseOpen(Pick),
    Cancel(Pick),
    Retry(Pick),
    RetryShared(Pick),
    HandleClosed(u16),
    Multiplexing(usize),
    MaxConnections(usize),
    Close,
}

/// Which ticket: mostly one that is alive, sometimes any that ever was, or one of another pool.
#[derive(Clone, Copy, Debug)]
enum Pick {
    Alive(u16),
    Any(u16),
    Foreign,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    call: Call,
    /// The time of the call, from the one before; now and then it goes back.
    after: i64,
    /// How many actions are asked for before the next call; `None` is all.
    polls: Option<usize>,
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        20 => any::<u16>().prop_map(Pick::Alive),
        2 => any::<u16>().prop_map(Pick::Any),
        1 => Just(Pick::Foreign),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    let how = || select(vec![Release::Reusable, Release::Closed, Release::Unused]);
    prop_oneof![
        25 => Just(Call::Acquire),
        15 => Just(Call::AcquireOpen),
        25 => pick().prop_map(Call::Connected),
        10 => pick().prop_map(|pick| Call::Release(pick, Release::Reusable)),
        15 => pick().prop_map(Call::ReleaseOpen),
        8 => (pick(), how()).prop_map(|(pick, how)| Call::Release(pick, how)),
        6 => pick().prop_map(Call::Cancel),
        5 => pick().prop_map(Call::Retry),
        4 => pick().prop_map(Call::RetryShared),
        4 => any::<u16>().prop_map(Call::HandleClosed),
        3 => (0usize..4).prop_map(Call::Multiplexing),
        2 => (0usize..6).prop_map(Call::MaxConnections),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let after = prop_oneof![6 => Just(0i64), 4 => 0i64..5, 2 => 0i64..60, 1 => -20i64..0];
    let polls = prop_oneof![6 => Just(None), 1 => (0usize..3).prop_map(Some)];
    (call(), after, polls).prop_map(|(call, after, polls)| Step { call, after, polls })
}

fn limits() -> impl Strategy<Value = PoolLimits> {
    let wait = select(vec![None, Some(ms(0)), Some(ms(10)), Some(ms(40)), Some(Duration::MAX)]);
    let idle_timeout = select(vec![ms(0), ms(5), ms(30), ms(200), Duration::MAX]);
    let age = select(vec![None, None, Some(ms(0)), Some(ms(20)), Some(ms(90))]);
    let waiting = select(vec![0usize, 1, 3, 1000]);
    (0usize..6, 0usize..6, idle_timeout, option::of(0u64..5), age, waiting, wait).prop_map(
        |(connections, idle, idle_timeout, requests, age, waiting, wait)| {
            let mut limits = PoolLimits::default();
            (limits.connections, limits.idle, limits.idle_timeout) =
                (connections, idle, idle_timeout);
            (limits.requests_per_connection, limits.age) = (requests, age);
            (limits.waiting, limits.wait_timeout) = (waiting, wait);
            limits
        },
    )
}

// ---- Both at once ------------------------------------------------------------------------------

struct Both {
    pool: PoolPolicy,
    model: Model,
    /// Of another pool.
    foreign: (Ticket, ConnectionId),
    /// How often each situation occurred, to show that the test tests something.
    seen: Seen,
}

#[derive(Default, Debug)]
struct Seen {
    shared: usize,
    at_once: usize,
    rested: usize,
    reused: usize,
    timed_out: usize,
    closed: usize,
    misused: usize,
    retried: usize,
}

impl Both {
    fn new(limits: PoolLimits) -> Self {
        let mut other = PoolPolicy::new(PoolLimits::default());
        let ticket = (0..1000).map(|_| other.acquire(ms(0)).unwrap()).last().unwrap();
        let connection = std::iter::from_fn(|| other.poll_action(ms(0))).last();
        let Some(Action::Grant { connection, .. }) = connection else { unreachable!() };
        let foreign = (ticket, connection);
        let (pool, model) = (PoolPolicy::new(limits), Model::new(limits));
        Self { pool, model, foreign, seen: Seen::default() }
    }

    fn alive(&self) -> Vec<Ticket> {
        let leased = self.model.conns.iter().flat_map(|conn| conn.callers.iter().copied());
        leased.chain(self.model.queue.iter().map(|waiter| waiter.ticket)).collect()
    }

    fn pick(&self, pick: Pick) -> Ticket {
        let (from, n) = match pick {
            Pick::Alive(n) => (self.alive(), n),
            Pick::Any(n) => (self.model.ever.clone(), n),
            Pick::Foreign => (Vec::new(), 0),
        };
        if from.is_empty() { self.foreign.0 } else { from[usize::from(n) % from.len()] }
    }

    fn call(&mut self, call: Call, at: Duration) {
        if !matches!(call, Call::Multiplexing(_) | Call::MaxConnections(_) | Call::Close) {
            self.model.now = self.model.now.max(at);
        }
        let result = match call {
            Call::Acquire => {
                let expected = self.model.acquire();
                let ticket = self.pool.acquire(at);
                assert_eq!(ticket.map(drop), expected);
                if let Ok(ticket) = ticket {
                    assert!(self.model.ever.last().is_none_or(|last| *last < ticket));
                    self.model.ever.push(ticket);
                    let since = self.model.now;
                    self.model.queue.push(Waiter { ticket, need: Need::Any, since });
                }
                Ok(())
            }
            Call::AcquireOpen => {
                match self.pool.acquire_open(at) {
                    Some((ticket, connection)) => {
                        assert_eq!(self.model.acquire(), Ok(()));
                        self.model.ever.push(ticket);
                        let since = self.model.now;
                        self.model.queue.push(Waiter { ticket, need: Need::Any, since });
                        self.model.action(Action::Grant { ticket, connection, fresh: false });
                        self.seen.at_once += 1;
                    }
                    // The two calls must not come to what was not to be had in one.
                    None => {
                        let alone = self.model.queue.is_empty();
                        self.call(Call::Acquire, at);
                        let action = self.pool.poll_action(at);
                        let missed = matches!(action, Some(Action::Grant { fresh: false, .. }));
                        assert!(!(alone && missed), "{action:?}");
                        action.into_iter().for_each(|action| self.model.action(action));
                    }
                }
                Ok(())
            }
            Call::Connected(pick) => {
                let ticket = self.pick(pick);
                let result = self.pool.connected(ticket, at);
                assert_eq!(result, self.model.connected(ticket));
                result
            }
            Call::Release(pick, how) => {
                let ticket = self.pick(pick);
                let result = self.pool.release(ticket, how, at);
                assert_eq!(result, self.model.release(ticket, how));
                result
            }
            Call::ReleaseOpen(pick) => {
                let ticket = self.pick(pick);
                let held = self.pool.connection(ticket);
                match self.pool.release_open(ticket, at) {
                    Some(connection) => {
                        assert_eq!(held, Some(connection));
                        assert_eq!(self.model.release(ticket, Release::Reusable), Ok(()));
                        assert_eq!(self.pool.poll_action(at), None);
                        self.model.at_rest(&self.pool);
                        self.seen.rested += 1;
                    }
                    None => {
                        self.compare();
                        self.call(Call::Release(pick, Release::Reusable), at);
                    }
                }
                Ok(())
            }
            Call::Cancel(pick) => {
                let ticket = self.pick(pick);
                assert_eq!(self.pool.cancel(ticket, at), self.model.cancel(ticket));
                Ok(())
            }
            Call::Retry(pick) => {
                let ticket = self.pick(pick);
                let result = self.pool.retry(ticket, at);
                assert_eq!(result, self.model.retry(ticket, Need::Fresh));
                self.seen.retried += usize::from(result.is_ok());
                result
            }
            Call::RetryShared(pick) => {
                let ticket = self.pick(pick);
                let result = self.pool.retry_shared(ticket, at);
                assert_eq!(result, self.model.retry(ticket, Need::Alone));
                self.seen.retried += usize::from(result.is_ok());
                result
            }
            Call::HandleClosed(n) => {
                let ids = &self.model.ids;
                let id = ids.get(usize::from(n) % ids.len().max(1)).unwrap_or(&self.foreign.1);
                let id = *id;
                assert_eq!(self.pool.handle_closed(id, at), self.model.handle_closed(id));
                Ok(())
            }
            Call::Multiplexing(requests) => {
                self.pool.set_multiplexing(requests);
                self.model.multiplexing = requests.max(1);
                Ok(())
            }
            Call::MaxConnections(n) => {
                self.pool.set_max_connections(n);
                self.model.max = self.model.limits.connections.min(n).max(1);
                Ok(())
            }
            Call::Close => {
                self.pool.close();
                self.model.closed = true;
                Ok(())
            }
        };
        self.seen.misused += usize::from(result.is_err());
        self.compare();
    }

    fn poll(&mut self, at: Duration, actions: usize) {
        for _ in 0..actions {
            self.model.now = self.model.now.max(at);
            let Some(action) = self.pool.poll_action(at) else {
                self.model.at_rest(&self.pool);
                return;
            };
            match action {
                Action::Grant { connection, fresh: false, .. } => {
                    let in_use = |conn: &&Conn| conn.id == connection && !conn.callers.is_empty();
                    let shared = self.model.conns.iter().find(in_use).is_some();
                    self.seen.shared += usize::from(shared);
                    self.seen.reused += usize::from(!shared);
                }
                Action::TimedOut { .. } => self.seen.timed_out += 1,
                Action::Close { .. } => self.seen.closed += 1,
                _ => {}
            }
            self.model.action(action);
            self.compare();
        }
    }

    fn compare(&self) {
        let PoolStats { connections, active, waiting, .. } = self.pool.stats();
        let leased = || self.model.conns.iter().flat_map(|c| c.callers.iter().map(move |t| (t, c)));
        assert_eq!(connections, self.model.conns.len());
        assert_eq!(active, leased().count());
        assert_eq!(waiting, self.model.queue.len());
        for (ticket, conn) in leased() {
            assert_eq!(self.pool.connection(*ticket), Some(conn.id));
        }
        for waiter in &self.model.queue {
            assert_eq!(self.pool.connection(waiter.ticket), None);
        }
    }

    /// Everybody who has a connection uses it and gives it back, until nobody is left.
    fn drain(&mut self) {
        let mut at = self.model.now;
        self.poll(at, usize::MAX);
        while let Some((ticket, opening)) =
            self.model.conns.iter().find_map(|conn| {
                conn.callers.first().map(|ticket| (*ticket, conn.connected.is_none()))
            })
        {
            at += ms(1);
            if opening {
                assert_eq!(self.pool.connected(ticket, at), {
                    self.model.now = at;
                    self.model.connected(ticket)
                });
            }
            assert_eq!(self.pool.release(ticket, Release::Reusable, at), {
                self.model.now = at;
                self.model.release(ticket, Release::Reusable)
            });
            self.poll(at, usize::MAX);
        }
        assert_eq!(self.pool.stats().waiting, 0, "somebody was forgotten");
        while let Some(at) = self.pool.next_deadline() {
            self.poll(at, usize::MAX);
        }
        if self.model.limits.idle_timeout == Duration::MAX {
            self.call(Call::Close, at);
            self.poll(at, usize::MAX);
        }
        assert_eq!((self.pool.stats(), self.pool.next_deadline()), (PoolStats::default(), None));
    }
}

fn run(limits: PoolLimits, steps: &[Step]) -> Seen {
    let mut both = Both::new(limits);
    let mut at = ms(0);
    for step in steps {
        at = ms((at.as_millis() as i64 + step.after).max(0) as u64);
        both.call(step.call, at);
        both.poll(at, step.polls.unwrap_or(usize::MAX));
    }
    both.drain();
    both.seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// Never too many connections, no lost wake-up, no use of a connection that was given up, the
    /// order of the queue, the counts, and the drain to nothing.
    #[test]
    fn the_policy_does_as_the_model(
        limits in limits(),
        steps in vec(step(), 0..150),
        end in option::of(any::<prop::sample::Index>()),
    ) {
        let mut steps = steps;
        if let Some(end) = end {
            let at = end.index(steps.len() + 1);
            steps.insert(at, Step { call: Call::Close, after: 0, polls: None });
        }
        run(limits, &steps);
    }
}

/// The steps above get to everything that matters.
#[test]
fn the_steps_reach_every_kind_of_action() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let strategy = (limits(), vec(step(), 100..150));
    let mut all = Seen::default();
    for _ in 0..250 {
        let (limits, steps) = strategy.new_tree(&mut runner).unwrap().current();
        let seen = run(limits, &steps);
        all.shared += seen.shared;
        all.reused += seen.reused;
        all.at_once += seen.at_once;
        all.rested += seen.rested;
        all.timed_out += seen.timed_out;
        all.closed += seen.closed;
        all.misused += seen.misused;
        all.retried += seen.retried;
    }
    let Seen { shared, at_once, rested, reused, timed_out, closed, misused, retried } = all;
    let counts = [shared, at_once, rested, reused, timed_out, closed, misused, retried];
    let fewest = counts.into_iter().min();
    assert!(fewest.is_some_and(|fewest| fewest >= 100), "{all:?}");
}
