//! The web server's handle for one request.

use bytes::Bytes;
use core::task::Poll;

use super::ClientConnection;
use crate::{
    Input, Output, RequestKey, UsageError,
    record::RecordType,
    states::{ClientState, ClientTrigger},
};

/// A borrowed handle for one request of a [`ClientConnection`].
///
/// **Getters** `key`, `is_ended`; **commands** `write`, `finish`, `read`, `abort`.
#[derive(Debug)]
pub struct Request<'a> {
    pub(super) connection: &'a mut ClientConnection,
    pub(super) key: RequestKey,
}

impl Request<'_> {
    /// The request's key.
    #[must_use]
    pub fn key(&self) -> RequestKey {
        self.key
    }

    /// Whether END_REQUEST has come.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        let state = self.connection.requests.get(self.key).map(|request| request.state);
        !matches!(state, Some(ClientState::Sending | ClientState::Waiting | ClientState::Aborting))
    }

    /// Queues bytes of STDIN or DATA and removes them from the front of `bytes`. It takes as many
    /// as [`Limits::send_high_water`](crate::Limits::send_high_water) allows. A result of 0 for
    /// `bytes` that are not empty means that the queue is full. That is not an error: a
    /// [`Writable`](super::Event::Writable) will follow. More than 4 KiB are queued without a copy.
    ///
    /// # Errors
    /// [`UsageError::StreamNotInRole`], [`UsageError::DataBeforeStdin`],
    /// [`UsageError::StreamFinished`], and [`UsageError::RequestEnded`] once the application has
    /// sent END_REQUEST, which it may do before it has read its input (FC-6.2-1).
    pub fn write(&mut self, input: Input, bytes: &mut Bytes) -> Result<usize, UsageError> {
        self.check_input(input)?;
        let connection = &mut *self.connection;
        let Some(request) = connection.requests.get_mut(self.key) else {
            return Err(UsageError::RequestEnded);
        };
        let room = connection.config.limits.send_high_water.saturating_sub(connection.send.len());
        let taken = connection.send.stream(record_type(input), self.key.id, bytes, room);
        if !bytes.is_empty() && !request.blocked {
            request.blocked = true;
            connection.send.block(self.key);
        }
        Ok(taken)
    }

    /// Ends STDIN or DATA with its empty record (FC-6.1-1).
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn finish(&mut self, input: Input) -> Result<(), UsageError> {
        self.check_input(input)?;
        let connection = &mut *self.connection;
        let Some(request) = connection.requests.get_mut(self.key) else {
            return Err(UsageError::RequestEnded);
        };
        match input {
            Input::Stdin => request.stdin_finished = true,
            Input::Data => request.data_finished = true,
        }
        if request.role.last_input() == Some(input) {
            request.on(ClientTrigger::FinishInput);
        }
        connection.send.empty_record(record_type(input), self.key.id);
        Ok(())
    }

    /// Takes up to `max` bytes that have come; large chunks are slices of the receive buffer.
    /// Reading makes room for more: poll the connection for events afterwards. `Pending` means that
    /// a [`Readable`](super::Event::Readable) or [`Finished`](super::Event::Finished) will follow,
    /// `Ready(None)` that the stream has ended.
    pub fn read(&mut self, output: Output, max: usize) -> Poll<Option<Bytes>> {
        let Some(request) = self.connection.requests.get_mut(self.key) else {
            return Poll::Ready(None);
        };
        if request.state == ClientState::Aborting {
            return Poll::Ready(None);
        }
        let read = request.inbound(output).read(max);
        if let Poll::Ready(Some(bytes)) = &read {
            self.connection.unread -= bytes.len();
            self.connection.forget_drained(self.key);
        }
        read
    }

    /// Aborts the request: drops its output, and sends ABORT_REQUEST unless it has ended. A
    /// [`Finished`](super::Event::Finished) still comes when the application answers; until then
    /// the connection is not reusable. Some applications never answer: wait for a bounded
    /// time, then close. A second abort changes nothing.
    pub fn abort(self) {
        self.connection.abort(self.key);
    }

    fn check_input(&self, input: Input) -> Result<(), UsageError> {
        let request = self.connection.requests.get(self.key).ok_or(UsageError::RequestEnded)?;
        if !request.role.has_input(input) {
            return Err(UsageError::StreamNotInRole);
        }
        match request.state {
            ClientState::Sending | ClientState::Waiting => {}
            _ => return Err(UsageError::RequestEnded),
        }
        match input {
            Input::Stdin if request.stdin_finished => Err(UsageError::StreamFinished),
            Input::Data if request.data_finished => Err(UsageError::StreamFinished),
            Input::Data if !request.stdin_finished => Err(UsageError::DataBeforeStdin),
            _ => Ok(()),
        }
    }
}

fn record_type(input: Input) -> RecordType {
    match input {
        Input::Stdin => RecordType::Stdin,
        Input::Data => RecordType::Data,
    }
}
