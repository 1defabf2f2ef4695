//! The results of a benchmark, for people and for programs.

use std::{fmt::Write, time::Duration};

use hdrhistogram::Histogram;
use serde_json::{Map, Value};

use super::{
    load::{Outcome, Plan, Times},
    shot::Failure,
};
use crate::{
    causes,
    exit::Exit,
    report::Report,
    status::print::{bytes, short},
};

/// Percentiles, with their names in JSON.
const PERCENTILES: [(f64, &str); 7] = [
    (50.0, "latency_p50"),
    (75.0, "latency_p75"),
    (90.0, "latency_p90"),
    (95.0, "latency_p95"),
    (99.0, "latency_p99"),
    (99.9, "latency_p999"),
    (99.99, "latency_p9999"),
];
/// The number of bars in the plot, and the width of the longest.
const BARS: usize = 12;
const WIDTH: usize = 50;

/// Requests per second.
pub(super) fn rate(outcome: &Outcome) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let done = outcome.latencies.len() as f64;
    done / outcome.took.as_secs_f64().max(1e-9)
}

/// The exit status: that of the most frequent failure.
pub(super) fn exit(outcome: &Outcome) -> Exit {
    match most_often(outcome) {
        Some((failure, _)) => failure.exit,
        None if outcome.unsent > 0 => Exit::Unwanted,
        None => Exit::Done,
    }
}

fn most_often(outcome: &Outcome) -> Option<(&Failure, &Times)> {
    outcome.failures.iter().max_by_key(|(_, times)| times.n)
}

/// The whole result as lines.
pub(super) fn text(plan: &Plan, outcome: &Outcome) -> String {
    let mut out = String::new();
    let (done, took) = (outcome.latencies.len(), outcome.took.as_secs_f64());
    let failed: u64 = outcome.failures.values().map(|times| times.n).sum();
    let mut line = |name: &str, text: &str| {
        // Writing to a String can't fail.
        let _ = writeln!(out, "{name:<13}{text}");
    };
    line("application", &plan.address.to_string());
    line("load", &load(plan));
    line("succeeded", &format!("{done} in {took:.2} s: {:.1} a second", rate(outcome)));
    line("received", &format!("{}B of bodies", bytes(outcome.bytes)));
    line("failed", &failed.to_string());
    for (failure, times) in &outcome.failures {
        line("", &format!("{} times {}", times.n, failure.text));
    }
    if outcome.unsent > 0 {
        line(
            "not sent",
            &format!("{}: the application can't keep up with the rate", outcome.unsent),
        );
    }
    if done == 0 {
        return out;
    }
    let latencies = &outcome.latencies;
    let mean = Duration::from_secs_f64(latencies.mean() / 1e6);
    let deviation = Duration::from_secs_f64(latencies.stdev() / 1e6);
    let [least, most] = [latencies.min(), latencies.max()].map(Duration::from_micros).map(short);
    let (mean, deviation) = (short(mean), short(deviation));
    line("latency", &format!("{mean} +- {deviation}, from {least} to {most}"));
    for (percentile, _) in PERCENTILES {
        let value = Duration::from_micros(latencies.value_at_percentile(percentile));
        line(&format!("{:>9}", format!("{percentile}%")), &short(value));
    }
    out.push('\n');
    out.push_str(&plot(latencies));
    out
}

fn load(plan: &Plan) -> String {
    let Plan { connections, multiplex, template, rate, .. } = plan;
    let connections = match connections {
        1 => "1 connection".to_owned(),
        n => format!("{n} connections"),
    };
    let each = match (multiplex, template.keep) {
        (2.., _) => format!(", {multiplex} requests at once on each"),
        (_, true) => ", kept".to_owned(),
        (_, false) => ", each for one request".to_owned(),
    };
    let rate = match rate {
        Some(rate) => format!(", open loop at {rate} requests a second"),
        None => ", closed loop".to_owned(),
    };
    let body = match template.body.len() as u64 {
        0 => String::new(),
        n => format!(", bodies of {}B", bytes(n)),
    };
    format!("{connections}{each}{rate}{body}")
}

/// How many requests took how long, as bars. Each bar's range is a constant factor above the last.
fn plot(latencies: &Histogram<u64>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "bars, for people")]
    let (least, most) = (latencies.min().max(1) as f64, latencies.max().max(1) as f64);
    let step = (most / least).powf(1.0 / BARS as f64).max(1.05);
    let mut bars: Vec<(u64, u64)> = Vec::new();
    let mut low = 0;
    for n in 1..=BARS {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_possible_wrap,
            reason = "microseconds"
        )]
        let end = if n == BARS { latencies.max() } else { (least * step.powi(n as i32)) as u64 };
        if end < low {
            continue;
        }
        bars.push((end, latencies.count_between(low, end)));
        if end >= latencies.max() {
            break;
        }
        // Skips the values that the histogram stores as one.
        low = latencies.highest_equivalent(end) + 1;
    }
    let highest = bars.iter().map(|(_, n)| *n).max().unwrap_or_default().max(1);
    let all = latencies.len().max(1);
    let mut out = String::new();
    for (end, n) in bars {
        #[expect(clippy::cast_precision_loss, reason = "bars, for people")]
        let (share, filled) = (n as f64 * 100.0 / all as f64, n as f64 / highest as f64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to WIDTH")]
        let width = (filled * WIDTH as f64).ceil() as usize;
        let end = short(Duration::from_micros(end));
        let line = format!("{:>9} {share:>6.2}% {}", format!("<{end}"), "#".repeat(width));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// The same result for programs.
pub(super) fn report(plan: &Plan, outcome: &Outcome, exit: Exit) -> Report {
    let (done, failed) =
        (outcome.latencies.len(), outcome.failures.values().map(|times| times.n).sum::<u64>());
    let mut message = format!("{}: {done} requests, {:.1} a second", plan.address, rate(outcome));
    let mut cause = None;
    if let Some((most, times)) = most_often(outcome) {
        message.push_str(&format!("; {failed} failed, {} of them with: {}", times.n, most.text));
        cause = times.error.as_ref().and_then(|error| causes::of(error, &plan.address));
    }
    if outcome.unsent > 0 {
        message.push_str(&format!("; {} not sent, for want of a free connection", outcome.unsent));
    }
    let latency = |micros: f64| Duration::from_secs_f64(micros / 1e6);
    let map = |pairs: &mut dyn Iterator<Item = (String, u64)>| {
        Value::Object(pairs.map(|(name, n)| (name, n.into())).collect::<Map<_, _>>())
    };
    let failures = map(&mut outcome.failures.iter().map(|(it, times)| (it.text.clone(), times.n)));
    let statuses = map(&mut outcome.statuses.iter().map(|(it, n)| (it.to_string(), *n)));
    let mut report = Report::new("bench", exit, message)
        .address(&plan.address)
        .cause(cause)
        .field("connections", plan.connections)
        .field("multiplex", plan.multiplex)
        .field("keep", plan.template.keep)
        .field("rate_wanted", plan.rate)
        .field("succeeded", done)
        .field("failed", failed)
        .field("unsent", outcome.unsent)
        .field("failures", failures)
        .field("statuses", statuses)
        .field("rate", (rate(outcome) * 10.0).round() / 10.0)
        .field("bytes", outcome.bytes)
        .performance(format!("rate={:.1};;;0;", rate(outcome)))
        .performance(format!("failed={failed};;;0;"))
        .field_ms("took", outcome.took);
    if done == 0 {
        return report;
    }
    let latencies = &outcome.latencies;
    report = report
        .field_ms("latency_mean", latency(latencies.mean()))
        .field_ms("latency_stdev", latency(latencies.stdev()))
        .field_ms("latency_min", Duration::from_micros(latencies.min()))
        .field_ms("latency_max", Duration::from_micros(latencies.max()));
    for (percentile, name) in PERCENTILES {
        let value = Duration::from_micros(latencies.value_at_percentile(percentile));
        report = match name {
            "latency_p50" | "latency_p99" => report.duration(name, value, None),
            _ => report.field_ms(name, value),
        };
    }
    report
}
