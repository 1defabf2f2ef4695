//! Whether a connection can carry another request, and what its application can take.

use std::{io, sync::Arc, time::Instant};

use fcgi_proto::{Connection, RequestKey, Values};

use super::{Exchange, Failure, Limit, Session};
use crate::{
    Error, Phase,
    observe::{self, Side},
};

/// How long a connection may take to [settle](Session::settled).
#[derive(Debug, Clone, Copy)]
pub struct Settling {
    /// When the wait ends; `None` if it has no limit.
    pub until: Option<Instant>,
    /// The total limit of the next request, if that ends the wait.
    total: Option<Limit>,
}

impl<W> Session<W> {
    /// Whether it takes no more requests, however those that it has end: it is not kept, an earlier
    /// request left it unfit, or the application does not read or write any more.
    fn is_unfit(&self) -> bool {
        self.closing || self.failed.is_some() || self.write_gone.is_some()
    }

    /// Whether another request can begin now, as far as is known.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        !self.is_unfit() && self.connection.can_begin()
    }

    /// Whether it is idle and another request can begin.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.is_usable() && self.connection.is_reusable()
    }

    /// Whether it is of no more use once its requests are over. Then no aborted request is worth
    /// waiting for.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.is_unfit() || self.connection.is_closed()
    }

    /// Whether the connection has ended: nothing more will come.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.failed.is_some() || self.connection.is_closed()
    }

    /// Whether nothing was ever sent on it: it has nothing to [settle](Self::settled).
    #[must_use]
    pub fn is_fresh(&mut self) -> bool {
        self.sent + self.queued() == 0
    }

    /// Whether another request can begin now, for a caller that has waited for a connection. If
    /// nobody uses it, `is_readable` says whether its socket has anything to read: an end of file
    /// or bytes that would be taken as part of the next response (H-11).
    pub fn is_quiet(&mut self, is_readable: impl FnOnce() -> bool) -> bool {
        if !self.shared {
            return self.is_reusable() && !is_readable();
        }
        if self.is_unused() && is_readable() {
            self.close();
        }
        self.is_usable()
    }

    /// What becomes of the connection after a request that has ended or was aborted: whether it can
    /// carry another. `None` if the end of the aborted request must be waited for, until the
    /// connection has [drained](Self::drained).
    #[must_use]
    pub fn after(&self, exchange: &Exchange) -> Option<bool> {
        match (exchange.outcome, self.shared) {
            (Some(_), true) => Some(self.is_usable()),
            (Some(_), false) => Some(self.is_reusable()),
            // It may well have arrived, if the connection was read.
            (None, false) => self.settled(|| true),
            (None, true) => self.is_closing().then_some(false),
        }
    }

    /// Whether the end of an aborted request has come, and then whether the connection can carry
    /// another request. `is_quiet` says whether its socket has nothing more to read.
    pub fn drained(&mut self, key: RequestKey, is_quiet: impl FnOnce() -> bool) -> Option<bool> {
        if self.shared { self.ended(key) } else { self.settled(is_quiet) }
    }

    /// Whether it has settled after an aborted request: true if another request can begin. Bytes
    /// that are still to be read may end the connection, so that waits until `is_quiet`. A
    /// connection that takes no more has nothing to wait for. It is closed at once, as nginx does:
    /// the application sees that, if not the ABORT_REQUEST before it.
    #[must_use]
    pub fn settled(&self, is_quiet: impl FnOnce() -> bool) -> Option<bool> {
        if self.is_closing() {
            return Some(false);
        }
        if self.connection.is_reusable() {
            return is_quiet().then_some(true);
        }
        // Too many requests were aborted for another one to begin: nothing is left to wait for.
        let is_over = self.connection.active_requests() == 0 && !self.connection.can_begin();
        is_over.then_some(false)
    }

    /// How long to wait from `now` until it has [settled](Self::settled): the drain limit, and no
    /// longer than the total limit of the next request, if one has waited since `next`.
    #[must_use]
    pub fn settling(&self, now: Instant, next: Option<Instant>) -> Settling {
        let drained = now.checked_add(self.settings.drain);
        let total = next.and_then(|next| Limit::of(next, Phase::Response, self.settings.total));
        let total = total.filter(|total| drained.is_none_or(|drained| total.at < drained));
        Settling { until: total.map(|total| total.at).or(drained), total }
    }

    /// What a wait has come to: what [`settled`](Self::settled) returned, or `None` if its time
    /// has passed.
    ///
    /// # Errors
    /// That of the next request. [`Error::Timeout`] if its own limit passed; otherwise
    /// [`Error::Closed`], and the connection takes no more.
    pub fn handle_settled(&mut self, settled: Option<bool>, waited: Settling) -> Result<(), Error> {
        match (settled, waited.total) {
            (Some(true), _) => Ok(()),
            (None, Some(total)) => Err(total.error(&self.address)),
            _ => {
                self.close();
                Err(self.closed())
            }
        }
    }

    /// Takes no more requests.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// The connection has ended for a reason of the adapter; nothing else will come.
    pub fn handle_lost(&mut self) {
        if self.failed.is_none() {
            self.fail(Failure::Read(io::ErrorKind::NotConnected.into()));
        }
    }

    /// The error of a request on a connection that takes no more.
    #[must_use]
    pub fn closed(&self) -> Error {
        Error::Closed { address: Arc::clone(&self.address) }
    }

    // ---- GET_VALUES ----------------------------------------------------------------------------

    /// Asks for the application's capacity, on a connection that carries no request. Returns
    /// until when to wait for the answer.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn ask_values(&mut self, now: Instant) -> Result<Option<Instant>, Error> {
        self.connection.query_values()?;
        self.unhandled = true;
        Ok(now.checked_add(self.settings.values))
    }

    /// The answer to [`ask_values`](Self::ask_values), if it has come: the application's capacity,
    /// or empty values if it closes.
    pub fn values(&self) -> Option<Result<Values, Error>> {
        match (self.values, &self.failed) {
            (Some(values), _) => Some(Ok(values)),
            (None, Some(failure @ Failure::Protocol(_))) => Some(Err(self.error(failure))),
            (None, Some(Failure::Read(_))) => Some(Ok(Values::default())),
            (None, None) => self.connection.is_closed().then(|| Ok(Values::default())),
        }
    }

    /// What a wait for the answer has come to: what [`values`](Self::values) returned, or `None` if
    /// its time has passed. The application's capacity is unknown then.
    ///
    /// # Errors
    /// [`Error::Protocol`].
    pub fn handle_values(&self, values: Option<Result<Values, Error>>) -> Result<Values, Error> {
        values.unwrap_or_else(|| {
            observe::timed_out(Side::Client, Phase::Values, self.settings.values, &self.address);
            Ok(Values::default())
        })
    }
}
