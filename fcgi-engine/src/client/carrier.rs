//! How a request begins and ends on its connection, which it may have to itself or share.

use std::{sync::Arc, time::Instant};

use fcgi_proto::{BeginRequest, RequestKey};
use tracing::Span;

use super::{Bodies, Exchange, Replay, Session};
use crate::{Error, observe};

/// A connection for one request at a time, or a handle of one that several requests share.
pub trait Carrier {
    /// What waits for a request: a task's waker, or a thread.
    type Who;

    /// Calls `f` with the session, and with what tells whether its socket has anything to read. A
    /// shared connection is locked meanwhile. Then, if something is [due](Session::take_due), sends
    /// what can be sent at once, and lets others move the bytes or closes what nobody uses.
    fn with<T>(&mut self, f: impl FnOnce(&mut Session<Self::Who>, &dyn Fn() -> bool) -> T) -> T;

    /// Begins a request, as [`Session::begin`] does, and logs it. Take the bodies once it has
    /// begun.
    ///
    /// # Errors
    /// Those of [`Session::begin`].
    fn begin<B: Replay>(
        &mut self,
        begin: &BeginRequest,
        bodies: &Bodies<B>,
        [started, now]: [Instant; 2],
        clock: impl FnOnce() -> Instant,
    ) -> Result<Box<Exchange>, Error> {
        let has_body = !bodies.are_empty();
        let begun = self.with(|session, _| {
            let exchange = session.begin(begin, has_body, started, now)?;
            let span = session.span();
            Ok((exchange, (!span.is_disabled()).then(|| Arc::clone(span))))
        });
        let (mut exchange, span) = begun.map_err(observe::logged)?;
        exchange.begin_log(begin, span.as_deref().unwrap_or(&Span::none()), clock);
        Ok(exchange)
    }

    /// Aborts a request unless it has ended; others go on. Returns what [`Session::after`] says. On
    /// a shared connection the request must still be [forgotten](Self::forget), once it has ended.
    fn leave(&mut self, exchange: &mut Exchange) -> Option<bool> {
        self.with(|session, _| {
            session.leave(exchange);
            if !session.is_shared() {
                session.forget(exchange.key());
            }
            session.after(exchange)
        })
    }

    /// Forgets a request that has ended or was aborted.
    fn forget(&mut self, key: RequestKey) {
        // Dropped without a lock.
        let _who = self.with(|session, _| session.forget(key));
    }

    /// Whether another request can begin now.
    fn is_quiet(&mut self) -> bool {
        self.with(|session, is_readable| session.is_quiet(is_readable))
    }

    /// Takes no more requests, and closes once the current ones are over: now if there are none.
    fn close(&mut self) {
        self.with(|session, _| session.close());
    }
}

impl<C: Carrier> Carrier for Box<C> {
    type Who = C::Who;

    fn with<T>(&mut self, f: impl FnOnce(&mut Session<C::Who>, &dyn Fn() -> bool) -> T) -> T {
        (**self).with(f)
    }
}
