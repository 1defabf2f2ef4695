//! Prints requests and records, for people and for programs.

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use fcgi_engine::text::escape;
use fcgi_tokio::proto::{
    Role,
    record::{EndRequestBody, RecordHeader},
};
use serde_json::{Value, json};

use super::{
    exchange::{Exchange, Outcome, Time},
    filter::Filter,
};
use crate::{
    report::milliseconds,
    trace::{self, Direction},
};

/// How many bytes of a request's lines are held until it is known whether the request matches.
const HELD: usize = 256 * 1024;

/// How things are printed.
pub(crate) struct Report {
    /// Prints one or more lines, given without the last line end.
    pub(crate) print: Box<dyn Fn(String)>,
    pub(crate) json: bool,
    /// Whether every record is printed.
    pub(crate) records: bool,
    pub(crate) colour: bool,
    pub(crate) filters: Vec<Filter>,
    /// The time 0 of the printed times.
    pub(crate) start: Time,
}

impl Report {
    fn line(&self, text: &str) {
        let text =
            if self.colour { text.into() } else { anstream::adapter::strip_str(text).to_string() };
        (self.print)(text);
    }

    /// Prints something about a request: at once, or when it is known whether the request matches.
    fn of_request(&self, exchange: Option<&mut Exchange>, text: String) {
        match exchange {
            _ if self.filters.is_empty() => self.line(&text),
            None => {}
            Some(exchange) if exchange.held_bytes + text.len() <= HELD => {
                exchange.held_bytes += text.len();
                exchange.held.push(text);
            }
            Some(exchange) if exchange.held_bytes < HELD => {
                exchange.held_bytes = HELD;
                exchange.held.push("… more than is held".to_owned());
            }
            Some(_) => {}
        }
    }

    /// Prints one record, if records are printed.
    pub(crate) fn record(
        &self,
        time: Time,
        connection: u64,
        exchange: Option<&mut Exchange>,
        direction: Direction,
        header: &RecordHeader,
        details: &[String],
    ) {
        let since = time.saturating_sub(self.start);
        let text = if self.json {
            let number = exchange.as_ref().map(|exchange| exchange.number);
            json!({
                "v": 1,
                "event": "record",
                "request": number,
                "connection": connection,
                "request_id": header.request_id,
                "since_ms": milliseconds(since),
                "to": match direction {
                    Direction::ToApplication => "application",
                    Direction::ToWebServer => "web_server",
                },
                "record": header.record_type.to_string(),
                "length": header.content_length,
                "padding": header.padding_length,
                "content": details,
            })
            .to_string()
        } else {
            let lead = format!("{:>9.3}  {connection:>4}  ", since.as_secs_f64());
            trace::row(&lead, direction, header, details)
        };
        self.of_request(exchange, text);
    }

    /// Prints a request's STDERR.
    pub(crate) fn stderr(&self, exchange: &mut Exchange, bytes: &[u8], more: usize) {
        if self.json || bytes.is_empty() {
            return;
        }
        let style = AnsiColor::Yellow.on_default().bold();
        let number = exchange.number;
        let mut lines: Vec<String> = bytes
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| {
                let line = escape(line.strip_suffix(b"\n").unwrap_or(line), b"\t");
                format!("{number:>5}  {style}STDERR: {line}{style:#}")
            })
            .collect();
        if more > 0 {
            lines.push(format!("{number:>5}  {style}STDERR: … {more} bytes more{style:#}"));
        }
        self.of_request(Some(exchange), lines.join("\n"));
    }

    /// Prints a request that has ended; true if it matched.
    pub(crate) fn request(&self, exchange: &mut Exchange, outcome: Outcome, time: Time) -> bool {
        if !self.filters.iter().all(|filter| filter.takes(exchange, outcome, time)) {
            return false;
        }
        for text in std::mem::take(&mut exchange.held) {
            self.line(&text);
        }
        let text = if self.json {
            request_json(exchange, outcome, time).to_string()
        } else {
            self.request_line(exchange, outcome, time)
        };
        self.line(&text);
        true
    }

    fn request_line(&self, exchange: &Exchange, outcome: Outcome, time: Time) -> String {
        let status = exchange.status(outcome);
        let colour = match exchange.head.status() {
            _ if exchange.note(outcome).is_some() => Some(AnsiColor::Red),
            Some(500..) => Some(AnsiColor::Red),
            Some(400..) => Some(AnsiColor::Yellow),
            Some(200..300) => Some(AnsiColor::Green),
            _ => None,
        };
        let style = colour.map_or(Style::new(), AnsiColor::on_default).bold();
        let since = |time: Time| shown(time.saturating_sub(exchange.begun));
        let first = exchange.first.map_or_else(|| "-".to_owned(), since);
        let sent = exchange.stdin + exchange.data;
        let stderr = match exchange.stderr {
            0 => String::new(),
            bytes => format!(", STDERR {bytes} B"),
        };
        format!(
            "{:>5}  {} {}  {style}{status}{style:#}  first {first}, total {}  in {sent} B, out {} B{stderr}",
            exchange.number,
            exchange.method(),
            exchange.path(),
            since(time),
            exchange.stdout,
        )
    }
}

/// A request in the form for programs.
pub(crate) fn request_json(exchange: &Exchange, outcome: Outcome, time: Time) -> Value {
    let since = |time: Time| milliseconds(time.saturating_sub(exchange.begun));
    let (app_status, protocol_status) = match outcome {
        Outcome::Ended(EndRequestBody { app_status, protocol_status }) => {
            (Some(app_status), Some(protocol_status))
        }
        _ => (None, None),
    };
    json!({
        "v": 1,
        "event": "request",
        "request": exchange.number,
        "connection": exchange.connection,
        "request_id": exchange.request_id,
        "role": Role::from_u16(exchange.role).map(|role| role.to_string()),
        "keep_conn": exchange.keep_conn,
        "method": exchange.method(),
        "path": exchange.path(),
        "status": exchange.head.status(),
        "app_status": app_status,
        "protocol_status": protocol_status,
        "aborted": exchange.aborted,
        "ended": matches!(outcome, Outcome::Ended(_)),
        "begun_unix_ms": milliseconds(exchange.begun),
        "first_byte_ms": exchange.first.map(since),
        "total_ms": since(time),
        "stdin_bytes": exchange.stdin,
        "data_bytes": exchange.data,
        "stdout_bytes": exchange.stdout,
        "stderr_bytes": exchange.stderr,
    })
}

/// A duration with three digits or so.
fn shown(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    match ms {
        10_000.0.. => format!("{:.1} s", ms / 1e3),
        1000.0.. => format!("{:.2} s", ms / 1e3),
        100.0.. => format!("{ms:.0} ms"),
        10.0.. => format!("{ms:.1} ms"),
        _ => format!("{ms:.2} ms"),
    }
}
