//! Which connections are kept, for how long, and which is used again.

use crate::*;

#[test]
fn q_5_the_last_used_is_used_next_and_the_others_time_out() {
    let mut pool = of(3);
    let [a, b, c] = idle(&mut pool, 3, ms(0))[..] else { panic!() };
    for now in [100, 200, 300] {
        let (ticket, connection) = reused(&mut pool, ms(now));
        assert_eq!(connection, c);
        give_back(&mut pool, ticket, ms(now));
    }
    assert_eq!(pool.next_deadline(), Some(ms(1500)));
    assert_eq!(actions(&mut pool, ms(1499)), []);
    assert_eq!(actions(&mut pool, ms(1500)), [close(a), close(b)]);
    assert_eq!(pool.next_deadline(), Some(ms(1800)));
    assert_eq!(actions(&mut pool, ms(1800)), [close(c)]);
    assert_eq!((pool.stats(), pool.next_deadline()), (PoolStats::default(), None));
}

#[test]
fn q_10_an_idle_connection_past_its_limit_is_never_used() {
    let mut pool = of(1);
    let [old] = idle(&mut pool, 1, ms(0))[..] else { panic!() };
    // The timer was late; the caller comes first.
    let ticket = pool.acquire(ms(1500)).unwrap();
    let done = actions(&mut pool, ms(1500));
    let [Action::Close { connection }, Action::Grant { ticket: t, connection: new, fresh: true }] =
        done[..]
    else {
        panic!("{done:?}")
    };
    assert_eq!((connection, t), (old, ticket));
    assert_ne!(new, old, "ids are not used again");
}

#[test]
fn no_more_than_so_many_are_kept_idle() {
    let mut pool = pool(|limits| limits.idle = 2);
    let all: Vec<_> = (0..4).map(|_| opened(&mut pool, ms(0))).collect();
    for (n, (ticket, _)) in all.iter().enumerate() {
        give_back(&mut pool, *ticket, ms(n as u64));
    }
    assert_eq!(actions(&mut pool, ms(4)), [close(all[0].1), close(all[1].1)]);
    assert_eq!(stats(&pool), [2, 2, 0, 0]);
}

#[test]
fn none_kept_idle_still_go_to_those_who_wait() {
    let mut pool = pool(|limits| (limits.connections, limits.idle) = (1, 0));
    let (holder, connection) = opened(&mut pool, ms(0));
    let waiter = pool.acquire(ms(0)).unwrap();
    give_back(&mut pool, holder, ms(1));
    assert_eq!(actions(&mut pool, ms(1)), [grant(waiter, connection, false)]);
    give_back(&mut pool, waiter, ms(2));
    assert_eq!(actions(&mut pool, ms(2)), [close(connection)]);
}

#[test]
fn a_connection_carries_so_many_requests() {
    for (limit, requests) in [(0, 1), (1, 1), (3, 3)] {
        let mut pool = pool(|limits| limits.requests_per_connection = Some(limit));
        let (mut ticket, connection) = opened(&mut pool, ms(0));
        for _ in 1..requests {
            give_back(&mut pool, ticket, ms(0));
            // One that was not used is not counted.
            let (unused, _) = reused(&mut pool, ms(0));
            pool.release(unused, Release::Unused, ms(0)).unwrap();
            let (next, same) = reused(&mut pool, ms(0));
            assert_eq!(same, connection);
            ticket = next;
        }
        give_back(&mut pool, ticket, ms(0));
        assert_eq!(stats(&pool), [1, 0, 0, 0], "yet to be closed");
        assert_eq!(actions(&mut pool, ms(0)), [close(connection)]);
        assert_eq!(pool.stats(), PoolStats::default());
    }
}

#[test]
fn an_aged_connection_is_closed_idle_or_when_given_back() {
    let mut pool = pool(|limits| {
        (limits.connections, limits.age, limits.idle_timeout) = (2, Some(ms(100)), ms(1000));
    });
    // Age counts from when it was connected, not from when it was granted.
    let ticket = pool.acquire(ms(0)).unwrap();
    let [Action::Grant { connection, .. }] = actions(&mut pool, ms(0))[..] else { panic!() };
    pool.connected(ticket, ms(50)).unwrap();
    let (busy, second) = opened(&mut pool, ms(60));
    give_back(&mut pool, ticket, ms(70));
    assert_eq!(actions(&mut pool, ms(70)), []);
    assert_eq!(pool.next_deadline(), Some(ms(150)));
    assert_eq!(actions(&mut pool, ms(150)), [close(connection)]);
    assert_eq!(pool.next_deadline(), None, "one in use ends in peace");
    give_back(&mut pool, busy, ms(160));
    assert_eq!(actions(&mut pool, ms(160)), [close(second)]);
}

#[test]
fn an_aged_connection_in_use_is_not_shared() {
    let mut pool = pool(|limits| limits.age = Some(ms(100)));
    pool.set_multiplexing(10);
    let (a, old) = opened(&mut pool, ms(0));
    let (b, same) = reused(&mut pool, ms(99));
    assert_eq!(same, old);
    opened(&mut pool, ms(100));
    give_back(&mut pool, a, ms(101));
    assert_eq!(actions(&mut pool, ms(101)), []);
    give_back(&mut pool, b, ms(102));
    assert_eq!(actions(&mut pool, ms(102)), [close(old)]);
}

#[test]
fn a_closed_idle_connection_is_forgotten() {
    let mut pool = of(2);
    let [a, b] = idle(&mut pool, 2, ms(0))[..] else { panic!() };
    assert!(pool.handle_closed(b, ms(1)));
    assert!(!pool.handle_closed(b, ms(1)), "it has ended");
    assert_eq!(stats(&pool), [1, 1, 0, 0]);
    assert_eq!(reused(&mut pool, ms(1)).1, a);
    // One that was about to be closed needs no closing.
    let mut pool = pool_of_one_request();
    let (ticket, connection) = opened(&mut pool, ms(0));
    give_back(&mut pool, ticket, ms(0));
    assert!(pool.handle_closed(connection, ms(0)));
    assert_eq!((actions(&mut pool, ms(0)), stats(&pool)), (vec![], [0; 4]));
}

fn pool_of_one_request() -> PoolPolicy {
    pool(|limits| limits.requests_per_connection = Some(1))
}

#[test]
fn a_connection_that_is_being_opened_fails_by_its_callers_word() {
    let mut pool = of(1);
    let ticket = pool.acquire(ms(0)).unwrap();
    let [Action::Grant { connection, .. }] = actions(&mut pool, ms(0))[..] else { panic!() };
    assert!(!pool.handle_closed(connection, ms(0)));
    pool.release(ticket, Release::Closed, ms(1)).unwrap();
    assert_eq!(pool.stats(), PoolStats::default());
    assert_eq!(actions(&mut pool, ms(1)), [], "there is nothing to close");
}

#[test]
fn fewer_connections_than_before() {
    let mut pool = of(4);
    let (busy, busy_connection) = opened(&mut pool, ms(0));
    let [a, b, c] = idle(&mut pool, 3, ms(1))[..] else { panic!() };
    pool.set_max_connections(2);
    assert_eq!(actions(&mut pool, ms(2)), [close(a), close(b)]);
    pool.set_max_connections(0);
    assert_eq!(actions(&mut pool, ms(2)), [close(c)]);
    let waiter = pool.acquire(ms(2)).unwrap();
    assert_eq!(actions(&mut pool, ms(2)), []);
    give_back(&mut pool, busy, ms(3));
    assert_eq!(actions(&mut pool, ms(3)), [grant(waiter, busy_connection, false)]);
    // No more than its own limit, whatever the peer says.
    pool.set_max_connections(usize::MAX);
    let callers = (0..9).filter(|_| pool.acquire(ms(3)).is_ok()).count();
    assert_eq!((callers, actions(&mut pool, ms(3)).len()), (9, 3));
}

#[test]
fn connections_beyond_a_new_maximum_are_closed_when_given_back() {
    let mut pool = of(2);
    let (a, first) = opened(&mut pool, ms(0));
    let (b, second) = opened(&mut pool, ms(0));
    let waiter = pool.acquire(ms(0)).unwrap();
    pool.set_max_connections(1);
    give_back(&mut pool, a, ms(1));
    assert_eq!(actions(&mut pool, ms(1)), [close(first)]);
    give_back(&mut pool, b, ms(2));
    assert_eq!(actions(&mut pool, ms(2)), [grant(waiter, second, false)]);
}
