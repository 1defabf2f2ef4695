//! One incoming stream: the bytes that have arrived and are not read yet.

use alloc::{boxed::Box, collections::VecDeque};
use bytes::{Bytes, BytesMut};
use core::task::Poll;

use crate::receiver::{Receiver, Span};

/// Unread bytes of a stream, in order. Large chunks are slices of the receive buffer; small ones
/// are joined.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    unread: Unread,
    len: usize,
    ended: bool,
    announced: bool,
}

#[derive(Debug, Default)]
enum Unread {
    #[default]
    Nothing,
    /// The usual answer, or body: one chunk that is read before the next one comes. It was copied
    /// out of the receive buffer, or is a slice of it.
    One {
        chunk: Bytes,
        copied: bool,
    },
    Many(Box<Many>),
}

#[derive(Debug, Default)]
struct Many {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
}

impl Inbound {
    /// Takes a span of the receive buffer; true if the reader must be notified.
    pub(crate) fn push(&mut self, receiver: &mut Receiver, span: Span) -> bool {
        self.len += span.len();
        let shared = receiver.share(span);
        match &mut self.unread {
            Unread::Many(many) => many.push(shared, receiver.bytes(span)),
            Unread::Nothing => {
                let copied = shared.is_none();
                let chunk = shared.unwrap_or_else(|| Bytes::copy_from_slice(receiver.bytes(span)));
                self.unread = Unread::One { chunk, copied };
            }
            Unread::One { chunk, copied } => {
                let mut many = Box::new(Many::new(core::mem::take(chunk), *copied));
                many.push(shared, receiver.bytes(span));
                self.unread = Unread::Many(many);
            }
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
    #[inline]
    pub(crate) fn read(&mut self, max: usize) -> Poll<Option<Bytes>> {
        if self.len > 0 {
            let chunk = self.unread.take(max);
            self.len -= chunk.len();
            return Poll::Ready(Some(chunk));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        self.announced = false;
        Poll::Pending
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Drops the unread bytes and returns how many there were.
    pub(crate) fn discard(&mut self) -> usize {
        self.unread = Unread::Nothing;
        core::mem::take(&mut self.len)
    }

    #[inline]
    fn announce(&mut self) -> bool {
        !core::mem::replace(&mut self.announced, true)
    }
}

impl Unread {
    /// Takes up to `max` bytes of the first chunk, if there are any.
    fn take(&mut self, max: usize) -> Bytes {
        let front = match self {
            Self::Nothing => return Bytes::new(),
            Self::One { chunk, .. } => chunk,
            Self::Many(many) => {
                if many.chunks.is_empty() {
                    many.flush_tail();
                }
                match many.chunks.front_mut() {
                    Some(front) if front.len() > max => front,
                    _ => return many.chunks.pop_front().unwrap_or_default(),
                }
            }
        };
        if front.len() > max {
            return front.split_to(max);
        }
        let chunk = core::mem::take(front);
        *self = Self::Nothing;
        chunk
    }
}

impl Many {
    fn new(first: Bytes, copied: bool) -> Self {
        let mut many = Self::default();
        // What was copied is joined with what follows, unless its reader still has a part of it.
        match if copied { first.try_into_mut() } else { Err(first) } {
            Ok(tail) => many.tail = tail,
            Err(chunk) => many.chunks.push_back(chunk),
        }
        many
    }

    fn push(&mut self, shared: Option<Bytes>, bytes: &[u8]) {
        match shared {
            Some(chunk) => {
                self.flush_tail();
                self.chunks.push_back(chunk);
            }
            None => self.tail.extend_from_slice(bytes),
        }
    }

    fn flush_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(core::mem::take(&mut self.tail).freeze());
        }
    }
}
