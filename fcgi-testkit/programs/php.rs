//! `php ADDR SCRIPT` runs a PHP script, such as `/srv/www/index.php`, over a pool of connections to
//! php-fpm at ADDR, and prints its page. `php ADDR --status PATH` prints the status of php-fpm's
//! pool, from its `pm.status_path`.
//!
//! A request that php-fpm has certainly not started is sent once more. The exit status says what
//! failed: 5 no connection could be made, 6 it took too long, 3 it was refused, 4 anything else.
//!
//! The example of this name of every async adapter is this file, with the adapter's `fcgi` and
//! `runtime`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program's output")]

use std::{env, process::ExitCode, time::Duration};

use fcgi::php_fpm;

use crate::{fcgi, runtime};

/// How long to wait for a connection of the pool.
const LIMIT: Duration = Duration::from_secs(5);

pub(crate) fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        [address, "--status", path] => block_on(status(address, path)),
        [address, script] => block_on(async { Ok(run(address, script).await?) }),
        _ => {
            eprintln!("usage: php ADDR SCRIPT | php ADDR --status PATH");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(page) => {
            print!("{}", String::from_utf8_lossy(&page));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("php: {}", error.report());
            ExitCode::from(match error {
                error if error.is_timeout() => 6,
                error if error.is_connect() => 5,
                error if error.is_rejected() => 3,
                _ => 4,
            })
        }
    }
}

fn block_on<T>(
    call: impl Future<Output = Result<T, fcgi::http::HttpError>>,
) -> Result<T, fcgi::http::HttpError> {
    let failed = |source| fcgi::Error::Io { address: "php".into(), doing: "start for", source };
    runtime::block_on(call).map_err(failed)?
}

async fn run(address: &str, script: &str) -> Result<Vec<u8>, fcgi::Error> {
    let pool = fcgi::Pool::builder(address).max_connections(4).wait_timeout(LIMIT).build()?;
    let request = || {
        fcgi::client::Request::responder()
            .param("SCRIPT_FILENAME", script)
            .param("REQUEST_METHOD", "GET")
    };
    let sent = match pool.send(request()).await {
        Err(error) if error.is_unprocessed() && !error.is_timeout() => pool.send(request()).await,
        sent => sent,
    };
    let answer = sent?.collect(16 << 20).await?;
    // Head and body, in CGI's form.
    Ok(answer.stdout.to_vec())
}

async fn status(address: &str, path: &str) -> Result<Vec<u8>, fcgi::http::HttpError> {
    let pool = fcgi::Pool::new(address)?;
    let status = php_fpm::status(&pool, path).await?;
    let (busy, all) = (status.active_processes, status.total_processes);
    Ok(format!("{}: {busy} of {all} workers are busy\n", status.pool).into())
}
