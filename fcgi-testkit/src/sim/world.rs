//! The executor, the clock and the addresses of one run.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, VecDeque},
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use fcgi_engine::{Address, socket::Peer};

use super::Pipe;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A timer's place among the others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct TimerId(Instant, u64);

struct World {
    random: u64,
    start: Instant,
    now: Instant,
    /// By number. A task that is being polled is not in it.
    tasks: HashMap<u64, Task>,
    ready: Arc<Mutex<Vec<u64>>>,
    numbers: u64,
    timers: BTreeMap<TimerId, Waker>,
    listeners: HashMap<Address, Arc<Mutex<Queue>>>,
    connections: HashMap<Address, usize>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

fn with<T>(f: impl FnOnce(&mut World) -> T) -> Option<T> {
    WORLD.with_borrow_mut(|world| world.as_mut().map(f))
}

/// The number of the future that [`run`] got.
const MAIN: u64 = 0;

/// Longer than any test takes on its own clock.
const FOREVER: Duration = Duration::from_secs(7 * 24 * 3600);

/// Marks a task as ready.
struct TaskWaker {
    number: u64,
    ready: Arc<Mutex<Vec<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if !ready.contains(&self.number) {
            ready.push(self.number);
        }
    }
}

/// Runs a future to its end, with the tasks that it spawned until then.
///
/// # Panics
/// If nothing can happen any more and the future is not ready; inside another run; as the future
/// or a task does.
pub fn run<F: Future>(seed: u64, future: F) -> F::Output {
    let ready = Arc::new(Mutex::new(vec![MAIN]));
    let start = Instant::now();
    let world = World {
        random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        start,
        now: start,
        tasks: HashMap::new(),
        ready: Arc::clone(&ready),
        numbers: MAIN,
        timers: BTreeMap::new(),
        listeners: HashMap::new(),
        connections: HashMap::new(),
    };
    let before = WORLD.replace(Some(world));
    assert!(before.is_none(), "a run inside a run");
    let output = catch_unwind(AssertUnwindSafe(|| drive(&ready, future)));
    // What the tasks drop may still use the world.
    while let Some(task) = with(|world| {
        let number = world.tasks.keys().next().copied();
        number.and_then(|number| world.tasks.remove(&number))
    })
    .flatten()
    {
        drop(task);
    }
    drop(WORLD.take());
    output.unwrap_or_else(|panic| resume_unwind(panic))
}

fn drive<F: Future>(ready: &Arc<Mutex<Vec<u64>>>, future: F) -> F::Output {
    let mut main = pin!(future);
    loop {
        let next = {
            let mut ready = ready.lock().unwrap_or_else(PoisonError::into_inner);
            (!ready.is_empty()).then(|| {
                let chosen = (random() % ready.len() as u64) as usize;
                ready.swap_remove(chosen)
            })
        };
        let Some(number) = next else {
            assert!(advance(), "nothing can happen any more: a wake-up was lost, or a peer hangs");
            assert!(elapsed() < FOREVER, "something is waited for in vain, again and again");
            continue;
        };
        let waker = Waker::from(Arc::new(TaskWaker { number, ready: Arc::clone(ready) }));
        let mut cx = Context::from_waker(&waker);
        if number == MAIN {
            if let Poll::Ready(output) = main.as_mut().poll(&mut cx) {
                return output;
            }
            continue;
        }
        let Some(mut task) = with(|world| world.tasks.remove(&number)).flatten() else { continue };
        if task.as_mut().poll(&mut cx).is_pending() {
            with(|world| world.tasks.insert(number, task));
        }
    }
}

/// Jumps to the next timer; false if there is none.
fn advance() -> bool {
    let waker = with(|world| {
        let (TimerId(at, _), waker) = world.timers.pop_first()?;
        world.now = world.now.max(at);
        Some(waker)
    });
    waker.flatten().map(Waker::wake).is_some()
}

fn random() -> u64 {
    with(|world| {
        world.random ^= world.random << 13;
        world.random ^= world.random >> 7;
        world.random ^= world.random << 17;
        world.random
    })
    .unwrap_or_default()
}

/// Some of this many bytes, at least one and often all.
pub(super) fn cut(len: usize) -> usize {
    match random() % 4 {
        0 if len > 0 => 1 + (random() % len as u64) as usize,
        _ => len,
    }
}

pub(super) fn now() -> Instant {
    with(|world| world.now).unwrap_or_else(Instant::now)
}

pub(super) fn elapsed() -> Duration {
    with(|world| world.now - world.start).unwrap_or_default()
}

pub(super) fn spawn(task: Task) {
    with(|world| {
        world.numbers += 1;
        let number = world.numbers;
        world.tasks.insert(number, task);
        world.ready.lock().unwrap_or_else(PoisonError::into_inner).push(number);
    });
}

pub(super) fn set_timer(at: Instant, waker: Waker) -> TimerId {
    with(|world| {
        world.numbers += 1;
        let id = TimerId(at, world.numbers);
        world.timers.insert(id, waker);
        id
    })
    .unwrap_or(TimerId(at, 0))
}

pub(super) fn clear_timer(id: TimerId) {
    with(|world| world.timers.remove(&id));
}

/// Connections that wait to be accepted.
#[derive(Debug, Default)]
struct Queue {
    pipes: VecDeque<Pipe>,
    acceptor: Option<Waker>,
}

/// A listening address. Dropping it refuses further connections.
#[derive(Debug)]
pub struct Backlog {
    address: Address,
    queue: Arc<Mutex<Queue>>,
}

impl Backlog {
    pub(super) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Pipe> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match queue.pipes.pop_front() {
            Some(pipe) => Poll::Ready(pipe),
            None => {
                queue.acceptor = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Where its connections come from, as far as the address says it.
    pub(super) fn peer(&self) -> Peer {
        match self.address.to_string().starts_with("tcp:") {
            true => Peer::Tcp(([127, 0, 0, 1], 1).into()),
            false => Peer::Unix,
        }
    }

    /// The next connection.
    pub async fn accept(&mut self) -> Pipe {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// How many connections were not accepted yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pipes.len()
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        with(|world| world.listeners.remove(&self.address));
    }
}

pub(super) fn listen(address: &Address) -> Backlog {
    let queue = Arc::default();
    let before = with(|world| world.listeners.insert(address.clone(), Arc::clone(&queue)));
    assert!(matches!(before, Some(None)), "{address}: in use, or not inside a run");
    Backlog { address: address.clone(), queue }
}

pub(super) fn connections(address: &Address) -> usize {
    with(|world| world.connections.get(address).copied()).flatten().unwrap_or_default()
}

pub(super) async fn connect(address: &Address) -> io::Result<Pipe> {
    // As with a socket, others go on meanwhile.
    super::pass().await;
    let queue = with(|world| world.listeners.get(address).cloned()).flatten();
    let Some(queue) = queue else { return Err(io::ErrorKind::ConnectionRefused.into()) };
    with(|world| *world.connections.entry(address.clone()).or_default() += 1);
    let (ours, theirs) = Pipe::pair();
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    queue.pipes.push_back(theirs);
    if let Some(acceptor) = queue.acceptor.take() {
        acceptor.wake();
    }
    Ok(ours)
}
