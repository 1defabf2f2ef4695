//! The pool's policy, rule by rule. Each test that answers a peer's quirk names it.
#![allow(missing_docs)]

mod end;
mod keeping;
mod multiplexing;
mod queue;
mod retry;

use std::time::Duration;

use fcgi_proto::pool::{Action, ConnectionId, PoolLimits, PoolPolicy, PoolStats, Release, Ticket};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn pool(set: impl FnOnce(&mut PoolLimits)) -> PoolPolicy {
    let mut limits = PoolLimits::default();
    limits.age = None;
    set(&mut limits);
    PoolPolicy::new(limits)
}

fn of(connections: usize) -> PoolPolicy {
    pool(|limits| limits.connections = connections)
}

/// Everything to be done now.
fn actions(pool: &mut PoolPolicy, now: Duration) -> Vec<Action> {
    // More than any test has callers: a policy that never rests fails here.
    let all: Vec<_> = std::iter::from_fn(|| pool.poll_action(now)).take(1_000_000).collect();
    assert!(all.len() < 1_000_000, "there is always something to do");
    all
}

fn grant(ticket: Ticket, connection: ConnectionId, fresh: bool) -> Action {
    Action::Grant { ticket, connection, fresh }
}

fn close(connection: ConnectionId) -> Action {
    Action::Close { connection }
}

/// A caller that opens a connection of its own.
fn opened(pool: &mut PoolPolicy, now: Duration) -> (Ticket, ConnectionId) {
    let ticket = pool.acquire(now).unwrap();
    let connection = match actions(pool, now)[..] {
        [Action::Grant { ticket: t, connection, fresh: true }] if t == ticket => connection,
        ref other => panic!("{other:?}"),
    };
    pool.connected(ticket, now).unwrap();
    (ticket, connection)
}

/// A caller that is given an open connection.
fn reused(pool: &mut PoolPolicy, now: Duration) -> (Ticket, ConnectionId) {
    let ticket = pool.acquire(now).unwrap();
    match actions(pool, now)[..] {
        [Action::Grant { ticket: t, connection, fresh: false }] if t == ticket => (t, connection),
        ref other => panic!("{other:?}"),
    }
}

fn give_back(pool: &mut PoolPolicy, ticket: Ticket, now: Duration) {
    pool.release(ticket, Release::Reusable, now).unwrap();
}

/// `n` connections, idle since `now`, the first for longest.
fn idle(pool: &mut PoolPolicy, n: usize, now: Duration) -> Vec<ConnectionId> {
    let all: Vec<_> = (0..n).map(|_| opened(pool, now)).collect();
    for (ticket, _) in &all {
        give_back(pool, *ticket, now);
    }
    assert_eq!(actions(pool, now), []);
    all.iter().map(|(_, connection)| *connection).collect()
}

fn stats(pool: &PoolPolicy) -> [usize; 4] {
    let PoolStats { connections, idle, active, waiting, .. } = pool.stats();
    [connections, idle, active, waiting]
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let limits = PoolLimits::default();
    assert_eq!((limits.connections, limits.idle, limits.waiting), (8, 8, 1024));
    assert_eq!((limits.requests_per_connection, limits.age), (None, Some(ms(1000))));
    assert_eq!((limits.idle_timeout, limits.wait_timeout), (ms(1500), Some(ms(10_000))));
    let pool = PoolPolicy::new(limits);
    assert_eq!((pool.stats(), pool.next_deadline()), (PoolStats::default(), None));
}

#[test]
fn a_hundred_thousand_callers_take_no_longer_each() {
    const N: usize = 100_000;
    let mut pool = pool(|limits| {
        (limits.connections, limits.idle, limits.waiting) = (N, N, N);
        limits.age = Some(ms(1_000_000));
    });
    pool.set_multiplexing(2);
    let tickets: Vec<_> = (0..2 * N)
        .map(|_| {
            let ticket = pool.acquire(ms(0)).unwrap();
            for action in actions(&mut pool, ms(0)) {
                if let Action::Grant { fresh: true, ticket, .. } = action {
                    pool.connected(ticket, ms(0)).unwrap();
                }
            }
            ticket
        })
        .collect();
    assert_eq!(stats(&pool), [N, 0, 2 * N, 0]);
    let waiting: Vec<_> = (0..N).map(|_| pool.acquire(ms(1)).unwrap()).collect();
    assert_eq!(actions(&mut pool, ms(1)), []);
    // From the middle, and every second one.
    for ticket in waiting.iter().skip(N / 2).chain(waiting.iter().take(N / 2).step_by(2)) {
        assert!(pool.cancel(*ticket, ms(2)));
    }
    let left: Vec<_> = waiting.into_iter().take(N / 2).skip(1).step_by(2).collect();
    let mut granted = Vec::new();
    for (n, ticket) in tickets.into_iter().enumerate() {
        let how = if n % 3 == 0 { Release::Closed } else { Release::Reusable };
        pool.release(ticket, how, ms(3)).unwrap();
        for action in actions(&mut pool, ms(3)) {
            if let Action::Grant { ticket, .. } = action {
                granted.push(ticket);
            }
        }
    }
    assert_eq!(granted, left);
    for ticket in granted {
        pool.release(ticket, Release::Closed, ms(4)).unwrap();
    }
    let closed = actions(&mut pool, ms(5000));
    assert!(!closed.is_empty());
    assert!(closed.iter().all(|action| matches!(action, Action::Close { .. })));
    assert_eq!((pool.stats(), pool.next_deadline()), (PoolStats::default(), None));
}
