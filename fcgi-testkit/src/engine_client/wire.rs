//! The wire between client and application.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
};

use fcgi_engine::pump::Socket;

/// Cuts bytes into records: a second, simpler parser of the wire.
#[derive(Default)]
pub(super) struct Tap {
    pub(super) header: Vec<u8>,
    pub(super) content: usize,
    pub(super) padding: usize,
}

/// What a byte of the wire is.
pub(super) enum Of {
    /// The last of a header: type, id, content length.
    Header(u8, u16, usize),
    /// Of a record's content.
    Content(u8, u16),
    Other,
}

impl Tap {
    pub(super) fn is_at_boundary(&self) -> bool {
        self.header.is_empty()
    }

    pub(super) fn push(&mut self, byte: u8) -> Of {
        let of = if self.header.len() < 8 {
            self.header.push(byte);
            if self.header.len() < 8 {
                return Of::Other;
            }
            self.content = usize::from(u16::from_be_bytes([self.header[4], self.header[5]]));
            self.padding = usize::from(self.header[6]);
            Of::Header(self.header[1], self.id(), self.content)
        } else if self.content > 0 {
            self.content -= 1;
            Of::Content(self.header[1], self.id())
        } else {
            self.padding -= 1;
            Of::Other
        };
        if self.content == 0 && self.padding == 0 {
            self.header.clear();
        }
        of
    }

    fn id(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }
}

/// The client's end of a socket.
#[derive(Default)]
pub(super) struct Wire {
    /// How much it takes until the application reads.
    pub(super) room: usize,
    /// How much it takes, or gives, at once.
    pub(super) chunk: usize,
    pub(super) to_app: VecDeque<u8>,
    pub(super) from_app: VecDeque<u8>,
    pub(super) taken: Vec<u8>,
    pub(super) given: Vec<u8>,
    pub(super) write_error: Option<io::ErrorKind>,
    /// Set after the last byte has come.
    pub(super) read_error: Option<io::ErrorKind>,
    pub(super) eof: bool,
    pub(super) interrupted: bool,
    /// The driver is woken when there is something to read, or room.
    pub(super) reading: bool,
    pub(super) writing: bool,
    pub(super) partial: usize,
}

impl Socket for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        assert!(!buf.is_empty(), "a read without a window would look like the end");
        if std::mem::take(&mut self.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let n = buf.len().min(self.chunk).min(self.from_app.len());
        if n == 0 {
            return match self.read_error {
                Some(kind) => Err(kind.into()),
                None if self.eof => Ok(0),
                None => {
                    self.reading = true;
                    Err(io::ErrorKind::WouldBlock.into())
                }
            };
        }
        for to in &mut buf[..n] {
            *to = self.from_app.pop_front().unwrap();
            self.given.push(*to);
        }
        Ok(n)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if std::mem::take(&mut self.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let n = all.len().min(self.chunk).min(self.room);
        if n == 0 {
            return match self.write_error {
                Some(io::ErrorKind::WriteZero) => Ok(0),
                Some(kind) => Err(kind.into()),
                None => {
                    self.writing = true;
                    Err(io::ErrorKind::WouldBlock.into())
                }
            };
        }
        self.partial += usize::from(n < all.len());
        self.room -= n;
        self.to_app.extend(&all[..n]);
        self.taken.extend(&all[..n]);
        Ok(n)
    }
}
