//! What a connection's events lead to: requests begin, wake, and end.

use std::{sync::Arc, time::Instant};

use fcgi_engine::{
    observe::{Outcome, RequestLog, Side},
    server::CANCELLED,
};
use fcgi_proto::{
    Connection, Rejection, RequestKey,
    server::{AbortReason, Event},
};

use super::{
    Job, Request,
    active::{Active, Stop},
    connection::Inner,
    shared::Shared,
};

impl Shared {
    /// Hands every event to those who wait for it.
    pub(super) fn drain_events(self: &Arc<Self>, inner: &mut Inner) {
        loop {
            match inner.connection.poll_event() {
                Ok(Some(event)) => self.on_event(inner, event),
                Ok(None) => return,
                Err(error) => {
                    if !std::mem::replace(&mut inner.failed, true) {
                        tracing::warn!(parent: &self.span, peer = %self.peer, %error, "connection closed");
                        self.abort_all(inner);
                    }
                    return;
                }
            }
        }
    }

    /// The connection failed: every handler is told, and those that wait for a thread get none.
    fn abort_all(&self, inner: &mut Inner) {
        let all: Vec<_> = inner.requests.iter().map(|(key, one)| (key, one.started)).collect();
        for (key, started) in all {
            inner.stop(key, Stop::Aborted(AbortReason::Disconnected));
            if !started {
                self.end_early(inner, key, Outcome::Failed);
            }
        }
    }

    fn on_event(self: &Arc<Self>, inner: &mut Inner, event: Event) {
        match event {
            Event::Request { key, role, params, keep_conn } => {
                inner.heard = true;
                inner.renew();
                if inner.place.is_none() {
                    inner.place = self.engine.place();
                }
                let counted = inner.place.as_ref().and_then(|_| self.engine.request_begins());
                let Some(counted) = counted else {
                    if let Some(request) = inner.connection.request(key) {
                        // It was reported a moment ago, so it is active.
                        let _ = request.reject(Rejection::Overloaded);
                    }
                    return;
                };
                let log = self.span.in_scope(|| {
                    RequestLog::begin(Side::Server, key.id(), role, &params, Instant::now)
                });
                let span = log.span().clone();
                let limit = self.engine.settings.handler;
                let stop_at = limit.and_then(|limit| Instant::now().checked_add(limit));
                inner.requests.add(key, Active::new(counted, log, stop_at));
                let shared = Arc::clone(self);
                let request = Request { shared, key, role, keep_conn, params };
                inner.begun.push(Job { request, span });
            }
            Event::Readable { key, .. } | Event::Writable { key } => {
                if let Some(active) = inner.requests.get(key) {
                    active.wake();
                }
            }
            Event::Aborted { key, reason } => self.on_aborted(inner, key, reason),
        }
    }

    fn on_aborted(&self, inner: &mut Inner, key: RequestKey, reason: AbortReason) {
        inner.stop(key, Stop::Aborted(reason));
        let grace = self.engine.settings.abort_grace;
        let Some(active) = inner.requests.get_mut(key) else { return };
        if !active.started || grace.is_zero() {
            return self.end_early(inner, key, Outcome::Aborted);
        }
        let end_of_grace = Instant::now().checked_add(grace);
        active.stop_at = [active.stop_at, end_of_grace].into_iter().flatten().min();
    }

    /// Ends a request whose handler has not returned, or not begun.
    pub(super) fn end_early(&self, inner: &mut Inner, key: RequestKey, outcome: Outcome) {
        let Some(active) = inner.requests.get_mut(key) else { return };
        if std::mem::replace(&mut active.ended, true) {
            return;
        }
        if let Some(log) = active.log.take() {
            log.end(outcome, Instant::now);
        }
        let started = active.started;
        if let Some(request) = inner.connection.request(key) {
            // The request is active: `request` found it.
            let _ = request.finish(CANCELLED);
        }
        // One that waits for a thread waits no more, and has no part in what may wait.
        if !started {
            let begun = inner.begun.len();
            inner.begun.retain(|job| job.request.key != key);
            if inner.begun.len() < begun || self.engine.pool.forget(self, key) {
                inner.requests.remove(key);
            }
        }
    }
}

impl Inner {
    /// Tells a request's handler to stop.
    pub(super) fn stop(&mut self, key: RequestKey, why: Stop) {
        if let Some(active) = self.requests.get_mut(key) {
            active.stop.get_or_insert(why);
            active.wake();
        }
    }
}
