//! `fcgi`: one command for FastCGI applications.
#![forbid(unsafe_code)]

mod call;
mod demo;
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Calls FastCGI applications, such as php-fpm, and shows what crosses the wire.
#[derive(Parser)]
#[command(
    name = "fcgi",
    version,
    after_help = "Examples:
  fcgi demo
  fcgi call unix:/run/php/php-fpm.sock --param SCRIPT_NAME=/ping \\
      --param SCRIPT_FILENAME=/ping --param REQUEST_METHOD=GET"
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send one request to an application
    Call(call::Call),
    /// Show a request and its answer, record by record
    Demo,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Args::parse().command {
        Command::Call(call) => call.run().await,
        Command::Demo => demo::run().await,
    }
}
