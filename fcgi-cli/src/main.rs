//! `fcgi`: one command for FastCGI applications. Each subcommand is a module.
#![forbid(unsafe_code)]

mod call;
mod demo;
mod input;
mod trace;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

/// Calls FastCGI applications, and shows what crosses the wire
///
/// FastCGI is how web servers such as nginx, Apache and HAProxy hand HTTP requests to long-lived
/// applications, php-fpm among them. This command takes the web server's place: it calls an
/// application from a shell, a health check or a script, without a web server in between, and its
/// demo shows each record of a request and its response.
#[derive(Parser)]
#[command(name = "fcgi", version, after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  See a request and its response cross the wire:
    fcgi demo
  Ask php-fpm whether it is alive (ping.path = /ping):
    fcgi call unix:/run/php/php-fpm.sock --param SCRIPT_NAME=/ping \\
        --param SCRIPT_FILENAME=/ping --param REQUEST_METHOD=GET
  All that a call can be:
    fcgi call --help";

#[derive(Subcommand)]
enum Command {
    Call(call::Call),
    Demo(demo::Demo),
}

fn main() -> ExitCode {
    let command = Args::parse().command;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("fcgi: start the runtime: {error}"));
            return ExitCode::from(5);
        }
    };
    let code = runtime.block_on(async {
        match command {
            Command::Call(call) => call.run().await,
            Command::Demo(demo) => demo.run().await,
        }
    });
    // A thread may still be reading stdin: nothing waits for it.
    runtime.shutdown_background();
    code
}

/// One line on stderr.
fn complain(line: &str) {
    // There is nowhere left to report a failure of stderr.
    let _ = writeln!(io::stderr().lock(), "{line}");
}
