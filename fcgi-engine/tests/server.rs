//! A server's session against what must hold whatever happens, without sockets.
#![allow(missing_docs)]

use fcgi_testkit::engine_server::{self, Seen};
use proptest::{collection::vec, prelude::*, strategy::ValueTree, test_runner::TestRunner};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_records_faults_handlers_and_times(bytes in vec(any::<u8>(), 0..1500)) {
        engine_server::run(&bytes);
    }
}

/// The bytes above get to everything that matters.
#[test]
fn the_bytes_reach_everything() {
    let mut runner = TestRunner::deterministic();
    let mut all = Vec::new();
    for _ in 0..1000 {
        let bytes = vec(any::<u8>(), 500..1500).new_tree(&mut runner).unwrap().current();
        all.push(engine_server::explore(&bytes));
    }
    let sum = |count: fn(&Seen) -> usize| all.iter().map(count).sum::<usize>();
    let counts = [
        sum(|seen| seen.ran),
        sum(|seen| seen.ended),
        sum(|seen| seen.cut),
        sum(|seen| seen.cancelled),
        sum(|seen| seen.woken),
        sum(|seen| seen.waited),
        sum(|seen| seen.deadlines),
        sum(|seen| seen.closed),
        sum(|seen| seen.whole),
    ];
    assert!(counts.iter().all(|count| *count >= 20), "{counts:?}");
}
