//! `fcgi`: one command for FastCGI applications. Each subcommand is a module.
#![forbid(unsafe_code)]

mod args;
mod ask;
mod bench;
mod budget;
mod call;
mod causes;
mod check;
mod decode;
mod demo;
mod discovery;
mod doctor;
mod exit;
mod fpm_config;
mod gateway;
mod generate;
mod help;
mod input;
mod ls;
mod php;
mod ping;
mod place;
mod report;
mod sink;
mod snippets;
mod sock_diag;
mod status;
mod stream;
mod table;
mod tap;
mod trace;
mod writer;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{FromArgMatches, Subcommand};
use tokio::runtime::Builder;

use exit::Exit;

#[derive(Subcommand)]
enum Command {
    Ping(ping::Ping),
    Status(Box<status::Status>),
    Doctor(Box<doctor::Doctor>),
    Call(Box<call::Call>),
    Tap(tap::Tap),
    Decode(decode::Decode),
    Check(check::Check),
    Ls(ls::Ls),
    Php(Box<php::Php>),
    Bench(Box<bench::Bench>),
    Demo(demo::Demo),
    Gateway(Box<gateway::Gateway>),
    NginxConf(snippets::NginxConf),
    ApacheConf(snippets::ApacheConf),
    SystemdUnit(snippets::SystemdUnit),
    Completions(generate::Completions),
    Man(generate::Man),
    #[command(hide = true)]
    Guard(gateway::Guard),
    #[command(hide = true)]
    ScriptGuard(php::ScriptGuard),
}

fn main() -> ExitCode {
    let command = || Command::augment_subcommands(clap::Command::new("fcgi"));
    let parsed = help::parse(Command::augment_subcommands);
    let command = match parsed.and_then(|matches| Command::from_arg_matches(&matches)) {
        Ok(command) => command,
        Err(error) => {
            // A failure of the terminal can't be reported anywhere.
            let _ = error.print();
            return if error.use_stderr() { exit::usage(&command()) } else { Exit::Done.into() };
        }
    };
    let mut builder = match command {
        Command::Gateway(_) | Command::Bench(_) => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("fcgi: start the runtime: {error}"));
            return Exit::Io.into();
        }
    };
    let code = runtime.block_on(async {
        match command {
            Command::Ping(ping) => ping.run().await,
            Command::Status(status) => status.run().await,
            Command::Ls(ls) => ls.run().await,
            Command::Doctor(doctor) => doctor.run().await,
            Command::Php(php) => php.run().await,
            Command::Bench(bench) => bench.run().await,
            Command::ScriptGuard(guard) => guard.run(),
            Command::Call(call) => call.run().await,
            Command::Tap(tap) => tap.run().await,
            Command::Decode(decode) => decode.run(),
            Command::Check(check) => check.run().await,
            Command::Demo(demo) => demo.run().await,
            Command::Gateway(gateway) => gateway.run().await,
            Command::NginxConf(site) => site.run(),
            Command::ApacheConf(site) => site.run(),
            Command::SystemdUnit(units) => units.run(),
            Command::Completions(shell) => shell.run(help::whole(Command::augment_subcommands)),
            Command::Man(page) => page.run(help::whole(Command::augment_subcommands)),
            Command::Guard(guard) => guard.run(),
        }
    });
    // A thread may still be reading stdin. Don't wait for it.
    runtime.shutdown_background();
    code
}

/// Prints one line on stderr.
fn complain(line: &str) {
    // A failure of stderr can't be reported anywhere.
    let _ = writeln!(io::stderr().lock(), "{line}");
}
