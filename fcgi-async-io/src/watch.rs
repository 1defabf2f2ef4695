//! Sockets that are watched for input all the time.
//!
//! The reactor watches a socket for one event. Watching it again after each one costs a system call
//! for each request of a kept connection. So busy sockets are in an epoll instance of their own,
//! which reports each arrival once (edge-triggered) and goes on watching. The reactor watches
//! this instance, like one socket more. When that is readable, the reactor wakes [`Turn`], and this
//! wakes the tasks of all sockets with input.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use async_io::Async;
use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, Event, EventData, EventFlags},
};
use slab::Slab;

use crate::wake_all;

/// At most this many events are taken at once.
const EVENTS: usize = 256;

/// A socket that is watched. Call [`remove`](Self::remove) before the socket is closed.
#[derive(Debug)]
pub(crate) struct Watch {
    key: usize,
    source: Arc<Source>,
}

impl Watch {
    /// Watches a socket.
    ///
    /// # Errors
    /// The system has no room for it.
    pub(crate) fn new(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let sockets = Sockets::get()?;
        let source = Arc::new(Source::default());
        let key = lock(&sockets.sources).insert(Arc::clone(&source));
        let events = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        match epoll::add(&sockets.set, socket, EventData::new_u64(key as u64), events) {
            Ok(()) => Ok(Self { key, source }),
            Err(error) => {
                lock(&sockets.sources).remove(key);
                Err(error.into())
            }
        }
    }

    /// Ready once for each arrival. True means that the end of input, or an error, is among what
    /// comes next.
    ///
    /// # Errors
    /// The reactor's error.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let _before;
        {
            let mut state = lock(&self.source.0);
            if std::mem::take(&mut state.readable) {
                return Poll::Ready(Ok(std::mem::take(&mut state.ended)));
            }
            if state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            _before = state.waker.replace(cx.waker().clone());
        }
        match SOCKETS.get() {
            Some(sockets) if sockets.stopped.load(Ordering::Acquire) => sockets.turn()?,
            _ => {}
        }
        Poll::Pending
    }

    /// Watches the socket no more.
    pub(crate) fn remove(self, socket: BorrowedFd<'_>) {
        if let Some(sockets) = SOCKETS.get() {
            // Can't fail: it is in the set.
            let _ = epoll::delete(&sockets.set, socket);
            let _source = lock(&sockets.sources).try_remove(self.key);
        }
    }
}

/// A socket, as far as is known.
#[derive(Debug, Default)]
struct Source(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Something has come since the task last looked.
    readable: bool,
    /// And it includes the end of input, or an error.
    ended: bool,
    waker: Option<Waker>,
}

/// All sockets that are watched.
struct Sockets {
    set: Async<OwnedFd>,
    sources: Mutex<Slab<Arc<Source>>>,
    /// The reactor failed to watch the set. Whoever waits next tries again.
    stopped: AtomicBool,
}

static SOCKETS: OnceLock<Sockets> = OnceLock::new();

/// What the reactor wakes.
static TURN: LazyLock<Waker> = LazyLock::new(|| Arc::new(Turn).into());

impl Sockets {
    fn get() -> io::Result<&'static Self> {
        if let Some(sockets) = SOCKETS.get() {
            return Ok(sockets);
        }
        let set = Async::new_nonblocking(epoll::create(CreateFlags::CLOEXEC)?)?;
        let sources = Mutex::default();
        let sockets = SOCKETS.get_or_init(|| Self { set, sources, stopped: AtomicBool::new(true) });
        sockets.turn()?;
        Ok(sockets)
    }

    /// Wakes the tasks of sockets with input, until there is none, and has the reactor watch again.
    fn turn(&self) -> io::Result<()> {
        let cx = &mut Context::from_waker(&TURN);
        self.stopped.store(false, Ordering::Release);
        loop {
            match self.set.poll_readable(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) => wake_all(self.arrived()),
                Poll::Ready(Err(error)) => {
                    self.stopped.store(true, Ordering::Release);
                    return Err(error);
                }
            }
        }
    }

    /// Notes what has come, and takes the wakers of those that wait for it.
    fn arrived(&self) -> Vec<Waker> {
        let mut events = [MaybeUninit::<Event>::uninit(); EVENTS];
        // If it is interrupted, the set is still readable.
        let Ok((events, _)) = epoll::wait(&self.set, &mut events, Some(&Timespec::default()))
        else {
            return Vec::new();
        };
        let sources = lock(&self.sources);
        let mut wakers = Vec::with_capacity(events.len());
        for event in events {
            let Event { flags, data, .. } = *event;
            // The event may belong to a socket whose place another has taken. That one's read then
            // finds nothing, and clears the flag.
            let Some(source) = sources.get(data.u64() as usize) else { continue };
            let mut state = lock(&source.0);
            state.readable = true;
            state.ended |= flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            wakers.extend(state.waker.take());
        }
        wakers
    }

    /// Everybody looks at its socket, and learns that the reactor failed.
    fn all(&self) -> Vec<Waker> {
        let sources = lock(&self.sources);
        sources.iter().filter_map(|(_, source)| lock(&source.0).waker.take()).collect()
    }
}

/// What the reactor wakes when the set is readable.
struct Turn;

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        if let Some(sockets) = SOCKETS.get() {
            if let Err(error) = sockets.turn() {
                tracing::error!(%error, "the reactor can't watch sockets");
                wake_all(sockets.all());
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while a lock is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
