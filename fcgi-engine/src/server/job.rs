//! A request whose handler must be run, and how the handler ended.

use std::time::Instant;

use fcgi_proto::{Params, RequestKey, Role};

use super::{
    Failed,
    notes::{ConnectionSpan, RequestSpan},
};
use crate::observe::{RequestLog, Side};

/// A request whose handler must be run.
#[derive(Debug)]
pub struct Job {
    /// Identifies the request.
    pub key: RequestKey,
    /// The role that it asks for.
    pub role: Role,
    /// Whether the connection stays open afterwards.
    pub keep_conn: bool,
    /// Its parameters.
    pub params: Params,
    /// Whether all of its input has come, so that its handler never waits for any.
    pub whole: bool,
    /// Its span, once it is [open](Self::open).
    pub span: RequestSpan,
}

impl Job {
    /// Opens its span, in the connection's. Returns what must be [attached](super::Session::attach) to the
    /// request, if anybody wants to know of it. This runs code of others: hold no lock.
    #[must_use = "attach it"]
    #[inline]
    pub fn open(&mut self, connection: &ConnectionSpan) -> Option<Box<RequestLog>> {
        if connection.is_silent() { None } else { self.open_heard(connection) }
    }

    #[cold]
    fn open_heard(&mut self, connection: &ConnectionSpan) -> Option<Box<RequestLog>> {
        let _span = connection.enter();
        let Self { key, role, params, .. } = self;
        let log = RequestLog::wanted(Side::Server, key.id(), *role, params, Instant::now)?;
        self.span = RequestSpan::new(log.span().clone());
        Some(log)
    }
}

/// How a handler ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandlerEnd {
    /// It returned.
    Returned(Result<u32, Failed>),
    /// It panicked.
    Panicked,
    /// It was dropped.
    Dropped,
}
