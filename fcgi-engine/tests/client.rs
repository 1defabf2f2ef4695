//! A client's session and exchanges against what must hold whatever happens, without sockets.
#![allow(missing_docs)]

use fcgi_testkit::engine_client::{self, Seen};
use proptest::{collection::vec, prelude::*, strategy::ValueTree, test_runner::TestRunner};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_requests_faults_and_times(bytes in vec(any::<u8>(), 0..1500)) {
        engine_client::run(&bytes);
    }
}

/// The bytes above get to everything that matters.
#[test]
fn the_bytes_reach_everything() {
    let mut runner = TestRunner::deterministic();
    let mut all = Vec::new();
    for _ in 0..500 {
        let bytes = vec(any::<u8>(), 200..1500).new_tree(&mut runner).unwrap().current();
        all.push(engine_client::explore(&bytes));
    }
    let sum = |count: fn(&Seen) -> usize| all.iter().map(count).sum::<usize>();
    let counts = [
        sum(|seen| seen.complete),
        sum(|seen| seen.rejected),
        sum(|seen| seen.truncated),
        sum(|seen| seen.protocol),
        sum(|seen| seen.read_failed),
        sum(|seen| seen.unsent),
        sum(|seen| seen.body_failed),
        sum(|seen| seen.aborted),
        sum(|seen| seen.first_byte),
        sum(|seen| seen.next_byte),
        sum(|seen| seen.total),
        sum(|seen| seen.refused),
        sum(|seen| seen.partial),
        sum(|seen| seen.paused),
        sum(|seen| seen.stray),
    ];
    assert!(counts.iter().all(|count| *count >= 20), "{counts:?}");
}
