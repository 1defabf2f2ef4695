//! Callers that leave, and requests that are tried again.

use crate::*;

#[test]
fn a_cancelled_grant_passes_the_connection_on() {
    let mut pool = of(1);
    let [connection] = idle(&mut pool, 1, ms(0))[..] else { panic!() };
    let (gone, _) = reused(&mut pool, ms(1000));
    let waiter = pool.acquire(ms(1000)).unwrap();
    assert!(pool.cancel(gone, ms(1001)));
    assert_eq!(actions(&mut pool, ms(1001)), [grant(waiter, connection, false)]);
    // Nothing was sent on it, so its peer counts from its last request.
    assert!(pool.cancel(waiter, ms(1002)));
    assert_eq!(pool.next_deadline(), Some(ms(1500)));
    assert!(!pool.cancel(waiter, ms(1002)));
}

#[test]
fn a_cancelled_opening_frees_its_slot() {
    let mut pool = of(1);
    let opener = pool.acquire(ms(0)).unwrap();
    let waiter = pool.acquire(ms(0)).unwrap();
    let [Action::Grant { connection: never, .. }] = actions(&mut pool, ms(0))[..] else { panic!() };
    assert!(pool.cancel(opener, ms(1)));
    let [Action::Grant { ticket, connection, fresh: true }] = actions(&mut pool, ms(1))[..] else {
        panic!()
    };
    assert_eq!(ticket, waiter);
    assert_ne!(connection, never);
    // Once it is open it is kept.
    pool.connected(waiter, ms(2)).unwrap();
    assert!(pool.cancel(waiter, ms(3)));
    assert_eq!(reused(&mut pool, ms(4)).1, connection);
}

#[test]
fn q_10_a_retry_is_in_front_and_gets_a_fresh_connection() {
    let mut pool = of(2);
    let dead = idle(&mut pool, 2, ms(0));
    let (a, _) = reused(&mut pool, ms(0));
    let (b, other) = reused(&mut pool, ms(0));
    let waiter = pool.acquire(ms(0)).unwrap();
    pool.retry(a, ms(1)).unwrap();
    assert_eq!(pool.connection(a), None);
    let [Action::Grant { ticket, connection, fresh: true }] = actions(&mut pool, ms(1))[..] else {
        panic!()
    };
    assert_eq!(ticket, a);
    assert!(!dead.contains(&connection));
    // The one that the other gives back is not for a retry, so that it goes to the waiter.
    give_back(&mut pool, b, ms(2));
    assert_eq!(actions(&mut pool, ms(2)), [grant(waiter, other, false)]);
}

#[test]
fn q_10_idle_connections_make_room_for_a_retry() {
    let mut pool = of(3);
    let [a, b, c] = idle(&mut pool, 3, ms(0))[..] else { panic!() };
    let (first, connection) = reused(&mut pool, ms(1));
    assert_eq!(connection, c);
    pool.set_max_connections(2);
    assert_eq!(actions(&mut pool, ms(1)), [close(a)]);
    // Its slot is free, then another takes it.
    pool.retry(first, ms(2)).unwrap();
    let [Action::Grant { fresh: true, .. }] = actions(&mut pool, ms(2))[..] else { panic!() };
    let (second, connection) = reused(&mut pool, ms(2));
    assert_eq!(connection, b);
    give_back(&mut pool, second, ms(2));
    pool.set_multiplexing(2);
    pool.connected(first, ms(3)).unwrap();
    let (sharer, _) = reused(&mut pool, ms(3));
    // The failed connection keeps its slot for its other caller; the idle one has to go.
    pool.retry(first, ms(4)).unwrap();
    let done = actions(&mut pool, ms(4));
    let [closed, Action::Grant { ticket, fresh: true, .. }] = done[..] else { panic!("{done:?}") };
    assert_eq!((closed, ticket), (close(b), first));
    assert_eq!(stats(&pool), [2, 0, 2, 0]);
    pool.release(sharer, Release::Closed, ms(5)).unwrap();
    assert_eq!(stats(&pool), [1, 0, 1, 0]);
}

#[test]
fn retries_keep_the_order_among_themselves_and_wait_anew() {
    let mut pool = pool(|limits| {
        (limits.connections, limits.waiting, limits.wait_timeout) = (1, 1, Some(ms(100)));
    });
    pool.set_multiplexing(3);
    let (a, shared) = opened(&mut pool, ms(0));
    let [b, c] = [0, 0].map(|_| reused(&mut pool, ms(0)).0);
    let waiter = pool.acquire(ms(0)).unwrap();
    // Past the limit on waiting, which is for those who come.
    pool.retry(b, ms(50)).unwrap();
    pool.retry(a, ms(60)).unwrap();
    assert_eq!(actions(&mut pool, ms(60)), [], "the third still has it");
    assert_eq!(stats(&pool), [1, 0, 1, 3]);
    assert_eq!(pool.next_deadline(), Some(ms(100)));
    assert_eq!(actions(&mut pool, ms(100)), [Action::TimedOut { ticket: waiter }]);
    assert_eq!(pool.next_deadline(), Some(ms(150)));
    give_back(&mut pool, c, ms(110));
    let done = actions(&mut pool, ms(110));
    let [closed, Action::Grant { ticket, fresh: true, .. }] = done[..] else { panic!("{done:?}") };
    assert_eq!((closed, ticket), (close(shared), a), "the oldest caller first");
    assert_eq!(actions(&mut pool, ms(150)), [Action::TimedOut { ticket: b }]);
}
