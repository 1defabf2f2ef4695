//! What `fcgi gateway` can be told.

use std::{path::PathBuf, time::Duration};

use clap::{
    Args, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser},
};
use fcgi_tokio as fcgi;

use crate::args::{Param, param, seconds, size};

/// Serve a FastCGI application to browsers
///
/// A web server for HTTP/1.1 and HTTP/2 without TLS (h2c), in front of any FastCGI application:
/// scripts are run by the application, other files of the root are sent as they are, and answers
/// go out as they come. Names that start with a dot, and what is outside of the root, are not
/// found. Without ADDR it starts a sample application of its own; with --php, a php-fpm.
///
/// The access log goes to stdout; errors and what the application writes to STDERR go to stderr.
/// SIGTERM and SIGINT let the requests under way finish; a second one ends at once.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Gateway {
    /// The application: unix:PATH, /PATH, HOST:PORT or :PORT; without it, a sample application is started
    #[arg(value_name = "ADDR", conflicts_with = "php")]
    pub(super) address: Option<fcgi::Address>,
    /// Start a private php-fpm for the root, as php -S would, and stop it at the end
    #[arg(long)]
    pub(super) php: bool,
    /// A variable of the environment that --php's scripts see; may be given again. Default none
    #[arg(long, value_name = "NAME", value_parser = variable, requires = "php")]
    pub(super) env: Vec<String>,
    /// Where to listen; may be given again. Port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    pub(super) listen: Vec<String>,

    /// The folder of scripts and files; default the current one, and none for the sample
    #[arg(long, value_name = "DIR", help_heading = "What is served")]
    pub(super) root: Option<PathBuf>,
    /// Where the application sees the root, if elsewhere, as in a container
    #[arg(long, value_name = "DIR", help_heading = "What is served", conflicts_with = "php")]
    pub(super) app_root: Option<PathBuf>,
    /// Index files to try for a directory, in order; may be given again
    #[arg(
        long,
        value_name = "FILE",
        default_values = ["index.php", "index.html"],
        help_heading = "What is served"
    )]
    pub(super) index: Vec<String>,
    /// What a script's name ends with; what follows it in a path is PATH_INFO. May be given again
    #[arg(long, value_name = "SUFFIX", default_value = ".php", help_heading = "What is served")]
    pub(super) split: Vec<String>,
    /// The script, below the root, that answers for what is no file: a front controller
    #[arg(long, value_name = "FILE", help_heading = "What is served")]
    pub(super) front: Option<String>,
    /// The application is no script: all paths below PREFIX are its own, / for the whole site
    ///
    /// Files of the root come first, if a root is given.
    #[arg(
        long,
        value_name = "PREFIX",
        help_heading = "What is served",
        conflicts_with_all = ["front", "php", "no_check"]
    )]
    pub(super) mount: Option<String>,
    /// Ask the application even if the script is not in the root, which may then be elsewhere
    #[arg(long, help_heading = "What is served")]
    pub(super) no_check: bool,
    /// Follow symbolic links out of the root
    #[arg(long, help_heading = "What is served")]
    pub(super) follow_links: bool,
    /// The folder of files that the application may have sent by X-Accel-Redirect or X-Sendfile
    ///
    /// X-Accel-Redirect names a path below it, as in a URL; X-Sendfile a path below it, or an
    /// absolute one that leads there. Without this option, the fields are removed and logged.
    #[arg(long, value_name = "DIR", help_heading = "What is served")]
    pub(super) sendfile_root: Option<PathBuf>,
    /// A parameter for each request, in place of one of that name; may be given again
    #[arg(
        long = "param",
        value_name = "NAME=VALUE",
        value_parser = OsStringValueParser::new().try_map(param),
        help_heading = "What is served"
    )]
    pub(super) params: Vec<Param>,
    /// No access log
    #[arg(long, short)]
    pub(super) quiet: bool,

    /// The largest head of a request, in bytes or with K, M; 431 beyond. At least 8K
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "64K",
        value_parser = head_size,
        help_heading = "Limits"
    )]
    pub(super) max_head: u64,
    /// The most header fields of a request; 431 beyond
    #[arg(long, value_name = "N", default_value = "100", value_parser = fields, help_heading = "Limits")]
    pub(super) max_fields: usize,
    /// The largest body of a request, in bytes or with K, M, G; 413 beyond
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "128M",
        value_parser = size,
        help_heading = "Limits"
    )]
    pub(super) max_body: u64,
    /// Take in a whole request before the application is asked, and an answer as fast as it comes
    ///
    /// Then a slow client holds no connection to the application. A fast one still gets each piece
    /// of an answer at once. Bodies are kept in memory, up to 128K each, and then in temporary
    /// files. With off, both stream, and the application waits for its client.
    #[arg(
        long,
        value_name = "on|off",
        value_enum,
        default_value_t = Switch::On,
        hide_possible_values = true,
        help_heading = "Limits"
    )]
    pub(super) buffering: Switch,
    /// The most of all bodies that is kept in temporary files; beyond it uploads get 503
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size, help_heading = "Limits")]
    pub(super) store: u64,
    /// The most of one answer that is kept in a file; beyond it the application waits
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = size, help_heading = "Limits")]
    pub(super) store_each: u64,
    /// Clients' connections at once; more wait to be accepted
    #[arg(long, value_name = "N", default_value = "1024", value_parser = at_least_one, help_heading = "Limits")]
    pub(super) max_clients: usize,
    /// Connections to the application at once; php-fpm needs a worker for each
    #[arg(long, value_name = "N", default_value = "8", value_parser = at_least_one, help_heading = "Limits")]
    pub(super) connections: usize,
    /// Requests at once on one connection, if the application says that it multiplexes
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one, help_heading = "Limits")]
    pub(super) multiplex: usize,
    /// Keep a connection to the application for further requests
    ///
    /// It saves a connect a request. It is safe for applications that are done when they answer,
    /// such as Go's and this project's; php-fpm goes on after fastcgi_finish_request(), and the
    /// next request on that connection waits for it.
    #[arg(long, help_heading = "Limits")]
    pub(super) keep_conn: bool,
    /// Requests that may wait for a connection to the application; 503 beyond
    #[arg(long, value_name = "N", default_value = "1024", help_heading = "Limits")]
    pub(super) max_waiting: usize,
    /// How long one waits for a connection to the application; then 503
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, help_heading = "Limits")]
    pub(super) wait_timeout: Duration,
    /// Time limit for connecting to the application (504 when it passes)
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, help_heading = "Limits")]
    pub(super) connect_timeout: Duration,
    /// For the first byte of an answer; then 504
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, help_heading = "Limits")]
    pub(super) first_byte_timeout: Duration,
    /// For each next byte of an answer; then the answer is cut
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, help_heading = "Limits")]
    pub(super) next_byte_timeout: Duration,
    /// For a whole request to the application; default none
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Limits")]
    pub(super) timeout: Option<Duration>,
    /// For a client's head, each next piece of its body, and taking each piece of an answer
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, help_heading = "Limits")]
    pub(super) client_timeout: Duration,
    /// For the requests under way when it is told to stop
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, help_heading = "Limits")]
    pub(super) shutdown_timeout: Duration,
}

const AFTER_HELP: &str = "\
Answers of its own, each with a reason:
  400  what is no HTTP, or no path          413  a body larger than --max-body
  404  no such script or file               502  the application is not there, or breaks off
  405  a method that a file has not         503  the application, its queue or the gateway is full
  408  a client too slow with its body      504  the application is too slow
  412  a file that is not as it was named   501  a transfer coding other than chunked
  431  a head larger than --max-head, or with more fields than --max-fields

Exit status:
  0  stopped by SIGTERM or SIGINT
  2  usage, or no such root
  5  the address can't be listened at, or php-fpm can't be started

Examples:
  See it work, at http://127.0.0.1:8080/
    fcgi gateway
  A PHP project with a front controller, without any configuration
    fcgi gateway --php --root public --front index.php
  A php-fpm that runs already
    fcgi gateway unix:/run/php/php-fpm.sock --root /srv/www
  php-fpm in a container, which has the same files elsewhere
    fcgi gateway tcp:127.0.0.1:9000 --root public --app-root /var/www/html
  An application that is no script, in Go or Rust, for all paths
    fcgi gateway tcp:127.0.0.1:9000 --mount / --listen 0.0.0.0:80";

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Switch {
    On,
    Off,
}

fn variable(name: &str) -> Result<String, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_name = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(is_plain);
    is_name.then(|| name.to_owned()).ok_or("expected the name of a variable")
}

fn head_size(text: &str) -> Result<u64, &'static str> {
    match size(text)? {
        size @ 0x2000..=0x100_0000 => Ok(size),
        _ => Err("expected 8K to 16M"),
    }
}

fn fields(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(number @ 1..=10_000) => Ok(number),
        _ => Err("expected a number from 1 to 10000"),
    }
}

fn at_least_one(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number, 1 or more"),
        Ok(n) => Ok(n),
    }
}
