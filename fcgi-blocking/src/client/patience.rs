//! What can end a call early.

use std::{
    sync::Arc,
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use fcgi_engine::observe;

use super::{CancelHandle, Wake, wait::park};
use crate::{Error, Phase};

/// A call's cancel handle, and its time limit.
pub(crate) struct Patience<'a> {
    pub(crate) cancel: Option<&'a CancelHandle>,
    /// When the whole request must have ended, and its limit.
    total: Option<(Instant, Duration)>,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(
        started: Instant,
        total: Option<Duration>,
        cancel: Option<&'a CancelHandle>,
    ) -> Self {
        // A limit too large to add means no limit.
        let total = total.and_then(|limit| Some((started.checked_add(limit)?, limit)));
        Self { cancel, total }
    }

    /// Shortens a limit so that it does not end after that of the whole request.
    pub(crate) fn within(&self, limit: Option<Duration>) -> Option<Duration> {
        let left = self.total.map(|(end, _)| end.saturating_duration_since(Instant::now()));
        limit.into_iter().chain(left).min()
    }

    /// Parks the thread until `poll` is ready. It polls again when somebody unparks the thread, and
    /// at the time that `poll` returns.
    pub(crate) fn wait<T>(
        &self,
        address: &Arc<str>,
        mut poll: impl FnMut() -> (Poll<T>, Option<Instant>),
    ) -> Result<T, Error> {
        let _registration = self.cancel.map(|cancel| cancel.wakes(Wake::Park(thread::current())));
        loop {
            self.check_cancelled(address)?;
            let until = match poll() {
                (Poll::Ready(result), _) => return Ok(result),
                (Poll::Pending, until) => until,
            };
            self.check(address)?;
            let total = self.total.map(|(end, _)| end);
            park(until.into_iter().chain(total).min());
        }
    }

    pub(crate) fn check(&self, address: &Arc<str>) -> Result<(), Error> {
        self.check_cancelled(address)?;
        match self.total {
            Some((end, limit)) if Instant::now() >= end => {
                Err(observe::client_timeout(Arc::clone(address), Phase::Response, limit))
            }
            _ => Ok(()),
        }
    }

    fn check_cancelled(&self, address: &Arc<str>) -> Result<(), Error> {
        if self.cancel.is_some_and(CancelHandle::is_cancelled) {
            return Err(Error::Cancelled { address: Arc::clone(address) });
        }
        Ok(())
    }
}
