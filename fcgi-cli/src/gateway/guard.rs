//! Watches over a program for the gateway, so that nothing of it outlives the gateway, however that
//! ends. The guard is a separate process. Its descriptor 1 is a line to the gateway: over it the
//! guard reports that the program has ended, and the gateway confirms.

use std::{
    ffi::OsString,
    fs,
    io::{self, stderr, stdout},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, exit},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use clap::Args;
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, getpid, getppid, kill_process_group, wait},
};

use super::{
    descendants::{adopt, end_descendants},
    folder::use_folder,
};
use crate::complain;

/// How long the program may take to end by itself.
const STOP: Duration = Duration::from_secs(5);
/// The file with the program's process id, in the folder.
pub(super) const PID_FILE: &str = "pid";

/// Run a program for a gateway, until the gateway ends
#[derive(Args)]
pub(crate) struct Guard {
    /// Become the program, and end with the guard of this process id
    #[arg(long, value_name = "PID")]
    below: Option<i32>,
    /// The program and its arguments, if there is one, and a folder, which is removed at the end
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

static STOPPING: AtomicBool = AtomicBool::new(false);
static ENDED: AtomicBool = AtomicBool::new(false);

impl Guard {
    pub(crate) fn run(mut self) -> ExitCode {
        let folder = PathBuf::from(self.program.pop().unwrap_or_default());
        let _used = if self.below.is_none() { use_folder(&folder) } else { None };
        match (self.below, self.program.is_empty()) {
            (Some(guard), false) => self.exec(guard),
            (None, false) => self.watch(folder),
            _ => {
                while hear() {}
                let _ = fs::remove_dir_all(&folder);
                ExitCode::SUCCESS
            }
        }
    }

    fn watch(&self, folder: PathBuf) -> ExitCode {
        adopt();
        let leader = match self.start(&folder) {
            Ok(child) => Pid::from_child(&child),
            Err(error) => {
                complain(&format!("start {}: {error}", self.program[0].to_string_lossy()));
                return ExitCode::FAILURE;
            }
        };
        // If this guard is killed, the file shows what it has left.
        let _ = fs::write(folder.join(PID_FILE), leader.as_raw_nonzero().to_string());
        let removed = folder.clone();
        thread::spawn(move || {
            if hear() {
                // The gateway starts everything again.
                exit(1);
            }
            STOPPING.store(true, Ordering::SeqCst);
            if !ENDED.load(Ordering::SeqCst) {
                let _ = kill_process_group(leader, Signal::TERM);
                thread::sleep(STOP);
            }
            finish(leader, &removed)
        });
        let ended = wait_for(leader);
        ENDED.store(true, Ordering::SeqCst);
        match ended {
            _ if STOPPING.load(Ordering::SeqCst) => finish(leader, &folder),
            Ok(status) => complain(&format!("it ended: {status}")),
            Err(error) => complain(&format!("wait for it: {error}")),
        }
        // Otherwise its workers would stay.
        end_group(leader);
        end_descendants();
        // The program may have ended because the gateway has; then the folder must still be removed.
        let _ = rustix::io::write(stdout(), b"e");
        loop {
            thread::park();
        }
    }

    /// Starts the program as the first of a new process group, through this command: a process can
    /// only request for itself to end with its parent.
    fn start(&self, folder: &Path) -> io::Result<std::process::Child> {
        let own = crate::own_program()?;
        let mut command = Command::new(own);
        command.args(["guard", "--below", &getpid().to_string(), "--"]);
        command.args(&self.program).arg(folder).process_group(0).stdout(stderr());
        command.spawn()
    }

    fn exec(&self, guard: i32) -> ExitCode {
        #[cfg(target_os = "linux")]
        {
            use rustix::process::set_parent_process_death_signal;
            // This works even if the guard is killed together with the gateway.
            let _ = set_parent_process_death_signal(Some(Signal::TERM));
        }
        if getppid().map(|parent| parent.as_raw_nonzero().get()) != Some(guard) {
            return ExitCode::FAILURE;
        }
        let error = Command::new(&self.program[0]).args(&self.program[1..]).exec();
        complain(&format!("start {}: {error}", self.program[0].to_string_lossy()));
        ExitCode::FAILURE
    }
}

/// Waits for the end of the program. Others that end meanwhile were left to this process.
fn wait_for(leader: Pid) -> io::Result<ExitStatus> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((id, status))) if id == leader => {
                return Ok(ExitStatus::from_raw(status.as_raw()));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for a message from the gateway. There is none once it has ended, in whatever way.
fn hear() -> bool {
    loop {
        match rustix::io::read(stdout(), &mut [0; 1]) {
            Err(Errno::INTR) => {}
            heard => return heard == Ok(1),
        }
    }
}

/// Ends, and leaves nothing behind.
fn finish(leader: Pid, folder: &Path) -> ! {
    end_group(leader);
    end_descendants();
    // The gateway may have removed it first.
    let _ = fs::remove_dir_all(folder);
    exit(0)
}

/// Ends all that is left of the program.
pub(super) fn end_group(leader: Pid) {
    // All processes may have ended.
    let _ = kill_process_group(leader, Signal::KILL);
}
