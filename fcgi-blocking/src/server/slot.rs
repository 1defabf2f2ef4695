//! A connection in the leader's table.

use std::{sync::Arc, time::Instant};

use rustix::event::PollFlags;

use super::connection::{Connection, Watch};
use crate::stream::Stream;

/// A connection in the leader's table.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) connection: Arc<Connection>,
    pub(super) stream: Arc<Stream>,
    pub(super) watch: Watch,
    /// It must be served, with these events.
    pub(super) ready: Option<PollFlags>,
    /// Consecutive polls in which it had no events.
    pub(super) silent: u8,
}

impl Slot {
    /// Whether a limit of it has passed.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.watch.until.is_some_and(|until| until <= now)
    }

    /// Whether to poll it: one that is known to be hung up has nothing to report.
    pub(super) fn is_watched(&self) -> bool {
        !(self.watch.events.is_empty() && self.watch.hung_up)
    }
}
