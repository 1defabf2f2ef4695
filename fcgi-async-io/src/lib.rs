//! FastCGI's sockets and timers on the `async-io` reactor, for any executor that works with it.
//!
//! smol and async-std use the same reactor and differ in how they run a task. This crate has the
//! part that they share: [`AsyncIo`] is the [`Runtime`] of `fcgi-driver`, complete except for
//! [`Spawn`]. `fcgi-smol` and `fcgi-async-std` implement that. You can too, for your own executor:
//!
//! ```
//! use std::thread;
//!
//! use fcgi_async_io::{AsyncIo, Spawn};
//! use fcgi_driver::{client::{Client, Request}, server, Listener, server::Server};
//!
//! /// A thread for each connection.
//! #[derive(Clone, Copy, Debug)]
//! enum Threads {}
//!
//! impl Spawn for Threads {
//!     fn spawn(future: impl Future<Output = ()> + Send + 'static) {
//!         thread::spawn(|| async_io::block_on(future));
//!     }
//! }
//!
//! type Runtime = AsyncIo<Threads>;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = Listener::bind("tcp:127.0.0.1:0")?;
//! let address = listener.local_addr().clone();
//! Threads::spawn(async move {
//!     let hello = |request: server::Request| async move {
//!         request.stdout().write_all("Content-Type: text/plain\r\n\r\nhello\n").await
//!     };
//!     Server::<Runtime>::new().serve(listener, hello).await.expect("the listener fails");
//! });
//! async_io::block_on(async {
//!     let mut client = Client::<Runtime>::connect(&address).await?;
//!     let answer = client.send(Request::responder()).await?.collect(1 << 20).await?;
//!     assert!(answer.stdout.ends_with(b"hello\n"));
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # Features
//! - `async-net`, `async-std`: recognize the sockets of smol and of async-std wherever any stream
//!   is accepted ([`Transport`]). `fcgi-smol` and `fcgi-async-std` enable this.
//!
//! [`Runtime`]: fcgi_driver::runtime::Runtime
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod timer;
mod transport;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod watch;
/// A system without epoll: the reactor watches all sockets.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod watch {
    use std::{
        io,
        os::fd::BorrowedFd,
        task::{Context, Poll},
    };

    #[derive(Debug)]
    pub(crate) enum Watch {}

    impl Watch {
        pub(crate) fn new(_: BorrowedFd<'_>) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn poll_readable(&self, _: &mut Context<'_>) -> Poll<io::Result<bool>> {
            match *self {}
        }

        pub(crate) fn remove(self, _: BorrowedFd<'_>) {
            match self {}
        }
    }
}

use std::{
    future::{Future, poll_fn},
    io,
    marker::PhantomData,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use async_io::Async;
use async_signal::{Signal, Signals};
use fcgi_driver::{Address, StdListener, Target, runtime};
use fcgi_engine::socket::Peer;
use futures_core::Stream;

pub use timer::Timer;
pub use transport::{Transport, TransportListener};

/// How an executor runs a task.
pub trait Spawn: Copy + std::fmt::Debug + Send + Sync + 'static {
    /// Runs a future in its own task, to its end; the task has no handle.
    fn spawn(future: impl Future<Output = ()> + Send + 'static);
}

/// Waits for SIGTERM or SIGINT, from when it is called, for
/// [`with_graceful_shutdown`](fcgi_driver::server::Serve::with_graceful_shutdown). From then on the
/// signals no longer end the process by themselves. If it can't wait for the signals, it logs an
/// error and never completes.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send + 'static {
    let registered = Signals::new([Signal::Term, Signal::Int])
        .map(|mut signals| poll_fn(move |cx| Pin::new(&mut signals).poll_next(cx).map(|_| ())));
    runtime::signalled(registered)
}

/// Wakes all of them, even if one panics: it is somebody else's code.
fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        let _ = panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
    }
}

/// The `async-io` reactor, with the executor `S`. This is only a name: no value of it exists.
#[derive(Clone, Copy, Debug)]
pub struct AsyncIo<S>(PhantomData<fn() -> S>);

impl<S: Spawn> runtime::Runtime for AsyncIo<S> {
    type Transport = Transport;
    type Listener = TransportListener;
    type Timer = Timer;

    async fn connect(address: &Address) -> io::Result<Transport> {
        match address.target() {
            Target::Unix(path) => Transport::connect_unix(path),
            Target::Tcp(host_port) => Transport::connect_tcp(host_port).await,
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn adopt(stream: UnixStream) -> io::Result<Transport> {
        Async::new(stream).map(Transport::from)
    }

    fn listen(listener: StdListener) -> io::Result<TransportListener> {
        TransportListener::new(listener)
    }

    fn poll_accept(
        listener: &mut TransportListener,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Transport, Peer)>> {
        listener.poll_accept(cx)
    }

    fn listener_fd(listener: &TransportListener) -> Option<BorrowedFd<'_>> {
        Some(listener.as_fd())
    }

    fn timer() -> Timer {
        Timer::default()
    }

    fn now() -> Instant {
        Instant::now()
    }

    fn spawn(future: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        S::spawn(future);
        Ok(())
    }
}
