//! Programs that the gateway starts, and restarts when they end.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream as StdUnixStream, process::CommandExt},
    },
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result};
use fcgi_engine::text::escape;
use rustix::process::Pid;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    process::{Child, Command},
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    descendants::{adopt, end_descendants},
    folder::Folder,
    guard::{PID_FILE, end_group},
    log::complain,
};

/// How long a guard may take to end: longer than it waits for its program.
const STOP: Duration = Duration::from_secs(7);
/// The first pause before a program is restarted. Each is twice as long as the last, up to a limit.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// The longest line of its log, in bytes.
const MAX_LINE: u64 = 8 * 1024;

/// A program that is run, and run again if needed.
pub(super) struct Program {
    /// What the log calls it.
    pub(super) name: &'static str,
    /// The program and its arguments. Without any, only the folder is guarded.
    pub(super) command: Vec<OsString>,
    /// Its descriptor 0, if it should have one.
    pub(super) stdin: Option<OwnedFd>,
    /// A folder for its files, which is removed when it ends.
    pub(super) folder: Folder,
    /// A folder left over from a killed one, to be removed.
    pub(super) stale: Option<PathBuf>,
}

/// A guard and its program. They run as long as the line is open.
pub(super) struct Running {
    guard: Child,
    line: Option<UnixStream>,
}

/// A program that is restarted when it has ended.
pub(super) struct Supervised {
    stop: oneshot::Sender<()>,
    keeper: JoinHandle<()>,
}

impl Program {
    pub(super) fn run(&self) -> Result<Running> {
        if let Some(stale) = &self.stale {
            let _ = fs::remove_file(stale);
        }
        adopt();
        let own = crate::own_program().context("find the program of the gateway")?;
        let (line, far) = StdUnixStream::pair().context("make a pair of sockets")?;
        line.set_nonblocking(true).context("make a pair of sockets")?;
        let line = UnixStream::from_std(line).context("make a pair of sockets")?;
        let mut command = std::process::Command::new(&own);
        command.args(["guard", "--"]).args(&self.command).arg(self.folder.path());
        // A Ctrl-C is for the gateway only, which lets active requests finish first.
        command.process_group(0);
        let stdin = self.stdin.as_ref().map(OwnedFd::try_clone).transpose()?;
        command.stdin(stdin.map_or_else(Stdio::null, Stdio::from));
        command.stdout(OwnedFd::from(far)).stderr(Stdio::piped());
        let mut guard =
            Command::from(command).spawn().with_context(|| format!("start {}", own.display()))?;
        if let Some(stderr) = guard.stderr.take() {
            tokio::spawn(log(stderr, self.name));
        }
        Ok(Running { guard, line: Some(line) })
    }

    /// Ends what is left if there is no guard any more.
    fn end(&self) {
        let file = self.folder.path().join(PID_FILE);
        let leader = fs::read_to_string(&file).ok().and_then(|id| id.trim().parse().ok());
        if let Some(leader) = leader.and_then(Pid::from_raw) {
            end_group(leader);
        }
        // Its descendants have become this process's own.
        end_descendants();
        let _ = fs::remove_file(file);
    }
}

impl Running {
    /// Whether the program has ended.
    pub(super) fn has_ended(&mut self) -> io::Result<bool> {
        let told = self.line.as_ref().map(|line| line.try_read(&mut [0; 1]));
        let is_told = matches!(told, Some(Ok(_)));
        Ok(is_told || self.guard.try_wait()?.is_some())
    }

    /// Waits for the end of the program and of its guard.
    async fn end(&mut self) {
        if let Some(line) = &mut self.line {
            // The guard reports this, or is gone.
            if let Ok(1) = line.read(&mut [0; 1]).await {
                let _ = line.write_all(b"k").await;
            }
        }
        let _ = self.guard.wait().await;
    }
}

impl Supervised {
    /// Restarts it whenever it has ended.
    pub(super) fn new(program: Program, running: Running) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, keeper: tokio::spawn(keep(program, running, stopped)) }
    }

    /// Ends it and all that it has started.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.keeper.await;
    }
}

async fn keep(program: Program, mut running: Running, mut stopped: oneshot::Receiver<()>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        tokio::select! {
            biased;
            _ = &mut stopped => {
                running.line = None;
                if timeout(STOP, running.guard.wait()).await.is_err() {
                    let _ = running.guard.kill().await;
                    program.end();
                }
                return;
            }
            () = running.end() => {}
        }
        // If the guard was killed, the rest is still running.
        program.end();
        if started.elapsed() > LAST_PAUSE {
            pause = FIRST_PAUSE;
        }
        loop {
            complain(&format!("{} has ended; it is started again in {pause:?}", program.name));
            tokio::select! {
                _ = &mut stopped => return,
                () = sleep(pause) => {}
            }
            pause = (pause * 2).min(LAST_PAUSE);
            match program.run() {
                Ok(again) => {
                    running = again;
                    break;
                }
                Err(error) => complain(&format!("{error:#}")),
            }
        }
    }
}

/// Copies its log to ours, line by line.
async fn log(stderr: impl AsyncRead + Unpin, name: &str) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut stderr).take(MAX_LINE).read_until(b'\n', &mut line).await {
        let text = line.trim_ascii_end();
        if !text.is_empty() {
            complain(&format!("{name}: {}", escape(text, b"\t")));
        }
        line.clear();
    }
}
