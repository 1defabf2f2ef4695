//! The gateway's counters, in Prometheus' format.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::sink::{ACCESS, ERRORS};

/// The upper bounds of the buckets of request times, in milliseconds.
const BUCKETS: [u64; 12] = [1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 60_000];
/// The number of statuses, from 100 on: all that have three digits.
const STATUSES: usize = 900;

pub(super) static METER: Meter = Meter::new();

/// The counters that all requests add to.
#[derive(Debug)]
pub(super) struct Meter {
    by_status: [AtomicU64; STATUSES],
    bytes: AtomicU64,
    under_way: AtomicU64,
    connections: AtomicU64,
    /// The last one has no upper bound.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    microseconds: AtomicU64,
}

/// What is measured of an application when somebody asks for the metrics.
#[derive(Debug, Default)]
pub(super) struct Application {
    /// Which of the addresses on the command line this is, from 1 on. Whoever reads the metrics
    /// need not learn where the application is.
    pub(super) number: usize,
    pub(super) up: bool,
    pub(super) open: usize,
    pub(super) busy: usize,
    pub(super) waiting: usize,
    /// How many connections it has not accepted yet, and how many there may be, if the kernel
    /// tells.
    pub(super) queue: Option<(u32, u32)>,
}

/// A number of an application, if there is one.
type Gauge = fn(&Application) -> Option<u64>;

impl Meter {
    const fn new() -> Self {
        Self {
            by_status: [const { AtomicU64::new(0) }; STATUSES],
            bytes: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS.len() + 1],
            microseconds: AtomicU64::new(0),
        }
    }

    pub(super) fn begin(&self) {
        self.under_way.fetch_add(1, Relaxed);
    }

    pub(super) fn end(&self, status: u16, bytes: u64, took: Duration) {
        self.under_way.fetch_sub(1, Relaxed);
        if let Some(count) =
            usize::from(status).checked_sub(100).and_then(|at| self.by_status.get(at))
        {
            count.fetch_add(1, Relaxed);
        }
        self.bytes.fetch_add(bytes, Relaxed);
        let microseconds = took.as_secs() * 1_000_000 + u64::from(took.subsec_micros());
        let milliseconds = microseconds.div_ceil(1000);
        let at = BUCKETS.iter().position(|end| milliseconds <= *end);
        self.buckets[at.unwrap_or(BUCKETS.len())].fetch_add(1, Relaxed);
        self.microseconds.fetch_add(microseconds, Relaxed);
    }

    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(super) fn disconnected(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// All metrics in Prometheus' text format.
    pub(super) fn to_text(&self, applications: &[Application]) -> String {
        let mut out = String::new();
        family(&mut out, "requests_total", "counter", "Requests that were answered, by status");
        for (at, count) in self.by_status.iter().enumerate() {
            let count = count.load(Relaxed);
            if count > 0 {
                sample(&mut out, "requests_total", &format!("{{status=\"{}\"}}", at + 100), count);
            }
        }
        family(
            &mut out,
            "request_seconds",
            "histogram",
            "From a request's head to its answer's end",
        );
        let mut below = 0;
        for (end, count) in BUCKETS.iter().zip(&self.buckets) {
            below += count.load(Relaxed);
            let end = *end as f64 / 1000.0;
            sample(&mut out, "request_seconds_bucket", &format!("{{le=\"{end}\"}}"), below);
        }
        // From the buckets, so that none holds more than all of them.
        let all = below + self.buckets[BUCKETS.len()].load(Relaxed);
        sample(&mut out, "request_seconds_bucket", "{le=\"+Inf\"}", all);
        let seconds = self.microseconds.load(Relaxed) as f64 / 1e6;
        sample(&mut out, "request_seconds_sum", "", seconds);
        sample(&mut out, "request_seconds_count", "", all);
        let plain = [
            (
                "response_bytes_total",
                "counter",
                "Bytes of answers' bodies",
                self.bytes.load(Relaxed),
            ),
            (
                "requests_under_way",
                "gauge",
                "Requests that are being answered",
                self.under_way.load(Relaxed),
            ),
            (
                "client_connections",
                "gauge",
                "Connections of clients",
                self.connections.load(Relaxed),
            ),
        ];
        for (name, kind, help, value) in plain {
            family(&mut out, name, kind, help);
            sample(&mut out, name, "", value);
        }
        family(
            &mut out,
            "log_lines_dropped_total",
            "counter",
            "Lines of a log that could not be written, or that nobody read in time",
        );
        for (log, sink) in [("access", &ACCESS), ("error", &ERRORS)] {
            sample(&mut out, "log_lines_dropped_total", &format!("{{log=\"{log}\"}}"), sink.lost());
        }
        let gauges: [(&str, &str, Gauge); 6] = [
            ("up", "Whether the application was reached last", |it| Some(it.up.into())),
            ("connections", "Connections to the application", |it| Some(it.open as u64)),
            ("connections_busy", "Those with a request", |it| Some(it.busy as u64)),
            ("requests_waiting", "Requests that wait for a connection", |it| {
                Some(it.waiting as u64)
            }),
            ("queue", "Connections that the application has not accepted yet", |it| {
                it.queue.map(|(waiting, _)| waiting.into())
            }),
            ("queue_limit", "How many there may be", |it| it.queue.map(|(_, limit)| limit.into())),
        ];
        for (name, help, value) in gauges {
            let name = format!("application_{name}");
            let mut values = applications.iter().filter_map(|it| Some((it, value(it)?))).peekable();
            if values.peek().is_some() {
                family(&mut out, &name, "gauge", help);
            }
            for (application, value) in values {
                let labels = format!("{{application=\"{}\"}}", application.number);
                sample(&mut out, &name, &labels, value);
            }
        }
        out
    }
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String can't fail.
    let _ = writeln!(out, "# HELP fcgi_gateway_{name} {help}.\n# TYPE fcgi_gateway_{name} {kind}");
}

fn sample(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, "fcgi_gateway_{name}{labels} {value}");
}
