//! What the code under test logs.
//!
//! `tracing` asks its subscriber once whether it wants a line, and keeps the answer for the whole
//! process. A subscriber of one thread therefore misses lines that another thread passed first.
//! Here the subscriber is the process's own, and sorts by thread what it writes.

use std::{cell::RefCell, io, sync::Once};

use tracing::Level;

thread_local! {
    /// What this thread has logged, while somebody wants to know.
    static LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Writes to the buffer of the thread that logs.
struct OfThisThread;

impl io::Write for OfThisThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                lines.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Listens to the whole process from now on. Every test of a program with [`of`] in it that does
/// not call [`of`] calls this first: a line that is passed just as the listening begins may be
/// lost for good.
///
/// # Panics
/// When something else listens already.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::DEBUG)
            .with_ansi(false)
            .without_time()
            .with_writer(|| OfThisThread)
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("the only subscriber");
    });
}

/// What this thread logs while `run` runs, from debug level on, one event a line. Tests on the
/// simulated runtime ([`crate::sim`]) run on one thread.
///
/// # Panics
/// When `run` does, or calls this itself.
pub fn of(run: impl FnOnce()) -> String {
    install();
    let before = LINES.replace(Some(Vec::new()));
    assert!(before.is_none(), "one at a time");
    run();
    let lines = LINES.take().unwrap_or_default();
    String::from_utf8(lines).expect("text")
}
