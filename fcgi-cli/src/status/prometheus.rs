//! Metrics in Prometheus's text format, with the names and labels of php-fpm-exporter, so that
//! dashboards made for it work.

use std::{fmt::Write, time::Duration};

use fcgi_tokio::http::php_fpm::{Process, Status};

use super::{look::Look, thresholds::Key};

/// The states of a worker, as php-fpm writes them.
const STATES: [&str; 6] =
    ["Idle", "Running", "Finishing", "Reading headers", "Getting request informations", "Ending"];

/// A pool at one scrape, with what earlier scrapes found.
#[derive(Debug)]
pub(crate) struct Scrape {
    pub(crate) look: Look,
    /// The pool's name, or that of the last scrape that succeeded.
    pub(crate) name: String,
    pub(crate) failures: u64,
}

/// The metrics of pools, each name once.
pub(crate) fn text(scrapes: &[Scrape]) -> String {
    let mut out = Out::default();
    out.each(scrapes, "up", "gauge", "Whether php-fpm answered: 1 or 0.", |it| {
        Some(u64::from(it.look.status.is_ok()))
    });
    out.each(scrapes, "scrape_failures", "counter", "Scrapes that failed.", |it| Some(it.failures));
    out.head("scrape_duration_seconds", "gauge", "How long the scrape took.");
    for it in scrapes {
        out.line("scrape_duration_seconds", it, &[], seconds(it.look.took));
    }
    out.each(
        scrapes,
        "kernel_listen_queue",
        "gauge",
        "Connections that wait to be accepted, as the kernel counts them.",
        |it| it.look.queue.as_ref().ok().map(|queue| queue.waiting.into()),
    );
    out.each(
        scrapes,
        "kernel_listen_queue_length",
        "gauge",
        "The most connections that may wait to be accepted, as the kernel has it.",
        |it| it.look.queue.as_ref().ok().map(|queue| queue.limit.into()),
    );
    out.each(scrapes, "start_since", "counter", "Seconds since php-fpm was started.", |it| {
        Some(status(it)?.start_since.as_secs())
    });
    for (name, kind, help, key) in STATUS {
        out.each(scrapes, name, kind, help, |it| key.of_status(status(it)?));
    }
    processes(&mut out, scrapes);
    out.0
}

#[rustfmt::skip]
const STATUS: [(&str, &str, &str, Key); 10] = [
    ("accepted_connections", "counter", "Connections that the pool has accepted.", Key::AcceptedConn),
    ("listen_queue", "gauge", "Connections that wait to be accepted, as php-fpm says: 0 on unix sockets.", Key::ListenQueue),
    ("max_listen_queue", "counter", "The most connections that ever waited, as php-fpm says.", Key::MaxListenQueue),
    ("listen_queue_length", "gauge", "The most connections that may wait, as php-fpm says.", Key::ListenQueueLen),
    ("idle_processes", "gauge", "Workers without a request.", Key::IdleProcesses),
    ("active_processes", "gauge", "Workers with a request.", Key::ActiveProcesses),
    ("total_processes", "gauge", "Workers.", Key::TotalProcesses),
    ("max_active_processes", "counter", "The most workers that ever had a request.", Key::MaxActiveProcesses),
    ("max_children_reached", "counter", "How often there were as many workers as there may be.", Key::MaxChildrenReached),
    ("slow_requests", "counter", "Requests that took longer than request_slowlog_timeout.", Key::SlowRequests),
];

fn processes(out: &mut Out, scrapes: &[Scrape]) {
    out.head("process_state", "gauge", "Whether a worker is in a state: 1 or 0.");
    for (it, child, process) in children(scrapes) {
        let known = STATES.contains(&&*process.state);
        let own = (!known).then_some(&*process.state);
        for state in STATES.into_iter().chain(own) {
            let is = u64::from(state == process.state);
            out.line("process_state", it, &[("child", &child), ("state", state)], is);
        }
    }
    type Figure = fn(&Process) -> String;
    #[rustfmt::skip]
    let figures: [(&str, &str, &str, Figure); 4] = [
        ("process_requests", "counter", "Requests that a worker has had.", |it| it.requests.to_string()),
        ("process_last_request_memory", "gauge", "The most memory that a worker's last request took, in bytes.", |it| it.last_request_memory.to_string()),
        ("process_last_request_cpu", "gauge", "The share of a processor that a worker's last request took, in percent.", |it| it.last_request_cpu.to_string()),
        ("process_request_duration", "gauge", "How long a worker's request took, in microseconds.", |it| it.request_duration.as_micros().to_string()),
    ];
    for (name, kind, help, figure) in figures {
        out.head(name, kind, help);
        for (it, child, process) in children(scrapes) {
            out.line(name, it, &[("child", &child)], figure(process));
        }
    }
}

/// The workers that run, with their numbers.
fn children(scrapes: &[Scrape]) -> impl Iterator<Item = (&Scrape, String, &Process)> {
    scrapes.iter().flat_map(|it| {
        let processes = status(it).map_or(&[][..], |status| &status.processes);
        let running = processes.iter().filter(|process| process.state != "(null)");
        running.enumerate().map(move |(n, process)| (it, n.to_string(), process))
    })
}

fn status(it: &Scrape) -> Option<&Status> {
    it.look.status.as_ref().ok()
}

fn seconds(duration: Duration) -> String {
    format!("{:.6}", duration.as_secs_f64())
}

#[derive(Default)]
struct Out(String);

impl Out {
    fn each(
        &mut self,
        scrapes: &[Scrape],
        name: &str,
        kind: &str,
        help: &str,
        value: impl Fn(&Scrape) -> Option<u64>,
    ) {
        self.head(name, kind, help);
        for it in scrapes {
            if let Some(value) = value(it) {
                self.line(name, it, &[], value);
            }
        }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String can't fail.
        let _ = writeln!(self.0, "# HELP phpfpm_{name} {help}\n# TYPE phpfpm_{name} {kind}");
    }

    fn line(
        &mut self,
        name: &str,
        it: &Scrape,
        labels: &[(&str, &str)],
        value: impl std::fmt::Display,
    ) {
        let _ = write!(self.0, "phpfpm_{name}{{pool=\"{}\"", label(&it.name));
        for (name, value) in labels {
            let _ = write!(self.0, ",{name}=\"{}\"", label(value));
        }
        let uri = it.look.pool.scrape_uri();
        let _ = writeln!(self.0, ",scrape_uri=\"{}\"}} {value}", label(&uri));
    }
}

/// A label's value, escaped as the format requires.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
