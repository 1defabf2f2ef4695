//! An in-memory runtime with its own clock, for tests of `fcgi-driver` that never sleep.
//!
//! [`run`] drives a future and everything it spawns on this thread. A seed decides which of the
//! ready tasks goes first, and where a read or a write is cut, so that a failure can be repeated.
//! If nothing is ready the clock jumps to the next timer. If there is no timer either, the test has
//! hung and [`run`] panics: so a lost wake-up shows.
//!
//! ```
//! use fcgi_driver::{Acceptor, client::{Client, Request}, server::{self, Server}};
//! use fcgi_testkit::sim::{self, Sim};
//!
//! sim::run(1, async {
//!     let address = "unix:/app".parse().unwrap();
//!     let listener: Acceptor<Sim> = sim::listen(&address);
//!     sim::spawn(async move {
//!         let hello = |request: server::Request| async move {
//!             request.stdout().write_all("\r\nhello\n").await
//!         };
//!         Server::new().serve(listener, hello).await.unwrap();
//!     });
//!     let mut client = Client::<Sim>::connect(&address).await.unwrap();
//!     let answer = client.send(Request::responder()).await.unwrap().collect(100).await.unwrap();
//!     assert_eq!(&answer.stdout[..], b"\r\nhello\n");
//! });
//! ```

mod pipe;
mod world;

use std::{
    future::Future,
    io,
    os::fd::BorrowedFd,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use fcgi_driver::{Acceptor, runtime};
use fcgi_engine::{Address, listener::StdListener, socket::Peer};

pub use pipe::Pipe;
pub use world::{Backlog, run};

/// The runtime that [`run`] drives on this thread. No value of it exists.
#[derive(Clone, Copy, Debug)]
pub enum Sim {}

impl runtime::Runtime for Sim {
    type Transport = Pipe;
    type Listener = Backlog;
    type Timer = SimTimer;

    async fn connect(address: &Address) -> io::Result<Pipe> {
        world::connect(address).await
    }

    fn listen(_: StdListener) -> io::Result<Backlog> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "use sim::listen"))
    }

    fn poll_accept(backlog: &mut Backlog, cx: &mut Context<'_>) -> Poll<io::Result<(Pipe, Peer)>> {
        let peer = backlog.peer();
        backlog.poll_accept(cx).map(|pipe| Ok((pipe, peer)))
    }

    fn listener_fd(_: &Backlog) -> Option<BorrowedFd<'_>> {
        None
    }

    fn timer() -> SimTimer {
        SimTimer::default()
    }

    fn now() -> Instant {
        world::now()
    }

    fn is_alone() -> bool {
        true
    }

    fn spawn(future: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        world::spawn(Box::pin(future));
        Ok(())
    }
}

/// A timer on the simulated clock.
#[derive(Debug, Default)]
pub struct SimTimer {
    entry: Option<world::TimerId>,
}

impl runtime::Timer for SimTimer {
    fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if let Some(entry) = self.entry.take() {
            world::clear_timer(entry);
        }
        if world::now() >= deadline {
            return Poll::Ready(());
        }
        self.entry = Some(world::set_timer(deadline, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for SimTimer {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            world::clear_timer(entry);
        }
    }
}

/// Listens on an address of this run.
///
/// # Panics
/// If somebody listens there already, or outside of [`run`].
#[must_use]
pub fn listen(address: &Address) -> Acceptor<Sim> {
    Acceptor::from_runtime(backlog(address), address.clone())
}

/// Listens on an address of this run, for a hand-made application.
///
/// # Panics
/// As for [`listen`].
#[must_use]
pub fn backlog(address: &Address) -> Backlog {
    world::listen(address)
}

/// Runs a future in its own task.
pub fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    world::spawn(Box::pin(future));
}

/// Waits, on the simulated clock.
pub async fn sleep(duration: Duration) {
    let until = world::now() + duration;
    let mut timer = SimTimer::default();
    std::future::poll_fn(|cx| runtime::Timer::poll_until(&mut timer, cx, until)).await;
}

/// How many connections were made to an address in this run.
#[must_use]
pub fn connections(address: &Address) -> usize {
    world::connections(address)
}

/// The simulated time since the run began.
#[must_use]
pub fn elapsed() -> Duration {
    world::elapsed()
}

/// Lets every other task that is ready go first.
pub async fn pass() {
    let mut passed = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut passed, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Polls a future a few times, then drops it unless it is ready, like a caller that gives up.
pub async fn poll_some<F: Future>(future: F, polls: u32) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        let polled = Pin::as_mut(&mut future).poll(cx).map(Some);
        if polled.is_pending() && left == 0 {
            return Poll::Ready(None);
        }
        polled
    })
    .await
}
