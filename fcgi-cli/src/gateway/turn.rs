//! Whose turn it is to write.
//!
//! A write wakes the process at the other end. If that sleeps on another processor, the kernel has
//! to call that processor, which can take longer than all else that a small request needs. So where
//! one thread has all connections, those that have come to a write first let the others read what
//! has come, as long as more of them come to a write. Then they write one after the other: clients
//! first, since their processes are then at work while the applications' are woken. One call serves
//! several writes.

use std::{
    cell::RefCell,
    future::poll_fn,
    task::{Context, Poll, Waker},
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::yield_now,
};

/// A turn of fewer tasks saves less than the wait for it costs.
const FEW: usize = 5;
/// How many writes go out at once after such a turn.
const AT_ONCE: u32 = 16;
/// A turn of so many tasks does not wait for more.
const MANY: usize = 64;
/// How often the tasks of a turn wait for more, at most.
const LOOKS: u32 = 4;

/// To whom something is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Peer {
    Client,
    Application,
}

thread_local! {
    static QUEUE: RefCell<Queue> = RefCell::new(Queue::new());
}

/// The tasks of this thread that have come to a write.
struct Queue {
    /// Whether all connections have this thread.
    is_single: bool,
    clients: Vec<Waker>,
    applications: Vec<Waker>,
    /// How many of the next writes do not wait, since few would share a turn.
    at_once: u32,
}

impl Queue {
    fn new() -> Self {
        let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
        Self {
            is_single: matches!(flavor, Ok(RuntimeFlavor::CurrentThread)),
            clients: Vec::new(),
            applications: Vec::new(),
            at_once: 0,
        }
    }

    /// Whether a task that has come to a write must wait.
    fn waits(&mut self) -> bool {
        let at_once = !self.is_single || self.at_once > 0;
        self.at_once = self.at_once.saturating_sub(1);
        !at_once
    }

    fn len(&self) -> usize {
        self.clients.len() + self.applications.len()
    }

    /// Takes the task in. Returns whether it is the first one of a turn.
    fn push(&mut self, peer: Peer, cx: &Context<'_>) -> bool {
        match peer {
            Peer::Client => self.clients.push(cx.waker().clone()),
            Peer::Application => self.applications.push(cx.waker().clone()),
        }
        self.len() == 1
    }
}

/// Lets the tasks of a turn write when no more of them come.
async fn call() {
    let len = || QUEUE.with_borrow(Queue::len);
    for _ in 0..LOOKS {
        let before = len();
        // The runtime looks for what has come, and the others read it.
        yield_now().await;
        if before == len() || len() >= MANY {
            break;
        }
    }
    // No borrow is held while tasks are woken.
    let (mut clients, mut applications) = QUEUE.with_borrow_mut(|queue| {
        if queue.len() < FEW {
            queue.at_once = AT_ONCE;
        }
        (std::mem::take(&mut queue.clients), std::mem::take(&mut queue.applications))
    });
    clients.drain(..).chain(applications.drain(..)).for_each(Waker::wake);
    QUEUE.with_borrow_mut(|queue| {
        if queue.len() == 0 {
            (queue.clients, queue.applications) = (clients, applications);
        }
    });
}

/// Ready if the task may write at once; otherwise it is woken soon, and then writes without asking
/// again.
pub(super) fn poll(peer: Peer, cx: &mut Context<'_>) -> Poll<()> {
    let waits = QUEUE.with_borrow_mut(|queue| queue.waits().then(|| queue.push(peer, cx)));
    match waits {
        None => Poll::Ready(()),
        Some(is_first) => {
            if is_first {
                tokio::spawn(call());
            }
            Poll::Pending
        }
    }
}

/// Waits for the turn to write.
pub(super) async fn wait(peer: Peer) {
    let mut has_asked = false;
    poll_fn(|cx| match std::mem::replace(&mut has_asked, true) {
        false => poll(peer, cx),
        true => Poll::Ready(()),
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::{Arc, Mutex},
        task::Poll,
    };

    use super::{AT_ONCE, Peer, poll, wait};

    /// Whether a write would have to wait.
    async fn waits() -> bool {
        poll_fn(|cx| Poll::Ready(poll(Peer::Client, cx).is_pending())).await
    }

    #[tokio::test]
    async fn clients_come_first_and_nobody_is_forgotten() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let both = [Peer::Application, Peer::Client].into_iter().cycle().take(64);
        let tasks: Vec<_> = both
            .map(|peer| {
                let order = Arc::clone(&order);
                tokio::spawn(async move {
                    for _ in 0..3 {
                        wait(peer).await;
                        order.lock().unwrap().push(peer);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let order = order.lock().unwrap();
        assert_eq!(order.len(), 64 * 3);
        let first = order.iter().position(|peer| *peer == Peer::Application);
        assert!(first.is_some_and(|at| at >= 16), "{first:?}");
    }

    #[tokio::test]
    async fn few_rarely_wait() {
        wait(Peer::Client).await;
        for _ in 0..AT_ONCE {
            assert!(!waits().await);
        }
        assert!(waits().await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn several_threads_never_wait() {
        tokio::spawn(async { assert!(!waits().await) }).await.unwrap();
    }
}
