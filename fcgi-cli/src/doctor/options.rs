//! The options of `fcgi doctor`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    args::{limit, size},
    place::Place,
    report::Form,
};

/// Find out what is wrong with an application, and what to do
///
/// It checks each step from the socket to the script: does the socket exist, may you connect, does
/// something listen, how many wait, is it FastCGI, does php-fpm have its ping and status pages,
/// does it find and run the script. Each step prints a line; a problem also gets its likely cause
/// and what to do. It changes nothing, and runs only the given script.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(super) place: Place,
    /// A script to run, by its path as you think the application sees it
    #[arg(long, value_name = "FILE")]
    pub(super) script: Option<String>,
    /// Send the script a body of this many bytes, or with K, M, G: is post_max_size large enough?
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "script")]
    pub(super) body: Option<u64>,
    /// php-fpm's configuration; default that of packages, and of the running php-fpm
    #[arg(long, value_name = "FILE")]
    pub(super) fpm_config: Option<PathBuf>,
    /// Time limit for all steps together
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = limit)]
    pub(super) timeout: Duration,
    #[command(flatten)]
    pub(super) form: Form,
}

const AFTER_HELP: &str = "\
Exit status:
  0  nothing is wrong
  2  usage, no address found, or a configuration that can't be read
  3  refused by the application
  4  it is not FastCGI, or it closes the connection
  5  connect or IO error: no socket, no permission, nobody listens
  6  time-out: all workers are busy, or stopped
  7  a wrong answer: no ping or status page, or a script that is not found or fails

Examples:
  What is wrong with the php-fpm of this machine or container?
    fcgi doctor
  The web server says 404 or `Primary script unknown`
    fcgi doctor unix:/run/php/php-fpm.sock --script /srv/www/index.php
  Large uploads arrive empty
    fcgi doctor --script /srv/www/upload.php --body 20M";
