//! One incoming stream: the bytes that have arrived and are not read yet.

use alloc::{boxed::Box, collections::VecDeque};
use bytes::{Bytes, BytesMut};
use core::task::Poll;

use crate::receiver::{Receiver, Span};

/// Unread bytes of a stream, in order. Large chunks are slices of the receive buffer; small ones
/// are joined.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    /// None until the first byte: most requests have no body.
    unread: Option<Box<Unread>>,
    len: usize,
    ended: bool,
    announced: bool,
}

#[derive(Debug, Default)]
struct Unread {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
}

impl Inbound {
    /// Takes a span of the receive buffer; true if the reader must be notified.
    pub(crate) fn push(&mut self, receiver: &mut Receiver, span: Span) -> bool {
        self.len += span.len();
        let unread = self.unread.get_or_insert_default();
        match receiver.share(span) {
            Some(chunk) => {
                unread.flush_tail();
                unread.chunks.push_back(chunk);
            }
            None => unread.tail.extend_from_slice(receiver.bytes(span)),
        }
        self.announce()
    }

    /// The stream's empty record came; true if the reader must be notified.
    #[inline]
    pub(crate) fn end(&mut self) -> bool {
        self.ended = true;
        self.announce()
    }

    /// Takes up to `max` bytes; `Ready(None)` at the end of the stream.
    pub(crate) fn read(&mut self, max: usize) -> Poll<Option<Bytes>> {
        if max == 0 && self.len > 0 {
            return Poll::Ready(Some(Bytes::new()));
        }
        let chunk = self.unread.as_mut().and_then(|unread| unread.take(max));
        match chunk {
            Some(chunk) => {
                self.len -= chunk.len();
                Poll::Ready(Some(chunk))
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

    /// Drops the unread bytes and returns how many there were.
    pub(crate) fn discard(&mut self) -> usize {
        self.unread = None;
        core::mem::take(&mut self.len)
    }

    #[inline]
    fn announce(&mut self) -> bool {
        !core::mem::replace(&mut self.announced, true)
    }
}

impl Unread {
    fn take(&mut self, max: usize) -> Option<Bytes> {
        if self.chunks.is_empty() {
            self.flush_tail();
        }
        match self.chunks.front_mut()? {
            front if front.len() > max => Some(front.split_to(max)),
            _ => self.chunks.pop_front(),
        }
    }

    fn flush_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(core::mem::take(&mut self.tail).freeze());
        }
    }
}
