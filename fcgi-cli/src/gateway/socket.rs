//! A client's socket, whose writes must make progress (H-16).

use std::{
    cell::RefCell,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::net::{Shutdown, shutdown, sockopt::set_socket_linger};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::{JoinHandle, spawn_blocking},
    time::{Sleep, sleep, sleep_until, timeout},
};

use super::{
    client::{Client, End},
    sendfile::{Progress, is_marker},
    stream::Stream,
    turn::{self, Peer},
};

/// How long a connection that was closed early is read on, so that its client gets the answer, for
/// example that of a refused upload.
const LINGER: Duration = Duration::from_secs(2);

/// How long a truncated HTTP/1.0 answer may take to reach its client before the connection is
/// reset.
const RESET_AFTER: Duration = Duration::from_millis(500);

/// How many bytes are joined for one write, at most.
const JOINED: usize = 4096;

thread_local! {
    /// The buffer for reads, and for joined writes. hyper's own buffer would have to be cleared before
    /// each read.
    static BLOCK: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

/// A connection that fails if its client reads no byte for this long.
#[derive(Debug)]
pub(super) struct Socket {
    client: Arc<Client>,
    limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    /// Until when the end of what the client sends is not reported.
    ending: Option<Pin<Box<Sleep>>>,
    /// Brings the next part of a file into memory.
    reading: Option<JoinHandle<()>>,
    /// Something was read, and nothing has been written since.
    has_read: bool,
}

impl Socket {
    pub(super) fn new(client: Arc<Client>, limit: Duration) -> Self {
        Self { client, limit, stalled: None, ending: None, reading: None, has_read: false }
    }

    /// The first write after a read waits for its turn. What follows an answer's first bytes would
    /// only be late.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match std::mem::take(&mut self.has_read) {
            true => turn::poll(Peer::Client, cx),
            false => Poll::Ready(()),
        }
    }

    fn poll_written<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&Stream) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            match self.client.stream.poll_write_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => {
                    if self.stalled.is_none() {
                        self.client.on_write(true);
                    }
                    let limit = self.limit;
                    let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
                    ready!(timer.as_mut().poll(cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
            match write(&self.client.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.stalled = None;
                    self.client.on_write(false);
                    return Poll::Ready(written);
                }
            }
        }
    }

    /// Ends when hyper is to know that the client sends nothing more.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.client.end(cx.waker()) {
                End::Report => return Poll::Ready(()),
                End::Hold(None) => return Poll::Pending,
                End::Hold(Some(until)) => {
                    let timer = self.ending.get_or_insert_with(|| Box::pin(sleep_until(until)));
                    if timer.deadline() != until {
                        timer.as_mut().reset(until);
                    }
                    ready!(timer.as_mut().poll(cx));
                }
            }
        }
    }

    /// Sends the part of a file that belongs to a marker of this length.
    fn poll_file(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        let client = Arc::clone(&self.client);
        loop {
            if let Some(reading) = &mut self.reading {
                // If this failed, so does sending.
                let _ = ready!(Pin::new(reading).poll(cx));
            }
            let is_read = self.reading.take().is_some();
            let send = |stream: &Stream| {
                stream.try_write_by(|socket| client.sending.send(socket, length, is_read))
            };
            match ready!(self.poll_written(cx, send))? {
                Progress::Sent(sent) => return Poll::Ready(Ok(sent)),
                Progress::Cold(part) => self.reading = Some(spawn_blocking(move || part.read())),
            }
        }
    }
}

/// Writes slices in one call. Small ones are joined: a plain write of a few kilobytes takes less time
/// than a gathered one.
fn write_all_of(stream: &Stream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    if slices.iter().map(|slice| slice.len()).sum::<usize>() > JOINED {
        return stream.try_write_vectored(slices);
    }
    BLOCK.with_borrow_mut(|block| {
        let mut length = 0;
        for slice in slices {
            block[length..][..slice.len()].copy_from_slice(slice);
            length += slice.len();
        }
        stream.try_write(&block[..length])
    })
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.client.sending.close();
    }
}

/// Waits until the client has closed too, or for [`LINGER`]: closing with unread bytes would
/// destroy the answer.
pub(super) async fn linger(client: &Client) {
    let stream = &client.stream;
    let limit = if client.is_to_be_reset() {
        // A normal end of the connection would look like the end of the answer. A reset does not;
        // closing with a linger time of zero makes one.
        let _ = set_socket_linger(stream, Some(Duration::ZERO));
        RESET_AFTER
    } else {
        // If this fails, the client is gone and needs nothing.
        let _ = shutdown(stream, Shutdown::Write);
        LINGER
    };
    let until_closed = async {
        let mut block = vec![0; 16 * 1024];
        while stream.readable().await.is_ok() {
            match stream.try_read(&mut block) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
            }
        }
    };
    let _ = timeout(limit, until_closed).await;
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.client.stream.poll_read_ready(cx))?;
            let read: io::Result<usize> = BLOCK.with_borrow_mut(|block| {
                let room = buffer.remaining().min(block.len());
                let n = self.client.stream.try_read(&mut block[..room])?;
                self.client.on_read(&block[..n]);
                buffer.put_slice(&block[..n]);
                Ok(n)
            });
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) if buffer.remaining() > 0 => {
                    ready!(self.get_mut().poll_end(cx));
                    return Poll::Ready(Ok(()));
                }
                read => {
                    self.has_read |= read.is_ok();
                    return Poll::Ready(read.map(|_| ()));
                }
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(cx));
        if is_marker(bytes) {
            return self.get_mut().poll_file(cx, bytes.len());
        }
        if self.client.is_refusal(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        self.get_mut().poll_written(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_turn(cx));
        if let [bytes] = slices {
            return self.poll_write(cx, bytes);
        }
        match slices.iter().position(|slice| is_marker(slice)) {
            None => self.get_mut().poll_written(cx, |stream| write_all_of(stream, slices)),
            Some(0) => self.get_mut().poll_file(cx, slices[0].len()),
            Some(at) => {
                self.get_mut().poll_written(cx, |stream| stream.try_write_more(&slices[..at]))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.client.on_flush();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.client.refused().is_some() {
            // The page must still be sent.
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(shutdown(&self.client.stream, Shutdown::Write).map_err(Into::into))
    }
}
