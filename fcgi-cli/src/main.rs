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
mod signals;
mod sink;
mod snippets;
mod sock_diag;
mod status;
mod stream;
mod table;
mod tap;
mod trace;
mod usage;
mod writer;

use std::{
    env,
    io::{self, Write},
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{ArgMatches, Args, FromArgMatches, error::ErrorKind};
use tokio::runtime::Builder;

use exit::Exit;

/// musl's own allocator returns memory to the system, and asks for it again, with nearly every second
/// request of a busy gateway.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The subcommands by name, with their options.
macro_rules! commands {
    ($($name:literal => $variant:ident($options:ty),)*) => {
        enum Command {
            $($variant(Box<$options>),)*
        }

        impl Command {
            const NAMES: &[&str] = &[$($name),*];

            /// Adds the subcommands for which `is_wanted` is true.
            fn augment(root: clap::Command, is_wanted: impl Fn(&str) -> bool) -> clap::Command {
                let mut root = root;
                $(if is_wanted($name) {
                    let command = <$options>::augment_args(clap::Command::new($name));
                    root = root.subcommand(command.hide(HIDDEN.contains(&$name)));
                })*
                root
            }

            fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
                match matches.subcommand() {
                    $(Some(($name, given)) => {
                        Ok(Self::$variant(Box::new(<$options>::from_arg_matches(given)?)))
                    })*
                    _ => Err(clap::Error::new(ErrorKind::MissingSubcommand)),
                }
            }
        }
    };
}

commands! {
    "ping" => Ping(ping::Ping),
    "status" => Status(status::Status),
    "doctor" => Doctor(doctor::Doctor),
    "call" => Call(call::Call),
    "tap" => Tap(tap::Tap),
    "decode" => Decode(decode::Decode),
    "check" => Check(check::Check),
    "ls" => Ls(ls::Ls),
    "php" => Php(php::Php),
    "bench" => Bench(bench::Bench),
    "demo" => Demo(demo::Demo),
    "gateway" => Gateway(gateway::Gateway),
    "nginx-conf" => NginxConf(snippets::NginxConf),
    "apache-conf" => ApacheConf(snippets::ApacheConf),
    "systemd-unit" => SystemdUnit(snippets::SystemdUnit),
    "completions" => Completions(generate::Completions),
    "man" => Man(generate::Man),
    "guard" => Guard(gateway::Guard),
    "script-guard" => ScriptGuard(php::ScriptGuard),
}

/// Subcommands that only this command itself starts.
const HIDDEN: [&str; 2] = ["guard", "script-guard"];

/// The subcommand that the first argument names, or nothing if none is needed. A short command
/// would spend most of its time on the options of all others, so these are only created if this
/// does not know better.
fn named_first() -> Option<&'static str> {
    let first = env::args_os().nth(1)?;
    if first == "--version" || first == "-V" {
        return Some("");
    }
    Command::NAMES.iter().find(|name| first == ***name).copied()
}

fn main() -> ExitCode {
    let only = named_first();
    let augment = |root| Command::augment(root, |name| only.is_none_or(|only| only == name));
    let parsed = help::parse(augment);
    let command = match parsed.and_then(|matches| Command::of(&matches)) {
        Ok(command) => command,
        Err(mut error) => {
            if error.use_stderr() {
                return usage::report(&augment(clap::Command::new("fcgi")), &mut error);
            }
            return match error.print() {
                Err(failure) if failure.kind() != io::ErrorKind::BrokenPipe => {
                    complain(&format!("fcgi: write to stdout: {failure}"));
                    Exit::Io.into()
                }
                _ => Exit::Done.into(),
            };
        }
    };
    if let Err(error) = signals::end_first_process() {
        complain(&format!("fcgi: wait for signals: {error}"));
        return Exit::Io.into();
    }
    // On one processor a second thread could never run beside the first.
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut builder = match command {
        Command::Gateway(_) | Command::Bench(_) if processors > 1 => Builder::new_multi_thread(),
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
            Command::Completions(shell) => {
                shell.run(help::whole(|root| Command::augment(root, |_| true)))
            }
            Command::Man(page) => page.run(help::whole(|root| Command::augment(root, |_| true))),
            Command::Guard(guard) => guard.run(),
        }
    });
    // A thread may still be reading stdin. Don't wait for it.
    runtime.shutdown_background();
    code
}

/// This program's file, to start it again. A file that was replaced or removed meanwhile, as by an
/// upgrade, is only found by way of the process.
fn own_program() -> io::Result<PathBuf> {
    let path = env::current_exe()?;
    let of_process = Path::new("/proc/self/exe");
    Ok(if !path.exists() && of_process.exists() { of_process.to_owned() } else { path })
}

/// Prints one line on stderr.
fn complain(line: &str) {
    // A failure of stderr can't be reported anywhere.
    let _ = writeln!(io::stderr().lock(), "{line}");
}
