//! Runs wrk, the load generator of these comparisons, and reads its output.

use std::process::Command;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Pid;

use super::CONNECTIONS;
use super::front::{Running, Site};
use crate::compare::{Round, Subject};
use crate::cpu;
use crate::process::Server;

/// The program; it exists.
pub(super) struct Wrk;

impl Wrk {
    pub(super) fn find() -> Result<Wrk> {
        // It prints its version and fails.
        let found = Command::new("wrk").arg("--version").output();
        found.context("wrk was not found, install wrk").map(|_| Wrk)
    }

    /// Runs wrk against `front`, whose processor time counts; so does that of the application if it
    /// shares the processor: a server of ours, or php-fpm's process.
    pub(super) fn subject(
        &self,
        front: Running,
        application: Option<Rc<Server>>,
        php: Option<u32>,
        site: &Site,
    ) -> Result<Box<dyn Subject>> {
        let url = format!("http://127.0.0.1:{}{}", front.port, site.target.url());
        first(&url, site)?;
        let php = php.and_then(|id| Pid::from_raw(id as i32));
        let used = move || {
            let mut used = front.server.used()?;
            if let Some(application) = &application {
                used += application.used()?;
            }
            if let Some(php) = php {
                used += cpu::used(php)?;
            }
            anyhow::Ok(used)
        };
        Ok(Box::new(move |seconds: f64| {
            // wrk accepts only whole seconds.
            let seconds = (seconds.round() as u64).max(1);
            let (start, before) = (Instant::now(), used()?);
            let output = Command::new("wrk")
                .args(["-t1", "--latency", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s")])
                .arg(&url)
                .output()?;
            let (wall, used) = (start.elapsed().as_secs_f64(), used()? - before);
            let said = String::from_utf8_lossy(&output.stdout);
            ensure!(output.status.success(), "wrk failed: {}", said.trim());
            let (rate, p99, requests) = parse(&said)?;
            Ok(Round {
                rate,
                cpu: Some(used * 1e6 / requests),
                p99: Some(p99),
                busy: Some(used / wall * 100.0),
                ..Round::default()
            })
        }))
    }
}

/// Sends a request, and checks the length of the answer.
fn first(url: &str, site: &Site) -> Result<()> {
    use std::io::{Read as _, Write as _};
    let rest = url.strip_prefix("http://").context("no URL")?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut stream = std::net::TcpStream::connect(host)?;
    stream.set_read_timeout(Some(crate::load::PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("no answer to the first request")?;
    let head = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "the first answer was {status:?}");
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").context("no head")?;
    let (came, expected) = (answer.len() - end - 4, site.target.length());
    ensure!(came == expected, "the first answer has {came} bytes, not {expected}");
    Ok(())
}

/// Returns requests per second, the 99th percentile in microseconds, and the number of requests.
fn parse(said: &str) -> Result<(f64, f64, f64)> {
    let after =
        |start: &str| said.lines().find_map(|line| line.trim().strip_prefix(start)).map(str::trim);
    let errors = after("Socket errors:").or_else(|| after("Non-2xx or 3xx responses:"));
    if let Some(errors) = errors {
        bail!("wrk met errors: {errors}");
    }
    let rate = after("Requests/sec:").context("wrk told no rate")?.parse()?;
    let p99 = micros(after("99%").context("wrk told no percentile")?)?;
    let requests = said.lines().find_map(|line| line.trim().split_once(" requests in "));
    let requests = requests.context("wrk told no requests")?.0.parse()?;
    ensure!(requests > 0.0, "wrk got no answer");
    Ok((rate, p99, requests))
}

fn micros(text: &str) -> Result<f64> {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).context("a time without a unit")?;
    let (number, unit) = text.split_at(at);
    let scale = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => bail!("a time in {unit}"),
    };
    Ok(number.parse::<f64>()? * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_read() {
        let said = "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 16 connections\n  \
                    Thread Stats   Avg      Stdev     Max   +/- Stdev\n    \
                    Latency   309.06us  118.84us   3.41ms   92.85%\n  Latency Distribution\n     \
                    50%  300.00us\n     99%    1.25ms\n  51234 requests in 1.10s, 7.84MB read\n\
                    Requests/sec:  46590.12\nTransfer/sec:      7.13MB\n";
        assert_eq!(parse(said).unwrap(), (46590.12, 1250.0, 51234.0));
        let failed = format!("{said}  Non-2xx or 3xx responses: 3\n");
        assert!(parse(&failed).is_err());
        assert!(parse(&said.replace("51234 requests", "0 requests")).is_err());
    }
}
