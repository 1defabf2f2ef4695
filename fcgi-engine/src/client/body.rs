//! The bytes of STDIN or DATA of a request, wherever they come from.

use std::{
    io::{self, Read},
    mem,
    task::Poll,
};

use bytes::{Buf as _, Bytes, BytesMut};

/// The most that is read from a reader at once, in bytes.
const PIECE: usize = 64 * 1024;
/// How far into its allocation a piece starts. Without it, two buffers of 64 KiB from malloc, such
/// as a reader's own and this one, lie just so that some processors copy between them twenty times
/// slower; see [`fcgi_proto::recv_buffer`].
const APART: usize = 2048;

/// The bytes of a body: none, all in memory, or from a source.
#[derive(Debug)]
pub enum Pieces<S> {
    /// No bytes, or none left.
    Empty,
    /// All in memory.
    Bytes(Bytes),
    /// Read from a source.
    Source(S),
}

impl<S> Pieces<S> {
    /// The number of bytes, if it is known before they are read.
    pub fn known_len(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::Source(_) => None,
        }
    }

    /// Takes the bytes that are in memory, if there are any. Nothing is left then, not even a
    /// source.
    pub fn take(&mut self) -> Option<Bytes> {
        match mem::replace(self, Self::Empty) {
            Self::Bytes(bytes) if !bytes.is_empty() => Some(bytes),
            _ => None,
        }
    }

    /// The same bytes once more, unless they can only be read once.
    pub fn replay(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Bytes(bytes) => Some(Self::Bytes(bytes.clone())),
            Self::Source(_) => None,
        }
    }
}

/// A body that may be sent more than once.
pub trait Replay: Default {
    /// The same bytes once more, unless they can only be read once.
    fn replay(&self) -> Option<Self>;
    /// Whether it certainly has no bytes.
    fn is_empty(&self) -> bool;
}

/// STDIN and DATA of a request, which may be sent more than once.
#[derive(Debug)]
pub struct Bodies<B> {
    bodies: Option<Box<[B; 2]>>,
    /// An attempt gets a copy, if possible.
    again: bool,
    /// An attempt has got the bodies themselves.
    taken: bool,
}

impl<B: Replay> Bodies<B> {
    pub(super) const fn once(bodies: Option<Box<[B; 2]>>) -> Self {
        Self { bodies, again: false, taken: false }
    }

    /// To be sent again, if possible.
    pub(crate) fn again(self) -> Self {
        Self { again: true, ..self }
    }

    /// The bodies for one attempt, if there are any.
    pub fn take(&mut self) -> Option<Box<[B; 2]>> {
        let bodies = self.bodies.as_deref()?;
        let copy = if self.again { replay(bodies) } else { None };
        self.taken = copy.is_none();
        copy.map(Box::new).or_else(|| self.bodies.take())
    }

    /// Whether they certainly have no bytes.
    #[must_use]
    pub fn are_empty(&self) -> bool {
        self.bodies.iter().flat_map(|bodies| bodies.iter()).all(Replay::is_empty)
    }

    /// Whether the bodies can be taken, perhaps again.
    pub(crate) const fn can_be_taken(&self) -> bool {
        !self.taken
    }
}

fn replay<B: Replay>([stdin, data]: &[B; 2]) -> Option<[B; 2]> {
    stdin.replay().zip(data.replay()).map(|(stdin, data)| [stdin, data])
}

/// A reader that is read piece by piece. A body needs one buffer, which is cleared once, as long as
/// nobody has the piece before.
#[derive(Debug)]
pub struct PieceReader<R> {
    reader: R,
    /// The whole buffer that the piece before is a part of.
    last: Bytes,
}

impl<R> PieceReader<R> {
    /// From the reader's current position.
    pub const fn new(reader: R) -> Self {
        Self { reader, last: Bytes::new() }
    }

    /// The reader.
    pub const fn get_ref(&self) -> &R {
        &self.reader
    }

    /// The reader. What was read from it is gone.
    pub const fn get_mut(&mut self) -> &mut R {
        &mut self.reader
    }

    /// Reads once with `poll_read`, at most 64 KiB. `None` at the end.
    ///
    /// # Errors
    /// Those of `poll_read`.
    pub fn poll_piece(
        &mut self,
        poll_read: impl FnOnce(&mut R, &mut [u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<Option<Bytes>>> {
        let mut buffer = self.buffer();
        let read = poll_read(&mut self.reader, &mut buffer);
        if read.is_pending() {
            self.last = buffer.freeze();
            return Poll::Pending;
        }
        read.map_ok(|n| self.piece(buffer, n))
    }

    /// That of the piece before, if nobody has that any more.
    fn buffer(&mut self) -> BytesMut {
        mem::take(&mut self.last).try_into_mut().unwrap_or_else(|_| {
            let mut buffer = BytesMut::zeroed(APART + PIECE);
            buffer.advance(APART);
            buffer
        })
    }

    fn piece(&mut self, buffer: BytesMut, n: usize) -> Option<Bytes> {
        self.last = buffer.freeze();
        // This guards against a reader that reports more bytes than there was room for.
        (n > 0).then(|| self.last.slice(..n.min(PIECE)))
    }
}

impl<R: Read> PieceReader<R> {
    /// Reads once, at most 64 KiB. `None` at the end.
    ///
    /// # Errors
    /// The reader's errors, except for [`Interrupted`](io::ErrorKind::Interrupted), after which it
    /// reads again.
    pub fn read_piece(&mut self) -> io::Result<Option<Bytes>> {
        let mut buffer = self.buffer();
        loop {
            match self.reader.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return Ok(self.piece(buffer, read?)),
            }
        }
    }
}

/// Defines a client's `Body`, whose bytes may also come from this source. An adapter adds the ways
/// to create and read such a body.
#[doc(hidden)]
#[macro_export]
macro_rules! client_body {
    ($source:ty) => {
        /// The bytes of STDIN or DATA: none, all in memory, or read while they are sent.
        pub struct Body($crate::client::Pieces<$source>);

        impl Body {
            /// No bytes.
            #[must_use]
            pub const fn empty() -> Self {
                Self($crate::client::Pieces::Empty)
            }

            /// The number of bytes, if it is known before they are read.
            #[must_use]
            pub fn len(&self) -> Option<u64> {
                self.0.known_len()
            }

            /// Whether it certainly has no bytes.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.len() == Some(0)
            }
        }

        impl Default for Body {
            fn default() -> Self {
                Self::empty()
            }
        }

        impl $crate::client::Replay for Body {
            fn replay(&self) -> Option<Self> {
                self.0.replay().map(Self)
            }

            fn is_empty(&self) -> bool {
                Self::is_empty(self)
            }
        }

        impl<T: Into<::bytes::Bytes>> From<T> for Body {
            fn from(bytes: T) -> Self {
                Self($crate::client::Pieces::Bytes(bytes.into()))
            }
        }

        impl ::std::fmt::Debug for Body {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct("Body").field("len", &self.len()).finish()
            }
        }
    };
}
