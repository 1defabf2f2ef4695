//! Checks the result of a query against the thresholds, for people and for programs.

use fcgi_tokio::http::php_fpm::Status as Page;
use serde_json::{Map, Value};

use super::{
    look::Look,
    thresholds::{Key, Passed, Threshold},
};
use crate::{
    exit::Exit,
    report::{Report, milliseconds},
};

/// A pool and its state.
pub(super) struct Verdict {
    pub(super) look: Look,
    pub(super) exit: Exit,
    passed: Vec<Passed>,
}

/// Checks a query against the thresholds, with the query before it.
pub(super) fn judge(look: Look, before: Option<&Look>, thresholds: &[Threshold]) -> Verdict {
    let passed: Vec<Passed> =
        thresholds.iter().filter_map(|threshold| threshold.check(&look, before)).collect();
    let exit = match &look.status {
        Err(trouble) => trouble.exit,
        Ok(_) if !passed.is_empty() => Exit::Unwanted,
        Ok(_) => Exit::Done,
    };
    Verdict { look, exit, passed }
}

impl Verdict {
    fn message(&self) -> String {
        let Look { pool, status, .. } = &self.look;
        let address = &pool.address;
        let passed: Vec<String> = self.passed.iter().map(ToString::to_string).collect();
        let passed = passed.join("; ");
        match status {
            Err(trouble) if passed.is_empty() => {
                format!("{} ({})", trouble.message, self.look.queue_line())
            }
            Err(trouble) => format!("{} ({passed})", trouble.message),
            Ok(_) if !passed.is_empty() => format!("{address}: {passed}"),
            Ok(Page { active_processes: active, total_processes: total, .. }) => {
                let name = self.look.name().unwrap_or_default();
                let queue = self.look.queue_line();
                format!("{name} at {address}: {queue}, {active} of {total} workers active")
            }
        }
    }

    /// The report about it.
    pub(super) fn report(&self, thresholds: &[Threshold]) -> Report {
        let Look { pool, status, queue, took, .. } = &self.look;
        let mut report = Report::new("status", self.exit, self.message()).address(&pool.address);
        if status.is_err() {
            report = report.cause(self.look.cause());
        }
        let waiting = self.look.waiting();
        let source = match (queue, waiting) {
            (Ok(_), _) => Value::from("kernel"),
            (Err(_), Some(_)) => Value::from("php-fpm"),
            _ => Value::Null,
        };
        report = report
            .field("queue", waiting.map(|(waiting, _)| waiting))
            .field("queue_limit", waiting.map(|(_, limit)| limit))
            .field("queue_source", source);
        if let Err(why) = queue {
            report = report.field("queue_unknown", why.to_string());
        }
        if !self.passed.is_empty() {
            let passed: Vec<Value> = self.passed.iter().map(|it| it.to_string().into()).collect();
            report = report.field("passed", passed);
        }
        if let Ok(page) = status {
            report = fields(report, page);
        }
        for data in performance(&self.look, thresholds, "") {
            report = report.performance(data);
        }
        report.duration("time", *took, None)
    }
}

/// php-fpm's figures as fields.
fn fields(report: Report, page: &Page) -> Report {
    let mut report = report
        .field("pool", page.pool.as_str())
        .field("process_manager", page.process_manager.as_str())
        .field("start_time", page.start_time)
        .field_ms("start_since", page.start_since);
    for (name, key) in FIGURES {
        report = report.field(name, key.of_status(page));
    }
    if let Some(peak) = page.memory_peak {
        report = report.field("memory_peak", peak);
    }
    if page.processes.is_empty() {
        return report;
    }
    let processes: Vec<Value> = page
        .processes
        .iter()
        .filter(|process| process.state != "(null)")
        .map(|it| {
            let fields: [(&str, Value); 11] = [
                ("pid", it.pid.into()),
                ("state", it.state.as_str().into()),
                ("start_since_ms", milliseconds(it.start_since)),
                ("requests", it.requests.into()),
                ("request_duration_ms", milliseconds(it.request_duration)),
                ("request_method", it.request_method.as_str().into()),
                ("request_uri", it.request_uri.as_str().into()),
                ("content_length", it.content_length.into()),
                ("script", it.script.as_str().into()),
                ("last_request_cpu", it.last_request_cpu.into()),
                ("last_request_memory", it.last_request_memory.into()),
            ];
            let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
            Value::Object(fields.collect::<Map<_, _>>())
        })
        .collect();
    report.field("processes", processes)
}

const FIGURES: [(&str, Key); 10] = [
    ("accepted_conn", Key::AcceptedConn),
    ("listen_queue", Key::ListenQueue),
    ("max_listen_queue", Key::MaxListenQueue),
    ("listen_queue_len", Key::ListenQueueLen),
    ("idle_processes", Key::IdleProcesses),
    ("active_processes", Key::ActiveProcesses),
    ("total_processes", Key::TotalProcesses),
    ("max_active_processes", Key::MaxActiveProcesses),
    ("max_children_reached", Key::MaxChildrenReached),
    ("slow_requests", Key::SlowRequests),
];

/// The performance data for Nagios.
fn performance(look: &Look, thresholds: &[Threshold], start: &str) -> Vec<String> {
    let warn = |key| thresholds.iter().find_map(|it| it.warns(key)).unwrap_or_default();
    let mut data = Vec::new();
    if let Some((waiting, limit)) = look.waiting() {
        data.push(format!("{start}queue={waiting};{};;0;{limit}", warn(Key::Queue)));
    }
    if let Ok(page) = &look.status {
        let counters = [Key::AcceptedConn, Key::MaxChildrenReached, Key::SlowRequests];
        for (name, key) in FIGURES {
            let unit = if counters.contains(&key) { "c" } else { "" };
            let value = key.of_status(page).unwrap_or_default();
            data.push(format!("{start}{name}={value}{unit};{};;0;", warn(key)));
        }
    }
    data
}

/// For Nagios, joins the reports into one line.
pub(super) fn together(verdicts: &[Verdict], exit: Exit, thresholds: &[Threshold]) -> Report {
    if let [only] = verdicts {
        return only.report(thresholds);
    }
    let bad = verdicts.iter().filter(|it| it.exit != Exit::Done);
    let mut messages: Vec<String> = bad.map(Verdict::message).collect();
    if messages.is_empty() {
        messages.push(format!("{} pools are well", verdicts.len()));
    }
    let mut report = Report::new("status", exit, messages.join("; "));
    for verdict in verdicts {
        let name = verdict.look.name().unwrap_or_else(|| verdict.look.pool.address.to_string());
        for data in performance(&verdict.look, thresholds, &format!("{name}_")) {
            report = report.performance(data);
        }
    }
    report
}
