//! `fcgi doctor`: checks each step from the socket to the script, and says what is wrong.

mod body;
mod options;
mod steps;
mod walk;

use std::process::ExitCode;

pub(crate) use options::Doctor;
use walk::Walk;

impl Doctor {
    pub(crate) async fn run(self) -> ExitCode {
        let mut walk = Walk::new(&self);
        let report = walk.walk().await;
        report.finish(self.form, false)
    }
}
