//! A connection, as the leader has it.

use std::sync::Arc;

use super::connection::{Connection, Watch};
use crate::stream::Stream;

/// A connection in the leader's hands.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) connection: Arc<Connection>,
    pub(super) stream: Arc<Stream>,
    pub(super) watch: Watch,
    /// Polls in a row in which it had nothing.
    pub(super) silent: u8,
}

impl Slot {
    /// Whether the system is asked for it: one that is known to be hung up has nothing to tell.
    pub(super) fn is_watched(&self) -> bool {
        !(self.watch.events.is_empty() && self.watch.hung_up)
    }
}
