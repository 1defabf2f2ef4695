//! Requests whose handlers must be run, in order.

use std::collections::VecDeque;

use fcgi_proto::{Params, RequestKey, Role};

/// A request whose handler must be run.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) key: RequestKey,
    pub(super) role: Role,
    pub(super) keep_conn: bool,
    pub(super) params: Params,
}

/// The first needs no allocation, so that an idle connection keeps none.
#[derive(Debug, Default)]
pub(super) struct Begun {
    first: Option<Beginning>,
    rest: VecDeque<Beginning>,
}

impl Begun {
    #[inline]
    pub(super) fn push(&mut self, request: Beginning) {
        if self.first.is_none() {
            self.first = Some(request);
        } else {
            self.rest.push_back(request);
        }
    }

    /// Whether there is none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The request that [`pop`](Self::pop) would return.
    #[inline]
    pub(super) fn next(&self) -> Option<RequestKey> {
        self.first.as_ref().map(|first| first.key)
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Beginning> {
        let first = self.first.take()?;
        if self.rest.capacity() > 0 {
            self.move_up();
        }
        Some(first)
    }

    /// Drops a request. Returns false if it is not here.
    pub(super) fn remove(&mut self, key: RequestKey) -> bool {
        if self.first.as_ref().is_some_and(|first| first.key == key) {
            self.first = None;
            self.move_up();
            return true;
        }
        let before = self.rest.len();
        self.rest.retain(|request| request.key != key);
        self.rest.len() < before
    }

    #[cold]
    fn move_up(&mut self) {
        self.first = self.rest.pop_front();
        if self.rest.is_empty() {
            self.rest = VecDeque::new();
        }
    }
}
