//! The state of one client's connection: its ends, its active requests, its last write.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::Duration,
};

use fcgi_engine::socket::{HangUp, hang_up};
use fcgi_tokio::http::ParamsBuilder;
use http::{Method, StatusCode};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::{raw_head::RawHead, refusal, sendfile::Sending, stream::Stream};

/// How long a client that sends nothing more may wait for the application. Over TCP, one that has
/// left looks the same until something is written. A unix socket is looked at this often.
const HALF_CLOSED: Duration = Duration::from_millis(500);

/// The two ends of a client's connection; `None` for a unix socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) remote: Option<SocketAddr>,
    pub(super) local: Option<SocketAddr>,
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.remote {
            Some(remote) => remote.fmt(f),
            None => f.write_str("at a unix socket"),
        }
    }
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) ends: Ends,
    pub(super) stream: Stream,
    /// The parts of files to send next.
    pub(super) sending: Sending,
    /// An answer was truncated in a way that only a reset can show.
    reset: AtomicBool,
    state: Mutex<State>,
    changed: Notify,
    /// The parameters for the application about the connection; made when they are needed.
    told: OnceLock<Arc<ParamsBuilder>>,
}

#[derive(Debug)]
struct State {
    /// Requests whose answers are neither aborted nor handed over for sending. Files are handed
    /// over when the socket has them.
    under_way: usize,
    /// When the last of them ended, or the connection started.
    idle_since: Instant,
    /// Whether all answers so far have been written.
    is_clean: bool,
    /// The head of the next request, as far as it has come.
    head: RawHead,
    /// The application was asked for the last answer.
    asks: bool,
    /// When the client ended its sending side.
    ended: Option<Instant>,
    /// The task to wake when all answers have been written.
    written_whole: Option<Waker>,
    /// hyper has refused what the client sent.
    refused: Option<StatusCode>,
    /// When the client last read something.
    written: Instant,
    /// Whether bytes wait for the client to read them.
    blocked: bool,
    /// Whether they have waited since everything was written.
    is_behind: bool,
    /// When such bytes were last written.
    caught_up: Instant,
    /// How often everything was written.
    flushes: u64,
    /// The tasks to wake the next time.
    flush: Vec<Waker>,
}

/// What to do about the end of what a client sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The client has left, or waits for nothing.
    Report,
    /// The client may wait for an answer: look again at this time, if there is one, or when all
    /// answers have been written.
    Hold(Option<Instant>),
}

/// An active request. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Client>);

impl Client {
    pub(super) fn new(stream: Stream, ends: Ends) -> Self {
        let now = Instant::now();
        let state = State {
            under_way: 0,
            idle_since: now,
            is_clean: true,
            head: RawHead::default(),
            asks: false,
            ended: None,
            written_whole: None,
            refused: None,
            written: now,
            blocked: false,
            is_behind: false,
            caught_up: now,
            flushes: 0,
            flush: Vec::new(),
        };
        Self {
            ends,
            stream,
            sending: Sending::default(),
            reset: AtomicBool::new(false),
            state: Mutex::new(state),
            changed: Notify::new(),
            told: OnceLock::new(),
        }
    }

    /// The parameters for the application in each request of the connection. `make` creates them
    /// the first time.
    pub(super) fn told(&self, make: impl FnOnce() -> ParamsBuilder) -> Arc<ParamsBuilder> {
        Arc::clone(self.told.get_or_init(|| Arc::new(make())))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        let mut state = self.lock();
        state.under_way += 1;
        state.is_clean = false;
        state.asks = false;
        state.head.clear();
        drop(state);
        UnderWay(Arc::clone(self))
    }

    /// Ends when no request has been active, and no answer has waited for the client to read it,
    /// for this long.
    pub(super) async fn idle_for(&self, limit: Duration) {
        // HTTP/2's own pings don't count.
        self.quiet(limit, |state| state.idle_since.max(state.caught_up)).await;
    }

    /// Ends when no request has been active, and nothing was written, for this long.
    pub(super) async fn silent_for(&self, limit: Duration) {
        self.quiet(limit, |state| state.idle_since.max(state.written)).await;
    }

    async fn quiet(&self, limit: Duration, since: impl Fn(&State) -> Instant) {
        loop {
            let changed = self.changed.notified();
            let since = {
                let state = self.lock();
                // The socket limits how long a client may read nothing.
                (state.under_way == 0 && !state.is_behind).then(|| since(&state))
            };
            match since.map(|since| limit.saturating_sub(since.elapsed())) {
                Some(Duration::ZERO) => return,
                Some(left) => sleep(left).await,
                None => changed.await,
            }
        }
    }

    /// Records what the client has sent.
    pub(super) fn on_read(&self, bytes: &[u8]) {
        self.lock().head.push(bytes);
    }

    /// Records that the application is asked, which may take any time. If the end of what the client
    /// sends has come before, it now has a limit, so the task that holds it looks again.
    pub(super) fn on_ask(&self) {
        let mut state = self.lock();
        state.asks = true;
        let holds_end = state.written_whole.take();
        drop(state);
        if let Some(waker) = holds_end {
            waker.wake();
        }
    }

    /// What to do about the end of what the client sends. Answers to whole requests are still sent,
    /// as with `nc -N`; hyper would drop them.
    pub(super) fn end(&self, waker: &Waker) -> End {
        let hang_up = hang_up(&self.stream);
        if hang_up == HangUp::Gone {
            return End::Report;
        }
        let is_known = matches!(self.stream, Stream::Unix(_)) && hang_up == HangUp::EndOfFile;
        let mut state = self.lock();
        let now = Instant::now();
        let ended = *state.ended.get_or_insert(now);
        let waits = match state.is_clean {
            true => state.head.is_complete(),
            false => !state.head.is_within_body(),
        };
        if !waits || state.head.is_http_2() {
            return End::Report;
        }
        let until = state.asks.then(|| {
            // The socket limits how long a client may read nothing.
            let waits = state.blocked || is_known;
            let last = if waits { now } else { ended.max(state.written) };
            last + HALF_CLOSED
        });
        if until.is_some_and(|until| until <= now) {
            return End::Report;
        }
        state.written_whole = Some(waker.clone());
        End::Hold(until)
    }

    /// Whether the head of the request that has arrived, with this method and this many other
    /// fields, has a field of this name. `None` if that is not the head that is known here.
    pub(super) fn has_field(&self, name: &[u8], method: &Method, others: usize) -> Option<bool> {
        self.lock().head.has_field(name, method.as_str().as_bytes(), others)
    }

    /// Records whether the socket takes more.
    pub(super) fn on_write(&self, blocked: bool) {
        let mut state = self.lock();
        state.blocked = blocked;
        state.is_behind |= blocked;
        if !blocked {
            state.written = Instant::now();
        }
    }

    /// Sends bytes outside of the HTTP connection, for at most `limit`.
    pub(super) async fn send(&self, mut bytes: &[u8], limit: Duration) {
        let sending = async {
            while !bytes.is_empty() && self.stream.writable().await.is_ok() {
                match self.stream.try_write(bytes) {
                    Ok(n) => bytes = &bytes[n..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // The client has gone.
                    Err(_) => return,
                }
            }
        };
        let _ = timeout(limit, sending).await;
    }

    /// Whether these bytes can't belong to an answer; also records them if they are a refusal by
    /// hyper.
    pub(super) fn is_refusal(&self, bytes: &[u8]) -> bool {
        let mut state = self.lock();
        if state.is_clean {
            state.refused = refusal::own_answer(bytes);
        }
        state.refused.is_some()
    }

    /// The status with which hyper has refused the client's request.
    pub(super) fn refused(&self) -> Option<StatusCode> {
        self.lock().refused
    }

    /// What hyper's refusal leaves open, and the reason.
    pub(super) fn refused_in_particular(&self, max_body: u64) -> Option<(StatusCode, String)> {
        let state = self.lock();
        refusal::in_particular(state.refused?, &state.head, max_body)
    }

    /// Records that everything was written.
    pub(super) fn on_flush(&self) {
        let mut state = self.lock();
        state.flushes += 1;
        state.is_clean |= state.under_way == 0;
        let is_whole = if state.is_clean { state.written_whole.take() } else { None };
        let has_caught_up = std::mem::take(&mut state.is_behind);
        if has_caught_up {
            state.caught_up = Instant::now();
        }
        let wakers = std::mem::take(&mut state.flush);
        drop(state);
        if has_caught_up {
            self.changed.notify_waiters();
        }
        wakers.into_iter().chain(is_whole).for_each(Waker::wake);
    }

    /// How often everything was written. Wakes the task the next time.
    pub(super) fn flushes(&self, waker: &Waker) -> u64 {
        let mut state = self.lock();
        state.wake_at_flush(waker);
        state.flushes
    }

    /// Whether bytes wait for the client to read them. Wakes the task when everything is written.
    pub(super) fn is_blocked(&self, waker: &Waker) -> bool {
        let mut state = self.lock();
        state.wake_at_flush(waker);
        state.blocked
    }

    /// Makes the connection end with a reset: HTTP/1.0 has no other sign of a truncated answer.
    pub(super) fn must_reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_to_be_reset(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }
}

impl UnderWay {
    pub(super) fn client(&self) -> &Arc<Client> {
        &self.0
    }
}

impl State {
    fn wake_at_flush(&mut self, waker: &Waker) {
        if !self.flush.iter().any(|known| known.will_wake(waker)) {
            self.flush.push(waker.clone());
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.under_way -= 1;
        if state.under_way == 0 {
            state.idle_since = Instant::now();
            let is_whole = state.written_whole.take();
            drop(state);
            self.0.changed.notify_waiters();
            if let Some(waker) = is_whole {
                waker.wake();
            }
        }
    }
}
