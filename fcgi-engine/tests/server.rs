//! A server's session against what must hold whatever happens, without sockets.
#![allow(missing_docs)]

use fcgi_testkit::engine_server::{self, Seen};
use proptest::{collection::vec, prelude::*, strategy::ValueTree, test_runner::TestRunner};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_requests_handlers_faults_and_times(bytes in vec(any::<u8>(), 0..1500)) {
        engine_server::run(&bytes);
    }
}

/// The bytes above get to everything that matters.
#[test]
fn the_bytes_reach_everything() {
    let mut runner = TestRunner::deterministic();
    let mut all = Vec::new();
    for _ in 0..500 {
        let bytes = vec(any::<u8>(), 200..1500).new_tree(&mut runner).unwrap().current();
        all.push(engine_server::explore(&bytes));
    }
    let sum = |count: fn(&Seen) -> usize| all.iter().map(count).sum::<usize>();
    let counts = [
        sum(|seen| seen.run),
        sum(|seen| seen.beside),
        sum(|seen| seen.unstarted),
        sum(|seen| seen.whole),
        sum(|seen| seen.refused),
        sum(|seen| seen.aborted),
        sum(|seen| seen.dropped),
        sum(|seen| seen.failed),
        sum(|seen| seen.blocked),
        sum(|seen| seen.late),
    ];
    assert!(counts.iter().all(|count| *count >= 10), "{counts:?}");
}
