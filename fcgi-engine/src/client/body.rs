//! The bytes of STDIN or DATA of a request, wherever they come from.

use std::{
    io::{self, Read},
    mem,
};

use bytes::{Bytes, BytesMut};

/// The most that is read from a reader at once, in bytes.
pub const PIECE: usize = 64 * 1024;

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

/// Reads once, at most [`PIECE`] bytes. Empty at the end.
///
/// # Errors
/// The reader's errors, except for [`Interrupted`](io::ErrorKind::Interrupted), after which it
/// reads again.
pub fn read_piece(reader: &mut (impl Read + ?Sized)) -> io::Result<Bytes> {
    read_into(reader, BytesMut::zeroed(PIECE))
}

/// Like [`read_piece`], into the buffer of the piece before, if nobody has that any more. So a long
/// body needs one buffer, which is cleared once.
///
/// # Errors
/// As for [`read_piece`].
pub fn read_next_piece(reader: &mut (impl Read + ?Sized), before: &mut Bytes) -> io::Result<Bytes> {
    let buffer = mem::take(before).try_into_mut().ok().filter(|buffer| buffer.len() == PIECE);
    let piece = read_into(reader, buffer.unwrap_or_else(|| BytesMut::zeroed(PIECE)))?;
    *before = piece.clone();
    Ok(piece)
}

fn read_into(reader: &mut (impl Read + ?Sized), mut piece: BytesMut) -> io::Result<Bytes> {
    loop {
        match reader.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // This guards against a reader that reports more bytes than there was room for.
            read => {
                piece.truncate(read?.min(PIECE));
                return Ok(piece.freeze());
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

        impl $crate::pool::Replay for Body {
            fn replay(&self) -> Option<Self> {
                self.0.replay().map(Self)
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
