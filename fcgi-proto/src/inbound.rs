//! One incoming stream: what has arrived and was not read yet.

use alloc::collections::VecDeque;
use bytes::{Bytes, BytesMut};
use core::task::Poll;

use crate::receiver::{Receiver, Span};

/// Unread bytes of a stream, in order. Large chunks are slices of the receive buffer, small ones
/// are put together.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
    ended: bool,
    announced: bool,
}

impl Inbound {
    /// Takes a span of the receive buffer; true when the reader must be told.
    pub(crate) fn push(&mut self, receiver: &mut Receiver, span: Span) -> bool {
        self.len += span.len();
        match receiver.share(span) {
            Some(chunk) => {
                self.flush_tail();
                self.chunks.push_back(chunk);
            }
            None => self.tail.extend_from_slice(receiver.bytes(span)),
        }
        self.announce()
    }

    /// The stream's empty record came; true when the reader must be told.
    pub(crate) fn end(&mut self) -> bool {
        self.ended = true;
        self.announce()
    }

    /// Takes up to `max` bytes; `Ready(None)` at the end of the stream.
    pub(crate) fn read(&mut self, max: usize) -> Poll<Option<Bytes>> {
        if max == 0 && self.len > 0 {
            return Poll::Ready(Some(Bytes::new()));
        }
        if self.chunks.is_empty() {
            self.flush_tail();
        }
        match self.chunks.front_mut() {
            Some(front) if front.len() > max => {
                self.len -= max;
                Poll::Ready(Some(front.split_to(max)))
            }
            Some(_) => {
                let chunk = self.chunks.pop_front();
                self.len -= chunk.as_ref().map_or(0, Bytes::len);
                Poll::Ready(chunk)
            }
            None if self.ended => Poll::Ready(None),
            None => {
                self.announced = false;
                Poll::Pending
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Drops what is unread; says how much that was.
    pub(crate) fn discard(&mut self) -> usize {
        self.chunks = VecDeque::new();
        self.tail = BytesMut::new();
        core::mem::take(&mut self.len)
    }

    fn flush_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(core::mem::take(&mut self.tail).freeze());
        }
    }

    fn announce(&mut self) -> bool {
        !core::mem::replace(&mut self.announced, true)
    }
}
