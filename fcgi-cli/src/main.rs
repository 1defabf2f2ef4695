//! `fcgi`: one command for FastCGI applications. Each subcommand is a module.
#![forbid(unsafe_code)]

mod args;
mod call;
mod demo;
mod gateway;
mod input;
mod trace;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

/// Serves and calls FastCGI applications, and shows what crosses the wire
///
/// FastCGI is how web servers such as nginx, Apache and HAProxy hand HTTP requests to long-lived
/// applications, php-fpm among them. This command takes the web server's place: its gateway serves
/// an application to browsers, its call sends one request from a shell, a health check or a
/// script, and its demo shows each record of a request and its response.
#[derive(Parser)]
#[command(name = "fcgi", version, after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Serve a sample application at http://127.0.0.1:8080/:
    fcgi gateway
  Serve the PHP scripts and files of a folder:
    fcgi gateway --php --root public
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
    Gateway(Box<gateway::Gateway>),
    #[command(hide = true)]
    Guard(gateway::Guard),
}

fn main() -> ExitCode {
    let command = Args::parse().command;
    let mut builder = match command {
        Command::Gateway(_) => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    let runtime = match builder.enable_all().build() {
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
            Command::Gateway(gateway) => gateway.run().await,
            Command::Guard(guard) => guard.run(),
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
