//! The load: callers that send one request after the other, as fast as possible or at a rate.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fcgi_tokio::{self as fcgi, Address, client::Connector};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::shot::{Failed, Failure, Template};

/// The number of histograms that callers share. With several they seldom wait for each other.
const SHARDS: usize = 8;
/// How many digits of a latency are kept.
const DIGITS: u8 = 3;
/// How late the runtime's timer is by itself.
const TIMER: Duration = Duration::from_millis(2);
/// How many kinds of failures are distinguished.
const KINDS: usize = 20;

/// How much load, and of which kind.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) address: Address,
    pub(super) template: Template,
    pub(super) connections: usize,
    /// Concurrent requests on each connection.
    pub(super) multiplex: usize,
    pub(super) requests: Option<u64>,
    pub(super) time: Option<Duration>,
    /// Requests per second of all callers together; `None` means as fast as possible.
    pub(super) rate: Option<f64>,
    /// The limit of one request.
    pub(super) timeout: Duration,
}

/// How often requests failed in some way.
#[derive(Clone, Default, Debug)]
pub(super) struct Times {
    pub(super) n: u64,
    /// The library's error of one of them.
    pub(super) error: Option<Arc<fcgi::Error>>,
}

pub(super) type Failures = BTreeMap<Failure, Times>;

/// What was measured.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Of successful requests, in microseconds.
    pub(super) latencies: Histogram<u64>,
    pub(super) bytes: u64,
    pub(super) failures: Failures,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) took: Duration,
    /// Requests that were due at the rate but not sent, since no caller was free.
    pub(super) unsent: u64,
}

#[derive(Debug)]
struct Shard {
    latencies: Histogram<u64>,
    bytes: u64,
    failures: Failures,
    statuses: BTreeMap<u16, u64>,
}

/// A running load.
#[derive(Debug)]
pub(super) struct Load {
    plan: Plan,
    started: Instant,
    /// Requests that callers have taken.
    taken: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    is_stopped: AtomicBool,
    shards: Vec<Mutex<Shard>>,
}

impl Load {
    pub(super) fn new(plan: Plan) -> Arc<Self> {
        let shard = || Shard {
            // Can't fail: the number of digits is valid.
            latencies: Histogram::new(DIGITS).expect("0 to 5 digits"),
            bytes: 0,
            failures: BTreeMap::new(),
            statuses: BTreeMap::new(),
        };
        Arc::new(Self {
            plan,
            started: Instant::now(),
            taken: AtomicU64::new(0),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            is_stopped: AtomicBool::new(false),
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
        })
    }

    /// The number of requests that have ended, and of those that failed.
    pub(super) fn counts(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.done), count(&self.failed))
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How much of the load is done, from 0 to 1.
    pub(super) fn share(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a share, for people")]
        let by_number =
            self.plan.requests.map_or(0.0, |all| self.counts().0 as f64 / all.max(1) as f64);
        let by_time = self.plan.time.map_or(0.0, |all| {
            self.elapsed().as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE)
        });
        by_number.max(by_time).min(1.0)
    }

    /// Starts no more requests; active ones end.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Runs until all is done, including the requests that are active at the end.
    pub(super) async fn run(self: &Arc<Self>) -> Result<Outcome, fcgi::Error> {
        let Plan { connections, multiplex, .. } = self.plan;
        let shared = (multiplex > 1).then(|| self.pool(connections)).transpose()?;
        let mut callers = JoinSet::new();
        for n in 0..connections * multiplex {
            // Each caller has its own connection and never waits for one; or all share some.
            let pool = match &shared {
                Some(pool) => pool.clone(),
                None => self.pool(1)?,
            };
            let load = Arc::clone(self);
            callers.spawn(async move { load.call(&pool, &load.shards[n % SHARDS]).await });
        }
        while callers.join_next().await.is_some() {}
        Ok(self.outcome())
    }

    fn pool(&self, connections: usize) -> Result<fcgi::Pool, fcgi::Error> {
        let limit = Some(self.plan.timeout);
        let connector = Connector::new()
            .connect_timeout(limit)
            .first_byte_timeout(limit)
            .next_byte_timeout(limit)
            .total_timeout(limit);
        fcgi::Pool::builder(&self.plan.address)
            .connector(connector)
            .max_connections(connections)
            .max_idle(connections)
            .max_age(None)
            .max_waiting(usize::MAX)
            .wait_timeout(limit)
            .keep_conn(self.plan.template.keep)
            .multiplex(self.plan.multiplex)
            .build()
    }

    /// One caller: sends the next request when the last one has ended, or when it is due.
    async fn call(&self, pool: &fcgi::Pool, shard: &Mutex<Shard>) {
        while let Some(due) = self.next() {
            let began = match due {
                Some(due) => self.wait_for(due).await,
                None => Some(Instant::now()),
            };
            let Some(began) = began else { return };
            let ended = self.plan.template.send(pool).await;
            let latency = began.elapsed();
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            match ended {
                Ok(ended) => {
                    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                    // Can't fail: the histogram grows as needed.
                    let _ = shard.latencies.record(micros.max(1));
                    shard.bytes += ended.bytes;
                    if let Some(status) = ended.status {
                        *shard.statuses.entry(status).or_default() += 1;
                    }
                }
                Err(Failed { failure, error }) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    let times = Times { n: 1, error: error.map(Arc::new) };
                    count(&mut shard.failures, failure, times);
                }
            }
            drop(shard);
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a request, with the time when it is due if there is a rate. `None` if there are no
    /// more.
    fn next(&self) -> Option<Option<Instant>> {
        if self.is_stopped.load(Ordering::Relaxed) {
            return None;
        }
        if self.plan.rate.is_none() && self.plan.time.is_some_and(|time| self.elapsed() >= time) {
            return None;
        }
        let n = self.taken.fetch_add(1, Ordering::Relaxed);
        if self.plan.requests.is_some_and(|requests| n >= requests) {
            return None;
        }
        let Some(rate) = self.plan.rate else { return Some(None) };
        #[expect(clippy::cast_precision_loss, reason = "a time from now, in seconds")]
        let due = Duration::try_from_secs_f64(n as f64 / rate).ok()?;
        if self.plan.time.is_some_and(|time| due >= time) {
            return None;
        }
        Some(Some(self.started.checked_add(due)?))
    }

    /// Waits until a request is due; returns from when its latency counts. That is when it was due,
    /// even if no caller was free then: a slow answer must not hide the wait of those behind it,
    /// which is called coordinated omission. `None` if the run is over.
    async fn wait_for(&self, due: Instant) -> Option<Instant> {
        if Instant::now() < due {
            tokio::time::sleep_until(due.into()).await;
            if self.is_stopped.load(Ordering::Relaxed) {
                return None;
            }
            // A late timer is not the application's fault.
            let now = Instant::now();
            return Some(if now < due + TIMER { now } else { due });
        }
        // The run ends in time even if the load can't keep up with its rate.
        self.plan.time.is_none_or(|time| self.elapsed() < time).then_some(due)
    }

    /// The results so far.
    pub(super) fn outcome(&self) -> Outcome {
        let took = self.elapsed();
        let mut outcome = Outcome {
            latencies: Histogram::new(DIGITS).expect("0 to 5 digits"),
            bytes: 0,
            failures: BTreeMap::new(),
            statuses: BTreeMap::new(),
            took,
            unsent: 0,
        };
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            // Can't fail: both grow as needed.
            let _ = outcome.latencies.add(&shard.latencies);
            outcome.bytes += shard.bytes;
            for (failure, times) in &shard.failures {
                count(&mut outcome.failures, failure.clone(), times.clone());
            }
            for (status, n) in &shard.statuses {
                *outcome.statuses.entry(*status).or_default() += n;
            }
        }
        if let (Some(rate), Some(time), false) =
            (self.plan.rate, self.plan.time, self.is_stopped.load(Ordering::Relaxed))
        {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a number of requests"
            )]
            let due = (rate * time.as_secs_f64()).ceil() as u64;
            let due = self.plan.requests.map_or(due, |requests| due.min(requests));
            outcome.unsent = due.saturating_sub(self.counts().0);
        }
        outcome
    }
}

/// Counts a failure. Past the limit, further kinds are counted as one.
fn count(failures: &mut Failures, failure: Failure, times: Times) {
    let key = if failures.len() < KINDS || failures.contains_key(&failure) {
        failure
    } else {
        Failure { exit: failure.exit, text: "other failures".to_owned() }
    };
    let all = failures.entry(key).or_default();
    all.n += times.n;
    all.error = all.error.take().or(times.error);
}
