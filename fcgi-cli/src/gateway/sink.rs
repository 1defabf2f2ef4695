//! The gateway's two logs, which nobody may be reading: a log never holds up what it tells of.

use std::{
    io::{self, Write},
    thread,
    time::Duration,
};

use super::log::{self, Format};
use crate::sink::Sink;

/// The most that waits to be written, in bytes.
const WAITING: usize = 1 << 20;
/// How long the end of the gateway waits for a log to be written.
const AT_THE_END: Duration = Duration::from_secs(1);

pub(super) static ACCESS: Sink = Sink::new(WAITING);
pub(super) static ERRORS: Sink = Sink::new(WAITING);

/// Starts the threads that write.
///
/// # Errors
/// The system's, when there can be no more threads.
pub(super) fn start() -> io::Result<()> {
    fn write(sink: &Sink, name: &str, mut out: impl Write) {
        // Nobody may be reading it any more.
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

/// One line of the error log.
pub(super) fn complain(line: &str) {
    ERRORS.line(match log::format() {
        Format::Combined => format!("fcgi gateway: {line}"),
        Format::Json => log::error_json(None, None, line),
    });
}
