//! The log of the code under test.
//!
//! `tracing` asks its subscriber once whether it wants a line, and remembers the answer for the
//! whole process. So a subscriber for one thread would miss lines that another thread passed first.
//! This subscriber is for the whole process, and sorts its lines by thread.

use std::{cell::RefCell, io, sync::Once};

use tracing::Level;

thread_local! {
    /// What this thread has logged, while somebody collects it.
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

/// Listens to the whole process from now on. In a program with [`of`] in it, every test that does
/// not call [`of`] must call this first: a line that is passed just as the listening begins may be
/// lost for good.
///
/// # Panics
/// If something else listens already.
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

/// What this thread logs while `run` runs, from debug level on, one event per line. Tests on the
/// simulated runtime ([`crate::sim`]) run on one thread.
///
/// # Panics
/// If `run` panics, or calls this itself.
pub fn of(run: impl FnOnce()) -> String {
    install();
    let before = LINES.replace(Some(Vec::new()));
    assert!(before.is_none(), "one at a time");
    run();
    let lines = LINES.take().unwrap_or_default();
    String::from_utf8(lines).expect("text")
}
