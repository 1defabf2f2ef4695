//! Prints the status of pools for people.

use std::time::Duration;

use fcgi_engine::text::escape;
use fcgi_tokio::http::php_fpm::{Process, Status};

use super::look::Look;
use crate::table::Table;

/// The table of pools, each with its queue below, and with its workers if they were requested.
/// `before` has the previous status of each pool, if there was a query before.
pub(crate) fn text(looks: &[&Look], before: &[Look]) -> String {
    // Until there is a rate, there is no column for it.
    let rate = if before.is_empty() { "" } else { "#PER SECOND" };
    let mut table = Table::new([
        "POOL",
        "ADDRESS",
        "MANAGER",
        "#UP",
        "#IDLE",
        "#ACTIVE",
        "#TOTAL",
        "#MOST ACTIVE",
        "#MAX REACHED",
        "#SLOW",
        "#ACCEPTED",
        rate,
    ]);
    for (n, look) in looks.iter().enumerate() {
        let address = look.pool.address.to_string();
        match &look.status {
            Ok(status) => table.row(cells(look, status, &address, before.get(n))),
            Err(_) => table.row(["?".to_owned(), address]),
        }
        table.note(look.queue_line());
    }
    let mut out = table.text();
    for look in looks {
        let Ok(status) = &look.status else { continue };
        let running: Vec<_> = status.processes.iter().filter(|it| it.state != "(null)").collect();
        if running.is_empty() {
            continue;
        }
        out.push_str(&format!("\nWorkers of {}:\n", escape(status.pool.as_bytes(), b"")));
        out.push_str(&workers(&running));
    }
    out
}

fn cells(look: &Look, status: &Status, address: &str, before: Option<&Look>) -> [String; 12] {
    let rate = before.and_then(|before| {
        let old = before.status.as_ref().ok()?;
        let accepted = status.accepted_conn.checked_sub(old.accepted_conn)?;
        let seconds = look.at.duration_since(before.at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate, to one digit")]
        (seconds > 0.0).then(|| format!("{:.1}", accepted as f64 / seconds))
    });
    [
        escape(status.pool.as_bytes(), b""),
        address.to_owned(),
        escape(status.process_manager.as_bytes(), b""),
        span(status.start_since),
        status.idle_processes.to_string(),
        status.active_processes.to_string(),
        status.total_processes.to_string(),
        status.max_active_processes.to_string(),
        status.max_children_reached.to_string(),
        status.slow_requests.to_string(),
        status.accepted_conn.to_string(),
        rate.unwrap_or_default(),
    ]
}

fn workers(processes: &[&Process]) -> String {
    let mut table = Table::new([
        "#PID",
        "STATE",
        "#UP",
        "#REQUESTS",
        "#TOOK",
        "#CPU",
        "#MEMORY",
        "METHOD",
        "URI",
        "SCRIPT",
    ]);
    for it in processes {
        // Clients choose the paths of requests (H-10).
        let text = |text: &str| escape(text.as_bytes(), b"");
        table.row([
            it.pid.to_string(),
            text(&it.state),
            span(it.start_since),
            it.requests.to_string(),
            short(it.request_duration),
            format!("{:.0}%", it.last_request_cpu),
            bytes(it.last_request_memory),
            text(&it.request_method),
            text(&it.request_uri),
            text(&it.script),
        ]);
    }
    table.text()
}

/// `3d 4h`: the two largest units.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (1.., _, _) => format!("{days}d {}h", hours % 24),
        (0, 1.., _) => format!("{hours}h {}m", minutes % 60),
        (0, 0, 1..) => format!("{minutes}m {}s", seconds % 60),
        _ => format!("{seconds}s"),
    }
}

/// A duration with about three digits.
pub(crate) fn short(duration: Duration) -> String {
    match duration.as_micros() {
        micros @ 0..1_000 => format!("{micros}us"),
        1_000..1_000_000 => format!("{:.1}ms", duration.as_secs_f64() * 1e3),
        1_000_000..60_000_000 => format!("{:.2}s", duration.as_secs_f64()),
        _ => span(duration),
    }
}

/// Bytes with about three digits.
pub(crate) fn bytes(number: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people, to one digit")]
    let scaled = |unit: u64| number as f64 / unit as f64;
    match number {
        0..0x400 => number.to_string(),
        0x400..0x10_0000 => format!("{:.0}K", scaled(0x400)),
        0x10_0000..0x4000_0000 => format!("{:.1}M", scaled(0x10_0000)),
        _ => format!("{:.1}G", scaled(0x4000_0000)),
    }
}
