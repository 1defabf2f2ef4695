//! Output that nobody may be reading. It is written on a thread, so that signals and time limits
//! work while a write waits.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use crate::{
    budget::Budget,
    complain,
    exit::Exit,
    report::{Form, Report},
};

/// How long the last line waits for its reader after the time is up or a signal came.
const LAST_LINE: Duration = Duration::from_millis(500);

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
    let late = async {
        match budget.left() {
            Some(left) => sleep(left.saturating_add(LAST_LINE)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        code = apart(print) => code,
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
    // A failure of stderr can't be reported anywhere.
    let _ = timeout(LAST_LINE, apart(print)).await;
}

/// Does work that may have to wait for a reader.
pub(crate) async fn apart(work: impl FnOnce() -> ExitCode + Send + 'static) -> ExitCode {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Exit::Io.into())
}
