//! One time limit for all that a command does.

use std::{
    future::Future,
    io,
    time::{Duration, Instant},
};

use fcgi_tokio::{self as fcgi, Address, Phase};

/// The limit of a probe, in seconds, for clap.
pub(crate) const PROBE: &str = "2";

/// What is left of a command's time: connecting, waiting and trying again all draw on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    started: Instant,
    /// None where there is no limit, or none that a clock can tell.
    until: Option<Instant>,
    limit: Option<Duration>,
}

impl Budget {
    /// Starts to count; `None` is no limit.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        let started = Instant::now();
        Self { started, until: limit.and_then(|limit| started.checked_add(limit)), limit }
    }

    /// A part of this one: at most `limit` from now.
    pub(crate) fn part(&self, limit: Duration) -> Self {
        let part = Self::new(Some(limit));
        match (self.until, part.until) {
            (Some(all), Some(until)) if until < all => part,
            (Some(_), _) => *self,
            (None, _) => part,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// What is left; `None` is no limit.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// Waits for `work` as long as there is time, then says that `phase` took too long.
    ///
    /// # Errors
    /// That of `work`; [`fcgi::Error::Timeout`].
    pub(crate) async fn hold<T>(
        &self,
        address: &Address,
        phase: Phase,
        work: impl Future<Output = Result<T, fcgi::Error>>,
    ) -> Result<T, fcgi::Error> {
        let Some(left) = self.left() else { return work.await };
        match tokio::time::timeout(left, work).await {
            Ok(done) => done,
            Err(_) => Err(fcgi::Error::Timeout {
                address: address.to_string().into(),
                phase,
                limit: self.limit.unwrap_or_default(),
            }),
        }
    }

    /// Waits for `work` on files as long as there is time.
    ///
    /// # Errors
    /// That of `work`; `TimedOut`.
    pub(crate) async fn hold_io<T>(
        &self,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let Some(left) = self.left() else { return work.await };
        tokio::time::timeout(left, work).await.unwrap_or_else(|_| {
            let limit = self.limit.unwrap_or_default();
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("not within {limit:?}")))
        })
    }
}
