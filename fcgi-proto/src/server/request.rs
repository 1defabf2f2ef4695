//! The application's handle for one request.

use bytes::Bytes;
use core::task::Poll;

use super::{Ending, ServerConnection, State};
use crate::{
    Input, Output, Rejection, RequestKey, Role, UsageError,
    record::{MAX_CONTENT, RecordType},
    states::ServerState,
};

/// A borrowed handle for one active request of a [`ServerConnection`].
///
/// **Getters** `key`, `role`, `is_aborted`, `is_input_complete`, `unread`, `has_begun`; **commands**
/// `read`, `write`, `write_record`, `finish`, `fail`, `reject`.
#[derive(Debug)]
pub struct Request<'a> {
    pub(super) connection: &'a mut ServerConnection,
    pub(super) key: RequestKey,
}

impl Request<'_> {
    /// The request's key.
    #[must_use]
    pub fn key(&self) -> RequestKey {
        self.key
    }

    /// The request's role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.state().map_or(Role::Responder, |request| request.role)
    }

    /// Whether the web server aborted the request.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.state().is_none_or(|request| request.state == ServerState::Aborted)
    }

    /// Whether all of its input has come, read or not.
    #[must_use]
    #[inline]
    pub fn is_input_complete(&self) -> bool {
        self.state().is_some_and(|request| request.state == ServerState::Complete)
    }

    /// Bytes of its streams that have come and are not read yet.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.state().map_or(0, State::unread)
    }

    /// Whether anything was written to STDOUT.
    #[must_use]
    #[inline]
    pub fn has_begun(&self) -> bool {
        self.state().is_some_and(|request| request.stdout_used)
    }

    /// Takes up to `max` bytes that have come; large chunks are slices of the receive buffer.
    /// Reading makes room for more: poll the connection for events afterwards. `Pending` means that
    /// a [`Readable`](super::Event::Readable) will follow, `Ready(None)` that the stream has ended.
    /// A stream that the role does not have, or of an aborted request, has ended from the start.
    pub fn read(&mut self, input: Input, max: usize) -> Poll<Option<Bytes>> {
        let Some(request) = self.connection.requests.get_mut(self.key) else {
            return Poll::Ready(None);
        };
        if !request.role.has_input(input) || request.state == ServerState::Aborted {
            return Poll::Ready(None);
        }
        let read = request.inbound(input).read(max);
        if let Poll::Ready(Some(bytes)) = &read {
            self.connection.unread -= bytes.len();
        }
        read
    }

    /// Queues bytes of STDOUT or STDERR and removes them from the front of `bytes`. It takes as
    /// many as [`Limits::send_high_water`](crate::Limits::send_high_water) allows. A result of 0
    /// for `bytes` that are not empty means that the queue is full. That is not an error: a
    /// [`Writable`](super::Event::Writable) will follow. More than 4 KiB are queued without a copy.
    ///
    /// # Errors
    /// [`UsageError::Closed`] once the peer is gone.
    #[inline]
    pub fn write(&mut self, output: Output, bytes: &mut Bytes) -> Result<usize, UsageError> {
        self.queue(output, bytes, false)
    }

    /// Like [`write`](Self::write), but takes all or nothing, and puts it into one record. Use it
    /// for a head, since some readers want that in one piece (W-1). Later writes may share the
    /// record. More than 65,535 bytes don't fit one record and are taken as by `write`.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn write_record(&mut self, output: Output, bytes: &mut Bytes) -> Result<usize, UsageError> {
        let whole = bytes.len() <= MAX_CONTENT;
        self.queue(output, bytes, whole)
    }

    fn queue(
        &mut self,
        output: Output,
        bytes: &mut Bytes,
        whole: bool,
    ) -> Result<usize, UsageError> {
        let connection = &mut *self.connection;
        if connection.gone {
            return Err(UsageError::Closed);
        }
        let Some(request) = connection.requests.get_mut(self.key) else {
            return Err(UsageError::RequestEnded);
        };
        let record_type = match output {
            Output::Stdout => RecordType::Stdout,
            Output::Stderr => RecordType::Stderr,
        };
        let (queued, most) = (connection.send.len(), connection.config.limits.send_high_water);
        let room = most.saturating_sub(queued);
        let taken = if !whole {
            connection.send.stream(record_type, self.key.id, bytes, room)
        } else if bytes.len() <= room || queued <= most / 2 {
            // A Writable promises only that the queue is half empty.
            connection.send.whole(record_type, self.key.id, &core::mem::take(bytes))
        } else {
            0
        };
        match output {
            Output::Stdout => request.stdout_used |= taken > 0,
            Output::Stderr => request.stderr_used |= taken > 0,
        }
        if !bytes.is_empty() && !request.blocked {
            request.blocked = true;
            connection.send.block(self.key);
        }
        Ok(taken)
    }

    /// Ends the request: closes its streams and sends END_REQUEST with REQUEST_COMPLETE and this
    /// status (FC-5.5-1, FC-6.1-1). Input that arrives later is dropped.
    ///
    /// # Errors
    /// [`UsageError::RequestEnded`].
    #[inline]
    pub fn finish(self, app_status: u32) -> Result<(), UsageError> {
        self.end(Ending::Complete(app_status))
    }

    /// Ends the request as one whose response is incomplete. Web servers ignore the app status
    /// (W-12, W-15), so the failure must show in another way:
    /// - If nothing was written to STDOUT, the web server gets a page with `Status: 500`, unless
    ///   [`ServerConfig::failure_body`](super::ServerConfig::failure_body) is off, and END_REQUEST
    ///   with this status.
    /// - If the response has begun and no other request is active on the connection, the connection
    ///   is closed after what was written: without the end of STDOUT and without END_REQUEST.
    /// - If other requests are active, or another one has come on a kept connection, END_REQUEST
    ///   carries this status, which should not be 0. More can't be said without failing them too.
    ///
    /// # Errors
    /// [`UsageError::RequestEnded`].
    pub fn fail(self, app_status: u32) -> Result<(), UsageError> {
        if !self.has_begun() {
            return self.end(Ending::Failed(app_status));
        }
        if self.connection.requests.len() > 1 || self.is_followed() {
            return self.finish(app_status);
        }
        self.connection.cut |= self.connection.remove(self.key);
        self.connection.close_early();
        Ok(())
    }

    /// Refuses the request with a protocol status that says why. A Responder without output gets a
    /// `Status: 503` on STDOUT, unless
    /// [`ServerConfig::rejection_body`](super::ServerConfig::rejection_body) is off.
    ///
    /// # Errors
    /// [`UsageError::RequestEnded`].
    pub fn reject(self, rejection: Rejection) -> Result<(), UsageError> {
        self.end(Ending::Rejected(rejection))
    }

    /// Whether another request has come, which will be answered once this one has ended.
    fn is_followed(&self) -> bool {
        self.state().is_some_and(|request| request.keep_conn)
            && self.connection.recv.has_ahead(RecordType::BeginRequest)
    }

    #[inline]
    fn end(self, ending: Ending) -> Result<(), UsageError> {
        if self.connection.end(self.key, ending) { Ok(()) } else { Err(UsageError::RequestEnded) }
    }

    #[inline]
    fn state(&self) -> Option<&State> {
        self.connection.requests.get(self.key)
    }
}
