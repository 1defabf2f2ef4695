//! The options of `fcgi gateway`.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{
    Args, ValueEnum,
    builder::{NonEmptyStringValueParser, OsStringValueParser, TypedValueParser},
};
use fcgi_http::Mount;
use fcgi_tokio as fcgi;
use glob::PatternError;

use super::{
    deny::Deny,
    files::Charset,
    log::Format,
    origin::{Fields, Trusted},
    stopped::Stopped,
};

use crate::args::{Param, at_least_one, limit, listed, number, param, seconds, size};

/// Serve a FastCGI application to browsers
///
/// A web server for HTTP/1.1 and HTTP/2 without TLS (h2c), in front of any FastCGI application. The
/// application runs scripts; other files of the root are sent as they are, and answers are sent as
/// they come. Names that start with a dot, and files outside of the root, are not found. Without
/// ADDR it starts a sample application, with --php a php-fpm, and with --spawn any other program.
///
/// The access log goes to stdout; errors and the application's STDERR go to stderr. SIGTERM and
/// SIGINT let active requests finish; a second one ends the gateway at once. SIGHUP does the same
/// if the terminal has gone, and is otherwise ignored.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Options {
    /// The application: unix:PATH, /PATH, HOST:PORT or :PORT; without it, a sample application is
    /// started
    ///
    /// With several, each request goes to the one with the least to do. One that can't be reached
    /// rests, and a request that it did not take goes to another.
    #[arg(
        value_name = "ADDR",
        value_parser = listed(application),
        env = "FCGI_ADDR",
        hide_env_values = true,
        conflicts_with_all = ["php", "php_fpm", "spawn"]
    )]
    pub(super) address: Vec<fcgi::Address>,
    /// Start a private php-fpm for the root, like php -S, and stop it at the end
    #[arg(long)]
    pub(super) php: bool,
    /// The php-fpm to start, if not the first one found; implies --php
    #[arg(long, value_name = "PATH")]
    pub(super) php_fpm: Option<PathBuf>,
    /// A setting for --php, as in php.ini, such as memory_limit=256M; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = OsStringValueParser::new().try_map(setting))]
    pub(super) ini: Vec<OsString>,
    /// An environment variable that --php's scripts may see; repeatable. Default none
    #[arg(long, value_name = "NAME", value_parser = listed(variable))]
    pub(super) env: Vec<String>,
    /// Start this program, and restart it when it ends: a command for sh, which gets the listening
    /// socket as its descriptor 0, as in FastCGI
    ///
    /// Its output goes to the error log. It ends with the gateway, however that ends.
    #[arg(
        long,
        value_name = "CMD",
        conflicts_with_all = ["php", "php_fpm"],
        value_parser = OsStringValueParser::new().try_map(program)
    )]
    pub(super) spawn: Option<OsString>,
    /// Where to listen: HOST:PORT, :PORT for all interfaces, or unix:PATH; repeatable
    ///
    /// Port 0 takes a free port. Sockets from systemd (LISTEN_FDS) are used too. The default is
    /// 127.0.0.1:8080 if there are neither.
    #[arg(long, value_name = "HOST:PORT", value_parser = listed(listener))]
    pub(super) listen: Vec<fcgi::Address>,
    /// The mode of the file at unix:PATH, in octal, such as 660; default 777 without the umask's
    /// bits
    ///
    /// A web server that runs as another user needs write permission: 660 and its group, or 666.
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub(super) listen_mode: Option<u32>,
    /// The owner of the file at unix:PATH, by name or number; only root can set it
    #[arg(long, value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
    pub(super) listen_owner: Option<String>,
    /// The group of the file at unix:PATH, by name or number; only root can set a group that it is
    /// not in
    #[arg(long, value_name = "GROUP", value_parser = NonEmptyStringValueParser::new())]
    pub(super) listen_group: Option<String>,

    /// The folder of scripts and files; default the current one, and none for the sample
    #[arg(long, value_name = "DIR", help_heading = "What is served")]
    pub(super) root: Option<PathBuf>,
    /// The root's path as the application sees it, if it differs, as in a container
    #[arg(long, value_name = "DIR", help_heading = "What is served", conflicts_with_all = ["php", "php_fpm"])]
    pub(super) app_root: Option<PathBuf>,
    /// Index files to try for a directory, in order; repeatable
    #[arg(
        long,
        value_name = "FILE",
        value_parser = listed(NonEmptyStringValueParser::new()),
        default_values = ["index.php", "index.html"],
        help_heading = "What is served"
    )]
    pub(super) index: Vec<String>,
    /// The suffix of script names; the path after it is PATH_INFO. Repeatable
    #[arg(
        long,
        value_name = "SUFFIX",
        value_parser = listed(NonEmptyStringValueParser::new()),
        default_value = ".php",
        help_heading = "What is served"
    )]
    pub(super) split: Vec<String>,
    /// The script, below the root, for each request that is not for a file: a front controller
    ///
    /// It answers for its own folder and the folders below: blog/index.php for /blog/. Repeatable;
    /// the nearest one answers.
    #[arg(long, value_name = "FILE", value_parser = listed(NonEmptyStringValueParser::new()), help_heading = "What is served")]
    pub(super) front: Vec<String>,
    /// Also pass the path, from its folder on, to a front controller as PATH_INFO
    #[arg(long, help_heading = "What is served", requires = "front")]
    pub(super) front_path_info: bool,
    /// The application is not a script: it gets all paths below PREFIX, / for the whole site
    ///
    /// Files of the root come first, if a root is given.
    #[arg(
        long,
        value_name = "PREFIX",
        value_parser = prefix,
        help_heading = "What is served",
        conflicts_with_all = ["front", "php", "php_fpm", "no_check"]
    )]
    pub(super) mount: Option<Mount>,
    /// Ask the application even if the script is not in the root, which may then be elsewhere
    #[arg(long, help_heading = "What is served")]
    pub(super) no_check: bool,
    /// Follow symbolic links out of the root
    #[arg(long, help_heading = "What is served")]
    pub(super) follow_links: bool,
    /// The folder of files that the application may name in X-Accel-Redirect or X-Sendfile
    ///
    /// X-Accel-Redirect names a path below it, as in a URL; X-Sendfile a path below it, or an
    /// absolute one that leads there. Without this option, the fields are removed and logged.
    #[arg(long, value_name = "DIR", help_heading = "What is served")]
    pub(super) sendfile_root: Option<PathBuf>,
    /// A parameter for each request, replacing one of the same name; repeatable
    #[arg(
        long = "param",
        value_name = "NAME=VALUE",
        value_parser = OsStringValueParser::new().try_map(parameter),
        help_heading = "What is served"
    )]
    pub(super) params: Vec<Param>,
    /// Serve only files below this prefix: run no script, and don't ask the application; repeatable
    #[arg(long, value_name = "PREFIX", value_parser = listed(prefix), help_heading = "What is served")]
    pub(super) files: Vec<Mount>,
    /// Paths that nobody gets (403), even if there is a file; repeatable
    ///
    /// The pattern may contain * (within a name), ** (across names), ? and [a-z]. It is compared
    /// with the decoded path from the root on, as in /data or /lib/*.inc; without a slash, with
    /// each name in the path, as in *.sql. Everything below a match is denied too.
    #[arg(long, value_name = "GLOB", value_parser = deny, help_heading = "What is served")]
    pub(super) deny: Vec<Deny>,
    /// The declared encoding of text files: a name, or off
    ///
    /// By default, auto, plain text and scripts are declared as utf-8; HTML, XML and CSS files
    /// declare theirs themselves.
    #[arg(long, value_name = "NAME|off", default_value = "auto", help_heading = "What is served")]
    pub(super) charset: Charset,
    /// Send FILE.br, FILE.zst or FILE.gz for FILE to clients that accept it
    #[arg(
        long,
        value_name = "on|off",
        value_enum,
        default_value_t = Switch::On,
        hide_possible_values = true,
        help_heading = "What is served"
    )]
    pub(super) precompressed: Switch,

    /// A trusted proxy in front of the gateway: an address, a network, or unix; repeatable
    ///
    /// Its Forwarded field, or its X-Forwarded-For, -Proto and -Host, describe the client:
    /// REMOTE_ADDR is the right-most address that is not a trusted proxy, and HTTPS,
    /// REQUEST_SCHEME, SERVER_PORT and SERVER_NAME follow. From others these fields are passed on
    /// and change nothing. The proxy must set or remove each of them itself: a field that it passes
    /// on unchanged comes from its client.
    #[arg(long, value_name = "CIDR", value_parser = listed(Trusted::from_str), help_heading = "Proxies, logs and checks")]
    pub(super) trusted_proxy: Vec<Trusted>,
    /// The fields that such a proxy writes: x for X-Forwarded-*; standard for Forwarded; or auto
    ///
    /// The others are then ignored. By default, auto, it may be either; a request with both is
    /// refused with 400 unless they agree, since the client may have sent one of them.
    #[arg(
        long,
        value_name = "auto|x|standard",
        value_enum,
        default_value_t = Fields::Auto,
        hide_possible_values = true,
        help_heading = "Proxies, logs and checks"
    )]
    pub(super) forwarded: Fields,
    /// Write no access log
    #[arg(long, short, help_heading = "Proxies, logs and checks")]
    pub(super) quiet: bool,
    /// The format of both logs: combined, like Apache and nginx, or json, one object per line
    #[arg(
        long,
        value_name = "combined|json",
        value_enum,
        default_value_t = Format::Combined,
        hide_possible_values = true,
        help_heading = "Proxies, logs and checks"
    )]
    pub(super) log: Format,
    /// The page that answers 200 while the application can be reached, otherwise 503; or off
    ///
    /// Everybody who can reach the gateway can read this page and the next, unless --deny names
    /// them.
    #[arg(long, value_name = "PATH|off", default_value = "/-/ready", value_parser = inside, help_heading = "Proxies, logs and checks")]
    pub(super) ready: Page,
    /// The page with the gateway's metrics for Prometheus; or off
    #[arg(long, value_name = "PATH|off", default_value = "/-/metrics", value_parser = inside, help_heading = "Proxies, logs and checks")]
    pub(super) metrics: Page,

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
    /// Read a whole request before the application is asked, and an answer as fast as it comes
    ///
    /// So a slow client occupies no connection to the application. A fast client still gets each
    /// piece of an answer at once. Up to 128K of a request and 1M of an answer are kept in memory,
    /// and the rest in temporary files. With off, both are streamed, and the application waits for
    /// its client.
    #[arg(
        long,
        value_name = "on|off",
        value_enum,
        default_value_t = Switch::On,
        hide_possible_values = true,
        help_heading = "Limits"
    )]
    pub(super) buffering: Switch,
    /// Disk space for all bodies in temporary files; beyond it uploads get 503
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size, help_heading = "Limits")]
    pub(super) store: u64,
    /// Disk space for one answer; beyond it the application waits
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = size, help_heading = "Limits")]
    pub(super) store_each: u64,
    /// Concurrent connections of clients; further ones wait to be accepted
    #[arg(long, value_name = "N", default_value = "1024", value_parser = at_least_one::<usize>, help_heading = "Limits")]
    pub(super) max_clients: usize,
    /// Concurrent connections to the application; php-fpm needs a worker for each
    #[arg(long, value_name = "N", default_value = "8", value_parser = at_least_one::<usize>, help_heading = "Limits")]
    pub(super) connections: usize,
    /// Concurrent requests on one connection, if the application reports that it multiplexes
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one::<usize>, help_heading = "Limits")]
    pub(super) multiplex: usize,
    /// Keep a connection to the application for further requests
    ///
    /// This saves a connect per request. It is safe for applications that are done when they
    /// answer, such as Go's and this project's. php-fpm may go on after fastcgi_finish_request(),
    /// and the next request on that connection then waits for it.
    #[arg(long, help_heading = "Limits")]
    pub(super) keep_conn: bool,
    /// Requests that may wait for a connection to the application; 503 beyond
    #[arg(long, value_name = "N", default_value = "1024", value_parser = number::<usize>, help_heading = "Limits")]
    pub(super) max_waiting: usize,
    /// Time limit for waiting for a connection to the application (503 when it passes)
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, help_heading = "Limits")]
    pub(super) wait_timeout: Duration,
    /// Time limit for connecting to the application (504 when it passes)
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = limit, help_heading = "Limits")]
    pub(super) connect_timeout: Duration,
    /// Time limit for the first byte of an answer (504 when it passes)
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = limit, help_heading = "Limits")]
    pub(super) first_byte_timeout: Duration,
    /// Time limit for each next byte of an answer, which is then cut off
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = limit, help_heading = "Limits")]
    pub(super) next_byte_timeout: Duration,
    /// Time limit for a whole request to the application; default none
    #[arg(long, value_name = "SECONDS", value_parser = limit, help_heading = "Limits")]
    pub(super) timeout: Option<Duration>,
    /// Time limit for a client's head, each next piece of its body, and reading each piece of an
    /// answer
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = limit, help_heading = "Limits")]
    pub(super) client_timeout: Duration,
    /// Time limit for active requests at a shutdown
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, help_heading = "Limits")]
    pub(super) shutdown_timeout: Duration,
}

const AFTER_HELP: &str = "\
The gateway's own answers, each with a reason:
  400  invalid HTTP, or an invalid path     413  a body larger than --max-body
  403  a path that --deny names             502  the application can't be reached, or closes early
  404  no such script or file               503  the application, its queue or the gateway is full
  405  a method that files do not support   504  the application is too slow
  408  a client too slow with its body      501  a transfer coding other than chunked
  412  a file that has changed              414  a URL longer than 64K, or than --max-head
  431  a head larger than --max-head, or with more fields than --max-fields

Exit status:
  0  stopped by SIGTERM or SIGINT
  2  usage, no such root, or no such front controller
  5  can't listen on the address, or can't start php-fpm

Environment:
  Each option has a variable, FCGI_GATEWAY_ and its name: FCGI_GATEWAY_MAX_BODY=1G is --max-body 1G.
  ADDR is FCGI_ADDR. The command line takes precedence. Switches are on or off. Several values are
  separated by commas, those of --param, --ini and --deny by line ends.

Examples:
  See it work, at http://127.0.0.1:8080/
    fcgi gateway
  A PHP project with a front controller, without any configuration
    fcgi gateway --php --root public --front index.php
  A php-fpm that runs already
    fcgi gateway unix:/run/php/php-fpm.sock --root /srv/www
  php-fpm in a container, which has the same files elsewhere
    fcgi gateway tcp:127.0.0.1:9000 --root public --app-root /var/www/html
  An application that is not a script, in Go or Rust, for all paths
    fcgi gateway tcp:127.0.0.1:9000 --mount / --listen :80
  The same, started by the gateway
    fcgi gateway --spawn ./app --mount /";

impl Options {
    /// Checks what the command line parser can't.
    pub(super) fn check(&mut self) -> Result<(), Stopped> {
        self.php |= self.php_fpm.is_some();
        self.deny.retain(|deny| !deny.is_empty());
        self.ini.retain(|setting| !setting.is_empty());
        self.params.retain(|(name, _)| !name.is_empty());
        for (name, is_empty) in [("--env", self.env.is_empty()), ("--ini", self.ini.is_empty())] {
            if !is_empty && !self.php {
                return Err(Stopped::usage(format!("{name} is for --php, which was not given")));
            }
        }
        if self.ready.0.is_some() && self.ready.0 == self.metrics.0 {
            let message = "--ready and --metrics need different paths, or off";
            return Err(Stopped::usage(message.to_owned()));
        }
        let is_unix = |address: &fcgi::Address| matches!(address.target(), fcgi::Target::Unix(_));
        for (name, is_given) in [
            ("--listen-mode", self.listen_mode.is_some()),
            ("--listen-owner", self.listen_owner.is_some()),
            ("--listen-group", self.listen_group.is_some()),
        ] {
            if is_given && !self.listen.iter().any(is_unix) {
                let message = format!("{name} is for --listen unix:PATH, which was not given");
                return Err(Stopped::usage(message));
            }
        }
        Ok(())
    }
}

/// A file's mode.
fn mode(text: &str) -> Result<u32, &'static str> {
    let is_octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    mode.ok_or("expected a mode in octal, such as 660")
}

/// A line of a variable that has several. An editor may have ended it with CRLF, and the last line
/// may be empty; so empty values are ignored.
fn line(argument: OsString) -> OsString {
    let mut bytes = argument.into_vec();
    if bytes.ends_with(b"\r") {
        bytes.pop();
    }
    OsString::from_vec(bytes)
}

/// A pattern; an empty one is ignored.
fn deny(text: &str) -> Result<Deny, PatternError> {
    text.strip_suffix('\r').unwrap_or(text).parse()
}

/// `NAME=VALUE`; an empty one is ignored.
fn parameter(argument: OsString) -> Result<Param, &'static str> {
    let argument = line(argument);
    if argument.is_empty() {
        return Ok(Param::default());
    }
    let (name, value) = param(argument)?;
    if name.is_empty() {
        return Err("expected a name before the =");
    }
    Ok((name, value))
}

/// A command for sh that is not blank.
fn program(argument: OsString) -> Result<OsString, &'static str> {
    let is_blank = argument.as_bytes().trim_ascii().is_empty();
    (!is_blank).then_some(argument).ok_or("expected a command")
}

/// `NAME=VALUE` for php, with a plain name; an empty one is ignored.
fn setting(argument: OsString) -> Result<OsString, &'static str> {
    let argument = line(argument);
    if argument.is_empty() {
        return Ok(argument);
    }
    let (name, _) = param(argument.clone())?;
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let is_name = !name.is_empty() && name.iter().all(is_plain);
    is_name.then_some(argument).ok_or("expected the name of a setting before the =")
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Switch {
    On,
    Off,
}

/// An application's address.
fn application(text: &str) -> Result<fcgi::Address, String> {
    match text.split_once("://") {
        Some(("http" | "https", rest)) => Err(format!(
            "the gateway speaks FastCGI to its application, not HTTP; for a FastCGI application \
             there, {} is its address",
            rest.trim_end_matches('/')
        )),
        _ => text.parse().map_err(|error: fcgi::AddressError| error.to_string()),
    }
}

/// Where to listen.
fn listener(text: &str) -> Result<fcgi::Address, String> {
    let rest = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    match rest {
        Some(rest) => return Err(format!("expected HOST:PORT, not a URL: {rest}")),
        None if text.starts_with("https://") => {
            return Err("there is no TLS: put the gateway behind something that has".to_owned());
        }
        None => {}
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "expected HOST:PORT: 127.0.0.1:{text} is for this machine, :{text} for all"
        ));
    }
    text.parse().map_err(|error: fcgi::AddressError| error.to_string())
}

fn variable(name: &str) -> Result<String, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_name = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(is_plain);
    is_name.then(|| name.to_owned()).ok_or("expected the name of a variable")
}

/// The path of one of the gateway's own pages, if it has one.
#[derive(Clone, Debug)]
pub(super) struct Page(pub(super) Option<String>);

fn inside(text: &str) -> Result<Page, &'static str> {
    match text {
        "off" => Ok(Page(None)),
        path if path.starts_with('/') && !path.contains(['?', '#', '%']) => {
            Ok(Page(Some(path.to_owned())))
        }
        _ => Err("expected a path such as /-/ready, or off"),
    }
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

/// The path below which an application or files are. A slash at its end does not matter.
fn prefix(text: &str) -> Result<Mount, &'static str> {
    const EXPECTED: &str = "expected a path such as /app, or / for the whole site";
    let path = text.starts_with('/').then(|| text.trim_end_matches('/'));
    path.and_then(|path| Mount::new(path).ok()).ok_or(EXPECTED)
}
