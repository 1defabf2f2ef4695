//! What a handler does with its request's streams.

use std::{task::Poll, time::Instant};

use bytes::Bytes;
use fcgi_proto::{
    Connection, Input, Output, Params, Rejection, RequestKey, UsageError, server::AbortReason,
};

use super::{
    notes::Notes,
    requests::{InputWait, Stop, Waiters},
    session::Session,
};
use crate::{Error, Phase};

/// How bytes are queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// As many bytes as there is room for.
    Stream,
    /// All bytes, in one record if they fit.
    Record,
}

impl<W: Waiters> Session<W> {
    /// The next bytes of a stream, at most `max`; `None` at its end. If there is nothing yet, `now`
    /// is called for the time; if it returns `None`, the handler does not wait.
    ///
    /// # Errors
    /// [`Error::Aborted`], [`Error::Timeout`]; [`Error::Usage`] once the request has ended.
    pub fn read(
        &mut self,
        key: RequestKey,
        input: Input,
        max: usize,
        now: impl FnOnce() -> Option<Instant>,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        self.check(key)?;
        let paused = !self.connection.wants_read();
        let Some(mut request) = self.connection.request(key) else {
            return Poll::Ready(Err(Error::Aborted(AbortReason::Disconnected)));
        };
        let read = request.read(input, max);
        let stdin = self.settings().stdin;
        let Some(active) = self.requests.get_mut(key) else { return read.map(Ok) };
        match &read {
            Poll::Ready(chunk) => {
                *active.input(input) = InputWait::No;
                if let Some(bytes) = chunk {
                    self.attention |= paused;
                    active.received += bytes.len() as u64;
                }
            }
            Poll::Pending => match (*active.input(input), stdin) {
                (InputWait::No, Some(limit)) => {
                    let until = now().and_then(|now| now.checked_add(limit));
                    if let Some(until) = until {
                        *active.input(input) = InputWait::Until(until);
                    }
                    self.remind(until);
                }
                (InputWait::Late, _) => {
                    if let Some(now) = now() {
                        self.time_out(key, Phase::Stdin, now);
                        self.attention = true;
                        self.check(key)?;
                    }
                }
                _ => {}
            },
        }
        read.map(Ok)
    }

    /// Queues some of `bytes`, or all of them in one record; `Pending` if there was no room.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    #[inline]
    pub fn write(
        &mut self,
        key: RequestKey,
        output: Output,
        bytes: &mut Bytes,
        how: Write,
    ) -> Poll<Result<usize, Error>> {
        let Some(active) = self.requests.get_mut(key).filter(|active| active.stop.is_none()) else {
            return Poll::Ready(self.check(key).map(|()| 0));
        };
        let Some(mut request) = self.connection.request(key) else {
            return Poll::Ready(Err(Error::Aborted(AbortReason::Disconnected)));
        };
        let taken = match how {
            Write::Stream => request.write(output, bytes)?,
            Write::Record => request.write_record(output, bytes)?,
        };
        if taken == 0 && !bytes.is_empty() {
            return Poll::Pending;
        }
        active.sent += taken as u64;
        self.attention = true;
        Poll::Ready(Ok(taken))
    }

    /// Ready once everything queued on the connection was handed to the socket.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn flush(&mut self, key: RequestKey) -> Poll<Result<(), Error>> {
        self.check(key)?;
        if self.connection.queued() == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(active) = self.requests.get_mut(key) {
            self.attention |= !std::mem::replace(&mut active.flushing, true);
            self.flushing = true;
        }
        Poll::Pending
    }

    /// Ready once the request was aborted or has ended; the latter counts as
    /// [`AbortReason::Disconnected`].
    pub fn cancelled(&self, key: RequestKey) -> Poll<AbortReason> {
        match self.requests.get(key).map(|active| active.stop) {
            Some(None) => Poll::Pending,
            Some(Some(Stop::Aborted(reason))) => Poll::Ready(reason),
            None | Some(Some(Stop::TimedOut(_))) => Poll::Ready(AbortReason::Disconnected),
        }
    }

    /// Keeps the parameters of a request that its handler no longer needs. Returns those that are
    /// not kept.
    #[inline]
    pub fn keep_params(&mut self, key: RequestKey, params: Params) -> Params {
        match self.requests.get_mut(key) {
            Some(active) => std::mem::replace(&mut active.params, params),
            None => params,
        }
    }

    /// Takes the parameters that were [kept](Self::keep_params).
    pub fn take_params(&mut self, key: RequestKey) -> Params {
        self.requests
            .get_mut(key)
            .map(|active| std::mem::take(&mut active.params))
            .unwrap_or_default()
    }

    /// Makes the request end with a protocol status once its handler returns (FC-5.5-1).
    pub fn reject(&mut self, key: RequestKey, rejection: Rejection) {
        if let Some(active) = self.requests.get_mut(key) {
            active.rejection = Some(rejection);
        }
    }

    /// What waits on a request; `None` once its handler has returned.
    pub fn waiters(&mut self, key: RequestKey) -> Option<&mut W> {
        self.requests.get_mut(key).map(|active| &mut active.waiters)
    }

    /// Wakers of those who must check again. Take them, and wake them once no lock is held.
    pub fn woken(&mut self) -> &mut W::Woken {
        &mut self.woken
    }

    /// What is to be logged. Take it, and drop it once no lock is held.
    #[inline]
    pub fn notes(&mut self) -> &mut Notes {
        &mut self.notes
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.connection.queued()
    }

    /// Whether anything since the last call needs a [`turn`](Self::turn), or has brought the
    /// [`deadline`](Self::deadline) nearer.
    pub fn take_attention(&mut self) -> bool {
        std::mem::take(&mut self.attention)
    }

    fn check(&self, key: RequestKey) -> Result<(), Error> {
        match self.requests.get(key).map(|active| active.stop) {
            Some(None) => Ok(()),
            Some(Some(Stop::Aborted(reason))) => Err(Error::Aborted(reason)),
            Some(Some(Stop::TimedOut(phase))) => Err(Error::Timeout {
                address: self.peer.to_string().into(),
                phase,
                limit: self.settings().limit(phase).unwrap_or_default(),
            }),
            None => Err(Error::Usage(UsageError::RequestEnded)),
        }
    }
}
