//! Signals that end the command.

use std::{
    future::pending,
    io, process,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};

/// Whether the command handles signals itself.
static IS_HANDLED: AtomicBool = AtomicBool::new(false);

/// Lets SIGINT and SIGTERM end the process, until the command handles them itself. The system does
/// that, except for the first process of a container, which only gets the signals that it waits
/// for. A thread waits for them, so that they count while the command waits for a read or a write.
///
/// # Errors
/// The system refuses the thread, or what it needs.
pub(crate) fn end_first_process() -> io::Result<()> {
    if process::id() != 1 {
        return Ok(());
    }
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let wait = async move {
        loop {
            let number = tokio::select! {
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
            };
            if !IS_HANDLED.load(Ordering::SeqCst) {
                process::exit(128 + number);
            }
        }
    };
    thread::Builder::new().spawn(move || runtime.block_on(wait))?;
    Ok(())
}

/// Catches a signal, for a command that has something to clean up.
///
/// # Errors
/// The signal can't be caught.
pub(crate) fn catch(kind: SignalKind) -> io::Result<Signal> {
    let signal = signal(kind)?;
    IS_HANDLED.store(true, Ordering::SeqCst);
    Ok(signal)
}

/// The signals that end a command, SIGINT and SIGTERM. Catch them before the command says that it
/// is ready: whoever waits for that may send one at once.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Catches them from now on.
    ///
    /// # Errors
    /// They can't be caught.
    pub(crate) fn catch() -> io::Result<Self> {
        let interrupt = catch(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: catch(SignalKind::terminate())? })
    }

    /// Waits for the next one. Returns its name and number.
    pub(crate) async fn next(&mut self) -> (&'static str, u8) {
        tokio::select! {
            _ = self.interrupt.recv() => ("SIGINT", 2),
            _ = self.terminate.recv() => ("SIGTERM", 15),
        }
    }
}

/// Waits for SIGINT or SIGTERM, from when it is called: beside it, something may be sent as soon as it
/// is polled. Returns its name and number.
pub(crate) fn signalled() -> impl Future<Output = (&'static str, u8)> {
    let caught = Signals::catch();
    async move {
        match caught {
            Ok(mut signals) => signals.next().await,
            Err(_) => pending().await,
        }
    }
}
