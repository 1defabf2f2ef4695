//! What a process uses: memory, processor time, descriptors.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// A process with one thread, to be observed.
#[derive(Clone, Copy)]
pub(crate) struct Process(Pid);

impl Process {
    /// The server.
    pub(crate) fn of(pid: Pid) -> Process {
        Process(pid)
    }

    /// This process.
    pub(crate) fn own() -> Process {
        Process(rustix::process::getpid())
    }

    /// Bytes of memory in use.
    pub(crate) fn memory(self) -> Result<f64> {
        self.status("VmRSS:")
    }

    /// The most bytes of memory in use since [`forget_peak`](Self::forget_peak).
    pub(crate) fn peak(self) -> Result<f64> {
        self.status("VmHWM:")
    }

    /// Resets the peak.
    pub(crate) fn forget_peak(self) -> Result<()> {
        let path = self.path("clear_refs");
        fs::write(&path, "5").with_context(|| format!("cannot write {path}"))
    }

    /// Seconds of processor time, user and system, up to when it last waited.
    pub(crate) fn time(self) -> Result<f64> {
        let path = self.path("schedstat");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let nanoseconds = text.split_whitespace().next().context("schedstat is empty")?;
        Ok(nanoseconds.parse::<u64>()? as f64 / 1e9)
    }

    fn status(self, field: &str) -> Result<f64> {
        let path = self.path("status");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB"));
        let kilobytes = kilobytes.with_context(|| format!("no {field} in {path}"))?;
        Ok(kilobytes.trim().parse::<u64>()? as f64 * 1024.0)
    }

    fn path(self, file: &str) -> String {
        format!("/proc/{}/{file}", self.0.as_raw_nonzero())
    }
}

/// Seconds of processor time that this process has used.
pub(crate) fn own_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Lets this process, and those that it starts from now on, open `n` descriptors.
pub(crate) fn allow_descriptors(n: u64) -> Result<()> {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= n) {
        return Ok(());
    }
    let enough = now.maximum.is_none_or(|maximum| maximum >= n);
    let maximum = if enough { now.maximum } else { Some(n) };
    setrlimit(Resource::Nofile, Rlimit { current: Some(n), maximum })
        .with_context(|| format!("cannot raise RLIMIT_NOFILE from {:?} to {n}", now.current))?;
    ensure!(getrlimit(Resource::Nofile).current.is_none_or(|current| current >= n));
    Ok(())
}
