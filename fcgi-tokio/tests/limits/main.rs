//! Time limits by a clock that the tests own: each is kept exactly, and no other passes first. The
//! suite shows in real time that every adapter has them.

mod client;
#[path = "../common/mod.rs"]
mod common;
mod server;

use std::time::Duration;

use tokio::time::Instant;

/// The limit that a test is about, and what the others are.
const LIMIT: Duration = Duration::from_secs(5);
const LATER: Duration = Duration::from_secs(20);

/// A limit is kept to within what `tick` adds.
fn assert_took(start: Instant, limit: Duration) {
    let took = start.elapsed();
    assert!(took >= limit && took < limit + Duration::from_secs(1), "{took:?} for {limit:?}");
}
