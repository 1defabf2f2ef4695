//! The bytes of STDIN or DATA of a request.

use std::io::{self, Read};

use bytes::Bytes;
use fcgi_engine::client::{PieceReader, Pieces};

fcgi_engine::client_body!(PieceReader<Box<dyn Read + Send>>);

impl Body {
    /// All bytes of a reader. An error aborts the request.
    ///
    /// Before the reader is read again, everything that was read is sent, and the part of the
    /// response that has arrived is received. While the reader blocks, the call that sends the
    /// request blocks too. Until the reader returns, no time limit and no
    /// [`CancelHandle`](super::CancelHandle) ends that call.
    pub fn from_reader(reader: impl Read + Send + 'static) -> Self {
        Self(Pieces::Source(PieceReader::new(Box::new(reader))))
    }

    /// The rest, or the end, unless there is a reader, which may block.
    pub(crate) fn at_hand(&mut self) -> Option<Option<Bytes>> {
        (!matches!(self.0, Pieces::Source(_))).then(|| self.0.take())
    }

    /// Reads from the reader. `None` at its end.
    pub(crate) fn read(&mut self) -> io::Result<Option<Bytes>> {
        let Pieces::Source(reader) = &mut self.0 else { return Ok(None) };
        let piece = reader.read_piece();
        if !matches!(piece, Ok(Some(_))) {
            self.0 = Pieces::Empty;
        }
        piece
    }
}
