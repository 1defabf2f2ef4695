//! An in-memory connection.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use fcgi_driver::runtime::Transport;
use fcgi_engine::socket::HangUp;

use super::world;

/// How much one direction holds before a writer must wait, in bytes.
const CAPACITY: usize = 64 * 1024;

/// One end of an in-memory connection. Dropping it closes both directions.
#[derive(Debug)]
pub struct Pipe {
    incoming: Arc<Mutex<Half>>,
    outgoing: Arc<Mutex<Half>>,
}

/// One direction.
#[derive(Debug, Default)]
struct Half {
    bytes: VecDeque<u8>,
    /// No more bytes come.
    ended: bool,
    /// Nobody reads any more.
    deaf: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Half {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

fn lock(half: &Mutex<Half>) -> MutexGuard<'_, Half> {
    half.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipe {
    /// Both ends.
    #[must_use]
    pub fn pair() -> (Self, Self) {
        let (a, b) = (Arc::default(), Arc::default());
        let other = Self { incoming: Arc::clone(&b), outgoing: Arc::clone(&a) };
        (Self { incoming: a, outgoing: b }, other)
    }

    /// Reads some bytes; none at the end.
    ///
    /// # Errors
    /// None, but the signature is that of a socket.
    pub async fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 4096];
        let n = std::future::poll_fn(|cx| self.poll_read(cx, &mut buffer)).await?;
        buffer.truncate(n);
        Ok(buffer)
    }

    /// Writes all of the bytes.
    ///
    /// # Errors
    /// A broken pipe when nobody reads any more.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = std::future::poll_fn(|cx| self.poll_write(cx, &[IoSlice::new(bytes)])).await?;
            bytes = &bytes[n..];
        }
        Ok(())
    }
}

impl Transport for Pipe {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut half = lock(&self.incoming);
        if half.bytes.is_empty() && !half.ended {
            half.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.poll_read_ready(cx).is_pending() {
            return Poll::Pending;
        }
        let mut half = lock(&self.incoming);
        let n = world::cut(half.bytes.len().min(buf.len()));
        for (to, from) in buf.iter_mut().zip(half.bytes.drain(..n)) {
            *to = from;
        }
        if let Some(writer) = half.writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(n))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut half = lock(&self.outgoing);
        if half.deaf {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = CAPACITY - half.bytes.len();
        if room == 0 {
            half.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let given = slices.iter().map(|slice| slice.len()).sum::<usize>();
        let n = world::cut(given.min(room));
        half.bytes.extend(slices.iter().flat_map(|slice| slice.iter()).take(n));
        if let Some(reader) = half.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(n))
    }

    fn hang_up(&self) -> HangUp {
        match (lock(&self.outgoing).deaf, lock(&self.incoming).ended) {
            (true, _) => HangUp::Gone,
            (false, true) => HangUp::EndOfFile,
            (false, false) => HangUp::No,
        }
    }

    fn is_readable(&self) -> bool {
        let half = lock(&self.incoming);
        half.ended || !half.bytes.is_empty()
    }

    fn shutdown_write(&self) {
        let mut half = lock(&self.outgoing);
        half.ended = true;
        half.wake();
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.shutdown_write();
        let mut half = lock(&self.incoming);
        half.deaf = true;
        half.wake();
    }
}
