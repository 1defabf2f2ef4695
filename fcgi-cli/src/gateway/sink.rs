//! The gateway's two logs. Nobody may be reading them, so a log must never hold up what it reports
//! on.

use std::{
    io::{self, Write},
    thread,
    time::Duration,
};

use super::log::{self, Format};
use crate::sink::Sink;

/// How many bytes may wait to be written.
const WAITING: usize = 1 << 20;
/// How long the gateway's exit waits for a log to be written.
const AT_THE_END: Duration = Duration::from_secs(1);

pub(super) static ACCESS: Sink = Sink::new(WAITING);
pub(super) static ERRORS: Sink = Sink::new(WAITING);

/// Starts the threads that write.
///
/// # Errors
/// The system's error if it allows no more threads.
pub(super) fn start() -> io::Result<()> {
    fn write(sink: &Sink, name: &str, mut out: impl Write) {
        let mut is_failing = false;
        let write = |line: &[u8]| {
            let written = out.write_all(line).and_then(|()| out.flush());
            let has_failed = written.is_err();
            // There is nobody to tell about the error log.
            if let (Err(error), false, "access") = (written, is_failing, name) {
                complain(&format!("lines of the access log are lost: write it: {error}"));
            }
            is_failing = has_failed;
            !has_failed
        };
        sink.run(write, |dropped| {
            complain(&format!(
                "{dropped} lines of the {name} log were dropped: it was not read fast enough"
            ));
        });
    }
    let named = |name: &str| thread::Builder::new().name(format!("{name} log"));
    named("access").spawn(|| write(&ACCESS, "access", io::stdout()))?;
    named("error").spawn(|| write(&ERRORS, "error", io::stderr()))?;
    Ok(())
}

/// Waits for both logs, but not for one that nobody reads.
pub(super) fn flush() {
    ACCESS.flush(AT_THE_END);
    ERRORS.flush(AT_THE_END);
}

/// Writes what the gateway serves to the access log.
pub(super) fn announce(line: &str) {
    ACCESS.line(match log::format() {
        Format::Combined => line.to_owned(),
        Format::Json => log::info_json(line),
    });
}

/// Writes one line to the error log.
pub(super) fn complain(line: &str) {
    ERRORS.line(match log::format() {
        Format::Combined => format!("fcgi gateway: {line}"),
        Format::Json => log::error_json(None, None, line),
    });
}
