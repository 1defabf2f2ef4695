//! Output that nobody may be reading. It is written on a thread, so that signals and time limits
//! work while a write waits.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    budget::Budget,
    exit::Exit,
    report::{Form, Report},
};

/// Where bytes go.
#[derive(Clone, Debug)]
pub(crate) enum Writer {
    Stdout,
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

/// Prints a report, which may be long, and returns the exit status.
pub(crate) async fn finish(report: Report, form: Form, quiet: bool) -> ExitCode {
    apart(move || report.finish(form, quiet)).await
}

/// Does work that may have to wait for a reader.
pub(crate) async fn apart(work: impl FnOnce() -> ExitCode + Send + 'static) -> ExitCode {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Exit::Io.into())
}
