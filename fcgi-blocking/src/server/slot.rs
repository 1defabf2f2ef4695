//! A connection in the leader's table.

use std::sync::Arc;

use super::connection::{Connection, Watch};
use crate::stream::Stream;

/// A connection in the leader's table.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) connection: Arc<Connection>,
    pub(super) stream: Arc<Stream>,
    pub(super) watch: Watch,
    /// Consecutive polls in which it had no events.
    pub(super) silent: u8,
}

impl Slot {
    /// Whether to poll it: one that is known to be hung up has nothing to report.
    pub(super) fn is_watched(&self) -> bool {
        !(self.watch.events.is_empty() && self.watch.hung_up)
    }
}
