//! Whose turn it is to write, where one thread has all connections.
//!
//! A write wakes the web server. If that sleeps on another processor, the kernel has to call that
//! processor, which can take longer than all else that a few small requests need. So the tasks that
//! have several answers to write first let the others read what has come. Then they write one after
//! the other, and one call serves several writes.

use std::cell::Cell;

/// A round of fewer tasks saves less than the wait for it costs.
const FEW: u32 = 4;
/// How many tasks write at once after such a round.
const AT_ONCE: u32 = 16;

thread_local! {
    static ROUND: Cell<Round> = const { Cell::new(Round { number: 0, waiting: 0, at_once: 0 }) };
}

#[derive(Clone, Copy)]
struct Round {
    number: u32,
    waiting: u32,
    /// How many of the next tasks do not wait, since few would share a round.
    at_once: u32,
}

/// Whether a task that has come to a write waits: for the end of which round.
pub(super) fn wait() -> Option<u32> {
    let mut round = ROUND.get();
    let waits = round.at_once == 0;
    if waits {
        round.waiting += 1;
    } else {
        round.at_once -= 1;
    }
    ROUND.set(round);
    waits.then_some(round.number)
}

/// A task that has waited goes on. The first one ends the round.
pub(super) fn go_on(number: u32) {
    let round = ROUND.get();
    if round.number == number {
        let at_once = if round.waiting < FEW { AT_ONCE } else { 0 };
        ROUND.set(Round { number: number.wrapping_add(1), waiting: 0, at_once });
    }
}

#[cfg(test)]
mod tests {
    use super::{AT_ONCE, go_on, wait};

    #[test]
    fn many_wait_in_each_round() {
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
        go_on(wait().unwrap());
        (0..AT_ONCE).for_each(|_| assert_eq!(wait(), None));
        assert!(wait().is_some());
    }
}
