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
        // An error means that nobody reads the log any more.
        let write = |line: &[u8]| drop(out.write_all(line).and_then(|()| out.flush()));
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

/// Writes one line to the error log.
pub(super) fn complain(line: &str) {
    ERRORS.line(match log::format() {
        Format::Combined => format!("fcgi gateway: {line}"),
        Format::Json => log::error_json(None, None, line),
    });
}
