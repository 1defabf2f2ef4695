//! The queue: its order, its length, and how long one waits.

use fcgi_proto::pool::AcquireError;

use crate::*;

#[test]
fn q_5_no_more_connections_than_told_and_none_ahead_of_its_use() {
    for (connections, at_most) in [(0, 1), (1, 1), (3, 3)] {
        let mut pool = of(connections);
        let tickets: Vec<_> = (0..5).map(|_| pool.acquire(ms(0)).unwrap()).collect();
        let granted = actions(&mut pool, ms(0));
        assert_eq!(granted.len(), at_most);
        assert!(granted.iter().all(|action| matches!(action, Action::Grant { fresh: true, .. })));
        assert_eq!(stats(&pool), [at_most, 0, at_most, 5 - at_most]);
        // A slot counts from when it is being opened; a failure frees it.
        pool.release(tickets[0], Release::Closed, ms(1)).unwrap();
        assert_eq!(actions(&mut pool, ms(1)).len(), 1);
    }
}

#[test]
fn callers_are_served_in_their_order() {
    let mut pool = of(1);
    let (mut holder, connection) = opened(&mut pool, ms(0));
    let tickets: Vec<_> = (0..5).map(|n| pool.acquire(ms(n)).unwrap()).collect();
    assert_eq!(actions(&mut pool, ms(9)), []);
    assert!(pool.cancel(tickets[2], ms(9)));
    for ticket in [0, 1, 3, 4].map(|n| tickets[n]) {
        give_back(&mut pool, holder, ms(10));
        // A newcomer does not get past those who wait.
        let late = pool.acquire(ms(10)).unwrap();
        assert_eq!(actions(&mut pool, ms(10)), [grant(ticket, connection, false)]);
        assert!(pool.cancel(late, ms(10)));
        holder = ticket;
    }
}

#[test]
fn so_many_may_wait() {
    let mut pool = pool(|limits| (limits.connections, limits.waiting) = (1, 2));
    let (holder, connection) = opened(&mut pool, ms(0));
    let first = pool.acquire(ms(0)).unwrap();
    pool.acquire(ms(0)).unwrap();
    let full = AcquireError::Full { waiting: 2 };
    assert_eq!(pool.acquire(ms(0)), Err(full));
    assert_eq!(full.to_string(), "no connection is free and 2 callers wait, the most allowed");
    give_back(&mut pool, holder, ms(1));
    assert_eq!(actions(&mut pool, ms(1)), [grant(first, connection, false)]);
    pool.acquire(ms(1)).unwrap();
    assert_eq!(pool.acquire(ms(1)), Err(full));
}

#[test]
fn with_no_queue_only_a_free_connection_will_do() {
    let mut pool = pool(|limits| (limits.connections, limits.waiting) = (1, 0));
    let (holder, connection) = opened(&mut pool, ms(0));
    assert_eq!(pool.acquire(ms(0)), Err(AcquireError::Full { waiting: 0 }));
    pool.set_multiplexing(2);
    let (sharer, shared) = reused(&mut pool, ms(0));
    assert_eq!(shared, connection);
    assert_eq!(pool.acquire(ms(0)), Err(AcquireError::Full { waiting: 0 }));
    give_back(&mut pool, holder, ms(1));
    give_back(&mut pool, sharer, ms(1));
    reused(&mut pool, ms(2));
}

#[test]
fn a_wait_ends_in_time() {
    let mut pool = pool(|limits| {
        (limits.connections, limits.wait_timeout) = (1, Some(ms(100)));
    });
    let (holder, connection) = opened(&mut pool, ms(0));
    let [a, b, c] = [10, 20, 30].map(|t| pool.acquire(ms(t)).unwrap());
    assert_eq!(actions(&mut pool, ms(30)), []);
    assert_eq!(pool.next_deadline(), Some(ms(110)));
    assert_eq!(actions(&mut pool, ms(109)), []);
    assert_eq!(actions(&mut pool, ms(110)), [Action::TimedOut { ticket: a }]);
    assert!(pool.cancel(b, ms(115)));
    assert_eq!(pool.next_deadline(), Some(ms(130)));
    // Late, but there is a connection.
    give_back(&mut pool, holder, ms(140));
    assert_eq!(actions(&mut pool, ms(140)), [grant(c, connection, false)]);
    assert_eq!(pool.next_deadline(), None);
    assert!(!pool.cancel(a, ms(140)), "it has ended");
}

#[test]
fn a_wait_of_no_time_takes_what_is_free() {
    let mut pool = pool(|limits| {
        (limits.connections, limits.wait_timeout) = (1, Some(Duration::ZERO));
    });
    opened(&mut pool, ms(0));
    let ticket = pool.acquire(ms(1)).unwrap();
    assert_eq!(actions(&mut pool, ms(1)), [Action::TimedOut { ticket }]);
}

#[test]
fn limits_without_end_or_too_long_to_add_have_none() {
    for wait_timeout in [None, Some(Duration::MAX)] {
        let mut pool = pool(|limits| {
            (limits.connections, limits.wait_timeout) = (1, wait_timeout);
            (limits.idle_timeout, limits.age) = (Duration::MAX, Some(Duration::MAX));
        });
        let (holder, connection) = opened(&mut pool, ms(1));
        let ticket = pool.acquire(ms(1)).unwrap();
        assert_eq!(actions(&mut pool, ms(1)), []);
        assert_eq!(pool.next_deadline(), None);
        give_back(&mut pool, holder, ms(1));
        assert_eq!(actions(&mut pool, Duration::MAX), [grant(ticket, connection, false)]);
        give_back(&mut pool, ticket, ms(1));
        assert_eq!(pool.next_deadline(), None);
    }
}

#[test]
fn time_does_not_go_back() {
    let mut pool = of(1);
    let (holder, connection) = opened(&mut pool, ms(0));
    // Every call that knows the time counts.
    let waiter = pool.acquire(ms(1)).unwrap();
    assert!(pool.cancel(waiter, ms(1000)));
    give_back(&mut pool, holder, ms(400));
    assert_eq!(pool.next_deadline(), Some(ms(2500)));
    assert_eq!(actions(&mut pool, ms(0)), []);
    assert_eq!(actions(&mut pool, ms(2500)), [close(connection)]);
}
