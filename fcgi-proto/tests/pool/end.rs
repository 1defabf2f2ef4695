//! The end of a pool, and its user's mistakes.

use fcgi_proto::pool::{AcquireError, PolicyMisuse};

use crate::*;

#[test]
fn closing_refuses_who_waits_and_lets_who_works() {
    let mut pool = of(2);
    let [a] = idle(&mut pool, 1, ms(0))[..] else { panic!() };
    let (busy, _) = reused(&mut pool, ms(0));
    let (other, b) = opened(&mut pool, ms(0));
    give_back(&mut pool, other, ms(0));
    let (retrying, _) = reused(&mut pool, ms(0));
    let waiter = pool.acquire(ms(0)).unwrap();
    pool.close();
    assert!(pool.is_closed());
    assert_eq!(pool.acquire(ms(1)), Err(AcquireError::Closed));
    assert_eq!(actions(&mut pool, ms(1)), [Action::Refused { ticket: waiter }]);
    pool.retry(retrying, ms(1)).unwrap();
    assert_eq!(actions(&mut pool, ms(1)), [Action::Refused { ticket: retrying }]);
    assert_eq!(stats(&pool), [1, 0, 1, 0]);
    give_back(&mut pool, busy, ms(2));
    assert_eq!(actions(&mut pool, ms(2)), [close(a)]);
    assert_ne!(a, b);
    assert_eq!((pool.stats(), pool.next_deadline()), (PoolStats::default(), None));
}

#[test]
fn closing_closes_the_idle_ones() {
    let mut pool = of(2);
    let all = idle(&mut pool, 2, ms(0));
    pool.close();
    assert_eq!(actions(&mut pool, ms(0)), [close(all[0]), close(all[1])]);
    pool.close();
    assert_eq!(actions(&mut pool, ms(0)), []);
}

#[test]
fn misuse_is_told_and_changes_nothing() {
    let mut elsewhere = of(100);
    let unknown = (0..100).map(|_| elsewhere.acquire(ms(0)).unwrap()).last().unwrap();
    let mut pool = of(2);
    let (used, _) = opened(&mut pool, ms(0));
    let opening = pool.acquire(ms(0)).unwrap();
    let waiting = pool.acquire(ms(0)).unwrap();
    assert_eq!(actions(&mut pool, ms(0)).len(), 1);
    let before = format!("{pool:?}");
    for (ticket, misuse) in [
        (unknown, PolicyMisuse::UnknownTicket(unknown)),
        (waiting, PolicyMisuse::NotGranted(waiting)),
    ] {
        assert_eq!(pool.connected(ticket, ms(0)), Err(misuse));
        for how in [Release::Reusable, Release::Closed, Release::Unused] {
            assert_eq!(pool.release(ticket, how, ms(0)), Err(misuse));
        }
        assert_eq!(pool.retry(ticket, ms(0)), Err(misuse));
        assert_eq!(pool.retry_shared(ticket, ms(0)), Err(misuse));
    }
    assert!(!pool.cancel(unknown, ms(0)));
    let never_open = Err(PolicyMisuse::NotConnected(opening));
    assert_eq!(pool.release(opening, Release::Reusable, ms(0)), never_open);
    assert_eq!(pool.retry_shared(opening, ms(0)), never_open);
    assert_eq!(format!("{pool:?}"), before);
    assert_eq!(pool.connected(used, ms(0)), Err(PolicyMisuse::AlreadyConnected(used)));
    give_back(&mut pool, used, ms(0));
    let twice = Err(PolicyMisuse::UnknownTicket(used));
    assert_eq!(pool.release(used, Release::Closed, ms(0)), twice);
    assert_eq!(stats(&pool), [2, 1, 1, 1]);
}
