//! An answer that is not the wanted one.

use fcgi_engine::text::escape;

use super::cause::Cause;
use crate::ask::Answer;

/// How many bytes of an application's output go into a line, at most.
const EXCERPT: usize = 200;

/// PHP's message when it refuses a body.
const TOO_LARGE: &str = "POST Content-Length of";

/// Whether PHP reported that it refused the body; the script runs without it.
pub(crate) fn is_body_too_large(stderr: &[u8]) -> bool {
    String::from_utf8_lossy(stderr).contains(TOO_LARGE)
}

pub(crate) fn body_too_large() -> Cause {
    Cause::new(
        "post-max-size",
        "the body is larger than PHP's post_max_size, and the script did not get it",
        "raise post_max_size and upload_max_filesize, or send less",
    )
}

/// The cause of an answer with an error status, in php-fpm's words. `script` is the SCRIPT_FILENAME
/// that was sent.
pub(crate) fn of_answer(answer: &Answer, script: &str) -> Option<Cause> {
    let said = |text: &str| {
        [&answer.stderr, &answer.body].iter().any(|bytes| {
            String::from_utf8_lossy(&bytes[..bytes.len().min(64 * 1024)]).contains(text)
        })
    };
    let status = answer.head.parts.status.as_u16();
    Some(match status {
        404 if said("Primary script unknown") || said("File not found.") => Cause::new(
            "no-script",
            format!("php-fpm finds no file {script}"),
            "the path is as php-fpm's container or chroot sees it; look at the root, and at the \
             permissions of its folders",
        ),
        403 if said("security.limit_extensions") || said("Access denied.") => Cause::new(
            "limit-extensions",
            format!("php-fpm runs no {script}: security.limit_extensions of its pool forbids it"),
            "name a script that ends as it allows (.php, .phar), or extend the list",
        ),
        _ if said(TOO_LARGE) => body_too_large(),
        500.. => Cause::new(
            "failed",
            match last_line(&answer.stderr) {
                Some(line) => format!("the application failed: {line}"),
                None => "the application failed".to_owned(),
            },
            "look at the application's log",
        ),
        _ => return None,
    })
}

/// The cause of a ping that php-fpm does not know. `said` is the setting in the configuration, if
/// that can be read.
pub(crate) fn no_ping(path: &str, said: Option<&str>) -> Cause {
    let likely = match said {
        Some(said) => said.to_owned(),
        None => format!("ping.path of the pool is not set, or is not {path}"),
    };
    Cause::new(
        "ping-path",
        likely,
        format!(
            "set `ping.path = {path}` in the pool's configuration and reload php-fpm, name the \
             right one with --path, or use --script"
        ),
    )
}

/// The cause of a response without a head. `is_empty` says that no STDOUT came at all.
pub(crate) fn no_head(is_empty: bool, stderr: &[u8]) -> Cause {
    if is_empty {
        return Cause::new(
            "empty",
            match last_line(stderr) {
                Some(line) => format!("the application printed nothing but an error: {line}"),
                None => "the application printed nothing".to_owned(),
            },
            "look at the application's log",
        );
    }
    Cause::new(
        "no-cgi",
        "what it answers does not begin with CGI's header fields",
        "look at the whole answer (fcgi call -v)",
    )
}

/// The line of an error, for people: the last one that starts like PHP's errors, or just the last
/// one.
fn last_line(bytes: &[u8]) -> Option<String> {
    const BEGINS: &[u8] = b"PHP message: ";
    let lines = || bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let line = match lines().rfind(|line| line.starts_with(BEGINS)) {
        Some(line) => &line[BEGINS.len()..],
        None => lines().next_back()?,
    };
    Some(escape(&line[..line.len().min(EXCERPT)], b"").trim().to_owned())
}
