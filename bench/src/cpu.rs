//! Pins processes to processors, and reads how much processor time they have used.

use std::fs;

use anyhow::{Context, Result};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The processors of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Placement {
    /// Where the load generator stays.
    pub(crate) load: usize,
    /// Where the server under test stays.
    pub(crate) server: usize,
}

impl Placement {
    /// The first two processors that this process may use; the same one twice if there is only one.
    pub(crate) fn choose() -> Result<Placement> {
        let allowed = sched_getaffinity(None).context("sched_getaffinity")?;
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
        let load = allowed.next().context("no processor is allowed")?;
        Ok(Placement { load, server: allowed.next().unwrap_or(load) })
    }

    /// Lets the calling thread, and every child it starts from now on, run on both again.
    pub(crate) fn unpin(self) -> Result<()> {
        let mut set = CpuSet::new();
        set.set(self.load);
        set.set(self.server);
        sched_setaffinity(None, &set).context("sched_setaffinity")
    }

    /// A text that says where everything runs.
    pub(crate) fn words(self) -> String {
        let Placement { load, server } = self;
        let shared = if load == server { ", the only one: they share it" } else { "" };
        format!("Load on processor {load}, server on {server}{shared}")
    }
}

/// Pins the calling thread, and every child it starts from now on, to one processor.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot pin to processor {cpu}"))
}

/// Seconds of processor time, user and system, that process `pid` and its children have used so
/// far, including threads that have ended.
///
/// It comes from /proc, so its resolution is one clock tick, usually 10 ms.
pub(crate) fn used(pid: Pid) -> Result<f64> {
    let path = format!("/proc/{}", pid.as_raw_nonzero());
    let ticks = ticks(&path)?;
    let mut seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    let children = fs::read_to_string(format!("{path}/task/{}/children", pid.as_raw_nonzero()));
    for child in children.unwrap_or_default().split_whitespace() {
        // A child that has just ended is not counted.
        let child = child.parse().ok().and_then(Pid::from_raw);
        seconds += child.and_then(|child| used(child).ok()).unwrap_or_default();
    }
    Ok(seconds)
}

fn ticks(process: &str) -> Result<u64> {
    let path = format!("{process}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The command is in parentheses and may itself contain spaces and parentheses.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let mut fields = after.split_whitespace().skip(11).map(str::parse::<u64>);
    let mut next = || fields.next().context("a field is missing")?.context("not a number");
    Ok(next()? + next()?)
}
