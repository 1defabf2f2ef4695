//! Files and stdin as the body of a request.

use std::{
    io,
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use fcgi_engine::http::{HttpError, Spool, Spooled};
use fcgi_tokio::client::Body;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio_util::io::ReaderStream;

const BLOCK: usize = 64 * 1024;
/// How much of a pipe is kept in memory, in bytes.
const MEMORY: usize = 1 << 20;

/// A source of bytes, read in pieces.
pub(crate) struct Input {
    reader: Pin<Box<dyn AsyncRead + Send>>,
    /// How many bytes it has, if that is known.
    pub(crate) length: Option<u64>,
}

impl Input {
    /// Opens a file, or stdin for `-`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self { reader: Box::pin(tokio::io::stdin()), length: None });
        }
        let file = std::fs::File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        // Files in /proc report a length of 0.
        let length = (metadata.is_file() && metadata.len() > 0).then_some(metadata.len());
        let file = tokio::fs::File::from_std(file);
        Ok(match length {
            // A log may grow while it is sent.
            Some(length) => Self { reader: Box::pin(file.take(length)), length: Some(length) },
            None => Self { reader: Box::pin(file), length: None },
        })
    }

    /// Reads a file, or stdin, of at most `most` bytes. A pipe is opened and read on a thread, so
    /// that the caller can stop waiting.
    pub(crate) async fn whole(path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let owned = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || Self::open(&owned)).await;
        let mut bytes = Vec::new();
        let input = opened.map_err(io::Error::other)??;
        input.reader.take(most.saturating_add(1)).read_to_end(&mut bytes).await?;
        if bytes.len() as u64 > most {
            return Err(io::Error::other(format!("it has more than {most} bytes")));
        }
        Ok(bytes)
    }

    /// A source with these bytes.
    pub(crate) fn bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let length = Some(bytes.len() as u64);
        Self { reader: Box::pin(io::Cursor::new(bytes)), length }
    }

    /// This source and then another.
    pub(crate) fn then(self, next: Self) -> Self {
        let length = self.length.zip(next.length).map(|(one, two)| one + two);
        Self { reader: Box::pin(self.reader.chain(next.reader)), length }
    }

    /// The same with a known length: a source without one is stored until its end, at most `most`
    /// bytes.
    pub(crate) async fn measured(mut self, most: u64) -> io::Result<Self> {
        if self.length.is_some() {
            return Ok(self);
        }
        let mut spool = Spool::new(MEMORY, most);
        let mut block = vec![0; BLOCK];
        loop {
            match self.reader.read(&mut block).await? {
                0 => break,
                n => spool.push(&block[..n]).map_err(not_kept)?,
            }
        }
        let (length, kept) = spool.finish().map_err(not_kept)?;
        Ok(match kept {
            Spooled::Bytes(bytes) => Self::bytes(bytes),
            Spooled::File(file) => {
                let file = tokio::fs::File::from_std(file);
                Self { reader: Box::pin(file), length: Some(length) }
            }
        })
    }

    /// Reads all of it, at most `most` bytes.
    pub(crate) async fn read(self, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader.take(most.saturating_add(1)).read_to_end(&mut bytes).await?;
        if bytes.len() as u64 > most {
            return Err(not_kept(HttpError::RequestTooLarge { limit: most }));
        }
        Ok(bytes)
    }

    /// Turns it into a body whose pieces are counted as they are read.
    pub(crate) fn into_body(self, count: impl FnMut(usize) + Send + Unpin + 'static) -> Body {
        Body::from_stream(ReaderStream::with_capacity(
            Counted { reader: self.reader, count },
            BLOCK,
        ))
    }
}

fn not_kept(error: HttpError) -> io::Error {
    match error {
        HttpError::RequestTooLarge { limit } => {
            io::Error::other(format!("more than {limit} bytes (--max-stdin)"))
        }
        error => io::Error::other(error.to_string()),
    }
}

struct Counted<F> {
    reader: Pin<Box<dyn AsyncRead + Send>>,
    count: F,
}

impl<F: FnMut(usize) + Unpin> AsyncRead for Counted<F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = self.reader.as_mut().poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if read > 0 {
            (self.count)(read);
        }
        polled
    }
}
