//! The gateway's two logs. Nobody may be reading them, so a log must never hold up what it reports
//! on.

use std::time::Duration;

use crate::sink::Sink;

/// How many bytes may wait to be written.
const WAITING: usize = 1 << 20;
/// How long the gateway's exit waits for a log to be written.
const AT_THE_END: Duration = Duration::from_secs(1);

pub(super) static ACCESS: Sink = Sink::new(WAITING);
pub(super) static ERRORS: Sink = Sink::new(WAITING);

/// Waits for both logs, but not for one that nobody reads.
pub(super) fn flush() {
    ACCESS.flush(AT_THE_END);
    ERRORS.flush(AT_THE_END);
}
