//! The bytes of STDIN or DATA of a request.

use std::io::{self, Read};

use bytes::Bytes;
use fcgi_engine::client::{Pieces, read_next_piece};

fcgi_engine::client_body!(Source);

/// A reader, and the piece that it returned last.
pub(crate) struct Source {
    reader: Box<dyn Read + Send>,
    last: Bytes,
}

/// Where the next bytes of a body come from.
pub(crate) enum Next {
    Bytes(Bytes),
    /// [`Body::read`] returns them. It may block.
    Reader,
    End,
}

impl Body {
    /// All bytes of a reader. An error aborts the request.
    ///
    /// Before the reader is read again, everything that was read is sent, and the part of the
    /// response that has arrived is received. While the reader blocks, the call that sends the
    /// request blocks too. Until the reader returns, no time limit and no
    /// [`CancelHandle`](super::CancelHandle) ends that call.
    pub fn from_reader(reader: impl Read + Send + 'static) -> Self {
        Self(Pieces::Source(Source { reader: Box::new(reader), last: Bytes::new() }))
    }

    pub(crate) fn next(&mut self) -> Next {
        match &mut self.0 {
            Pieces::Source(_) => Next::Reader,
            here => here.take().map_or(Next::End, Next::Bytes),
        }
    }

    /// Reads from the reader. Empty at its end.
    pub(crate) fn read(&mut self) -> io::Result<Bytes> {
        let Pieces::Source(Source { reader, last }) = &mut self.0 else { return Ok(Bytes::new()) };
        let piece = read_next_piece(reader, last);
        if !piece.as_ref().is_ok_and(|piece| !piece.is_empty()) {
            self.0 = Pieces::Empty;
        }
        piece
    }
}
