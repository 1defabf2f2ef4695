//! tokio's sockets. Every record on them is shown as lines on stderr.

use std::{
    future::Future,
    io::{self, IoSlice},
    mem,
    os::fd::BorrowedFd,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Instant,
};

use fcgi_driver::{
    StdListener,
    runtime::{Runtime, Transport},
};
use fcgi_engine::socket::{HangUp, Peer};
use fcgi_tokio::{self as fcgi, Address, Tokio};

use tokio::sync::Notify;

use crate::trace::{self, Direction, Recorder};

/// The lines of the process's only call. A transport can't wait for stderr. Whoever polls the
/// transport writes them, and does not poll further meanwhile.
pub(super) static LINES: Lines =
    Lines { text: Mutex::new(String::new()), some: Notify::const_new() };

/// Lines that were not written yet.
#[derive(Debug)]
pub(super) struct Lines {
    text: Mutex<String>,
    some: Notify,
}

impl Lines {
    fn push(&self, line: &str) {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).push_str(line);
        self.some.notify_one();
    }

    /// Waits until there are some.
    pub(super) async fn some(&self) {
        self.some.notified().await;
    }

    pub(super) fn take(&self) -> String {
        mem::take(&mut self.text.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// [`Tokio`], watched.
#[derive(Clone, Copy, Debug)]
pub(super) enum Watched {}

/// A connection, and the records of each direction.
#[derive(Debug)]
pub(super) struct Socket {
    socket: fcgi::Transport,
    sent: Option<Recorder>,
    received: Option<Recorder>,
}

impl Runtime for Watched {
    type Transport = Socket;
    type Listener = <Tokio as Runtime>::Listener;
    type Timer = <Tokio as Runtime>::Timer;

    async fn connect(address: &Address) -> io::Result<Socket> {
        Ok(Socket {
            socket: Tokio::connect(address).await?,
            sent: Some(Recorder::new(Direction::ToApplication)),
            received: Some(Recorder::new(Direction::ToWebServer)),
        })
    }

    fn listen(listener: StdListener) -> io::Result<Self::Listener> {
        Tokio::listen(listener)
    }

    fn poll_accept(
        _listener: &mut Self::Listener,
        _cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Socket, Peer)>> {
        // Only clients use this runtime.
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn listener_fd(listener: &Self::Listener) -> Option<BorrowedFd<'_>> {
        Tokio::listener_fd(listener)
    }

    fn timer() -> Self::Timer {
        Tokio::timer()
    }

    fn now() -> Instant {
        Tokio::now()
    }

    fn spawn(future: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        Tokio::spawn(future)
    }
}

impl Transport for Socket {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_read_ready(cx)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let n = ready!(self.socket.poll_read(cx, buf))?;
        show(&mut self.received, &buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(self.socket.poll_write(cx, slices))?;
        let mut left = n;
        for slice in slices {
            let written = slice.len().min(left);
            show(&mut self.sent, &slice[..written]);
            left -= written;
        }
        Poll::Ready(Ok(n))
    }

    fn widen(&self) -> bool {
        self.socket.widen()
    }

    fn hang_up(&self) -> HangUp {
        self.socket.hang_up()
    }

    fn is_readable(&self) -> bool {
        self.socket.is_readable()
    }

    fn fills(&self) -> bool {
        self.socket.fills()
    }

    fn peer(&self) -> Peer {
        self.socket.peer()
    }

    fn shutdown_write(&self) {
        self.socket.shutdown_write();
    }

    fn refuse_input(&self) -> bool {
        self.socket.refuse_input()
    }
}

/// Adds the records that these bytes complete. At bytes that are not FastCGI it stops; the call's
/// own error reports them.
fn show(recorder: &mut Option<Recorder>, bytes: &[u8]) {
    let Some(some) = recorder else { return };
    let mut records = Vec::new();
    let pushed = some.push(bytes, &mut records);
    for record in &records {
        LINES.push(&trace::line(record));
    }
    if pushed.is_err() {
        *recorder = None;
    }
}
