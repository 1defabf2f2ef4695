//! The options of `fcgi call`.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    Args, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser},
};
use fcgi_tokio as fcgi;

use crate::{
    args::{Param, param, seconds, size},
    budget::Budget,
    report::Form,
};

/// Send one request to an application: curl for FastCGI
///
/// With a URL-PATH, the parameters are set as a web server sets them, and the body of the answer
/// goes to stdout. Without one, only the given parameters are sent, and the application's STDOUT
/// goes to stdout as it is, including its head. In both cases it is written as it comes. STDERR
/// goes to stderr; if that is a terminal, control characters are escaped. If the reader of stdout
/// closes it early (| head), the request is aborted, which is not a failure.
#[derive(Args)]
#[command(
    override_usage = "fcgi call [OPTIONS] [ADDR] URL-PATH\n       fcgi call [OPTIONS] [ADDR] \
                      --param NAME=VALUE...",
    after_long_help = AFTER_HELP
)]
pub(crate) struct Call {
    /// unix:PATH, /PATH, HOST:PORT or :PORT; else FCGI_ADDR, FCGI_CONNECT, or the only socket found
    ///
    /// A single argument that starts with a slash is the URL-PATH, unless it names a socket.
    #[arg(value_name = "ADDR")]
    pub(super) first: Option<OsString>,
    /// The path to request, with its query: /index.php?page=2
    ///
    /// Its script is the part up to .php, and the rest is PATH_INFO; without .php, all of it is the
    /// script. With --root, a path that ends with a slash means its index.php.
    #[arg(value_name = "URL-PATH")]
    pub(super) second: Option<OsString>,
    /// The folder of scripts, as the application sees it; default /, so that paths are files
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<String>,
    /// REQUEST_METHOD; default GET, or POST with a body
    #[arg(long = "request", short = 'X', value_name = "METHOD", value_parser = method)]
    pub(super) method: Option<String>,
    /// A header field; `NAME:` leaves out one that is otherwise sent. Repeatable
    #[arg(
        long = "header",
        short = 'H',
        value_name = "NAME: VALUE",
        value_parser = OsStringValueParser::new().try_map(header)
    )]
    pub(super) headers: Vec<Header>,
    /// A form's text as the body, or that of @FILE without its line ends; several are joined by &
    #[arg(long = "data-ascii", short = 'd', value_name = "TEXT|@FILE", help_heading = "Body")]
    pub(super) text: Vec<OsString>,
    /// The same, but @FILE is sent unchanged
    #[arg(long, value_name = "TEXT|@FILE", help_heading = "Body")]
    pub(super) data_binary: Vec<OsString>,
    /// A field of a form with files: NAME=TEXT, NAME=@FILE, NAME=<FILE. Repeatable
    ///
    /// @FILE is an upload; ;type=TYPE and ;filename=NAME may follow. <FILE is a text.
    #[arg(
        long = "form",
        short = 'F',
        value_name = "NAME=CONTENT",
        conflicts_with_all = ["text", "data_binary", "stdin"],
        help_heading = "Body"
    )]
    pub(super) form_fields: Vec<OsString>,
    /// The body of the request: a file, or - for stdin
    ///
    /// CONTENT_LENGTH is added if it is not among the parameters. For that, a pipe is read to its
    /// end first, into memory and then into a temporary file. An authorizer gets no body.
    #[arg(
        long,
        value_name = "FILE|-",
        conflicts_with_all = ["text", "data_binary"],
        help_heading = "Body"
    )]
    pub(super) stdin: Option<PathBuf>,
    /// How much of a pipe is stored at most, in bytes or with K, M, G
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "1G",
        value_parser = size,
        help_heading = "Body"
    )]
    pub(super) max_stdin: u64,
    /// Fail with status 7 and without output if the answer's status is 400 or more
    #[arg(long, short)]
    pub(super) fail: bool,
    /// Print the head before the body, as the application wrote it
    #[arg(long, short, help_heading = "Output")]
    pub(super) include: bool,
    /// Write to a file instead of stdout, which is -
    #[arg(long, short, value_name = "FILE", help_heading = "Output")]
    pub(super) output: Option<PathBuf>,
    /// Show every record on stderr
    #[arg(long, short, help_heading = "Output")]
    pub(super) verbose: bool,
    #[command(flatten)]
    pub(super) form: Form,
    /// Role to request
    #[arg(long, value_enum, default_value = "responder", help_heading = "FastCGI")]
    pub(super) role: Role,
    /// A parameter, replacing one of the same name; repeatable, and sent in the given order
    #[arg(
        long = "param",
        value_name = "NAME=VALUE",
        value_parser = OsStringValueParser::new().try_map(param),
        help_heading = "FastCGI"
    )]
    pub(super) params: Vec<Param>,
    /// The file that a filter should change
    ///
    /// With a URL-PATH, FCGI_DATA_LENGTH and FCGI_DATA_LAST_MOD are sent too.
    #[arg(long, value_name = "FILE", help_heading = "FastCGI")]
    pub(super) data: Option<PathBuf>,
    /// Ask the application to keep the connection open
    #[arg(long, help_heading = "FastCGI")]
    pub(super) keep_conn: bool,
    /// Time limit for everything, including the body of the answer; 0 means no limit
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(super) timeout: Duration,
    /// Time limit for connecting; default that of --timeout, or 60 if that is 0
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) connect_timeout: Option<Duration>,
}

/// The limit for connecting if there is no other limit.
const CONNECT: Duration = Duration::from_secs(60);

impl Call {
    /// The file to write to; none for stdout.
    pub(super) fn file(&self) -> Option<&PathBuf> {
        self.output.as_ref().filter(|path| path.as_os_str() != "-")
    }

    /// The limit for the whole call.
    pub(super) fn limit(&self) -> Option<Duration> {
        Some(self.timeout).filter(|limit| !limit.is_zero())
    }

    /// The part of the budget that connecting may take.
    pub(super) fn connecting(&self, budget: &Budget) -> Budget {
        match (self.connect_timeout, self.limit()) {
            (Some(limit), _) if !limit.is_zero() => budget.part(limit),
            (_, Some(_)) => *budget,
            (_, None) => budget.part(CONNECT),
        }
    }
}

const AFTER_HELP: &str = "\
Exit status:
  0  done
  1  the application ended with a status other than 0, which is printed
  2  usage, or a file that can't be opened
  3  refused by the application (CANT_MPX_CONN, OVERLOADED, UNKNOWN_ROLE)
  4  protocol error or truncated response
  5  connect or IO error
  6  time-out
  7  with --fail: a status of 400 or more
  128 and the signal's number, when SIGINT or SIGTERM ends it; the request is aborted

Examples:
  A page of a PHP application
    fcgi call unix:/run/php/php-fpm.sock /index.php?page=2 --root /srv/www
  A page of an application that is not a script
    fcgi call 127.0.0.1:9000 /users/7 -H 'Accept: application/json' -i
  Post a form, and fail unless it is accepted
    fcgi call /form.php --root /srv/www -d name=Ann -d age=7 --fail
  Upload a file like a browser
    fcgi call /upload.php --root /srv/www -F title=Disk -F file=@disk.img
  Post JSON from a pipe, with every record shown
    make-json | fcgi call /api.php --root /srv/www --stdin - -H 'Content-Type: application/json' -v
  Send only the given parameters: is php-fpm alive? (better: fcgi ping)
    fcgi call unix:/run/php/php-fpm.sock --param SCRIPT_NAME=/ping \\
        --param SCRIPT_FILENAME=/ping --param REQUEST_METHOD=GET
  Send a file through a filter
    fcgi call unix:/run/filter.sock --role filter --data page.html \\
        --param REQUEST_METHOD=GET --param SCRIPT_NAME=/page.html
  Is this user allowed?
    fcgi call unix:/run/auth.sock --role authorizer \\
        --param HTTP_AUTHORIZATION='Basic QW5uOnNlY3JldA=='";

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Role {
    Responder,
    Authorizer,
    Filter,
}

impl From<Role> for fcgi::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Responder => Self::Responder,
            Role::Authorizer => Self::Authorizer,
            Role::Filter => Self::Filter,
        }
    }
}

/// A header field to send, or the name of one to leave out.
pub(super) type Header = (http::HeaderName, Option<http::HeaderValue>);

/// `NAME: VALUE`, `NAME:` to leave it out, or `NAME;` for an empty value, as in curl.
fn header(argument: OsString) -> Result<Header, &'static str> {
    use std::os::unix::ffi::OsStringExt;
    const EXPECTED: &str = "expected NAME: VALUE";
    let bytes = argument.into_vec();
    let end = bytes.iter().position(|byte| matches!(byte, b':' | b';')).ok_or(EXPECTED)?;
    let name = http::HeaderName::from_bytes(&bytes[..end]).map_err(|_| EXPECTED)?;
    let value = bytes[end + 1..].trim_ascii();
    if bytes[end] == b';' && !value.is_empty() {
        return Err(EXPECTED);
    }
    if bytes[end] == b':' && value.is_empty() {
        return Ok((name, None));
    }
    let value = http::HeaderValue::from_bytes(value).map_err(|_| EXPECTED)?;
    Ok((name, Some(value)))
}

fn method(text: &str) -> Result<String, &'static str> {
    match http::Method::from_bytes(text.as_bytes()) {
        Ok(method) => Ok(method.to_string()),
        Err(_) => Err("expected a method such as GET"),
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    #[test]
    fn connecting_has_a_limit_of_its_own() {
        let second = Duration::from_secs(1);
        for (options, least, most) in [
            (&[][..], second * 30, second * 60),
            (&["--timeout", "0"], second * 30, CONNECT),
            (&["--timeout", "0", "--connect-timeout", "10"], second, second * 10),
            (&["--timeout", "100"], second * 70, second * 100),
            (&["--connect-timeout", "10"], second, second * 10),
            (&["--timeout", "5", "--connect-timeout", "10"], second, second * 5),
        ] {
            let words = ["call", "/x"].iter().chain(options);
            let matches = Call::augment_args(clap::Command::new("call")).get_matches_from(words);
            let call = Call::from_arg_matches(&matches).expect("options");
            let left = call.connecting(&Budget::new(call.limit())).left().expect("a limit");
            assert!(least <= left && left <= most, "{options:?}: {left:?}");
        }
    }
}
