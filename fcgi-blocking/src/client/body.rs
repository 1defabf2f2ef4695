//! What a request sends as STDIN or DATA.

use std::io::{self, Read};

use bytes::Bytes;
use fcgi_engine::client::{Pieces, read_piece};

fcgi_engine::client_body!(Box<dyn Read + Send>);

/// What comes next of a body.
pub(crate) enum Next {
    Bytes(Bytes),
    /// Whatever [`Body::read`] gives, which may block.
    Reader,
    End,
}

impl Body {
    /// What a reader gives, to its end. An error aborts the request.
    ///
    /// All that was read before is sent before the reader is asked for more, and what has come of
    /// the response is taken in. While the reader blocks, so does the call that sends the request:
    /// no time limit and no [`CancelHandle`](super::CancelHandle) ends that before the reader does.
    pub fn from_reader(reader: impl Read + Send + 'static) -> Self {
        Self(Pieces::Source(Box::new(reader)))
    }

    pub(crate) fn next(&mut self) -> Next {
        match &mut self.0 {
            Pieces::Source(_) => Next::Reader,
            here => here.take().map_or(Next::End, Next::Bytes),
        }
    }

    /// Reads from the reader; empty at its end.
    pub(crate) fn read(&mut self) -> io::Result<Bytes> {
        let Pieces::Source(reader) = &mut self.0 else { return Ok(Bytes::new()) };
        let piece = read_piece(reader);
        if !piece.as_ref().is_ok_and(|piece| !piece.is_empty()) {
            self.0 = Pieces::Empty;
        }
        piece
    }
}
