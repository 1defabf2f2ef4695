//! The processes that a started program has left: those too that have left its process group, as
//! with setsid or as daemons do.

use std::{collections::HashMap, fs, thread, time::Duration};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};

/// How often it is looked whether they have ended, and the pause before each other time.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// Makes this process the parent of descendants whose own parents end. Only Linux can do that.
pub(super) fn adopt() {
    #[cfg(target_os = "linux")]
    {
        // If it fails, only those that stay in the program's group are ended.
        let _ = rustix::process::set_child_subreaper(Some(getpid()));
    }
}

/// Ends all descendants of this process, and waits until there are none. This asks /proc; without
/// one, nothing is ended.
pub(super) fn end_descendants() {
    for _ in 0..TRIES {
        let left = descendants();
        if left.is_empty() {
            return;
        }
        for pid in &left {
            let _ = kill_process(*pid, Signal::KILL);
        }
        for pid in left {
            // Only children can be waited for. The others become children when their parents end.
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
        thread::sleep(PAUSE);
    }
}

/// All descendants of this process. Those that have ended count until they were waited for.
fn descendants() -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for id in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if let Some(parent) = parent_of(id) {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut found = Vec::new();
    let mut parents = vec![getpid().as_raw_nonzero().get()];
    while let Some(parent) = parents.pop() {
        let ids = children.remove(&parent).unwrap_or_default();
        found.extend(ids.iter().filter_map(|id| Pid::from_raw(*id)));
        parents.extend(ids);
    }
    found
}

/// The second field after the name, which is in brackets and may contain anything.
fn parent_of(id: i32) -> Option<i32> {
    let stat = fs::read(format!("/proc/{id}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(1)?.parse().ok()
}
