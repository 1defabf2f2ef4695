//! The load: callers that send one request after the other, at once or at a rate.

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

use super::shot::{Failure, Template};

/// Histograms that callers share, so that they seldom wait for each other.
const SHARDS: usize = 8;
/// Digits of a latency that are kept.
const DIGITS: u8 = 3;
/// The runtime's timer is this late by itself.
const TIMER: Duration = Duration::from_millis(2);
/// Kinds of failures that are told apart.
const KINDS: usize = 20;

/// How much, and how.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) address: Address,
    pub(super) template: Template,
    pub(super) connections: usize,
    /// Requests at once on each connection.
    pub(super) multiplex: usize,
    pub(super) requests: Option<u64>,
    pub(super) time: Option<Duration>,
    /// Requests a second, of all callers together; `None` is as fast as they can.
    pub(super) rate: Option<f64>,
    /// For one request.
    pub(super) timeout: Duration,
}

/// What was measured.
#[derive(Debug)]
pub(super) struct Outcome {
    /// In microseconds, of the requests that succeeded.
    pub(super) latencies: Histogram<u64>,
    pub(super) bytes: u64,
    pub(super) failures: BTreeMap<Failure, u64>,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) took: Duration,
    /// Requests that were due at the rate and not sent, since no caller was free.
    pub(super) unsent: u64,
}

#[derive(Debug)]
struct Shard {
    latencies: Histogram<u64>,
    bytes: u64,
    failures: BTreeMap<Failure, u64>,
    statuses: BTreeMap<u16, u64>,
}

/// A load that runs.
#[derive(Debug)]
pub(super) struct Load {
    plan: Plan,
    started: Instant,
    /// Requests that have been taken up.
    taken: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    is_stopped: AtomicBool,
    shards: Vec<Mutex<Shard>>,
}

impl Load {
    pub(super) fn new(plan: Plan) -> Arc<Self> {
        let shard = || Shard {
            // The number of digits is one that it takes.
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

    /// Requests that have ended, and those of them that failed.
    pub(super) fn counts(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.done), count(&self.failed))
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How much of it is done, from 0 to 1.
    pub(super) fn share(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a share, for people")]
        let by_number =
            self.plan.requests.map_or(0.0, |all| self.counts().0 as f64 / all.max(1) as f64);
        let by_time = self.plan.time.map_or(0.0, |all| {
            self.elapsed().as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE)
        });
        by_number.max(by_time).min(1.0)
    }

    /// Begins no more requests; those under way end.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Runs until all is done. Requests under way at the end are waited for.
    pub(super) async fn run(self: &Arc<Self>) -> Result<Outcome, fcgi::Error> {
        let Plan { connections, multiplex, .. } = self.plan;
        let shared = (multiplex > 1).then(|| self.pool(connections)).transpose()?;
        let mut callers = JoinSet::new();
        for n in 0..connections * multiplex {
            // One connection each, which nobody waits for; or all of them share some.
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

    /// One caller: the next request follows when the last one has ended, or when it is due.
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
                    // It grows as it needs to.
                    let _ = shard.latencies.record(micros.max(1));
                    shard.bytes += ended.bytes;
                    if let Some(status) = ended.status {
                        *shard.statuses.entry(status).or_default() += 1;
                    }
                }
                Err(failure) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    count(&mut shard.failures, failure, 1);
                }
            }
            drop(shard);
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes up a request; when it is due, at a rate. `None`: there are no more.
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

    /// Waits until a request is due; from when on its latency counts. That is when it was due, even
    /// if no caller was free then: a slow answer must not hide the wait of those behind it, which is
    /// called coordinated omission. `None`: it is over.
    async fn wait_for(&self, due: Instant) -> Option<Instant> {
        if Instant::now() < due {
            tokio::time::sleep_until(due.into()).await;
            if self.is_stopped.load(Ordering::Relaxed) {
                return None;
            }
            // A timer that is late is not the application's fault.
            let now = Instant::now();
            return Some(if now < due + TIMER { now } else { due });
        }
        // A load that can't keep up with its rate ends all the same.
        self.plan.time.is_none_or(|time| self.elapsed() < time).then_some(due)
    }

    /// What was measured so far.
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
            // Both grow as they need to.
            let _ = outcome.latencies.add(&shard.latencies);
            outcome.bytes += shard.bytes;
            for (failure, n) in &shard.failures {
                count(&mut outcome.failures, failure.clone(), *n);
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

/// Counts a failure; those of too many kinds as one.
fn count(failures: &mut BTreeMap<Failure, u64>, failure: Failure, n: u64) {
    let key = if failures.len() < KINDS || failures.contains_key(&failure) {
        failure
    } else {
        Failure { exit: failure.exit, text: "other failures".to_owned() }
    };
    *failures.entry(key).or_default() += n;
}
