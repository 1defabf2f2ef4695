//! Output that nobody may be reading. It is written on a thread, so that signals and time limits
//! work while a write waits.

use std::{
    fs::File,
    future::pending,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::time::sleep;

use crate::{
    budget::Budget,
    complain,
    exit::Exit,
    report::{Form, Report},
};

/// How long the last line waits for its reader after the time is up or a signal came.
const LAST_LINE: Duration = Duration::from_millis(500);
/// How often [`LAST_LINE`] may pass while nothing seems to be in the way.
const MOST: usize = 120;

/// Where bytes go.
#[derive(Clone, Debug)]
pub(crate) enum Writer {
    Stdout,
    Stderr,
    File(Arc<File>),
}

impl Writer {
    /// Creates a file, or empties it.
    ///
    /// # Errors
    /// It can't be created; `TimedOut` if there is no time left, as with a pipe that nobody reads.
    pub(crate) async fn create(path: &Path, budget: &Budget) -> io::Result<Self> {
        let path: PathBuf = path.to_owned();
        let file = within(budget, move || File::create(path)).await?;
        Ok(Self::File(Arc::new(file)))
    }

    /// Writes all of the bytes.
    ///
    /// # Errors
    /// The error of the write; `TimedOut` if there is no time left. Some bytes may have been
    /// written then, or be written later; nothing more can be written to it.
    pub(crate) async fn write(&self, bytes: Bytes, budget: &Budget) -> io::Result<()> {
        let to = self.clone();
        within(budget, move || match to {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&bytes)?;
                stdout.flush()
            }
            Self::Stderr => io::stderr().lock().write_all(&bytes),
            Self::File(file) => (&*file).write_all(&bytes),
        })
        .await
    }
}

async fn within<T: Send + 'static>(
    budget: &Budget,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    budget
        .hold_io(async { tokio::task::spawn_blocking(work).await.map_err(io::Error::other)? })
        .await
}

/// Prints the end of a command's output, and gives the exit status: that of `exit` if nobody has read
/// it soon after the time is up, but never success, since the output was cut.
pub(crate) async fn end(
    budget: &Budget,
    form: Form,
    exit: Exit,
    print: impl FnOnce() -> ExitCode + Send + 'static,
) -> ExitCode {
    let begun = Arc::new(AtomicBool::new(false));
    let late = async {
        match budget.left() {
            Some(left) => sleep(left).await,
            None => pending().await,
        }
        stuck(&begun, takes_output).await;
    };
    tokio::select! {
        code = apart(noting(&begun, print)) => code,
        () = late => ExitCode::from(form.status(if exit == Exit::Done { Exit::Timeout } else { exit })),
    }
}

/// [`end`], with a report.
pub(crate) async fn finish(report: Report, form: Form, quiet: bool, budget: &Budget) -> ExitCode {
    end(budget, form, report.exit(), move || report.finish(form, quiet)).await
}

/// Writes the line about a signal to stderr, unless that takes too long.
pub(crate) async fn last_line(line: String) {
    let print = move || {
        complain(&line);
        ExitCode::SUCCESS
    };
    let begun = Arc::new(AtomicBool::new(false));
    tokio::select! {
        // A failure of stderr can't be reported anywhere.
        _ = apart(noting(&begun, print)) => {}
        () = stuck(&begun, takes_output) => {}
    }
}

/// Notes when the work begins: the thread may have to wait for its turn.
fn noting<T, W: FnOnce() -> T>(begun: &Arc<AtomicBool>, work: W) -> impl FnOnce() -> T + use<T, W> {
    let begun = Arc::clone(begun);
    move || {
        begun.store(true, Ordering::SeqCst);
        work()
    }
}

/// Waits until a thread that prints has waited for its reader for a while. On a machine under load
/// the thread itself may need longer than that, so output that could be written is waited for.
async fn stuck(begun: &AtomicBool, takes_output: impl Fn() -> bool) {
    for _ in 0..MOST {
        sleep(LAST_LINE).await;
        if begun.load(Ordering::SeqCst) && !takes_output() {
            return;
        }
    }
}

/// Whether stdout and stderr take more bytes at once.
fn takes_output() -> bool {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let mut fds = [PollFd::new(&stdout, PollFlags::OUT), PollFd::new(&stderr, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready == fds.len())
}

/// Does work that may have to wait for a reader.
pub(crate) async fn apart(work: impl FnOnce() -> ExitCode + Send + 'static) -> ExitCode {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Exit::Io.into())
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_output_that_waits_for_its_reader_is_given_up() {
        let begun = AtomicBool::new(false);
        let long = LAST_LINE * 20;
        assert!(timeout(long, stuck(&begun, || false)).await.is_err(), "it had no turn yet");
        begun.store(true, Ordering::SeqCst);
        assert!(timeout(long, stuck(&begun, || true)).await.is_err(), "nothing is in its way");
        assert!(timeout(long, stuck(&begun, || false)).await.is_ok());
    }
}
