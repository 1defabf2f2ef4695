//! One time limit for everything that a command does.

use std::{
    future::Future,
    io,
    time::{Duration, Instant},
};

use fcgi_tokio::{self as fcgi, Address, Phase};

/// The default limit of a probe, in seconds, for clap.
pub(crate) const PROBE: &str = "2";

/// The rest of a command's time. Connecting, waiting and retries all use it up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    started: Instant,
    /// `None` if there is no limit, or if it is too far ahead for the clock.
    until: Option<Instant>,
    limit: Option<Duration>,
}

impl Budget {
    /// Starts the clock; `None` means no limit.
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

    /// The remaining time; `None` means no limit.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// Waits for `work` as long as there is time; otherwise returns that `phase` took too long.
    ///
    /// # Errors
    /// The error of `work`; [`fcgi::Error::Timeout`].
    pub(crate) async fn hold<T>(
        &self,
        address: &Address,
        phase: Phase,
        work: impl Future<Output = Result<T, fcgi::Error>>,
    ) -> Result<T, fcgi::Error> {
        // A connection is tried even at the last moment: why there is none says more than the time.
        let ended = match (self.left(), phase) {
            (Some(left), Phase::Connect) => tokio::time::timeout(left, work).await.ok(),
            _ => self.race(work).await,
        };
        ended.unwrap_or_else(|| {
            Err(fcgi::Error::Timeout {
                address: address.to_string().into(),
                phase,
                limit: self.limit.unwrap_or_default(),
            })
        })
    }

    /// Waits for `work` on files as long as there is time.
    ///
    /// # Errors
    /// The error of `work`; `TimedOut`.
    pub(crate) async fn hold_io<T>(
        &self,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        self.race(work).await.unwrap_or_else(|| {
            let limit = self.limit.unwrap_or_default();
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("not within {limit:?}")))
        })
    }

    /// Waits for `work`, or returns nothing when the time is over. Work that is always ready, as with
    /// a peer that sends without end, ends too.
    async fn race<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match self.left() {
            None => Some(work.await),
            Some(Duration::ZERO) => None,
            Some(left) => tokio::time::timeout(left, work).await.ok(),
        }
    }
}
