//! The progress of a large body, on a terminal.

use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How many bytes must have passed in either direction before it is shown.
const FROM: u64 = 4 << 20;
const PAUSE: Duration = Duration::from_millis(100);

/// A line that is redrawn. If stdout is the terminal too, it shows only what is sent, until the
/// answer comes.
#[derive(Debug)]
pub(super) struct Progress {
    is_shown: bool,
    stdout_shows: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    started: Instant,
    drawn: Option<Instant>,
    sent: u64,
    received: u64,
}

impl Progress {
    pub(super) fn new(is_shown: bool, stdout_shows: bool) -> Self {
        let state = State { started: Instant::now(), drawn: None, sent: 0, received: 0 };
        Self { is_shown, stdout_shows, state: Mutex::new(state) }
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.change(|state| state.sent += bytes as u64);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.change(|state| state.received += bytes as u64);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        if !self.is_shown {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        if state.received > 0 && self.stdout_shows {
            return erase(&mut state);
        }
        let is_due = state.drawn.is_none_or(|drawn| drawn.elapsed() >= PAUSE);
        if is_due && state.sent.max(state.received) >= FROM {
            state.drawn = Some(Instant::now());
            draw(&state);
        }
    }

    /// Removes the line.
    pub(super) fn clear(&self) {
        erase(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn draw(state: &State) {
    let seconds = state.started.elapsed().as_secs_f64().max(0.001);
    let mut parts = Vec::new();
    for (bytes, what) in [(state.sent, "sent"), (state.received, "received")] {
        if bytes > 0 {
            let rate = (bytes as f64 / seconds) as u64;
            parts.push(format!("{} {what}, {}/s", human(bytes), human(rate)));
        }
    }
    // A failure of stderr can't be reported anywhere.
    let _ = write!(io::stderr().lock(), "\r\x1b[K{}", parts.join("; "));
}

fn erase(state: &mut State) {
    if state.drawn.take().is_some() {
        let _ = write!(io::stderr().lock(), "\r\x1b[K");
    }
}

/// `12.3M`, in powers of 1024.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["", "K", "M", "G", "T"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes}") } else { format!("{value:.1}{}", UNITS[unit]) }
}
