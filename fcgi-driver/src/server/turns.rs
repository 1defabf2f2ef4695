//! Whose turn it is to write, where one thread has all connections.
//!
//! A write wakes the web server. If that sleeps on another processor, the kernel has to call that
//! processor, which can take longer than all else that a few small requests need. So the tasks that
//! have several answers to write first let the others read what has come. Then they write one after
//! the other, and one call serves several writes.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// A round of fewer tasks saves less than the wait for it costs.
const FEW: u32 = 4;
/// How many tasks write at once after such a round.
const AT_ONCE: u32 = 16;
/// If a round takes longer than this for each of its tasks, handlers are slow: then answers that wait
/// for them come late, and calls of a processor do not matter.
const QUICK: Duration = Duration::from_micros(100);
/// How many tasks write at once after such a round.
const AFTER_SLOW: u32 = 1024;

thread_local! {
    static ROUND: Cell<Round> =
        const { Cell::new(Round { number: 0, waiting: 0, began: None, at_once: 0 }) };
}

#[derive(Clone, Copy)]
struct Round {
    number: u32,
    waiting: u32,
    /// When its first task came.
    began: Option<Instant>,
    /// How many of the next tasks do not wait.
    at_once: u32,
}

/// Whether a task that has come to a write waits: for the end of which round.
pub(super) fn wait(now: impl FnOnce() -> Instant) -> Option<u32> {
    let mut round = ROUND.get();
    let waits = round.at_once == 0;
    if waits {
        if round.waiting == 0 {
            round.began = Some(now());
        }
        round.waiting += 1;
    } else {
        round.at_once -= 1;
    }
    ROUND.set(round);
    waits.then_some(round.number)
}

/// A task that has waited goes on. The first one ends the round.
pub(super) fn go_on(number: u32, now: impl FnOnce() -> Instant) {
    let round = ROUND.get();
    if round.number == number {
        let took = round.began.map(|began| now().saturating_duration_since(began));
        let at_once = match took {
            Some(took) if took > QUICK * round.waiting => AFTER_SLOW,
            _ if round.waiting < FEW => AT_ONCE,
            _ => 0,
        };
        ROUND.set(Round { number: number.wrapping_add(1), waiting: 0, began: None, at_once });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{AFTER_SLOW, AT_ONCE, QUICK, go_on, wait};

    #[test]
    fn many_wait_in_each_round() {
        let now = Instant::now();
        let (wait, go_on) = (|| wait(|| now), |round| go_on(round, || now));
        for _ in 0..3 {
            let rounds: Vec<_> = (0..16).map(|_| wait().unwrap()).collect();
            let next = rounds[0].wrapping_add(1);
            go_on(rounds[0]);
            // One that comes before the others of its round have gone on waits for the next.
            assert_eq!(wait(), Some(next));
            rounds[1..].iter().copied().for_each(go_on);
            (0..3).for_each(|_| assert_eq!(wait(), Some(next)));
            go_on(next);
        }
    }

    #[test]
    fn few_rarely_wait() {
        let now = Instant::now();
        go_on(wait(|| now).unwrap(), || now);
        (0..AT_ONCE).for_each(|_| assert_eq!(wait(|| now), None));
        assert!(wait(|| now).is_some());
    }

    #[test]
    fn hardly_any_wait_for_slow_handlers() {
        let now = Instant::now();
        let rounds: Vec<_> = (0..16).map(|_| wait(|| now).unwrap()).collect();
        // Just quick enough.
        go_on(rounds[0], || now + QUICK * 16);
        let rounds: Vec<_> = (0..16).map(|_| wait(|| now).unwrap()).collect();
        go_on(rounds[0], || now + QUICK * 17);
        (0..AFTER_SLOW).for_each(|_| assert_eq!(wait(|| now), None));
        assert!(wait(|| now).is_some());
    }
}
