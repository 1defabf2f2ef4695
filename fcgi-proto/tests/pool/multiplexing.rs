//! Requests that share a connection.

use crate::*;

#[test]
fn q_10_one_request_a_connection_unless_told() {
    let mut pool = of(2);
    opened(&mut pool, ms(0));
    pool.set_multiplexing(0);
    opened(&mut pool, ms(0));
    pool.acquire(ms(0)).unwrap();
    assert_eq!(actions(&mut pool, ms(0)), []);
    pool.set_multiplexing(2);
    assert_eq!(actions(&mut pool, ms(0)).len(), 1, "no lost wake-up");
}

#[test]
fn an_open_connection_is_filled_before_another_is_used() {
    let mut pool = of(3);
    pool.set_multiplexing(3);
    let (a, first) = opened(&mut pool, ms(0));
    let [b, c] = [0, 0].map(|_| reused(&mut pool, ms(0)));
    assert_eq!((b.1, c.1), (first, first));
    let (d, second) = opened(&mut pool, ms(0));
    let (e, _) = reused(&mut pool, ms(0));
    // The first has 1 and the second 2: the second is filled.
    give_back(&mut pool, a, ms(1));
    give_back(&mut pool, b.0, ms(1));
    let (f, connection) = reused(&mut pool, ms(1));
    assert_eq!(connection, second);
    // An idle one is used after those in use.
    for ticket in [d, e, f] {
        give_back(&mut pool, ticket, ms(2));
    }
    assert_eq!(stats(&pool), [2, 1, 1, 0]);
    assert_eq!([0, 0].map(|_| reused(&mut pool, ms(3)).1), [first; 2]);
    assert_eq!(reused(&mut pool, ms(3)).1, second);
}

#[test]
fn a_connection_that_is_being_opened_is_not_shared() {
    let mut pool = of(1);
    pool.set_multiplexing(3);
    let opener = pool.acquire(ms(0)).unwrap();
    let waiter = pool.acquire(ms(0)).unwrap();
    let [Action::Grant { connection, .. }] = actions(&mut pool, ms(0))[..] else { panic!() };
    assert!(!pool.handle_closed(connection, ms(0)));
    assert_eq!(actions(&mut pool, ms(0)), []);
    pool.connected(opener, ms(1)).unwrap();
    assert_eq!(actions(&mut pool, ms(1)), [grant(waiter, connection, false)]);
}

#[test]
fn requests_count_on_a_shared_connection() {
    let mut pool = pool(|limits| limits.requests_per_connection = Some(3));
    pool.set_multiplexing(10);
    let (a, first) = opened(&mut pool, ms(0));
    let [b, c] = [0, 0].map(|_| reused(&mut pool, ms(0)).0);
    let (d, _) = opened(&mut pool, ms(0));
    // One that was not used makes room again.
    assert!(pool.cancel(c, ms(1)));
    let (e, connection) = reused(&mut pool, ms(1));
    assert_eq!(connection, first);
    for ticket in [a, b, e] {
        give_back(&mut pool, ticket, ms(1));
    }
    assert_eq!(actions(&mut pool, ms(1)), [close(first)]);
    give_back(&mut pool, d, ms(1));
    assert_eq!(actions(&mut pool, ms(1)), []);
}

#[test]
fn q_11_back_to_one_request_while_three_share() {
    let mut pool = of(1);
    pool.set_multiplexing(3);
    let (a, connection) = opened(&mut pool, ms(0));
    let [b, c] = [0, 0].map(|_| reused(&mut pool, ms(0)).0);
    let waiter = pool.acquire(ms(0)).unwrap();
    pool.set_multiplexing(1);
    pool.retry_shared(c, ms(1)).unwrap();
    for ticket in [a, b] {
        assert_eq!(actions(&mut pool, ms(1)), [], "it only drains");
        give_back(&mut pool, ticket, ms(1));
    }
    assert_eq!(actions(&mut pool, ms(1)), [grant(c, connection, false)], "in front, and alone");
    give_back(&mut pool, c, ms(2));
    assert_eq!(actions(&mut pool, ms(2)), [grant(waiter, connection, false)]);
}

#[test]
fn q_11_a_refused_request_gets_a_connection_alone_whatever_the_others_do() {
    let mut pool = of(2);
    pool.set_multiplexing(3);
    let (a, first) = opened(&mut pool, ms(0));
    let (b, _) = reused(&mut pool, ms(0));
    pool.retry_shared(b, ms(1)).unwrap();
    let [Action::Grant { ticket, connection: second, fresh: true }] = actions(&mut pool, ms(1))[..]
    else {
        panic!()
    };
    assert_eq!(ticket, b);
    pool.connected(b, ms(1)).unwrap();
    // Neither the one that refused nor the one that it has alone is shared now.
    let waiter = pool.acquire(ms(1)).unwrap();
    assert_eq!(actions(&mut pool, ms(1)), []);
    give_back(&mut pool, b, ms(2));
    assert_eq!(actions(&mut pool, ms(2)), [grant(waiter, second, false)]);
    assert_eq!(reused(&mut pool, ms(2)).1, second, "shared again");
    give_back(&mut pool, a, ms(3));
    assert_eq!(stats(&pool), [2, 1, 2, 0]);
    assert_ne!(first, second);
}

#[test]
fn a_given_up_connection_gets_nobody_and_its_others_end_in_peace() {
    let mut pool = of(1);
    pool.set_multiplexing(4);
    let (a, connection) = opened(&mut pool, ms(0));
    let [b, c] = [0, 0].map(|_| reused(&mut pool, ms(0)).0);
    pool.release(b, Release::Closed, ms(1)).unwrap();
    let waiter = pool.acquire(ms(1)).unwrap();
    assert_eq!(actions(&mut pool, ms(1)), []);
    assert!(pool.cancel(a, ms(1)));
    assert_eq!(actions(&mut pool, ms(1)), []);
    give_back(&mut pool, c, ms(2));
    let done = actions(&mut pool, ms(2));
    let [closed, Action::Grant { ticket, connection: new, fresh: true }] = done[..] else {
        panic!("{done:?}")
    };
    assert_eq!((closed, ticket), (close(connection), waiter));
    assert_ne!(new, connection);
}

#[test]
fn a_shared_connection_that_the_peer_closed_is_gone_after_its_last_caller() {
    let mut pool = of(1);
    pool.set_multiplexing(4);
    let (a, connection) = opened(&mut pool, ms(0));
    let (b, _) = reused(&mut pool, ms(0));
    assert!(pool.handle_closed(connection, ms(1)));
    pool.acquire(ms(1)).unwrap();
    give_back(&mut pool, a, ms(1));
    assert_eq!(actions(&mut pool, ms(1)), []);
    give_back(&mut pool, b, ms(1));
    assert!(matches!(actions(&mut pool, ms(1))[..], [Action::Grant { fresh: true, .. }]));
}
