//! The log of the code under test.
//!
//! `tracing` asks its subscriber once whether it wants a line, and remembers the answer for the
//! whole process. So a subscriber for one thread would miss lines that another thread passed first.
//! This subscriber is for the whole process, and sorts its lines by thread.

use std::{
    cell::{Cell, RefCell},
    io,
    sync::Once,
};

use tracing::Level;
use tracing_subscriber::fmt::format::FmtSpan;

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

thread_local! {
    /// This thread is passing a line on.
    static PASSING: Cell<bool> = const { Cell::new(false) };
}

/// Passes each line of the whole process on, from now on: every event, and the beginning and end of
/// every span. What logs meanwhile on the same thread is dropped. Not beside [`install`].
///
/// # Panics
/// If something else listens already.
pub fn forward(to: impl Fn(&[u8]) + Send + Sync + 'static) {
    struct Forward<'a, F>(&'a F);

    impl<F: Fn(&[u8])> io::Write for Forward<'_, F> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !PASSING.replace(true) {
                (self.0)(bytes);
                PASSING.set(false);
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let to: &'static _ = Box::leak(Box::new(to));
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .with_span_events(FmtSpan::FULL)
        .with_ansi(false)
        .without_time()
        .with_writer(move || Forward(to))
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("the only subscriber");
}
