//! Watches over a php-fpm for the gateway, so that nothing of it outlives the gateway, however that
//! ends. It is a process of its own.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio, exit},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::complain;

/// How long php-fpm has to end by itself.
const STOP: Duration = Duration::from_secs(5);

/// Run php-fpm for a gateway, until stdin ends
#[derive(Args)]
pub(crate) struct PhpGuard {
    program: PathBuf,
    config: PathBuf,
    /// Removed at the end
    folder: PathBuf,
}

static STOPPING: AtomicBool = AtomicBool::new(false);

impl PhpGuard {
    pub(crate) fn run(self) -> ExitCode {
        let mut command = Command::new(&self.program);
        command.args(["--nodaemonize", "--fpm-config"]).arg(&self.config);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                complain(&format!("start {}: {error}", self.program.display()));
                return ExitCode::FAILURE;
            }
        };
        let (master, folder) = (Pid::from_child(&child), self.folder.clone());
        thread::spawn(move || {
            // The gateway never writes. When it ends, in whatever way, so does this.
            let _ = io::stdin().read_to_end(&mut Vec::new());
            STOPPING.store(true, Ordering::SeqCst);
            let _ = kill_process(master, Signal::TERM);
            thread::sleep(STOP);
            finish(master, &folder)
        });
        match child.wait() {
            _ if STOPPING.load(Ordering::SeqCst) => finish(master, &self.folder),
            Ok(status) => complain(&format!("it ended: {status}")),
            Err(error) => complain(&format!("wait for it: {error}")),
        }
        // Its workers would stay. The gateway starts all of it again.
        end_workers(master);
        ExitCode::FAILURE
    }
}

/// Leaves nothing behind.
fn finish(master: Pid, folder: &Path) -> ! {
    end_workers(master);
    // The gateway may have been quicker.
    let _ = fs::remove_dir_all(folder);
    exit(0)
}

/// php-fpm's master is the first of a process group of its own, and its workers are in it.
pub(super) fn end_workers(master: Pid) {
    // All of them may have ended.
    let _ = kill_process_group(master, Signal::KILL);
}
