//! A pool's desk against what must hold whatever happens, without sockets.
#![allow(missing_docs)]

use fcgi_testkit::engine_pool::{self, Seen};
use proptest::{collection::vec, prelude::*, strategy::ValueTree, test_runner::TestRunner};

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_callers_failures_and_times(bytes in vec(any::<u8>(), 0..1500)) {
        engine_pool::run(&bytes);
    }
}

/// The bytes above get to everything that matters.
#[test]
fn the_bytes_reach_everything() {
    let mut runner = TestRunner::deterministic();
    let mut all = Vec::new();
    for _ in 0..600 {
        let bytes = vec(any::<u8>(), 500..1500).new_tree(&mut runner).unwrap().current();
        all.push(engine_pool::explore(&bytes));
    }
    let sum = |count: fn(&Seen) -> usize| all.iter().map(count).sum::<usize>();
    let counts = [
        sum(|seen| seen.opened),
        sum(|seen| seen.reused),
        sum(|seen| seen.joined),
        sum(|seen| seen.retried),
        sum(|seen| seen.retried_alone),
        sum(|seen| seen.failed),
        sum(|seen| seen.timed_out),
        sum(|seen| seen.full),
        sum(|seen| seen.refused),
        sum(|seen| seen.waited_for_values),
        sum(|seen| seen.reentered),
        sum(|seen| seen.expired),
    ];
    assert!(counts.iter().all(|count| *count >= 50), "{counts:?}");
}
