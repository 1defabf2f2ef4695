//! What can end a call early.

use std::{
    sync::Arc,
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use fcgi_engine::client::Limit;

use super::{CancelHandle, Wake, wait::park};
use crate::{Error, Phase};

/// A call's cancel handle, and its time limit.
pub(crate) struct Patience<'a> {
    pub(crate) cancel: Option<&'a CancelHandle>,
    /// When the whole request must have ended.
    total: Option<Limit>,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(
        started: Instant,
        total: Option<Duration>,
        cancel: Option<&'a CancelHandle>,
    ) -> Self {
        Self { cancel, total: Limit::of(started, Phase::Response, total) }
    }

    /// Shortens a limit so that it does not end after that of the whole request.
    pub(crate) fn within(&self, limit: Option<Duration>) -> Option<Duration> {
        let left = self.total.map(|total| total.at.saturating_duration_since(Instant::now()));
        limit.into_iter().chain(left).min()
    }

    /// Parks the thread until `poll` is ready. It polls again when somebody unparks the thread.
    pub(crate) fn wait<T>(
        &self,
        address: &Arc<str>,
        mut poll: impl FnMut() -> Poll<T>,
    ) -> Result<T, Error> {
        let _registration = self.cancel.map(|cancel| cancel.wakes(Wake::Park(thread::current())));
        loop {
            CancelHandle::check(self.cancel, address)?;
            if let Poll::Ready(result) = poll() {
                return Ok(result);
            }
            self.check(address)?;
            park(self.total.map(|total| total.at));
        }
    }

    pub(crate) fn check(&self, address: &Arc<str>) -> Result<(), Error> {
        CancelHandle::check(self.cancel, address)?;
        match self.total {
            Some(total) if Instant::now() >= total.at => Err(total.error(address)),
            _ => Ok(()),
        }
    }
}
